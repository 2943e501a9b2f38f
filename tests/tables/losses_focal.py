"""Rows of `jaxad.losses.focal`."""

import numpy as np

from jaxad.losses import focal
from tables.row import Row

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=8) * 3
LABELS = np.array([0, 1, 1, 0, 1, 0, 0, 1], np.int32)
CLASSES = np.array([0, 2, 1, 1, 2, 0, 0, 2], np.int32)
BAD = [
    {"logits": np.zeros(8)},
    {"logits": np.full(8, 1e4)},
    {"logits": np.full(8, -1e4)},
    {"labels": np.zeros(8, np.int32)},
]
SHORT = ({"labels": LABELS[:7]}, ValueError, r"labels.*\(8,\).*\(7,\)")
INTEGERS = ({"logits": np.ones(8, int)}, TypeError, "logits: expected a floating-point")
NEGATIVE = ({"gamma": -1.0}, ValueError, "gamma: expected a number of at least 0, got -1.0")


def binary(function, *errors, **options):
    return Row(
        function,
        {"logits": LOGITS, "labels": LABELS},
        rows=("logits", "labels"),
        options=options,
        differentiable=("logits",),
        bad=BAD,
        errors=[SHORT, INTEGERS, *errors],
        bfloat16=1e-6,
        float32=1e-6,
        name="-".join(f"{k}_{v}" for k, v in options.items()),
    )


def saturated(winner):
    return {"logits": np.where(np.arange(3) == winner, 1e4, -1e4) * np.ones((8, 1))}


ROWS = [
    binary(focal.weighted_cross_entropy, positive_weight=3.0),
    binary(focal.focal_loss, NEGATIVE, gamma=2.0, alpha=0.25),
    binary(focal.focal_loss, NEGATIVE, gamma=0.5),
    binary(focal.focal_loss, NEGATIVE, gamma=0.0),
    Row(
        focal.softmax_focal_loss,
        {
            "logits": RNG.normal(size=(8, 3)) * 3,
            "labels": CLASSES,
            "weights": np.array([0.5, 1.0, 2.0]),
        },
        rows=("logits", "labels"),
        differentiable=("logits",),
        bad=[{"logits": np.zeros((8, 3))}, saturated(0), saturated(2)],
        errors=[
            ({"labels": CLASSES[:7]}, ValueError, r"labels.*\(8,\).*\(7,\)"),
            ({"logits": np.ones((8, 1))}, ValueError, "logits: expected at least 2 classes"),
            ({"weights": np.ones(2)}, ValueError, r"weights.*\(3,\).*\(2,\)"),
            NEGATIVE,
        ],
        bfloat16=1e-6,
        float32=1e-6,
    ),
]
