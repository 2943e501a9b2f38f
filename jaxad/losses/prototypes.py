"""Prototypes of classes: distances and cosines of pixel features to them, and scores from these.

Conventions of this file:

- `features [..., N]` are one vector per pixel, `prototypes [K, N]` one per class; values per class
  come last, `[..., K]`. Everything is computed in float32, or wider for wider inputs.
- Distances are squared and not divided by N. A larger score is more anomalous.
- `labels [...]` are a class, 0 to K - 1, wherever `where` holds. What lies outside `where` may be
  anything, NaN included.

Sources: document 000 (aux_prototypes: Mahalanobis distances, no code released); document 001 and
its code (github.com/DarioFontanel/PAnS: cosine classifier).
"""

import jax
import jax.numpy as jnp

from jaxad import cosine
from jaxad.losses import checks, cross_entropy, masked, posthoc

__all__ = [
    "cosine_anomaly",
    "cosine_logits",
    "cosine_similarities",
    "cosine_softmax_anomaly",
    "data_variances",
    "image_mean",
    "image_sum",
    "label_distances",
    "log_posterior",
    "nearest_prototype",
    "squared_euclidean",
    "squared_mahalanobis",
]

_LEAST_VARIANCE = 1e-12  # Of pixels that lie on their prototype: its logarithm stays finite.


def squared_mahalanobis(
    features: jax.Array, prototypes: jax.Array, log_variances: jax.Array
) -> jax.Array:
    """D_k(v) = sum over i of (v_i - mu_ki)^2 / sigma_ki, without root and without log-determinant.

    From the differences themselves: the expanded squares cancel where features have an offset.

    Args:
        features: Floats `[..., N]`, else a `TypeError`.
        prototypes: mu, floats `[K, N]`, else a `ValueError`.
        log_variances: log sigma, `[K, N]`, or `[K, 1]` for one variance per class; else a
            `ValueError`.

    Returns:
        Squared distances `[..., K]`, at least 0.

    References:
        Document 000, section 2.1, used in eqs. 5 to 8.
    """
    _check_vectors(features, prototypes)
    checks.floating("log_variances", log_variances)
    checks.broadcastable("log_variances", jnp.shape(log_variances), jnp.shape(prototypes))
    weights = jnp.broadcast_to(jnp.exp(-masked.widen(log_variances)), jnp.shape(prototypes))
    return _weighted_squares(features, prototypes, weights)


def squared_euclidean(features: jax.Array, prototypes: jax.Array) -> jax.Array:
    """D_k(v) = ||v - mu_k||^2.

    Args:
        features: Floats `[..., N]`, else a `TypeError`.
        prototypes: mu, floats `[K, N]`, else a `ValueError`.

    Returns:
        Squared distances `[..., K]`, at least 0.

    References:
        Document 000, section 2.1.
    """
    _check_vectors(features, prototypes)
    return _weighted_squares(features, prototypes, jnp.ones_like(masked.widen(prototypes)))


def log_posterior(distances: jax.Array) -> jax.Array:
    """log P(k | v) = log softmax over k of -D_k(v): a diagnostic, part of no loss of the document.

    Args:
        distances: Floats `[..., K]`, else a `TypeError`.

    Returns:
        Log-probabilities `[..., K]`.

    References:
        Document 000, eq. 5.
    """
    checks.floating("distances", distances)
    return jax.nn.log_softmax(-masked.widen(distances), axis=-1)


def nearest_prototype(distances: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The score map A = min over k of D_k, and the class it is of.

    Of equal distances the first class is taken, and it alone gets the gradient.

    Args:
        distances: Floats `[..., K]`, else a `TypeError`.

    Returns:
        Distances `[...]`, at least float32, and classes `[...]`, int32.

    References:
        Document 000, eq. 6.
    """
    distances = jnp.asarray(distances)
    checks.floating("distances", distances)
    classes = jnp.argmin(distances, axis=-1).astype(jnp.int32)
    # Not jnp.min: it shares the gradient among ties.
    return cross_entropy.select_class(distances, classes), classes


def label_distances(
    distances: jax.Array, labels: jax.Array, where: jax.Array | None = None
) -> jax.Array:
    """A(x, y): the distance to the prototype of each pixel's label.

    Args:
        distances: Floats `[..., K]`, else a `TypeError`.
        labels: Integers `[...]` at the size of the feature map, else a `ValueError`; a real label
            that is no class gives NaN.
        where: Pixels that are not void; broadcasts to `labels`, else a `ValueError`.

    Returns:
        Distances `[...]`, at least float32; 0 with zero gradient outside `where`.

    References:
        Document 000, section 3.1.
    """
    return cross_entropy.select_class(distances, labels, where)


def image_sum(score_map: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Score of an image: the sum of its score map, ||A(x)||_1.

    Args:
        score_map: Floats `[..., h, w]`, else a `TypeError`.
        where: Real pixels; broadcasts to `score_map`, else a `ValueError`.

    Returns:
        Scores `[...]`, at least float32; 0 where no pixel is real.

    References:
        Document 000, section 3.1.
    """
    checks.floating("score_map", score_map)
    return masked.total(score_map, where, axis=(-2, -1))


def image_mean(score_map: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Score of an image: the mean of its score map, for images of different sizes.

    Args:
        score_map: Floats `[..., h, w]`, else a `TypeError`.
        where: Real pixels; broadcasts to `score_map`, else a `ValueError`.

    Returns:
        Scores `[...]`, at least float32; 0 where no pixel is real. For maps of one size they rank
        images as `image_sum` does.
    """
    checks.floating("score_map", score_map)
    return masked.mean(score_map, where, axis=(-2, -1))


def data_variances(
    features: jax.Array,
    prototypes: jax.Array,
    labels: jax.Array,
    where: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """sigma_k = mean of (r - mu_k)^2 over channels and pixels of class k, to start from.

    The mean distance of a class's pixels to its prototype then is N, where the probability of
    inclusion is about a half; variances of 1 start far outside, and rare classes stay there.

    Args:
        features: Floats `[B, ..., N]`, else a `TypeError`.
        prototypes: Floats `[K, N]`, else a `ValueError`.
        labels: Integers `[B, ...]`, else a `ValueError`.
        where: Pixels that are not void; broadcasts to `labels`, else a `ValueError`.
        axis_name: Named axis of devices; all get the variances of the global batch.

    Returns:
        One variance per class `[K]`, for all its channels; over all pixels for a class without
        any, and 1 for a batch without any. At least 1e-12.

    References:
        Ours: document 000 leaves the first variances open.
    """
    _check_vectors(features, prototypes)
    labels, (classes, channels) = jnp.asarray(labels), jnp.shape(prototypes)
    checks.shape_equal("labels", labels.shape, jnp.shape(features)[:-1])
    real = masked.as_mask(where, labels.shape)
    features = jnp.where(real[..., None], features, 0.0)
    squares = squared_euclidean(features, prototypes) / channels  # [B, ..., K]
    own = real[..., None] & (labels[..., None] == jnp.arange(classes))
    axes = tuple(range(labels.ndim))
    of_class, of_all = (
        masked.mean(squares, mask, axis=axes, axis_name=axis_name)
        for mask in (own, real[..., None])
    )
    present = masked.count(own, squares, axis=axes, axis_name=axis_name) > 0
    any_real = masked.count(real, squares[..., 0], axis_name=axis_name) > 0
    variances = jnp.where(present, of_class, jnp.where(any_real, of_all, 1.0))
    return jnp.maximum(variances, _LEAST_VARIANCE)


def cosine_similarities(
    features: jax.Array, prototypes: jax.Array, *, epsilon: float = 1e-12
) -> jax.Array:
    """s_k = v . w_k / (max(||v||, epsilon) max(||w_k||, epsilon)).

    Lengths are taken relative to the largest entry, so that no square over- or underflows. Below
    epsilon the value follows the formula and the gradient is zero, where it would be 1 / epsilon.

    Args:
        features: v, floats `[..., N]`, else a `TypeError`.
        prototypes: w, floats `[K, N]`, else a `ValueError`.
        epsilon: Least length to divide by.

    Returns:
        Cosines `[..., K]` in [-1, 1] up to rounding; 0 for a zero vector.

    References:
        Document 001, eq. 2; epsilon from its released code.
    """
    _check_vectors(features, prototypes)
    return cosine.similarities(features, prototypes, epsilon=epsilon)


def cosine_logits(
    features: jax.Array, prototypes: jax.Array, *, scale: float = 10.0, epsilon: float = 1e-12
) -> jax.Array:
    """z_k = tau s_k: the logits of the cosine classifier, in [-tau, tau].

    Args:
        features: Floats `[..., N]`, else a `TypeError`.
        prototypes: Floats `[K, N]`, else a `ValueError`.
        scale: tau, which multiplies the cosines.
        epsilon: Least length to divide by.

    Returns:
        Logits `[..., K]`, for `cross_entropy.deeply_supervised_cross_entropy` say.

    References:
        Document 001, eqs. 2 and 3; tau = 10 from its released code.
    """
    return scale * cosine_similarities(features, prototypes, epsilon=epsilon)


def cosine_anomaly(cosines: jax.Array) -> jax.Array:
    """1 - max over k of (s_k + 1) / 2.

    Args:
        cosines: Floats `[..., K]`, without tau, else a `TypeError`.

    Returns:
        Scores `[...]` in [0, 1]: 0 for a feature along a prototype.

    References:
        Document 001, eqs. 4 and 5.
    """
    checks.floating("cosines", cosines)
    return jnp.clip((1.0 - jnp.max(masked.widen(cosines), axis=-1)) / 2.0, 0.0, 1.0)


def cosine_softmax_anomaly(cosines: jax.Array, *, scale: float = 10.0) -> jax.Array:
    """1 - max over k of softmax(tau s)_k, as the sum of the other shares: no cancellation.

    Args:
        cosines: Floats `[..., K]`, without tau, else a `TypeError`.
        scale: tau, which multiplies the cosines.

    Returns:
        Scores `[...]` in [0, 1 - 1 / K].

    References:
        Document 001, eq. 1 on the cosine classifier ("cosine + softmax" of its figure 5).
    """
    checks.floating("cosines", cosines)
    return posthoc.max_softmax(scale * masked.widen(cosines))


def _weighted_squares(features, prototypes, weights):
    """sum over i of weights_ki (v_i - mu_ki)^2 as `[..., K]`, class by class.

    All differences at once, `[..., K, N]`, would be kept several times over for the gradient.
    """
    features = masked.widen(features)

    @jax.checkpoint
    def to_one(one):
        prototype, weight = one
        return jnp.sum(jnp.square(features - prototype) * weight, axis=-1)

    return jnp.moveaxis(jax.lax.map(to_one, (masked.widen(prototypes), weights)), 0, -1)


def _check_vectors(features, prototypes):
    checks.floating("features", features)
    checks.floating("prototypes", prototypes)
    checks.rank_equal("prototypes", jnp.shape(prototypes), "K N")
    checks.shape_equal("features", jnp.shape(features)[-1:], jnp.shape(prototypes)[1:])
