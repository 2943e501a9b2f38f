"""Rows of `jaxad.losses.pebal`."""

import numpy as np

from jaxad.losses import pebal
from tables.row import Row

RNG = np.random.default_rng(12)
LOGITS = 3.0 * RNG.normal(size=(8, 4, 5, 4)) + 5.0
SETS = RNG.choice(3, size=(8, 4, 5), p=(0.7, 0.1, 0.2))  # 0 inlier, 1 outlier, 2 void.
SETS[[1, 2, 5]] = np.where(SETS[[1, 2, 5]] == 1, 0, SETS[[1, 2, 5]])  # Images without outliers.
VALID = np.array([1, 1, 1, 0, 1, 1, 1, 1], bool)
LABELS = np.where(SETS == 0, RNG.integers(0, 3, size=(8, 4, 5)), 255)
ARGUMENTS = {
    "logits": LOGITS,
    "labels": LABELS,
    "inlier": SETS == 0,
    "outlier": SETS == 1,
    "valid": VALID,
}
NONE, ALL = np.zeros((8, 4, 5), bool), np.ones((8, 4, 5), bool)
BAD = [
    {"logits": 1e4 * np.sign(LOGITS - 5.0)},
    {"logits": np.full(LOGITS.shape, -np.log(3.0))},  # The energy is 0 everywhere.
    {"outlier": NONE},
    {"inlier": NONE, "outlier": NONE},
    {"inlier": NONE, "outlier": ALL},
    {"valid": np.zeros(8, bool)},
    {"logits": np.where(VALID[:, None, None, None], LOGITS, np.nan)},
]
ERRORS = [
    ({"logits": np.ones((8, 4, 5, 4), int)}, TypeError, "logits: expected a floating-point"),
    (
        {"logits": LOGITS[0]},
        ValueError,
        r"logits: expected axes \[B, H, W, Y\+1\], got \(4, 5, 4\)",
    ),
    ({"labels": LABELS[:, :3]}, ValueError, r"labels.*\(8, 4, 5\).*\(8, 3, 5\)"),
    ({"inlier": ALL[:, :3]}, ValueError, r"inlier.*\(8, 4, 5\).*\(8, 3, 5\)"),
    ({"outlier": ALL[:, :3]}, ValueError, r"outlier.*\(8, 4, 5\).*\(8, 3, 5\)"),
    ({"valid": VALID[:7]}, ValueError, r"valid.*\(8,\).*\(7,\)"),
    ({"penalty": np.ones((4, 5))}, ValueError, r"penalty.*\(8, 4, 5\).*\(4, 5\)"),
]


def objective(function, **arguments):
    return Row(
        function,
        {**ARGUMENTS, **arguments},
        rows=(*ARGUMENTS, *arguments),
        differentiable=("logits", *arguments),
        coupled=True,
        outputs="same",
        bfloat16=5e-6,
        float32=5e-6,
        bad=BAD,
        errors=ERRORS,
        name="given_penalty" if arguments else "",
    )


ROWS = [
    objective(pebal.pebal),
    objective(pebal.pebal_sum),
    objective(pebal.pebal_released),
    objective(pebal.pebal, penalty=RNG.uniform(0.5, 90.0, size=(8, 4, 5))),
]
