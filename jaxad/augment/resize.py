"""Images and label maps of another size.

Images are not smoothed before they shrink: see `crops` for a function that does. Of label maps
three rules are published: the upper left pixel (`resize_nearest`), the pixel under the centre
(`resize_labels_centre`), the most frequent one of a block (`resize_labels_majority`).

Sources: "000" is the document on auxiliary prototypes, whose rule for labels is not stated; "001"
the document on cosine prototypes (PAnS), whose network enlarges with half-pixel centres and pools
adaptively; the networks of PEBAL align the corners.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxad import resampling
from jaxad.augment import checks, precision

__all__ = [
    "adaptive_average_pool",
    "resize_corners",
    "resize_half_pixel",
    "resize_labels_centre",
    "resize_labels_majority",
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
    return _resize(images, size, align_corners=False)


def resize_corners(images: jax.Array, *, size: tuple[int, int]) -> jax.Array:
    """Bilinear resizing with aligned corners: output i reads at i (n_in - 1) / (n_out - 1).

    Torch's `align_corners=True`; a single output pixel reads the first.

    Args:
        images: Floats `[B, H, W, C]` of any range, else a `TypeError` or `ValueError`.
        size: New height and width, else a `ValueError`.

    Returns:
        `[B, *size, C]` in the type of the images.
    """
    return _resize(images, size, align_corners=True)


def resize_labels_centre(values: jax.Array, *, size: tuple[int, int]) -> jax.Array:
    """Nearest resizing by the pixel under the centre: output i reads floor((i + 0.5) n_in / n_out).

    Pillow's "nearest" and torch's "nearest-exact".

    Args:
        values: Label maps `[B, H, W]` or images `[B, H, W, C]` of any type, else a `ValueError`.
        size: New height and width, else a `ValueError`.

    Returns:
        `[B, *size]` or `[B, *size, C]`: entries of `values`, exactly (000, sheet section 7).
    """
    return _pick(values, size, lambda i, n, m: (2 * i + 1) * n // (2 * m))


def resize_labels_majority(labels: jax.Array, *, factor: int) -> jax.Array:
    """The most frequent label of each block of factor x factor pixels, of equal ones the lowest.

    A label such as "void" counts as any other.

    Args:
        labels: Integers `[B, H, W]`, H and W multiples of `factor`, else a `TypeError` or
            `ValueError`.
        factor: Side of a block in pixels; at least 1, else a `ValueError`.

    Returns:
        `[B, H / factor, W / factor]` in the type of the labels (000, sheet section 7).
    """
    labels = jnp.asarray(labels)
    checks.integers("labels", labels)
    checks.integer("factor", factor)
    if labels.ndim != 3 or labels.shape[1] % factor or labels.shape[2] % factor:
        raise ValueError(
            f"labels: expected [B, H, W] of sides that {factor} divides, got shape {labels.shape}."
        )
    batch, height, width = labels.shape
    rows, columns = height // factor, width // factor
    blocks = labels.reshape(batch, rows, factor, columns, factor).swapaxes(2, 3)
    blocks = jnp.sort(blocks.reshape(batch, rows, columns, factor**2), axis=-1)
    # Sorted, a label is a run; the first place at which the longest run so far ends is its label's.
    changes = jnp.concatenate(
        [jnp.ones_like(blocks[..., :1], bool), blocks[..., 1:] != blocks[..., :-1]], axis=-1
    )
    places = jnp.arange(factor**2)
    starts = jax.lax.cummax(jnp.where(changes, places, 0), axis=blocks.ndim - 1)
    best = jnp.argmax(places - starts, axis=-1)[..., None]
    return jnp.take_along_axis(blocks, best, axis=-1)[..., 0]


def resize_nearest(values: jax.Array, *, size: tuple[int, int]) -> jax.Array:
    """Nearest resizing of labels: output i reads floor(i n_in / n_out), torch's "nearest".

    Args:
        values: Label maps `[B, H, W]` or images `[B, H, W, C]` of any type, else a `ValueError`.
        size: New height and width, else a `ValueError`.

    Returns:
        `[B, *size]` or `[B, *size, C]`: entries of `values`, exactly.
    """
    return _pick(values, size, lambda i, n, m: i * n // m)


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
    return resampling.adaptive_average_pool(precision.widen(images), size).astype(images.dtype)


def _pick(values: jax.Array, size: tuple[int, int], place) -> jax.Array:
    values = jnp.asarray(values)
    if values.ndim not in (3, 4):
        raise ValueError(f"values: expected [B, H, W(, C)], got shape {values.shape}.")
    checks.size("size", size)
    for axis, outputs in zip((1, 2), size, strict=True):
        # In integers: a product of floats may fall just short of a pixel.
        indices = place(np.arange(outputs), values.shape[axis], outputs)
        values = jnp.take(values, jnp.asarray(indices), axis=axis)
    return values


def _resize(images: jax.Array, size: tuple[int, int], *, align_corners: bool) -> jax.Array:
    checks.images("images", images)
    checks.size("size", size)
    wide = precision.widen(images)
    return resampling.bilinear(wide, size, align_corners=align_corners).astype(images.dtype)
