"""Losses and scores of reconstructions: mean absolute error, mixed with MS-SSIM.

Conventions of this file:

- Images and reconstructions are `[B, H, W, C]`; losses come per image `[B]`, maps per pixel
  `[B, H, W]`. Higher is more anomalous.
- rho weighs the absolute error, 1 - rho the dissimilarity 1 - MS-SSIM; both are means over pixels
  and channels, where the document prints sums. `data_range`, `window` and `weights` are those of
  `similarity.ms_ssim`, which also says how large images must be.

Sources: document 004, chapters 4 to 6; "released" is the code published with chapter 6
(github.com/tianyu0207/IGD).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxad.losses import checks, masked, similarity

__all__ = [
    "GREY_WEIGHTS",
    "channel_sum",
    "mae",
    "mae_mixed_similarity",
    "mae_ms_ssim",
    "mae_ms_ssim_map",
    "mae_ms_ssim_range_scaled",
    "mae_ms_ssim_range_scaled_map",
    "mae_ms_ssim_released",
    "mixed_dissimilarity",
]

GREY_WEIGHTS = (0.2989, 0.5870, 0.1140)  # Of red, green and blue, released code; sum 0.9999.


def mae(images: jax.Array, reconstructions: jax.Array) -> jax.Array:
    """Mean of |x - x'| over pixels and channels; the gradient is zero where they are equal.

    Args:
        images: Floats `[B, ...]`, else a `TypeError`.
        reconstructions: Of the same shape, else a `ValueError`.

    Returns:
        `[B]`, at least float32.
    """
    gaps = masked.absolute(_gaps(images, reconstructions))
    return jnp.mean(gaps, axis=tuple(range(1, gaps.ndim)))


def mae_ms_ssim(
    images: jax.Array,
    reconstructions: jax.Array,
    *,
    data_range: float,
    rho: float = 0.15,
    window: int = similarity.GLOBAL_WINDOW,
    weights: Sequence[float] = similarity.GLOBAL_WEIGHTS,
    floor: float = 1e-12,
) -> jax.Array:
    """rho mean |x - x'| + (1 - rho) (1 - MS-SSIM).

    Args:
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`.
        reconstructions: Of the same shape, else a `ValueError`.
        data_range: L of the images, above 0, else a `ValueError`.
        rho: Share of the absolute error, in [0, 1], else a `ValueError`.
        window: Side of the Gaussian window.
        weights: Exponents of the levels.
        floor: Least mean of a level, see `similarity.ms_ssim`.

    Returns:
        Loss per image `[B]`; 0 for identical images.

    References:
        Document 004, eq. 6.12, with means in place of sums.
    """
    terms = (data_range, rho, window, weights, floor)
    return _mix(mae(images, reconstructions), images, reconstructions, *terms)


def mae_ms_ssim_range_scaled(
    images: jax.Array,
    reconstructions: jax.Array,
    *,
    data_range: float,
    rho: float = 0.15,
    window: int = similarity.GLOBAL_WINDOW,
    weights: Sequence[float] = similarity.GLOBAL_WEIGHTS,
    floor: float = 1e-12,
) -> jax.Array:
    """rho mean |x - x'| / L + (1 - rho) (1 - MS-SSIM).

    Args:
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`.
        reconstructions: Of the same shape, else a `ValueError`.
        data_range: L of the images, above 0, else a `ValueError`.
        rho: Share of the absolute error, in [0, 1], else a `ValueError`.
        window: Side of the Gaussian window.
        weights: Exponents of the levels.
        floor: Least mean of a level, see `similarity.ms_ssim`.

    Returns:
        Loss per image `[B]`, in [0, 1] for images within the range; 0 for identical ones.

    References:
        Released code, training.
    """
    terms = (data_range, rho, window, weights, floor)
    return _mix(mae(images, reconstructions) / data_range, images, reconstructions, *terms)


def mae_ms_ssim_released(
    images: jax.Array,
    reconstructions: jax.Array,
    *,
    data_range: float,
    rho: float = 0.15,
    window: int = similarity.GLOBAL_WINDOW,
    weights: Sequence[float] = similarity.GLOBAL_WEIGHTS,
    floor: float = 1e-12,
) -> jax.Array:
    """rho mean (x - x') / L + (1 - rho) (1 - MS-SSIM): errors of both signs cancel.

    A reconstruction that is too bright lowers the score. To reproduce published numbers only.

    Args:
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`.
        reconstructions: Of the same shape, else a `ValueError`.
        data_range: L of the images, above 0, else a `ValueError`.
        rho: Share of the absolute error, in [0, 1], else a `ValueError`.
        window: Side of the Gaussian window.
        weights: Exponents of the levels.
        floor: Least mean of a level, see `similarity.ms_ssim`.

    Returns:
        Score per image `[B]`, from -rho to 1 for images within the range.

    References:
        Released code, the score of the local model.
    """
    gaps = _gaps(images, reconstructions) / data_range
    terms = (data_range, rho, window, weights, floor)
    return _mix(jnp.mean(gaps, axis=(1, 2, 3)), images, reconstructions, *terms)


def mae_ms_ssim_map(
    images: jax.Array,
    reconstructions: jax.Array,
    *,
    data_range: float,
    rho: float = 0.15,
    window: int = similarity.GLOBAL_WINDOW,
    weights: Sequence[float] = similarity.GLOBAL_WEIGHTS,
    channel_weights: jax.Array | None = None,
) -> jax.Array:
    """rho |x - x'| + (1 - rho) sum_m w_m (1 - S_m), per pixel.

    The second term is `similarity.dissimilarity_map`.

    Args:
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`.
        reconstructions: Of the same shape, else a `ValueError`.
        data_range: L of the images, above 0, else a `ValueError`.
        rho: Share of the absolute error, in [0, 1], else a `ValueError`.
        window: Side of the Gaussian window.
        weights: Weights of the levels.
        channel_weights: Weights `[C]` of the channels, see `channel_sum`; by default the mean.

    Returns:
        Anomaly map `[B, H, W]`; 0 for identical images.

    References:
        Document 004, eq. 6.29, with the similarity per pixel as released.
    """
    terms = (data_range, rho, window, weights)
    maps = _mix_maps(images, reconstructions, 1.0, *terms)
    return channel_sum(maps, channel_weights)


def mae_ms_ssim_range_scaled_map(
    images: jax.Array,
    reconstructions: jax.Array,
    *,
    data_range: float,
    rho: float = 0.15,
    window: int = similarity.GLOBAL_WINDOW,
    weights: Sequence[float] = similarity.GLOBAL_WEIGHTS,
    channel_weights: jax.Array | None = None,
) -> jax.Array:
    """rho |x - x'| / L + (1 - rho) sum_m w_m (1 - S_m), per pixel.

    Maps of overlapping patches are put together by `patches.fold_mean`, or `patches.fold_sum` as in
    the released code, which then takes half the global and half the local map.

    Args:
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`.
        reconstructions: Of the same shape, else a `ValueError`.
        data_range: L of the images, above 0, else a `ValueError`.
        rho: Share of the absolute error, in [0, 1], else a `ValueError`.
        window: Side of the Gaussian window.
        weights: Weights of the levels.
        channel_weights: Weights `[C]` of the channels, see `channel_sum`; by default the mean.

    Returns:
        Anomaly map `[B, H, W]`; 0 for identical images.

    References:
        Released code, with `GREY_WEIGHTS` for color images.
    """
    terms = (data_range, rho, window, weights)
    maps = _mix_maps(images, reconstructions, data_range, *terms)
    return channel_sum(maps, channel_weights)


def mae_mixed_similarity(
    mean_absolute_error: jax.Array,
    global_similarity: jax.Array,
    local_similarity: jax.Array,
    *,
    rho: float = 0.15,
    nu: float = 0.5,
) -> jax.Array:
    """rho MAE + (1 - rho) (1 - (nu m_G + (1 - nu) m_L)).

    Args:
        mean_absolute_error: Of `mae`, divided by the data range where that is wanted; floats
            `[...]`, else a `TypeError`.
        global_similarity: m_G, `[...]`, else a `ValueError`.
        local_similarity: m_L, `[...]`, else a `ValueError`; see `mixed_dissimilarity`.
        rho: Share of the absolute error, in [0, 1], else a `ValueError`.
        nu: Share of the global in the similarity, in [0, 1], else a `ValueError`.

    Returns:
        Scores `[...]`, at least float32.

    References:
        Document 004, eqs. 4.6 and 5.11, with the mean of the absolute error.
    """
    checks.floating("mean_absolute_error", mean_absolute_error)
    checks.shape_equal(
        "mean_absolute_error", jnp.shape(mean_absolute_error), jnp.shape(global_similarity)
    )
    _check_share("rho", rho)
    dissimilarity = mixed_dissimilarity(global_similarity, local_similarity, nu=nu)
    return rho * masked.widen(mean_absolute_error) + (1.0 - rho) * dissimilarity


def channel_sum(maps: jax.Array, channel_weights: jax.Array | None = None) -> jax.Array:
    """sum_c w_c maps[..., c]: one map of several channels.

    Args:
        maps: Floats `[..., C]`, else a `TypeError`.
        channel_weights: Weights `[C]`, else a `ValueError`, used as they are (`GREY_WEIGHTS`, say);
            1 / C each by default: the mean.

    Returns:
        `[...]`, at least float32.
    """
    checks.floating("maps", maps)
    if channel_weights is None:
        return jnp.mean(masked.widen(maps), axis=-1)
    checks.shape_equal("channel_weights", jnp.shape(channel_weights), jnp.shape(maps)[-1:])
    maps = masked.widen(maps)
    return jnp.sum(maps * jnp.asarray(channel_weights, maps.dtype), axis=-1)


def mixed_dissimilarity(
    global_similarity: jax.Array, local_similarity: jax.Array, *, nu: float = 0.5
) -> jax.Array:
    """1 - (nu m_G + (1 - nu) m_L).

    The local similarity of an image is the least of its patches', if a local model reconstructs
    patches: then the dissimilarity is that of the worst patch. Per pixel, pass 1 - map.

    Args:
        global_similarity: m_G, floats `[...]` in [0, 1], else a `TypeError`.
        local_similarity: m_L, of the same shape, else a `ValueError`.
        nu: Share of the global similarity; in [0, 1], else a `ValueError`.

    Returns:
        Scores `[...]` in [0, 1], at least float32.

    References:
        Document 004, 4.2.2: the score of the MS-SSIM auto-encoder, and in eqs. 4.6 and 5.11.
    """
    checks.floating("global_similarity", global_similarity)
    checks.floating("local_similarity", local_similarity)
    checks.shape_equal(
        "local_similarity", jnp.shape(local_similarity), jnp.shape(global_similarity)
    )
    _check_share("nu", nu)
    # The complements are mixed, as 1 minus a mix of ones need not be 0.
    mixed = nu * (1.0 - masked.widen(global_similarity))
    return mixed + (1.0 - nu) * (1.0 - masked.widen(local_similarity))


def _mix(error, images, reconstructions, data_range, rho, window, weights, floor):
    _check_share("rho", rho)
    alike = similarity.ms_ssim(
        images, reconstructions, data_range=data_range, window=window, weights=weights, floor=floor
    )
    return rho * error + (1.0 - rho) * (1.0 - alike)


def _mix_maps(images, reconstructions, scale, data_range, rho, window, weights):
    _check_share("rho", rho)
    unlike = similarity.dissimilarity_map(
        images, reconstructions, data_range=data_range, window=window, weights=weights
    )
    gaps = masked.absolute(_gaps(images, reconstructions))
    return rho * gaps / scale + (1.0 - rho) * unlike


def _gaps(images, reconstructions):
    checks.floating("images", images)
    checks.floating("reconstructions", reconstructions)
    checks.shape_equal("reconstructions", jnp.shape(reconstructions), jnp.shape(images))
    return masked.widen(images) - masked.widen(reconstructions)


def _check_share(name, value):
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}: expected a number in [0, 1], got {value}.")
