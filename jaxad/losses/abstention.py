"""Pixel-wise abstention learning: a segmentation network with one more channel for "none of them".

Conventions of this file:

- `logits [..., Y + 1]` hold Y classes and, last, the abstention channel; p = softmax(logits), r is
  the last p. The free energy is that of the Y classes alone.
- `labels` hold a class, 0 to Y - 1, on inlier pixels. Which pixels are `inlier` and which are
  `outlier` is said by masks; a pixel in neither is void, one in both is an outlier.
- Losses come per pixel; what lies outside a mask may be anything, NaN included. The objectives that
  join them are in `pebal`.
- 16-bit inputs are widened: losses are float32 or wider.

Sources: "document" is the thesis 004, whose chapter 11 describes PEBAL; "released" is the code
published with it (github.com/tianyu0207/PEBAL).
"""

import jax
import jax.numpy as jnp

from jaxad.losses import checks, cross_entropy, masked

__all__ = [
    "abstention_loss",
    "abstention_probability",
    "class_suppression_released",
    "deep_gambler",
    "energy_penalty",
    "outlier_class_cross_entropy",
    "pixel_loss_released",
]

_LOWEST_PENALTY = 1e-6  # An energy of 0 gives a penalty of 0, and r / a must stay finite.
_LOWEST_SHARE = 1e-7  # Of a class on an outlier pixel, as in the released code.


def energy_penalty(energy: jax.Array, *, floor: float = _LOWEST_PENALTY) -> jax.Array:
    """a = E², at least `floor`: abstaining is dear where the energy is far below 0.

    Args:
        energy: E, floats `[...]`, else a `TypeError`.
        floor: Lowest penalty, above 0, else a `ValueError`; it passes no gradient. The losses of
            this file do not go below 1e-6 themselves.

    Returns:
        Penalty `[...]`, at least float32. The document lets the gradient through; wrap it in
        `jax.lax.stop_gradient` to train without.

    References:
        Document, eq. 11.5; the floor is ours.
    """
    checks.floating("energy", energy)
    if not floor > 0.0:
        raise ValueError(f"floor: expected a number above 0, got {floor}.")
    return jnp.maximum(jnp.square(masked.widen(energy)), floor)


def abstention_probability(logits: jax.Array) -> jax.Array:
    """r, the probability of the abstention channel; as a score, higher is more anomalous.

    Args:
        logits: Floats `[..., Y + 1]`, else a `TypeError`.

    Returns:
        `[...]` in [0, 1], at least float32.

    References:
        Document, section 11.4 (baselines trained with an outlier class).
    """
    checks.floating("logits", logits)
    return jax.nn.softmax(masked.widen(logits), axis=-1)[..., -1]


def abstention_loss(
    logits: jax.Array,
    labels: jax.Array,
    penalty: jax.Array | float,
    where: jax.Array | None = None,
) -> jax.Array:
    """-log(p_y + r / a), computed from log-probabilities: finite for logits of any size.

    An infinite penalty gives cross-entropy over Y + 1 classes, a penalty of 1 gives -log(p_y + r).
    For a < 1 the loss can be negative.

    Args:
        logits: Floats `[..., Y + 1]`, else a `TypeError`.
        labels: y, integers `[...]`, else a `ValueError`: 0 to Y - 1 for a class, Y for the
            abstention channel. A label of a real pixel that is neither gives NaN.
        penalty: a; broadcasts to `labels`, else a `ValueError`. Below 1e-6 it counts as 1e-6.
        where: Pixels that have a label; broadcasts to `labels`, else a `ValueError`. All by
            default.

    Returns:
        Loss per pixel `[...]`, not reduced; 0 with zero gradient outside `where`.

    References:
        Document, eq. 11.3, with the probabilities of eq. 11.1 for f; the released inlier part is
        the same.
    """
    checks.shape_equal("labels", jnp.shape(labels), jnp.shape(logits)[:-1])
    log_p, log_abstained, where = _log_shares(logits, penalty, where)
    return _label_loss(log_p, log_abstained, labels, where)


def deep_gambler(
    logits: jax.Array,
    labels: jax.Array,
    where: jax.Array | None = None,
    *,
    penalty: float = 4.5,
) -> jax.Array:
    """`abstention_loss` with one penalty for all pixels, chosen by hand.

    Args:
        logits: Floats `[..., Y + 1]`, else a `TypeError`.
        labels: Integers `[...]`, else a `ValueError`, as for `abstention_loss`.
        where: Pixels that have a label; broadcasts to `labels`, else a `ValueError`.
        penalty: o, above 0, else a `ValueError`. The document gives none; 4.5 is a default of the
            released code.

    Returns:
        Loss per pixel `[...]`, not reduced; 0 with zero gradient outside `where`.

    References:
        Ziyin et al., Deep Gamblers, https://arxiv.org/abs/1907.00208; document, table 11.1.
    """
    if not penalty > 0.0:
        raise ValueError(f"penalty: expected a number above 0, got {penalty}.")
    return abstention_loss(logits, labels, penalty, where)


def class_suppression_released(
    logits: jax.Array, penalty: jax.Array | float, where: jax.Array | None = None
) -> jax.Array:
    """-log max(p_k + r / a, 1e-7) averaged over the Y classes; what outlier pixels cost.

    It takes the place of -log(r + r / a): the release pulls every class of an outlier pixel towards
    r / a instead of pulling r up alone.

    Args:
        logits: Floats `[..., Y + 1]`, else a `TypeError`.
        penalty: a; broadcasts to `[...]`, else a `ValueError`. Below 1e-6 it counts as 1e-6.
        where: Outlier pixels; broadcasts to `[...]`, else a `ValueError`. All by default.

    Returns:
        Loss per pixel `[...]`, not reduced; 0 with zero gradient outside `where`.

    References:
        Released code, without its factor 0.1.
    """
    return _suppression(*_log_shares(logits, penalty, where))


def pixel_loss_released(
    logits: jax.Array,
    labels: jax.Array,
    penalty: jax.Array | float,
    inlier: jax.Array,
    outlier: jax.Array,
) -> jax.Array:
    """`abstention_loss` on inlier and `class_suppression_released` on outlier pixels, in one pass.

    Args:
        logits: Floats `[..., Y + 1]`, else a `TypeError`.
        labels: Integers `[...]`, else a `ValueError`; looked at on inlier pixels alone.
        penalty: a; broadcasts to `labels`, else a `ValueError`. Below 1e-6 it counts as 1e-6.
        inlier: Inlier pixels; broadcasts to `labels`, else a `ValueError`.
        outlier: Outlier pixels; broadcasts to `labels`, else a `ValueError`.

    Returns:
        Loss per pixel `[...]`, not reduced; 0 with zero gradient on void pixels.

    References:
        Released code, without its factor 0.1 for outliers.
    """
    checks.shape_equal("labels", jnp.shape(labels), jnp.shape(logits)[:-1])
    inlier = masked.as_mask(inlier, jnp.shape(labels), name="inlier")
    outlier = masked.as_mask(outlier, jnp.shape(labels), name="outlier")
    log_p, log_abstained, _ = _log_shares(logits, penalty, inlier | outlier)
    of_inliers = _label_loss(log_p, log_abstained, labels, inlier & ~outlier)
    return of_inliers + _suppression(log_p, log_abstained, outlier)


def outlier_class_cross_entropy(
    logits: jax.Array, labels: jax.Array, inlier: jax.Array, outlier: jax.Array
) -> jax.Array:
    """Cross-entropy over Y + 1 classes, the last for outliers: outlier exposure without energy.

    Args:
        logits: Floats `[..., Y + 1]`, else a `TypeError`.
        labels: Integers `[...]`, else a `ValueError`; looked at on inlier pixels alone.
        inlier: Inlier pixels; broadcasts to `labels`, else a `ValueError`.
        outlier: Outlier pixels; broadcasts to `labels`, else a `ValueError`.

    Returns:
        Loss per pixel `[...]`, not reduced; 0 with zero gradient on void pixels.

    References:
        Document, table 11.5, the row trained with cross-entropy.
    """
    checks.shape_equal("labels", jnp.shape(labels), jnp.shape(logits)[:-1])
    inlier = masked.as_mask(inlier, jnp.shape(labels), name="inlier")
    outlier = masked.as_mask(outlier, jnp.shape(labels), name="outlier")
    labels = jnp.where(outlier, logits.shape[-1] - 1, labels)
    return cross_entropy.softmax_cross_entropy(logits, labels, inlier | outlier)


def _label_loss(log_p, log_abstained, labels, where):
    log_label = cross_entropy.select_class(log_p, labels, where)
    return jnp.where(where, -jnp.logaddexp(log_label, log_abstained), 0.0)


def _suppression(log_p, log_abstained, where):
    shares = jnp.logaddexp(log_p[..., :-1], log_abstained[..., None])
    each = jnp.maximum(shares, jnp.log(_LOWEST_SHARE))
    return jnp.where(where, -jnp.mean(each, axis=-1), 0.0)


def _log_shares(logits, penalty, where):
    """log p `[..., Y + 1]`, log(r / a) `[...]` and the mask, with everything outside it cleared."""
    checks.floating("logits", logits)
    pixels = logits.shape[:-1]
    where = masked.as_mask(where, pixels)
    checks.broadcastable("penalty", jnp.shape(penalty), pixels)
    log_p = jax.nn.log_softmax(jnp.where(where[..., None], masked.widen(logits), 0.0), axis=-1)
    penalty = jnp.where(where, jnp.asarray(penalty, log_p.dtype), 1.0)
    return log_p, log_p[..., -1] - jnp.log(jnp.maximum(penalty, _LOWEST_PENALTY)), where
