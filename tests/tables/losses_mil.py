"""Rows of `jaxad.losses.mil`."""

import numpy as np

from jaxad.losses import mil
from tables.row import Row

RNG = np.random.default_rng(0)
SCORES = RNG.uniform(0.1, 0.9, (8, 6))
FEATURES = RNG.normal(size=(8, 2, 3, 4))
BAGS = RNG.uniform(0.1, 0.9, 8)
LABELS = np.array([0, 1, 1, 0, 1, 0, 1, 0])
VALID = np.array([True] * 7 + [False])
WHERE = RNG.random((8, 6)) < 0.8
NO_LABELS = ({"labels": np.zeros(7, int)}, ValueError, r"labels: .*\(8,\).*\(7,\)")
WHOLE = ({"scores": np.ones((8, 6), int)}, TypeError, "scores: expected a floating-point")
BAD_BAGS = [
    {"valid": np.zeros(8, bool)},
    {"labels": np.zeros(8, int)},
    {"labels": np.ones(8, int)},
]


def bags(function, name, values=BAGS, **options):
    return Row(
        function,
        {name: values, "labels": LABELS, "valid": VALID},
        rows=(name, "labels", "valid"),
        options=options,
        differentiable=(name,),
        coupled=True,
        outputs="same",
        bad=[*BAD_BAGS, {name: np.zeros_like(values)}],
        errors=[
            NO_LABELS,
            ({"valid": np.ones((8, 1), bool)}, ValueError, r"valid: .*\(8,\).*\(8, 1\)"),
        ],
    )


def chosen(function):
    return Row(
        function,
        {"scores": SCORES, "labels": LABELS, "where": WHERE},
        rows=("scores", "labels", "where"),
        differentiable=("scores",),
        bad=[
            {"scores": np.zeros((8, 6))},
            {"scores": np.ones((8, 6))},
            {"where": np.zeros((8, 6), bool)},
            {"scores": np.full((8, 6), np.nan), "where": np.zeros((8, 6), bool)},
        ],
        errors=[NO_LABELS, WHOLE],
    )


ROWS = [
    Row(
        mil.feature_magnitude,
        {"features": FEATURES},
        rows=("features",),
        differentiable=("features",),
        bad=[{"features": np.zeros((8, 2, 3, 4))}],
        errors=[({"features": np.ones((8, 2), int)}, TypeError, "values: expected a floating")],
    ),
    Row(
        mil.top_k_indices,
        {"values": SCORES, "where": WHERE},
        rows=("values", "where"),
        options={"k": 3},
        errors=[
            ({"k": 0}, ValueError, "k: expected an integer of at least 1"),
            ({"k": 1.5}, TypeError, "k: expected a Python integer or a fraction"),
            ({"where": np.ones((8, 5), bool)}, ValueError, r"where: .*\(8, 6\).*\(8, 5\)"),
        ],
    ),
    Row(
        mil.top_k_indices,
        {"values": SCORES, "where": WHERE},
        rows=("values", "where"),
        options={"k": 0.5},
        errors=[({"values": np.ones((8, 6), int)}, TypeError, "values: expected a floating")],
        name="fraction",
    ),
    Row(
        mil.take_snippets,
        {"values": SCORES, "indices": np.array([[5, 0, 2]] * 8)},
        rows=("values", "indices"),
        differentiable=("values",),
        bad=[{"values": np.zeros((8, 6))}],
        errors=[({"indices": np.zeros((8, 1, 1), int)}, ValueError, "indices")],
    ),
    Row(
        mil.top_k_mean,
        {"values": SCORES, "where": WHERE},
        rows=("values", "where"),
        options={"k": 3},
        differentiable=("values",),
        bad=[{"where": np.zeros((8, 6), bool)}, {"values": np.ones((8, 6))}],
        errors=[({"k": 0}, ValueError, "k: expected")],
    ),
    Row(
        mil.separability,
        {"anomalous": BAGS[:3], "normal": BAGS[3:]},
        differentiable=("anomalous", "normal"),
        outputs="same",
        bad=[{"anomalous": np.zeros(3)}],
        errors=[({"normal": np.ones((2, 2))}, ValueError, r"normal: .*\[B_n\].*\(2, 2\)")],
    ),
    bags(mil.magnitude_hinge, "magnitudes", margin=0.4),
    bags(mil.magnitude_released, "features", FEATURES, margin=1.0),
    bags(mil.ranking_hinge_all_pairs, "scores"),
    bags(mil.ranking_hinge_index_pairs, "scores"),
    bags(mil.ranking_hinge_released, "scores"),
    Row(
        mil.binary_cross_entropy,
        {"probabilities": BAGS, "labels": LABELS.astype(float)},
        rows=("probabilities", "labels"),
        differentiable=("probabilities",),
        bad=[{"probabilities": np.zeros(8)}, {"probabilities": np.ones(8)}],
        errors=[({"labels": np.ones(7)}, ValueError, r"labels: .*\(8,\).*\(7,\)")],
    ),
    chosen(mil.snippet_bce),
    chosen(mil.bag_bce),
]
