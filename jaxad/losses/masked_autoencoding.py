"""Masked auto-encoding: patches of images, random masks, and the loss on what they remove.

Conventions of this file:

- Images are `[B, H, W, C]`, cut into N = (H / p) (W / p) patches of p x p pixels, row by row; a
  patch's entries are ordered row, column, channel.
- In a mask `[..., N]`, 1 or True means removed: hidden from the encoder, to be predicted.
- 16-bit inputs are widened: losses are float32 or wider.

Sources: document 004, chapter 7 (MemMC-MAE, no code released); [mae]: He et al., Masked
Autoencoders Are Scalable Vision Learners, https://arxiv.org/abs/2111.06377, and its code
(github.com/facebookresearch/mae).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.losses import checks, masked

__all__ = [
    "Masking",
    "kept_count",
    "masked_patch_mse",
    "masks_from_noise",
    "paste_kept",
    "patch_means",
    "patch_mse",
    "patchify",
    "position_table",
    "random_masks",
    "standardize_patches",
    "take_patches",
    "unpatchify",
]


class Masking(NamedTuple):
    """Which patches are kept and which removed.

    Attributes:
        kept: Indices of the kept patches `[..., K]`, in rising order of their noise.
        removed: Mask `[..., N]`, True where a patch is removed.
        restore: Indices `[..., N]`: position of each patch among the kept ones followed by the
            removed ones. `take_patches(tokens, restore)` brings such tokens back in order.
    """

    kept: jax.Array
    removed: jax.Array
    restore: jax.Array


def patchify(images: jax.Array, *, patch_size: int) -> jax.Array:
    """Cuts images into patches without overlap.

    Args:
        images: `[..., H, W, C]`; H and W are multiples of `patch_size`, else a `ValueError`.
        patch_size: Side p of a patch.

    Returns:
        `[..., N, p · p · C]`, of the type of `images`.
    """
    images = jnp.asarray(images)
    if images.ndim < 3:
        raise ValueError(f"images: expected axes [..., H, W, C], got {images.shape}.")
    *leading, _, _, channels = images.shape
    rows, columns = _grid("images", images.shape[-3:-1], patch_size)
    blocks = images.reshape(*leading, rows, patch_size, columns, patch_size, channels)
    blocks = jnp.moveaxis(blocks, -3, -4)  # [..., rows, columns, p, p, C]
    return blocks.reshape(*leading, rows * columns, patch_size**2 * channels)


def unpatchify(patches: jax.Array, *, patch_size: int, image_size: tuple[int, int]) -> jax.Array:
    """Puts the patches of `patchify` back into images.

    Args:
        patches: `[..., N, p · p · C]`, else a `ValueError`.
        patch_size: Side p of a patch.
        image_size: `(H, W)` of the images, multiples of `patch_size`, else a `ValueError`.

    Returns:
        `[..., H, W, C]`, of the type of `patches`.
    """
    patches = jnp.asarray(patches)
    rows, columns = _grid("image_size", image_size, patch_size)
    shape = patches.shape
    if len(shape) < 2 or shape[-2] != rows * columns or shape[-1] % patch_size**2:
        raise ValueError(
            f"patches: expected [..., {rows * columns}, {patch_size**2} · C] for images of "
            f"{tuple(image_size)} and patches of {patch_size}, got {shape}."
        )
    blocks = patches.reshape(*shape[:-2], rows, columns, patch_size, patch_size, -1)
    blocks = jnp.moveaxis(blocks, -3, -4)  # [..., rows, p, columns, p, C]
    return blocks.reshape(*shape[:-2], *image_size, -1)


def kept_count(patches: int, ratio: float) -> int:
    """How many patches stay visible: int(N (1 - ratio)), as computed in floating point.

    Args:
        patches: Number N of patches of an image, a scalar.
        ratio: Share of them to remove, in [0, 1), else a `ValueError`; one patch at least must
            stay, else a `ValueError` (10 patches and 0.9 leave none: 10 (1 - 0.9) is below 1).

    Returns:
        K, a Python integer.

    References:
        [mae], code.
    """
    checks.positive_integer("patches", patches)
    if not 0.0 <= ratio < 1.0:
        raise ValueError(f"ratio: expected a number in [0, 1), got {ratio}.")
    kept = int(patches * (1 - ratio))
    if kept < 1:
        raise ValueError(f"ratio: expected to keep one of {patches} patches, got {ratio}.")
    return kept


def masks_from_noise(noise: jax.Array, *, ratio: float) -> Masking:
    """Keeps the K patches of the smallest noise, in rising order; of equal ones the first.

    Args:
        noise: One number per patch, floats `[..., N]`, else a `TypeError`.
        ratio: Share of the patches to remove, see `kept_count`, else a `ValueError`.

    Returns:
        `Masking` with indices `[..., K]` and a mask `[..., N]` of exactly N - K removed patches.

    References:
        [mae], code.
    """
    checks.floating("noise", noise)
    noise = jnp.asarray(noise)
    if not noise.ndim:
        raise ValueError("noise: expected axes [..., N], got a scalar.")
    kept = kept_count(noise.shape[-1], ratio)
    order = jnp.argsort(noise, axis=-1, stable=True)
    restore = jnp.argsort(order, axis=-1)
    return Masking(order[..., :kept], restore >= kept, restore)


def random_masks(keys: jax.Array, *, patches: int, ratio: float) -> Masking:
    """Masks of uniform noise, one for each key.

    Make the keys from what names an example (its index in the source, and the seed), not from its
    place in a batch: then its masks, and the scores made of them, are the same in any batch.

    Args:
        keys: Typed keys `[...]`, else a `TypeError`.
        patches: Number N of patches of an image.
        ratio: Share of them to remove, see `kept_count`, else a `ValueError`.

    Returns:
        `Masking` with indices `[..., K]` and a mask `[..., N]` of exactly N - K removed patches.

    References:
        Document 004, 7.2.1; [mae].
    """
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        raise TypeError(f"keys: expected typed keys, as of jax.random.key, got {keys.dtype}.")
    kept_count(patches, ratio)
    noise = jax.vmap(lambda key: jax.random.uniform(key, (patches,)))(keys.reshape(-1))
    return masks_from_noise(noise.reshape(*keys.shape, patches), ratio=ratio)


def take_patches(tokens: jax.Array, indices: jax.Array) -> jax.Array:
    """The tokens at the given places: the kept ones, or all in order again (`Masking.restore`).

    Args:
        tokens: `[..., N, D]`, else a `ValueError`.
        indices: Integers `[..., K]`, else a `ValueError`.

    Returns:
        `[..., K, D]`, of the type of `tokens`.
    """
    checks.shape_equal("indices", jnp.shape(indices)[:-1], jnp.shape(tokens)[:-2])
    return jnp.take_along_axis(tokens, indices[..., None], axis=-2)


def standardize_patches(patches: jax.Array) -> jax.Array:
    """(x - mean) / sqrt(var + 1e-6) within each patch, with the unbiased variance.

    Args:
        patches: Floats `[..., D]`, else a `TypeError`; D of at least 2, else a `ValueError`.

    Returns:
        `[..., D]`, at least float32; a flat patch becomes 0.

    References:
        [mae], code: the targets of its option `norm_pix_loss`.
    """
    checks.floating("patches", patches)
    if jnp.shape(patches)[-1] < 2:
        raise ValueError(f"patches: expected at least 2 entries each, got {jnp.shape(patches)}.")
    patches = masked.widen(patches)
    centered = patches - jnp.mean(patches, axis=-1, keepdims=True)
    variance = jnp.sum(jnp.square(centered), axis=-1, keepdims=True) / (patches.shape[-1] - 1)
    return centered / jnp.sqrt(variance + 1e-6)


def patch_mse(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean of (prediction - target)^2 over the entries of each patch.

    Args:
        predictions: Floats `[..., D]`, else a `TypeError`.
        targets: Patches, or those of `standardize_patches`; floats that broadcast to
            `predictions`, else a `ValueError`.

    Returns:
        `[...]`, at least float32.
    """
    checks.floating("predictions", predictions)
    checks.floating("targets", targets)
    checks.broadcastable("targets", jnp.shape(targets), jnp.shape(predictions))
    return jnp.mean(jnp.square(masked.widen(predictions) - masked.widen(targets)), axis=-1)


def masked_patch_mse(
    predictions: jax.Array,
    targets: jax.Array,
    removed: jax.Array,
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """`patch_mse` averaged over the removed patches of all images.

    Args:
        predictions: Floats `[B, N, D]`, else a `TypeError`. Those of kept patches may be anything.
        targets: Of the same shape, else a `ValueError`.
        removed: Mask `[B, N]`, else a `ValueError`; padding rows of a batch are all False.
        axis_name: Named axis of devices: each passes its rows and gets the mean of all.

    Returns:
        Scalar; 0 with zero gradient where nothing is removed.

    References:
        Document 004, 7.2.1; [mae].
    """
    checks.rank_equal("predictions", jnp.shape(predictions), "B N D")
    checks.shape_equal("targets", jnp.shape(targets), jnp.shape(predictions))
    checks.shape_equal("removed", jnp.shape(removed), jnp.shape(predictions)[:2])
    removed = jnp.asarray(removed).astype(bool)
    # Selected before subtracted and squared, so that no NaN of a kept patch reaches the gradient.
    predictions, targets = (
        jnp.where(removed[..., None], x, jnp.zeros((), jnp.result_type(x)))
        for x in (predictions, targets)
    )
    return masked.mean(patch_mse(predictions, targets), removed, axis_name=axis_name)


def position_table(width: int, grid: tuple[int, int]) -> np.ndarray:
    """Fixed sine and cosine positions of the patches of a grid.

    [sin(column f_k) | cos(column f_k) | sin(row f_k) | cos(row f_k)], with f_k = 10000^(-4 k / w)
    for k = 0, ..., w / 4 - 1. A class token gets zeros.

    Args:
        width: w, a multiple of 4, else a `ValueError`.
        grid: Rows and columns of patches.

    Returns:
        `[rows · columns, width]`, NumPy float64; row by row.

    References:
        [mae], code.
    """
    checks.positive_integer("width", width)
    if width % 4:
        raise ValueError(f"width: expected a multiple of 4, got {width}.")
    rows, columns = np.indices(grid).reshape(2, -1)
    frequencies = 10000.0 ** -(np.arange(width // 4) / (width / 4))
    by_column, by_row = (places[:, None] * frequencies for places in (columns, rows))
    parts = [np.sin(by_column), np.cos(by_column), np.sin(by_row), np.cos(by_row)]
    return np.concatenate(parts, axis=1)


def paste_kept(
    images: jax.Array, predictions: jax.Array, removed: jax.Array, *, patch_size: int
) -> jax.Array:
    """The prediction on removed patches, the image itself on kept ones, which no loss trains.

    Args:
        images: `[B, H, W, C]`, else a `ValueError`; sides are multiples of `patch_size`, else a
            `ValueError`.
        predictions: `[..., B, H, W, C]`, else a `ValueError`; leading axes count seeds.
        removed: Masks `[..., B, N]`, else a `ValueError`.
        patch_size: Side of a patch.

    Returns:
        Reconstructions `[..., B, H, W, C]`.
    """
    checks.rank_equal("images", jnp.shape(images), "B H W C")
    shape = jnp.shape(predictions)
    checks.shape_equal("predictions", shape[-4:], jnp.shape(images))
    rows, columns = _grid("images", jnp.shape(images)[1:3], patch_size)
    checks.shape_equal("removed", jnp.shape(removed), (*shape[:-3], rows * columns))
    blocks = jnp.asarray(removed).astype(bool).reshape(*shape[:-3], rows, columns)
    pixels = jnp.repeat(jnp.repeat(blocks, patch_size, axis=-2), patch_size, axis=-1)
    return jnp.where(pixels[..., None], predictions, images)


def patch_means(maps: jax.Array, *, patch_size: int) -> jax.Array:
    """Means of maps over the pixels of each patch.

    Args:
        maps: Floats `[..., H, W]`, else a `TypeError`; sides are multiples of `patch_size`, else a
            `ValueError`.
        patch_size: Side of a patch.

    Returns:
        `[..., N]`, at least float32; row by row.
    """
    checks.floating("maps", maps)
    return jnp.mean(patchify(masked.widen(maps)[..., None], patch_size=patch_size), axis=-1)


def _grid(name, image_size, patch_size):
    """Rows and columns of patches."""
    checks.positive_integer("patch_size", patch_size)
    height, width = image_size
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"{name}: expected sides that are multiples of {patch_size}, got {height} x {width}."
        )
    return height // patch_size, width // patch_size
