"""Multiple-instance losses: a video is a bag of snippets, of which only the bag's label is known.

Conventions of this file:

- `T` snippets of a video are the last axis of scores and magnitudes; `where` marks the real ones
  among padding. `labels [B]` are 0 (normal) or 1 (anomalous); `valid [B]` marks the rows that are
  no padding.
- Masks are booleans, or zeros and ones. What lies outside a mask may be anything, NaN included.
- Losses come per video `[B]`; those that couple videos come as a scalar and take `axis_name`: then
  each device passes its rows and gets the value of the global batch, ready for gradients that are
  averaged over the axis. A scalar whose videos are missing (no anomalous ones, say) is 0 with zero
  gradient.
- 16-bit inputs are widened: losses are float32 or wider.

Penalties on the course of the scores over time are in `temporal_penalties`, the choice of hard and
easy snippets in `snippet_mining`.

Sources: "document" is the thesis whose chapter 8 describes RTFM; "released" is the code published
with it (github.com/tianyu0207/RTFM); "[211]" is Sultani et al., Real-world Anomaly Detection in
Surveillance Videos, https://arxiv.org/abs/1801.04264, and its code
(github.com/WaqasSultani/AnomalyDetectionCVPR2018).
"""

import math

import jax
import jax.numpy as jnp

from jaxad.losses import checks, devices, masked

__all__ = [
    "bag_bce",
    "binary_cross_entropy",
    "feature_magnitude",
    "magnitude_hinge",
    "magnitude_released",
    "ranking_hinge_all_pairs",
    "ranking_hinge_index_pairs",
    "ranking_hinge_released",
    "separability",
    "snippet_bce",
    "take_snippets",
    "top_k_indices",
    "top_k_mean",
]

_HAIR = 1e-6  # 0.29 of 100 is 29, though the floats multiply to less.
_LOWEST_LOG = -100.0  # Of a probability of 0, as in the released code: the loss stays finite.


def feature_magnitude(features: jax.Array) -> jax.Array:
    """Euclidean norm of each feature vector; the gradient of a zero vector is zero.

    Args:
        features: Floats `[..., D]`, else a `TypeError`.

    Returns:
        Magnitudes `[...]`, at least float32.
    """
    return masked.norm(features, True, axis=-1)


def top_k_indices(
    values: jax.Array, k: int | float, where: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The k largest values along the last axis, in falling order; of equal ones the first.

    No gradient flows through a choice; take what was chosen with `take_snippets`.

    Args:
        values: Floats `[..., T]`, else a `TypeError`.
        k: An integer of at least 1, else a `ValueError`; more than T chooses all T. Or a fraction
            below 1 of the real entries of each row, rounded down, but at least one of them.
        where: Real entries; broadcasts to `values`. The others are chosen last.

    Returns:
        Indices `[..., min(k, T)]`, int32, and whether each is of a real entry, booleans of that
        shape. For a fraction k, as many as of T entries; those beyond a row's own k are not real.
    """
    values = jnp.asarray(values)
    checks.floating("values", values)
    most = _most(k, values.shape[-1])
    values = jax.lax.stop_gradient(values)
    # XLA puts -0 below +0, which would break the tie of two zeros by their signs.
    values = jnp.where(values == 0, jnp.zeros_like(values), values)
    if where is None:
        _, indices = jax.lax.top_k(values, most)
        return indices, jnp.ones(indices.shape, bool)
    where = masked.as_mask(where, values.shape)
    # A real entry of -inf must still come before any masked one.
    values = jnp.where(where, jnp.maximum(values, jnp.finfo(values.dtype).min), -jnp.inf)
    _, indices = jax.lax.top_k(values, most)
    real = jnp.take_along_axis(where, indices, axis=-1)
    if isinstance(k, float):
        own = _part(k, jnp.sum(where, axis=-1, keepdims=True))
        real &= jnp.arange(most) < own
    return indices, real


def take_snippets(values: jax.Array, indices: jax.Array) -> jax.Array:
    """What was chosen of each video; the gradient flows to the entries taken.

    Args:
        values: `[..., T]`.
        indices: Of `top_k_indices`, `[..., k]`.

    Returns:
        Entries `[..., k]`.
    """
    return jnp.take_along_axis(values, indices, axis=-1)


def top_k_mean(values: jax.Array, k: int | float, where: jax.Array | None = None) -> jax.Array:
    """Mean of the k largest values along the last axis (document, eq. 8.2, given magnitudes).

    Args:
        values: Floats `[..., T]`.
        k: See `top_k_indices`; the mean is over min(k, number of real entries).
        where: Real entries; broadcasts to `values`.

    Returns:
        Means `[...]`, at least float32; 0 where no entry is real.
    """
    indices, real = top_k_indices(values, k, where)
    return masked.mean(take_snippets(values, indices), real, axis=-1)


def separability(anomalous: jax.Array, normal: jax.Array) -> jax.Array:
    """Difference of top-k mean magnitudes for all pairs (document, eq. 8.3).

    Args:
        anomalous: Top-k mean magnitudes of the anomalous videos `[B_a]`.
        normal: The same of the normal videos `[B_n]`.

    Returns:
        `d [B_a, B_n]`; positive where the anomalous video has the larger magnitude.
    """
    checks.rank_equal("anomalous", jnp.shape(anomalous), "B_a")
    checks.rank_equal("normal", jnp.shape(normal), "B_n")
    return anomalous[:, None] - normal[None, :]


def magnitude_hinge(
    magnitudes: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    margin: float = 100.0,
    axis_name: str | None = None,
) -> jax.Array:
    """max(0, margin - d) averaged over all pairs of an anomalous and a normal video (eq. 8.7).

    The document sums over all pairs of the data set; the mean differs by a factor and keeps the
    balance with the other terms whatever the batch size.

    Args:
        magnitudes: Top-k mean magnitudes `[B]`.
        labels: `[B]`, else a `ValueError`.
        valid: `[B]`, else a `ValueError`.
        margin: The separability from which a pair costs nothing.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar.
    """
    return _all_pairs_hinge("magnitudes", magnitudes, labels, valid, margin, axis_name)


def magnitude_released(
    features: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    margin: float = 100.0,
    where: jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """(|margin - v_a| + v_n)², v the norm of a video's mean chosen feature; released code.

    Unlike the hinge it is two-sided, it takes the norm of the mean instead of the mean of the
    norms, and it pairs the i-th anomalous with the i-th normal video, each crop for itself. Videos
    without partner are left out.

    Args:
        features: Features of the chosen snippets `[B, N, k, D]`.
        labels: `[B]`, else a `ValueError`.
        valid: `[B]`, else a `ValueError`.
        margin: The norm to which anomalous videos are drawn.
        where: Real ones among the chosen snippets `[B, k]`.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar, the mean over pairs and crops, before the released weight of 1e-4.
    """
    checks.rank_equal("features", jnp.shape(features), "B N k D")
    _check_rows(labels, valid, features.shape[0])
    rows, _, chosen, _ = features.shape
    where = jnp.ones((rows, chosen), bool) if where is None else jnp.asarray(where).astype(bool)
    checks.shape_equal("where", where.shape, (rows, chosen))
    where = where & jnp.asarray(valid).astype(bool)[:, None]
    v = feature_magnitude(masked.mean(features, where[:, None, :, None], axis=2))  # [B, N]
    v, labels, valid = devices.gather((v, labels, valid), axis_name)
    first, second, real = _index_pairs(labels, valid)
    each = jnp.square(masked.absolute(margin - v[first]) + v[second])
    return devices.same_on_all(masked.mean(each, real[:, None]), axis_name)


def binary_cross_entropy(probabilities: jax.Array, labels: jax.Array) -> jax.Array:
    """-y log p - (1 - y) log(1 - p), each logarithm at least -100, as in the released code.

    A logarithm at its lowest value passes no gradient, so that value and gradient are finite for p
    = 0 and p = 1. In float32 every p below 1.2e-38, the smallest normal number, counts as 0.

    Args:
        probabilities: p in [0, 1], `[...]`.
        labels: y in [0, 1]; broadcasts to `probabilities`, else a `ValueError`.

    Returns:
        Loss per entry `[...]`.
    """
    checks.floating("probabilities", probabilities)
    checks.broadcastable("labels", jnp.shape(labels), jnp.shape(probabilities))
    p = masked.widen(probabilities)
    y = jnp.asarray(labels).astype(p.dtype)
    return -(y * _log(p) + (1.0 - y) * _log(1.0 - p))


def snippet_bce(scores: jax.Array, labels: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Cross-entropy of the chosen snippets' scores with their video's label, summed (eq. 8.8).

    Args:
        scores: Scores in [0, 1] of the chosen snippets `[B, k]`.
        labels: `[B]`, else a `ValueError`.
        where: Real ones among the chosen `[B, k]`.

    Returns:
        Loss per video `[B]`.
    """
    where = _check_chosen(scores, labels, where)
    # A padded score may be NaN; one half keeps its gradient finite before the sum drops it.
    each = binary_cross_entropy(jnp.where(where, scores, 0.5), labels[:, None])
    return masked.total(each, where, axis=-1)


def bag_bce(scores: jax.Array, labels: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Cross-entropy of the mean score of the chosen snippets with the video's label; released code.

    Args:
        scores: Scores in [0, 1] of the chosen snippets `[B, k]`.
        labels: `[B]`, else a `ValueError`.
        where: Real ones among the chosen `[B, k]`; a video without any costs nothing.

    Returns:
        Loss per video `[B]`.
    """
    where = _check_chosen(scores, labels, where)
    each = binary_cross_entropy(masked.mean(scores, where, axis=-1), labels)
    return jnp.where(jnp.any(where, axis=-1), each, 0.0)


def ranking_hinge_all_pairs(
    scores: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    margin: float = 1.0,
    axis_name: str | None = None,
) -> jax.Array:
    """max(0, margin - s_a + s_n) averaged over all pairs of an anomalous and a normal video.

    Scores in [0, 1] differ by at most the default margin, so its clamp never acts: the loss is then
    margin - mean s_a + mean s_n, and the same for any pairing that uses each video equally often.

    Args:
        scores: Bag scores `[B]`: the maximum, or `top_k_mean`, of a video's snippet scores.
        labels: `[B]`, else a `ValueError`.
        valid: `[B]`, else a `ValueError`.
        margin: The difference from which a pair costs nothing.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar.

    References:
        [211], eq. 6 without the smoothness and sparsity terms.
    """
    return _all_pairs_hinge("scores", scores, labels, valid, margin, axis_name)


def ranking_hinge_index_pairs(
    scores: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    margin: float = 1.0,
    axis_name: str | None = None,
) -> jax.Array:
    """max(0, margin - s_a + s_n) averaged over pairs of the i-th anomalous and i-th normal video.

    Args:
        scores: Bag scores `[B]`.
        labels: `[B]`, else a `ValueError`.
        valid: `[B]`, else a `ValueError`.
        margin: The difference from which a pair costs nothing.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar; videos without partner are left out.
    """
    _check_bags("scores", scores, labels, valid)
    scores, labels, valid = devices.gather((masked.widen(scores), labels, valid), axis_name)
    first, second, real = _index_pairs(labels, valid)
    each = jax.nn.relu(margin - (scores[first] - scores[second]))
    return devices.same_on_all(masked.mean(each, real), axis_name)


def ranking_hinge_released(
    scores: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    margin: float = 1.0,
    axis_name: str | None = None,
) -> jax.Array:
    """The all-pairs hinge as the code of [211] reduces it: mean over normal, sum over anomalous.

    Args:
        scores: Bag scores `[B]`.
        labels: `[B]`, else a `ValueError`.
        valid: `[B]`, else a `ValueError`.
        margin: The difference from which a pair costs nothing.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar: the number of anomalous videos times `ranking_hinge_all_pairs`.
    """
    mean = _all_pairs_hinge("scores", scores, labels, valid, margin, axis_name)
    anomalous, _ = _halves(labels, valid)
    return masked.count(anomalous, scores, axis_name=axis_name) * mean


def _most(k, length):
    """How many entries of a row of `length` can be chosen."""
    if isinstance(k, float) and 0.0 < k < 1.0:
        return max(math.floor(k * length + _HAIR), 1)
    if isinstance(k, float):
        raise TypeError(f"k: expected a Python integer or a fraction between 0 and 1, got {k}.")
    checks.positive_integer("k", k)
    return min(k, length)


def _part(fraction, count):
    return jnp.maximum(jnp.floor(fraction * count + _HAIR), 1.0).astype(jnp.int32)


def _all_pairs_hinge(name, values, labels, valid, margin, axis_name):
    _check_bags(name, values, labels, valid)
    values = masked.widen(values)
    anomalous, normal = _halves(labels, valid)
    # Each device holds the rows of its own anomalous videos against the normal ones of all devices.
    others, normal = devices.gather((values, normal), axis_name)
    each = jax.nn.relu(margin - separability(values, others))  # [B, B of all devices]
    return masked.mean(each, anomalous[:, None] & normal[None, :], axis_name=axis_name)


def _halves(labels, valid):
    valid = jnp.asarray(valid).astype(bool)
    return (labels == 1) & valid, (labels == 0) & valid


def _index_pairs(labels, valid):
    """Rows `[B]` of the i-th anomalous and the i-th normal video, and which pairs exist `[B]`."""
    anomalous, normal = _halves(labels, valid)
    pairs = jnp.minimum(jnp.sum(anomalous), jnp.sum(normal))
    real = jnp.arange(anomalous.shape[0]) < pairs
    return jnp.argsort(~anomalous, stable=True), jnp.argsort(~normal, stable=True), real


def _log(p):
    # A subnormal p counts as 0 on every device, flushed or not: its slope 1 / p would overflow.
    safe = p >= max(float(jnp.finfo(p.dtype).tiny), math.exp(_LOWEST_LOG))
    return jnp.where(safe, jnp.log(jnp.where(safe, p, 1.0)), _LOWEST_LOG)


def _snippets(scores, where):
    checks.floating("scores", scores)
    return masked.as_mask(where, jnp.shape(scores))


def _check_chosen(scores, labels, where):
    checks.rank_equal("scores", jnp.shape(scores), "B k")
    checks.shape_equal("labels", jnp.shape(labels), scores.shape[:1])
    return _snippets(scores, where)


def _check_bags(name, values, labels, valid):
    checks.floating(name, values)
    checks.rank_equal(name, jnp.shape(values), "B")
    _check_rows(labels, valid, values.shape[0])


def _check_rows(labels, valid, rows):
    checks.shape_equal("labels", jnp.shape(labels), (rows,))
    checks.shape_equal("valid", jnp.shape(valid), (rows,))
