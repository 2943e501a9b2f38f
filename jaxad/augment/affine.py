"""Rotation by any angle and translation, of images and of their label maps.

Source: "000" is the document on auxiliary prototypes, section 5: images bilinear with fill 0,
labels nearest with fill background.
"""

import jax
import jax.numpy as jnp

from jaxad.augment import checks, draws, precision, sampling

__all__ = [
    "draw_rigid",
    "random_rigid",
    "rotate_translate",
    "rotate_translate_labels",
]


def rotate_translate(
    images: jax.Array, angles: jax.Array, shifts: jax.Array, *, fill: float = 0.0
) -> jax.Array:
    """Turns each image about its centre, then moves it; bilinear.

    Args:
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        angles: Counter-clockwise, in degrees, floats or integers `[B]`, else a `ValueError`.
        shifts: Downwards and to the right, in pixels, floats or integers `[B, 2]`, else a
            `ValueError`.
        fill: Value of places more than half a pixel outside the image.

    Returns:
        `[B, H, W, C]` in the type of the images (000, section 5).
    """
    checks.images("images", images)
    rows, columns = _sources(images, angles, shifts)
    read = sampling.bilinear(images, rows, columns)
    inside = sampling.within(rows, columns, size=images.shape[1:3])[..., None]
    return jnp.where(inside, read, jnp.asarray(fill, images.dtype))


def rotate_translate_labels(
    labels: jax.Array, angles: jax.Array, shifts: jax.Array, *, background: int = 0
) -> jax.Array:
    """Turns and moves label maps as `rotate_translate` does images; nearest.

    Args:
        labels: Integers `[B, H, W]`, else a `TypeError` or `ValueError`.
        angles: Counter-clockwise, in degrees, floats or integers `[B]`, else a `ValueError`.
        shifts: Downwards and to the right, in pixels, floats or integers `[B, 2]`, else a
            `ValueError`.
        background: Label of places outside.

    Returns:
        Integers `[B, H, W]` in the type of the labels (000, section 5).
    """
    labels = jnp.asarray(labels)
    checks.integers("labels", labels)
    if labels.ndim != 3:
        raise ValueError(f"labels: expected axes [B, H, W], got shape {labels.shape}.")
    rows, columns = _sources(labels, angles, shifts)
    inside = sampling.within(rows, columns, size=labels.shape[1:3])
    outside = jnp.asarray(background, labels.dtype)
    return jnp.where(inside, sampling.nearest(labels, rows, columns), outside)


def draw_rigid(
    keys: jax.Array, *, degrees: float = 15.0, pixels: float = 10.0
) -> tuple[jax.Array, jax.Array]:
    """Angles uniform in [-degrees, degrees], shifts uniform in [-pixels, pixels] per axis.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        degrees: Largest angle, at least 0, else a `ValueError`.
        pixels: Largest shift per axis, at least 0, else a `ValueError`.

    Returns:
        Angles in degrees, float32 `[B]`, and shifts in pixels, float32 `[B, 2]`.
    """
    for name, value in (("degrees", degrees), ("pixels", pixels)):
        if value < 0.0:
            raise ValueError(f"{name}: expected at least 0, got {value}.")
    for_angle, for_shift = draws.split(keys, 2)
    return (
        draws.uniform(for_angle, -degrees, degrees),
        draws.uniform(for_shift, -pixels, pixels, shape=(2,)),
    )


def random_rigid(
    keys: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    degrees: float = 15.0,
    pixels: float = 10.0,
    fill: float = 0.0,
    background: int = 0,
) -> tuple[jax.Array, jax.Array, tuple[jax.Array, jax.Array]]:
    """Turns and moves images and their labels at random, both alike.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        labels: Integers `[B, H, W]`, else a `TypeError` or `ValueError`.
        degrees: Largest angle, at least 0, else a `ValueError`.
        pixels: Largest shift per axis, at least 0, else a `ValueError`.
        fill: Value of the image's places outside.
        background: Label of the places outside.

    Returns:
        The images, the labels, and the angles `[B]` and shifts `[B, 2]` (000, section 5).
    """
    checks.images("images", images)
    checks.labels("labels", labels, images)
    checks.keys("keys", keys, images.shape[0])
    angles, shifts = draw_rigid(keys, degrees=degrees, pixels=pixels)
    moved = rotate_translate(images, angles, shifts, fill=fill)
    relabeled = rotate_translate_labels(labels, angles, shifts, background=background)
    return moved, relabeled, (angles, shifts)


def _sources(values, angles, shifts) -> tuple[jax.Array, jax.Array]:
    """Where each place of the result is read: back by the shift, then back by the angle."""
    batch, height, width = values.shape[:3]
    checks.shape_equal("angles", jnp.shape(angles), (batch,))
    checks.shape_equal("shifts", jnp.shape(shifts), (batch, 2))
    dtype = precision.widen(jnp.zeros((), jnp.result_type(angles, shifts, jnp.float16))).dtype
    angles, shifts = jnp.asarray(angles, dtype), jnp.asarray(shifts, dtype)
    radians = jnp.deg2rad(angles)[:, None, None]
    cosine, sine = jnp.cos(radians), jnp.sin(radians)
    centre = (height - 1) / 2, (width - 1) / 2
    y = jnp.arange(height, dtype=angles.dtype)[:, None] - centre[0] - shifts[:, :1, None]
    x = jnp.arange(width, dtype=angles.dtype) - centre[1] - shifts[:, 1:, None]
    # Rows grow downwards, so a counter-clockwise turn takes (x, y) to (x c + y s, y c - x s).
    return x * sine + y * cosine + centre[0], x * cosine - y * sine + centre[1]
