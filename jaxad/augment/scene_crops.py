"""Scaled, flipped and cropped scenes with their label maps, at one output size.

Images are bilinear with half-pixel centres, labels those under the centres; places outside the
scene hold `fill` and the label `void`. A fill of 0 before normalisation is black, after it the mean
colour: PEBAL's release normalises first, that of PAnS last. Images that shrink are smoothed for
PAnS and entropy maximisation, whose releases use Pillow, and not for PEBAL, whose uses OpenCV.

Sources: "001" is the document on cosine prototypes (PAnS), section 3 of its sheet; "004" the thesis
whose chapter 11 describes PEBAL; "002" the document on entropy maximisation; with released code
(github.com/DarioFontanel/PAnS, github.com/tianyu0207/PEBAL, github.com/JuricaRuntas/meta-ood).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.augment import checks, crops, draws, precision, resize, rotations

__all__ = [
    "Crop",
    "draw_centred",
    "draw_surrounded",
    "random_crop_or_scale",
    "random_crop_or_squash",
    "random_scale_choice",
    "random_scale_range",
    "scale_and_crop",
    "scale_and_crop_smoothed",
]

Pair = tuple[jax.Array, jax.Array]


class Crop(NamedTuple):
    """What happens to each scene: it is flipped, scaled, and cropped.

    Attributes:
        flipped: Whether left and right are exchanged `[B]`.
        scales: Factor of the size, float32 `[B]`; sides are floor(scale · side).
        corners: Row and column of the crop in the scaled scene, int32 `[B, 2]`; negative in the
            padding.
    """

    flipped: jax.Array
    scales: jax.Array
    corners: jax.Array


def scale_and_crop(
    images: jax.Array,
    labels: jax.Array,
    crop: Crop,
    *,
    size: tuple[int, int],
    fill: float = 0.0,
    void: int = 255,
) -> Pair:
    """Makes the crop of each scene that was drawn; not smoothed, as OpenCV resizes.

    Args:
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        labels: Integers `[B, H, W]`, else a `TypeError` or `ValueError`.
        crop: For as many scenes, else a `ValueError`.
        size: Height and width of the result, else a `ValueError`.
        fill: Value outside the scene.
        void: Label outside the scene.

    Returns:
        Images `[B, *size, C]` and labels `[B, *size]` in their types.
    """
    return _crop_scenes(images, labels, crop, size, fill, void, _interpolate)


def scale_and_crop_smoothed(
    images: jax.Array,
    labels: jax.Array,
    crop: Crop,
    *,
    size: tuple[int, int],
    fill: float = 0.0,
    void: int = 255,
) -> Pair:
    """As `scale_and_crop`, smoothed where the scene shrinks, as Pillow resizes.

    Output i of m weighs the n pixels of the scene by a triangle around (i + 0.5) n / m of half
    width max(1, n / m). Labels are not smoothed.

    Args:
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        labels: Integers `[B, H, W]`, else a `TypeError` or `ValueError`.
        crop: For as many scenes, else a `ValueError`.
        size: Height and width of the result, else a `ValueError`.
        fill: Value outside the scene.
        void: Label outside the scene.

    Returns:
        Images `[B, *size, C]` and labels `[B, *size]` in their types.
    """
    return _crop_scenes(images, labels, crop, size, fill, void, _smooth)


def draw_centred(
    keys: jax.Array, scales: jax.Array, *, shape: tuple[int, int], size: tuple[int, int]
) -> jax.Array:
    """Crops uniform inside the scaled scene; a side that is too short is padded on both ends.

    The padding is central, an odd pixel of it goes to the end: the rule of PEBAL.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        scales: Factors of the size `[B]`, else a `ValueError`.
        shape: Height and width of the scenes, else a `ValueError`.
        size: Height and width of the crop, else a `ValueError`.

    Returns:
        Row and column of the crop in the scaled scene, int32 `[B, 2]` (004, released code).
    """
    spare = _spare(keys, scales, shape, size)
    inside = draws.integers(keys, 0, jnp.maximum(spare, 0) + 1, shape=(2,))
    return jnp.where(spare >= 0, inside, -(-spare // 2))


def draw_surrounded(
    keys: jax.Array, scales: jax.Array, *, shape: tuple[int, int], size: tuple[int, int]
) -> jax.Array:
    """Crops uniform inside the scaled scene, padded on all four sides while a side is too short.

    The width is looked at first: if short by s it adds floor((1 + s) / 2) on all sides; then the
    height, which may be long enough by now, likewise. The rule of PAnS.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        scales: Factors of the size `[B]`, else a `ValueError`.
        shape: Height and width of the scenes, else a `ValueError`.
        size: Height and width of the crop, else a `ValueError`.

    Returns:
        Row and column of the crop in the scaled scene, int32 `[B, 2]` (001, released code).
    """
    spare = _spare(keys, scales, shape, size)
    padding = jnp.zeros_like(spare[:, :1])
    for axis in (1, 0):
        short = -(spare[:, axis, None] + 2 * padding)
        padding += jnp.where(short > 0, (1 + short) // 2, 0)
    return draws.integers(keys, 0, spare + 2 * padding + 1, shape=(2,)) - padding


def random_scale_range(
    keys: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    size: tuple[int, int] = (450, 450),
    scales: tuple[float, float] = (300 / 720, 1000 / 1280),
    flip: float = 0.5,
    fill: float = 0.0,
    void: int = 255,
) -> tuple[jax.Array, jax.Array, Crop]:
    """Scenes of PAnS: the scale uniform in a range, smoothed, crops of `draw_surrounded`.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        labels: Integers `[B, H, W]`, else a `TypeError` or `ValueError`.
        size: Height and width of the result, else a `ValueError`.
        scales: Smallest and largest scale, in order and above 0, else a `ValueError`.
        flip: Probability of the horizontal flip, in [0, 1], else a `ValueError`.
        fill: Value outside the scene.
        void: Label outside the scene.

    Returns:
        Images `[B, *size, C]`, labels `[B, *size]`, and what was drawn (001, section 3).
    """
    checks.images("images", images)
    checks.keys("keys", keys, images.shape[0])
    low, high = checks.interval("scales", scales, minimum=1e-6)
    for_scale, for_corner, for_flip = draws.split(keys, 3)
    drawn = draws.uniform(for_scale, low, high)
    corners = draw_surrounded(for_corner, drawn, shape=images.shape[1:3], size=size)
    crop = Crop(draws.happens(for_flip, flip), drawn, corners)
    return *scale_and_crop_smoothed(images, labels, crop, size=size, fill=fill, void=void), crop


def random_scale_choice(
    keys: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    size: tuple[int, int] = (900, 900),
    scales: Sequence[float] = (0.5, 0.75, 1.0, 1.5, 1.75, 2.0),
    flip: float = 0.8,
    fill: float = 0.0,
    void: int = 255,
) -> tuple[jax.Array, jax.Array, Crop]:
    """Scenes of PEBAL: the scale one of a few, not smoothed, crops of `draw_centred`.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        labels: Integers `[B, H, W]`, else a `TypeError` or `ValueError`.
        size: Height and width of the result, else a `ValueError`.
        scales: Scales, equally likely and above 0, else a `ValueError`.
        flip: Probability of the horizontal flip, in [0, 1], else a `ValueError`.
        fill: Value outside the scene.
        void: Label outside the scene.

    Returns:
        Images `[B, *size, C]`, labels `[B, *size]`, and what was drawn (004, released code).
    """
    checks.images("images", images)
    checks.keys("keys", keys, images.shape[0])
    if not len(scales) or min(scales) <= 0.0:
        raise ValueError(f"scales: expected positive numbers, got {scales!r}.")
    for_scale, for_corner, for_flip = draws.split(keys, 3)
    choice = draws.integers(for_scale, 0, len(scales))
    drawn = jnp.asarray(np.asarray(scales, np.float32))[choice]
    corners = draw_centred(for_corner, drawn, shape=images.shape[1:3], size=size)
    crop = Crop(draws.happens(for_flip, flip), drawn, corners)
    return *scale_and_crop(images, labels, crop, size=size, fill=fill, void=void), crop


def random_crop_or_scale(
    keys: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    size: tuple[int, int] = (480, 480),
    flip: float = 0.5,
) -> tuple[jax.Array, jax.Array, Crop]:
    """Scenes of entropy maximisation, their shape kept: enlarged where one is short, then cropped.

    The scale is the least at which both sides reach the crop, so that for a square crop the shorter
    side becomes the crop's; sides are floor(scale · side). The release computes this and does
    `random_crop_or_squash`.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        labels: Integers `[B, H, W]`, else a `TypeError` or `ValueError`.
        size: Height and width of the result, else a `ValueError`. With a side of the images below
            it they are enlarged.
        flip: Probability of the horizontal flip, in [0, 1], else a `ValueError`.

    Returns:
        Images `[B, *size, C]`, labels `[B, *size]`, and what was drawn, the corners in the enlarged
        scene (002; a variant).
    """
    checks.images("images", images)
    checks.size("size", size)
    sides = images.shape[1:3]
    short = max(range(2), key=lambda axis: size[axis] / sides[axis])
    if size[short] > sides[short]:
        sides = tuple(
            max(least, side * size[short] // images.shape[1 + short])
            for least, side in zip(size, sides, strict=True)
        )
    return _resize_and_crop(keys, images, labels, sides, size, flip)


def random_crop_or_squash(
    keys: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    size: tuple[int, int] = (480, 480),
    flip: float = 0.5,
) -> tuple[jax.Array, jax.Array, Crop]:
    """Scenes of entropy maximisation: a random crop, or the whole scene resized where one is short.

    Resized as Pillow does: a side that shrinks meanwhile is smoothed, labels are those under the
    centres. `random_crop_or_scale` keeps the shape of short scenes.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        labels: Integers `[B, H, W]`, else a `TypeError` or `ValueError`.
        size: Height and width of the result, else a `ValueError`. With a side of the images below
            it they are squashed to it.
        flip: Probability of the horizontal flip, in [0, 1], else a `ValueError`.

    Returns:
        Images `[B, *size, C]`, labels `[B, *size]`, and what was drawn, the corners in the squashed
        scene (002, released code).
    """
    checks.images("images", images)
    checks.size("size", size)
    short = images.shape[1] < size[0] or images.shape[2] < size[1]
    sides = tuple(size) if short else images.shape[1:3]
    return _resize_and_crop(keys, images, labels, sides, size, flip)


def _resize_and_crop(keys, images, labels, sides, size, flip) -> tuple[jax.Array, jax.Array, Crop]:
    """Flips scenes, resizes them as Pillow does, and crops at random."""
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    checks.labels("labels", labels, images)
    batch = images.shape[0]
    checks.keys("keys", keys, batch)
    for_corner, for_flip = draws.split(keys, 2)
    flipped = draws.happens(for_flip, flip)
    # First, as released: a centre between two pixels takes the right one of the flipped labels.
    images = rotations.flip_horizontal(images, flipped)
    labels = rotations.flip_horizontal(labels, flipped)
    if tuple(sides) != images.shape[1:3]:
        whole = jnp.tile(jnp.asarray([0, 0, *images.shape[1:3]]), (batch, 1))
        images = crops.crop_and_resize(images, whole, size=sides)
        labels = resize.resize_labels_centre(labels, size=sides)
    scales = jnp.ones(batch, jnp.float32)
    corners = draw_centred(for_corner, scales, shape=sides, size=size)
    done = Crop(jnp.zeros(batch, bool), scales, corners)
    return *scale_and_crop(images, labels, done, size=size), done._replace(flipped=flipped)


def _crop_scenes(images, labels, crop, size, fill, void, read) -> Pair:
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    checks.images("images", images)
    checks.labels("labels", labels, images)
    checks.size("size", size)
    checks.shape_equal("crop.scales", jnp.shape(crop.scales), images.shape[:1])
    checks.shape_equal("crop.corners", jnp.shape(crop.corners), (images.shape[0], 2))
    images = rotations.flip_horizontal(images, crop.flipped)
    labels = rotations.flip_horizontal(labels, crop.flipped)
    wide = precision.widen(images)
    scaled = _scaled_sizes(images.shape[1:3], crop.scales)
    inside = jnp.ones((images.shape[0], 1, 1), bool)
    for axis in (1, 2):
        places = jnp.arange(size[axis - 1]) + crop.corners[:, axis - 1, None]  # [B, out]
        length = scaled[:, axis - 1, None]
        known = (places >= 0) & (places < length)
        inside &= known[:, :, None] if axis == 1 else known[:, None, :]
        wide = read(wide, places, length, axis)
        # The pixel under the centre, in integers: floor((i + 0.5) n_in / n_out).
        nearest = (2 * places + 1) * images.shape[axis] // (2 * length)
        nearest = jnp.clip(nearest, 0, images.shape[axis] - 1)
        labels = jax.vmap(lambda x, i, axis=axis: jnp.take(x, i, axis=axis - 1))(labels, nearest)
    outside = jnp.asarray(fill, images.dtype)
    images = jnp.where(inside[..., None], wide.astype(images.dtype), outside)
    return images, jnp.where(inside, labels, jnp.asarray(void, labels.dtype))


def _scaled_sizes(shape: tuple[int, int], scales: jax.Array) -> jax.Array:
    """Sides of the scaled scenes, int32 `[B, 2]`, at least one pixel."""
    sides = jnp.asarray(shape, jnp.float32) * jnp.asarray(scales, jnp.float32)[:, None]
    return jnp.maximum(jnp.floor(sides).astype(jnp.int32), 1)


def _spare(keys, scales, shape, size) -> jax.Array:
    """By how many pixels the scaled scenes exceed the crop, int32 `[B, 2]`."""
    checks.keys("keys", keys)
    checks.shape_equal("scales", jnp.shape(scales), keys.shape)
    checks.size("shape", shape)
    checks.size("size", size)
    return _scaled_sizes(shape, scales) - jnp.asarray(size, jnp.int32)


def _interpolate(wide: jax.Array, places: jax.Array, length: jax.Array, axis: int) -> jax.Array:
    """Reads along one axis at places `[B, out]` of scenes scaled to a length; clamped."""
    step = (wide.shape[axis] / length).astype(wide.dtype)
    last = wide.shape[axis] - 1
    centres = jnp.clip((places + 0.5).astype(wide.dtype) * step - 0.5, 0.0, last)
    first = jnp.floor(centres).astype(jnp.int32)
    share = jnp.expand_dims(centres - first, (2, 3) if axis == 1 else (1, 3))
    read = jax.vmap(lambda x, i: jnp.take(x, i, axis=axis - 1))
    return read(wide, first) * (1 - share) + read(wide, jnp.minimum(first + 1, last)) * share


def _smooth(wide: jax.Array, places: jax.Array, length: jax.Array, axis: int) -> jax.Array:
    """As `_interpolate`, by a triangle at least as wide as a pixel of the scaled scene."""
    inputs = wide.shape[axis]
    step = jnp.maximum(inputs / length, 1.0).astype(wide.dtype)[..., None]
    # Whole pixels and the rest apart: the centre of a large scene is then exact in float32.
    ahead = (2 * jnp.clip(places, 0, length - 1) + 1) * inputs
    pixel, rest = ahead // (2 * length), ahead % (2 * length) / (2 * length)
    offset = (jnp.arange(inputs) - pixel[..., None]).astype(wide.dtype)
    distance = jnp.abs(offset + 0.5 - rest[..., None].astype(wide.dtype))
    weights = jnp.maximum(1.0 - distance / step, 0.0)  # [B, out, inputs]
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    product = "boh,bhwc->bowc" if axis == 1 else "bow,bhwc->bhoc"
    return jnp.einsum(product, weights, wide, precision="highest")
