"""How well label maps and thresholded score maps match the truth, pixel by pixel.

Confusion matrices are int64 arrays that add up: over batches, devices and processes, the matrix of
the whole is the sum of the matrices of its parts. Void pixels are left out by `where`; what they
hold does not matter.
"""

import numpy as np

from jaxad.metrics import checks

__all__ = [
    "class_counts",
    "class_iou",
    "confusion_matrix",
    "dice",
    "dice_of_counts",
    "iou",
    "map_dice",
    "map_iou",
    "mean_class_accuracy",
    "mean_iou",
    "mean_of_defined",
    "pixel_accuracy",
]


def confusion_matrix(
    truth: np.ndarray,
    prediction: np.ndarray,
    *,
    classes: int,
    where: np.ndarray | None = None,
) -> np.ndarray:
    """Counts of each pair of true and predicted class, per image.

    Args:
        truth: Integers `[N, ...]`; 0 to `classes` - 1 where `where` holds, else a `ValueError`.
        prediction: The same, of the shape of `truth`.
        classes: K, at least 1.
        where: Pixels that count, of the shape of `truth`; all by default.

    Returns:
        int64 `[N, K, K]`, rows are true classes; sum over the first axis to pool images.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    checks.same_shape("truth", truth.shape, "prediction", prediction.shape)
    if truth.ndim == 0 or classes < 1:
        raise ValueError(f"truth must be [N, ...] and classes at least 1, got {truth.shape}.")
    where = checks.selection(where, "truth", truth.shape)
    images = np.broadcast_to(
        np.arange(len(truth)).reshape(-1, *[1] * (truth.ndim - 1)), truth.shape
    )[where]
    truth, prediction = (
        _labels(name, labels[where], classes)
        for name, labels in (("truth", truth), ("prediction", prediction))
    )
    pairs = (images * classes + truth) * classes + prediction
    shape = (len(where), classes, classes)
    return np.bincount(pairs, minlength=int(np.prod(shape))).reshape(shape).astype(np.int64)


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class.

    Args:
        confusion: Counts `[..., K, K]`, rows are true classes.

    Returns:
        float64 `[..., K]`; NaN for classes that the truth does not hold, though predicting them
        still costs the true classes.
    """
    hits, true, predicted = _marginals(confusion)
    return _ratio(hits, np.where(true > 0, true + predicted - hits, 0))


def mean_iou(confusion: np.ndarray) -> np.ndarray:
    """Mean IoU over the classes that the truth holds.

    Args:
        confusion: Counts `[..., K, K]`, rows are true classes.

    Returns:
        float64 `[...]`; NaN where the matrix is empty.
    """
    return mean_of_defined(class_iou(confusion))


def pixel_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Share of pixels of the right class.

    Args:
        confusion: Counts `[..., K, K]`.

    Returns:
        float64 `[...]`; NaN where the matrix is empty.
    """
    hits, true, _ = _marginals(confusion)
    return _ratio(hits.sum(-1), true.sum(-1))


def mean_class_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Recall of each class, averaged over the classes that the truth holds.

    Args:
        confusion: Counts `[..., K, K]`, rows are true classes.

    Returns:
        float64 `[...]`; NaN where the matrix is empty.
    """
    hits, true, _ = _marginals(confusion)
    return mean_of_defined(_ratio(hits, true))


def dice(confusion: np.ndarray) -> np.ndarray:
    """2 |A ∩ B| / (|A| + |B|) of each class.

    Per slice from `[N, K, K]`, pooled from their sum. The background is a class like others: drop
    its column before averaging.

    Args:
        confusion: Counts `[..., K, K]`.

    Returns:
        float64 `[..., K]`; NaN for classes in neither truth nor prediction.
    """
    return dice_of_counts(class_counts(confusion))


def class_counts(confusion: np.ndarray) -> np.ndarray:
    """What Dice and IoU need of a confusion matrix; sums of counts are counts of the whole.

    Args:
        confusion: Counts `[..., K, K]`, rows are true classes.

    Returns:
        `[..., K, 3]`: of each class the pixels where truth and prediction agree, those of the
        truth, and those of the prediction.
    """
    return np.stack(_marginals(confusion), axis=-1)


def dice_of_counts(counts: np.ndarray) -> np.ndarray:
    """2 |A ∩ B| / (|A| + |B|) of each class.

    Args:
        counts: As `class_counts` gives them, `[..., K, 3]`.

    Returns:
        float64 `[..., K]`; NaN for classes in neither truth nor prediction.
    """
    hits, true, predicted = np.moveaxis(np.asarray(counts), -1, 0)
    return _ratio(2 * hits, true + predicted)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis, NaN left out.

    Args:
        values: Floats `[..., K]`.

    Returns:
        float64 `[...]`; NaN where nothing is left.
    """
    defined = ~np.isnan(values)
    count = defined.sum(-1)
    total = np.where(defined, values, 0.0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def iou(truth: np.ndarray, predicted: np.ndarray, *, empty: float = 1.0) -> np.ndarray:
    """Intersection over union of masks, per image.

    Args:
        truth: 0 or 1, `[N, ...]`.
        predicted: 0 or 1, of the shape of `truth`.
        empty: Value where both masks are empty; NaN to leave such images out of a mean.

    Returns:
        float64 `[N]`.
    """
    both, total = _overlaps(truth, predicted)
    return np.where(total > 0, both / np.maximum(total - both, 1), empty)


def map_iou(
    truth: np.ndarray, scores: np.ndarray, threshold: float, *, empty: float = 1.0
) -> np.ndarray:
    """IoU of the pixels that score at or above a threshold, per image.

    Args:
        truth: 0 or 1, `[N, ...]`.
        scores: Finite numbers of the shape of `truth`.
        threshold: Compared in float64.
        empty: Value where truth and prediction are empty.

    Returns:
        float64 `[N]`.
    """
    return iou(truth, checks.numbers("scores", scores) >= threshold, empty=empty)


def map_dice(
    truth: np.ndarray, scores: np.ndarray, threshold: float, *, empty: float = 1.0
) -> np.ndarray:
    """2 |A ∩ B| / (|A| + |B|) of the pixels that score at or above a threshold, per image.

    Args:
        truth: 0 or 1, `[N, ...]`.
        scores: Finite numbers of the shape of `truth`.
        threshold: Compared in float64.
        empty: Value where truth and prediction are empty.

    Returns:
        float64 `[N]`.
    """
    both, total = _overlaps(truth, checks.numbers("scores", scores) >= threshold)
    return np.where(total > 0, 2 * both / np.maximum(total, 1), empty)


def _labels(name: str, labels: np.ndarray, classes: int) -> np.ndarray:
    if labels.dtype.kind not in "iub":
        raise ValueError(f"{name} must hold integers, got {labels.dtype}.")
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        raise ValueError(f"{name} must be 0 to {classes - 1}, found {labels[wrong][0]}.")
    return labels.astype(np.int64)


def _overlaps(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|A ∩ B| and |A| + |B| per image."""
    truth, predicted = checks.mask("truth", truth), checks.mask("predicted", predicted)
    checks.same_shape("truth", truth.shape, "predicted", predicted.shape)
    axes = tuple(range(1, truth.ndim))
    return (truth & predicted).sum(axes), truth.sum(axes) + predicted.sum(axes)


def _marginals(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    confusion = np.asarray(confusion)
    if confusion.ndim < 2 or confusion.shape[-1] != confusion.shape[-2]:
        raise ValueError(f"confusion must be [..., K, K], got {confusion.shape}.")
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return hits, confusion.sum(-1), confusion.sum(-2)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
