"""Outlier exposure with the probability of inclusion: images are inside classes, or outside all.

Conventions of this file:

- `distances` are squared Mahalanobis distances, `[B, h, w]`; `dimension` is N, see `inclusion`.
- `where` marks real pixels, `valid` real images. What lies outside them may be anything, NaN
  included. Results are float32, or wider for wider inputs.
- Losses come per image `[B]`; those that couple images as a scalar with `axis_name`: each device
  passes its rows and gets the value of the global batch.

Source: document 000 (aux_prototypes), section 3.2, eq. 8; no code was released.
"""

import jax
import jax.numpy as jnp

from jaxad.losses import checks, inclusion, masked

__all__ = [
    "inlier_terms",
    "inlier_terms_mean_log",
    "log_mean_exp",
    "outlier_exposure",
    "outlier_exposure_mean_log",
    "outlier_terms",
]


def log_mean_exp(logs: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """log of the mean over an image's pixels of exp(logs).

    Args:
        logs: Logarithms, floats `[..., h, w]`, else a `TypeError`.
        where: Real pixels; broadcasts to `logs`, else a `ValueError`.

    Returns:
        `[...]`, at least float32; 0 with zero gradient where no pixel is real.
    """
    logs, real = _pixels("logs", logs, where)
    # The lowest number, not -inf: differences of two infinities would be NaN.
    logs = jnp.where(real, logs, jnp.finfo(logs.dtype).min)
    number = masked.count(real, logs, axis=(-2, -1))
    means = jax.nn.logsumexp(logs, axis=(-2, -1)) - jnp.log(jnp.maximum(number, 1.0))
    return jnp.where(number > 0, means, 0.0)


def inlier_terms(distances: jax.Array, dimension: int, where: jax.Array | None = None) -> jax.Array:
    """-log of the mean over pixels of P_I(A(x, y)): the logarithm is outside the mean.

    A pixel's gradient is weighted by its own share of the sum: pixels far outside get none.

    Args:
        distances: Squared distances to the prototypes of the labels, floats `[..., h, w]`, else a
            `TypeError`.
        dimension: N, at least 1, else a `ValueError`.
        where: Real pixels; broadcasts to `distances`, else a `ValueError`.

    Returns:
        Loss per image `[...]`, not reduced, at least 0; 0 where no pixel is real.

    References:
        Document 000, eq. 8, first term.
    """
    distances, real = _pixels("distances", distances, where)
    return -log_mean_exp(inclusion.log_inclusion(distances, dimension), real)


def inlier_terms_mean_log(
    distances: jax.Array, dimension: int, where: jax.Array | None = None
) -> jax.Array:
    """Mean over pixels of -log P_I(A(x, y)): the logarithm is inside, far pixels are pulled in.

    Args:
        distances: Squared distances to the prototypes of the labels, floats `[..., h, w]`, else a
            `TypeError`.
        dimension: N, at least 1, else a `ValueError`.
        where: Real pixels; broadcasts to `distances`, else a `ValueError`.

    Returns:
        Loss per image `[...]`, not reduced, at least `inlier_terms`; 0 where no pixel is real.

    References:
        Ours, a variant of document 000, eq. 8.
    """
    distances, real = _pixels("distances", distances, where)
    return -masked.mean(inclusion.log_inclusion(distances, dimension), real, axis=(-2, -1))


def outlier_terms(
    distances: jax.Array, dimension: int, where: jax.Array | None = None
) -> jax.Array:
    """-log(1 - mean over pixels of P_I(A(x))), as -log of the mean of 1 - P_I.

    Args:
        distances: Squared distances to the nearest prototypes, floats `[..., h, w]`, else a
            `TypeError`.
        dimension: N, at least 1, else a `ValueError`.
        where: Real pixels; broadcasts to `distances`, else a `ValueError`.

    Returns:
        Loss per image `[...]`, not reduced, at least 0; 0 where no pixel is real.

    References:
        Document 000, eq. 8, second term.
    """
    distances, real = _pixels("distances", distances, where)
    return -log_mean_exp(inclusion.log_exclusion(distances, dimension), real)


def outlier_exposure(
    distances: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    dimension: int,
    *,
    where: jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """L_out = mean of `inlier_terms` over normal images + mean of `outlier_terms` over outliers.

    Args:
        distances: Squared distances, floats `[B, h, w]`, else a `ValueError`: of normal images to
            the prototypes of their labels, of outliers to the nearest.
        labels: `[B]`, else a `ValueError`; 0 for normal images, 1 for outliers.
        valid: `[B]`, else a `ValueError`.
        dimension: N, at least 1, else a `ValueError`.
        where: Real pixels; broadcasts to `distances`, else a `ValueError`.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar, at least 0; a kind of image that is missing adds 0.

    References:
        Document 000, eq. 8. Its total loss, eq. 4, adds 0.1 of it to the cross-entropy.
    """
    return _exposure(inlier_terms, distances, labels, valid, dimension, where, axis_name)


def outlier_exposure_mean_log(
    distances: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    dimension: int,
    *,
    where: jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """`outlier_exposure` with `inlier_terms_mean_log`, which does not give up on rare classes.

    Args:
        distances: Squared distances, floats `[B, h, w]`, else a `ValueError`: of normal images to
            the prototypes of their labels, of outliers to the nearest.
        labels: `[B]`, else a `ValueError`; 0 for normal images, 1 for outliers.
        valid: `[B]`, else a `ValueError`.
        dimension: N, at least 1, else a `ValueError`.
        where: Real pixels; broadcasts to `distances`, else a `ValueError`.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar, at least 0; a kind of image that is missing adds 0.

    References:
        Ours, a variant of document 000, eq. 8.
    """
    return _exposure(inlier_terms_mean_log, distances, labels, valid, dimension, where, axis_name)


def _exposure(of_inliers, distances, labels, valid, dimension, where, axis_name):
    checks.rank_equal("distances", jnp.shape(distances), "B h w")
    checks.shape_equal("labels", jnp.shape(labels), jnp.shape(distances)[:1])
    checks.shape_equal("valid", jnp.shape(valid), jnp.shape(distances)[:1])
    distances, real = _pixels("distances", distances, where)
    labels, valid = jnp.asarray(labels), jnp.asarray(valid).astype(bool)

    def part(terms, rows):
        # Rows of the other kind are masked pixel by pixel too: a NaN in one would pass a later
        # mask on the way back.
        each = terms(distances, dimension, real & rows[:, None, None])
        # An image without a real pixel says nothing: it must not thin out the mean.
        return masked.mean(each, rows & jnp.any(real, axis=(1, 2)), axis_name=axis_name)

    return part(of_inliers, (labels == 0) & valid) + part(outlier_terms, (labels == 1) & valid)


def _pixels(name, values, where):
    checks.floating(name, values)
    if jnp.ndim(values) < 2:
        raise ValueError(f"{name}: expected axes [..., h, w], got {jnp.shape(values)}.")
    return masked.zero_outside(values, where)
