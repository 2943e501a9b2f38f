"""Dice of the structures that a network segments in normal images, over pixels and over patients.

Measured where the source says which class is the background. Anomalous images do not count,
whether their classes are known or not: what is asked is how well normal images are segmented.
"""

from collections.abc import Iterator

import numpy as np

from jaxad.evaluation.predictions import Predictions
from jaxad.metrics import segmentation

Reasons = dict[str, str]

_NO_TRUTH = "The split has no truth of classes."
_ABSENT = "No normal image holds the class, in truth or prediction."
_MEANINGS = {
    "dice": "Dice over the pixels of all normal images",
    "per_subject/dice": "Dice of each patient's normal images, averaged over the patients where "
    "truth or prediction hold the class",
}


def evaluated(predictions: Predictions) -> tuple[dict[str, float], Reasons]:
    """Dice of each class but the background, and the plain mean over these classes.

    - `dice/<class>`, `dice`: 2 |A ∩ B| / (|A| + |B|), sums over the pixels of all normal images.
    - `per_subject/dice/<class>`, `per_subject/dice`: sums over the normal images of each patient,
      then the mean over patients; only where patients are known.

    A class that is nowhere, in truth or prediction, is left out of the means.

    Args:
        predictions: Scores of a split.

    Returns:
        Finite values by name, and reasons by name.
    """
    state = predictions.pixels
    if state is None or state.counts is None or "classes" not in state.predicted:
        return {}, {}
    names = foreground(predictions)
    places = [place for place in range(len(state.classes)) if place != state.background]
    normal = predictions.labels == 0
    values: dict[str, float] = {}
    reasons: Reasons = {}
    for prefix, counts in _sums(predictions, normal):
        each = segmentation.dice_of_counts(counts)[:, places]
        means = segmentation.mean_of_defined(each.T)
        wanted = {f"{prefix}/{name}": v for name, v in zip(names, means.tolist(), strict=True)}
        wanted[prefix] = float(segmentation.mean_of_defined(means))
        for name, value in wanted.items():
            if np.isfinite(value):
                values[name] = value
            else:
                reasons[name] = _ABSENT if "segments" in state.truth else _NO_TRUTH
    return values, reasons


def foreground(predictions: Predictions) -> tuple[str, ...]:
    """Names of the classes whose Dice is measured; none without a background."""
    state = predictions.pixels
    if state is None or state.background is None:
        return ()
    return tuple(name for i, name in enumerate(state.classes) if i != state.background)


def explain(name: str) -> str:
    """One line on what a metric means; "" for one that is not made here."""
    for prefix, text in _MEANINGS.items():
        if name == prefix:
            return f"{text}: mean over the classes but the background."
        if name.startswith(f"{prefix}/"):
            return f"{text}, of class {name.removeprefix(f'{prefix}/')}."
    return ""


def _sums(predictions: Predictions, normal: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Counts of all normal images, `[1, K, 3]`, and those of each patient, `[patients, K, 3]`."""
    counts = predictions.pixels.counts[normal].astype(np.int64)
    yield "dice", counts.sum(axis=0, keepdims=True)
    if predictions.subjects is not None:
        subjects = np.array(predictions.subjects, np.str_)[normal]
        unique, places = np.unique(subjects, return_inverse=True)
        sums = np.zeros((len(unique), *counts.shape[1:]), np.int64)
        np.add.at(sums, places, counts)
        yield "per_subject/dice", sums
