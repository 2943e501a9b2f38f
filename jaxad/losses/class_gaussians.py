"""One Gaussian per class with a shared covariance, and the Mahalanobis distance to the nearest.

Statistics of the training features are gathered as sums: `zero`, then `add` for each batch, `merge`
for sums gathered apart, `finish` at the end. Kept are counts, class means and the scatter around
these, which merge without the cancellation that sums of products suffer.

Features are `[..., D]`, whatever the leading axes count (images, or pixels of decoder features).
16-bit inputs are widened: results are float32 or wider.

Source: Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples,
https://arxiv.org/abs/1807.03888, as compared in document 004, chapter 11.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy

from jaxad.losses import checks, devices, masked

__all__ = [
    "ClassGaussians",
    "ClassSums",
    "add",
    "finish",
    "mahalanobis",
    "merge",
    "squared_distances",
    "zero",
]


class ClassSums(NamedTuple):
    """What is known of the features seen so far.

    Attributes:
        count: Number of features of each class `[K]`.
        means: Their means `[K, D]`, 0 for a class without features.
        scatter: Sum over all features of d dᵀ, d the deviation from the class mean, `[D, D]`.
    """

    count: jax.Array
    means: jax.Array
    scatter: jax.Array


class ClassGaussians(NamedTuple):
    """Gaussians with a shared covariance.

    Attributes:
        means: `[K, D]`, 0 for a class without features.
        covariance: Scatter divided by the number of all features, plus the ridge, `[D, D]`.
        factor: Its lower Cholesky factor `[D, D]`.
        present: Whether a class has features `[K]`; the others are nobody's nearest.
    """

    means: jax.Array
    covariance: jax.Array
    factor: jax.Array
    present: jax.Array


def zero(classes: int, dimensions: int, *, dtype: jnp.dtype = jnp.float32) -> ClassSums:
    """The sums of no features.

    Args:
        classes: K, at least 1, else a `ValueError`.
        dimensions: D, at least 1, else a `ValueError`.
        dtype: Of the sums.

    Returns:
        Zeros `[K]`, `[K, D]` and `[D, D]`.
    """
    checks.positive_integer("classes", classes)
    checks.positive_integer("dimensions", dimensions)
    shapes = ((classes,), (classes, dimensions), (dimensions, dimensions))
    return ClassSums(*(jnp.zeros(shape, dtype) for shape in shapes))


def add(
    sums: ClassSums,
    features: jax.Array,
    labels: jax.Array,
    where: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> ClassSums:
    """The sums with the features of a batch added.

    Args:
        sums: Of the features before, for K classes and D dimensions; the same on all devices.
        features: Floats `[..., D]`, else a `TypeError`; D as in `sums`, else a `ValueError`.
        labels: Integers `[...]`, else a `ValueError`. A label that is no class, 0 to K - 1, is
            left out.
        where: Features that count; broadcasts to `labels`, else a `ValueError`. All by default.
        axis_name: Named axis of devices, whose features are all added.

    Returns:
        Sums, the same on all devices.
    """
    checks.floating("features", features)
    checks.shape_equal("sums", jnp.shape(sums.means)[-1:], jnp.shape(features)[-1:])
    checks.shape_equal("labels", jnp.shape(labels), features.shape[:-1])
    where = masked.as_mask(where, features.shape[:-1])
    member = where[..., None] & (labels[..., None] == jnp.arange(sums.count.size))  # [..., K]
    member = member.reshape(-1, sums.count.size)
    features = masked.widen(features).reshape(-1, features.shape[-1])  # [M, D]
    real = jnp.any(member, axis=-1, keepdims=True)
    features = jnp.where(real, features, 0.0)
    member = member.astype(features.dtype)

    def by_class(each):
        return devices.total(_product(member.T, each), axis_name)

    count = devices.total(jnp.sum(member, axis=0), axis_name)
    some = jnp.maximum(count, 1.0)[:, None]
    means = by_class(features) / some
    # What rounding left in the means shows in the sums of the deviations.
    means = means + by_class(jnp.where(real, features - _product(member, means), 0.0)) / some
    apart = jnp.where(real, features - _product(member, means), 0.0)
    scatter = devices.total(_product(apart.T, apart), axis_name)
    return merge(sums, ClassSums(count, means, scatter))


def merge(sums: ClassSums, others: ClassSums) -> ClassSums:
    """The sums of two disjoint sets of features; the order does not matter but for rounding.

    Args:
        sums: Of one set, for K classes and D dimensions: `[K]`, `[K, D]`, `[D, D]`.
        others: Of the other, of the same shapes, else a `ValueError`.

    Returns:
        Sums of the same shapes.

    References:
        Chan et al., Updating Formulae and a Pairwise Algorithm for Computing Sample Variances,
        1982.
    """
    checks.shape_equal("others", jnp.shape(others.means), jnp.shape(sums.means))
    sums, others = jax.tree.map(masked.widen, (sums, others))
    count = sums.count + others.count
    share = others.count / jnp.maximum(count, 1.0)
    step = others.means - sums.means
    between = _product((step * (sums.count * share)[:, None]).T, step)
    return ClassSums(
        count, sums.means + step * share[:, None], sums.scatter + others.scatter + between
    )


def finish(sums: ClassSums, *, ridge: float = 1e-5) -> ClassGaussians:
    """Class means, shared covariance and its Cholesky factor.

    Args:
        sums: For K classes and D dimensions: `[K]`, `[K, D]`, `[D, D]`.
        ridge: Share of the mean variance that is added to all variances, at least 0, else a
            `ValueError`. It keeps a constant feature from making the covariance singular; with
            fewer features than dimensions in float32, take more. 0 for the plain covariance.

    Returns:
        Gaussians; the covariance of no features, or of equal ones, is the unit matrix.
    """
    checks.rank_equal("sums", jnp.shape(sums.means), "K D")
    if not ridge >= 0.0:
        raise ValueError(f"ridge: expected a number of at least 0, got {ridge}.")
    sums = jax.tree.map(masked.widen, sums)
    covariance = sums.scatter / jnp.maximum(jnp.sum(sums.count), 1.0)
    variance = jnp.mean(jnp.diagonal(covariance))
    unit = jnp.eye(covariance.shape[0], dtype=covariance.dtype)
    covariance = covariance + jnp.where(variance > 0.0, ridge * variance, 1.0) * unit
    factor = jnp.linalg.cholesky(covariance)
    return ClassGaussians(sums.means, covariance, factor, sums.count > 0.0)


def squared_distances(features: jax.Array, gaussians: ClassGaussians) -> jax.Array:
    """(f - mean_k)ᵀ covariance⁻¹ (f - mean_k) for each class, by a triangular solve.

    Args:
        features: f, floats `[..., D]`, else a `TypeError`; D as in `gaussians`, else a
            `ValueError`.
        gaussians: Of `finish`.

    Returns:
        `[..., K]`, at least float32; for a class without features it is the distance to 0.
    """
    checks.floating("features", features)
    means, factor = masked.widen(gaussians.means), masked.widen(gaussians.factor)
    checks.shape_equal("features", jnp.shape(features)[-1:], means.shape[-1:])
    rows = masked.widen(features).reshape(-1, means.shape[-1])

    def whiten(vectors):
        return jax.scipy.linalg.solve_triangular(factor, vectors.T, lower=True).T

    rows = whiten(rows)  # [M, D]

    # Class after class: |u|² - 2 u·w + |w|² would cancel, and all differences at once are M K D
    # numbers. The checkpoint keeps the gradient from storing them.
    @jax.checkpoint
    def to_class(mean):
        return jnp.sum(jnp.square(rows - mean), axis=-1)

    distances = jax.lax.map(to_class, whiten(means))  # [K, M]
    return distances.T.reshape(*jnp.shape(features)[:-1], means.shape[0])


def mahalanobis(features: jax.Array, gaussians: ClassGaussians) -> jax.Array:
    """Squared Mahalanobis distance to the nearest class.

    Args:
        features: Floats `[..., D]`, else a `TypeError`; D as in `gaussians`, else a `ValueError`.
        gaussians: Of `finish`; classes without features are left out.

    Returns:
        Score `[...]`, at least float32; 0 if no class has features. Higher is more anomalous.
    """
    distances = squared_distances(features, gaussians)
    present = jnp.asarray(gaussians.present).astype(bool)
    nearest = jnp.min(jnp.where(present, distances, jnp.finfo(distances.dtype).max), axis=-1)
    return jnp.where(jnp.any(present), nearest, 0.0)


def _product(a, b):
    # Without "highest", accelerators round the factors to fewer bits than float32 has.
    return jnp.matmul(a, b, precision="highest")
