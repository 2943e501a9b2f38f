"""Structural similarity (SSIM) and its multi-scale form (MS-SSIM): values and maps.

Conventions of this file:

- Images and reconstructions are `[B, H, W, C]`; values come per image `[B]`, maps per pixel. What
  is called a dissimilarity is higher for anomalies, a similarity lower.
- Per channel, with the means mu, variances s^2 and covariance of a Gaussian window at its valid
  positions, C1 = (0.01 L)^2 and C2 = (0.03 L)^2 for the data range L:
      l  = (2 mu_x mu_y + C1) / (mu_x^2 + mu_y^2 + C1)    luminance
      cs = (2 s_xy + C2) / (s_x^2 + s_y^2 + C2)           contrast times structure (C3 = C2 / 2)
  The code computes 1 - l and 1 - cs from the sum and the gap of the images: identical ones get
  exactly 1 with a gradient of exactly 0, and small differences keep their digits.
- `data_range` is the L of the images at hand: 1 for images in [0, 1], `NORMALIZED_RANGE` for ones
  normalized by ImageNet's mean and deviation. Scaling images and range alike changes nothing.
- Two settings are in use. Global: `GLOBAL_WINDOW`, `GLOBAL_WEIGHTS`, for sides of at least 161.
  Local: `LOCAL_WINDOW`, `LOCAL_WEIGHTS`, for sides of at least 17.
- 16-bit inputs are widened: results are float32 or wider.

Sources: document 004, section 6.3.3 and appendix A.3 (IGD); "released" is the code published with
it (github.com/tianyu0207/IGD). SSIM: Wang et al., Image Quality Assessment: From Error Visibility
to Structural Similarity, 2004; MS-SSIM: Wang et al., Multi-scale Structural Similarity for Image
Quality Assessment, 2003.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.losses import checks, filtering, masked

__all__ = [
    "GLOBAL_WEIGHTS",
    "GLOBAL_WINDOW",
    "LOCAL_WEIGHTS",
    "LOCAL_WINDOW",
    "NORMALIZED_RANGE",
    "dissimilarity_map",
    "dissimilarity_product_map",
    "halve",
    "ms_ssim",
    "ms_ssim_levels",
    "resize_nearest",
    "ssim",
    "ssim_map",
]

GLOBAL_WINDOW = 11
GLOBAL_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Document 004, A.3; they sum to 1.0001.
LOCAL_WINDOW = 3
LOCAL_WEIGHTS = (0.0516, 0.3295, 0.3463, 0.2726)
# (1 - 0.406) / 0.225 + 0.485 / 0.229: from the darkest to the brightest value that ImageNet's mean
# and deviation make of a pixel in [0, 1], over all channels; as printed in document 004, 6.3.3.
NORMALIZED_RANGE = 4.7579


def ssim_map(
    images: jax.Array,
    reconstructions: jax.Array,
    *,
    data_range: float,
    window: int = GLOBAL_WINDOW,
    sigma: float = 1.5,
) -> jax.Array:
    """l · cs at every position of the window, per channel.

    Not cut off at 0. It is positive where both factors are negative (a reconstruction close to the
    negated image).

    Args:
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`; sides of at least
            `window`, else a `ValueError`.
        reconstructions: Of the same shape, else a `ValueError`.
        data_range: L, see the top of the file; above 0, else a `ValueError`.
        window: Side of the Gaussian window (3, 7 and 11 are in use).
        sigma: Its standard deviation in pixels.

    Returns:
        Similarities in [-1, 1], `[B, H - window + 1, W - window + 1, C]`.

    References:
        Document 004, eqs. 6.25-6.27.
    """
    ((luminance, contrast),) = _levels(images, reconstructions, data_range, window, (1.0,), sigma)
    return 1.0 - _join(luminance, contrast)


def ssim(
    images: jax.Array,
    reconstructions: jax.Array,
    *,
    data_range: float,
    window: int = GLOBAL_WINDOW,
    sigma: float = 1.5,
) -> jax.Array:
    """Mean of `ssim_map` over positions and channels.

    Args:
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`; sides of at least
            `window`, else a `ValueError`.
        reconstructions: Of the same shape, else a `ValueError`.
        data_range: L, see the top of the file; above 0, else a `ValueError`.
        window: Side of the Gaussian window.
        sigma: Its standard deviation in pixels.

    Returns:
        Similarity per image `[B]` in [-1, 1]; 1 for identical images.
    """
    ((luminance, contrast),) = _levels(images, reconstructions, data_range, window, (1.0,), sigma)
    return 1.0 - jnp.mean(_join(luminance, contrast), axis=(1, 2, 3))


def ms_ssim(
    images: jax.Array,
    reconstructions: jax.Array,
    *,
    data_range: float,
    window: int = GLOBAL_WINDOW,
    weights: Sequence[float] = GLOBAL_WEIGHTS,
    sigma: float = 1.5,
    floor: float = 1e-12,
) -> jax.Array:
    """Mean over channels of prod_m v_m^w_m; v_m is the mean of cs of level m, of l · cs at last.

    Each level sees images half the size of the one before (`halve`). A mean that is not above
    `floor` counts as `floor`, with zero gradient: a level that is negative stops all learning.

    Args:
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`; sides of at least
            `(window - 1) * 2^(levels - 1) + 1`, else a `ValueError`.
        reconstructions: Of the same shape, else a `ValueError`.
        data_range: L, see the top of the file; above 0, else a `ValueError`.
        window: Side of the Gaussian window.
        weights: Exponents w_m, one for each level; not empty, else a `ValueError`.
        sigma: Standard deviation of the window in pixels.
        floor: Least v_m, at least 0, else a `ValueError`; 1e-12 as in the released code. With 0, a
            negative level makes its channel exactly 0.

    Returns:
        Similarity per image `[B]` in [0, 1]; 1 for identical images.

    References:
        Document 004, eq. 6.24 (A.1), with the order of means and products as released.
    """
    if not floor >= 0.0:
        raise ValueError(f"floor: expected a number of at least 0, got {floor}.")
    levels = _levels(images, reconstructions, data_range, window, weights, sigma)
    product = 1.0
    for m, (luminance, contrast) in enumerate(levels):
        deficit = _join(luminance, contrast) if m == len(levels) - 1 else contrast
        value = 1.0 - jnp.mean(deficit, axis=(1, 2))  # [B, C]
        # The inner select keeps the steep slope of the power near 0 out of the backward pass.
        above = value > floor
        power = jnp.where(above, value, 1.0) ** weights[m]
        product *= jnp.where(above, power, floor ** weights[m])
    return jnp.mean(product, axis=-1)


def ms_ssim_levels(
    images: jax.Array,
    reconstructions: jax.Array,
    *,
    data_range: float,
    window: int = GLOBAL_WINDOW,
    weights: Sequence[float] = GLOBAL_WEIGHTS,
    sigma: float = 1.5,
) -> tuple[jax.Array, ...]:
    """max(0, l · cs) at every position of every level; unlike in `ms_ssim`, with l at each.

    Args:
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`; sides as for `ms_ssim`.
        reconstructions: Of the same shape, else a `ValueError`.
        data_range: L, see the top of the file; above 0, else a `ValueError`.
        window: Side of the Gaussian window.
        weights: Only their number counts here, that of the levels.
        sigma: Standard deviation of the window in pixels.

    Returns:
        Similarities in [0, 1], one array `[B, H_m - window + 1, W_m - window + 1, C]` per level,
        with H_1 = H and H_(m+1) = ceil(H_m / 2).

    References:
        Released code.
    """
    levels = _levels(images, reconstructions, data_range, window, weights, sigma)
    return tuple(jax.nn.relu(1.0 - _join(*level)) for level in levels)


def dissimilarity_map(
    images: jax.Array,
    reconstructions: jax.Array,
    *,
    data_range: float,
    window: int = GLOBAL_WINDOW,
    weights: Sequence[float] = GLOBAL_WEIGHTS,
    sigma: float = 1.5,
) -> jax.Array:
    """sum_m w_m (1 - S_m), with the maps S_m of `ms_ssim_levels` resized to the image's size.

    The window has no positions at the border; resizing stretches the maps over it.

    Args:
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`; sides as for `ms_ssim`.
        reconstructions: Of the same shape, else a `ValueError`.
        data_range: L, see the top of the file; above 0, else a `ValueError`.
        window: Side of the Gaussian window.
        weights: Weights w_m, one for each level; not empty, else a `ValueError`.
        sigma: Standard deviation of the window in pixels.

    Returns:
        Dissimilarity per pixel and channel `[B, H, W, C]`, from 0 to the sum of the weights; 0 for
        identical images. `similarity_losses.channel_sum` makes one map of it.

    References:
        Released code; it cuts the sum off at 0, which weights of at least 0 never reach.
    """
    levels = _levels(images, reconstructions, data_range, window, weights, sigma)
    size = jnp.shape(images)[1:3]
    return sum(
        # min(1, 1 - l · cs) is 1 - max(0, l · cs), without the loss of digits near 0.
        weight * resize_nearest(jnp.minimum(_join(*level), 1.0), size)
        for weight, level in zip(weights, levels, strict=True)
    )


def dissimilarity_product_map(
    images: jax.Array,
    reconstructions: jax.Array,
    *,
    data_range: float,
    window: int = GLOBAL_WINDOW,
    weights: Sequence[float] = GLOBAL_WEIGHTS,
    sigma: float = 1.5,
    floor: float = 1e-12,
) -> jax.Array:
    """1 - prod_m S_m^w_m per pixel; S_m is the resized map of cs, of l · cs at the last level.

    Args:
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`; sides as for `ms_ssim`.
        reconstructions: Of the same shape, else a `ValueError`.
        data_range: L, see the top of the file; above 0, else a `ValueError`.
        window: Side of the Gaussian window.
        weights: Exponents w_m, one for each level; not empty, else a `ValueError`.
        sigma: Standard deviation of the window in pixels.
        floor: Least S_m, above 0, else a `ValueError`; below it the gradient is 0.

    Returns:
        Dissimilarity per pixel and channel `[B, H, W, C]` in [0, 1]; 0 for identical images.

    References:
        Document 004, eq. 6.24 read per pixel, as eq. 6.29 uses it. The resizing, which the document
        leaves open, is that of the released code.
    """
    if not floor > 0.0:
        raise ValueError(f"floor: expected a number above 0, got {floor}.")
    levels = _levels(images, reconstructions, data_range, window, weights, sigma)
    size = jnp.shape(images)[1:3]
    logarithm = 0.0
    for m, (luminance, contrast) in enumerate(levels):
        deficit = _join(luminance, contrast) if m == len(levels) - 1 else contrast
        # In the log domain, from 1 - S: exactly 0 for identical images, and exact close to it.
        above = deficit < 1.0 - floor
        logs = jnp.where(above, jnp.log1p(-jnp.where(above, deficit, 0.0)), np.log(floor))
        logarithm += weights[m] * resize_nearest(logs, size)
    return -jnp.expm1(logarithm)


def halve(images: jax.Array) -> jax.Array:
    """Means of 2 x 2 pixels; an odd side gets zeros in front, and they count in the mean.

    Args:
        images: Floats `[B, H, W, C]`, else a `TypeError` or `ValueError`.

    Returns:
        `[B, ceil(H / 2), ceil(W / 2), C]`, at least float32.

    References:
        Released code. It pads both ends of odd sides; the last of these zeros is in no window.
    """
    checks.floating("images", images)
    checks.rank_equal("images", jnp.shape(images), "B H W C")
    images = masked.widen(images)
    batch, height, width, channels = images.shape
    images = jnp.pad(images, ((0, 0), (height % 2, 0), (width % 2, 0), (0, 0)))
    blocks = images.reshape(batch, (height + 1) // 2, 2, (width + 1) // 2, 2, channels)
    return jnp.mean(blocks, axis=(2, 4))


def resize_nearest(maps: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Takes row floor(i · H / H') and column floor(j · W / W') for each output pixel (i, j).

    `jax.image.resize` takes the row nearest to the pixel's center, (i + 1/2) H / H' - 1/2; the two
    differ unless H' is a multiple of H.

    Args:
        maps: `[B, H, W, C]`, else a `ValueError`.
        size: `(H', W')`, at least 1 each, else a `ValueError`.

    Returns:
        `[B, H', W', C]`, of the type of `maps`.

    References:
        Released code: the "nearest" of PyTorch.
    """
    checks.rank_equal("maps", jnp.shape(maps), "B H W C")
    for axis, length in zip((1, 2), size, strict=True):
        checks.positive_integer("size", length)
        sources = np.arange(length) * jnp.shape(maps)[axis] // length
        maps = jnp.take(maps, sources, axis=axis)
    return maps


def _check_sides(shape, window, levels):
    checks.positive_integer("window", window)
    needed = (window - 1) * 2 ** (levels - 1) + 1
    if min(shape[1:3]) < needed:
        raise ValueError(
            f"images: expected sides of at least {needed} for a window of {window} and {levels} "
            f"levels, got {tuple(shape)}."
        )


def _levels(images, reconstructions, data_range, window, weights, sigma):
    """1 - l and 1 - cs of each level, from the largest images to the smallest."""
    checks.floating("images", images)
    checks.floating("reconstructions", reconstructions)
    checks.rank_equal("images", jnp.shape(images), "B H W C")
    checks.shape_equal("reconstructions", jnp.shape(reconstructions), jnp.shape(images))
    if not len(weights):
        raise ValueError("weights: expected at least one, got none.")
    if not data_range > 0.0:
        raise ValueError(f"data_range: expected a number above 0, got {data_range}.")
    _check_sides(jnp.shape(images), window, len(weights))
    kernel = filtering.gaussian_kernel(window, sigma)
    x, y = masked.widen(images), masked.widen(reconstructions)
    # Halving the gap itself keeps that of identical images at exactly 0, however it is rounded.
    total, gap = x + y, x - y
    levels = []
    for m in range(len(weights)):
        if m:
            total, gap = halve(total), halve(gap)
        levels.append(_deficits(total, gap, kernel, data_range))
    return levels


def _deficits(total, gap, kernel, data_range):
    """1 - l and 1 - cs, `[B, H - window + 1, W - window + 1, C]` each, in [0, 2].

    With the sum t = x + y and the gap d = x - y of the images,
        1 - l  = (mu_x - mu_y)^2 / (mu_x^2 + mu_y^2 + C1) = mu_d^2 / ((mu_t^2 + mu_d^2) / 2 + C1),
        1 - cs = var d / (var x + var y + C2)             = var d  / ((var t + var d) / 2 + C2).
    """
    pair = jnp.stack([total, gap])
    moments = jnp.concatenate([pair, jnp.square(pair)])
    moments = filtering.separable_filter(moments, kernel, axes=(2, 3))
    squared_means = jnp.square(moments[:2])
    # Rounding may leave a variance of nothing below 0.
    variances = jax.nn.relu(moments[2:] - squared_means)
    luminance = squared_means[1] / (0.5 * jnp.sum(squared_means, 0) + (0.01 * data_range) ** 2)
    return luminance, variances[1] / (0.5 * jnp.sum(variances, 0) + (0.03 * data_range) ** 2)


def _join(luminance, contrast):
    """1 - l · cs of 1 - l and 1 - cs."""
    return luminance + contrast - luminance * contrast
