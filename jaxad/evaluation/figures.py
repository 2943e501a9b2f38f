"""Figures as PNG bytes; lines that share axes differ in dash as well as in colour."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib import ticker

from jaxad.evaluation import drawing, measures
from jaxad.evaluation.drawing import BLUE, GREEN, GREY, ORANGE, VERMILION
from jaxad.evaluation.predictions import Predictions
from jaxad.metrics import bounded_ranking, ranking, streaming

_DASHES = ("-", "--", ":", "-.")
_COLORS = (BLUE, VERMILION, GREEN, ORANGE)


def pick(predictions: Predictions, *, limit: int = 12) -> list[int]:
    """Records worth looking at, as positions.

    A quarter are normal ones with the highest scores. Of the anomalous ones, the worst and the best
    of each class come first (as far as there is room, from the worst of the worst classes and the
    best of the best), then the worst of the rest.

    Args:
        predictions: Scores of a split, with snippet scores.
        limit: How many to pick at most.

    Returns:
        Positions, anomalous ones first, by class and then from best to worst.
    """
    peaks = np.array([scores.max(initial=-np.inf) for scores in predictions.snippet])
    quality = _quality(predictions, peaks)
    anomalous = np.flatnonzero(predictions.labels == 1)
    normal = np.flatnonzero(predictions.labels == 0)
    rooms = limit - min(limit // 4, len(normal))
    chosen = _worst_and_best(anomalous, quality, predictions.classes)[:rooms]
    names = predictions.classes or ("",) * len(predictions)
    chosen = sorted(chosen, key=lambda i: (names[i], -quality[i], i))
    alarming = sorted(normal, key=lambda i: (-peaks[i], i))[: limit - len(chosen)]
    return [int(i) for i in (*chosen, *alarming)]


def within_auc(predictions: Predictions, place: int) -> float:
    """Frame AUC within one record; NaN without truth, or if that has one class only."""
    if predictions.frames is None or predictions.snippet is None:
        return float("nan")
    truth = predictions.frames[place]
    scores = np.repeat(predictions.snippet[place], predictions.frames_per_snippet)[: len(truth)]
    return ranking.roc_auc(truth, scores)


def score_curve(predictions: Predictions, place: int) -> bytes:
    """Snippet scores of one record over its frames, true intervals shaded.

    The first extra with one value per snippet is drawn on a second axis. Axes are the same for all
    records of a split, so that curves can be compared.

    Args:
        predictions: Scores of a split, with snippet scores.
        place: Which record.
    """
    step = predictions.frames_per_snippet
    scores = predictions.snippet[place]
    frames = len(scores) * step if predictions.frames is None else len(predictions.frames[place])
    edges = np.minimum(np.arange(len(scores) + 1) * step, frames)
    with mpl.rc_context(drawing.STYLE):
        figure, axes = drawing.figure(drawing.SIZE)
        if predictions.frames is not None:
            for start, end in _runs(predictions.frames[place]):
                axes.axvspan(start, end, color=ORANGE, alpha=0.3, linewidth=0)
        axes.stairs(scores, edges, baseline=None, color=BLUE, linewidth=1.8)
        axes.set(xlim=(0, max(frames, 1)), ylim=_limits(predictions.snippet), xlabel="frame")
        axes.set_ylabel("score", color=BLUE)
        second = next((k for k, v in predictions.extra.items() if isinstance(v, tuple)), None)
        if second is not None:
            values = predictions.extra[second]
            beside = axes.twinx()
            beside.grid(False)
            axes.set_zorder(beside.get_zorder() + 1)  # The score is drawn last,
            axes.patch.set_visible(False)  # and hides nothing.
            beside.spines["right"].set_visible(True)
            beside.stairs(
                values[place], edges, baseline=None, color=VERMILION, linewidth=1.2, linestyle="--"
            )
            beside.set_ylim(_limits(values))
            beside.set_ylabel(second.replace("_", " "), color=VERMILION)
        return drawing.png(figure)


def curves(predictions: Predictions) -> dict[str, bytes]:
    """ROC and precision-recall curves, over frames, records and pixels of which both kinds are
    known.

    Returns:
        "roc" and "precision_recall"; nothing if no ranking is defined.
    """
    rankings = _rankings(predictions)
    if not rankings:
        return {}
    drawn = {}
    with mpl.rc_context(drawing.STYLE):
        figure, axes = drawing.figure(drawing.SQUARE)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        for style, (name, ranked) in zip(_styles(), rankings.items(), strict=False):
            axes.plot(*ranked.roc, label=f"{name}: AUC {ranked.auc:.3f}", **style)
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        drawn["roc"] = drawing.unit_square(figure, axes, "lower right")
        figure, axes = drawing.figure(drawing.SQUARE)
        for style, (name, ranked) in zip(_styles(), rankings.items(), strict=False):
            label = f"{name}: AP {ranked.average_precision:.3f}"
            axes.plot(*ranked.precision_recall, label=label, **style)
            axes.axhline(ranked.share, color=style["color"], linewidth=1, linestyle=":")
        axes.set(xlabel="recall", ylabel="precision")
        drawn["precision_recall"] = drawing.unit_square(figure, axes, "best")
    return drawn


def histogram(predictions: Predictions) -> bytes | None:
    """How scores of anomalous and normal snippets spread; of records, without truth of snippets.

    Bars show the share of each kind, so that the rarer one can be seen. None if there are neither.
    """
    if predictions.snippet is not None and predictions.frames is not None:
        scores = np.concatenate(predictions.snippet)
        anomalous, what = np.concatenate(measures.snippet_truth(predictions)), "snippets"
    elif predictions.image is not None:
        scores, anomalous, what = predictions.image, predictions.labels == 1, f"{predictions.noun}s"
    else:
        return None
    low, high = _limits((scores,), margin=0)
    edges = np.linspace(low, high, 41)
    with mpl.rc_context(drawing.STYLE):
        figure, axes = drawing.figure(drawing.SQUARE)
        for wanted, name, color, dash in (
            (False, "normal", BLUE, "-"),
            (True, "anomalous", VERMILION, "--"),
        ):
            part = scores[anomalous == wanted]
            if len(part):
                share = np.histogram(part, edges)[0] / len(part)
                axes.stairs(share, edges, fill=True, color=color, alpha=0.25)
                axes.stairs(
                    share, edges, color=color, linestyle=dash, label=f"{name} ({len(part):,})"
                )
        axes.set(xlabel="score", ylabel=f"share of {what}", xlim=(low, high))
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
        axes.legend()
        return drawing.png(figure)


def training(rows: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """Curves of each stage from the rows of `metrics.jsonl`.

    Args:
        rows: Dicts with `step`, `stage`, `split`, then metrics by name; None is left out.

    Returns:
        By title: the training loss of each stage, and its areas on the validation split.
    """
    drawn = {}
    for stage in dict.fromkeys(row["stage"] for row in rows):
        for split, what, wanted in (
            ("train", "training loss", lambda name: name == "loss" or name.endswith("/loss")),
            ("validation", "validation metrics", _is_area),
        ):
            own = [row for row in rows if row["stage"] == stage and row["split"] == split]
            names = [n for n in dict.fromkeys(k for row in own for k in row) if wanted(n)]
            series = {name: _series(own, name) for name in names}
            series = {name: points for name, points in series.items() if len(points[0])}
            if series:
                drawn[f"{stage}: {what}"] = _lines(series, share=split == "validation")
    return drawn


def _lines(series: Mapping[str, tuple[list, list]], *, share: bool) -> bytes:
    with mpl.rc_context(drawing.STYLE):
        figure, axes = drawing.figure(drawing.SIZE)
        for style, (name, (steps, values)) in zip(_styles(), series.items(), strict=False):
            marker = "o" if len(steps) < 30 else ""
            axes.plot(steps, values, label=name, marker=marker, markersize=4, **style)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
        everything = [v for _, values in series.values() for v in values]
        if share:
            axes.set_ylim(top=max(1.0, *everything))
        elif min(everything) > 0 and max(everything) > 100 * min(everything):
            axes.set_yscale("log")
        if len(series) > 1:
            axes.legend()
        else:
            axes.set_ylabel(next(iter(series)))
        return drawing.png(figure)


def _is_area(name: str) -> bool:
    return "/" not in name and name.endswith(("_auc", "_average_precision", "mean_iou", "dice"))


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[list, list]:
    known = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return [step for step, _ in known], [value for _, value in known]


def _styles() -> list[dict[str, Any]]:
    """Enough looks for any number of lines: colours repeat with other dashes."""
    return [
        {"color": color, "linestyle": _DASHES[(i + turn) % 4]}
        for turn in range(4)
        for i, color in enumerate(_COLORS)
    ]


class _Ranked(NamedTuple):
    """Curves of one kind of scores, their areas, and the share of what is anomalous."""

    roc: tuple[np.ndarray, np.ndarray]
    auc: float
    precision_recall: tuple[np.ndarray, np.ndarray]
    average_precision: float
    share: float


def _rankings(predictions: Predictions) -> dict[str, _Ranked]:
    found = {}
    if predictions.snippet is not None and predictions.frames is not None:
        scores = np.concatenate(measures.frame_scores(predictions))
        found["frames"] = (np.concatenate(predictions.frames), scores)
    if predictions.image is not None:
        found[f"{predictions.noun}s"] = (predictions.labels, predictions.image)
    ranked = {
        name: _Ranked(
            ranking.roc_curve(truth, scores),
            ranking.roc_auc(truth, scores),
            ranking.precision_recall_curve(truth, scores),
            ranking.average_precision(truth, scores),
            float(np.mean(truth)),
        )
        for name, (truth, scores) in found.items()
        if 0 < np.count_nonzero(truth) < len(truth)
    }
    if predictions.pixels is not None and predictions.pixels.histogram.counts.any(axis=1).all():
        ranked["pixels"] = _ranked_pixels(predictions.pixels.histogram)
    return ranked


def _ranked_pixels(histogram: streaming.ScoreHistogram) -> _Ranked:
    used = histogram.counts.any(axis=0)
    normal, anomalous = np.cumsum(histogram.counts[:, used][:, ::-1], axis=1)
    return _Ranked(
        bounded_ranking.roc_curve(histogram),
        bounded_ranking.roc_auc(histogram).value,
        (anomalous / anomalous[-1], anomalous / (anomalous + normal)),
        bounded_ranking.average_precision(histogram).value,
        float(anomalous[-1] / (anomalous[-1] + normal[-1])),
    )


def _quality(predictions: Predictions, peaks: np.ndarray) -> np.ndarray:
    """How well each record was scored as anomalous: its frame AUC, else its score."""
    areas = np.array([within_auc(predictions, i) for i in range(len(predictions))])
    scores = peaks if predictions.image is None else predictions.image
    known = areas[(predictions.labels == 1) & np.isfinite(areas)]
    if len(known) == 0:
        return scores.astype(np.float64)
    return np.where(np.isfinite(areas), areas, np.median(known))


def _worst_and_best(anomalous: np.ndarray, quality: np.ndarray, classes) -> list[int]:
    groups: dict[str, list[int]] = {}
    ascending = sorted(anomalous, key=lambda i: (quality[i], i))
    for place in ascending:
        groups.setdefault(classes[place] if classes else "", []).append(place)
    worst = sorted((g[0] for g in groups.values()), key=lambda i: (quality[i], i))
    best = sorted((g[-1] for g in groups.values()), key=lambda i: (-quality[i], i))
    pairs = [place for pair in zip(worst, best, strict=True) for place in pair]
    return list(dict.fromkeys([*pairs, *ascending]))


def _runs(truth: np.ndarray) -> np.ndarray:
    """Start and end (exclusive) of each run of ones, `[runs, 2]`."""
    padded = np.concatenate([[0], truth.astype(np.int8), [0]])
    return np.flatnonzero(np.diff(padded)).reshape(-1, 2)


def _limits(values: Sequence[np.ndarray], margin: float = 0.03) -> tuple[float, float]:
    """Limits for all values: from 0 if none is negative, to 1 for what may be a probability."""
    low = min((float(v.min()) for v in values if v.size), default=0.0)
    high = max((float(v.max()) for v in values if v.size), default=1.0)
    if low >= 0:
        low, high = 0.0, 1.0 if 0.1 < high <= 1 else high
    room = margin * (high - low)
    return (low - room, high + room) if high > low else (low - 0.5, low + 0.5)
