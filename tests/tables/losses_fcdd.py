"""Rows of `jaxad.losses.fcdd`."""

import numpy as np

from jaxad.losses import fcdd
from tables.row import Row

RNG = np.random.default_rng(0)
OUTPUTS = RNG.normal(size=(8, 2, 3))
WHERE = RNG.random((8, 2, 3)) < 0.8
LABELS = np.array([0, 1, 0, 0, 1, 0, 1, 0])
VALID = np.array([1, 1, 1, 0, 1, 1, 1, 1], bool)
BAD = [
    {"outputs": np.zeros((8, 2, 3))},
    {"outputs": 1e-20 * OUTPUTS},
    {"outputs": 1e4 * OUTPUTS},
]
EMPTY = {"where": np.zeros((8, 2, 3), bool)}
ERRORS = [
    ({"outputs": np.ones((8, 2, 3), int)}, TypeError, "outputs: expected a floating-point"),
    ({"outputs": OUTPUTS[:, 0]}, ValueError, r"outputs.*B, h, w.*\(8, 3\)"),
    ({"labels": LABELS[:7]}, ValueError, r"labels.*\(8,\).*\(7,\)"),
    ({"where": WHERE[..., :2]}, ValueError, r"where.*\(8, 2, 3\).*\(8, 2, 2\)"),
]
PRECISE = dict(float32=1e-6, bfloat16=1e-6)


def coupled(function):
    return Row(
        function,
        {"outputs": OUTPUTS, "labels": LABELS, "valid": VALID, "where": WHERE},
        rows=("outputs", "labels", "valid", "where"),
        differentiable=("outputs",),
        coupled=True,
        outputs="same",
        bad=[*BAD, EMPTY, {"valid": np.zeros(8, bool)}, {"labels": np.ones(8, int)}],
        errors=[*ERRORS, ({"valid": VALID[:7]}, ValueError, r"valid.*\(8,\).*\(7,\)")],
        **PRECISE,
    )


ROWS = [
    Row(
        fcdd.pseudo_huber,
        {"outputs": OUTPUTS},
        rows=("outputs",),
        differentiable=("outputs",),
        bad=BAD,
        errors=ERRORS[:1],
        **PRECISE,
    ),
    Row(
        fcdd.image_terms,
        {"outputs": OUTPUTS, "labels": LABELS, "where": WHERE},
        rows=("outputs", "labels", "where"),
        differentiable=("outputs",),
        bad=[*BAD, EMPTY],
        errors=ERRORS,
        **PRECISE,
    ),
    coupled(fcdd.fcdd),
    coupled(fcdd.batch_mean_released),
    Row(
        fcdd.pixel_terms_released,
        {
            "score_map": np.abs(OUTPUTS),
            "masks": (RNG.random((8, 2, 3)) < 0.4) & (LABELS[:, None, None] == 1),
            "where": WHERE,
        },
        rows=("score_map", "masks", "where"),
        differentiable=("score_map",),
        bad=[EMPTY, {"score_map": np.zeros((8, 2, 3))}, {"masks": np.ones((8, 2, 3), bool)}],
        errors=[
            ({"masks": WHERE[..., :2]}, ValueError, r"masks.*\(8, 2, 3\).*\(8, 2, 2\)"),
            ({"score_map": OUTPUTS[0]}, ValueError, r"score_map.*B, h, w.*\(2, 3\)"),
        ],
        **PRECISE,
    ),
    Row(
        fcdd.receptive_upsample,
        {"score_map": OUTPUTS},
        rows=("score_map",),
        options=dict(size=(5, 7), stride=2, field=4, start=1.5, std=1.2),
        differentiable=("score_map",),
        bad=[{"score_map": np.zeros((8, 2, 3))}],
        errors=[
            ({"score_map": np.ones((8, 2, 3), int)}, TypeError, "score_map: expected a floating"),
            ({"stride": 0}, ValueError, "stride: .* at least 1, got 0"),
            ({"std": 0.0}, ValueError, "std: expected a number above 0, got 0.0"),
        ],
        **PRECISE,
    ),
]
