"""How many anomalous and normal entries score at or above each threshold, and rates read off it.

Every threshold is one of the scores, and equal scores pass it together: no order of the entries
matters. Counts are int64, exact.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Cumulative", "at_least", "f1", "nearest", "of_scores", "tie_ends"]


class Cumulative(NamedTuple):
    """Counts at or above each threshold, from the highest threshold down.

    Attributes:
        thresholds: Distinct scores, falling, float64 `[n]`.
        anomalous: Anomalous entries at or above each, int64 `[n]`.
        normal: The same of the normal ones.
    """

    thresholds: np.ndarray
    anomalous: np.ndarray
    normal: np.ndarray


def of_scores(truth: np.ndarray, scores: np.ndarray) -> Cumulative:
    """Sorts once and counts.

    Args:
        truth: 0 or 1, `[n]`.
        scores: Finite float64 `[n]`.

    Returns:
        One entry per distinct score.
    """
    order = np.argsort(-scores)
    scores = scores[order]
    last = tie_ends(scores)
    anomalous = np.cumsum(truth[order], dtype=np.int64)[last]
    return Cumulative(scores[last], anomalous, last + 1 - anomalous)


def tie_ends(ordered: np.ndarray) -> np.ndarray:
    """Where runs of equal values end.

    Args:
        ordered: Sorted `[n]`.

    Returns:
        Indices of the last entry of each run, `[m]`.
    """
    return np.flatnonzero(np.append(ordered[1:] != ordered[:-1], ordered.size > 0))


def at_least(anomalous: np.ndarray, tpr: float) -> int:
    """The first threshold whose recall reaches `tpr`.

    Args:
        anomalous: Rising counts `[n]`, the last above 0.
        tpr: Recall to reach, in (0, 1], else a `ValueError`.

    Returns:
        Index, a scalar.
    """
    _check_rate(tpr)
    return int(np.searchsorted(anomalous / anomalous[-1], tpr))


def nearest(anomalous: np.ndarray, tpr: float) -> int:
    """The threshold whose recall is nearest to `tpr`, as the CAOS code picks it.

    Of equally near ones the larger recall; of equal recalls below 1 the lowest threshold, and of
    those of recall 1 the highest. Distances are float64 as in that code, in which 0.9 is nearer to
    0.95 than 1 is.

    Args:
        anomalous: Rising counts `[n]`, the last above 0.
        tpr: Recall to be near to, in (0, 1], else a `ValueError`.

    Returns:
        Index, a scalar.
    """
    _check_rate(tpr)
    complete = int(np.searchsorted(anomalous, anomalous[-1]))
    recall = anomalous[: complete + 1] / anomalous[-1]
    # Reversed, since of equal distances argmin takes the first.
    return complete - int(np.argmin(np.abs(recall[::-1] - tpr)))


def f1(anomalous: np.ndarray, normal: np.ndarray, total: int) -> np.ndarray:
    """2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall.

    Args:
        anomalous: True positives `[n]`.
        normal: False positives `[n]`.
        total: Number of all anomalous entries, at least 1.

    Returns:
        float64 `[n]`.
    """
    return 2.0 * anomalous / (anomalous + normal + total)  # TP + FN is the total.


def _check_rate(tpr: float) -> None:
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr must be in (0, 1], got {tpr}.")
