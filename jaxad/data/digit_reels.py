"""Weakly labelled "videos" of handwritten digits, made from scikit-learn's digits.

A reel is a sequence of snippets of 16 frames. Each snippet shows one 8×8 digit as 64 features; the
digit class stays the same over a scene of a few snippets. Normal reels show the digits 0 … 6. An
anomalous reel has one event: a short run of snippets that show 7, 8 or 9 instead. Training and
validation tell only whether a reel has an event; the test split also tells at which frames.

A single snippet is hard to judge: the digit is blended with another normal digit, partly hidden,
noisy, and of unsteady exposure, drawn anew for each snippet. Over the run of an event these
disturbances average out, so temporal context helps, as it does in real videos. Frame AUC of the
default test split at seed 0: norm of the features 0.49, a linear probe on single snippets, trained
with the truth, 0.88, its scores averaged over five snippets 0.96.

The handwriting of training, validation and test comes from disjoint images.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxad.data import handwriting, option_checks
from jaxad.data import segments as segments_lib
from jaxad.data.split import Split

FRAMES_PER_SNIPPET = 16
NORMAL_DIGITS = (0, 1, 2, 3, 4, 5, 6)
EVENT_DIGITS = (7, 8, 9)

_SIDE = handwriting.SIDE
_PARTS = ("train", "validation", "test")
# Per crop, pixels down and right.
_MOVES = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1), (0, 0))
_IMAGE_SHARES = (0.5, 0.2, 0.3)  # Of each digit's images.


@dataclasses.dataclass(frozen=True)
class Reels:
    """All reels of one split, before crops and segments, with the truth of every frame.

    Attributes:
        snippets: float32 `[Σ T, 64]`, reels one after another.
        lengths: int64 `[n]`, snippets T of each reel.
        frames: Frame truth of each reel, uint8 `[frames]`, 16 (T - 1) < frames ≤ 16 T.
        digits: int64 `[n]`, the digit of the event, -1 for normal reels.
        images: Positions in `load_digits` of the images that may appear.
    """

    snippets: np.ndarray
    lengths: np.ndarray
    frames: tuple[np.ndarray, ...]
    digits: np.ndarray
    images: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """int64 `[n + 1]`: reel i is snippets[starts[i] : starts[i + 1]]."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    @property
    def event_share(self) -> np.ndarray:
        """Share of anomalous frames of each snippet, float64 `[Σ T]`; not for training by MIL."""
        return np.concatenate([_snippet_share(frames) for frames in self.frames])


def splits(
    *,
    train_reels: int = 60,
    validation_reels: int = 30,
    test_reels: int = 40,
    snippets: tuple[int, int] = (24, 96),
    event_snippets: tuple[int, int] = (5, 12),
    scene_snippets: tuple[int, int] = (3, 9),
    weight: tuple[float, float] = (0.55, 0.95),
    hidden: int = 2,
    noise: float = 0.1,
    exposure: float = 0.2,
    crops: int = 4,
    crop_noise: float = 0.1,
    segments: int = 32,
    seed: int = 0,
) -> dict[str, Split]:
    """Training, validation and test reels; a pair is an inclusive range to draw from.

    Records are `features`, float32 `[N, T, 64]` with T = `segments` for training and the reel's own
    length otherwise, and `label`, int32.

    Args:
        train_reels: Anomalous reels of the training split, and as many normal ones.
        validation_reels: The same for validation.
        test_reels: The same for test.
        snippets: Length of a reel in snippets.
        event_snippets: Length of an event in snippets, at most a third of its reel; it starts and
            ends at any frame.
        scene_snippets: Length of a scene, over which the normal digit's class stays the same.
        weight: Share of the digit in its blend with another normal digit.
        hidden: Side in pixels of the square in which a snippet shows noise instead.
        noise: Standard deviation of the noise; ink is 1, paper 0.
        exposure: Standard deviation of the logarithm of a snippet's brightness.
        crops: Views N of a reel: the first as it is, the others moved by one pixel at most.
        crop_noise: Standard deviation of the noise that differs between crops.
        segments: Segments T to which training reels are averaged.
        seed: Of everything drawn.

    Returns:
        Splits "train", "validation" and "test", anomalous reels first; frame truth for test only.

    Raises:
        InputError: If an option is out of range.
    """
    options = _Options(**option_checks.frozen(locals()))
    _check(options)
    return {part: _split(part, options) for part in _PARTS}


def reels_of(split: Split) -> Reels:
    """What a split of this source reads from, with the truth that training must not see.

    Args:
        split: One of `splits`.

    Returns:
        Its reels before crops and segments.
    """
    return split.read.reels


class _Options(NamedTuple):
    """The arguments of `splits`."""

    train_reels: int
    validation_reels: int
    test_reels: int
    snippets: tuple[int, int]
    event_snippets: tuple[int, int]
    scene_snippets: tuple[int, int]
    weight: tuple[float, float]
    hidden: int
    noise: float
    exposure: float
    crops: int
    crop_noise: float
    segments: int
    seed: int


def _split(part: str, options: _Options) -> Split:
    reels = _make(part, options)
    fixed = part == "train"
    return Split(
        names=[f"{part}_{i:03d}" for i in range(len(reels.lengths))],
        labels=(reels.digits >= 0).astype(np.int64),
        read=_Reader(
            reels,
            segments=options.segments if fixed else None,
            crops=options.crops,
            noise=options.crop_noise,
            seed=(options.seed, _PARTS.index(part)),
        ),
        fingerprint={
            "source": "digit_reels",
            "part": part,
            "options": options._asdict(),
            # Random streams and the digits themselves may change with the libraries' versions.
            "content": hashlib.sha256(reels.snippets.tobytes()).hexdigest(),
        },
        lengths=None if fixed else reels.lengths,
        time_axes={"features": 1},
        classes=[f"digit {digit}" if digit >= 0 else "" for digit in reels.digits],
        frames=reels.frames if part == "test" else None,
        frames_per_snippet=FRAMES_PER_SNIPPET,
    )


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Makes the crops of one reel, and averages them to segments unless `segments` is None."""

    reels: Reels
    segments: int | None
    crops: int
    noise: float
    seed: tuple[int, int]

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        start, end = self.reels.starts[i : i + 2]
        own = self.reels.snippets[start:end]  # [T, 64]
        crops = np.stack([_moved(own, *_MOVES[n]) for n in range(self.crops)], axis=1)
        # Keyed by the reel, so that a record does not depend on what was read before it.
        rng = np.random.default_rng([*self.seed, i])
        crops[:, 1:] += self.noise * rng.standard_normal(crops[:, 1:].shape, np.float32)
        if self.segments is not None:
            crops = segments_lib.uniform(crops, self.segments)
        features = np.ascontiguousarray(crops.swapaxes(0, 1))  # [N, T, 64]
        return {"features": features, "label": np.int32(self.reels.digits[i] >= 0)}


def _moved(snippets: np.ndarray, down: int, right: int) -> np.ndarray:
    """Images `[T, 64]` moved by whole pixels, |move| ≤ 1; what enters is paper, 0."""
    images = np.pad(snippets.reshape(-1, _SIDE, _SIDE), ((0, 0), (1, 1), (1, 1)))
    rows, columns = slice(1 - down, 1 - down + _SIDE), slice(1 - right, 1 - right + _SIDE)
    return images[:, rows, columns].reshape(len(snippets), -1)


def _check(options: _Options) -> None:
    pair = "two whole numbers in order, the first at least"
    rules = (
        ("train_reels", options.train_reels >= 1, "at least 1"),
        ("validation_reels", options.validation_reels >= 1, "at least 1"),
        ("test_reels", options.test_reels >= 1, "at least 1"),
        ("snippets", option_checks.is_range(options.snippets, 3), f"{pair} 3"),
        ("event_snippets", option_checks.is_range(options.event_snippets, 1), f"{pair} 1"),
        ("scene_snippets", option_checks.is_range(options.scene_snippets, 1), f"{pair} 1"),
        (
            "weight",
            option_checks.is_range(options.weight, 0) and options.weight[1] <= 1,
            "two shares in order",
        ),
        ("hidden", 0 <= options.hidden <= _SIDE, f"between 0 and {_SIDE}"),
        ("noise", options.noise >= 0, "at least 0"),
        ("exposure", options.exposure >= 0, "at least 0"),
        ("crops", 1 <= options.crops <= len(_MOVES), f"between 1 and {len(_MOVES)}"),
        ("crop_noise", options.crop_noise >= 0, "at least 0"),
        ("segments", options.segments >= 1, "at least 1"),
        ("seed", options.seed >= 0, "at least 0"),
    )
    option_checks.check("digit_reels", options._asdict(), rules)


def _make(part: str, options: _Options) -> Reels:
    order = _PARTS.index(part)
    rng = np.random.default_rng([options.seed, order])
    count = (options.train_reels, options.validation_reels, options.test_reels)[order]
    lengths = rng.integers(*options.snippets, size=2 * count, endpoint=True)
    digits = np.concatenate([rng.permutation(np.resize(EVENT_DIGITS, count)), np.full(count, -1)])
    frames = tuple(
        _frames(rng, t, digit >= 0, options) for t, digit in zip(lengths, digits, strict=True)
    )
    ink, positions = handwriting.disjoint(_IMAGE_SHARES, options.seed)[order]
    scene = np.concatenate([_scenes(rng, t, options.scene_snippets) for t in lengths])
    share = np.concatenate([_snippet_share(truth) for truth in frames])[:, None]
    event = np.repeat(np.where(digits >= 0, digits, EVENT_DIGITS[0]), lengths)
    shown = (1 - share) * _draw(rng, ink, scene) + share * _draw(rng, ink, event)
    snippets = _disturb(rng, shown, ink, options)
    pool = np.sort(np.concatenate(positions))
    return Reels(snippets.astype(np.float32), lengths, frames, digits, pool)


def _frames(
    rng: np.random.Generator, snippets: int, anomalous: bool, options: _Options
) -> np.ndarray:
    """Frame truth of one reel; the last snippet may be incomplete."""
    truth = np.zeros(snippets * FRAMES_PER_SNIPPET - rng.integers(FRAMES_PER_SNIPPET), np.uint8)
    low, high = (n * FRAMES_PER_SNIPPET for n in options.event_snippets)
    length = min(rng.integers(low, high, endpoint=True), len(truth) // 3)
    start = rng.integers(len(truth) - length, endpoint=True)
    truth[start : start + length] = anomalous
    return truth


def _snippet_share(frames: np.ndarray) -> np.ndarray:
    """Share of anomalous frames of each snippet, float64 `[T]`."""
    starts = np.arange(0, len(frames), FRAMES_PER_SNIPPET)
    sums = np.add.reduceat(frames, starts, dtype=np.float64)
    return sums / np.minimum(len(frames) - starts, FRAMES_PER_SNIPPET)


def _scenes(rng: np.random.Generator, snippets: int, scene: tuple[int, int]) -> np.ndarray:
    """Normal digit shown by each snippet, int64 `[T]`."""
    lengths = rng.integers(*scene, size=snippets, endpoint=True)  # More scenes than can be needed.
    return np.repeat(rng.choice(NORMAL_DIGITS, size=snippets), lengths)[:snippets]


def _draw(rng: np.random.Generator, ink: Sequence[np.ndarray], digits: np.ndarray) -> np.ndarray:
    """An image of each digit, `[n, 64]`."""
    counts = np.array([len(images) for images in ink])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.concatenate(ink)[starts[digits] + rng.integers(counts[digits])]


def _disturb(
    rng: np.random.Generator, shown: np.ndarray, ink: Sequence[np.ndarray], options: _Options
) -> np.ndarray:
    """Blends, hides, adds noise and changes the exposure, independently for each snippet."""
    n = len(shown)
    weight = rng.uniform(*options.weight, size=(n, 1))
    other = _draw(rng, ink, rng.choice(NORMAL_DIGITS, size=n))
    blend = weight * shown + (1 - weight) * other
    corner = rng.integers(_SIDE - options.hidden, size=(2, n, 1), endpoint=True)
    row, column = np.divmod(np.arange(_SIDE * _SIDE), _SIDE)
    hidden = (
        (row >= corner[0])
        & (row < corner[0] + options.hidden)
        & (column >= corner[1])
        & (column < corner[1] + options.hidden)
    )
    blend = np.where(hidden, rng.uniform(size=blend.shape), blend)
    blend += options.noise * rng.standard_normal(blend.shape)
    return blend * np.exp(options.exposure * rng.standard_normal((n, 1)))
