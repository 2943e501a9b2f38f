"""Metrics of connected regions: overlap per region (PRO), components found, missed and invented.

Regions are 8-connected: pixels that touch at a side or a corner belong together. Void pixels are
left out by `where`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from jaxad.metrics import checks, cumulative

__all__ = [
    "AdjustedIou",
    "ComponentOverlaps",
    "F1Star",
    "adjusted_iou",
    "aupro",
    "aupro_released",
    "component_f1",
    "component_overlaps",
    "components",
    "integrate_to",
    "largest_component",
    "pro_curve",
    "region_weights",
    "remove_small",
]


class ComponentOverlaps(NamedTuple):
    """How components of truth and prediction cover each other (SegmentMeIfYouCan).

    Attributes:
        truth_siou: Of each true component, its overlap with all predicted components that touch it,
            over the union of these; pixels of other true components are taken out of the union.
            float64 `[n]`.
        predicted_siou: The same of each predicted component, float64 `[m]`.
        predicted_precision: Share of each predicted component that is anomalous (PPV) `[m]`.
    """

    truth_siou: np.ndarray
    predicted_siou: np.ndarray
    predicted_precision: np.ndarray


class F1Star(NamedTuple):
    """Component F1: its mean over thresholds, its value at each `[Q]`, and the counts `[Q]`."""

    mean: float
    f1: np.ndarray
    found: np.ndarray
    missed: np.ndarray
    invented: np.ndarray


class AdjustedIou(NamedTuple):
    """Overlap of each predicted component with the truth `[m]`, and of each true object `[n]`.

    Attributes:
        iou: Adjusted IoU of the predicted components, in their order.
        false_positive: Whether a predicted component holds no anomalous pixel.
        missed: Whether a true object holds no predicted pixel.
    """

    iou: np.ndarray
    false_positive: np.ndarray
    missed: np.ndarray


def components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers the 8-connected components of each image.

    Args:
        mask: 0 or 1, `[..., H, W]`.

    Returns:
        Numbers from 1 in row-major order of their first pixels, 0 elsewhere, int32 `[..., H, W]`,
        and how many there are, over all images.
    """
    mask = checks.mask("mask", mask)
    if mask.ndim < 2:
        raise ValueError(f"mask must be [..., H, W], got {mask.shape}.")
    # Of the 3 x 3 x ... neighbourhood only the plane within the image: images do not touch.
    neighbours = np.zeros((3,) * mask.ndim, bool)
    neighbours[(1,) * (mask.ndim - 2)] = True
    labels, count = ndimage.label(mask, neighbours)
    return labels.astype(np.int32), int(count)


def remove_small(mask: np.ndarray, *, min_area: int) -> np.ndarray:
    """Clears components of fewer than `min_area` pixels.

    Args:
        mask: 0 or 1, `[..., H, W]`.
        min_area: In pixels.

    Returns:
        Booleans `[..., H, W]`.
    """
    labels, count = components(mask)
    kept = np.bincount(labels.ravel(), minlength=count + 1) >= min_area
    kept[0] = False
    return kept[labels]


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Keeps the largest component of each image, of equal ones the first.

    Args:
        mask: 0 or 1, `[..., H, W]`.

    Returns:
        Booleans `[..., H, W]`; empty images stay empty.
    """
    labels, count = components(mask)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    numbers, first = np.unique(labels, return_index=True)
    numbers, image = numbers[numbers > 0], first[numbers > 0] // max(np.prod(labels.shape[-2:]), 1)
    order = np.lexsort((numbers, -area[numbers], image))
    _, leading = np.unique(image[order], return_index=True)
    kept = np.zeros(count + 1, bool)
    kept[numbers[order][leading]] = True
    return kept[labels]


def region_weights(truth: np.ndarray, where: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """Weights that sum to 1 over each true region.

    Args:
        truth: 0 or 1 where `where` holds, `[..., H, W]`.
        where: Pixels that count, of the shape of `truth`; all by default.

    Returns:
        float64 `[..., H, W]`, 0 outside regions, and the number of regions.
    """
    labels, count = components(_real_mask("truth", truth, where))
    area = np.bincount(labels.ravel(), minlength=count + 1)
    weights = np.append(0.0, 1.0 / area[1:])
    return weights[labels], count


def pro_curve(
    truth: np.ndarray, scores: np.ndarray, *, where: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean share of each true region found, against the share of normal pixels flagged.

    Each region weighs the same, however small. All pixels are sorted once.

    Args:
        truth: 0 or 1 where `where` holds, `[..., H, W]`.
        scores: Numbers of the shape of `truth`, finite where `where` holds.
        where: Pixels that count, of the shape of `truth`; all by default.

    Returns:
        False positive rate over all normal pixels and per-region overlap, float64 `[p]` each, from
        (0, 0) to (1, 1), one point per distinct score; empty without regions or normal pixels.

    References:
        Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 129 (2021).
    """
    scores, weights, regions = _selected(truth, scores, where)
    normal = weights == 0.0
    if not regions or not normal.any():
        return np.zeros(0), np.zeros(0)
    order = np.argsort(-scores)
    last = cumulative.tie_ends(scores[order])
    flagged = np.cumsum(normal[order], dtype=np.int64)[last] / normal.sum()
    covered = np.minimum(np.cumsum(weights[order])[last] / regions, 1.0)
    covered[-1] = 1.0  # But for rounding it is.
    return np.append(0.0, flagged), np.append(0.0, covered)


def aupro(
    truth: np.ndarray,
    scores: np.ndarray,
    *,
    fpr_limit: float = 0.3,
    where: np.ndarray | None = None,
) -> float:
    """Area under the per-region overlap up to a false positive rate, over that rate.

    Args:
        truth: 0 or 1 where `where` holds, `[..., H, W]`.
        scores: Numbers of the shape of `truth`, finite where `where` holds.
        fpr_limit: In (0, 1], else a `ValueError`.
        where: Pixels that count, of the shape of `truth`; all by default.

    Returns:
        Scalar in [0, 1]; NaN without regions or normal pixels. Points are joined by straight lines,
        also where the limit cuts one.

    References:
        As `pro_curve`.
    """
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit must be in (0, 1], got {fpr_limit}.")
    flagged, covered = pro_curve(truth, scores, where=where)
    return integrate_to(flagged, covered, fpr_limit) if flagged.size else float("nan")


def aupro_released(
    truth: np.ndarray,
    scores: np.ndarray,
    *,
    fpr_limit: float = 0.3,
    thresholds: int | None = 100,
    where: np.ndarray | None = None,
) -> float:
    """`aupro` as published with MVTec 3D-AD: thresholds are scores of normal pixels alone.

    For figures of others that were made with that code; `aupro` has every threshold there is. Of
    normal pixels with equal scores each is a point of the curve by itself.

    Args:
        truth: 0 or 1 where `where` holds, `[..., H, W]`.
        scores: Numbers of the shape of `truth`, finite where `where` holds.
        fpr_limit: In (0, 1], else a `ValueError`.
        thresholds: How many normal pixels give one, from the lowest score to the highest and evenly
            in between by rank; at least 2, else a `ValueError`. None: all.
        where: Pixels that count, of the shape of `truth`; all by default.

    Returns:
        Scalar in [0, 1]; NaN without regions or normal pixels.

    References:
        Bergmann et al., The MVTec 3D-AD Dataset (2022), the published evaluation.
    """
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit must be in (0, 1], got {fpr_limit}.")
    if thresholds is not None and thresholds < 2:
        raise ValueError(f"thresholds must be at least 2 or None, got {thresholds}.")
    scores, weights, regions = _selected(truth, scores, where)
    normal = np.sort(scores[weights == 0.0])
    if not regions or not normal.size:
        return float("nan")
    scores, weights = scores[weights > 0.0], weights[weights > 0.0]
    order = np.argsort(scores)
    above = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0) / regions
    places = np.linspace(0, normal.size - 1, thresholds or normal.size, dtype=np.int64)[::-1]
    covered = above[np.searchsorted(scores[order], normal[places], side="right")]
    flagged = 1.0 - (places + 1) / normal.size
    return integrate_to(np.append(flagged, 1.0), np.append(covered, 1.0), fpr_limit)


def integrate_to(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    """Trapezoidal area from the first x to `limit`, over `limit`.

    Args:
        x: Rising from 0, `[p]`; equal values make a vertical step.
        y: `[p]`.
        limit: Above 0, at most the last x.

    Returns:
        Scalar.
    """
    # The first point at or beyond the limit ends the last, cut segment.
    end = int(np.searchsorted(x, limit))
    share = (limit - x[end - 1]) / (x[end] - x[end - 1])
    cut = y[end - 1] + share * (y[end] - y[end - 1])
    area = np.trapezoid(np.append(y[:end], cut), np.append(x[:end], limit))
    return float(area / limit)


def component_overlaps(
    truth: np.ndarray,
    predicted: np.ndarray,
    *,
    where: np.ndarray | None = None,
    min_truth_area: int = 0,
    min_predicted_area: int = 0,
) -> ComponentOverlaps:
    """Overlaps of the components of truth and prediction in one image.

    Args:
        truth: 0 or 1 where `where` holds, `[H, W]`.
        predicted: 0 or 1 where `where` holds, `[H, W]`.
        where: Pixels that count `[H, W]`; all by default. Others are cleared before the search.
        min_truth_area: True components below it become void, with what is predicted there
            (benchmark: 100 for anomalies, 10 for obstacles).
        min_predicted_area: Predicted components below it are cleared (benchmark: 500 and 50).

    Returns:
        Overlaps per component, float64 `[n]` and `[m]`.

    References:
        Chan et al., SegmentMeIfYouCan, https://arxiv.org/abs/2104.14812, and its code,
        https://github.com/SegmentMeIfYouCan/road-anomaly-benchmark.
    """
    truth = _real_mask("truth", truth, where)
    predicted = _real_mask("predicted", predicted, where)
    checks.same_shape("truth", truth.shape, "predicted", predicted.shape)
    if truth.ndim != 2:
        raise ValueError(f"truth must be one image [H, W], got {truth.shape}.")
    predicted, _ = components(remove_small(predicted, min_area=min_predicted_area))
    kept = ~(truth & ~remove_small(truth, min_area=min_truth_area))
    truth, predicted = components(truth)[0][kept], predicted[kept]
    # Sparse table of how many pixels each true and predicted component share.
    width = int(predicted.max(initial=0)) + 1
    pairs, shared = np.unique(truth.astype(np.int64) * width + predicted, return_counts=True)
    rows, columns = pairs // width, pairs % width
    true_siou, _ = _soft_iou(rows, columns, shared)
    predicted_siou, precision = _soft_iou(columns, rows, shared)
    return ComponentOverlaps(true_siou, predicted_siou, precision)


def component_f1(
    overlaps: Iterable[ComponentOverlaps], *, thresholds: Sequence[float] | None = None
) -> F1Star:
    """F1 of components over all images, averaged over thresholds of overlap.

    A true component is found if its sIoU reaches the threshold, else missed; a predicted one is
    invented if its precision is below it.

    Args:
        overlaps: Of each image, from `component_overlaps`.
        thresholds: `[Q]`; 0.25, 0.30, ..., 0.75 by default.

    Returns:
        The mean over thresholds, a scalar, and per threshold `[Q]` the F1 and the int64 counts; F1
        is NaN if there are no components at all.

    References:
        As `component_overlaps`.
    """
    overlaps = list(overlaps)
    if thresholds is None:
        thresholds = np.linspace(0.25, 0.75, 11)
    levels = np.asarray(thresholds, np.float64)[:, None]
    siou = np.concatenate([np.zeros(0), *(image.truth_siou for image in overlaps)])
    precision = np.concatenate([np.zeros(0), *(image.predicted_precision for image in overlaps)])
    found, missed = (siou >= levels).sum(1), (siou < levels).sum(1)
    invented = (precision < levels).sum(1)
    whole = 2 * found + missed + invented
    f1 = np.where(whole > 0, 2 * found / np.maximum(whole, 1), np.nan)
    return F1Star(float(f1.mean()), f1, found, missed, invented)


def adjusted_iou(
    truth: np.ndarray, predicted: np.ndarray, *, where: np.ndarray | None = None
) -> AdjustedIou:
    """|S ∩ G| / (|S| + |G_S|) of each predicted component S with the truth G.

    G_S are the anomalous pixels not predicted that hang together, among themselves, with pixels
    next to S.

    Args:
        truth: 0 or 1, `[H, W]`.
        predicted: 0 or 1 where `where` holds, `[H, W]`.
        where: Pixels in which to predict `[H, W]`; all by default. Others are cleared before the
            search.

    Returns:
        Per predicted component `[m]`, and per true component `[n]`.

    References:
        Document 002, equations 3.10 and 3.11; code of Chan et al.,
        https://github.com/robin-chan/meta-ood.
    """
    truth = checks.mask("truth", truth)
    predicted = _real_mask("predicted", predicted, where)
    checks.same_shape("truth", truth.shape, "predicted", predicted.shape)
    if truth.ndim != 2:
        raise ValueError(f"truth must be one image [H, W], got {truth.shape}.")
    labels, count = components(predicted)
    rest, pieces = components(truth & ~predicted)
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    hits = np.bincount(labels[truth], minlength=count + 1)[1:]
    first, second = _touching(labels, rest)
    piece_area = np.bincount(rest.ravel(), minlength=pieces + 1)
    near = np.bincount(first, weights=piece_area[second], minlength=count + 1)[1:]
    objects, number = components(truth)
    reached = np.bincount(objects[predicted], minlength=number + 1)[1:]
    return AdjustedIou(hits / (area + near), hits == 0, reached == 0)


def _selected(truth, scores, where):
    """Scores of the pixels that count, their weights of `region_weights`, number of regions."""
    scores = np.asarray(scores, np.float64)
    checks.same_shape("truth", np.shape(truth), "scores", scores.shape)
    selected = checks.selection(where, "scores", scores.shape)
    weights, regions = region_weights(truth, where)
    checks.finite("scores", scores[selected])
    return scores[selected], weights[selected], regions


def _real_mask(name: str, values: np.ndarray, where: np.ndarray | None) -> np.ndarray:
    """A mask that is empty where pixels do not count, whatever it held there."""
    values = np.asarray(values)
    selected = checks.selection(where, name, values.shape)
    return checks.mask(name, np.where(selected, values, 0))


def _soft_iou(
    rows: np.ndarray, columns: np.ndarray, shared: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """sIoU of each row component with the columns that touch it, and its share inside columns.

    For row i, with J the columns it meets: the adjusted union is |i| and what of J lies in no row.
    """
    size = np.bincount(rows, weights=shared)
    alone = np.bincount(columns, weights=shared * (rows == 0))
    both = (rows > 0) & (columns > 0)
    hits = np.bincount(rows[both], weights=shared[both], minlength=size.size)
    outside = np.bincount(rows[both], weights=alone[columns[both]], minlength=size.size)
    there = np.flatnonzero(size > 0)
    there = there[there > 0]
    return (hits / np.maximum(size + outside, 1))[there], (hits / np.maximum(size, 1))[there]


def _touching(labels: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct pairs of a number in `labels` and one in `others` of which two pixels touch."""
    padded = np.pad(others.astype(np.int64), 1)
    height, width = labels.shape
    base = int(others.max(initial=0)) + 1
    found = [np.zeros(0, np.int64)]
    for down in range(3):
        for right in range(3):
            neighbours = padded[down : down + height, right : right + width]
            both = (labels > 0) & (neighbours > 0)
            found.append(np.unique(labels[both].astype(np.int64) * base + neighbours[both]))
    pairs = np.unique(np.concatenate(found))
    return pairs // base, pairs % base
