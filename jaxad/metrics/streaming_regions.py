"""Per-region overlap (PRO) of any number of images in bounded memory, with bounds on its error.

Bins of scores are those of `streaming`; states merge by the same rule, `streaming.merge`. Sums of
region weights are float64 and agree in any order up to rounding.
"""

from typing import NamedTuple

import numpy as np

from jaxad.metrics import checks, regions, streaming
from jaxad.metrics.bounded_ranking import Bounded

__all__ = ["RegionHistogram", "add", "aupro", "zero"]


class RegionHistogram(NamedTuple):
    """Counts of scores; elementwise sums of states are states.

    Attributes:
        normal: Normal pixels per bin, rising, int64 `[bins]`.
        covered: Anomalous pixels per bin, each as its share of its region, float64 `[bins]`.
        regions: Number of regions, int64 `[]`.
    """

    normal: np.ndarray
    covered: np.ndarray
    regions: np.ndarray


def zero(*, bins: int = 2**16) -> RegionHistogram:
    """The state of no images.

    Args:
        bins: A power of two, at least 2.

    Returns:
        Zeros `[bins]`, `[bins]` and `[]`.
    """
    return RegionHistogram(np.zeros(bins, np.int64), np.zeros(bins), np.zeros((), np.int64))


def add(
    state: RegionHistogram,
    truth: np.ndarray,
    scores: np.ndarray,
    *,
    where: np.ndarray | None = None,
) -> RegionHistogram:
    """Counts more images, each of them whole: a region that is cut counts as several.

    Args:
        state: Left as it is.
        truth: 0 or 1 where `where` holds, `[..., H, W]`.
        scores: Numbers of the shape of `truth`, finite in float32 where `where` holds.
        where: Pixels that count, of the shape of `truth`; all by default.

    Returns:
        The state with them, `[bins]`, `[bins]` and `[]`.
    """
    scores = np.asarray(scores)
    checks.same_shape("truth", np.shape(truth), "scores", scores.shape)
    selected = checks.selection(where, "scores", scores.shape)
    weights, count = regions.region_weights(truth, where)
    scores, weights = scores[selected], weights[selected]
    with np.errstate(over="ignore"):  # What float32 cannot hold is refused in the next line.
        checks.finite("scores", scores.astype(np.float32))
    bins = state.normal.size
    places = streaming.score_bins(scores, bins=bins)
    return RegionHistogram(
        state.normal + np.bincount(places[weights == 0], minlength=bins),
        state.covered + np.bincount(places, weights=weights, minlength=bins),
        state.regions + count,
    )


def aupro(state: RegionHistogram, *, fpr_limit: float = 0.3) -> Bounded:
    """`regions.aupro`, each bin taken as one tie.

    Within a bin the exact curve rises from one known point to the next: the bounds keep to the
    lower and the upper one.

    Args:
        state: Of a whole split.
        fpr_limit: In (0, 1], else a `ValueError`.

    Returns:
        Three scalars; NaN without regions or normal pixels.
    """
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit must be in (0, 1], got {fpr_limit}.")
    normal, covered = state.normal[::-1], state.covered[::-1]
    if not state.regions or not normal.any():
        return Bounded(np.nan, np.nan, np.nan)
    used = (normal > 0) | (covered > 0)
    x = np.append(0.0, np.cumsum(normal[used]) / normal.sum())
    y = np.append(0.0, np.minimum(np.cumsum(covered[used]) / int(state.regions), 1.0))
    value = regions.integrate_to(x, y, fpr_limit)
    widths = np.diff(np.minimum(x, fpr_limit)) / fpr_limit
    lower, upper = float(np.sum(widths * y[:-1])), float(np.sum(widths * y[1:]))
    return Bounded(value, min(lower, value), max(upper, value))
