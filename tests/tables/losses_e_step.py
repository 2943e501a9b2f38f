"""Rows of `jaxad.losses.e_step`."""

import numpy as np

from jaxad.losses import e_step
from jaxad.losses.e_step import BatchVariance
from jaxad.losses.moments import Moments
from tables.row import Row

RNG = np.random.default_rng(0)
WHERE = RNG.random(8) < 0.6
Z = np.where(WHERE[:, None], RNG.normal(size=(8, 3)), np.nan)

ROWS = [
    Row(
        e_step.finish,
        {"moments": Moments(np.int32(5), RNG.normal(size=3), np.ones(3) / 8, np.array(7.5))},
        errors=[
            (
                {"moments": Moments(np.int32(5), np.ones(3), np.ones(3), np.ones(3))},
                ValueError,
                r"moments.scatter.*\(\).*\(3,\)",
            )
        ],
        bfloat16=1e-6,
        float32=1e-6,
    ),
    Row(
        e_step.away_from_zero,
        {"center": np.array([0.0, 0.05, -0.05, 0.7, -0.7])},
        errors=[({"center": np.ones(3, int)}, TypeError, "center: expected a floating-point")],
        bfloat16=1e-6,
        float32=1e-6,
    ),
    Row(
        e_step.add_released,
        {
            "state": BatchVariance(np.int32(2), np.array(2.5)),
            "embeddings": Z,
            "center": np.ones(3),
            "where": WHERE,
        },
        rows=("embeddings", "where"),
        coupled=True,
        outputs="same",
        errors=[
            ({"embeddings": np.ones((2, 4, 3))}, ValueError, r"embeddings: expected axes \[B, D\]"),
            ({"center": np.ones(4)}, ValueError, r"center.*\(3,\).*\(4,\)"),
            ({"where": np.ones(7, bool)}, ValueError, r"where.*\(8,\).*\(7,\)"),
        ],
        bfloat16=1e-6,
        float32=1e-6,
    ),
    Row(
        e_step.finish_released,
        {"state": BatchVariance(np.int32(2), np.array(2.5))},
        errors=[
            (
                {"state": BatchVariance(np.int32(2), np.ones(2))},
                ValueError,
                r"state.total: expected axes \[\]",
            )
        ],
        bfloat16=1e-6,
        float32=1e-6,
    ),
]
HOST = {e_step.zero_released: "takes no arrays"}
