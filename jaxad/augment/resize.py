"""Images of another size, not smoothed before they shrink: see `crops` for a function that does.

Source: "001" is the document on cosine prototypes (PAnS), whose network enlarges with half-pixel
centres and pools adaptively; the networks of PEBAL align the corners.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.augment import checks, precision

__all__ = [
    "adaptive_average_pool",
    "resize_corners",
    "resize_half_pixel",
    "resize_nearest",
]


def resize_half_pixel(images: jax.Array, *, size: tuple[int, int]) -> jax.Array:
    """Bilinear resizing with half-pixel centres: output i reads at (i + 0.5) n_in / n_out - 0.5.

    Torch's `align_corners=False`. Unlike `jax.image.resize` it does not smooth when shrinking.

    Args:
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        size: New height and width, else a `ValueError`.

    Returns:
        `[B, *size, C]` in the type of the images (001, section 10).
    """
    return _resize(images, size, lambda i, n, m: (i + 0.5) * n / m - 0.5)


def resize_corners(images: jax.Array, *, size: tuple[int, int]) -> jax.Array:
    """Bilinear resizing with aligned corners: output i reads at i (n_in - 1) / (n_out - 1).

    Torch's `align_corners=True`; a single output pixel reads the first.

    Args:
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        size: New height and width, else a `ValueError`.

    Returns:
        `[B, *size, C]` in the type of the images.
    """
    return _resize(images, size, lambda i, n, m: i * (n - 1) / max(m - 1, 1))


def resize_nearest(values: jax.Array, *, size: tuple[int, int]) -> jax.Array:
    """Nearest resizing of labels: output i reads floor(i n_in / n_out), torch's "nearest".

    Args:
        values: Label maps `[B, H, W]` or images `[B, H, W, C]` of any type, else a `ValueError`.
        size: New height and width, else a `ValueError`.

    Returns:
        `[B, *size]` or `[B, *size, C]`: entries of `values`, exactly.
    """
    values = jnp.asarray(values)
    if values.ndim not in (3, 4):
        raise ValueError(f"values: expected [B, H, W(, C)], got shape {values.shape}.")
    checks.size("size", size)
    for axis, outputs in zip((1, 2), size, strict=True):
        # In integers: a product of floats may fall just short of a pixel.
        indices = np.arange(outputs) * values.shape[axis] // outputs
        values = jnp.take(values, jnp.asarray(indices), axis=axis)
    return values


def adaptive_average_pool(images: jax.Array, *, size: tuple[int, int]) -> jax.Array:
    """Means over bins: bin k of s covers floor(k n / s) to ceil((k + 1) n / s) - 1.

    Bins overlap where s does not divide n.

    Args:
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        size: Bins per column and per row, else a `ValueError`.

    Returns:
        `[B, *size, C]` in the type of the images (001, section 1).
    """
    checks.images("images", images)
    checks.size("size", size)
    wide = precision.widen(images)
    vertical, horizontal = (
        jnp.asarray(_bins(n, s), wide.dtype) for n, s in zip(images.shape[1:3], size, strict=True)
    )
    pooled = jnp.einsum("sh,bhwc->bswc", vertical, wide, precision="highest")
    pooled = jnp.einsum("tw,bswc->bstc", horizontal, pooled, precision="highest")
    return pooled.astype(images.dtype)


def _bins(inputs: int, bins: int) -> np.ndarray:
    """Weights `[bins, inputs]`."""
    k, pixels = np.arange(bins)[:, None], np.arange(inputs)
    inside = (pixels >= k * inputs // bins) & (pixels < -((k + 1) * inputs // -bins))
    return inside / inside.sum(axis=1, keepdims=True)


def _resize(images: jax.Array, size: tuple[int, int], coordinate) -> jax.Array:
    checks.images("images", images)
    checks.size("size", size)
    wide = precision.widen(images)
    for axis, outputs in zip((1, 2), size, strict=True):
        inputs = wide.shape[axis]
        # On the host in float64: which pixels are read does not hang on rounding.
        places = np.clip(coordinate(np.arange(outputs), inputs, outputs), 0, inputs - 1)
        first = np.floor(places).astype(np.int32)
        second = np.minimum(first + 1, inputs - 1)
        shape = (outputs, 1, 1) if axis == 1 else (outputs, 1)
        share = jnp.asarray((places - first).reshape(shape), wide.dtype)
        before = jnp.take(wide, jnp.asarray(first), axis=axis)
        after = jnp.take(wide, jnp.asarray(second), axis=axis)
        wide = before * (1.0 - share) + after * share
    return wide.astype(images.dtype)
