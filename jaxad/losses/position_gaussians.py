"""A Gaussian for every position of a feature grid, and distances from it: PaDiM.

The features of normal images are gathered with `moments.zero_full((H, W, D))` and `moments.add`
(or `zero_diagonal`); `check_rows` refuses too few of them; `finish` turns them into Gaussians;
`mahalanobis` gives a map. A single Gaussian for all positions comes from the same functions: gather
`features.reshape(-1, D)`.

Sources: "document" is the thesis whose section 5.3.3 uses PaDiM (Defard et al., PaDiM: a Patch
Distribution Modeling Framework, ICPR 2021); "released" is what the public reproductions do, there
being no official code (github.com/xiahaifeng1995/PaDiM-Anomaly-Detection-Localization-master).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.losses import checks, devices, filtering, masked, similarity
from jaxad.losses.moments import Moments

__all__ = [
    "DiagonalGaussians",
    "Gaussians",
    "check_positive_definite",
    "check_rows",
    "concatenate_layers",
    "covariance",
    "draw_channels",
    "finish",
    "finish_diagonal",
    "image_score",
    "mahalanobis",
    "mahalanobis_diagonal",
    "min_max_released",
    "smooth_maps",
    "upsample_maps",
]


class Gaussians(NamedTuple):
    """Fitted Gaussians.

    Attributes:
        mean: μ `[..., D]`.
        cholesky: L `[..., D, D]`, lower triangular, Σ = L Lᵀ.
    """

    mean: jax.Array
    cholesky: jax.Array


class DiagonalGaussians(NamedTuple):
    """Fitted Gaussians without covariances.

    Attributes:
        mean: μ `[..., D]`.
        variance: `[..., D]`.
    """

    mean: jax.Array
    variance: jax.Array


def concatenate_layers(layers: Sequence[jax.Array], channels: jax.Array | None = None) -> jax.Array:
    """Feature maps side by side on the grid of the first, as a rule the finest.

    Args:
        layers: Maps `[B, h_l, w_l, C_l]`, at least one, else a `ValueError`; they are resized to
            the first one's grid by `similarity.resize_nearest`.
        channels: Which of all channels, counted through the layers in order, to keep: integers
            `[D]`, else a `ValueError`; all by default. See `draw_channels`.

    Returns:
        `[B, h_1, w_1, D]`.
    """
    if not layers:
        raise ValueError("layers: expected at least one feature map, got none.")
    for place, layer in enumerate(layers):
        checks.rank_equal(f"layers[{place}]", jnp.shape(layer), "B h w C")
    size = layers[0].shape[1:3]
    features = jnp.concatenate(
        [similarity.resize_nearest(layer, size) for layer in layers], axis=-1
    )
    if channels is None:
        return features
    checks.rank_equal("channels", jnp.shape(channels), "D")
    return jnp.take(features, channels, axis=-1)


def draw_channels(key: jax.Array, *, total: int, kept: int) -> jax.Array:
    """Channels drawn without replacement, in rising order; draw once, for fit and score.

    Args:
        key: A typed key, the same on all devices.
        total: Channels of all layers together.
        kept: D, at least 1 and at most `total`, else a `ValueError` (100 of 448 for ResNet18, 550
            of 1,792 for WideResNet50-2).

    Returns:
        int32 `[D]`.
    """
    checks.positive_integer("total", total)
    checks.positive_integer("kept", kept)
    if kept > total:
        raise ValueError(f"kept: expected at most total = {total}, got {kept}.")
    return jnp.sort(jax.random.permutation(key, jnp.arange(total, dtype=jnp.int32))[:kept])


def covariance(moments: Moments, *, epsilon: float = 0.01) -> jax.Array:
    """Σ = Σ_i (x_i - μ)(x_i - μ)ᵀ / (N - 1) + ε I.

    Args:
        moments: Of `moments.zero_full((..., D))`, else a `ValueError`, with N ≥ 2 rows; with fewer,
            which only values tell, Σ = ε I: `check_rows` refuses them.
        epsilon: What makes Σ positive definite if N ≤ D.

    Returns:
        `[..., D, D]`, at least float32. Source: released code.
    """
    mean, scatter = masked.widen(moments.mean), masked.widen(moments.scatter)
    checks.shape_equal("moments.scatter", scatter.shape, (*mean.shape, *mean.shape[-1:]))
    identity = jnp.eye(mean.shape[-1], dtype=scatter.dtype)
    return scatter / _degrees_of_freedom(moments, scatter) + epsilon * identity


def finish(moments: Moments, *, epsilon: float = 0.01) -> Gaussians:
    """Means, and the Cholesky factors of `covariance`.

    Args:
        moments: Of `moments.zero_full((..., D))`, else a `ValueError`, with N ≥ 2 rows.
        epsilon: See `covariance`.

    Returns:
        Mean `[..., D]` and factor `[..., D, D]`; the factor is NaN where Σ is not positive
        definite: let `check_positive_definite` say where.
    """
    matrices = covariance(moments, epsilon=epsilon)
    # Symmetric as they are built: symmetrizing would copy what may be gigabytes.
    factors = jax.lax.linalg.cholesky(matrices, symmetrize_input=False)
    return Gaussians(masked.widen(moments.mean), factors)


def finish_diagonal(moments: Moments, *, epsilon: float = 0.01) -> DiagonalGaussians:
    """Means and variances, Σ_i (x_i - μ)² / (N - 1) + ε.

    Args:
        moments: Of `moments.zero_diagonal((..., D))`, else a `ValueError`, with N ≥ 2 rows.
        epsilon: Added to every variance.

    Returns:
        Mean and variance `[..., D]`.
    """
    mean, scatter = masked.widen(moments.mean), masked.widen(moments.scatter)
    checks.shape_equal("moments.scatter", scatter.shape, mean.shape)
    variance = scatter / _degrees_of_freedom(moments, scatter) + epsilon
    return DiagonalGaussians(mean, variance)


def check_positive_definite(gaussians: Gaussians, covariances: jax.Array) -> None:
    """Raises a `ValueError` that names the first position without a Cholesky factor; on the host.

    Args:
        gaussians: Of `finish`, mean `[..., D]`.
        covariances: Of `covariance`, `[..., D, D]`: for the smallest eigenvalue.
    """
    broken = ~np.isfinite(np.asarray(gaussians.cholesky)).all(axis=(-2, -1))
    if broken.any():
        position = tuple(int(i) for i in np.argwhere(broken)[0])
        matrix = np.asarray(covariances, np.float64)[position]
        smallest = np.linalg.eigvalsh(matrix)[0] if np.isfinite(matrix).all() else np.nan
        raise ValueError(
            f"covariances: expected positive definite matrices, got {int(broken.sum())} that are "
            f"not; at position {position} the smallest eigenvalue is {smallest:.3g}."
        )


def check_rows(moments: Moments) -> None:
    """Raises a `ValueError` unless N ≥ 2: one row has no covariance; on the host, before `finish`.

    Args:
        moments: Of all rows, from all devices; the count is a scalar.
    """
    rows = int(moments.count)
    if rows < 2:
        raise ValueError(f"moments: expected at least 2 rows (images), got {rows}.")


def mahalanobis(features: jax.Array, gaussians: Gaussians) -> jax.Array:
    """M = √((x - μ)ᵀ Σ⁻¹ (x - μ)) = ‖L⁻¹ (x - μ)‖ at each position (document, eq. 5.12).

    Args:
        features: Floats `[B, ..., D]`, else a `TypeError`; their last axes are those of the means,
            `[..., D]`, else a `ValueError`. A mean `[D]` is shared by all positions.
        gaussians: Of `finish`; factors `[..., D, D]`, else a `ValueError`.

    Returns:
        Distances `[B, ...]`, at least float32, with zero gradient where they are 0.
    """
    mean, factor = masked.widen(gaussians.mean), masked.widen(gaussians.cholesky)
    checks.shape_equal("gaussians.cholesky", factor.shape, (*mean.shape, *mean.shape[-1:]))
    difference = _difference(features, mean)
    rows = difference.shape[: difference.ndim - mean.ndim]
    # One triangular solve per position, its right-hand sides the images (and, with a shared
    # Gaussian, their positions).
    sides = jnp.moveaxis(difference.reshape(-1, *mean.shape), 0, -1)  # [..., D, B]
    solved = jax.scipy.linalg.solve_triangular(factor, sides, lower=True)
    distances = jnp.moveaxis(masked.norm(solved, True, axis=-2), -1, 0)  # [B, ...]
    return distances.reshape(*rows, *mean.shape[:-1])


def mahalanobis_diagonal(features: jax.Array, gaussians: DiagonalGaussians) -> jax.Array:
    """M = √(Σ_d (x_d - μ_d)² / variance_d) at each position.

    Args:
        features: Floats `[B, ..., D]`, else a `TypeError`; their last axes are those of the means,
            `[..., D]`, else a `ValueError`.
        gaussians: Of `finish_diagonal`.

    Returns:
        Distances `[B, ...]`, at least float32, with zero gradient where they are 0.
    """
    mean, variance = masked.widen(gaussians.mean), masked.widen(gaussians.variance)
    checks.shape_equal("gaussians.variance", variance.shape, mean.shape)
    return masked.norm(_difference(features, mean) * jax.lax.rsqrt(variance), True, axis=-1)


def upsample_maps(maps: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Bilinear interpolation between pixel centers (PyTorch's `align_corners=False`).

    Args:
        maps: Floats `[B, h, w]`, else a `ValueError`.
        size: (H, W), each at least 1, else a `ValueError`.

    Returns:
        `[B, H, W]`, at least float32.
    """
    checks.floating("maps", maps)
    checks.rank_equal("maps", jnp.shape(maps), "B h w")
    for side in size:
        checks.positive_integer("size", side)
    maps = masked.widen(maps)
    return jax.image.resize(maps, (maps.shape[0], *size), "bilinear", antialias=False)


def smooth_maps(maps: jax.Array, *, sigma: float = 4.0) -> jax.Array:
    """Gaussian blur of radius ⌊4 σ + ½⌋ with mirrored borders, d c b a | a b c d | d c b a.

    Args:
        maps: Floats `[B, H, W]`, else a `ValueError`; they may be smaller than the radius.
        sigma: σ in pixels, above 0, else a `ValueError`.

    Returns:
        `[B, H, W]`, at least float32; equal to `scipy.ndimage.gaussian_filter` of each map.
    """
    checks.floating("maps", maps)
    checks.rank_equal("maps", jnp.shape(maps), "B H W")
    radius = int(4.0 * sigma + 0.5)
    kernel = filtering.gaussian_kernel(2 * max(radius, 0) + 1, sigma)
    border = ((0, 0), (radius, radius), (radius, radius))
    return filtering.separable_filter(jnp.pad(maps, border, mode="symmetric"), kernel)


def image_score(maps: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """The largest value of a map: of distances as they are (document, section 5.3.3), or blurred.

    Args:
        maps: Floats `[B, H, W]`, else a `ValueError`.
        where: Pixels that count; broadcasts to `maps`, else a `ValueError`. All by default.

    Returns:
        Scores `[B]`, at least float32; 0 where no pixel counts.
    """
    maps, where = _maps(maps, where)
    return _largest(maps, where, axis=(1, 2))


def min_max_released(
    maps: jax.Array, where: jax.Array | None = None, *, axis_name: str | None = None
) -> jax.Array:
    """(M - smallest) / (largest - smallest), both over all maps; released code.

    The reproductions take the extremes of the whole test set: give it in one piece. The order of
    scores does not change. Not for serving, where the other images are not known.

    Args:
        maps: Floats `[B, H, W]`, else a `ValueError`.
        where: Pixels that count; broadcasts to `maps`, else a `ValueError`. All by default.
        axis_name: Named axis of devices, each with maps of its own.

    Returns:
        `[B, H, W]` in [0, 1]; 0 where no pixel counts, or all are equal.
    """
    maps, where = _maps(maps, where)
    extremes = jnp.stack([_largest(maps, where), -_largest(-maps, where), jnp.any(where)])[None]
    extremes = devices.gather(extremes, axis_name)
    held = extremes[:, 2] > 0  # Devices without a pixel have no say.
    high = _largest(extremes[:, 0], held)
    low = -_largest(-extremes[:, 1], held)
    span = high - low
    shares = (jnp.where(where, maps, low) - low) / jnp.where(span > 0.0, span, 1.0)
    return jnp.where(span > 0.0, shares, 0.0)


def _degrees_of_freedom(moments, like):
    return jnp.maximum(jnp.asarray(moments.count).astype(like.dtype) - 1.0, 1.0)


def _difference(features, mean):
    checks.floating("features", features)
    checks.shape_equal("features", jnp.shape(features)[-mean.ndim :], mean.shape)
    return masked.widen(features) - mean


def _maps(maps, where):
    checks.floating("maps", maps)
    checks.rank_equal("maps", jnp.shape(maps), "B H W")
    return masked.zero_outside(maps, where)


def _largest(values, where, axis=None):
    """The largest entry that counts, 0 where none does."""
    largest = jnp.max(values, axis=axis, where=where, initial=-jnp.inf)
    return jnp.where(jnp.any(where, axis=axis), largest, 0.0)
