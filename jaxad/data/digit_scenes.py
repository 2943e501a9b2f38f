"""Scenes of handwritten digits on photographic texture, for anomaly segmentation.

The background shows crops of two photographs, the classes "china" and "flower", parted by a smooth
random border. On it lie stickers: a digit in a random dark colour on paper of a random light one,
cut out at a margin around the ink. The known digits 0, 1, 2, 3, 5 and 8 are classes of their own.
Colours, sizes and places do not depend on the digit: only the shape of the ink tells the class.

About half of the validation and test scenes have stickers with an unseen digit: 6 in validation,
4, 7 and 9 in test. A model chosen on validation has not met the objects it is tested on. For
outlier exposure there are objects of another kind: irregular, altered photo patches without
strokes (`photographs`).

The handwriting of training, validation and test comes from disjoint images, and the patches from
other parts of the photographs than the backgrounds. The edge of a sticker, where it is blended with
the background, is void.

Source: made of scikit-learn's digits and sample images; ids 254 and 255 as in document 004, chapter
11.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from jaxad.data import handwriting, option_checks, photo_objects, photographs
from jaxad.data.split import Split

KNOWN_DIGITS = (0, 1, 2, 3, 5, 8)
UNSEEN_DIGITS = {"train": (), "validation": (6,), "test": (4, 7, 9)}
SEGMENT_CLASSES = (*photographs.NAMES, *(f"digit {digit}" for digit in KNOWN_DIGITS))
PALETTE = np.array(
    [
        [107, 142, 35],
        [70, 70, 130],
        [220, 20, 60],
        [250, 170, 30],
        [0, 130, 180],
        [230, 90, 230],
        [120, 220, 120],
        [150, 80, 40],
    ],
    np.uint8,
)
OUTLIER, VOID = 254, 255

_PARTS = ("train", "validation", "test")
_IMAGE_SHARES = (0.6, 0.15, 0.25)  # Of each digit's images.
_EDGE = 2  # Pixels from the end of the paper to the first untouched pixel of the background.
_ATTEMPTS = 64  # Places tried for a sticker.


@dataclasses.dataclass(frozen=True)
class Scenes:
    """All scenes of one split, and what they were made of.

    Attributes:
        images: uint8 `[n, H, W, 3]`.
        segments: uint8 `[n, H, W]`: classes, 254 unseen digit, 255 void.
        anomaly: uint8 `[n, H, W]`: 0 normal, 1 unseen digit, 255 void.
        digits: int64 `[n]`, the unseen digit of each scene, -1 if it has none.
        stickers: int64 `[m, 3]`, one row per sticker of all scenes: position of the scene, digit,
            and position of the image in `load_digits`.
    """

    images: np.ndarray
    segments: np.ndarray
    anomaly: np.ndarray
    digits: np.ndarray
    stickers: np.ndarray


def splits(
    *,
    size: tuple[int, int] = (64, 96),
    train_scenes: int = 400,
    validation_scenes: int = 60,
    test_scenes: int = 100,
    digits: tuple[int, int] = (3, 4),
    unseen_digits: tuple[int, int] = (1, 2),
    digit_size: tuple[int, int] = (30, 38),
    margin: int = 2,
    noise: float = 0.04,
    outliers: int = 240,
    outlier_kinds_share: float = 1.0,
    object_size: tuple[int, int] = (16, 36),
    seed: int = 1,
) -> dict[str, Split]:
    """Training, validation and test scenes, and outliers; a pair is an inclusive range.

    Records of scenes are `image` uint8 `[H, W, 3]`, `segments` uint8 `[H, W]`, `label` int32, and
    but for training `anomaly` uint8 `[H, W]`. Records of outliers are `object` uint8 `[h, h, 3]`,
    `object_mask` uint8 `[h, h]`, and `label`, with h the upper end of `object_size`.

    More scenes or outliers begin with the same ones as fewer.

    Args:
        size: Height and width of a scene in pixels.
        train_scenes: Number of training scenes.
        validation_scenes: Number of validation scenes; every other one has unseen digits.
        test_scenes: The same for test.
        digits: Known digits in a scene; fewer where they do not fit without overlap.
        unseen_digits: Unseen digits, of one class, in an anomalous scene; at least one fits.
        digit_size: Side of the square that holds a sticker with its blended edge, in pixels; it
            fills the height, not the width.
        margin: Paper around the ink in pixels.
        noise: Standard deviation of the noise on every pixel; white is 1.
        outliers: Objects for outlier exposure; with 0 there is no split "outliers".
        outlier_kinds_share: Share of the twelve kinds of objects in use, at least one kind; a
            smaller share's kinds are among those of a larger one.
        object_size: Side of the square that holds an object, in pixels.
        seed: Of everything drawn.

    Returns:
        Splits "train", "validation", "test" and "outliers".

    Raises:
        InputError: If an option is out of range.
    """
    options = _Options(**option_checks.frozen(locals()))
    _check(options)
    parts = handwriting.disjoint(_IMAGE_SHARES, options.seed)
    opened = {
        part: _scene_split(part, own, options) for part, own in zip(_PARTS, parts, strict=True)
    }
    if options.outliers:
        opened["outliers"] = photo_objects.objects(
            count=options.outliers,
            kinds_share=options.outlier_kinds_share,
            object_size=options.object_size,
            noise=options.noise,
            seed=options.seed,
        )
    return opened


def scenes_of(split: Split) -> Scenes:
    """What a split of scenes reads from, with the truth that training must not see.

    Args:
        split: One of `splits`, not "outliers".

    Returns:
        Its scenes.
    """
    return split.read.scenes


def record_shapes(
    *, size: tuple[int, int] = (64, 96), **_: object
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and types of a training record by name, from the options of `splits` alone."""
    return {
        "image": ((*size, 3), "uint8"),
        "segments": (tuple(size), "uint8"),
        "label": ((), "int32"),
    }


class _Options(NamedTuple):
    """The arguments of `splits`."""

    size: tuple[int, int]
    train_scenes: int
    validation_scenes: int
    test_scenes: int
    digits: tuple[int, int]
    unseen_digits: tuple[int, int]
    digit_size: tuple[int, int]
    margin: int
    noise: float
    outliers: int
    outlier_kinds_share: float
    object_size: tuple[int, int]
    seed: int


def _check(options: _Options) -> None:
    smallest = 2 * (options.margin + _EDGE) + handwriting.SIDE
    is_range = option_checks.is_range
    shorter = min(options.size, default=0)
    pair = "two whole numbers in order, the first at least"
    rules = (
        ("size", len(options.size) == 2 and shorter >= 16, "height and width, each at least 16"),
        ("train_scenes", options.train_scenes >= 1, "at least 1"),
        ("validation_scenes", options.validation_scenes >= 1, "at least 1"),
        ("test_scenes", options.test_scenes >= 1, "at least 1"),
        ("digits", is_range(options.digits, 0), f"{pair} 0"),
        ("unseen_digits", is_range(options.unseen_digits, 1), f"{pair} 1"),
        ("margin", options.margin >= 0, "at least 0"),
        (
            "digit_size",
            is_range(options.digit_size, smallest) and options.digit_size[1] <= shorter,
            f"{pair} {smallest} (margins, edges and the ink), the second at most the shorter side "
            f"of a scene, {shorter}",
        ),
        ("noise", options.noise >= 0, "at least 0"),
        ("outliers", options.outliers >= 0, "at least 0"),
        ("outlier_kinds_share", 0 < options.outlier_kinds_share <= 1, "above 0 and at most 1"),
        (
            "object_size",
            is_range(options.object_size, 8) and options.object_size[1] <= shorter,
            f"{pair} 8, the second at most the shorter side of a scene, {shorter}",
        ),
        ("seed", options.seed >= 0, "at least 0"),
    )
    option_checks.check("digit_scenes", options._asdict(), rules)


@dataclasses.dataclass(frozen=True)
class _SceneReader:
    scenes: Scenes
    has_truth: bool

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        record = {
            "image": self.scenes.images[i],
            "segments": self.scenes.segments[i],
            "label": np.int32(self.scenes.digits[i] >= 0),
        }
        return {**record, "anomaly": self.scenes.anomaly[i]} if self.has_truth else record


def _scene_split(part: str, own: handwriting.Handwriting, options: _Options) -> Split:
    scenes = _make(part, own, options)
    return Split(
        names=[f"{part}_{i:04d}" for i in range(len(scenes.digits))],
        labels=(scenes.digits >= 0).astype(np.int64),
        read=_SceneReader(scenes, has_truth=part != "train"),
        fingerprint=_fingerprint(part, options, scenes.images, scenes.segments),
        classes=[f"digit {digit}" if digit >= 0 else "" for digit in scenes.digits],
        segment_classes=SEGMENT_CLASSES,
        palette=PALETTE,
    )


def _fingerprint(part: str, options: _Options, *arrays: np.ndarray) -> dict[str, object]:
    # Of the content alone: random streams and resampling may change with the libraries' versions,
    # and a split is the same whatever the options of another one are.
    content = hashlib.sha256()
    for array in arrays:
        content.update(array.tobytes())
    return {
        "source": "digit_scenes",
        "part": part,
        "seed": options.seed,
        "content": content.hexdigest(),
    }


def _make(part: str, own: handwriting.Handwriting, options: _Options) -> Scenes:
    order = _PARTS.index(part)
    count = (options.train_scenes, options.validation_scenes, options.test_scenes)[order]
    digits = np.full(count, -1)
    if UNSEEN_DIGITS[part]:
        digits[::2] = np.resize(UNSEEN_DIGITS[part], -(-count // 2))
    photos = photographs.backgrounds()
    images = np.empty((count, *options.size, 3), np.uint8)
    segments = np.empty((count, *options.size), np.uint8)
    stickers = []
    for i, unseen in enumerate(digits):
        rng = np.random.default_rng([options.seed, order, i])
        image, segments[i], used = _scene(rng, own, photos, int(unseen), options)
        images[i] = photographs.exposed(rng, image, options.noise)
        stickers += [(i, *sticker) for sticker in used]
    anomaly = np.where(segments == VOID, segments, segments == OUTLIER).astype(np.uint8)
    return Scenes(images, segments, anomaly, digits, np.array(stickers, np.int64).reshape(-1, 3))


def _scene(
    rng: np.random.Generator,
    own: handwriting.Handwriting,
    photos: Sequence[Image.Image],
    unseen: int,
    options: _Options,
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]:
    """One scene without noise: image in [0, 1], segments, and (digit, image) of its stickers."""
    image, segments = _background(rng, photos, options.size)
    shown = rng.choice(KNOWN_DIGITS, rng.integers(*options.digits, endpoint=True)).tolist()
    if unseen >= 0:  # First, so that they find a place.
        shown = [unseen] * rng.integers(*options.unseen_digits, endpoint=True) + shown
    taken = np.zeros((0, 4), np.int64)  # Top, left, height and width.
    used = []
    for digit in shown:
        side = int(rng.integers(*options.digit_size, endpoint=True))
        choice = rng.integers(len(own.ink[digit]))
        colour, cover = _sticker(rng, own.ink[digit][choice], side, options.margin)
        corner = _free_place(rng, taken, cover.shape, options.size)
        if corner is None:
            continue
        place = (*corner, *cover.shape)
        taken = np.concatenate([taken, [place]])
        box = tuple(slice(start, start + n) for start, n in zip(corner, cover.shape, strict=True))
        image[box] += cover[..., None] * (colour - image[box])
        segment = OUTLIER if digit == unseen else SEGMENT_CLASSES.index(f"digit {digit}")
        segments[box][cover > 0] = VOID
        segments[box][cover == 1] = segment
        used.append((digit, int(own.positions[digit][choice])))
    return image, segments, used


def _background(
    rng: np.random.Generator, photos: Sequence[Image.Image], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Crops of both photographs, parted by a line that noise bends: float32 image, segments."""
    first, second = (photographs.crop(rng, photo, size) for photo in photos)
    down, right = (np.linspace(-1, 1, n, dtype=np.float32) for n in size)
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * down[:, None] + np.sin(angle) * right[None, :]
    other = slope + 0.4 * photographs.smooth_field(rng, size) > rng.uniform(-0.3, 0.3)
    image = np.where(other[..., None], second, first).astype(np.float32) / 255
    return image, other.astype(np.uint8)


def _free_place(
    rng: np.random.Generator, taken: np.ndarray, shape: tuple[int, int], size: tuple[int, int]
) -> tuple[int, int] | None:
    """Upper left corner of a box that overlaps none of those taken, `[k, 4]`; None if not found."""
    ends = np.subtract(size, shape)
    corners = rng.integers(0, ends, size=(_ATTEMPTS, 2), endpoint=True)
    starts, sides = taken[None, :, :2], taken[None, :, 2:]
    apart = (corners[:, None] >= starts + sides) | (corners[:, None] + shape <= starts)
    free = apart.any(axis=2).all(axis=1)
    return tuple(map(int, corners[free.argmax()])) if free.any() else None


def _sticker(
    rng: np.random.Generator, ink: np.ndarray, side: int, margin: int
) -> tuple[np.ndarray, np.ndarray]:
    """Colours `[h, w, 3]` of a digit on paper, and how far it covers, `[h, w]`; h, w ≤ side.

    It covers loops, and wholly up to `margin` pixels from the ink, and ever less over `_EDGE` more.
    """
    frame = margin + _EDGE
    inner = side - 2 * frame
    paper_around = np.pad(ink.reshape(handwriting.SIDE, -1), 1).astype(np.float32)
    enlarged = Image.fromarray(paper_around).resize((inner, inner), Image.Resampling.BICUBIC)
    strength = np.pad(np.clip((np.asarray(enlarged) - 0.3) / 0.3, 0, 1), frame)[..., None]
    distance = ndimage.distance_transform_edt(strength[..., 0] < 0.5)
    distance[ndimage.binary_fill_holes(distance <= margin)] = 0
    cover = np.clip((frame - distance) / _EDGE, 0, 1).astype(np.float32)
    ink_colour = rng.uniform(0, 0.4, 3).astype(np.float32)
    paper = rng.uniform(0.6, 1, 3).astype(np.float32)
    used = ndimage.find_objects((cover > 0).astype(np.int64))[0]
    return (paper + strength * (ink_colour - paper))[used], cover[used]
