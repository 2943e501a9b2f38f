"""Figures of scores per pixel, as PNG bytes."""

import matplotlib as mpl
import numpy as np

from jaxad.evaluation import drawing, overlays
from jaxad.evaluation.drawing import BLUE, GREY, ORANGE, VERMILION
from jaxad.evaluation.pixels import PixelScores
from jaxad.metrics import calibration, streaming


def histogram(state: PixelScores) -> bytes | None:
    """How scores of anomalous and normal pixels spread, each kind as a density; None without any.

    The axis is that of the colours of score maps; scores beyond it are left out.
    """
    counts = state.histogram.counts
    if not counts.any():
        return None
    known = streaming.bin_edges(bins=counts.shape[1])
    low, high = limits(state)
    # Edges of bars fall on edges of bins, or bars would differ in how many bins they hold.
    finite = np.flatnonzero(np.isfinite(known))
    places = finite[np.searchsorted(known[finite], np.linspace(low, high, 61)).clip(1) - 1]
    places = np.unique(np.append(places, min(places[-1] + 1, finite[-1])))
    edges = known[places].astype(np.float64)
    with mpl.rc_context(drawing.STYLE):
        figure, axes = drawing.figure(drawing.SQUARE)
        for row, name, color, dash in ((0, "normal", BLUE, "-"), (1, "anomalous", VERMILION, "--")):
            total = int(counts[row].sum())
            if total:
                inside = np.add.reduceat(counts[row], places)[:-1] / total / np.diff(edges)
                label = f"{name} ({total:,})"
                axes.stairs(inside, edges, fill=True, color=color, alpha=0.25)
                axes.stairs(inside, edges, color=color, linestyle=dash, label=label)
        axes.set(xlabel="score", ylabel="density of pixels", xlim=(edges[0], edges[-1]))
        axes.legend()
        return drawing.png(figure)


def reliability(state: PixelScores) -> bytes | None:
    """Accuracy at each confidence, of pixels of inlier classes; None if no confidence is known."""
    curve = calibration.curve(state.reliability)
    if not curve.share.size:
        return None
    with mpl.rc_context(drawing.STYLE):
        figure, axes = drawing.figure(drawing.SQUARE)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        error = calibration.calibration_error(state.reliability)
        label = f"accuracy: ECE {error:.3f}"
        axes.plot(curve.confidence, curve.accuracy, color=BLUE, marker="o", label=label)
        style = {"color": ORANGE, "linestyle": "--", "marker": "x"}
        axes.plot(curve.confidence, curve.share, label="share of pixels", **style)
        axes.set(xlabel="confidence", ylabel="share")
        return drawing.unit_square(figure, axes, "upper left")


def color_scale(state: PixelScores) -> bytes:
    """Which colour of the score maps is which score."""
    with mpl.rc_context(drawing.STYLE):
        figure, axes = drawing.figure((drawing.SIZE[0], 0.9))
        norm = mpl.colors.Normalize(*limits(state))
        bar = mpl.cm.ScalarMappable(norm, overlays.SCALE)
        figure.colorbar(bar, cax=axes, orientation="horizontal", label="score")
        return drawing.png(figure)


def limits(state: PixelScores) -> tuple[float, float]:
    """The scores at the ends of the colours: all but the lowest 1 % and highest 0.5 % of pixels.

    The upper end is at least the median of the anomalous ones.
    """
    counts = state.histogram.counts
    if not counts.any():
        return 0.0, 1.0
    edges = streaming.bin_edges(bins=counts.shape[1])

    def quantile(each: np.ndarray, share: float) -> float:
        reached = np.cumsum(each)
        return float(edges[np.searchsorted(reached, max(share * reached[-1], 1))])

    every = counts.sum(axis=0)
    low, high = quantile(every, 0.01), quantile(every, 0.995)
    if counts[1].any():
        high = max(high, quantile(counts[1], 0.5))
    return (low, high) if high > low else (low - 0.5, low + 0.5)
