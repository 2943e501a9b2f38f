"""Entropy of softmax outputs: scores, scores of several passes, and losses that raise it.

Conventions of this file:

- Classes are the last axis; logarithms are natural. A higher entropy is more anomalous.
- Log-probabilities are logits too: what takes logits also takes `mean_log_probabilities`.
- `inlier`, `outlier` and `where` are booleans, or zeros and ones. A pixel in no mask is void. What
  lies outside a mask may be anything, NaN included.
- 16-bit inputs are widened: results are float32 or wider.

Sources: "document 002" describes entropy maximisation; "released" is its code
(github.com/JuricaRuntas/meta-ood, after github.com/robin-chan/meta-ood).
"""

import math

import jax
import jax.numpy as jnp

from jaxad.losses import checks, cross_entropy, masked, posthoc

__all__ = [
    "entropy",
    "entropy_maximisation",
    "entropy_maximisation_released",
    "entropy_of_probabilities",
    "foreground_entropy",
    "inlier_cross_entropy",
    "mean_log_probabilities",
    "mutual_information",
    "normalised_entropy",
    "normalised_entropy_of_probabilities",
    "outlier_cross_entropy",
    "predicted_class_variance",
    "predictive_entropy",
    "predictive_variance",
    "uniform_cross_entropy",
]


def entropy(logits: jax.Array) -> jax.Array:
    """H = -sum_k p_k log p_k with p = softmax(logits), in nats, exact to rounding near 0 too.

    Args:
        logits: Floats `[..., K]`, else a `TypeError`; -inf takes a class out.

    Returns:
        `[...]` in [0, log K], at least float32.

    References:
        Document 002, eq. 3.1.
    """
    # With o_k = p_k / p_c, c the largest class, and s the sum over the others, p_k = o_k / (1 + s)
    # and H = log(1 + s) - sum_k o_k log o_k / (1 + s). No term is negative: nothing cancels.
    odds = posthoc.odds(logits)
    others = jnp.sum(odds, axis=-1)
    return jnp.log1p(others) + entropy_of_probabilities(odds) / (1.0 + others)


def normalised_entropy(logits: jax.Array) -> jax.Array:
    """H / log K: 0 for one certain class, 1 for K equally probable ones.

    Args:
        logits: Floats `[..., K]`, else a `TypeError`; K of at least 2, else a `ValueError`.

    Returns:
        `[...]`, clipped to [0, 1], at least float32.

    References:
        Document 002, eq. 3.7.
    """
    return _share_of_most("logits", entropy(logits), jnp.shape(logits)[-1])


def entropy_of_probabilities(probabilities: jax.Array) -> jax.Array:
    """H = -sum_k p_k log p_k in nats, with 0 log 0 = 0.

    Prefer `entropy` where there are logits: a probability that has underflowed is lost here.

    Args:
        probabilities: p in [0, 1], floats `[..., K]`, else a `TypeError`. They are not normalised.

    Returns:
        `[...]`, at least float32. A probability of 0 passes no gradient, as its slope is infinite.
    """
    checks.floating("probabilities", probabilities)
    p = masked.widen(probabilities)
    some = p >= jnp.finfo(p.dtype).tiny  # The logarithm of a subnormal number may be that of 0.
    return -jnp.sum(jnp.where(some, p * jnp.log(jnp.where(some, p, 1.0)), 0.0), axis=-1)


def normalised_entropy_of_probabilities(probabilities: jax.Array) -> jax.Array:
    """H / log K of probabilities, see `normalised_entropy`.

    Args:
        probabilities: p in [0, 1], floats `[..., K]`, else a `TypeError`; K of at least 2, else a
            `ValueError`.

    Returns:
        `[...]`, clipped to [0, 1], at least float32.

    References:
        Document 002, eq. 3.7.
    """
    value = entropy_of_probabilities(probabilities)
    return _share_of_most("probabilities", value, jnp.shape(probabilities)[-1])


def foreground_entropy(
    logits: jax.Array, *, background: int, where: jax.Array | None = None
) -> jax.Array:
    """Mean entropy of the pixels predicted as foreground; log K, the most, where there are none.

    Args:
        logits: Floats `[..., H, W, K]`, else a `TypeError`; `mean_log_probabilities` for several
            passes.
        background: The class that is no foreground, 0 to K - 1, else a `ValueError`.
        where: Pixels that count; broadcasts to `[..., H, W]`, else a `ValueError`.

    Returns:
        Score per image `[...]`, at least float32.

    References:
        Document 000, experiments ("Compared models": MC dropout and deep ensembles).
    """
    checks.floating("logits", logits)
    if logits.ndim < 3:
        raise ValueError(f"logits: expected axes [..., H, W, K], got {logits.shape}.")
    classes = logits.shape[-1]
    if not 0 <= background < classes:
        raise ValueError(f"background: expected a class from 0 to {classes - 1}, got {background}.")
    where = masked.as_mask(where, logits.shape[:-1])
    logits = jnp.where(where[..., None], logits, 0.0)
    where &= jnp.argmax(logits, axis=-1) != background
    mean = masked.mean(entropy(logits), where, axis=(-2, -1))
    return jnp.where(jnp.any(where, axis=(-2, -1)), mean, math.log(classes))


def mean_log_probabilities(logits: jax.Array) -> jax.Array:
    """Log of the mean softmax over passes: the prediction of an ensemble or of MC dropout.

    Args:
        logits: Of T networks or of T passes with dropout, floats `[T, ..., K]`, else a `TypeError`;
            T of at least 1, else a `ValueError`.

    Returns:
        log p̄ `[..., K]`, at least float32, to be used like logits.
    """
    log_p = _passes(logits)
    return _mean_log(log_p)


def predictive_entropy(logits: jax.Array) -> jax.Array:
    """Entropy of the mean softmax over passes, in nats: all uncertainty of the prediction.

    Args:
        logits: Of T passes, floats `[T, ..., K]`, as for `mean_log_probabilities`.

    Returns:
        `[...]` in [0, log K], at least float32.

    References:
        Gal, Uncertainty in Deep Learning, 2016, section 3.3.1.
    """
    return entropy(mean_log_probabilities(logits))


def mutual_information(logits: jax.Array) -> jax.Array:
    """Entropy of the mean less mean entropy of the passes: the part due to their disagreement.

    Args:
        logits: Of T passes, floats `[T, ..., K]`, as for `mean_log_probabilities`.

    Returns:
        `[...]` in [0, log min(T, K)] nats, at least float32; 0 where all passes agree.

    References:
        Houlsby et al., Bayesian Active Learning, https://arxiv.org/abs/1112.5745, eq. 2 (BALD).
    """
    # As the mean divergence of a pass from the mean: the difference of two entropies would cancel.
    log_p = _passes(logits)
    log_mean = _mean_log(log_p)
    p = jnp.exp(log_p)
    apart = jnp.where(p > 0.0, log_p - log_mean, 0.0)
    return jnp.maximum(jnp.mean(jnp.sum(p * apart, axis=-1), axis=0), 0.0)


def predicted_class_variance(logits: jax.Array) -> jax.Array:
    """Variance over passes of the probability of the class that their mean predicts.

    Args:
        logits: Of T passes, floats `[T, ..., K]`, as for `mean_log_probabilities`.

    Returns:
        `[...]` in [0, 1 / 4], at least float32, of the T passes themselves (divided by T).

    References:
        MC dropout as in document 001, table 1, which leaves the statistic open.
    """
    p = jnp.exp(_passes(logits))
    predicted = jnp.argmax(jnp.mean(p, axis=0), axis=-1)  # Of equal ones the first.
    chosen = predicted[..., None] == jnp.arange(p.shape[-1])
    return jnp.var(jnp.sum(jnp.where(chosen, p, 0.0), axis=-1), axis=0)


def predictive_variance(logits: jax.Array) -> jax.Array:
    """Variance of the softmax over passes, averaged over classes.

    Args:
        logits: Of T passes, floats `[T, ..., K]`, as for `mean_log_probabilities`.

    Returns:
        `[...]`, at least float32, of the T passes themselves (divided by T, so 0 for one pass).
    """
    return jnp.mean(jnp.var(jnp.exp(_passes(logits)), axis=0), axis=-1)


def uniform_cross_entropy(logits: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """-mean_k log p_k: cross-entropy with the uniform distribution.

    At least log K, and log K exactly where p is uniform; the gradient with respect to the logits is
    p - 1 / K.

    Args:
        logits: Floats `[..., K]`, else a `TypeError`.
        where: Pixels that count; broadcasts to `[...]`, else a `ValueError`. All by default.

    Returns:
        Loss per pixel `[...]`, not reduced; 0 with zero gradient outside `where`.

    References:
        Document 002, eq. 3.5 for one pixel; Hendrycks et al., Deep Anomaly Detection with Outlier
        Exposure, https://arxiv.org/abs/1812.04606.
    """
    checks.floating("logits", logits)
    where = masked.as_mask(where, jnp.shape(logits)[:-1])
    log_p = _log_probabilities(jnp.where(where[..., None], logits, 0.0))
    return jnp.where(where, -jnp.mean(log_p, axis=-1), 0.0)


def inlier_cross_entropy(logits: jax.Array, labels: jax.Array, inlier: jax.Array) -> jax.Array:
    """Cross-entropy summed over the inlier pixels of an image, divided by all its pixels.

    Args:
        logits: Floats `[..., H, W, K]`, else a `TypeError`.
        labels: Integers `[..., H, W]`, else a `ValueError`; looked at on inlier pixels alone.
        inlier: Pixels of a known class; broadcasts to `labels`, else a `ValueError`.

    Returns:
        Loss per image `[...]`, at least float32. Void pixels count in the divisor H · W.

    References:
        Document 002, eq. 3.4.
    """
    each = cross_entropy.softmax_cross_entropy(logits, labels, _mask("inlier", inlier, logits))
    return jnp.mean(each, axis=(-2, -1))


def outlier_cross_entropy(logits: jax.Array, outlier: jax.Array) -> jax.Array:
    """`uniform_cross_entropy` summed over an image's outlier pixels, divided by all its pixels.

    Args:
        logits: Floats `[..., H, W, K]`, else a `TypeError`.
        outlier: Outlier pixels; broadcasts to `[..., H, W]`, else a `ValueError`.

    Returns:
        Loss per image `[...]`, at least float32. Void pixels count in the divisor H · W.

    References:
        Document 002, eq. 3.5.
    """
    each = uniform_cross_entropy(logits, _mask("outlier", outlier, logits))
    return jnp.mean(each, axis=(-2, -1))


def entropy_maximisation(
    logits: jax.Array,
    labels: jax.Array,
    inlier: jax.Array,
    outlier: jax.Array,
    proxy: jax.Array,
    *,
    weight: float = 0.9,
    valid: jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """(1 - λ) · mean inlier loss of known images + λ · mean outlier loss of proxy images.

    Known images contribute their inlier pixels alone, proxy images their outlier pixels alone.

    Args:
        logits: Floats `[B, H, W, K]`, else a `ValueError`.
        labels: Integers `[B, H, W]`, else a `ValueError`; looked at on inlier pixels alone.
        inlier: Pixels of a known class; broadcasts to `[B, H, W]`, else a `ValueError`.
        outlier: Outlier pixels; broadcasts to `[B, H, W]`, else a `ValueError`.
        proxy: Images of the outlier set `[B]`, else a `ValueError`.
        weight: λ: 0 is plain training, 1 only raises the entropy.
        valid: Rows that are no padding `[B]`, else a `ValueError`.
        axis_name: Named axis of devices: the means are over the images of all of them.

    Returns:
        Scalar; the mean over no images is 0 with zero gradient.

    References:
        Document 002, eq. 3.3 to 3.5.
    """
    valid = _check_batch(logits, valid)
    checks.shape_equal("proxy", jnp.shape(proxy), valid.shape)
    proxy = jnp.asarray(proxy).astype(bool)
    known, proxy = valid & ~proxy, valid & proxy
    inlier = _mask("inlier", inlier, logits) & known[:, None, None]
    outlier = _mask("outlier", outlier, logits) & proxy[:, None, None]
    of_known = inlier_cross_entropy(logits, labels, inlier)
    of_proxy = outlier_cross_entropy(logits, outlier)
    mean_known = masked.mean(of_known, known, axis_name=axis_name)
    mean_proxy = masked.mean(of_proxy, proxy, axis_name=axis_name)
    return (1.0 - weight) * mean_known + weight * mean_proxy


def entropy_maximisation_released(
    logits: jax.Array,
    labels: jax.Array,
    inlier: jax.Array,
    outlier: jax.Array,
    *,
    weight: float = 0.9,
    valid: jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Soft-target cross-entropy, averaged over all B · H · W · K entries of the batch.

    Unlike eq. 3.3, it has an extra factor 1 / K, and both kinds of pixels share one divisor: their
    balance follows their numbers. All images contribute both kinds of pixels.

    Args:
        logits: Floats `[B, H, W, K]`, else a `ValueError`.
        labels: Integers `[B, H, W]`, else a `ValueError`; looked at on inlier pixels alone. The
            released code labels the background of proxy images 0, road, and counts it as inlier.
        inlier: Pixels of a known class; broadcasts to `[B, H, W]`, else a `ValueError`.
        outlier: Outlier pixels; broadcasts to `[B, H, W]`, else a `ValueError`.
        weight: λ, of the outlier pixels; inlier pixels have 1 - λ.
        valid: Rows that are no padding `[B]`, else a `ValueError`.
        axis_name: Named axis of devices: sum and count are over the images of all of them.

    Returns:
        Scalar; 0 with zero gradient where all pixels are void.

    References:
        Released code.
    """
    valid = _check_batch(logits, valid)
    inlier = _mask("inlier", inlier, logits) & valid[:, None, None]
    outlier = _mask("outlier", outlier, logits) & valid[:, None, None]
    of_inliers = inlier_cross_entropy(logits, labels, inlier)
    of_outliers = outlier_cross_entropy(logits, outlier)
    each = (1.0 - weight) * of_inliers + weight * of_outliers
    return masked.mean(each, valid, axis_name=axis_name) / logits.shape[-1]


def _log_probabilities(logits):
    checks.floating("logits", logits)
    return jax.nn.log_softmax(masked.widen(logits), axis=-1)


def _passes(logits):
    if jnp.ndim(logits) < 2 or jnp.shape(logits)[0] < 1:
        raise ValueError(f"logits: expected axes [T, ..., K] with T > 0, got {jnp.shape(logits)}.")
    return _log_probabilities(logits)


def _mean_log(log_p):
    # A class that every pass leaves out (-inf) keeps a finite logarithm, whose slope exists.
    log_p = jnp.maximum(log_p, jnp.finfo(log_p.dtype).min / 2)
    return jax.nn.logsumexp(log_p, axis=0) - math.log(log_p.shape[0])


def _share_of_most(name, value, classes):
    if classes < 2:
        raise ValueError(f"{name}: expected at least 2 classes, got {classes}.")
    return jnp.clip(value / math.log(classes), 0.0, 1.0)


def _mask(name, mask, logits):
    """A mask of pixels as booleans `[..., H, W]`."""
    if jnp.ndim(logits) < 3:
        raise ValueError(f"logits: expected axes [..., H, W, K], got {jnp.shape(logits)}.")
    return masked.as_mask(mask, jnp.shape(logits)[:-1], name=name)


def _check_batch(logits, valid):
    """Whether each row is real `[B]`, after a check of the axes."""
    checks.floating("logits", logits)
    checks.rank_equal("logits", jnp.shape(logits), "B H W K")
    return masked.valid_rows(valid, logits.shape[0])
