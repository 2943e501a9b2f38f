"""From images to one figure: how published evaluations average, and how they choose a threshold."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxad.metrics import checks

__all__ = [
    "BestThreshold",
    "GroupMean",
    "ImageMean",
    "best_threshold_iou",
    "draw_disjoint_groups",
    "draw_groups",
    "group_mean",
    "iou_at_thresholds",
    "mean_over_images",
    "per_image",
]


class ImageMean(NamedTuple):
    """Mean over the images for which a metric is defined, and how many those are."""

    mean: float
    images: int


class BestThreshold(NamedTuple):
    """The threshold of highest mean IoU (an oracle), that IoU, and the mean IoU of each `[Q]`."""

    threshold: float
    mean_iou: float
    mean_iou_per_threshold: np.ndarray


class GroupMean(NamedTuple):
    """Mean and population standard deviation of the groups' means, and these `[G]`."""

    mean: float
    std: float
    groups: np.ndarray


def per_image(
    metric: Callable[[np.ndarray, np.ndarray], float],
    truth: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    *,
    where: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """A ranking metric of each image by itself.

    Args:
        metric: Takes flat truth and scores, as `ranking.roc_auc` does.
        truth: Per image, pixels of 0 and 1 where `where` holds; sizes may differ.
        scores: Per image, finite numbers of the shape of its truth.
        where: Per image, the pixels that count; all by default.

    Returns:
        float64 `[N]`; NaN for images that lack one of the two kinds of pixels.
    """
    where = [None] * len(truth) if where is None else where
    if not len(truth) == len(scores) == len(where):
        raise ValueError(
            "truth, scores and where must have one entry per image, got "
            f"{len(truth)}, {len(scores)} and {len(where)}."
        )
    return np.array(
        [_one_image(metric, *image) for image in zip(truth, scores, where, strict=True)]
    )


def mean_over_images(values: np.ndarray) -> ImageMean:
    """Mean of per-image metrics, over the images for which they are defined.

    Args:
        values: Per image `[N]`; NaN where undefined.

    Returns:
        Two scalars: the mean, NaN if no image counts, and how many do.

    References:
        Document 001, section 4; the protocol of CAOS, https://arxiv.org/abs/1911.11132.
    """
    values = np.asarray(values, np.float64)
    images = int((~np.isnan(values)).sum())
    return ImageMean(float(values[~np.isnan(values)].mean()) if images else float("nan"), images)


def iou_at_thresholds(
    truth: np.ndarray, scores: np.ndarray, thresholds: np.ndarray, *, empty: float = 1.0
) -> np.ndarray:
    """`segmentation.map_iou` for many thresholds: each image is sorted once.

    Args:
        truth: 0 or 1, `[N, ...]`.
        scores: Finite numbers of the shape of `truth`.
        thresholds: Numbers `[Q]`, in any order, compared in float64.
        empty: Value where truth and prediction are empty.

    Returns:
        float64 `[Q, N]`.
    """
    truth, scores = checks.mask("truth", truth), checks.numbers("scores", scores)
    checks.same_shape("truth", truth.shape, "scores", scores.shape)
    thresholds = np.asarray(thresholds, np.float64)
    result = np.empty((len(thresholds), len(truth)))
    for i, (mask, image) in enumerate(zip(truth, scores, strict=True)):
        inside = np.sort(image[mask])
        both = inside.size - np.searchsorted(inside, thresholds)
        predicted = image.size - np.searchsorted(np.sort(image, axis=None), thresholds)
        union = predicted + inside.size - both
        result[:, i] = np.where(union > 0, both / np.maximum(union, 1), empty)
    return result


def best_threshold_iou(
    truth: np.ndarray, scores: np.ndarray, thresholds: np.ndarray
) -> BestThreshold:
    """One threshold for all images, of the highest mean IoU: an oracle, as it looks at the truth.

    Args:
        truth: 0 or 1, `[N, ...]`; images without anomalous pixels are left out.
        scores: Finite numbers of the shape of `truth`.
        thresholds: Candidates `[Q]`, at least one; of equally good ones the first wins.

    Returns:
        The threshold and its mean IoU, scalars (NaN without images that count), and the mean IoU
        of each candidate, float64 `[Q]`.

    References:
        Document 004, chapter 7, which does not state its rule; this one reads best.
    """
    truth, scores = checks.mask("truth", truth), np.asarray(scores)
    checks.same_shape("truth", truth.shape, "scores", scores.shape)
    if np.size(thresholds) == 0:
        raise ValueError("thresholds must hold at least one candidate, got none.")
    kept = truth.any(axis=tuple(range(1, truth.ndim)))
    if not kept.any():
        return BestThreshold(np.nan, np.nan, np.full(np.size(thresholds), np.nan))
    means = iou_at_thresholds(truth[kept], scores[kept], thresholds).mean(axis=1)
    best = int(np.argmax(means))
    return BestThreshold(float(np.asarray(thresholds)[best]), float(means[best]), means)


def draw_disjoint_groups(
    images: int, *, groups: int = 5, size: int = 100, seed: int = 0
) -> np.ndarray:
    """Random groups of images, no image in two of them: pieces of one permutation.

    The default of the protocols that speak of "different groups"; `draw_groups` draws each anew.

    Args:
        images: Number of images to draw from.
        groups: G, at least 1, else a `ValueError`.
        size: Images per group; G · `size` is at most `images`, else a `ValueError`.
        seed: Of `numpy.random.default_rng`.

    Returns:
        Indices, int64 `[G, size]`, each at most once.

    References:
        Document 004, chapter 4 (CCD).
    """
    if groups < 1 or size < 1 or groups * size > images:
        raise ValueError(
            f"groups and size must be at least 1, their product at most {images} (images), got "
            f"{groups} and {size}."
        )
    order = np.random.default_rng(seed).permutation(images)
    return order[: groups * size].reshape(groups, size)


def draw_groups(images: int, *, groups: int = 5, size: int = 100, seed: int = 0) -> np.ndarray:
    """Random groups of images, without replacement inside a group; an image may be in several.

    `draw_disjoint_groups` has each image in one group at most.

    Args:
        images: Number of images to draw from.
        groups: G.
        size: Images per group, at most `images`, else a `ValueError`.
        seed: Of `numpy.random.default_rng`.

    Returns:
        Indices, int64 `[G, size]`.
    """
    if not 0 < size <= images:
        raise ValueError(f"size must be in 1 to {images} (images), got {size}.")
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(images, size, replace=False) for _ in range(groups)])


def group_mean(values: np.ndarray, groups: np.ndarray) -> GroupMean:
    """Mean of each group of images, and mean and spread of those.

    Args:
        values: Per image `[N]`.
        groups: Indices `[G, size]`.

    Returns:
        Mean and population standard deviation over the groups, scalars, and their means `[G]`.

    References:
        Document 004, chapters 4, 5 and 7: five groups of 100 images.
    """
    means = np.asarray(values, np.float64)[np.asarray(groups)].mean(axis=1)
    return GroupMean(float(means.mean()), float(means.std()), means)


def _one_image(metric, truth, scores, where) -> float:
    truth, scores = np.asarray(truth), np.asarray(scores)
    checks.same_shape("truth", truth.shape, "scores", scores.shape)
    where = checks.selection(where, "truth", truth.shape)
    return float(metric(truth[where], scores[where]))
