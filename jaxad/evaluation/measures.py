"""From the scores of a split to its metrics, by name.

A metric that is not defined (truth unknown, or of one class only) has no entry; `undefined` says
why.
"""

import math
from collections.abc import Mapping

import numpy as np

from jaxad.evaluation import dice_measures, ood_sets, pixel_measures
from jaxad.evaluation.predictions import Predictions
from jaxad.metrics import ranking, temporal

Reasons = dict[str, str]

_FRAME = {
    "frame_auc": ranking.roc_auc,
    "frame_average_precision": ranking.average_precision,
    "frame_pr_auc": ranking.pr_auc,
    "frame_fpr95": ranking.fpr_at_tpr,
}
_VIDEO = {"image_auc": ranking.roc_auc, "image_average_precision": ranking.average_precision}
_IMAGE = {**_VIDEO, **ood_sets.METRICS}
_HEADLINES = (
    *_FRAME,
    *("image_auc", "image_average_precision", "image_fpr95", "sets/image_auc", "sets/image_fpr95"),
    *("pixel_auc", "pixel_average_precision", "pixel_fpr95", "mean_iou", "dice"),
)

_EXPLANATIONS = {
    "frame_auc": "Area under the ROC curve over all frames: the chance that an anomalous frame "
    "scores higher than a normal one. 0.5 is guessing.",
    "frame_average_precision": "Precision over all frames, averaged step-wise over recall. "
    "Guessing gives the share of anomalous frames.",
    "frame_pr_auc": "Trapezoidal area under the precision-recall curve over all frames; some "
    "papers call this AP.",
    "frame_fpr95": "Share of normal frames flagged at the threshold that finds 95 % of the "
    "anomalous ones. Lower is better.",
    "image_auc": "Area under the ROC curve over whole videos or images, by their one score.",
    "image_average_precision": "Average precision over whole videos or images, by their one score.",
}
_CLASS_EXPLANATIONS = {
    "frame_auc": "Frame AUC within the videos of class {name} alone.",
    "frame_auc_with_normal": "Frame AUC over the videos of class {name} and all normal ones.",
}


def measure(predictions: Predictions) -> dict[str, float]:
    """All metrics that the scores and the known truth define.

    - `frame_auc`, `frame_average_precision`, `frame_pr_auc`, `frame_fpr95`: snippet scores repeated
      over their frames, all videos together.
    - `image_auc`, `image_average_precision`: one score per record against its label; of images
      also `image_fpr95` and `image_fpr95_ood_positive`, and what `ood_sets.evaluated` lists: the
      same for each named set of anomalous images.
    - `class/<name>/frame_auc` over the videos of that class alone, and
      `class/<name>/frame_auc_with_normal` over those and all normal videos.
    - `separability/<value>_anomalous` and `…_normal`: mean of each extra over anomalous and normal
      records, or snippets if it has one value per snippet; `separability/score_…` is that of the
      snippet scores. A snippet is anomalous if at least half of its frames are.
    - Of pixels: what `pixel_measures.evaluated` and `dice_measures.evaluated` list.

    Args:
        predictions: Scores of a split.

    Returns:
        Finite values by name, in the order above; what `undefined` lists is left out.
    """
    return _evaluated(predictions)[0]


def undefined(predictions: Predictions) -> Reasons:
    """Why each metric that `measure` leaves out cannot be computed, by name."""
    return _evaluated(predictions)[1]


def explain(name: str) -> str:
    """One line on what a metric means; "" for one that is not made here."""
    kind, _, rest = name.partition("/")
    if kind == "class":
        label, _, metric = rest.rpartition("/")
        text = _CLASS_EXPLANATIONS.get(metric, "").format(name=label)
        return text or ood_sets.explain(name)
    if kind == "separability":
        value, _, group = rest.rpartition("_")
        return f"Mean {value.replace('_', ' ')} of what is truly {group}."
    known = _EXPLANATIONS.get(name) or ood_sets.explain(name) or dice_measures.explain(name)
    return known or pixel_measures.explain(name)


def headlines(metrics: Mapping[str, float], noun: str = "video") -> dict[str, float]:
    """The metrics over everything, those that papers report first, under names to read."""
    words = {"auc": "AUC", "pr": "PR", "fpr95": "FPR95", "iou": "IoU", "image": noun}

    def readable(name: str) -> str:
        text = " ".join(words.get(word, word) for word in name.removeprefix("sets/").split("_"))
        return f"{text}, mean of sets" if name.startswith("sets/") else text

    return {readable(name): metrics[name] for name in _HEADLINES if name in metrics}


def frame_scores(predictions: Predictions) -> tuple[np.ndarray, ...]:
    """Snippet scores repeated over the frames of the truth, one `[frames_i]` per record."""
    return tuple(
        temporal.expand_to_frames(
            scores, frames_per_snippet=predictions.frames_per_snippet, n_frames=len(truth)
        )
        for scores, truth in zip(predictions.snippet, predictions.frames, strict=True)
    )


def snippet_truth(predictions: Predictions) -> tuple[np.ndarray, ...]:
    """Whether at least half of each snippet's frames are anomalous, one bool `[T_i]` per record."""
    return tuple(_majority(truth, predictions.frames_per_snippet) for truth in predictions.frames)


def _majority(truth: np.ndarray, frames_per_snippet: int) -> np.ndarray:
    starts = np.arange(0, len(truth), frames_per_snippet)
    anomalous = np.add.reduceat(truth, starts, dtype=np.int64)
    return 2 * anomalous >= np.minimum(len(truth) - starts, frames_per_snippet)


def _evaluated(predictions: Predictions) -> tuple[dict[str, float], Reasons]:
    noun = predictions.noun
    values: dict[str, float] = {}
    reasons: Reasons = {}
    if predictions.snippet is not None and predictions.frames is None:
        reasons |= dict.fromkeys(_FRAME, "The split has no truth per frame.")
    elif predictions.snippet is not None and len(predictions):
        truth, scores = (
            np.concatenate(predictions.frames),
            np.concatenate(frame_scores(predictions)),
        )
        _add_ranking(values, reasons, _FRAME, truth, scores, "frames")
    if predictions.image is not None:
        metrics = _IMAGE if noun == "image" else _VIDEO
        _add_ranking(values, reasons, metrics, predictions.labels, predictions.image, f"{noun}s")
        measured, why = ood_sets.evaluated(predictions)
        values, reasons = {**values, **measured}, {**reasons, **why}
    if None not in (predictions.snippet, predictions.frames, predictions.classes):
        _add_classes(values, reasons, predictions)
    _add_separability(values, reasons, predictions)
    if predictions.pixels is not None:
        for measured, why in (
            pixel_measures.evaluated(predictions.pixels),
            dice_measures.evaluated(predictions),
        ):
            values, reasons = {**values, **measured}, {**reasons, **why}
    return values, reasons


def _add_ranking(values, reasons, metrics, truth: np.ndarray, scores: np.ndarray, what: str):
    why = _one_class(truth, what)
    for name, metric in metrics.items():
        if why:
            reasons[name] = why
        else:
            values[name] = metric(truth, scores)


def _add_classes(values, reasons, predictions: Predictions) -> None:
    truth, classes, scores = predictions.frames, predictions.classes, frame_scores(predictions)
    for name, areas in temporal.per_class_roc_auc(truth, scores, classes).items():
        for kind, metric in (("alone", "frame_auc"), ("with_normal", "frame_auc_with_normal")):
            if math.isfinite(areas[kind]):
                values[f"class/{name}/{metric}"] = areas[kind]
                continue
            members = (name,) if kind == "alone" else (name, "")
            frames = [t for t, c in zip(truth, classes, strict=True) if c in members]
            reasons[f"class/{name}/{metric}"] = _one_class(np.concatenate(frames), "frames")


def _add_separability(values, reasons, predictions: Predictions) -> None:
    truth = predictions.frames and np.concatenate(snippet_truth(predictions))
    measured = dict(predictions.extra)
    if predictions.snippet is not None:
        measured["score"] = predictions.snippet
    for name, value in measured.items():
        per_snippet = isinstance(value, tuple)
        anomalous = truth if per_snippet else predictions.labels == 1
        flat = np.concatenate(value) if per_snippet and value else np.asarray(value)
        what = "snippets" if per_snippet else f"{predictions.noun}s"
        for group, wanted in (("anomalous", True), ("normal", False)):
            key = f"separability/{name}_{group}"
            if anomalous is None:
                reasons[key] = "The split has no truth per frame."
            elif not np.any(anomalous == wanted):
                reasons[key] = f"There are no {group} {what}."
            else:
                values[key] = float(np.mean(flat[anomalous == wanted], dtype=np.float64))


def _one_class(truth: np.ndarray, what: str) -> str:
    """Why a ranking is undefined; "" if it is not."""
    anomalous = int(np.count_nonzero(truth))
    if 0 < anomalous < truth.size:
        return ""
    return (
        f"All {truth.size:,} {what} are {'anomalous' if anomalous else 'normal'}; both are needed."
    )
