"""Rows of `jaxad.losses.energy`."""

import numpy as np

from jaxad.losses import energy
from tables.row import Row

RNG = np.random.default_rng(10)
LOGITS = 3.0 * RNG.normal(size=(8, 2, 5))
MAPS = RNG.normal(size=(8, 4, 5)) * 4.0 - 9.0
SETS = RNG.integers(0, 3, size=(8, 4, 5))  # 0 inlier, 1 outlier, 2 void.
INLIER, OUTLIER = SETS == 0, SETS == 1
NONE = np.zeros((8, 4, 5), bool)
SPOILT = np.where(SETS == 0, MAPS, np.nan)
FLAT = {"energy": np.zeros((8, 4, 5))}
FAR = {"energy": np.where(SETS == 1, 1e4, -1e4)}
WRONG = [
    ({"where": np.ones((8, 5, 4), bool)}, ValueError, r"where.*\(8, 4, 5\).*\(8, 5, 4\)"),
    ({"energy": np.ones((8, 4, 5), int)}, TypeError, "energy: expected a floating-point"),
]
WRONG_MAP = ({"energy": np.ones(8), "where": np.ones(8, bool)}, ValueError, r"energy.*\(8,\)")


def masked_map(function, *, errors=(), **options):
    return Row(
        function,
        {"energy": MAPS, "where": INLIER},
        rows=("energy", "where"),
        differentiable=("energy",),
        bfloat16=2e-6,
        float32=2e-6,
        bad=[FLAT, FAR, {"where": NONE}, {"energy": SPOILT}],
        errors=[*WRONG, *errors],
        **options,
    )


def of_logits(name="", **options):
    return Row(
        energy.free_energy,
        {"logits": LOGITS},
        rows=("logits",),
        options=options,
        differentiable=("logits",),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[
            {"logits": 1e4 * np.sign(LOGITS)},
            {"logits": np.full((8, 2, 5), -1e4)},
            {"logits": np.zeros((8, 2, 5))},
        ],
        errors=[
            ({"temperature": 0.0}, ValueError, "temperature: .*above 0, got 0.0"),
            ({"logits": np.ones((8, 5), int)}, TypeError, "logits: expected a floating-point"),
        ],
        name=name,
    )


def smoothing(name="", errors=(), **options):
    return Row(
        energy.gaussian_smoothing,
        {"values": MAPS},
        rows=("values",),
        options=options,
        differentiable=("values",),
        bfloat16=2e-6,
        float32=2e-6,
        bad=[{"values": np.full((8, 4, 5), 1e8)}],
        errors=[
            ({"padding": "valid"}, ValueError, "padding: .*reflect.*'valid'"),
            ({"size": 6}, ValueError, "kernel: expected an odd number"),
            ({"sigma": 0.0}, ValueError, "sigma: .*above 0"),
            *errors,
        ],
        name=name,
    )


SHORT = ({"values": np.ones((8, 3, 5))}, ValueError, "values: expected sides of at least 4.*got 3")
ROWS = [
    of_logits(),
    of_logits("warm", temperature=2.5),
    smoothing(errors=[SHORT]),
    smoothing("dilated", dilation=6, padding="edge"),
    masked_map(energy.inlier_margin),
    masked_map(energy.outlier_margin),
    masked_map(energy.smoothness, errors=[WRONG_MAP]),
    masked_map(energy.smoothness_released, errors=[WRONG_MAP]),
    masked_map(energy.sparsity, errors=[WRONG_MAP]),
    Row(
        energy.sparsity_released,
        {"energy": MAPS, "outlier": OUTLIER},
        rows=("energy", "outlier"),
        differentiable=("energy",),
        coupled=True,
        outputs="same",
        bfloat16=2e-6,
        float32=2e-6,
        bad=[FLAT, FAR, {"outlier": NONE}, {"energy": np.where(OUTLIER, MAPS, np.nan)}],
        errors=[
            ({"energy": np.ones((8, 4, 5), int)}, TypeError, "expected a floating-point"),
            ({"outlier": np.ones((8, 5), bool)[:7]}, ValueError, r"\(8, 4, 5\).*\(7, 5\)"),
        ],
    ),
    Row(
        energy.margins_released,
        {"energy": MAPS, "inlier": INLIER, "outlier": OUTLIER},
        rows=("energy", "inlier", "outlier"),
        differentiable=("energy",),
        coupled=True,
        outputs="same",
        bfloat16=2e-6,
        float32=2e-6,
        bad=[
            FLAT,
            FAR,
            {"inlier": NONE},
            {"outlier": NONE},
            {"inlier": NONE, "outlier": NONE},
            {"energy": np.where(SETS < 2, MAPS, np.nan)},
        ],
        errors=[
            ({"energy": np.ones((8, 4, 5), int)}, TypeError, "energy: expected a floating-point"),
            ({"inlier": np.ones((7, 5), bool)}, ValueError, r"\(8, 4, 5\).*\(7, 5\)"),
        ],
    ),
]
