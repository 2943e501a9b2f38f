"""Videos of any length as a fixed number of segments, and segment values back on the time axis.

Time is the first axis throughout. A video of n snippets is cut at n-dependent boundaries, which are
computed in float64: in float32 some of them fall on the other side of a whole number.
"""

import numpy as np


def uniform_bounds(length: int, segments: int) -> np.ndarray:
    """Boundaries floor(linspace(0, length, segments + 1)).

    Args:
        length: Number of rows n, at least 1.
        segments: Number of segments T, at least 1.

    Returns:
        int64 `[T + 1]`; segment i is rows bounds[i] … bounds[i + 1] - 1, or row bounds[i] if none.

    Raises:
        ValueError: If `length` or `segments` is below 1.

    References:
        Document 004, chapter 8, training segments.
    """
    _check_sizes(length, segments)
    return np.linspace(0, length, segments + 1).astype(np.int64)


def uniform(rows: np.ndarray, segments: int) -> np.ndarray:
    """Means over `segments` stretches of equal length; fewer rows than segments are repeated.

    Args:
        rows: Numbers `[n, ..., D]`, time first.
        segments: Number of segments T.

    Returns:
        float32 `[T, ..., D]`, summed in float64.

    Raises:
        ValueError: If there are no rows, or `segments` is below 1.
    """
    return _range_means(rows, uniform_bounds(len(rows), segments)).astype(np.float32)


def deepmil_bounds(length: int, segments: int = 32) -> np.ndarray:
    """Boundaries of the published DeepMIL segmentation, counted from 0.

    They are round(linspace(1, length, segments + 1)) - 1 with halves rounded up, so the last row
    lies beyond the last boundary: it is averaged only where the last range is empty.

    Args:
        length: Number of rows n, at least 1.
        segments: Number of segments T.

    Returns:
        int64 `[T + 1]`, read as those of `uniform_bounds`.

    Raises:
        ValueError: If `length` or `segments` is below 1.

    References:
        Sultani et al., Real-world Anomaly Detection in Surveillance Videos,
        https://arxiv.org/abs/1801.04264
    """
    _check_sizes(length, segments)
    return np.floor(np.linspace(1, length, segments + 1) + 0.5).astype(np.int64) - 1


def deepmil(rows: np.ndarray, segments: int = 32) -> np.ndarray:
    """Means between `deepmil_bounds`, each scaled to unit length along the last axis.

    Args:
        rows: Numbers `[n, ..., D]`, time first.
        segments: Number of segments T.

    Returns:
        float32 `[T, ..., D]` of norm 1; means that are all zero stay zero.

    Raises:
        ValueError: If there are no rows, or `segments` is below 1.
    """
    means = _range_means(rows, deepmil_bounds(len(rows), segments))
    norms = np.linalg.norm(means, axis=-1, keepdims=True)
    return (means / np.where(norms > 0, norms, 1)).astype(np.float32)


def deepmil_segment_of_row(length: int, segments: int = 32, *, tail: str = "last") -> np.ndarray:
    """The segment whose value each row takes when segment values go back on the time axis.

    Of several segments on one row (n < T) the last counts.

    Args:
        length: Number of rows n.
        segments: Number of segments T.
        tail: What the row after the last boundary takes if no segment holds it: "last" gives it the
            last segment, "uncovered" marks it -1 as in the published evaluation, where such frames
            keep the score 0.

    Returns:
        int64 `[n]` of 0 … T - 1, or -1.

    Raises:
        ValueError: If `tail` is unknown, or `length` or `segments` is below 1.
    """
    if tail not in ("last", "uncovered"):
        raise ValueError(f"tail must be 'last' or 'uncovered', got {tail!r}.")
    starts = deepmil_bounds(length, segments)[:-1]
    segment = np.searchsorted(starts, np.arange(length), side="right") - 1
    if tail == "uncovered" and starts[-1] < length - 1:
        segment[-1] = -1
    return segment


def _range_means(rows: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Means of rows bounds[i] … bounds[i + 1] - 1, row bounds[i] where that is none; float64."""
    # A loop on purpose: one reduceat over all ranges takes six times as long (27 v 4 ms for a video
    # of 240 ten-crop snippets), as it converts to float64 through a small buffer.
    ranges = zip(bounds[:-1], np.maximum(bounds[1:], bounds[:-1] + 1), strict=True)
    sums = np.stack([rows[start:end].sum(axis=0, dtype=np.float64) for start, end in ranges])
    counts = np.maximum(np.diff(bounds), 1)
    return sums / counts.reshape((-1,) + (1,) * (rows.ndim - 1))


def _check_sizes(length: int, segments: int) -> None:
    if length < 1 or segments < 1:
        raise ValueError(
            f"A video needs at least one row and one segment, got {length} rows, "
            f"{segments} segments."
        )
