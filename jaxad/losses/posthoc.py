"""Scores of a trained classifier's logits: nothing is fitted, nothing is trained.

Classes are the last axis; one score per leading index, at least float32; a higher score is more
anomalous. All but the max logit are unchanged by a constant added to the logits, and all by an
exchange of classes. Further scores of this kind: `energy.free_energy`, `entropy.entropy`; with
statistics of the training set: `standardised_logit`, `class_gaussians`.
"""

import jax
import jax.numpy as jnp

from jaxad.losses import checks, masked

__all__ = ["max_logit", "max_softmax", "odds", "probability_margin"]


def odds(logits: jax.Array) -> jax.Array:
    """p_k / p_c with p = softmax(logits) and c the class of the largest; 0 for c itself.

    With s their sum, 1 - p_c is s / (1 + s): sums that leave out c do not cancel, so that pixels
    whose p_c rounds to 1 keep their order.

    Args:
        logits: Floats `[..., K]`, else a `TypeError`. Of several largest, c is the first.

    Returns:
        `[..., K]` in [0, 1], at least float32.
    """
    checks.floating("logits", logits)
    logits = masked.widen(logits)
    largest = jnp.argmax(logits, axis=-1, keepdims=True) == jnp.arange(logits.shape[-1])
    # Not `max`, which would share the gradient among several largest.
    top = jnp.sum(jnp.where(largest, logits, 0.0), axis=-1, keepdims=True)
    return jnp.where(largest, 0.0, jnp.exp(logits - top))


def max_softmax(logits: jax.Array) -> jax.Array:
    """1 - max_k softmax(logits)_k, exact to rounding however sure the classifier is.

    Also known as variation ratio.

    Args:
        logits: Floats `[..., K]`, else a `TypeError`.

    Returns:
        `[...]` in [0, 1 - 1 / K].

    References:
        Hendrycks and Gimpel, https://arxiv.org/abs/1610.02136; document 004,
        section 11.4; document 001, eq. 1.
    """
    against = jnp.sum(odds(logits), axis=-1)
    return against / (1.0 + against)


def max_logit(logits: jax.Array) -> jax.Array:
    """-max_k z_k; at least the free energy, and at most log K above it.

    Args:
        logits: z, floats `[..., K]`, else a `TypeError`.

    Returns:
        `[...]`; a constant added to the logits of an entry is taken off its score.

    References:
        Hendrycks et al., https://arxiv.org/abs/1911.11132; document 001, figure 5 ("class scores").
    """
    checks.floating("logits", logits)
    return -jnp.max(masked.widen(logits), axis=-1)


def probability_margin(logits: jax.Array) -> jax.Array:
    """1 - (p₁ - p₂), p₁ and p₂ the two largest of softmax(logits): 1 where they are equal.

    The margin p₁ - p₂ itself is high for sure predictions; it is taken from 1 so that a higher
    score is more anomalous.

    Args:
        logits: Floats `[..., K]`, else a `TypeError`; K of at least 2, else a `ValueError`.

    Returns:
        `[...]` in [0, 1].

    References:
        Released code of document 002 (github.com/JuricaRuntas/meta-ood): heat map D.
    """
    if jnp.ndim(logits) < 1 or jnp.shape(logits)[-1] < 2:
        raise ValueError(f"logits: expected at least 2 classes, got {jnp.shape(logits)}.")
    others = odds(logits)
    against = jnp.sum(others, axis=-1)
    return (against + jnp.max(others, axis=-1)) / (1.0 + against)
