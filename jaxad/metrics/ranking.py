"""How well scores rank anomalous above normal: areas under ROC and precision-recall curves.

Truth is 0 (normal) or 1 (anomalous), scores are finite and unbounded, higher is more anomalous;
both are flattened, void entries removed by the caller. Equal scores are one threshold, so ties
count as scikit-learn counts them and no order of the entries matters. All sums are float64. Where
the truth holds one class only, every area and rate is undefined and returned as NaN.
"""

import numpy as np
from sklearn import metrics as sk

from jaxad.metrics import checks, cumulative

__all__ = [
    "average_precision",
    "fpr_at_tpr",
    "fpr_at_tpr_nearest",
    "fpr_at_tpr_normal_positive",
    "pr_auc",
    "precision_recall_curve",
    "roc_auc",
    "roc_curve",
]


def roc_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Probability that an anomalous entry scores higher than a normal one; ties count one half.

    Args:
        truth: 0 or 1, any shape.
        scores: Finite numbers of the shape of `truth`.

    Returns:
        A value in [0, 1], 0.5 for scores that say nothing; NaN if one class is absent.

    Raises:
        ValueError: If shapes differ, truth is not 0 or 1, or scores are NaN or infinite.
    """
    truth, scores = checks.binary(truth, scores)
    return float(sk.roc_auc_score(truth, scores)) if checks.two_classes(truth) else float("nan")


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Precision averaged over the recall gained at each threshold (step-wise area).

    Args:
        truth: 0 or 1, any shape.
        scores: Finite numbers of the shape of `truth`.

    Returns:
        A value in (0, 1], about the share of anomalous entries for scores that say nothing; NaN if
        one class is absent.

    Raises:
        ValueError: As `roc_auc`.
    """
    truth, scores = checks.binary(truth, scores)
    return (
        float(sk.average_precision_score(truth, scores))
        if checks.two_classes(truth)
        else float("nan")
    )


def pr_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Trapezoidal area under the precision-recall curve.

    Linear interpolation between points is optimistic, but several published "AP" figures are made
    this way, those of RTFM on XD-Violence among them.

    Args:
        truth: 0 or 1, any shape.
        scores: Finite numbers of the shape of `truth`.

    Returns:
        A value in (0, 1]; NaN if one class is absent.

    Raises:
        ValueError: As `roc_auc`.
    """
    truth, scores = checks.binary(truth, scores)
    if not checks.two_classes(truth):
        return float("nan")
    precision, recall, _ = sk.precision_recall_curve(truth, scores)
    return float(sk.auc(recall, precision))


def fpr_at_tpr(truth: np.ndarray, scores: np.ndarray, *, tpr: float = 0.95) -> float:
    """Share of normal entries above the highest threshold that finds `tpr` of the anomalous ones.

    The threshold is one of the scores: nothing is interpolated.

    Args:
        truth: 0 or 1, any shape.
        scores: Finite numbers of the shape of `truth`.
        tpr: True positive rate to reach, in (0, 1].

    Returns:
        A value in [0, 1], lower is better; NaN if one class is absent.

    Raises:
        ValueError: As `roc_auc`, or if `tpr` is out of range.
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr must be in (0, 1], got {tpr}.")
    truth, scores = checks.binary(truth, scores)
    if not checks.two_classes(truth):
        return float("nan")
    false_positive, true_positive, _ = sk.roc_curve(truth, scores, drop_intermediate=False)
    return float(false_positive[np.searchsorted(true_positive, tpr)])


def fpr_at_tpr_nearest(truth: np.ndarray, scores: np.ndarray, *, tpr: float = 0.95) -> float:
    """Share of normal entries above the threshold whose recall is nearest to `tpr`; released code.

    The recall may then be below `tpr`, and the value much smaller or larger than `fpr_at_tpr` where
    recall moves in steps. Of equally near recalls the larger counts, of thresholds of equal recall
    the lowest, but of those of recall 1 the highest.

    Args:
        truth: 0 or 1, any shape.
        scores: Finite numbers of the shape of `truth`.
        tpr: True positive rate to be near to, in (0, 1].

    Returns:
        A value in [0, 1], lower is better; NaN if one class is absent.

    Raises:
        ValueError: As `fpr_at_tpr`.

    References:
        Code of Hendrycks et al., https://github.com/hendrycks/anomaly-seg (CAOS), and of systems
        that use it: PAnS, PEBAL.
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr must be in (0, 1], got {tpr}.")
    truth, scores = checks.binary(truth, scores)
    if not checks.two_classes(truth):
        return float("nan")
    _, anomalous, normal = cumulative.of_scores(truth, scores)
    return float(normal[cumulative.nearest(anomalous, tpr)] / normal[-1])


def fpr_at_tpr_normal_positive(
    truth: np.ndarray, scores: np.ndarray, *, tpr: float = 0.95
) -> float:
    """Share of anomalous entries that pass where `tpr` of the normal ones do.

    The normal class is the positive one: the threshold is the lowest score t for which at least
    `tpr` of the normal scores are at most t, and an entry passes if its score is at most t.

    Args:
        truth: 0 or 1 (still 1 for anomalous), any shape.
        scores: Finite numbers of the shape of `truth`.
        tpr: Share of normal entries to pass, in (0, 1].

    Returns:
        A value in [0, 1], lower is better; NaN if one class is absent.

    Raises:
        ValueError: As `fpr_at_tpr`.

    References:
        Document 000, tables 1 and 3: not stated there, but the works that it compares with take
        the in-distribution class as positive.
    """
    truth, scores = checks.binary(truth, scores)
    return fpr_at_tpr(1 - truth, -scores, tpr=tpr)


def roc_curve(
    truth: np.ndarray, scores: np.ndarray, *, points: int = 500
) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve for a plot.

    Args:
        truth: 0 or 1, any shape.
        scores: Finite numbers of the shape of `truth`.
        points: Most points to return, at least 2; they lie at equal steps along the curve.

    Returns:
        False and true positive rates, float64 `[p]` each, from (0, 0) to (1, 1); empty if one class
        is absent.

    Raises:
        ValueError: As `roc_auc`, or if `points` is below 2.
    """
    truth, scores = checks.binary(truth, scores)
    if not checks.two_classes(truth):
        return np.zeros(0), np.zeros(0)
    false_positive, true_positive, _ = sk.roc_curve(truth, scores)
    return _decimated(false_positive, true_positive, points)


def precision_recall_curve(
    truth: np.ndarray, scores: np.ndarray, *, points: int = 500
) -> tuple[np.ndarray, np.ndarray]:
    """The precision-recall curve for a plot.

    Args:
        truth: 0 or 1, any shape.
        scores: Finite numbers of the shape of `truth`.
        points: Most points to return, at least 2; they lie at equal steps along the curve.

    Returns:
        Recall and precision, float64 `[p]` each, from recall 0 to 1; empty if one class is absent.

    Raises:
        ValueError: As `roc_auc`, or if `points` is below 2.
    """
    truth, scores = checks.binary(truth, scores)
    if not checks.two_classes(truth):
        return np.zeros(0), np.zeros(0)
    precision, recall, _ = sk.precision_recall_curve(truth, scores, drop_intermediate=True)
    return _decimated(recall[::-1], precision[::-1], points)


def _decimated(x: np.ndarray, y: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `points` points of a curve, both ends among them."""
    if points < 2:
        raise ValueError(f"points must be at least 2, got {points}.")
    if len(x) <= points:
        return x, y
    # Equal steps along the curve keep its steep parts, where equal steps in x would jump.
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    kept = np.searchsorted(length, np.linspace(0, length[-1], points))
    kept = np.unique(np.concatenate([[0], kept[1:-1], [len(x) - 1]]))
    return x[kept], y[kept]
