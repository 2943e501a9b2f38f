"""scikit-learn's two photographs as background texture, and as patches that look unlike it.

Backgrounds come from the left part of each photograph, patches from the rest, so they have no pixel
in common. Patches are altered too, as both parts of a photograph show similar things.
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage
from sklearn.datasets import load_sample_image

NAMES = ("china", "flower")

# Columns where the photographs are cut: pagoda and trees from sky, lake and tree; through the
# middle of the blossom, so that both parts have petals and dark leaves.
_CUTS = (384, 300)
_HEIGHT, _WIDTH = 427, 640
_SHARES = (0.35, 0.85)  # Of the largest crop of the scene's shape that fits.
_CROPS = 4  # Of which a patch takes the one of most contrast.
_LIGHT = 0.15  # Standard deviation of the logarithm of a scene's brightness.
_TILE = 4  # Pixels, of the mosaic.


def backgrounds() -> list[Image.Image]:
    """The part of each photograph that scenes show, in the order of `NAMES`."""
    return [_photograph(n).crop((0, 0, c, _HEIGHT)) for n, c in zip(NAMES, _CUTS, strict=True)]


def remainders() -> list[Image.Image]:
    """The other part of each photograph."""
    pairs = zip(NAMES, _CUTS, strict=True)
    return [_photograph(n).crop((c, 0, _WIDTH, _HEIGHT)) for n, c in pairs]


def _photograph(name: str) -> Image.Image:
    return Image.fromarray(load_sample_image(f"{name}.jpg"))


def crop(rng: np.random.Generator, photograph: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """A randomly placed, scaled and mirrored crop.

    Args:
        rng: Draws them.
        photograph: In RGB.
        size: Height and width in pixels; also the crop's shape before scaling.

    Returns:
        uint8 `[*size, 3]`.
    """
    width, height = photograph.size
    scale = rng.uniform(*_SHARES) * min(height / size[0], width / size[1])
    high, wide = scale * size[0], scale * size[1]
    top, left = rng.uniform(0, height - high), rng.uniform(0, width - wide)
    box = (left, top, left + wide, top + high)
    resized = photograph.resize(size[::-1], Image.Resampling.BILINEAR, box)  # With antialiasing.
    return np.asarray(resized)[:, :: rng.choice([-1, 1])]


def smooth_field(
    rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int] = (3, 4)
) -> np.ndarray:
    """Noise that varies over about a cell, of standard deviation about 1; float32 `size`.

    Args:
        rng: Draws it.
        size: Height and width in pixels.
        cells: Along height and width.
    """
    grid = Image.fromarray(rng.standard_normal(cells, np.float32))
    return np.asarray(grid.resize(size[::-1], Image.Resampling.BICUBIC))


def patch(
    rng: np.random.Generator, photographs: Sequence[Image.Image], kind: str, side: int, canvas: int
) -> tuple[np.ndarray, np.ndarray]:
    """An irregular, altered cut-out of a photograph.

    Args:
        rng: Draws place, scale, outline and treatment.
        photographs: What to cut from, ordered as `NAMES`.
        kind: One of `KINDS`.
        side: Of the square that holds the object; its outline may be a little smaller.
        canvas: Side of the square that is returned, at least `side`.

    Returns:
        The object, uint8 `[canvas, canvas, 3]`, and its mask, uint8 `[canvas, canvas]`, 1 on it.
        The mask's bounding box starts in the upper left corner; elsewhere both are 0.
    """
    name, treatment = kind.split(" ", 1)
    crops = [crop(rng, photographs[NAMES.index(name)], (side, side)) for _ in range(_CROPS)]
    square = max(crops, key=np.std)  # A patch of bare sky would look like the backgrounds' sky.
    square = np.rot90(square, rng.integers(4))
    square = _TREATMENTS[treatment](rng, np.ascontiguousarray(square))
    outline = _blob(rng, side)
    rows, columns = ndimage.find_objects(outline)[0]
    mask = np.zeros((canvas, canvas), np.uint8)
    mask[: rows.stop - rows.start, : columns.stop - columns.start] = outline[rows, columns]
    placed = np.zeros((canvas, canvas, 3), np.uint8)
    placed[: rows.stop - rows.start, : columns.stop - columns.start] = square[rows, columns]
    return placed * mask[..., None], mask


def exposed(rng: np.random.Generator, image: np.ndarray, noise: float) -> np.ndarray:
    """An image in random light and with noise.

    Args:
        rng: Draws both.
        image: In [0, 1].
        noise: Standard deviation; white is 1.

    Returns:
        uint8 of the same shape.
    """
    seen = image * np.exp(_LIGHT * rng.standard_normal())
    seen += noise * rng.standard_normal(image.shape, np.float32)
    return np.round(255 * np.clip(seen, 0, 1)).astype(np.uint8)


def _blob(rng: np.random.Generator, side: int) -> np.ndarray:
    """A connected shape of uneven outline, int `[side, side]` of 0 and 1."""
    place = (np.arange(side) + 0.5) / side * 2 - 1
    radius = np.hypot(place[:, None], place[None, :])
    field = 0.8 - radius + 0.2 * smooth_field(rng, (side, side), (6, 6))
    labels, _ = ndimage.label(field > min(0.0, field.max() - 0.1))
    return (labels == labels.flat[field.argmax()]).astype(np.int64)


def _negative(_rng: np.random.Generator, square: np.ndarray) -> np.ndarray:
    return 255 - square


def _channels_forward(_rng: np.random.Generator, square: np.ndarray) -> np.ndarray:
    return square[..., [1, 2, 0]]


def _channels_backward(_rng: np.random.Generator, square: np.ndarray) -> np.ndarray:
    return square[..., [2, 0, 1]]


def _mosaic(rng: np.random.Generator, square: np.ndarray) -> np.ndarray:
    """Tiles in random order; of an incomplete last row or column there are whole tiles, cut."""
    side = len(square)
    tiles = -(-side // _TILE)
    padded = np.pad(square, ((0, tiles * _TILE - side),) * 2 + ((0, 0),), mode="reflect")
    cut = padded.reshape(tiles, _TILE, tiles, _TILE, 3).swapaxes(1, 2).reshape(-1, _TILE, _TILE, 3)
    mixed = rng.permutation(cut).reshape(tiles, tiles, _TILE, _TILE, 3).swapaxes(1, 2)
    return mixed.reshape(tiles * _TILE, tiles * _TILE, 3)[:side, :side]


def _posterised(_rng: np.random.Generator, square: np.ndarray) -> np.ndarray:
    """Equalised first, as a dark patch would become black."""
    return np.asarray(ImageOps.posterize(ImageOps.equalize(Image.fromarray(square)), 2))


def _duotone(rng: np.random.Generator, square: np.ndarray) -> np.ndarray:
    """Brightness, equalised, as a mixture of two random colours."""
    grey = np.asarray(ImageOps.equalize(Image.fromarray(square).convert("L")))[..., None] / 255
    dark, light = rng.uniform(0, 255, (2, 3))
    return (dark + (light - dark) * grey).astype(np.uint8)


_TREATMENTS: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "negative": _negative,
    "channels forward": _channels_forward,
    "channels backward": _channels_backward,
    "mosaic": _mosaic,
    "posterised": _posterised,
    "duotone": _duotone,
}

KINDS = tuple(f"{name} {treatment}" for treatment in _TREATMENTS for name in NAMES)
