"""How well confidences state the chance of being right: calibration errors and proper scores.

Reliability bins are summed up in a state of arrays, merged over chunks, devices and processes by
elementwise sums (`streaming.merge`). Probabilities and confidences lie in [0, 1].

Bins of equal width are (0, 1/n], (1/n, 2/n], ..., and 0 falls into the first, as in Guo et al.,
https://arxiv.org/abs/1706.04599. Comparisons are made in float64 against the rounded k/n.
"""

from typing import NamedTuple

import numpy as np

from jaxad.metrics import checks

__all__ = [
    "Curve",
    "Reliability",
    "adaptive_calibration_error",
    "add",
    "brier",
    "calibration_error",
    "classwise_calibration_error",
    "curve",
    "largest_calibration_error",
    "negative_log_likelihood",
    "zero",
]


class Reliability(NamedTuple):
    """Sums per bin of confidence; elementwise sums of states are states.

    Attributes:
        counts: Decisions, int64 `[bins]`.
        right: Right ones among them, int64 `[bins]`.
        confidence: Sum of their confidences, float64 `[bins]`.
    """

    counts: np.ndarray
    right: np.ndarray
    confidence: np.ndarray


class Curve(NamedTuple):
    """A reliability diagram: mean confidence and accuracy of the bins in use, and their shares."""

    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray


def zero(*, bins: int = 15) -> Reliability:
    """The state of no decisions.

    Args:
        bins: At least 1, else a `ValueError`.

    Returns:
        Zeros `[bins]`.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}.")
    return Reliability(np.zeros(bins, np.int64), np.zeros(bins, np.int64), np.zeros(bins))


def add(
    state: Reliability,
    confidence: np.ndarray,
    right: np.ndarray,
    *,
    where: np.ndarray | None = None,
) -> Reliability:
    """Sums up more decisions.

    Args:
        state: Left as it is.
        confidence: `[...]`, in [0, 1] where `where` holds, else a `ValueError`.
        right: 0 or 1 where `where` holds, of the shape of `confidence`: whether the decision was
            right, or for the confidence in one class whether it was the true one.
        where: Decisions that count, of the shape of `confidence`; all by default.

    Returns:
        The state with them, `[bins]`; sums of confidences agree with those of any other order up to
        rounding.
    """
    confidence, right = _decisions(confidence, right, where)
    bins = state.counts.size
    # The first edge at or above a confidence closes its bin.
    index = np.searchsorted(np.arange(1, bins + 1) / bins, confidence)
    sums = (np.bincount(index, weights=w, minlength=bins) for w in (right, confidence))
    hits, total = sums
    counts = np.bincount(index, minlength=bins)
    return Reliability(
        state.counts + counts, state.right + hits.astype(np.int64), state.confidence + total
    )


def curve(state: Reliability) -> Curve:
    """The reliability diagram.

    Args:
        state: Of a whole split.

    Returns:
        float64 `[p]` each, bins without decisions left out.
    """
    used = state.counts > 0
    counts = state.counts[used]
    return Curve(
        state.confidence[used] / counts, state.right[used] / counts, counts / max(counts.sum(), 1)
    )


def calibration_error(state: Reliability) -> float:
    """Expected calibration error: mean over decisions of |accuracy - mean confidence| of their bin.

    Args:
        state: Of a whole split.

    Returns:
        Scalar in [0, 1]; NaN without decisions.
    """
    confidence, accuracy, share = curve(state)
    return float(np.sum(share * np.abs(accuracy - confidence))) if share.size else float("nan")


def largest_calibration_error(state: Reliability) -> float:
    """Maximum calibration error: |accuracy - mean confidence| of the worst bin in use.

    Args:
        state: Of a whole split.

    Returns:
        Scalar in [0, 1]; NaN without decisions.
    """
    confidence, accuracy, share = curve(state)
    return float(np.max(np.abs(accuracy - confidence))) if share.size else float("nan")


def adaptive_calibration_error(
    confidence: np.ndarray,
    right: np.ndarray,
    *,
    bins: int = 15,
    where: np.ndarray | None = None,
) -> float:
    """Expected calibration error of bins of equally many decisions, in the order of confidence.

    Args:
        confidence: `[...]`, in [0, 1] where `where` holds, else a `ValueError`.
        right: 0 or 1 where `where` holds, of the shape of `confidence`.
        bins: At least 1, else a `ValueError`; sizes differ by one where they must. Equal
            confidences may be parted, and are then taken in the order given.
        where: Decisions that count, of the shape of `confidence`; all by default.

    Returns:
        Scalar in [0, 1]; NaN without decisions.

    References:
        Nguyen & O'Connor, https://arxiv.org/abs/1508.05154 (bins of equal size).
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}.")
    confidence, right = _decisions(confidence, right, where)
    if not confidence.size:
        return float("nan")
    order = np.argsort(confidence, kind="stable")
    starts = np.unique(np.arange(bins) * confidence.size // bins)
    gaps = np.add.reduceat((right - confidence)[order], starts)
    return float(np.abs(gaps).sum() / confidence.size)


def classwise_calibration_error(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    bins: int = 15,
    where: np.ndarray | None = None,
) -> float:
    """Calibration error of each class's probability as the chance of that class, averaged.

    Args:
        probabilities: `[..., K]`, in [0, 1] where `where` holds.
        labels: Integers `[...]`, 0 to K - 1 where `where` holds, else a `ValueError`.
        bins: Of equal width, for each class.
        where: Examples that count `[...]`; all by default.

    Returns:
        Scalar in [0, 1]; NaN without examples.

    References:
        Kull et al., https://arxiv.org/abs/1910.12656.
    """
    probabilities, labels = _predictions(probabilities, labels, where)
    errors = [
        calibration_error(add(zero(bins=bins), probabilities[:, k], labels == k))
        for k in range(probabilities.shape[1])
    ]
    return float(np.mean(errors))


def negative_log_likelihood(
    probabilities: np.ndarray, labels: np.ndarray, *, where: np.ndarray | None = None
) -> float:
    """Mean of -log p of the true class.

    Args:
        probabilities: `[..., K]`, in [0, 1] where `where` holds.
        labels: Integers `[...]`, 0 to K - 1 where `where` holds, else a `ValueError`.
        where: Examples that count `[...]`; all by default.

    Returns:
        Scalar; infinite where a true class has probability 0, NaN without examples.
    """
    probabilities, labels = _predictions(probabilities, labels, where)
    true = probabilities[np.arange(len(labels)), labels]
    with np.errstate(divide="ignore"):
        return float(-np.log(true).mean()) if labels.size else float("nan")


def brier(
    probabilities: np.ndarray, labels: np.ndarray, *, where: np.ndarray | None = None
) -> float:
    """Mean of Σ_k (p_k - [k is the true class])².

    Args:
        probabilities: `[..., K]`, in [0, 1] where `where` holds.
        labels: Integers `[...]`, 0 to K - 1 where `where` holds, else a `ValueError`.
        where: Examples that count `[...]`; all by default.

    Returns:
        Scalar in [0, 2] (the form summed over classes: twice the usual one of two classes); NaN
        without examples.
    """
    probabilities, labels = _predictions(probabilities, labels, where)
    true = probabilities[np.arange(len(labels)), labels]
    each = np.sum(np.square(probabilities), axis=1) - 2.0 * true + 1.0
    return float(each.mean()) if labels.size else float("nan")


def _decisions(confidence, right, where) -> tuple[np.ndarray, np.ndarray]:
    confidence, right = np.asarray(confidence), np.asarray(right)
    checks.same_shape("confidence", confidence.shape, "right", right.shape)
    where = checks.selection(where, "confidence", confidence.shape)
    return _unit("confidence", confidence[where]), checks.mask("right", right[where])


def _predictions(probabilities, labels, where) -> tuple[np.ndarray, np.ndarray]:
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    checks.same_shape("labels", labels.shape, "probabilities", probabilities.shape[:-1])
    where = checks.selection(where, "labels", labels.shape)
    labels = labels[where]
    classes = probabilities.shape[-1]
    wrong = (labels < 0) | (labels >= classes)
    if labels.dtype.kind not in "iub" or wrong.any():
        raise ValueError(f"labels must be integers 0 to {classes - 1}, got {labels[wrong][:1]}.")
    return _unit("probabilities", probabilities[where]), labels.astype(np.int64)


def _unit(name: str, values: np.ndarray) -> np.ndarray:
    values = checks.numbers(name, values)
    outside = (values < 0) | (values > 1)
    if outside.any():
        raise ValueError(f"{name} must be 0 to 1, found {values[outside][0]}.")
    return values
