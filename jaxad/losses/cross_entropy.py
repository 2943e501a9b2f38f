"""Softmax cross-entropy with labels that may be void, per pixel and averaged.

`labels` hold a class, 0 to K - 1, wherever `where` holds; elsewhere they may be anything, 255 say,
and so may the logits. Pixels are whatever the leading axes count. 16-bit inputs are widened.
"""

import jax
import jax.numpy as jnp

from jaxad.losses import checks, masked

__all__ = [
    "deeply_supervised_cross_entropy",
    "mean_cross_entropy",
    "select_class",
    "softmax_cross_entropy",
]


def select_class(values: jax.Array, labels: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """The entry of each label's class.

    Args:
        values: One value per class, floats `[..., K]`, else a `TypeError`.
        labels: Integers `[...]`, else a `ValueError`; a label of a real entry that is no class
            gives NaN.
        where: Real entries; broadcasts to `labels`, else a `ValueError`. All by default.

    Returns:
        `[...]`, at least float32; 0 with zero gradient outside `where`.
    """
    values, labels = jnp.asarray(values), jnp.asarray(labels)
    real = _check(values, labels, where, "values")
    # Comparing rather than indexing: a void label is never an address, and no scatter on the way
    # back.
    chosen = labels[..., None] == jnp.arange(values.shape[-1])
    found = jnp.sum(jnp.where(chosen & real[..., None], masked.widen(values), 0.0), axis=-1)
    return jnp.where(real & ~jnp.any(chosen, axis=-1), jnp.nan, found)


def softmax_cross_entropy(
    logits: jax.Array, labels: jax.Array, where: jax.Array | None = None
) -> jax.Array:
    """-log softmax(logits)[label] of each pixel.

    Args:
        logits: Floats `[..., K]`, else a `TypeError`.
        labels: Integers `[...]`, else a `ValueError`; a label of a real pixel that is no class
            gives NaN.
        where: Pixels that are not void; broadcasts to `labels`, else a `ValueError`. All by
            default.

    Returns:
        Loss per pixel `[...]`, not reduced, at least float32; 0 with zero gradient outside `where`.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    real = _check(logits, labels, where, "logits")
    logits = jnp.where(real[..., None], masked.widen(logits), 0.0)
    # The label's logit is picked before the normalisation: no map of log-probabilities is kept. The
    # largest is taken off first, or large logits would cancel.
    logits = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    return jnp.where(real, normaliser - select_class(logits, labels, real), 0.0)


def mean_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    where: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """Mean of `softmax_cross_entropy` over the real pixels of the whole batch, not per image.

    Args:
        logits: Floats `[B, ..., K]`, else a `TypeError`.
        labels: Integers `[B, ...]`, else a `ValueError`.
        where: Pixels that are not void; broadcasts to `labels`, else a `ValueError`.
        axis_name: Named axis of devices; all get the mean over the pixels of the global batch.

    Returns:
        Scalar; 0 with zero gradient where all pixels are void (the released code of document 001
        returns NaN).

    References:
        Document 001, section 3.2, eq. 3; document 000, section 3, eq. 4 (L_seg).
    """
    each = softmax_cross_entropy(logits, labels, where)
    return masked.mean(each, where, axis_name=axis_name)


def deeply_supervised_cross_entropy(
    logits: jax.Array,
    auxiliary_logits: jax.Array,
    labels: jax.Array,
    where: jax.Array | None = None,
    *,
    auxiliary_weight: float = 0.4,
    axis_name: str | None = None,
) -> jax.Array:
    """mean CE(logits) + weight · mean CE(logits of an earlier layer), both at the labels' size.

    Args:
        logits: Floats `[B, ..., K]`, else a `TypeError`.
        auxiliary_logits: Of the classifier on the earlier layer, the shape of `logits`, else a
            `ValueError`.
        labels: Integers `[B, ...]`, else a `ValueError`.
        where: Pixels that are not void; broadcasts to `labels`, else a `ValueError`.
        auxiliary_weight: Weight of the second mean.
        axis_name: Named axis of devices; all get the value of the global batch.

    Returns:
        Scalar; 0 with zero gradient where all pixels are void.

    References:
        Released code of document 001 (github.com/DarioFontanel/PAnS); its text has only the
        first mean.
    """
    checks.shape_equal("auxiliary_logits", jnp.shape(auxiliary_logits), jnp.shape(logits))
    main = mean_cross_entropy(logits, labels, where, axis_name=axis_name)
    auxiliary = mean_cross_entropy(auxiliary_logits, labels, where, axis_name=axis_name)
    return main + auxiliary_weight * auxiliary


def _check(values, labels, where, name):
    """Raises at what does not fit; gives `where` as booleans in the shape of the labels."""
    checks.floating(name, values)
    checks.shape_equal("labels", labels.shape, values.shape[:-1])
    return masked.as_mask(where, labels.shape)
