"""Images read at places between their pixels. Pixel (i, j) lies at coordinates (i, j)."""

import jax
import jax.numpy as jnp

from jaxad.augment import checks, precision

__all__ = ["bilinear", "nearest", "within"]


def bilinear(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Linear interpolation between the four pixels around a place; the border goes on outside.

    Args:
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        rows: Row coordinates `[B, h, w]`, in pixels.
        columns: Column coordinates, of the shape of `rows`, else a `ValueError`.

    Returns:
        `[B, h, w, C]` in the type of the images, computed in float32 or wider.
    """
    checks.images("images", images)
    _check_places(images, rows, columns)
    height, width = images.shape[1:3]
    rows = jnp.clip(precision.widen(rows), 0.0, height - 1.0)
    columns = jnp.clip(precision.widen(columns), 0.0, width - 1.0)
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    top, left = top.astype(jnp.int32), left.astype(jnp.int32)
    # At the last row `down` is 0: the row below, which does not exist, has no weight.
    below, beside = jnp.minimum(top + 1, height - 1), jnp.minimum(left + 1, width - 1)
    read = lambda r, c: precision.widen(_gather(images, r, c))  # noqa: E731
    upper = read(top, left) * (1 - right) + read(top, beside) * right
    lower = read(below, left) * (1 - right) + read(below, beside) * right
    return (upper * (1 - down) + lower * down).astype(images.dtype)


def nearest(values: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """The pixel nearest to a place, halves going up; the border goes on outside.

    Args:
        values: Images `[B, H, W, C]` or label maps `[B, H, W]` of any type, else a `ValueError`.
        rows: Row coordinates `[B, h, w]`, in pixels.
        columns: Column coordinates, of the shape of `rows`, else a `ValueError`.

    Returns:
        `[B, h, w, C]` or `[B, h, w]`: entries of `values`, exactly.
    """
    if jnp.ndim(values) not in (3, 4):
        raise ValueError(f"values: expected [B, H, W] or [B, H, W, C], got {jnp.shape(values)}.")
    _check_places(values, rows, columns)
    height, width = values.shape[1:3]
    rows = jnp.clip(jnp.floor(rows + 0.5), 0, height - 1).astype(jnp.int32)
    columns = jnp.clip(jnp.floor(columns + 0.5), 0, width - 1).astype(jnp.int32)
    return _gather(values, rows, columns)


def within(rows: jax.Array, columns: jax.Array, *, size: tuple[int, int]) -> jax.Array:
    """Whether a place lies on the image: at most half a pixel from the centre of one of its pixels.

    Args:
        rows: Row coordinates `[...]`.
        columns: Column coordinates `[...]`, of the shape of `rows`, else a `ValueError`.
        size: Height and width of the image.

    Returns:
        Booleans `[...]`.
    """
    checks.shape_equal("columns", jnp.shape(columns), jnp.shape(rows))
    height, width = size
    vertically = (rows >= -0.5) & (rows < height - 0.5)
    return vertically & (columns >= -0.5) & (columns < width - 0.5)


def _check_places(values: jax.Array, rows: jax.Array, columns: jax.Array) -> None:
    if jnp.ndim(rows) != 3 or rows.shape[0] != values.shape[0]:
        raise ValueError(f"rows: expected [{values.shape[0]}, h, w], got {jnp.shape(rows)}.")
    checks.shape_equal("columns", jnp.shape(columns), jnp.shape(rows))


def _gather(values: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    return jax.vmap(lambda x, r, c: x[r, c])(values, rows, columns)
