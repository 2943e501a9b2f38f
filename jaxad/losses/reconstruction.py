"""Errors of reconstructions: losses of encoders and decoders, and the scores of the same name.

Conventions of this file:

- One value per example `[B]`, over all entries of an example, or one per pixel `[B, H, W]`. The
  caller averages over the batch and weighs terms. Higher is more anomalous; a perfect
  reconstruction scores 0.
- The same formula serves images, latents and features, under several names in the literature:

  | name | formula | function, of |
  | --- | --- | --- |
  | ADGAN score A(x), VAE error | ||x - x^||² | `squared_error_sum`, images |
  | ADGAN cycle | ||z - E(G(z))||² | `squared_error_sum`, latents |
  | izi, MSE of auto-encoders | mean (x - x^)² | `squared_error_mean`, images |
  | ziz | mean (z - E(G(z)))² | `squared_error_mean`, latents |
  | feature residual | mean (phi(x) - phi(x^))² | `squared_error_mean`, critic features |
  | izif | izi + kappa · feature residual | `image_and_feature_error` |
  | f-AnoGAN of document 004 | norms of both residuals | `image_and_latent_norm` |

- No function here takes a mask: rows of padding come out like the others and must be finite, or the
  zero gradient of a row that is dropped later turns into NaN. `masked.zero_outside` makes them so.
- 16-bit inputs are widened.
"""

import jax
import jax.numpy as jnp

from jaxad.losses import checks, masked
from jaxad.losses.exponential import capped_exp

__all__ = [
    "absolute_error_map",
    "error_norm",
    "error_norm_map",
    "gaussian_kl",
    "image_and_feature_error",
    "image_and_latent_norm",
    "squared_error_map",
    "squared_error_mean",
    "squared_error_sum",
]


def squared_error_sum(values: jax.Array, reconstructions: jax.Array) -> jax.Array:
    """||x - x^||², the sum over an example's entries.

    Args:
        values: Floats `[B, ...]`, else a `TypeError`.
        reconstructions: The shape of `values`, else a `ValueError`.

    Returns:
        `[B]`.

    References:
        Document 004, eq. 3.7 (score), section 3.3 (cycle).
    """
    residuals = _residuals(values, reconstructions)
    return jnp.sum(jnp.square(residuals), axis=_entries(residuals))


def squared_error_mean(values: jax.Array, reconstructions: jax.Array) -> jax.Array:
    """||x - x^||² / n, n an example's number of entries.

    Args:
        values: Floats `[B, ...]`, else a `TypeError`.
        reconstructions: The shape of `values`, else a `ValueError`.

    Returns:
        `[B]`.

    References:
        Schlegl et al., f-AnoGAN, 2019 (izi, ziz).
    """
    residuals = _residuals(values, reconstructions)
    return jnp.mean(jnp.square(residuals), axis=_entries(residuals))


def error_norm(values: jax.Array, reconstructions: jax.Array) -> jax.Array:
    """||x - x^||; the gradient at x = x^ is zero.

    Args:
        values: Floats `[B, ...]`, else a `TypeError`.
        reconstructions: The shape of `values`, else a `ValueError`.

    Returns:
        `[B]`.
    """
    residuals = _residuals(values, reconstructions)
    return masked.norm(residuals, True, axis=_entries(residuals))


def image_and_feature_error(
    images: jax.Array,
    reconstructions: jax.Array,
    features: jax.Array,
    reconstruction_features: jax.Array,
    *,
    kappa: float = 1.0,
) -> jax.Array:
    """mean (x - x^)² + kappa mean (phi(x) - phi(x^))²: izif, loss of the encoder and score.

    Args:
        images: x `[B, ...]`.
        reconstructions: x^ = G(E(x)), the shape of `images`, else a `ValueError`.
        features: Of the critic's last layer but one, of x `[B, ...]`.
        reconstruction_features: The same of x^, the shape of `features`, else a `ValueError`.
        kappa: Weight of the features.

    Returns:
        `[B]`.

    References:
        Schlegl et al., f-AnoGAN, 2019 (github.com/tSchlegl/f-AnoGAN).
    """
    _check("reconstruction_features", reconstruction_features, "features", features)
    image_error = squared_error_mean(images, reconstructions)
    return image_error + kappa * squared_error_mean(features, reconstruction_features)


def image_and_latent_norm(
    images: jax.Array,
    reconstructions: jax.Array,
    latents: jax.Array,
    reconstruction_latents: jax.Array,
    *,
    kappa: float = 1.0,
) -> jax.Array:
    """||x - x^|| + kappa ||E(x) - E(x^)||: encodings for features, plain norms.

    The first norm grows with the root of the image's size, the second does not.

    Args:
        images: x `[B, ...]`.
        reconstructions: x^ = G(E(x)), the shape of `images`, else a `ValueError`.
        latents: E(x) `[B, ...]`.
        reconstruction_latents: E(x^), the shape of `latents`, else a `ValueError`.
        kappa: Weight of the latents.

    Returns:
        `[B]`; 0 only for x = x^ if `kappa` is not negative.

    References:
        Document 004, eq. 4.7.
    """
    _check("reconstruction_latents", reconstruction_latents, "latents", latents)
    image_norm = error_norm(images, reconstructions)
    return image_norm + kappa * error_norm(latents, reconstruction_latents)


def squared_error_map(images: jax.Array, reconstructions: jax.Array) -> jax.Array:
    """Mean over channels of (x - x^)² at each pixel (ADGAN).

    Args:
        images: Floats `[..., C]`, else a `TypeError`.
        reconstructions: The shape of `images`, else a `ValueError`.

    Returns:
        `[...]`.
    """
    return jnp.mean(jnp.square(_residuals(images, reconstructions, "images")), axis=-1)


def absolute_error_map(images: jax.Array, reconstructions: jax.Array) -> jax.Array:
    """Mean over channels of |x - x^| at each pixel, zero gradient where both are equal (f-AnoGAN).

    Args:
        images: Floats `[..., C]`, else a `TypeError`.
        reconstructions: The shape of `images`, else a `ValueError`.

    Returns:
        `[...]`.
    """
    residuals = _residuals(images, reconstructions, "images")
    return jnp.mean(masked.absolute(residuals), axis=-1)


def error_norm_map(images: jax.Array, reconstructions: jax.Array) -> jax.Array:
    """Norm over channels of x - x^ at each pixel, zero gradient where both are equal.

    Args:
        images: Floats `[..., C]`, else a `TypeError`.
        reconstructions: The shape of `images`, else a `ValueError`.

    Returns:
        `[...]`.

    References:
        Document 004, eq. 4.7, for one pixel.
    """
    return masked.norm(_residuals(images, reconstructions, "images"), True, axis=-1)


def gaussian_kl(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """1/2 sum (m² + s² - 1 - log s²): KL(N(m, s²) || N(0, 1)) of a variational posterior.

    Args:
        mean: m `[B, ...]`, floats, else a `TypeError`.
        log_variance: log s², the shape of `mean`, else a `ValueError`; `capped_exp` of it enters.

    Returns:
        `[B]`, at least 0.
    """
    _check("log_variance", log_variance, "mean", mean)
    mean, log_variance = masked.widen(mean), masked.widen(log_variance)
    # expm1 keeps the digits of a variance near 1; it would overflow for the large ones.
    small = log_variance < 1.0
    excess = jnp.where(
        small, jnp.expm1(jnp.where(small, log_variance, 0.0)), capped_exp(log_variance) - 1.0
    )
    each = jnp.square(mean) + (excess - log_variance)
    return 0.5 * jnp.sum(each, axis=_entries(each))


def _residuals(values, reconstructions, name="values"):
    _check("reconstructions", reconstructions, name, values)
    return masked.widen(values) - masked.widen(reconstructions)


def _check(name, given, like_name, like):
    checks.floating(like_name, like)
    checks.floating(name, given)
    checks.shape_equal(name, jnp.shape(given), jnp.shape(like))


def _entries(values):
    return tuple(range(1, values.ndim))
