"""Deviation loss: normal scores near the mean of a reference, abnormal ones a margin above it.

Sources: "document" is the thesis whose chapter 10 describes the few-shot network FSAD-Net;
"released" is the code published with it (github.com/tianyu0207/FSAD-Net); the loss is that of Pang
et al., Deep Anomaly Detection with Deviation Networks, https://arxiv.org/abs/1911.08623.
"""

import jax
import jax.numpy as jnp

from jaxad.losses import checks, masked

__all__ = ["deviation_loss", "draw_reference", "standard_score"]


def standard_score(
    scores: jax.Array, *, mean: float | jax.Array = 0.0, std: float | jax.Array = 1.0
) -> jax.Array:
    """s = (t - μ) / σ (document, below eq. 10.4).

    Args:
        scores: t, floats `[...]`, else a `TypeError`.
        mean: μ of the reference, a number or scalar array, else a `ValueError`.
        std: σ of the reference, above 0, a number or scalar array, else a `ValueError`.

    Returns:
        `[...]`, at least float32.
    """
    checks.floating("scores", scores)
    checks.shape_equal("mean", jnp.shape(mean), ())
    checks.shape_equal("std", jnp.shape(std), ())
    if not isinstance(std, jax.Array) and not std > 0.0:
        raise ValueError(f"std: expected a number above 0, got {std}.")
    return (masked.widen(scores) - mean) / std


def deviation_loss(
    scores: jax.Array,
    labels: jax.Array,
    *,
    mean: float | jax.Array = 0.0,
    std: float | jax.Array = 1.0,
    margin: float = 6.0,
) -> jax.Array:
    """|s| for normal examples, max(0, a - s) for abnormal ones, s = (t - μ) / σ (eq. 10.4).

    The slope is 0 at both kinks, s = 0 and s = a.

    Args:
        scores: t, floats `[...]`, else a `TypeError`.
        labels: `[...]`, else a `ValueError`; 0 normal, 1 abnormal.
        mean: μ; 0 in the document, of `draw_reference` in the released code.
        std: σ, above 0, else a `ValueError`; 1 in the document, of `draw_reference` in the
            released code.
        margin: a, in standard deviations.

    Returns:
        Loss per example `[...]`, not reduced.
    """
    checks.shape_equal("labels", jnp.shape(labels), jnp.shape(scores))
    deviations = standard_score(scores, mean=mean, std=std)
    # relu and not maximum: at a tie, maximum passes half the slope.
    short = jax.nn.relu(margin - deviations)
    size = masked.absolute(deviations)
    return jnp.where(jnp.asarray(labels) == 1, short, size)


def draw_reference(
    key: jax.Array, *, draws: int = 15_000, ddof: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of fresh standard normal draws; released code, at each step.

    Args:
        key: A typed key, the same on all devices.
        draws: Number of draws, more than `ddof`, else a `ValueError` (5,000 in Pang et al.).
        ddof: 1 divides by draws - 1 (released code), 0 by draws (Pang et al.).

    Returns:
        Two float32 scalars, about 0 and 1.
    """
    checks.positive_integer("draws", draws)
    if draws <= ddof:
        raise ValueError(f"draws: expected more than ddof = {ddof}, got {draws}.")
    reference = jax.random.normal(key, (draws,), jnp.float32)
    return jnp.mean(reference), jnp.std(reference, ddof=ddof)
