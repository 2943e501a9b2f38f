"""Rows of `jaxad.losses.deviation`."""

import numpy as np

from jaxad.losses import deviation
from tables.row import Row

RNG = np.random.default_rng(0)
SCORES = RNG.normal(2.0, 3.0, 8)
LABELS = np.array([0, 1, 1, 0, 1, 0, 0, 1], np.int32)
INTEGERS = ({"scores": np.ones(8, int)}, TypeError, "scores: expected a floating-point")
NO_SPREAD = ({"std": 0.0}, ValueError, "std: expected a number above 0, got 0.0")

ROWS = [
    Row(
        deviation.standard_score,
        {"scores": SCORES, "mean": np.array(0.25), "std": np.array(1.5)},
        rows=("scores",),
        differentiable=("scores",),
        bad=[{"scores": np.full(8, 1e4)}],
        errors=[INTEGERS, ({"mean": np.ones(2)}, ValueError, r"mean.*\(\).*\(2,\)")],
        bfloat16=1e-6,
        float32=1e-6,
    ),
    Row(
        deviation.deviation_loss,
        {"scores": SCORES, "labels": LABELS},
        rows=("scores", "labels"),
        options={"margin": 5.0},
        differentiable=("scores",),
        bad=[
            {"scores": np.where(LABELS, 5.0, 0.0)},  # Both kinks.
            {"scores": np.full(8, 1e4)},
            {"scores": np.full(8, -1e4)},
            {"labels": np.zeros(8, np.int32)},
            {"labels": np.ones(8, np.int32)},
        ],
        errors=[
            INTEGERS,
            NO_SPREAD,
            ({"labels": LABELS[:7]}, ValueError, r"labels.*\(8,\).*\(7,\)"),
        ],
        bfloat16=1e-6,
        float32=1e-6,
    ),
    Row(
        deviation.draw_reference,
        {"key": np.int64(3)},
        options={"draws": 50},
        errors=[
            ({"draws": 1}, ValueError, "draws: expected more than ddof = 1, got 1"),
            ({"draws": 2.0}, TypeError, "draws: expected a Python integer"),
        ],
        bfloat16=1e-5,
        float32=1e-5,
    ),
]
