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

__all__ = [
    "LogHistogram",
    "Weibull",
    "cdf",
    "fit",
    "fit_histogram",
    "histogram",
    "log_survival",
]

_BINS = 16384
_LOGS = (-12.0, 24.0)  # Scores from 6e-6 to 3e10; the outer bins take what lies beyond.
_SHAPES = (-6.0, 12.0)  # Logarithms of the shapes that a fit can give.
_HALVINGS = 48


class Weibull(NamedTuple):
    """Parameters: shape (kappa, no unit) and scale (lambda, unit of the scores); floats by `fit`,
    scalar arrays by `fit_histogram`.
    """

    shape: float | jax.Array
    scale: float | jax.Array


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


class LogHistogram(NamedTuple):
    """Scores by their logarithm: all that a fit needs, in bounded memory; sums merge.

    Attributes:
        counts: Scores in each bin, float32 `[16384]`.
        sums: Of their logarithms, less the middle of the bin, `[16384]`.
    """

    counts: jax.Array
    sums: jax.Array


def histogram(
    samples: jax.Array, where: jax.Array | None = None, *, axis_name: str | None = None
) -> LogHistogram:
    """Counts scores for `fit_histogram`; the sum of two histograms is that of all their scores.

    Args:
        samples: Scores, floats `[...]`, else a `TypeError`. Those at or below 0 do not count.
        where: Real entries; broadcasts to `samples`, else a `ValueError`. The others may be
            anything.
        axis_name: Named axis of devices; all get the histogram of the global batch.

    Returns:
        The histogram; zeros where nothing is real.
    """
    checks.floating("samples", samples)
    samples = masked.widen(samples)
    real = masked.as_mask(where, samples.shape) & (samples > 0.0)
    logs = jnp.log(jnp.where(real, samples, 1.0)).ravel()
    width = (_LOGS[1] - _LOGS[0]) / _BINS
    bins = jnp.clip(jnp.floor((logs - _LOGS[0]) / width), 0, _BINS - 1).astype(jnp.int32)
    weights = real.ravel().astype(jnp.float32)
    inside = logs - (_LOGS[0] + (bins + 0.5) * width)
    empty = jnp.zeros(_BINS)
    counted = LogHistogram(empty.at[bins].add(weights), empty.at[bins].add(weights * inside))
    return counted if axis_name is None else jax.lax.psum(counted, axis_name)


def fit_histogram(scores: LogHistogram, *, tail_fraction: float = 1.0) -> Weibull:
    """`fit` of scores that were only counted: on the device, within 1e-3 of it.

    Scores of a bin (0.2 % wide) stand where their mean logarithm is.

    Args:
        scores: Of normal validation data.
        tail_fraction: As for `fit`, else a `ValueError`; within a bin all scores are alike.

    Returns:
        Shape and scale, float32 scalars: shape from 0.0025 to 1.6e5 (where all scores are the
        same); both 1 without scores.

    References:
        Document 000, section 3.3.
    """
    if not 0.0 < tail_fraction <= 1.0:
        raise ValueError(f"tail_fraction: expected a number in (0, 1], got {tail_fraction}.")
    checks.shape_equal("scores.counts", jnp.shape(scores.counts), (_BINS,))
    checks.shape_equal("scores.sums", jnp.shape(scores.sums), (_BINS,))
    scores = LogHistogram(*map(masked.widen, scores))
    width = (_LOGS[1] - _LOGS[0]) / _BINS
    middles = _LOGS[0] + (jnp.arange(_BINS) + 0.5) * width
    logs = middles + scores.sums / jnp.maximum(scores.counts, 1.0)
    above = jnp.cumsum(scores.counts[::-1])[::-1] - scores.counts
    number = jnp.sum(scores.counts)
    weights = jnp.clip(tail_fraction * number - above, 0.0, scores.counts)
    number = jnp.maximum(jnp.sum(weights), 1.0)
    # In units of the largest, powers cannot overflow.
    largest = jnp.max(jnp.where(weights > 0, logs, -jnp.inf), initial=_LOGS[0] - 1.0)
    logs = jnp.where(weights > 0, logs - largest, 0.0)
    mean = jnp.sum(weights * logs) / number

    def halve(_, interval):
        lower, upper = interval
        middle = 0.5 * (lower + upper)
        powers = weights * jnp.exp(jnp.exp(middle) * logs)
        slope = jnp.sum(powers * logs) / jnp.sum(powers) - jnp.exp(-middle) - mean
        return jnp.where(slope < 0, middle, lower), jnp.where(slope < 0, upper, middle)

    bounds = tuple(jnp.asarray(bound, jnp.float32) for bound in _SHAPES)
    lower, upper = jax.lax.fori_loop(0, _HALVINGS, halve, bounds)
    shape = jnp.exp(0.5 * (lower + upper))
    power_mean = jnp.sum(weights * jnp.exp(shape * logs)) / number
    scale = jnp.exp(largest + jnp.log(jnp.maximum(power_mean, 1e-30)) / shape)
    known = jnp.sum(scores.counts) > 0
    return Weibull(jnp.where(known, shape, 1.0), jnp.where(known, scale, 1.0))


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
