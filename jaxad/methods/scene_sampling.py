"""Training scenes of the segmentation systems: scaled, flipped, cropped and normalised on the
device.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxad import fields
from jaxad.augment import blur, color, draws, scene_crops
from jaxad.errors import InputError
from jaxad.methods import base


class Scenes(NamedTuple):
    """How training scenes are drawn; the fields of `config.method.augment`.

    Attributes:
        crop: Height and width of a crop.
        scales: Lowest and highest scale for `draw="range"`, or the scales for "choice".
        draw: "range": uniform in between; "choice": one of them.
        smooth: Whether images that shrink are smoothed, as Pillow does and OpenCV does not.
        padding: Of scenes smaller than the crop: "surrounded" or "centred", see
            `jaxad.augment.scene_crops`.
        fill: What padding holds: "black", or "mean", the mean colour of ImageNet.
        flip: Probability that left and right are exchanged.
        color_jitter: Strength of changes of brightness, contrast, saturation and hue; 0 for none.
        blur: Probability of Gaussian blur, its sigma uniform in [0.15, 1.15].
    """

    crop: tuple[int, int]
    scales: tuple[float, ...] = (0.5, 2.0)
    draw: str = "range"
    smooth: bool = True
    padding: str = "centred"
    fill: str = "black"
    flip: float = 0.5
    color_jitter: float = 0.0
    blur: float = 0.0


def parse(section: Mapping[str, Any]) -> Scenes:
    """Reads `config.method.augment`.

    Raises:
        InputError: A field is unknown, missing or not as it must be: names it.
    """
    given = fields.tuples(section)
    unknown = sorted(given.keys() - set(Scenes._fields))
    if unknown or "crop" not in given:
        what = f"has no field {unknown[0]!r}" if unknown else "lacks the field 'crop'"
        raise InputError(f"config.method.augment {what}; its fields are {list(Scenes._fields)}.")
    scenes = Scenes(**given)
    fields.check(_SCENE_FIELDS, scenes._asdict(), "method.augment")
    if not isinstance(scenes.scales, tuple):
        raise InputError(
            f"config.method.augment.scales: expected several numbers, found {scenes.scales!r}."
        )
    for scale in scenes.scales:
        fields.positive("method.augment.scales", scale)
    in_order = len(scenes.scales) == 2 and scenes.scales[0] <= scenes.scales[1]
    if not scenes.scales or not (in_order or scenes.draw == "choice"):
        raise InputError(
            f"config.method.augment.scales: expected positive numbers (for draw='range' the lowest "
            f"and the highest), found {scenes.scales}."
        )
    if scenes.fill == "mean" and (scenes.color_jitter or scenes.blur):
        raise InputError(
            "config.method.augment.fill='mean' pads normalised images, and color_jitter and blur "
            "come before normalising; expected fill='black' beside them."
        )
    return scenes


def normalised(images: jax.Array) -> jax.Array:
    """uint8 or floats in [0, 1], `[B, H, W, 3]`, to float32 normalised as ImageNet's."""
    return color.normalize(in_unit_range(images))


def draw(
    scenes: Scenes,
    keys: jax.Array,
    images: jax.Array,
    segments: jax.Array,
    centre: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Scaled, flipped and cropped scenes.

    Args:
        scenes: How.
        keys: One per scene, typed `[B]`.
        images: uint8, or floats in [0, 1], `[B, H, W, 3]`.
        segments: Class ids, integers `[B, H, W]`.
        centre: Row and column that the crop holds, int `[B, 2]`; negative: any crop.

    Returns:
        Normalised images `[B, *crop, 3]` and int32 class ids `[B, *crop]`, 255 outside the scene.

    Raises:
        InputError: Even the largest scene is smaller than the crop.
    """
    _check_crop(scenes, images.shape[1:3])
    for_scale, for_corner, for_flip, for_color, for_blur = draws.split(keys, 5)
    if scenes.draw == "choice":
        choice = draws.integers(for_scale, 0, len(scenes.scales))
        scales = jnp.asarray(scenes.scales, jnp.float32)[choice]
    else:
        scales = draws.uniform(for_scale, *scenes.scales)
    flipped = draws.happens(for_flip, scenes.flip)
    shape = {"shape": images.shape[1:3], "size": scenes.crop}
    corners = _CORNERS[scenes.padding](for_corner, scales, **shape)
    if centre is not None:
        corners = _holding(for_corner, centre, corners, flipped, scales, **shape)
    crop = scene_crops.Crop(flipped, scales, corners)
    make = scene_crops.scale_and_crop_smoothed if scenes.smooth else scene_crops.scale_and_crop
    make = functools.partial(make, crop=crop, size=scenes.crop)
    segments = segments.astype(jnp.int32)
    if scenes.fill == "mean":
        return make(normalised(images), segments)
    images, segments = make(jnp.clip(in_unit_range(images), 0.0, 1.0), segments)
    if scenes.color_jitter:
        strength = scenes.color_jitter
        images, _ = color.random_jitter(
            for_color,
            images,
            probability=1.0,
            brightness=strength,
            contrast=strength,
            saturation=strength,
            hue=min(strength, 0.5),
        )
    if scenes.blur:
        images, _ = blur.random_blur(
            for_blur, images, kernel_size=11, sigma=(0.15, 1.15), probability=scenes.blur
        )
    return color.normalize(images), segments


def in_unit_range(images) -> jax.Array:
    """float32 in [0, 1]; bytes are divided by 255.

    Args:
        images: Integers up to 255, or floats in [0, 1] already, `[...]`.
    """
    images = jnp.asarray(images)
    scale = 255.0 if jnp.issubdtype(images.dtype, jnp.integer) else 1.0
    return images.astype(jnp.float32) / scale


def _holding(keys, centre, corners, flipped, scales, *, shape, size) -> jax.Array:
    """Corners of crops that hold a pixel, uniform among them, then moved inside the scene."""
    row, column = centre[:, 0], centre[:, 1]
    column = jnp.where(flipped, shape[1] - 1 - column, column)
    sides = jnp.floor(jnp.asarray(shape) * scales[:, None]).astype(jnp.int32)
    # Its middle: the nearest pixel of the scaled scene, were it enlarged, shows it.
    middle = (jnp.stack([row, column], axis=1) + 0.5) * sides / jnp.asarray(shape)
    place = jnp.minimum(middle.astype(jnp.int32), sides - 1)
    drawn = place - draws.integers(keys, 0, jnp.asarray(size), shape=(2,))
    spare = sides - jnp.asarray(size)
    inside = jnp.clip(drawn, 0, jnp.maximum(spare, 0))
    wanted = (centre[:, :1] >= 0) & (spare >= 0)  # A short side is padded as without a centre.
    return jnp.where(wanted, inside, corners)


def check(scenes: Scenes, batch: base.Batch) -> None:
    """Whether training scenes can be drawn from batches like this one.

    Args:
        scenes: How they are drawn.
        batch: Of the training split.

    Raises:
        InputError: It has no images with class maps, or even the largest scene is smaller than the
            crop.
    """
    missing = [name for name in ("image", "segments") if name not in batch]
    if missing:
        raise InputError(
            f"config.data.source gives records with {sorted(batch)} and without {missing}; "
            "segmentation needs a source of scenes."
        )
    _check_crop(scenes, batch["image"].shape[1:3])


def _check_crop(scenes: Scenes, shape: tuple[int, int]) -> None:
    largest = [int(side * max(scenes.scales)) for side in shape]
    if any(side < wanted for side, wanted in zip(largest, scenes.crop, strict=True)):
        raise InputError(
            f"config.method.augment.crop={scenes.crop} is larger than the images: {tuple(shape)} "
            f"scaled by at most {max(scenes.scales)} are {tuple(largest)}."
        )


_CORNERS = {
    "surrounded": scene_crops.draw_surrounded,
    "centred": scene_crops.draw_centred,
}
_SCENE_FIELDS = {
    "crop": functools.partial(fields.positive_integers, count=2),
    "draw": functools.partial(fields.one_of, choices=("range", "choice")),
    "smooth": fields.boolean,
    "padding": functools.partial(fields.one_of, choices=tuple(_CORNERS)),
    "fill": functools.partial(fields.one_of, choices=("black", "mean")),
    "flip": fields.share,
    "color_jitter": fields.not_negative,
    "blur": fields.share,
}
