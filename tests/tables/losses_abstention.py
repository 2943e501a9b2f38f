"""Rows of `jaxad.losses.abstention`."""

import numpy as np

from jaxad.losses import abstention
from tables.row import Row

RNG = np.random.default_rng(11)
LOGITS = 2.0 * RNG.normal(size=(8, 6, 4))  # Three classes and the abstention channel.
SETS = RNG.integers(0, 3, size=(8, 6))  # 0 inlier, 1 outlier, 2 void.
INLIER, OUTLIER = SETS == 0, SETS == 1
LABELS = np.where(INLIER, RNG.integers(0, 3, size=(8, 6)), 255)
PENALTY = RNG.uniform(0.5, 90.0, size=(8, 6))
NONE = np.zeros((8, 6), bool)
FAR = [
    {"logits": 1e4 * np.sign(LOGITS)},
    {"logits": np.full(LOGITS.shape, -1e4)},
    {"logits": np.concatenate([LOGITS[..., :3], np.full((8, 6, 1), 1e4)], axis=-1)},
]
SPOILT = {"logits": np.where(INLIER[..., None], LOGITS, np.nan)}
NO_PENALTY = {"penalty": np.zeros((8, 6))}
WRONG_LOGITS = ({"logits": np.ones((8, 6, 4), int)}, TypeError, "logits: expected a floating-point")
WRONG_LABELS = ({"labels": LABELS[:, :5]}, ValueError, r"labels.*\(8, 6\).*\(8, 5\)")
WRONG_WHERE = ({"where": np.ones((7, 6), bool)}, ValueError, r"where.*\(8, 6\).*\(7, 6\)")
WRONG_PENALTY = ({"penalty": np.ones((8, 5))}, ValueError, r"penalty.*\(8, 6\).*\(8, 5\)")


def of_logits(function, arguments, errors=(), bad=(), differentiable=("logits",)):
    return Row(
        function,
        {"logits": LOGITS, **arguments},
        rows=("logits", *arguments),
        differentiable=differentiable,
        bfloat16=2e-6,
        float32=2e-6,
        bad=[*FAR, *bad],
        errors=[WRONG_LOGITS, *errors],
    )


ROWS = [
    Row(
        abstention.energy_penalty,
        {"energy": LOGITS},
        rows=("energy",),
        differentiable=("energy",),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{"energy": np.zeros((8, 6, 4))}, {"energy": np.full((8, 6, 4), -1e4)}],
        errors=[
            ({"energy": np.ones((8, 6), int)}, TypeError, "energy: expected a floating-point"),
            ({"floor": 0.0}, ValueError, "floor: expected a number above 0, got 0.0"),
        ],
    ),
    of_logits(abstention.abstention_probability, {}),
    of_logits(
        abstention.abstention_loss,
        {"labels": LABELS, "penalty": PENALTY, "where": INLIER},
        errors=[WRONG_LABELS, WRONG_WHERE, WRONG_PENALTY],
        bad=[SPOILT, NO_PENALTY, {"where": NONE}, {"penalty": np.full((8, 6), 1e8)}],
        differentiable=("logits", "penalty"),
    ),
    of_logits(
        abstention.deep_gambler,
        {"labels": LABELS, "where": INLIER},
        errors=[
            WRONG_LABELS,
            WRONG_WHERE,
            ({"penalty": 0.0}, ValueError, "penalty: expected a number above 0, got 0.0"),
        ],
        bad=[SPOILT, {"where": NONE}],
    ),
    of_logits(
        abstention.class_suppression_released,
        {"penalty": PENALTY, "where": OUTLIER},
        errors=[WRONG_WHERE, WRONG_PENALTY],
        bad=[
            {"logits": np.where(OUTLIER[..., None], LOGITS, np.nan)},
            NO_PENALTY,
            {"where": NONE},
            {"penalty": np.full((8, 6), 1e8)},
        ],
        differentiable=("logits", "penalty"),
    ),
    of_logits(
        abstention.outlier_class_cross_entropy,
        {"labels": LABELS, "inlier": INLIER, "outlier": OUTLIER},
        errors=[
            WRONG_LABELS,
            ({"inlier": np.ones((7, 6), bool)}, ValueError, r"inlier.*\(8, 6\).*\(7, 6\)"),
            ({"outlier": np.ones((7, 6), bool)}, ValueError, r"outlier.*\(8, 6\).*\(7, 6\)"),
        ],
        bad=[
            {"inlier": NONE, "outlier": NONE},
            {"logits": np.where((SETS < 2)[..., None], LOGITS, np.nan)},
        ],
    ),
    of_logits(
        abstention.pixel_loss_released,
        {"labels": LABELS, "penalty": PENALTY, "inlier": INLIER, "outlier": OUTLIER},
        errors=[
            WRONG_LABELS,
            ({"inlier": np.ones((7, 6), bool)}, ValueError, r"inlier.*\(8, 6\).*\(7, 6\)"),
            ({"outlier": np.ones((7, 6), bool)}, ValueError, r"outlier.*\(8, 6\).*\(7, 6\)"),
        ],
        bad=[
            {"inlier": NONE, "outlier": NONE},
            {"logits": np.where((SETS < 2)[..., None], LOGITS, np.nan)},
        ],
    ),
]
