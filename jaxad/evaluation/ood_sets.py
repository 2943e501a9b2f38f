"""How well image scores tell each named set of anomalous images from all normal ones.

A set holds the anomalous images of one class name: an out-of-distribution data set, or a kind of
defect. Sets may belong to groups. Means are plain ones over sets, however large those are.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxad.evaluation.predictions import Predictions
from jaxad.metrics import ranking

Reasons = dict[str, str]

METRICS = {
    "image_auc": ranking.roc_auc,
    "image_fpr95": ranking.fpr_at_tpr_normal_positive,
    "image_fpr95_ood_positive": ranking.fpr_at_tpr,
}
_MEANINGS = {
    "image_auc": "Area under the ROC curve of image scores",
    "image_fpr95": "Share of anomalous images accepted at the score that accepts 95 % of the "
    "normal ones (lower is better)",
    "image_fpr95_ood_positive": "Share of normal images flagged at the score that flags 95 % of "
    "the anomalous ones (lower is better)",
}


def members(predictions: Predictions) -> dict[str, np.ndarray]:
    """The images of each set.

    Args:
        predictions: Scores of a split of images.

    Returns:
        By name, in the order of the split, bool `[n]`; nothing where images have no class names, or
        no score, or are videos.
    """
    if predictions.noun != "image" or predictions.classes is None or predictions.image is None:
        return {}
    anomalous = predictions.labels == 1
    classes = np.array(predictions.classes, np.str_)
    names = dict.fromkeys(classes[anomalous & (classes != "")].tolist())
    return {name: anomalous & (classes == name) for name in names}


def groups(predictions: Predictions) -> dict[str, tuple[str, ...]]:
    """The sets of each group, groups by name, sets in the order of the split."""
    known = predictions.class_groups or {}
    sets = [name for name in members(predictions) if name in known]
    return {
        group: tuple(name for name in sets if known[name] == group)
        for group in sorted({known[name] for name in sets})
    }


def evaluated(predictions: Predictions) -> tuple[dict[str, float], Reasons]:
    """The metrics of each set against all normal images, and their means.

    - `class/<set>/image_auc`, `…/image_fpr95` (normal images are the positive ones: the threshold
      is the ⌈0.95 n⌉-th smallest of their n scores, and what scores at most that is accepted) and
      `…/image_fpr95_ood_positive`.
    - `group/<group>/…`: means over the sets of a group; `sets/…`: over all sets.

    Args:
        predictions: Scores of a split.

    Returns:
        Finite values by name, and reasons by name; both empty where there are no named sets.
    """
    sets, normal = members(predictions), predictions.labels == 0
    values: dict[str, float] = {}
    for name, chosen in sets.items():
        either = chosen | normal
        for metric, measured in METRICS.items():
            value = measured(predictions.labels[either], predictions.image[either])
            values[f"class/{name}/{metric}"] = value
    for prefix, names in _means(predictions, tuple(sets)):
        for metric in METRICS:
            own = [values[f"class/{name}/{metric}"] for name in names]
            values[f"{prefix}/{metric}"] = float(np.mean(own))
    if normal.any():
        return values, {}
    return {}, dict.fromkeys(values, "There are no normal images; both kinds are needed.")


def explain(name: str) -> str:
    """One line on what a metric means; "" for one that is not made here."""
    kind, _, rest = name.partition("/")
    whole, _, metric = rest.rpartition("/")
    about = {
        "class": f", of set {whole} against all normal images.",
        "group": f", each set against all normal images: mean over the sets of group {whole}.",
        "sets": ", each set against all normal images: mean over the sets.",
        "": ", by the one score of each image.",
    }
    if not rest:
        kind, metric = "", name
    if kind not in about or metric not in _MEANINGS:
        return ""
    return _MEANINGS[metric] + about[kind]


def rows(metrics: Mapping[str, float], predictions: Predictions) -> list[dict[str, Any]]:
    """Of a table: one row per set, then the means over groups and over all, where of several sets.

    Args:
        metrics: What `measures.measure` gives.
        predictions: Scores of the same split.

    Returns:
        Dicts with `name`, `group`, `images` (None in means), `mean` (whether it is one), and each
        of `METRICS` (None where undefined).
    """
    sets, known = members(predictions), predictions.class_groups or {}

    def row(prefix: str, **about) -> dict[str, Any]:
        return {**about, **{metric: metrics.get(f"{prefix}/{metric}") for metric in METRICS}}

    found = [
        row(
            f"class/{name}", name=name, group=known.get(name, ""), images=int(own.sum()), mean=False
        )
        for name, own in sets.items()
    ]
    for prefix, names in _means(predictions, tuple(sets)):
        if len(names) > 1:
            group = prefix.removeprefix("group/") if prefix != "sets" else ""
            about = {"name": f"mean of {len(names)}", "group": group, "images": None, "mean": True}
            found.append(row(prefix, **about))
    return found


def _means(
    predictions: Predictions, sets: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Prefix and sets of each mean."""
    for group, names in groups(predictions).items():
        yield f"group/{group}", names
    if sets:
        yield "sets", sets
