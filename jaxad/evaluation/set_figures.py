"""Figures of the image scores of named sets, as PNG bytes."""

import math

import matplotlib as mpl
import numpy as np

from jaxad.evaluation import drawing, ood_sets
from jaxad.evaluation.drawing import BLUE, GREY, VERMILION
from jaxad.evaluation.predictions import Predictions

_LETTERS = 18  # Of a name beside its box: as many as leave the boxes half of the width.


def boxes(predictions: Predictions) -> bytes | None:
    """How the image scores of the normal images and of each set spread.

    A box from quartile to quartile with the median, whiskers from 5 % to 95 %. The dashed line is
    the score up to which 95 % of the normal images lie. None without sets or without normal images.
    """
    sets, normal = ood_sets.members(predictions), predictions.labels == 0
    if not sets or not normal.any():
        return None
    shown = {"in-distribution": normal, **sets}
    scores = [predictions.image[chosen].astype(np.float64) for chosen in shown.values()]
    accepted = np.sort(scores[0])[math.ceil(0.95 * len(scores[0])) - 1]
    with mpl.rc_context(drawing.STYLE):
        figure, axes = drawing.figure((drawing.SIZE[0], 1.1 + 0.34 * len(shown)))
        drawn = axes.boxplot(
            scores,
            orientation="horizontal",
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            widths=0.6,
            medianprops={"color": "black"},
            tick_labels=[_short(name) for name in shown],
        )
        for place, box in enumerate(drawn["boxes"]):
            box.set(facecolor=VERMILION if place else BLUE, alpha=0.6)
        axes.axvline(accepted, color=GREY, linestyle="--", linewidth=1.2)
        axes.set_xlabel("image score")
        axes.set_ylim(len(shown) + 0.5, 0.5)  # The first on top.
        axes.grid(False, axis="y")
        ends = np.concatenate([np.percentile(own, (5, 95)) for own in scores])
        if ends.min() > 0 and ends.max() > 100 * ends.min():
            axes.set_xscale("log")
        else:
            axes.locator_params(axis="x", nbins=5)
            axes.ticklabel_format(axis="x", scilimits=(-3, 4))  # Long numbers would touch.
        return drawing.png(figure)


def _short(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
