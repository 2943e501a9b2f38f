"""Counts of scores: any number of pixels in bounded memory, for the metrics of `bounded_ranking`.

Scores are counted in bins, the two classes apart. A state is a `NamedTuple` of arrays of counts and
is merged by adding it up elementwise, over chunks, devices and processes, in any order: the counts
are integers, so the result is exactly that of adding all at once. (`calibration.Reliability` and
confusion matrices follow the same rule.)

Bins keep the order of the scores. By default a bin is the leading bits of the float32 pattern of a
score, mapped so that it rises with the score: no range need be known, and with the default 2^16
bins (sign, 8 bits of exponent, 7 of mantissa) a bin is 2^-7 to 2^-8 of the score wide. Where scores
crowd far from 0, as logits near 20 do, bins of a known range (`add_in_range`) or more bins are
finer; the bounds on the metrics tell.
"""

from typing import NamedTuple

import numpy as np

from jaxad.metrics import checks

__all__ = [
    "ScoreHistogram",
    "add",
    "add_in_range",
    "bin_edges",
    "from_device",
    "merge",
    "score_bins",
    "zero",
]

_CHUNK = 2**20  # Scores binned at a time: temporary arrays stay within the cache of a core.


class ScoreHistogram(NamedTuple):
    """Counts of scores; elementwise sums of states are states.

    Attributes:
        counts: Normal (row 0) and anomalous (row 1) scores per bin, rising, int64 `[2, bins]`.
        not_finite: NaN and infinite scores met on a device, which cannot refuse them, int64 `[]`.
    """

    counts: np.ndarray
    not_finite: np.ndarray


def zero(*, bins: int = 2**16) -> ScoreHistogram:
    """The state of no scores.

    Args:
        bins: At least 1; a power of two for `add`.

    Returns:
        Counts of zero: int64 `[2, bins]` and `[]`.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}.")
    return ScoreHistogram(np.zeros((2, bins), np.int64), np.zeros((), np.int64))


def score_bins(scores: np.ndarray, *, bins: int = 2**16) -> np.ndarray:
    """The bin of each score: the leading bits of float32, made to rise with the score.

    Args:
        scores: Finite numbers `[...]`, rounded to float32; 0 and -0 share a bin.
        bins: A power of two, 2 to 2^32, else a `ValueError`.

    Returns:
        uint32 `[...]`.
    """
    bits = np.array(scores, np.float32, ndmin=1).view(np.uint32)
    # Negative numbers fall as their bits rise: flip all of them. Others: go above, flip the sign.
    bits ^= (bits.view(np.int32) >> 31).view(np.uint32) | np.uint32(2**31)
    bits += bits == 2**31 - 1  # Negative zero.
    return (bits >> np.uint32(32 - _bits(bins))).reshape(np.shape(scores))


def bin_edges(*, bins: int = 2**16) -> np.ndarray:
    """The lowest score of each bin of `score_bins`.

    Args:
        bins: A power of two, 2 to 2^32, else a `ValueError`.

    Returns:
        float32 `[bins]`, rising where finite; NaN or infinite for bins that no score can fall into.
    """
    ordered = np.arange(bins, dtype=np.uint32) << np.uint32(32 - _bits(bins))
    flip = np.where(ordered >> np.uint32(31), np.uint32(2**31), np.uint32(2**32 - 1))
    return (ordered ^ flip).view(np.float32)


def add(
    histogram: ScoreHistogram,
    scores: np.ndarray,
    truth: np.ndarray,
    *,
    where: np.ndarray | None = None,
) -> ScoreHistogram:
    """Counts more scores, of any range, by their leading bits.

    Args:
        histogram: Of a power of two of bins, left as it is.
        scores: `[...]`; NaN and what is infinite in float32 is refused where `where` holds.
        truth: 0 or 1 where `where` holds, of the shape of `scores`.
        where: Scores that count, of the shape of `scores`; all by default.

    Returns:
        The state with them, `[2, bins]`.
    """
    bins = histogram.counts.shape[1]
    _bits(bins)
    return _add(histogram, scores, truth, where, lambda chunk: score_bins(chunk, bins=bins))


def add_in_range(
    histogram: ScoreHistogram,
    scores: np.ndarray,
    truth: np.ndarray,
    *,
    low: float,
    high: float,
    where: np.ndarray | None = None,
) -> ScoreHistogram:
    """Counts more scores, of a known range, in bins of equal width, the last one closed.

    Bin k starts at low + k (high - low) / bins, as those of `numpy.histogram`. Use the same range
    throughout, and do not mix with `add`.

    Args:
        histogram: Left as it is.
        scores: `[...]`, `low` to `high`, compared in float64, where `where` holds, else a
            `ValueError`.
        truth: 0 or 1 where `where` holds, of the shape of `scores`.
        low: Lower end of the first bin, finite, else a `ValueError`.
        high: Upper end of the last bin, finite and above `low`, else a `ValueError`.
        where: Scores that count, of the shape of `scores`; all by default.

    Returns:
        The state with them, `[2, bins]`.
    """
    start, end = float(low), float(high)
    if not np.isfinite([start, end, end - start]).all():
        raise ValueError(f"low and high must be finite, as their distance, got {low} and {high}.")
    if not start < end:
        raise ValueError(f"low must be below high, got {low} and {high}.")
    bins = histogram.counts.shape[1]
    edges = np.linspace(start, end, bins + 1)

    def linear(chunk: np.ndarray) -> np.ndarray:
        # In float64 throughout: a float32 just below `low` would pass a comparison in float32.
        chunk = chunk.astype(np.float64)
        outside = (chunk < start) | (chunk > end)
        if outside.any():
            raise ValueError(f"scores must be {low} to {high}, found {chunk[outside][0]}.")
        indices = ((chunk - start) / (end - start) * bins).astype(np.int64)
        indices = np.clip(indices, 0, bins - 1)
        # The quotient may be rounded over an edge, by less than a bin.
        indices -= chunk < edges[indices]
        indices += chunk >= edges[indices + 1]
        return np.clip(indices, 0, bins - 1)

    return _add(histogram, scores, truth, where, linear)


def merge(first: NamedTuple, *others: NamedTuple) -> NamedTuple:
    """The state of all that the given states have counted: their elementwise sum.

    Args:
        first: A state of this package's accumulators: a `NamedTuple` of arrays `[...]`.
        *others: States of the same kind and shapes, else a `ValueError`.

    Returns:
        A state of that kind and those shapes.
    """
    shapes = [np.shape(part) for part in first]
    for other in others:
        if type(other) is not type(first) or [np.shape(part) for part in other] != shapes:
            raise ValueError(
                f"others must be {type(first).__name__} of shapes {shapes}, got "
                f"{type(other).__name__} of {[np.shape(part) for part in other]}."
            )
    return type(first)(*(np.sum(parts, axis=0) for parts in zip(first, *others, strict=True)))


def from_device(state: NamedTuple) -> ScoreHistogram:
    """What `jaxad.losses.score_histogram` counted on a device, widened for further sums.

    Args:
        state: Counts `[2, bins]` and `not_finite` `[]`, of any integers.

    Returns:
        The same in int64.
    """
    return ScoreHistogram(*(np.asarray(part).astype(np.int64) for part in state))


def _add(histogram, scores, truth, where, to_bins) -> ScoreHistogram:
    scores, truth = np.asarray(scores), np.asarray(truth)
    checks.same_shape("truth", truth.shape, "scores", scores.shape)
    if where is not None:
        checks.same_shape("truth", truth.shape, "where", np.shape(where))
        where = np.asarray(where).ravel()
    bins = histogram.counts.shape[1]
    counts = histogram.counts.copy()
    scores, truth = scores.ravel(), truth.ravel()
    for start in range(0, scores.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        chunk, labels = scores[part], truth[part]
        if where is not None:
            selected = checks.mask("where", where[part])
            chunk, labels = chunk[selected], labels[selected]
        labels = checks.mask("truth", labels)
        with np.errstate(over="ignore"):  # What float32 cannot hold is refused in the next line.
            checks.finite("scores", chunk.astype(np.float32))
        pairs = to_bins(chunk).astype(np.int64)
        pairs += labels * np.int64(bins)
        counts += np.bincount(pairs, minlength=2 * bins).reshape(2, bins)
    return histogram._replace(counts=counts)


def _bits(bins: int) -> int:
    """log2 of the number of bins."""
    if not 2 <= bins <= 2**32 or bins & (bins - 1):
        raise ValueError(f"bins must be a power of two, 2 to 2^32, got {bins}.")
    return int(bins).bit_length() - 1
