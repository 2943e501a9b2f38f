"""Components of flagged pixels, summed up over images: which are found, missed and invented.

The protocol of SegmentMeIfYouCan (Chan et al., https://arxiv.org/abs/2104.14812), but for the
threshold, which by default is not read off the truth of the split that is measured.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from jaxad import fields
from jaxad.metrics import bounded_ranking, regions, streaming

THRESHOLDS = ("validation", "oracle", "none")

_LEVELS = np.linspace(0.25, 0.75, 11)  # Overlaps at which components count as found.


class Sums(NamedTuple):
    """Sums over components; elementwise sums of states are states.

    Attributes:
        siou: Of the true components' sIoU, float64 `[]`.
        truths: True components, int64 `[]`.
        precision: Of the predicted components' precision, float64 `[]`.
        predicted: Predicted components, int64 `[]`.
        found: True components found at each overlap 0.25, 0.30, ..., 0.75, int64 `[11]`.
        missed: The others `[11]`.
        invented: Predicted components whose precision is below each `[11]`.
    """

    siou: np.ndarray
    truths: np.ndarray
    precision: np.ndarray
    predicted: np.ndarray
    found: np.ndarray
    missed: np.ndarray
    invented: np.ndarray


@dataclasses.dataclass(frozen=True)
class Rule:
    """How pixels become components: `config.eval.components`.

    Attributes:
        threshold: "validation": the score that a share `fpr` of the validation split's normal
            pixels reaches; "oracle": that of the best pixel F1 on the scored split itself, as the
            SegmentMeIfYouCan benchmark takes it, which looks at its truth; "none".
        fpr: That share, in (0, 1).
        min_truth: True components of fewer pixels become void.
        min_predicted: Predicted components of fewer pixels are cleared.

    Raises:
        InputError: For a field that is none of these.
    """

    threshold: str = "validation"
    fpr: float = 0.01
    min_truth: int = 10
    min_predicted: int = 50

    def __post_init__(self) -> None:
        section = "eval.components"
        fields.one_of(f"{section}.threshold", self.threshold, THRESHOLDS)
        fields.share(f"{section}.fpr", self.fpr)
        fields.not_negative(f"{section}.min_truth", self.min_truth)
        fields.not_negative(f"{section}.min_predicted", self.min_predicted)


def zero() -> Sums:
    """The state of no images."""
    none, levels = np.zeros((), np.int64), np.zeros(len(_LEVELS), np.int64)
    return Sums(np.zeros(()), none, np.zeros(()), none, levels, levels, levels)


def add(
    sums: Sums,
    truth: np.ndarray,
    flagged: np.ndarray,
    rule: Rule,
    *,
    where: np.ndarray,
) -> Sums:
    """Counts one more image.

    Args:
        sums: Left as they are.
        truth: Which pixels are anomalous, 0 or 1, `[H, W]`.
        flagged: Which are called so `[H, W]`.
        rule: Which components are too small to count.
        where: Pixels that are not void `[H, W]`.
    """
    overlaps = regions.component_overlaps(
        truth,
        flagged,
        where=where,
        min_truth_area=rule.min_truth,
        min_predicted_area=rule.min_predicted,
    )
    counts = regions.component_f1([overlaps], thresholds=_LEVELS)
    own = Sums(
        overlaps.truth_siou.sum(),
        np.int64(len(overlaps.truth_siou)),
        overlaps.predicted_precision.sum(),
        np.int64(len(overlaps.predicted_precision)),
        counts.found,
        counts.missed,
        counts.invented,
    )
    return streaming.merge(sums, own)


def metrics(sums: Sums) -> dict[str, float]:
    """Mean sIoU of true, mean precision of predicted components, mean F1; NaN where undefined."""
    whole = 2 * sums.found + sums.missed + sums.invented
    defined = bool(np.all(whole > 0))
    return {
        "component_siou": float(sums.siou / sums.truths) if sums.truths else float("nan"),
        "component_ppv": float(sums.precision / sums.predicted) if sums.predicted else float("nan"),
        "component_f1": float(np.mean(2 * sums.found / whole)) if defined else float("nan"),
    }


def normal_threshold(histogram: streaming.ScoreHistogram, share: float) -> float | None:
    """The lowest bin edge that at most a share of the normal pixels reaches; None without any."""
    normal = histogram.counts[0]
    if not normal.any():
        return None
    reached = np.cumsum(normal[::-1])[::-1] / normal.sum()
    edges = streaming.bin_edges(bins=len(normal))
    # Above the highest bin in use nothing is reached; what lies beyond float32 cannot be an edge.
    allowed = (reached <= share) & np.isfinite(edges)
    return float(edges[allowed].min()) if allowed.any() else float(np.finfo(np.float32).max)


def oracle_threshold(histogram: streaming.ScoreHistogram) -> float | None:
    """The bin edge of the largest pixel F1; None if one kind of pixels is absent."""
    best = bounded_ranking.f1_max(histogram)
    if best.first_bin < 0:
        return None
    return float(streaming.bin_edges(bins=histogram.counts.shape[1])[best.first_bin])
