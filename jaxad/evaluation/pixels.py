"""Scores per pixel of one split, summed up: memory does not grow with the number of images.

What is kept of an image are a few numbers; all else are sums over images, which no order or
batching changes (floating sums up to rounding). Pixel scores are higher where a pixel is more
anomalous. Truth is `anomaly` (0 normal, 1 anomalous, 255 void) and `segments` (0 to K - 1 inlier
classes, 254 outlier, 255 void): metrics of scores leave out the void of the first, metrics of
classes and confidences all but the inlier classes of the second.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxad.errors import InputError
from jaxad.evaluation import components
from jaxad.evaluation.overlays import Overlay
from jaxad.metrics import (
    bounded_ranking,
    calibration,
    cumulative,
    segmentation,
    streaming,
    streaming_regions,
)

MAPS = ("pixel", "classes", "confidence")  # What methods predict per pixel.
TRUTH = ("anomaly", "segments")  # What records know per pixel.
RANKING = {
    "auc": bounded_ranking.roc_auc,
    "average_precision": bounded_ranking.average_precision,
    "fpr95": bounded_ranking.fpr_at_tpr,
    "fpr95_nearest": bounded_ranking.fpr_at_tpr_nearest,
}
_CLASSES = 254  # As many ids as labels have room for, where the source names no classes.
_PEAK = 0.99  # The quantile by which images without anomalies are compared.


@dataclasses.dataclass(frozen=True, eq=False)
class PixelScores:
    """Sums over the pixels of a split, and a few numbers per image.

    Attributes:
        histogram: Scores of pixels that are not void, by kind; all normal without truth.
        regions: The same for the overlap per region.
        images: By name, one number per image `[n]`: `auc`, `average_precision`, `fpr95`,
            `fpr95_nearest` (NaN where the image lacks one kind of pixels), `normal` and
            `anomalous` (pixels), `peak` (0.99 quantile of the scores; NaN without pixels).
        confusion: int64 `[K, K]`, rows are true classes; zeros without truth or predictions.
        reliability: Confidences of the predicted classes.
        components: Zeros without a threshold.
        classes: Names of the K inlier classes.
        named: Whether the source names them; else they are ids.
        predicted: Which of `MAPS` the method gives.
        truth: Which of `TRUTH` the records hold.
        threshold: Score from which pixels form components, if that is known.
        rule: How components are made.
        palette: Colours of the classes, uint8 `[K, 3]`, if the source has some.
        background: Which class is no structure but all the rest, if the source says so.
        counts: `segmentation.class_counts` of each image, int32 `[n, K, 3]`, where there is a
            background; zeros without truth or predictions.
        overlays: Some images, small, for the report. Not saved.
    """

    histogram: streaming.ScoreHistogram
    regions: streaming_regions.RegionHistogram
    images: Mapping[str, np.ndarray]
    confusion: np.ndarray
    reliability: calibration.Reliability
    components: components.Sums
    classes: tuple[str, ...]
    named: bool = True
    predicted: tuple[str, ...] = ()
    truth: tuple[str, ...] = ()
    threshold: float | None = None
    rule: components.Rule = dataclasses.field(default_factory=components.Rule)
    palette: np.ndarray | None = None
    background: int | None = None
    counts: np.ndarray | None = None
    overlays: tuple[Overlay, ...] = ()

    def arrays(self) -> dict[str, np.ndarray]:
        """What a file must hold to make this again, but for the overlays."""
        flat: dict[str, Any] = {
            "confusion": self.confusion,
            "classes": np.array(self.classes, np.str_),
            "named": np.array(self.named),
            "predicted": np.array(self.predicted, np.str_),
            "truth": np.array(self.truth, np.str_),
            "threshold": np.array(np.nan if self.threshold is None else self.threshold),
        }
        for name in ("histogram", "regions", "reliability", "components"):
            parts = getattr(self, name)._asdict()
            flat |= {f"{name}/{part}": np.asarray(array) for part, array in parts.items()}
        flat |= {f"images/{name}": array for name, array in self.images.items()}
        rule = dataclasses.asdict(self.rule)
        flat |= {f"rule/{name}": np.array(value) for name, value in rule.items()}
        given = {"palette": self.palette, "background": self.background, "counts": self.counts}
        return flat | {k: np.asarray(array) for k, array in given.items() if array is not None}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> PixelScores:
    """The inverse of `PixelScores.arrays`.

    Raises:
        KeyError: If an array is missing.
        InputError: If arrays do not fit one another.
    """

    def parts(kind):
        return kind(*(arrays[f"{_FIELDS[kind]}/{part}"] for part in kind._fields))

    rule = {f.name: arrays[f"rule/{f.name}"].item() for f in dataclasses.fields(components.Rule)}
    threshold, background = float(arrays["threshold"]), arrays.get("background")
    found = PixelScores(
        histogram=parts(streaming.ScoreHistogram),
        regions=parts(streaming_regions.RegionHistogram),
        images={name: arrays[f"images/{name}"] for name in _NUMBERS},
        confusion=arrays["confusion"],
        reliability=parts(calibration.Reliability),
        components=parts(components.Sums),
        classes=tuple(arrays["classes"].tolist()),
        named=bool(arrays["named"]),
        predicted=tuple(arrays["predicted"].tolist()),
        truth=tuple(arrays["truth"].tolist()),
        threshold=None if np.isnan(threshold) else threshold,
        rule=components.Rule(**rule),
        palette=arrays.get("palette"),
        background=None if background is None else int(background),
        counts=None if background is None else arrays["counts"],
    )
    like = zero(len(found.images["auc"]), found.classes, background=found.background).arrays()
    for name, array in like.items():
        if name not in ("predicted", "truth") and np.shape(arrays[name]) != array.shape:
            raise InputError(
                f"its pixels/{name} has shape {np.shape(arrays[name])}; expected {array.shape}."
            )
    return found


def zero(
    images: int,
    classes: Sequence[str] | None,
    *,
    rule: components.Rule = components.Rule(),  # noqa: B008, it is frozen.
    threshold: float | None = None,
    palette: np.ndarray | None = None,
    background: int | None = None,
) -> PixelScores:
    """The state of no images.

    Args:
        images: Of the split, n.
        classes: Names of the inlier classes; None if unknown: their ids.
        rule: How components are made.
        threshold: Score from which pixels form components; None: none are counted.
        palette: Colours of the classes, uint8 `[K, 3]`, if there are some.
        background: Which class is no structure but all the rest; None: no counts are kept.

    Raises:
        ValueError: If the background is none of the classes.
    """
    names = tuple(map(str, range(_CLASSES) if classes is None else classes))
    if background is not None and not 0 <= background < len(names):
        raise ValueError(f"background must be 0 to {len(names) - 1}, got {background}.")
    return PixelScores(
        histogram=streaming.zero(),
        regions=streaming_regions.zero(),
        images={name: np.full(images, np.nan) for name in _NUMBERS},
        confusion=np.zeros((len(names), len(names)), np.int64),
        reliability=calibration.zero(),
        components=components.zero(),
        classes=names,
        named=classes is not None,
        threshold=threshold,
        rule=rule,
        palette=palette,
        background=background,
        counts=None if background is None else np.zeros((images, len(names), 3), np.int32),
    )


def add(
    state: PixelScores,
    place: int,
    name: str,
    maps: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray],
) -> PixelScores:
    """Counts one more image.

    Args:
        state: Left as it is.
        place: Position of the image in the split.
        name: Of the image, for errors.
        maps: `pixel [H, W]`, finite in float32; `classes [H, W]`, 0 to K - 1, and `confidence
            [H, W]`, in [0, 1], if known.
        truth: uint8 `anomaly [H, W]` and `segments [H, W]`, as far as they are known.

    Raises:
        InputError: For values outside these: names the image.
        ValueError: For other shapes.
    """
    maps = {key: np.asarray(maps[key]) for key in MAPS if key in maps}
    truth = {key: np.asarray(truth[key]) for key in TRUTH if key in truth}
    _check(state, name, maps, truth)
    with np.errstate(over="ignore"):  # What float32 cannot hold is refused in the next line.
        scores = maps["pixel"].astype(np.float32, copy=False)
    _check_finite(name, "pixel", scores)
    anomaly = truth.get("anomaly", np.zeros(scores.shape, np.uint8))
    anomalous, where = anomaly == 1, anomaly != 255
    numbers = image_numbers(anomalous[where], scores[where])
    changes: dict[str, Any] = {
        "predicted": tuple(maps),
        "truth": tuple(truth),
        "histogram": streaming.add(state.histogram, scores, anomalous, where=where),
        "images": {key: _with(column, place, numbers[key]) for key, column in state.images.items()},
    }
    if "anomaly" in truth:
        changes["regions"] = streaming_regions.add(state.regions, anomalous, scores, where=where)
        if state.threshold is not None:
            flagged = scores >= state.threshold
            changes["components"] = components.add(
                state.components, anomalous, flagged, state.rule, where=where
            )
    if "classes" in maps and "segments" in truth:
        changes |= _with_classes(state, place, name, maps, truth["segments"])
    return dataclasses.replace(state, **changes)


def image_numbers(anomalous: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """The numbers kept of one image; its four rankings are exact.

    Args:
        anomalous: Booleans `[n]`, without void.
        scores: Finite float32 `[n]`.

    Returns:
        What `PixelScores.images` lists, scalars.
    """
    # One sort serves all four: the truth is the last bit of a number that rises with the score.
    keys = streaming.score_bins(scores, bins=2**32).astype(np.uint64)
    keys = (keys << np.uint64(1)) | anomalous
    keys.sort()
    ends = cumulative.tie_ends(keys >> np.uint64(1))
    reached = np.cumsum(keys & np.uint64(1), dtype=np.int64)[ends]
    # A bin for each distinct anomalous score, and one for all normal scores between two of them, of
    # which no metric needs the order.
    found = np.diff(reached, prepend=0) > 0
    kept = found | np.append(found[1:], True)[: len(found)]
    ends, reached = ends[kept], reached[kept]
    found = np.diff(reached, prepend=0)
    counts = np.stack([np.diff(ends, prepend=-1) - found, found])
    histogram = streaming.ScoreHistogram(counts, np.zeros((), np.int64))
    rank = int(_PEAK * (len(scores) - 1)) if len(scores) else 0
    return {
        **{name: metric(histogram).value for name, metric in RANKING.items()},
        "normal": float(counts[0].sum()),
        "anomalous": float(counts[1].sum()),
        "peak": float(np.partition(scores, rank)[rank]) if len(scores) else float("nan"),
    }


def pooled(state: PixelScores) -> dict[str, bounded_ranking.Bounded]:
    """The ranking metrics over all pixels and the overlap per region, with their bounds.

    Returns:
        By name of the metric; NaN where undefined.
    """
    found = {f"pixel_{name}": metric(state.histogram) for name, metric in RANKING.items()}
    return {**found, "pixel_aupro": streaming_regions.aupro(state.regions)}


_NUMBERS = (*RANKING, "normal", "anomalous", "peak")
_FIELDS = {
    streaming.ScoreHistogram: "histogram",
    streaming_regions.RegionHistogram: "regions",
    calibration.Reliability: "reliability",
    components.Sums: "components",
}


def _with_classes(state, place, name, maps, segments) -> dict[str, Any]:
    where = segments < len(state.classes)
    counted = segmentation.confusion_matrix(
        segments[None], maps["classes"][None], classes=len(state.classes), where=where[None]
    )
    changes: dict[str, Any] = {"confusion": state.confusion + counted[0]}
    if state.counts is not None:
        changes["counts"] = _with(state.counts, place, segmentation.class_counts(counted[0]))
    if "confidence" in maps:
        confidence = maps["confidence"].astype(np.float32, copy=False)
        _check_finite(name, "confidence", confidence)
        # A softmax in float32 may end a rounding beyond 1.
        confidence = np.clip(confidence, 0.0, 1.0)
        changes["reliability"] = calibration.add(
            state.reliability, confidence, maps["classes"] == segments, where=where
        )
    return changes


def _check(state: PixelScores, name: str, maps, truth) -> None:
    shapes = {key: array.shape for key, array in {**maps, **truth}.items()}
    if len(set(shapes.values())) > 1 or maps["pixel"].ndim != 2:
        raise ValueError(f"{name}: expected maps of one shape [H, W], found {shapes}.")
    known = state.predicted, state.truth
    if any(known) and known != (tuple(maps), tuple(truth)):
        raise ValueError(f"{name}: has {[*maps, *truth]}, images before had {sum(known, ())}.")
    allowed = {"anomaly": (0, 1, 255), "segments": (*range(len(state.classes)), 254, 255)}
    for key, array in truth.items():
        if array.dtype != np.uint8:
            raise ValueError(f"{name}: its {key} must be uint8, found {array.dtype}.")
        wrong = np.ones(256, bool)
        wrong[list(allowed[key])] = False
        other = array[wrong[array]]
        if other.size:
            expected = "0, 1 and 255" if key == "anomaly" else f"0 to {len(state.classes) - 1}"
            expected += "" if key == "anomaly" else ", 254 and 255"
            raise InputError(f"{name}: its {key} hold {other[0]}; expected {expected}.")


def _check_finite(name: str, what: str, values: np.ndarray) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InputError(
            f"{name}: its {what} value is {values[row, column]} at row {row}, column {column} of "
            f"{values.shape[0]} x {values.shape[1]}; expected finite numbers."
        )


def _with(column: np.ndarray, place: int, value: float | np.ndarray) -> np.ndarray:
    column = column.copy()
    column[place] = value
    return column
