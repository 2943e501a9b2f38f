"""Confidence intervals of any metric, by resampling its examples.

Examples are the independent units: images or videos, not pixels. Strata (the classes, as a rule)
are resampled each by itself and keep their sizes, so that a metric that needs all of them is always
defined.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

__all__ = ["Interval", "bca", "percentile"]

_INDICES = 2**22  # Drawn at a time: bounds the memory of the resamples.


class Interval(NamedTuple):
    """A metric of the examples as they are, and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def percentile(
    metric: Callable[..., float],
    *arrays: np.ndarray,
    strata: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Quantiles of the metric over resampled examples.

    Args:
        metric: Takes `arrays` with their first axes resampled, returns a number.
        *arrays: `[N, ...]` each, at least one.
        strata: Class of each example `[N]`; each class needs at least 2 examples, else a
            `ValueError`. One stratum by default.
        level: Share of the interval, in (0, 1).
        resamples: How often to draw.
        seed: Of `numpy.random.default_rng`.

    Returns:
        Three scalars; NaN ends if the metric is NaN for any resample.
    """
    return _interval("percentile", metric, arrays, strata, level, resamples, seed)


def bca(
    metric: Callable[..., float],
    *arrays: np.ndarray,
    strata: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """As `percentile`, corrected for bias and for a spread that depends on the value.

    More exact for skewed metrics, and it needs N more evaluations, each leaving out one example.

    Args:
        metric: Takes `arrays` with their first axes resampled, returns a number.
        *arrays: `[N, ...]` each, at least one.
        strata: Class of each example `[N]`; each class needs at least 2 examples, else a
            `ValueError`. One stratum by default.
        level: Share of the interval, in (0, 1).
        resamples: How often to draw.
        seed: Of `numpy.random.default_rng`.

    Returns:
        Three scalars; NaN ends if the metric is NaN for any resample. If all resamples agree, as
        for perfect scores, the interval is that value.

    References:
        Efron, Better bootstrap confidence intervals, JASA 82 (1987).
    """
    return _interval("BCa", metric, arrays, strata, level, resamples, seed)


def _interval(method, metric, arrays, strata, level, resamples, seed) -> Interval:
    arrays = [np.asarray(array) for array in arrays]
    sizes = {len(array) for array in arrays}
    if len(sizes) != 1:
        raise ValueError(f"arrays must be at least one, of one length, got {sorted(sizes)}.")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(
            f"level must be in (0, 1) and resamples at least 1, got {level} and {resamples}."
        )
    examples = sizes.pop()
    strata = np.zeros(examples, int) if strata is None else np.asarray(strata)
    if strata.shape != (examples,):
        raise ValueError(f"strata must be [{examples}], got {strata.shape}.")
    names, sizes = np.unique(strata, return_counts=True)
    if not examples or sizes.min() < 2:
        raise ValueError(
            f"each stratum needs 2 examples, got {dict(zip(names, sizes, strict=True))}."
        )
    groups = [np.flatnonzero(strata == name) for name in names]

    def of_examples(*drawn: np.ndarray) -> float:
        chosen = np.concatenate(drawn)
        return metric(*(array[chosen] for array in arrays))

    value = float(of_examples(*groups))
    run = dict(confidence_level=level, n_resamples=resamples, vectorized=False)
    run |= dict(batch=max(1, _INDICES // examples), rng=np.random.default_rng(seed))
    with warnings.catch_warnings():
        # Of a metric that is NaN for a resample; the ends are then NaN, as stated.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(groups, of_examples, method="percentile", **run)
    drawn = result.bootstrap_distribution
    # Without spread the corrections of BCa are 0 / 0.
    if method == "BCa" and np.ptp(drawn) > 0:
        result = stats.bootstrap(
            groups,
            of_examples,
            method=method,
            bootstrap_result=result,
            **(run | {"n_resamples": 0}),
        )
    return Interval(value, *map(float, result.confidence_interval))
