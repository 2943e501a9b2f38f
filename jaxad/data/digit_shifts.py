"""Grey digit scenes with a class per pixel, and three sets of images shifted away from them.

In-distribution images are scenes of `digit_scenes` that show known digits alone, as one channel.
The six digits are three foreground classes by their form, one of them rarer than the others, as the
document's cardiac scans have three; both textures and all else are background, the last id.
Training, validation and test scenes share no handwriting. The test split goes on with three sets of
out-of-distribution images, one per kind of shift of the document's table 1:

- "photographs" (C1, another domain): other parts of the photographs with irregular patches in the
  place of digits. Nothing in them has a class.
- "turned" (C2, another view): scenes of the same kind seen from the side, a quarter turn to the
  left or right. They are made upright at the transposed size, so no pixel is resampled.
- "defocused" (C3, another condition): other scenes out of focus, with more noise of the sensor.

None of these is a transform that the system makes outliers with (half turn, vertical flip,
permuted or exchanged patches, gamma, elastic deformation). All images are scaled to [0, 1] one by
one, as scans are, and the blur and the noise of the third set offset each other in total variation:
mean, contrast and total variation of an image alone do not tell the sets from scenes.

Source: made of scikit-learn's digits and sample images; the three kinds follow the document, the
sets are ours.
"""

import dataclasses
import hashlib
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from jaxad.data import digit_scenes, grey_images, option_checks, photographs
from jaxad.data.split import Split

FORMS = {"ring": (0, 8), "stroke": (1,), "curve": (2, 3, 5)}
BACKGROUND = len(FORMS)
SEGMENT_CLASSES = (*FORMS, "background")
PALETTE = np.concatenate([digit_scenes.PALETTE[2:][:BACKGROUND], np.zeros((1, 3), np.uint8)])
CLASS_GROUPS = {"photographs": "C1", "turned": "C2", "defocused": "C3"}
VOID = 255

_PARTS = ("train", "validation", "test")


class Slices(NamedTuple):
    """All images of one split or set.

    Attributes:
        images: uint8 `[n, H, W]`.
        segments: uint8 `[n, H, W]`: classes, 255 void.
    """

    images: np.ndarray
    segments: np.ndarray


def splits(
    *,
    size: tuple[int, int] = (64, 96),
    train_scenes: int = 400,
    validation_scenes: int = 60,
    test_scenes: int = 100,
    shifted_scenes: int = 100,
    digits: tuple[int, int] = (3, 4),
    digit_size: tuple[int, int] = (30, 38),
    margin: int = 2,
    noise: float = 0.03,
    defocus: tuple[float, float] = (1.0, 2.0),
    shifted_noise: tuple[float, float] = (0.04, 0.08),
    seed: int = 1,
) -> dict[str, Split]:
    """Training and validation scenes, and test scenes followed by the three shifted sets.

    Records are `image` float32 `[H, W, 1]` that spans [0, 1], `segments` uint8 `[H, W]` and `label`
    int32, 1 for images of the shifted sets. A pair is an inclusive range.

    Args:
        size: Height and width in pixels, multiples of 16.
        train_scenes: Number of training scenes.
        validation_scenes: Number of validation scenes.
        test_scenes: Number of in-distribution test scenes.
        shifted_scenes: Images in each shifted set.
        digits: Digits in a scene, or patches; fewer digits where they do not fit without overlap.
        digit_size: Side of the square that holds a digit's sticker or a patch, in pixels.
        margin: Paper around the ink in pixels.
        noise: Standard deviation of the noise on every pixel; white is 1.
        defocus: Standard deviation in pixels of the Gaussian that blurs "defocused".
        shifted_noise: As `noise`, of "defocused", added after the blur.
        seed: Of everything drawn.

    Returns:
        Splits "train", "validation" and "test".

    Raises:
        InputError: If an option is out of range.
    """
    options = _Options(**option_checks.frozen(locals()))
    _check(options)
    scenes = _known_scenes(options)
    kept = options.test_scenes
    ordinary = Slices(*(array[:kept] for array in scenes["test"]))
    blurred = Slices(*(array[kept:] for array in scenes["test"]))
    shifted = {
        "photographs": _photographs(options),
        "turned": _turned(options),
        "defocused": _defocused(blurred, options),
    }
    parts = {"train": scenes["train"], "validation": scenes["validation"], "test": ordinary}
    parts = {part: _noisy(own, options, i) for i, (part, own) in enumerate(parts.items())}
    opened = {part: _split(part, {"": parts[part]}, options) for part in ("train", "validation")}
    return {**opened, "test": _split("test", {"": parts["test"], **shifted}, options)}


def record_shapes(
    *, size: tuple[int, int] = (64, 96), **_: object
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and types of a record by name, from the options of `splits` alone."""
    return {
        "image": ((*size, 1), "float32"),
        "segments": (tuple(size), "uint8"),
        "label": ((), "int32"),
    }


class _Options(NamedTuple):
    """The arguments of `splits`."""

    size: tuple[int, int]
    train_scenes: int
    validation_scenes: int
    test_scenes: int
    shifted_scenes: int
    digits: tuple[int, int]
    digit_size: tuple[int, int]
    margin: int
    noise: float
    defocus: tuple[float, float]
    shifted_noise: tuple[float, float]
    seed: int


def _check(options: _Options) -> None:
    """Checks what `digit_scenes` does not."""
    is_range = option_checks.is_range
    sides = len(options.size) == 2 and all(side > 0 and side % 16 == 0 for side in options.size)
    rules = (
        ("size", sides, "height and width, multiples of 16"),
        ("shifted_scenes", options.shifted_scenes >= 1, "at least 1"),
        ("defocus", is_range(options.defocus, 0), "two numbers in order, the first at least 0"),
        (
            "shifted_noise",
            is_range(options.shifted_noise, 0),
            "two numbers in order, the first at least 0",
        ),
        ("noise", options.noise >= 0, "at least 0"),
        *((f"{p}_scenes", getattr(options, f"{p}_scenes") >= 1, "at least 1") for p in _PARTS),
    )
    option_checks.check("digit_shifts", options._asdict(), rules)


def _known_scenes(options: _Options, *, turned: bool = False) -> dict[str, Slices]:
    """Scenes without noise and unseen digits: of every split, or for the set seen from the side."""
    test = options.shifted_scenes if turned else options.test_scenes + options.shifted_scenes
    opened = digit_scenes.splits(
        size=options.size[::-1] if turned else options.size,
        train_scenes=1 if turned else options.train_scenes,
        validation_scenes=1 if turned else 2 * options.validation_scenes,
        test_scenes=2 * test,  # Every other one shows unseen digits.
        digits=options.digits,
        digit_size=options.digit_size,
        margin=options.margin,
        noise=0.0,
        outliers=0,
        object_size=(8, 8),  # Unused, and within any scene.
        seed=options.seed,
    )
    found = {}
    for part in ("test",) if turned else _PARTS:
        own = digit_scenes.scenes_of(opened[part])
        known = own.digits < 0
        found[part] = Slices(grey_images.luminance(own.images[known]), _merged(own.segments[known]))
    return found


def _merged(segments: np.ndarray) -> np.ndarray:
    """Segments of `digit_scenes`, whose first classes are textures, with those as background."""
    textures = len(photographs.NAMES)
    table = np.full(256, VOID, np.uint8)
    table[:textures] = BACKGROUND
    for form, digits in enumerate(FORMS.values()):
        table[[textures + digit_scenes.KNOWN_DIGITS.index(digit) for digit in digits]] = form
    return table[segments]


def _noisy(own: Slices, options: _Options, stream: int) -> Slices:
    rng = np.random.default_rng([options.seed, 0, stream])
    return own._replace(images=_with_noise(rng, own.images, options.noise))


def _with_noise(
    rng: np.random.Generator, images: np.ndarray, deviation: float | np.ndarray
) -> np.ndarray:
    """Adds noise; `deviation` (white is 1) broadcasts against `images [n, H, W]`."""
    noise = 255 * deviation * rng.standard_normal(images.shape, np.float32)
    return np.round(np.clip(images + noise, 0, 255)).astype(np.uint8)


def _photographs(options: _Options) -> Slices:
    photos = photographs.remainders()
    images = np.empty((options.shifted_scenes, *options.size, 3), np.uint8)
    for i in range(len(images)):
        rng = np.random.default_rng([options.seed, 1, i])
        image = photographs.crop(rng, photos[rng.integers(len(photos))], options.size)
        image = image.astype(np.float32) / 255
        for _ in range(rng.integers(*options.digits, endpoint=True)):
            _paste_patch(rng, image, photos, options)
        images[i] = photographs.exposed(rng, image, 0.0)
    void = np.full(images.shape[:3], VOID, np.uint8)
    return _noisy(Slices(grey_images.luminance(images), void), options, len(_PARTS))


def _paste_patch(rng: np.random.Generator, image: np.ndarray, photos, options: _Options) -> None:
    """Puts a photo patch of a random kind at a random place of an image in [0, 1], in place."""
    side = int(rng.integers(*options.digit_size, endpoint=True))
    kind = photographs.KINDS[rng.integers(len(photographs.KINDS))]
    thing, mask = photographs.patch(rng, photos, kind, side, side)
    corner = rng.integers(0, np.subtract(options.size, side), endpoint=True)
    box = tuple(slice(start, start + side) for start in corner)
    image[box] = np.where(mask[..., None] == 1, thing / np.float32(255), image[box])


def _turned(options: _Options) -> Slices:
    upright = _known_scenes(options, turned=True)["test"]
    rng = np.random.default_rng([options.seed, 2])
    left = rng.integers(2, size=(len(upright.images), 1, 1)) == 1
    turned = (
        np.where(left, np.rot90(own, 1, (1, 2)), np.rot90(own, -1, (1, 2))) for own in upright
    )
    return _noisy(Slices(*turned), options, len(_PARTS) + 1)


def _defocused(own: Slices, options: _Options) -> Slices:
    rng = np.random.default_rng([options.seed, 3])
    count = len(own.images)
    blur = rng.uniform(*options.defocus, count)
    noise = rng.uniform(*options.shifted_noise, (count, 1, 1)).astype(np.float32)
    pairs = zip(own.images.astype(np.float32), blur, strict=True)
    soft = np.stack([ndimage.gaussian_filter(image, sigma) for image, sigma in pairs])
    return own._replace(images=_with_noise(rng, soft, noise))


@dataclasses.dataclass(frozen=True)
class _Reader:
    slices: Slices
    labels: np.ndarray

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        return {
            "image": grey_images.unit_range(self.slices.images[i])[..., None],
            "segments": self.slices.segments[i],
            "label": np.int32(self.labels[i]),
        }


def _split(part: str, sets: dict[str, Slices], options: _Options) -> Split:
    """A split of one set after the other; "" is the name of the in-distribution one."""
    counts = [len(own.images) for own in sets.values()]
    classes = [name for name, count in zip(sets, counts, strict=True) for _ in range(count)]
    names = [f"{name or part}/{i:04d}" for name, own in sets.items() for i in range(len(own[0]))]
    slices = Slices(*(np.concatenate(arrays) for arrays in zip(*sets.values(), strict=True)))
    labels = np.array([name != "" for name in classes], np.int64)
    content = hashlib.sha256(slices.images.tobytes() + slices.segments.tobytes())
    return Split(
        names=names,
        labels=labels,
        read=_Reader(slices, labels),
        # Of the content alone, as libraries' random streams and resampling may change.
        fingerprint={
            "source": "digit_shifts",
            "part": part,
            "seed": options.seed,
            "content": content.hexdigest(),
        },
        classes=classes,
        segment_classes=SEGMENT_CLASSES,
        palette=PALETTE,
        class_groups=CLASS_GROUPS,
        background=BACKGROUND,
    )
