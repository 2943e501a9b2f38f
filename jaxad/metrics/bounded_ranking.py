"""Ranking metrics of scores counted in bins (`streaming`), with bounds on their error.

Only the order within a bin is lost. Every result takes each bin as one tie, and comes with the
lowest and highest value that any order within the bins could give: the exact value lies between
them, up to rounding of about 1e-12. The areas differ from it by at most the bounds' distance, which
shrinks with the share of scores that meet the other class in their bin.
"""

from typing import NamedTuple

import numpy as np
from sklearn import metrics as sk

from jaxad.metrics import cumulative
from jaxad.metrics.streaming import ScoreHistogram

__all__ = [
    "BestF1",
    "Bounded",
    "Released",
    "average_precision",
    "f1_max",
    "fpr_at_tpr",
    "fpr_at_tpr_nearest",
    "released",
    "roc_auc",
    "roc_curve",
]


class Bounded(NamedTuple):
    """A result, and the bounds within which the exact value lies."""

    value: float
    lower: float
    upper: float


class BestF1(NamedTuple):
    """Largest F1, its bounds, and the lowest bin that is called anomalous for it."""

    value: float
    lower: float
    upper: float
    first_bin: int


class Released(NamedTuple):
    """Metrics as a published program rounds them."""

    roc_auc: float
    fpr_at_tpr: float
    average_precision: float


def roc_auc(histogram: ScoreHistogram) -> Bounded:
    """`ranking.roc_auc`: pairs in one bin count one half, the bounds all or none of them.

    Args:
        histogram: Of a whole split, `[2, bins]`.

    Returns:
        Three scalars; NaN if one class is absent. The bounds are half the share of pairs of both
        classes that lie in one bin away from the value.
    """
    anomalous, normal = _falling(histogram)
    if not _two_classes(anomalous, normal):
        return Bounded(np.nan, np.nan, np.nan)
    weight = normal / normal.sum()
    share = anomalous / anomalous.sum()
    above = np.maximum(np.cumsum(share) - share, 0.0)
    # Rounding may carry a share a little beyond 1.
    lower = min(float(np.sum(weight * above)), 1.0)
    tied = float(np.sum(weight * share))
    return Bounded(min(lower + tied / 2, 1.0), lower, min(lower + tied, 1.0))


def average_precision(histogram: ScoreHistogram) -> Bounded:
    """`ranking.average_precision`, each bin taken as one tie.

    The upper bound puts the anomalous scores of a bin, as one tie, above its normal ones; the lower
    bound puts them below, one after the other.

    Args:
        histogram: Of a whole split, `[2, bins]`.

    Returns:
        Three scalars; NaN if one class is absent.
    """
    anomalous, normal = _falling(histogram)
    if not _two_classes(anomalous, normal):
        return Bounded(np.nan, np.nan, np.nan)
    total = anomalous.sum()
    found, flagged = np.cumsum(anomalous), np.cumsum(normal)
    before = found - anomalous
    value = min(np.sum(anomalous * (found / (found + flagged))) / total, 1.0)
    upper = np.sum(anomalous * (found / np.maximum(found + flagged - normal, 1))) / total
    # The i-th has precision (before + i) / (before + i + flagged), of which the sum over i is
    # a - flagged Σ 1 / (before + flagged + i), and that sum, of a convex function at midpoints, is
    # at most its integral. No term is below the first.
    integral = np.log1p(anomalous / (before + flagged + 0.5))
    first = (before + 1) / (before + 1 + flagged)
    lower = np.sum(np.maximum(anomalous - flagged * integral, anomalous * first)) / total
    return Bounded(float(value), float(min(lower, value)), float(max(min(upper, 1.0), value)))


def fpr_at_tpr(histogram: ScoreHistogram, *, tpr: float = 0.95) -> Bounded:
    """`ranking.fpr_at_tpr`: the recall is reached in one known bin.

    Args:
        histogram: Of a whole split, `[2, bins]`.
        tpr: True positive rate to reach, in (0, 1], else a `ValueError`.

    Returns:
        Three scalars; NaN if one class is absent. The value is the upper bound: all normal scores
        of that bin are above the threshold; for the lower bound none is.
    """
    anomalous, normal = _falling(histogram)
    if not _two_classes(anomalous, normal):
        return Bounded(np.nan, np.nan, np.nan)
    flagged = np.cumsum(normal)
    bin_ = cumulative.at_least(np.cumsum(anomalous), tpr)
    upper = float(flagged[bin_] / flagged[-1])
    return Bounded(upper, float((flagged[bin_] - normal[bin_]) / flagged[-1]), upper)


def fpr_at_tpr_nearest(histogram: ScoreHistogram, *, tpr: float = 0.95) -> Bounded:
    """`ranking.fpr_at_tpr_nearest`, each bin taken as one tie.

    Args:
        histogram: Of a whole split, `[2, bins]`.
        tpr: True positive rate to be near to, in (0, 1], else a `ValueError`.

    Returns:
        Three scalars; NaN if one class is absent. The recalls next to `tpr` lie in the bin where it
        is crossed or at its ends, and a plateau may reach into the next bin that holds anomalous
        scores: the bounds span these bins.
    """
    anomalous, normal = _falling(histogram)
    if not _two_classes(anomalous, normal):
        return Bounded(np.nan, np.nan, np.nan)
    found, flagged = np.cumsum(anomalous), np.cumsum(normal)
    value = flagged[cumulative.nearest(found, tpr)] / flagged[-1]
    crossed = cumulative.at_least(found, tpr)
    last = crossed
    if found[crossed] < found[-1]:
        last = crossed + 1 + int(np.argmax(anomalous[crossed + 1 :] > 0))
    lower = (flagged[crossed] - normal[crossed]) / flagged[-1]
    return Bounded(float(value), float(lower), float(flagged[last] / flagged[-1]))


def f1_max(histogram: ScoreHistogram) -> BestF1:
    """`decisions.f1_max` over the thresholds between bins.

    Args:
        histogram: Of a whole split, `[2, bins]`.

    Returns:
        Scalars: the F1 (the exact one is at least that), its bounds, and the lowest bin called
        anomalous, whose lower edge is the threshold; NaN and -1 if one class is absent.
    """
    anomalous, normal = _falling(histogram)
    if not _two_classes(anomalous, normal):
        return BestF1(np.nan, np.nan, np.nan, -1)
    found, flagged = np.cumsum(anomalous), np.cumsum(normal)
    values = cumulative.f1(found, flagged, found[-1])
    best = int(np.argmax(values))
    upper = cumulative.f1(found, flagged - normal, found[-1]).max()
    used = np.flatnonzero(histogram.counts.sum(axis=0))[::-1]
    value = float(values[best])
    return BestF1(value, value, float(upper), int(used[best]))


def roc_curve(histogram: ScoreHistogram) -> tuple[np.ndarray, np.ndarray]:
    """The points of the ROC curve at the thresholds between bins: all lie on the exact curve.

    Args:
        histogram: Of a whole split, `[2, bins]`.

    Returns:
        False and true positive rates, float64 `[p]` each, from (0, 0) to (1, 1); empty if one class
        is absent.
    """
    anomalous, normal = _falling(histogram)
    if not _two_classes(anomalous, normal):
        return np.zeros(0), np.zeros(0)
    x, y = (np.cumsum(counts) / counts.sum() for counts in (normal, anomalous))
    return np.append(0.0, x), np.append(0.0, y)


def released(histogram: ScoreHistogram, *, tpr: float = 0.95) -> Released:
    """Metrics of rescaled and floored counts; released code of entropy maximisation.

    That program counts 100 bins of [0, 1] (`add_in_range`; clip before, it drops what is outside),
    scales each class to 10^5 scores for ROC and FPR, and both together to 10^7 for precision, and
    rounds the counts down. The FPR is that of the ROC point whose recall is nearest to `tpr`, among
    those that scikit-learn keeps.

    Args:
        histogram: Of a whole split, `[2, bins]`.
        tpr: Of equally near points the one of lower recall is taken.

    Returns:
        Three scalars; NaN if one class is absent, before or after rounding.

    References:
        Document 002's code, https://github.com/JuricaRuntas/meta-ood, and its parent,
        https://github.com/robin-chan/meta-ood.
    """
    anomalous, normal = _falling(histogram)
    if not _two_classes(anomalous, normal):
        return Released(np.nan, np.nan, np.nan)
    truth = np.repeat([1, 0], len(normal))
    scores = -np.tile(np.arange(len(normal)), 2)
    share = normal.sum() / (normal.sum() + anomalous.sum())

    def rounded(out: float, in_: float) -> np.ndarray:
        """Counts scaled to `out` anomalous and `in_` normal scores, in that program's order."""
        scaled = anomalous / anomalous.sum() * out, normal / normal.sum() * in_
        return np.floor(np.concatenate(scaled))

    balanced, whole = rounded(1e5, 1e5), rounded(1e7 * (1 - share), 1e7 * share)
    if not min(np.bincount(truth, weights).min() for weights in (balanced, whole)):
        return Released(np.nan, np.nan, np.nan)
    kept = balanced > 0
    x, y, _ = sk.roc_curve(truth[kept], scores[kept], sample_weight=balanced[kept])
    return Released(
        float(sk.auc(x, y)),
        float(x[np.argmin(np.abs(y - tpr))]),
        float(sk.average_precision_score(truth, scores, sample_weight=whole)),
    )


def _falling(histogram: ScoreHistogram) -> tuple[np.ndarray, np.ndarray]:
    """Anomalous and normal counts of the bins in use, highest bin first, int64."""
    if int(histogram.not_finite):
        raise ValueError(f"{int(histogram.not_finite)} scores are NaN or infinite.")
    normal, anomalous = np.asarray(histogram.counts, np.int64)[:, ::-1]
    used = normal + anomalous > 0
    return anomalous[used], normal[used]


def _two_classes(anomalous: np.ndarray, normal: np.ndarray) -> bool:
    return bool(anomalous.sum() > 0 and normal.sum() > 0)
