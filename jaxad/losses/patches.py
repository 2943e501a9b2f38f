"""Overlapping patches of images on a regular grid, and maps put together from those of patches.

Conventions of this file:

- Images are `[B, H, W, C]`. Patches are `[B, P, size, size, ...]`: P of each image, row by row.
- Along a side, patches start at 0, stride, 2 stride, ...; where the last would leave a margin, one
  more lies flush with the border, so that every pixel is in a patch. (The released code of IGD,
  github.com/tianyu0207/IGD, leaves the margin out; for its own sizes there is none.)
- The grid is static: taking patches is a gather, folding them back two products with 0/1 matrices.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.losses import checks, masked

__all__ = ["extract_patches", "fold_mean", "fold_sum", "overlap_counts", "patch_starts"]


def patch_starts(side: int, size: int, stride: int) -> np.ndarray:
    """Where the patches along a side begin.

    Args:
        side: Length of the image's side.
        size: Length of a patch's side, at most `side`, else a `ValueError`.
        stride: Distance of neighboring patches, at most `size`, else a `ValueError`: no pixel may
            be between two patches.

    Returns:
        Integers `[P_side]`, rising from 0 to `side - size`; a NumPy array.
    """
    checks.positive_integer("size", size)
    checks.positive_integer("stride", stride)
    if size > side:
        raise ValueError(f"size: expected at most {side}, the side of the images, got {size}.")
    if stride > size:
        raise ValueError(f"stride: expected at most {size}, the size of a patch, got {stride}.")
    starts = np.arange(0, side - size + 1, stride)
    return starts if starts[-1] == side - size else np.append(starts, side - size)


def extract_patches(images: jax.Array, *, size: int, stride: int) -> jax.Array:
    """All patches of the grid.

    Args:
        images: `[B, H, W, C]`, else a `ValueError`.
        size: Side of a patch, at most H and W, else a `ValueError`.
        stride: Distance of neighboring patches, at most `size`, else a `ValueError`.

    Returns:
        `[B, P, size, size, C]`, of the type of `images`; row by row.

    References:
        Document 004, 6.3.3: the patches of the local model, 32 x 32; stride 16 as released.
    """
    checks.rank_equal("images", jnp.shape(images), "B H W C")
    images = jnp.asarray(images)
    batch, height, width, channels = images.shape
    rows = patch_starts(height, size, stride)[:, None] + np.arange(size)
    columns = patch_starts(width, size, stride)[:, None] + np.arange(size)
    taken = images[:, rows[:, None, :, None], columns[None, :, None, :]]
    return taken.reshape(batch, rows.shape[0] * columns.shape[0], size, size, channels)


def fold_sum(patches: jax.Array, *, image_size: tuple[int, int], stride: int) -> jax.Array:
    """Adds up, for each pixel, what the patches that cover it hold there.

    A product of matrices: a NaN or an infinity in one patch makes every pixel of its image NaN.

    Args:
        patches: Floats `[B, P, size, size]` or `[B, P, size, size, C]` in the order of
            `extract_patches`, else a `TypeError` or `ValueError`.
        image_size: `(H, W)` of the images that the patches are of.
        stride: Distance of neighboring patches.

    Returns:
        `[B, H, W]` or `[B, H, W, C]`, at least float32.

    References:
        Released code of IGD: its maps are larger inside than at the border, where fewer overlap.
    """
    rows, columns, patches = _grid(patches, image_size, stride)
    # Without "highest", accelerators round the entries to fewer bits than float32 has.
    return jnp.einsum(
        "bpqij...,hpi,wqj->bhw...", patches, rows, columns, precision="highest", optimize=True
    )


def fold_mean(patches: jax.Array, *, image_size: tuple[int, int], stride: int) -> jax.Array:
    """Averages, for each pixel, what the patches that cover it hold there.

    Folds the patches of an image back into that image. As in `fold_sum`, a NaN or an infinity in
    one patch makes every pixel of its image NaN.

    Args:
        patches: Floats `[B, P, size, size]` or `[B, P, size, size, C]` in the order of
            `extract_patches`, else a `TypeError` or `ValueError`.
        image_size: `(H, W)` of the images that the patches are of.
        stride: Distance of neighboring patches.

    Returns:
        `[B, H, W]` or `[B, H, W, C]`, at least float32.
    """
    sums = fold_sum(patches, image_size=image_size, stride=stride)
    counts = overlap_counts(image_size=image_size, size=jnp.shape(patches)[2], stride=stride)
    return sums / jnp.asarray(counts.reshape(counts.shape + (1,) * (sums.ndim - 3)), sums.dtype)


def overlap_counts(*, image_size: tuple[int, int], size: int, stride: int) -> np.ndarray:
    """How many patches cover each pixel.

    Args:
        image_size: `(H, W)` of the images.
        size: Side of a patch, at most H and W, else a `ValueError`.
        stride: Distance of neighboring patches, at most `size`, else a `ValueError`.

    Returns:
        Integers `[H, W]`, at least 1; a NumPy array.
    """
    height, width = image_size
    rows = _membership(height, size, stride).sum(axis=(1, 2))
    columns = _membership(width, size, stride).sum(axis=(1, 2))
    return rows[:, None] * columns[None, :]


def _membership(side, size, stride):
    """`[side, P_side, size]`: 1 where entry i of patch p is pixel h."""
    places = patch_starts(side, size, stride)[:, None] + np.arange(size)
    return (np.arange(side)[:, None, None] == places).astype(np.int64)


def _grid(patches, image_size, stride):
    checks.floating("patches", patches)
    shape = jnp.shape(patches)
    if len(shape) not in (4, 5) or shape[2] != shape[3]:
        raise ValueError(f"patches: expected [B, P, size, size] or with channels, got {shape}.")
    height, width = image_size
    rows, columns = (_membership(side, shape[2], stride) for side in (height, width))
    if shape[1] != rows.shape[1] * columns.shape[1]:
        raise ValueError(
            f"patches: expected {rows.shape[1] * columns.shape[1]} of each image for images of "
            f"{height} x {width}, patches of {shape[2]} and stride {stride}, got {shape}."
        )
    patches = masked.widen(patches)
    split = (shape[0], rows.shape[1], columns.shape[1], *shape[2:])
    grids = (jnp.asarray(matrix, patches.dtype) for matrix in (rows, columns))
    return *grids, patches.reshape(split)
