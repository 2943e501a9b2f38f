"""Scores of masked auto-encoders: one image, reconstructed from several random masks.

Conventions of this file:

- `images [B, H, W, C]`; `reconstructions [S, B, H, W, C]` hold one of each seed: predictions, or
  what `masked_autoencoding.paste_kept` makes of them. Both in the pixels that `data_range` is of:
  undo the normalization and clip to [0, 1] first, for a range of 1.
- Patch scores are `[S, B, N]`. The score of an image is the mean of its patches' scores. No result
  depends on the order of the seeds. Higher is more anomalous.
- 16-bit inputs are widened: scores are float32 or wider.

Source: document 004, section 7.2.2, which pools "mean MS-SSIM scores" over 10 masks; no code is
released. Its scores must be of dissimilarity, as a similarity would rank backwards.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxad.losses import checks, masked, masked_autoencoding, similarity, similarity_losses

__all__ = [
    "SeedScores",
    "multi_seed_scores",
    "multi_seed_scores_of",
    "pool_largest",
    "pool_mean",
    "pool_removed_mean",
    "product_scores",
]


class SeedScores(NamedTuple):
    """Dissimilarity of images and their reconstructions from several masks.

    Attributes:
        pixels: Mean over the seeds `[B, H, W]`: the localization map.
        patches: Mean over the pixels of each patch, per seed `[S, B, N]`; to be pooled.
    """

    pixels: jax.Array
    patches: jax.Array


def multi_seed_scores(
    images: jax.Array,
    reconstructions: jax.Array,
    *,
    patch_size: int,
    data_range: float,
    window: int = similarity.GLOBAL_WINDOW,
    weights: Sequence[float] = similarity.GLOBAL_WEIGHTS,
    channel_weights: jax.Array | None = None,
) -> SeedScores:
    """sum_m w_m (1 - S_m) of each reconstruction (`similarity.dissimilarity_map`), over channels.

    Seeds are taken one after the other: no intermediate grows with their number, only the argument
    and the patch scores do.

    Args:
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`; sides are multiples of
            `patch_size` and large enough for the levels, else a `ValueError`.
        reconstructions: Floats `[S, B, H, W, C]`, else a `TypeError` or `ValueError`; S at least 1.
        patch_size: Side of a patch.
        data_range: L of the images, above 0, else a `ValueError`.
        window: Side of the Gaussian window.
        weights: Weights of the levels.
        channel_weights: Weights `[C]`, see `similarity_losses.channel_sum`; by default the mean.

    Returns:
        `SeedScores`: pixels `[B, H, W]` and patches `[S, B, N]`; 0 for identical images.

    References:
        Document 004, 7.2.2.
    """

    def measure(images, reconstruction):
        maps = similarity.dissimilarity_map(
            images, reconstruction, data_range=data_range, window=window, weights=weights
        )
        return similarity_losses.channel_sum(maps, channel_weights)

    return multi_seed_scores_of(measure, images, reconstructions, patch_size=patch_size)


def multi_seed_scores_of(
    measure: Callable[[jax.Array, jax.Array], jax.Array],
    images: jax.Array,
    reconstructions: jax.Array,
    *,
    patch_size: int,
) -> SeedScores:
    """`multi_seed_scores` by another map: `similarity_losses.mae_ms_ssim_map`, squared errors, ...

    Args:
        measure: Of images and one reconstruction of each `[B, H, W, C]` to maps `[B, H, W]`, else a
            `ValueError`; higher is more anomalous. Bind its options with `functools.partial`.
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`; sides are multiples of
            `patch_size`, else a `ValueError`.
        reconstructions: Floats `[S, B, H, W, C]`, else a `TypeError` or `ValueError`; S at least 1.
        patch_size: Side of a patch.

    Returns:
        `SeedScores`: pixels `[B, H, W]` and patches `[S, B, N]`.

    References:
        Document 004, 7.2.2, leaves the measure open.
    """
    _check_seeds(images, reconstructions)

    def one_seed(pixels, reconstruction):
        maps = measure(images, reconstruction)
        checks.shape_equal("measure", jnp.shape(maps), pixels.shape)
        patches = masked_autoencoding.patch_means(maps, patch_size=patch_size)
        return pixels + maps.astype(pixels.dtype), patches

    wide = jnp.result_type(masked.widen(images), masked.widen(reconstructions))
    nothing = jnp.zeros(jnp.shape(images)[:3], wide)
    total, patches = jax.lax.scan(one_seed, nothing, reconstructions)
    return SeedScores(total / patches.shape[0], patches)


def product_scores(
    images: jax.Array,
    reconstructions: jax.Array,
    *,
    data_range: float,
    window: int = similarity.GLOBAL_WINDOW,
    weights: Sequence[float] = similarity.GLOBAL_WEIGHTS,
    floor: float = 1e-12,
) -> jax.Array:
    """1 - MS-SSIM of each reconstruction, the product over levels instead of a map.

    Args:
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`; sides as for
            `similarity.ms_ssim`.
        reconstructions: Floats `[S, B, H, W, C]`, else a `TypeError` or `ValueError`; S at least 1.
        data_range: L of the images, above 0, else a `ValueError`.
        window: Side of the Gaussian window.
        weights: Exponents of the levels.
        floor: Least mean of a level, see `similarity.ms_ssim`.

    Returns:
        `[S, B]` in [0, 1]; the mean over S scores the image.
    """
    _check_seeds(images, reconstructions)

    def one_seed(reconstruction):
        return 1.0 - similarity.ms_ssim(
            images,
            reconstruction,
            data_range=data_range,
            window=window,
            weights=weights,
            floor=floor,
        )

    return jax.lax.map(one_seed, reconstructions)


def pool_mean(patch_scores: jax.Array) -> jax.Array:
    """Mean over the seeds.

    Args:
        patch_scores: Floats `[S, B, N]`, else a `TypeError` or `ValueError`.

    Returns:
        Scores of patches `[B, N]`; their mean scores the image.
    """
    _check_patch_scores(patch_scores)
    return jnp.mean(masked.widen(patch_scores), axis=0)


def pool_removed_mean(patch_scores: jax.Array, removed: jax.Array) -> jax.Array:
    """Mean over the seeds in which a patch was removed; over all seeds if it never was.

    With `paste_kept`, a kept patch scores almost 0, however anomalous it is.

    Args:
        patch_scores: Floats `[S, B, N]`, else a `TypeError` or `ValueError`; of `multi_seed_scores`
            or squared errors of `masked_autoencoding.patch_mse`.
        removed: Masks `[S, B, N]`, else a `ValueError`.

    Returns:
        Scores of patches `[B, N]`; their mean scores the image.
    """
    _check_patch_scores(patch_scores)
    checks.shape_equal("removed", jnp.shape(removed), jnp.shape(patch_scores))
    removed = jnp.asarray(removed).astype(bool)
    return masked.mean(patch_scores, removed | ~jnp.any(removed, axis=0), axis=0)


def pool_largest(patch_scores: jax.Array) -> jax.Array:
    """The largest of the seeds' image scores, each the mean of its patches' scores.

    Args:
        patch_scores: Floats `[S, B, N]`, else a `TypeError` or `ValueError`.

    Returns:
        Scores of images `[B]`.
    """
    _check_patch_scores(patch_scores)
    return jnp.max(jnp.mean(masked.widen(patch_scores), axis=-1), axis=0)


def _check_seeds(images, reconstructions):
    checks.floating("images", images)
    checks.floating("reconstructions", reconstructions)
    checks.rank_equal("images", jnp.shape(images), "B H W C")
    seeds = max(1, jnp.shape(reconstructions)[0] if jnp.ndim(reconstructions) else 1)
    checks.shape_equal("reconstructions", jnp.shape(reconstructions), (seeds, *jnp.shape(images)))


def _check_patch_scores(patch_scores):
    checks.floating("patch_scores", patch_scores)
    checks.rank_equal("patch_scores", jnp.shape(patch_scores), "S B N")
    if not jnp.shape(patch_scores)[0]:
        raise ValueError(f"patch_scores: expected a seed, got {jnp.shape(patch_scores)}.")
