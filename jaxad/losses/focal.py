"""Cross-entropy of labeled anomalies, reweighted by class or by difficulty.

All are functions of the true class's margin m, the log-odds of its probability p_t = sigmoid(m):
-log p_t = softplus(-m) and log(1 - p_t) = -softplus(m). Nothing is lost where p_t rounds to 0 or 1.
"""

import jax
import jax.numpy as jnp

from jaxad.losses import checks, cross_entropy, masked

__all__ = ["focal_loss", "softmax_focal_loss", "weighted_cross_entropy"]


def weighted_cross_entropy(
    logits: jax.Array, labels: jax.Array, *, positive_weight: float = 1.0
) -> jax.Array:
    """-w y log p - (1 - y) log(1 - p), p = sigmoid(logit).

    Args:
        logits: Floats `[...]`, else a `TypeError`.
        labels: y `[...]`, else a `ValueError`; 0 normal, 1 abnormal.
        positive_weight: w, of the abnormal examples; their number for one normal one balances.

    Returns:
        Loss per example `[...]`, at least float32.
    """
    margins, positive = _margins(logits, labels)
    return jnp.where(positive, positive_weight, 1.0) * jax.nn.softplus(-margins)


def focal_loss(
    logits: jax.Array, labels: jax.Array, *, gamma: float = 2.0, alpha: float | None = None
) -> jax.Array:
    """-α_t (1 - p_t)^γ log p_t, p_t the probability given to the true label.

    Args:
        logits: Floats `[...]`, else a `TypeError`.
        labels: `[...]`, else a `ValueError`; 0 normal, 1 abnormal.
        gamma: γ, at least 0, else a `ValueError`; 0 is the cross-entropy.
        alpha: Weight of the abnormal examples, 1 - alpha that of the normal ones; no weights by
            default. The source has 0.25 with γ = 2.

    Returns:
        Loss per example `[...]`, at least float32.

    References:
        Lin et al., Focal Loss for Dense Object Detection, https://arxiv.org/abs/1708.02002, eq. 5;
        a baseline of chapter 10 of the document.
    """
    margins, positive = _margins(logits, labels)
    weights = 1.0 if alpha is None else jnp.where(positive, alpha, 1.0 - alpha)
    return weights * _focal(margins, gamma)


def softmax_focal_loss(
    logits: jax.Array, labels: jax.Array, *, gamma: float = 2.0, weights: jax.Array | None = None
) -> jax.Array:
    """-w_t (1 - p_t)^γ log p_t, p = softmax(logits).

    Args:
        logits: Floats `[..., K]`, else a `TypeError`; K at least 2, else a `ValueError`.
        labels: Classes, integers `[...]`, else a `ValueError`; one that is no class gives NaN.
        gamma: γ, at least 0, else a `ValueError`; 0 is the cross-entropy.
        weights: Of the classes `[K]`, else a `ValueError`; 1 by default.

    Returns:
        Loss per example `[...]`, at least float32.
    """
    checks.floating("logits", logits)
    checks.shape_equal("labels", jnp.shape(labels), jnp.shape(logits)[:-1])
    classes = jnp.shape(logits)[-1]
    if classes < 2:
        raise ValueError(f"logits: expected at least 2 classes in the last axis, got {classes}.")
    logits = masked.widen(logits)
    true = jnp.asarray(labels)[..., None] == jnp.arange(classes)
    own = cross_entropy.select_class(logits, labels)
    others = jax.nn.logsumexp(logits, where=~true, axis=-1)
    loss = _focal(own - others, gamma)
    if weights is None:
        return loss
    checks.shape_equal("weights", jnp.shape(weights), (classes,))
    return loss * jnp.sum(jnp.where(true, masked.widen(weights), 0.0), axis=-1)


def _margins(logits, labels):
    checks.floating("logits", logits)
    checks.shape_equal("labels", jnp.shape(labels), jnp.shape(logits))
    logits, positive = masked.widen(logits), jnp.asarray(labels) == 1
    return jnp.where(positive, logits, -logits), positive


def _focal(margins, gamma):
    if not gamma >= 0.0:
        raise ValueError(f"gamma: expected a number of at least 0, got {gamma}.")
    # (1 - p_t)^γ as exp(-γ softplus(m)): a power of 0 has no slope for γ < 1.
    return jnp.exp(-gamma * jax.nn.softplus(margins)) * jax.nn.softplus(-margins)
