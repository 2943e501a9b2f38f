"""Square holes cut into images.

Source: "004" is the thesis whose chapter 4 describes CCD; the rule for the box is that of the code
released with it (github.com/tianyu0207/CCD).
"""

import jax
import jax.numpy as jnp

from jaxad.augment import checks, draws

__all__ = ["cut_out", "random_cutout", "random_sized_cutout"]


def cut_out(
    images: jax.Array,
    centres: jax.Array,
    holes: jax.Array,
    *,
    length: int | jax.Array,
    fill: float = 0.0,
) -> jax.Array:
    """Sets k boxes to one value: rows [y - floor(l / 2), y + floor(l / 2)), columns alike.

    So a hole of odd length l is l - 1 pixels wide, as released; what leaves the image is cut off.

    Args:
        images: `[B, H, W, C]` of any type and range, else a `ValueError`.
        centres: Integers, rows y and columns x of the centres `[B, n, 2]`, else a `ValueError`.
        holes: Integers k, `[B]`, else a `ValueError`: how many of the n boxes each image gets.
        length: Side l in pixels, an integer, or integers `[B]`.
        fill: Value inside.

    Returns:
        `[B, H, W, C]` in the type of the images; exactly theirs outside the holes (004, section 4;
        released code).
    """
    images, centres, holes = jnp.asarray(images), jnp.asarray(centres), jnp.asarray(holes)
    checks.images("images", images, floating=False)
    batch, height, width, _ = images.shape
    if centres.ndim != 3 or (centres.shape[0], centres.shape[2]) != (batch, 2):
        raise ValueError(f"centres: expected shape ({batch}, n, 2), got {centres.shape}.")
    checks.integers("centres", centres)
    checks.shape_equal("holes", holes.shape, (batch,))
    half = jnp.broadcast_to(jnp.asarray(length), (batch,))[:, None, None] // 2

    def inside(pixels, centre):  # [B, n, pixels]
        distance = jnp.arange(pixels) - centre[..., None]
        return (distance >= -half) & (distance < half)

    rows, columns = inside(height, centres[..., 0]), inside(width, centres[..., 1])
    rows &= (jnp.arange(centres.shape[1]) < holes[:, None])[..., None]
    hole = jnp.any(rows[:, :, :, None] & columns[:, :, None, :], axis=1)
    return jnp.where(hole[..., None], jnp.asarray(fill, images.dtype), images)


def random_cutout(
    keys: jax.Array,
    images: jax.Array,
    holes: jax.Array,
    *,
    length: int = 75,
    largest: int = 3,
    fill: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Strong augmentation k: k holes of one size at random places.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: `[B, H, W, C]` of any type and range, else a `ValueError`.
        holes: Integers k in 0..largest, `[B]`, else a `ValueError`.
        length: Side in pixels, below H and W, else a `ValueError` (released: 75 of 256).
        largest: The largest k; at least 1, else a `ValueError`.
        fill: Value inside.

    Returns:
        The images, and the `largest` centres drawn for each, int32 `[B, largest, 2]`: the row
        uniform in 0..H - length - 1, the column likewise.
    """
    checks.images("images", images, floating=False)
    checks.keys("keys", keys, images.shape[0])
    checks.integer("length", length)
    checks.integer("largest", largest)
    _, height, width, _ = images.shape
    if length >= min(height, width):
        raise ValueError(f"length: expected less than {min(height, width)}, got {length}.")
    bounds = jnp.asarray([height - length, width - length])
    centres = draws.integers(keys, 0, bounds, shape=(largest, 2))
    return cut_out(images, centres, holes, length=length, fill=fill), centres


def random_sized_cutout(
    keys: jax.Array, images: jax.Array, *, longest: int = 75, fill: float = 0.0
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """One hole per image, its side uniform in 1..longest, as released for the global weak views.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: `[B, H, W, C]` of any type and range, else a `ValueError`.
        longest: Largest side in pixels, below H and W, else a `ValueError`.
        fill: Value inside.

    Returns:
        The images, and the centres int32 `[B, 1, 2]` and lengths int32 `[B]`.
    """
    checks.images("images", images, floating=False)
    checks.keys("keys", keys, images.shape[0])
    checks.integer("longest", longest)
    batch, height, width, _ = images.shape
    if longest >= min(height, width):
        raise ValueError(f"longest: expected less than {min(height, width)}, got {longest}.")
    for_length, for_centre = draws.split(keys, 2)
    lengths = draws.integers(for_length, 1, longest + 1)
    bounds = jnp.asarray([height, width]) - lengths[:, None, None]
    centres = draws.integers(for_centre, 0, bounds, shape=(1, 2))
    one = jnp.ones((batch,), jnp.int32)
    return cut_out(images, centres, one, length=lengths, fill=fill), (centres, lengths)
