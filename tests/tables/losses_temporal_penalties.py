"""Rows of `jaxad.losses.temporal_penalties`."""

import numpy as np

from jaxad.losses import temporal_penalties
from tables.row import Row

RNG = np.random.default_rng(0)
SCORES = RNG.uniform(0.1, 0.9, (8, 6))
WHERE = RNG.random((8, 6)) < 0.8
LABELS = np.array([0, 1, 1, 0, 1, 0, 1, 0])
VALID = np.array([True] * 7 + [False])
BAD = [
    {"scores": np.zeros((8, 6))},
    {"where": np.zeros((8, 6), bool)},
    {"scores": np.full((8, 6), np.nan), "where": np.zeros((8, 6), bool)},
]
ERRORS = [
    ({"where": np.ones((8, 5), bool)}, ValueError, r"where: .*\(8, 6\).*\(8, 5\)"),
    ({"scores": np.ones((8, 6), int)}, TypeError, "scores: expected a floating-point"),
]


def per_video(function):
    return Row(
        function,
        {"scores": SCORES, "where": WHERE},
        rows=("scores", "where"),
        differentiable=("scores",),
        bad=BAD,
        errors=ERRORS,
    )


def joint(function):
    return Row(
        function,
        {"scores": SCORES, "labels": LABELS, "valid": VALID, "where": WHERE},
        rows=("scores", "labels", "valid", "where"),
        differentiable=("scores",),
        coupled=True,
        outputs="same",
        bad=[*BAD, {"labels": np.zeros(8, int)}],
        errors=[
            *ERRORS,
            ({"labels": np.ones(7, int)}, ValueError, r"labels: .*\(8,\).*\(7,\)"),
            ({"valid": np.ones(7, bool)}, ValueError, r"valid: .*\(8,\).*\(7,\)"),
        ],
    )


ROWS = [
    per_video(temporal_penalties.smoothness),
    per_video(temporal_penalties.sparsity),
    per_video(temporal_penalties.mean_smoothness),
    per_video(temporal_penalties.mean_sparsity),
    joint(temporal_penalties.smoothness_released),
    joint(temporal_penalties.sparsity_released),
]
