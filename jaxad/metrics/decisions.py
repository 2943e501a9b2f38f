"""Decisions at a threshold: where to put it, and how good they are.

An entry is called anomalous if its score is at or above the threshold. Truth is 0 (normal) or 1
(anomalous), scores are finite, both are flattened, void entries removed by the caller. A rate of an
absent class is NaN, as are the thresholds that need both classes.
"""

from typing import NamedTuple

import numpy as np

from jaxad.metrics import checks, cumulative

__all__ = ["Best", "Rates", "at_threshold", "f1_max", "youden"]


class Best(NamedTuple):
    """The largest value of a criterion and the highest threshold that reaches it."""

    value: float
    threshold: float


class Rates(NamedTuple):
    """How often decisions are right; NaN where there is nothing to divide by.

    Attributes:
        accuracy: Share of right decisions.
        sensitivity: Share of the anomalous entries that are found (recall).
        specificity: Share of the normal entries that are let pass.
        precision: Share of the entries called anomalous that are.
        f1: 2 TP / (2 TP + FP + FN).
    """

    accuracy: float
    sensitivity: float
    specificity: float
    precision: float
    f1: float


def f1_max(truth: np.ndarray, scores: np.ndarray) -> Best:
    """Largest F1 over all thresholds: an oracle, as it looks at the truth.

    Args:
        truth: 0 or 1, any shape.
        scores: Finite numbers of the shape of `truth`, else a `ValueError`.

    Returns:
        Two scalars: F1 and the highest threshold that reaches it, one of the scores; NaN if one
        class is absent.
    """
    truth, scores = checks.binary(truth, scores)
    if not checks.two_classes(truth):
        return Best(np.nan, np.nan)
    counts = cumulative.of_scores(truth, scores)
    values = cumulative.f1(counts.anomalous, counts.normal, counts.anomalous[-1])
    best = int(np.argmax(values))
    return Best(float(values[best]), float(counts.thresholds[best]))


def youden(truth: np.ndarray, scores: np.ndarray) -> Best:
    """Largest J = sensitivity + specificity - 1 over all thresholds.

    Args:
        truth: 0 or 1, any shape.
        scores: Finite numbers of the shape of `truth`, else a `ValueError`.

    Returns:
        Two scalars: J and the highest threshold that reaches it, one of the scores; NaN if one
        class is absent. J is 0, at the lowest score, where no threshold does better.

    References:
        Youden, Index for rating diagnostic tests, Cancer 3 (1950).
    """
    truth, scores = checks.binary(truth, scores)
    if not checks.two_classes(truth):
        return Best(np.nan, np.nan)
    thresholds, anomalous, normal = cumulative.of_scores(truth, scores)
    # Integers: rounded rates could break a tie for a lower threshold.
    scaled = anomalous * normal[-1] - normal * anomalous[-1]
    best = int(np.argmax(scaled))
    value = scaled[best] / (float(anomalous[-1]) * float(normal[-1]))
    return Best(float(value), float(thresholds[best]))


def at_threshold(truth: np.ndarray, scores: np.ndarray, threshold: float) -> Rates:
    """Rates of the decisions score >= threshold.

    Args:
        truth: 0 or 1, any shape.
        scores: Finite numbers of the shape of `truth`, else a `ValueError`.
        threshold: A number, compared in float64; NaN is a `ValueError`.

    Returns:
        Five scalars.
    """
    truth, scores = checks.binary(truth, scores)
    if np.isnan(threshold):
        raise ValueError("threshold must be a number, got nan.")
    called = scores >= threshold
    positive = int(truth.sum(dtype=np.int64))
    true_positive = int(truth[called].sum(dtype=np.int64))
    false_positive = int(called.sum()) - true_positive
    negative = truth.size - positive
    return Rates(
        accuracy=_ratio(true_positive + negative - false_positive, truth.size),
        sensitivity=_ratio(true_positive, positive),
        specificity=_ratio(negative - false_positive, negative),
        precision=_ratio(true_positive, true_positive + false_positive),
        f1=_ratio(2 * true_positive, positive + true_positive + false_positive),
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
