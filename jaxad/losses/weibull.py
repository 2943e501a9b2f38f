"""Weibull distribution fitted to scores of normal data, which scales scores to [0, 1].

Two parameters, location 0: P(score <= a) = 1 - exp(-(a / scale)^shape).

Source: document 000, section 3.3, eq. 9.
"""

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from jaxad.losses import checks, masked

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Weibull", "cdf", "fit", "log_survival"]


class Weibull(NamedTuple):
    """Parameters, Python floats: shape (kappa, no unit) and scale (lambda, unit of the scores)."""

    shape: float
    scale: float


def fit(
    samples: "np.ndarray", where: "np.ndarray | None" = None, *, tail_fraction: float = 1.0
) -> Weibull:
    """Maximum-likelihood fit on the host, in float64: one root of an increasing function.

    The fit is not robust: a few far scores pull the shape down, so that only normal images may
    enter. With all scores in it, half of the normal pixels are scaled to above a half.

    Args:
        samples: Scores `[...]` of normal validation data, positive and finite and not all the same,
            else a `ValueError`.
        where: Real entries; broadcasts to `samples`, else a `ValueError`. The others may be
            anything.
        tail_fraction: Share of the largest samples to fit on, above 0 and at most 1, else a
            `ValueError`; 1 is the document's.

    Returns:
        Shape and scale.

    References:
        Document 000, section 3.3.
    """
    import numpy as np
    import scipy.optimize

    samples = np.asarray(samples, np.float64)
    if where is not None:
        checks.broadcastable("where", np.shape(where), samples.shape)
        samples = samples[np.broadcast_to(np.asarray(where).astype(bool), samples.shape)]
    if not 0.0 < tail_fraction <= 1.0:
        raise ValueError(f"tail_fraction: expected a number in (0, 1], got {tail_fraction}.")
    samples = np.sort(samples, axis=None)
    samples = samples[samples.size - int(np.ceil(tail_fraction * samples.size)) :]
    if not samples.size or not np.isfinite(samples).all() or samples[0] <= 0.0:
        got = f"{samples.size} of them" + (f" from {samples[0]}" if samples.size else "")
        raise ValueError(f"samples: expected positive finite numbers, got {got}.")
    if samples[0] == samples[-1]:
        raise ValueError(f"samples: expected at least two different values, got {samples[0]}.")
    # In units of the largest, powers cannot overflow.
    logs = np.log(samples) - np.log(samples[-1])

    def slope(log_shape):
        powers = np.exp(np.exp(log_shape) * logs)
        return powers @ logs / powers.sum() - np.exp(-log_shape) - logs.mean()

    # At the lower end -1 / shape rules; the upper one grows until the sign changes.
    lower, upper = -np.log(-logs.mean()) - 5.0, 1.0
    while slope(lower) >= 0.0:
        lower -= 5.0
    while slope(upper) <= 0.0:
        upper += 1.0
    shape = float(np.exp(scipy.optimize.brentq(slope, lower, upper, xtol=1e-13, rtol=1e-14)))
    log_scale = np.log(samples[-1]) + np.log(np.mean(np.exp(shape * logs))) / shape
    return Weibull(shape, float(np.exp(log_scale)))


def cdf(values: jax.Array, shape: jax.Array, scale: jax.Array) -> jax.Array:
    """A_xi = 1 - exp(-(A / scale)^shape), from logarithms: large shapes do not overflow.

    Args:
        values: Scores A, floats `[...]`, at least 0, else a `TypeError`.
        shape: Of `fit`; a number, or an array that broadcasts to `values`.
        scale: Of `fit`; a number, or an array that broadcasts to `values`.

    Returns:
        Scaled scores `[...]` in [0, 1]; 0 with zero gradient at and below 0.

    References:
        Document 000, eq. 9.
    """
    positive, power = _power(values, shape, scale)
    return jnp.where(positive, -jnp.expm1(-power), 0.0)


def log_survival(values: jax.Array, shape: jax.Array, scale: jax.Array) -> jax.Array:
    """log(1 - A_xi) = -(A / scale)^shape, which still tells scores apart where A_xi rounds to 1.

    Args:
        values: Scores A, floats `[...]`, at least 0, else a `TypeError`.
        shape: Of `fit`; a number, or an array that broadcasts to `values`.
        scale: Of `fit`; a number, or an array that broadcasts to `values`.

    Returns:
        Logarithms `[...]`, at most 0; 0 with zero gradient at and below 0, and a
        finite number near the lowest with zero gradient where the power overflows.
    """
    positive, power = _power(values, shape, scale)
    return jnp.where(positive, -power, 0.0)


def _power(values, shape, scale):
    """Which values are positive, and (value / scale)^shape, capped."""
    checks.floating("values", values)
    checks.broadcastable("shape", jnp.shape(shape), jnp.shape(values))
    checks.broadcastable("scale", jnp.shape(scale), jnp.shape(values))
    values = masked.widen(values)
    shape, scale = (jnp.asarray(x, values.dtype) for x in (shape, scale))
    # One logarithm: the rounding of two would be multiplied by the shape.
    ratios = values / scale
    positive = ratios > 0.0
    logs = shape * jnp.log(jnp.where(positive, ratios, 1.0))
    return positive, jnp.exp(jnp.minimum(logs, jnp.log(jnp.finfo(values.dtype).max) - 1.0))
