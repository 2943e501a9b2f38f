"""From sums over pixels to metrics by name; what is not defined has a reason instead."""

import math
from collections.abc import Mapping

import numpy as np

from jaxad.evaluation import components, pixels
from jaxad.evaluation.pixels import PixelScores
from jaxad.metrics import calibration, image_protocols, segmentation

Reasons = dict[str, str]

POOLED = (*(f"pixel_{name}" for name in pixels.RANKING), "pixel_aupro")
PER_IMAGE = tuple(f"per_image/pixel_{name}" for name in pixels.RANKING)
CLASSES = ("mean_iou", "pixel_accuracy")
CALIBRATION = ("ece", "mce")

NO_TRUTH = "The split has no truth per pixel."
_NO_THRESHOLD = (
    "No threshold is known: it comes from the validation split, if that has truth per pixel, or as "
    "config.eval.components.threshold says."
)
_EXPLANATIONS = {
    "auc": "Area under the ROC curve over all pixels that are not void: the chance that an "
    "anomalous pixel scores higher than a normal one. 0.5 is guessing.",
    "average_precision": "Precision over all pixels that are not void, averaged step-wise over "
    "recall. Guessing gives the share of anomalous pixels.",
    "fpr95": "Share of normal pixels flagged at the threshold that finds at least 95 % of the "
    "anomalous ones. Lower is better.",
    "fpr95_nearest": "Share of normal pixels flagged at the threshold whose recall is nearest to "
    "95 %, as the code of CAOS has it. Lower is better.",
    "aupro": "Mean share of each anomalous region found, averaged over false positive rates up to "
    "30 %. Small regions weigh as much as large ones.",
}
_PER_IMAGE = {
    "auc": "Area under the ROC curve within an image, averaged over images with both kinds of "
    "pixels (protocol of CAOS).",
    "average_precision": "Average precision within an image, averaged over images with both kinds "
    "of pixels (protocol of CAOS).",
    "fpr95": "False positive rate at 95 % recall within an image (at least 95 %), averaged over "
    "images with both kinds of pixels.",
    "fpr95_nearest": "False positive rate within an image where recall is nearest to 95 %, "
    "averaged over images with both kinds of pixels (protocol of CAOS).",
}
_OTHERS = {
    "per_image/images": "Images with both normal and anomalous pixels: those that count in means "
    "over images.",
    "mean_iou": "Intersection over union of each inlier class over all pixels, averaged over the "
    "classes that the truth holds.",
    "pixel_accuracy": "Share of the pixels of inlier classes whose class is predicted right.",
    "ece": "Expected calibration error: how far accuracy is from confidence, averaged over the "
    "pixels of inlier classes, in 15 bins of confidence. Lower is better.",
    "mce": "Maximum calibration error: the same of the worst of the 15 bins. Lower is better.",
    "component_threshold": "Score from which pixels form components.",
    "component_siou": "Mean overlap (sIoU) of the true components with the predicted ones.",
    "component_ppv": "Mean share of a predicted component that is anomalous.",
    "component_f1": "F1 of components, averaged over the overlaps 0.25 to 0.75 from which they "
    "count as found (F1*).",
}
_ORACLE = " The threshold was chosen with the truth of this split (an oracle)."


def evaluated(state: PixelScores) -> tuple[dict[str, float], Reasons]:
    """All metrics of a split's pixels, and why the others are undefined.

    - `pixel_auc`, `pixel_average_precision`, `pixel_fpr95`, `pixel_fpr95_nearest`, `pixel_aupro`:
      over all pixels that are not void, from counted scores; `bounds` has their bounds.
    - `per_image/pixel_…`, the first four: exact in each image, averaged over the images with both
      kinds of pixels; `per_image/images` of them.
    - `mean_iou`, `pixel_accuracy`, `iou/<class>`: over all pixels of inlier classes.
    - `ece`, `mce`: of the same pixels, if the method gives confidences.
    - `component_siou`, `component_ppv`, `component_f1` at `component_threshold`; `oracle/…` if the
      threshold was read off the truth of this very split. Without a threshold
      `component_threshold` is the one that this split recommends to others.

    Args:
        state: Of a whole split.

    Returns:
        Finite values by name, and reasons by name; no name is in both.
    """
    values: dict[str, float] = {}
    reasons: Reasons = {}
    _add_scores(values, reasons, state)
    if "classes" in state.predicted:
        _add_classes(values, reasons, state)
    if "confidence" in state.predicted:
        _add_calibration(values, reasons, state)
    if state.rule.threshold != "none":
        _add_components(values, reasons, state)
    return values, reasons


def bounds(state: PixelScores) -> dict[str, tuple[float, float]]:
    """Between which values the exact pooled metrics lie, by name, where they are defined."""
    if "anomaly" not in state.truth:
        return {}
    found = pixels.pooled(state)
    return {k: (b.lower, b.upper) for k, b in found.items() if math.isfinite(b.value)}


def explain(name: str) -> str:
    """One line on what a metric means; "" for one that is not made here."""
    if name.startswith("oracle/"):
        text = _OTHERS.get(name.removeprefix("oracle/"), "")
        return text and text + _ORACLE
    if name.startswith("iou/"):
        return f"Intersection over union of class {name.removeprefix('iou/')} over all pixels."
    if name.startswith("per_image/pixel_"):
        return _PER_IMAGE.get(name.removeprefix("per_image/pixel_"), "")
    return _OTHERS.get(name) or _EXPLANATIONS.get(name.removeprefix("pixel_"), "")


def _add_scores(values, reasons, state: PixelScores) -> None:
    if "anomaly" not in state.truth:
        reasons |= dict.fromkeys((*POOLED, *PER_IMAGE, "per_image/images"), NO_TRUTH)
        return
    normal, anomalous = (int(count) for count in state.histogram.counts.sum(axis=1))
    why = ""
    if not (normal and anomalous):
        kind = "anomalous" if anomalous else "normal"
        why = f"All {normal + anomalous:,} pixels are {kind}; both are needed."
        why = why if normal + anomalous else "There are no pixels that are not void."
    pooled = {name: bounded.value for name, bounded in pixels.pooled(state).items()}
    _add(values, reasons, pooled, dict.fromkeys(POOLED, why))
    means = {
        name: image_protocols.mean_over_images(state.images[name.partition("pixel_")[2]])
        for name in PER_IMAGE
    }
    values["per_image/images"] = float(next(iter(means.values())).images)
    why = "No image has both normal and anomalous pixels."
    _add(values, reasons, {k: m.mean for k, m in means.items()}, dict.fromkeys(means, why))


def _add_classes(values, reasons, state: PixelScores) -> None:
    if "segments" not in state.truth:
        reasons |= dict.fromkeys(CLASSES, "The split has no truth of classes.")
        return
    why = dict.fromkeys(CLASSES, "No pixel is of an inlier class.")
    overall = {
        "mean_iou": float(segmentation.mean_iou(state.confusion)),
        "pixel_accuracy": float(segmentation.pixel_accuracy(state.confusion)),
    }
    _add(values, reasons, overall, why)
    own = dict(zip(state.classes, segmentation.class_iou(state.confusion).tolist(), strict=True))
    ious = {f"iou/{name}": value for name, value in own.items()}
    if state.named:
        _add(values, reasons, ious, dict.fromkeys(ious, "The truth holds no pixel of this class."))
    else:
        values |= {name: value for name, value in ious.items() if math.isfinite(value)}


def _add_calibration(values, reasons, state: PixelScores) -> None:
    errors = {
        "ece": calibration.calibration_error(state.reliability),
        "mce": calibration.largest_calibration_error(state.reliability),
    }
    known = "segments" in state.truth and "classes" in state.predicted
    why = "No pixel is of an inlier class." if known else "The split has no truth of classes."
    _add(values, reasons, errors, dict.fromkeys(errors, why))


def _add_components(values, reasons, state: PixelScores) -> None:
    oracle = "oracle/" if state.rule.threshold == "oracle" else ""
    measured = components.metrics(state.components)
    if "anomaly" not in state.truth:
        reasons |= {f"{oracle}{name}": NO_TRUTH for name in measured}
    elif state.threshold is None:
        reasons |= {f"{oracle}{name}": _NO_THRESHOLD for name in measured}
        if not oracle:
            recommended = components.normal_threshold(state.histogram, state.rule.fpr)
            if recommended is not None:
                values["component_threshold"] = recommended
    else:
        values[f"{oracle}component_threshold"] = state.threshold
        why = {
            "component_siou": "There are no true components of that size.",
            "component_ppv": "No components of that size were predicted.",
            "component_f1": "There are neither true nor predicted components of that size.",
        }
        measured = {f"{oracle}{name}": value for name, value in measured.items()}
        _add(values, reasons, measured, {f"{oracle}{name}": text for name, text in why.items()})


def _add(values, reasons, measured: Mapping[str, float], why: Mapping[str, str]) -> None:
    for name, value in measured.items():
        if np.isfinite(value):
            values[name] = value
        else:
            reasons[name] = why[name]
