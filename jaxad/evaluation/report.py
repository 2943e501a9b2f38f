"""A run's report: one HTML file that opens anywhere, on a screen or a phone, without a network."""

import base64
import importlib.resources
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
import numpy as np

from jaxad.evaluation import (
    figures,
    measures,
    ood_sets,
    overlays,
    pixel_figures,
    pixel_measures,
    set_figures,
    table,
)
from jaxad.evaluation.pixels import PixelScores
from jaxad.evaluation.predictions import Predictions
from jaxad.files import make_folder, write_atomically
from jaxad.metrics import segmentation

# Metrics that have tables of their own.
_IN_TABLES = (
    *("class/", "group/", "sets/", "separability/"),
    *("iou/", "dice/", "per_subject/dice/"),
)

_KINDS = {
    "normal": "no anomalies",
    "highest": "{}: among the highest scores",
    "lowest": "{}: among the lowest scores",
}


def write(
    folder: str | os.PathLike[str],
    *,
    title: str,
    config: Mapping[str, Any],
    versions: Mapping[str, str],
    measures: Mapping[str, Mapping[str, float]],
    predictions: Predictions,
    history: Sequence[Mapping[str, Any]] = (),
    command: str = "",
    notes: Sequence[str] = (),
    split: str = "test",
) -> pathlib.Path:
    """Writes `index.html` into a folder, which is made if absent.

    Args:
        folder: Where to write.
        title: Heading of the page.
        config: Nested dicts of JSON values.
        versions: Of the software and the device, by name.
        measures: By split, what `measures.measure` gives.
        predictions: Scores of one split; figures are made from them.
        history: Rows of `metrics.jsonl`.
        command: Command line that repeats the run.
        notes: Sentences shown below the title.
        split: The split of `predictions`.

    Returns:
        Path of the page.

    Raises:
        InputError: If the page cannot be written.
    """
    page = (
        _environment()
        .from_string(_template())
        .render(
            title=title,
            config=list(_flattened(config)),
            versions=versions,
            command=command,
            notes=notes,
            split=split,
            **_numbers(measures, predictions, split),
            **_figures(predictions, history),
            **_sets(measures.get(split, {}), predictions),
            **_maps(measures.get(split, {}), predictions),
        )
    )
    path = make_folder(folder) / "index.html"
    write_atomically(path, page.encode("utf-8", "backslashreplace"))
    return path


def _numbers(
    by_split: Mapping[str, Mapping[str, float]], predictions: Predictions, split: str
) -> dict[str, Any]:
    own, reasons = by_split.get(split, {}), measures.undefined(predictions)
    names = dict.fromkeys([*own, *reasons, *(name for m in by_split.values() for name in m)])
    # Of many metrics: one sentence for all of them.
    untold = [
        name
        for name, reason in reasons.items()
        if reason == pixel_measures.NO_TRUTH and not any(name in m for m in by_split.values())
    ]
    bounds = {} if predictions.pixels is None else pixel_measures.bounds(predictions.pixels)
    return {
        "summary": _summary(predictions),
        "headlines": measures.headlines(own, predictions.noun),
        "splits": list(by_split),
        "metrics": [
            {
                "name": name,
                "meaning": measures.explain(name),
                "values": [metrics.get(name) for metrics in by_split.values()],
                "bounds": bounds.get(name),
            }
            for name in names
            if not name.startswith(_IN_TABLES) and name not in untold
        ],
        "without_pixels": untold,
        "classes": _classes(own, predictions),
        "separability": _separability({**dict.fromkeys(reasons), **own}),
        "reasons": reasons,
    }


def _summary(predictions: Predictions) -> str:
    """How much was scored, and how much of it is anomalous."""
    anomalous = int(np.sum(predictions.labels))
    parts = [f"{len(predictions):,} {predictions.noun}s, {anomalous:,} of them anomalous"]
    if predictions.snippet is not None:
        parts.append(f"{sum(map(len, predictions.snippet)):,} snippets")
    if predictions.frames:
        truth = np.concatenate(predictions.frames)
        parts.append(f"{len(truth):,} frames, {np.mean(truth):.1%} of them anomalous")
    if predictions.pixels is not None:
        normal, anomalous = map(int, predictions.pixels.histogram.counts.sum(axis=1))
        share = anomalous / max(normal + anomalous, 1)
        known = "anomaly" in predictions.pixels.truth
        kind = f" that are not void, {share:.2%} of them anomalous" if known else ""
        parts.append(f"{normal + anomalous:,} pixels{kind}")
    return "; ".join(parts)


def _classes(metrics: Mapping[str, float], predictions: Predictions) -> list[dict[str, Any]]:
    """One row per anomaly class, where there is truth per frame: its videos and areas."""
    classes = () if predictions.frames is None else predictions.classes or ()
    return [
        {
            "name": name,
            "videos": classes.count(name),
            "alone": metrics.get(f"class/{name}/frame_auc"),
            "with_normal": metrics.get(f"class/{name}/frame_auc_with_normal"),
        }
        for name in sorted(set(classes) - {""})
    ]


def _separability(metrics: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """One row per value: its means over what is anomalous and normal, and their ratio."""
    rows: dict[str, dict[str, Any]] = {}
    for name, value in metrics.items():
        if name.startswith("separability/"):
            what, _, group = name.removeprefix("separability/").rpartition("_")
            rows.setdefault(what, {"name": what})[group] = value
    for row in rows.values():
        if (row.get("normal") or 0) > 0 and (row.get("anomalous") or 0) > 0:
            row["ratio"] = row["anomalous"] / row["normal"]
    return list(rows.values())


def _figures(predictions: Predictions, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ranked = figures.curves(predictions)
    texts = {
        "roc": "ROC curve: the share of anomalous found, at each share of normal flagged. The "
        "dotted line is guessing.",
        "precision_recall": "Precision-recall curve: how much of what is flagged is anomalous. "
        "Dotted lines are guessing.",
    }
    drawn = [{"png": png, "caption": texts[name]} for name, png in ranked.items()]
    histogram = figures.histogram(predictions)
    if histogram is not None:
        drawn.append({"png": histogram, "caption": "Scores of what is truly anomalous and normal."})
    if predictions.pixels is not None:
        drawn += _pixel_curves(predictions.pixels)
    places = [] if predictions.snippet is None else figures.pick(predictions)
    beside = next((k for k, v in predictions.extra.items() if isinstance(v, tuple)), "")
    return {
        "curves": drawn,
        "videos": [_video(predictions, place) for place in places],
        "shown_of": len(predictions),
        "beside": beside.replace("_", " "),
        "training": [
            {"png": png, "caption": caption} for caption, png in figures.training(history).items()
        ],
    }


def _video(predictions: Predictions, place: int) -> dict[str, Any]:
    kind = predictions.classes[place] if predictions.classes else ""
    facts = []
    if predictions.image is not None:
        facts.append(f"score {table.number(float(predictions.image[place]))}")
    area = figures.within_auc(predictions, place)
    if math.isfinite(area):
        facts.append(f"frame AUC {table.number(area)}")
    return {
        "png": figures.score_curve(predictions, place),
        "name": predictions.names[place],
        "kind": kind or ("anomalous" if predictions.labels[place] else "normal"),
        "facts": facts,
    }


def _sets(metrics: Mapping[str, float], predictions: Predictions) -> dict[str, Any]:
    """Named sets of anomalous images: their metrics, means of these, and how scores spread."""
    rows = ood_sets.rows(metrics, predictions)
    return {
        "sets": rows,
        "sets_grouped": any(row["group"] for row in rows),
        "sets_boxes": set_figures.boxes(predictions),
        "sets_normal": int(np.sum(predictions.labels == 0)),
    }


def _pixel_curves(state: PixelScores) -> list[dict[str, Any]]:
    texts = {
        "Scores of pixels that are truly anomalous and normal.": pixel_figures.histogram,
        "Calibration: the share of pixels whose class is right, at each confidence. Below the "
        "dotted line the network is too sure of itself.": pixel_figures.reliability,
    }
    if "anomaly" not in state.truth:
        del texts["Scores of pixels that are truly anomalous and normal."]
    drawn = [{"png": draw(state), "caption": caption} for caption, draw in texts.items()]
    return [each for each in drawn if each["png"] is not None]


def _maps(metrics: Mapping[str, float], predictions: Predictions) -> dict[str, Any]:
    """Classes with their overlap, and images beside their maps."""
    state = predictions.pixels
    dice = [k for k in ("dice", "per_subject/dice") if k in metrics]
    if state is None:
        return {"ious": [], "dice": [], "overlays": [], "of_sets": False, "scale": b""}
    palette = overlays.colors(len(state.classes), state.palette)
    known = {"classes", "segments"} <= {*state.predicted, *state.truth}
    truth, ious = state.confusion.sum(axis=1), segmentation.class_iou(state.confusion)
    shown = [i for i in range(len(truth)) if known and (state.named or truth[i])]
    limits = pixel_figures.limits(state)
    return {
        "ious": [
            {
                "name": state.classes[i],
                "color": "#{:02x}{:02x}{:02x}".format(*palette[i]),
                "share": float(truth[i] / max(truth.sum(), 1)),
                "iou": float(ious[i]) if truth[i] else None,
                "dice": [metrics.get(f"{name}/{state.classes[i]}") for name in dice],
            }
            for i in shown
        ],
        "dice": dice,
        "of_sets": any(each.kind in ("highest", "lowest") for each in state.overlays),
        "overlays": [_overlay(predictions, each, limits, palette) for each in state.overlays],
        "scale": pixel_figures.color_scale(state) if state.overlays else b"",
    }


def _overlay(predictions, overlay: overlays.Overlay, limits, palette) -> dict[str, Any]:
    numbers = {name: column[overlay.place] for name, column in predictions.pixels.images.items()}
    facts = []
    if predictions.image is not None:
        facts.append(f"image score {table.number(float(predictions.image[overlay.place]))}")
    facts += [
        f"{words} {table.number(float(numbers[name]))}"
        for name, words in (
            ("auc", "AUC"),
            ("average_precision", "AP"),
            ("fpr95", "FPR95"),
            ("peak", "99 % of pixels score below"),
        )
        if math.isfinite(numbers[name])
    ]
    return {
        "panels": overlays.panels(
            overlay, limits, palette, background=predictions.pixels.background
        ),
        "name": predictions.names[overlay.place],
        "kind": _KINDS.get(overlay.kind, overlay.kind).format(overlay.of or "in-distribution"),
        "facts": facts,
    }


def _flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and JSON values."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False, default=str)


def _template() -> str:
    return (
        importlib.resources.files("jaxad.evaluation")
        .joinpath("report.html.jinja")
        .read_text("utf-8")
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = table.number
    environment.filters["base64"] = lambda png: base64.b64encode(png).decode("ascii")
    return environment
