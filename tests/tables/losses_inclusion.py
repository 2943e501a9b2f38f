"""Rows of `jaxad.losses.inclusion`."""

import numpy as np

from jaxad.losses import inclusion
from tables.row import Row

RNG = np.random.default_rng(0)
DISTANCES = RNG.uniform(1.0, 9.0, (8, 3))  # Around N = 4.
FAR = np.linspace(0.0, 1e6, 24).reshape(8, 3)
BAD = [{"distances": np.zeros((8, 3))}, {"distances": FAR}, {"distances": np.full((8, 3), 4.0)}]
ERRORS = [
    ({"distances": np.ones((8, 3), int)}, TypeError, "distances: expected a floating-point"),
    ({"dimension": 0}, ValueError, "dimension: expected an integer of at least 1, got 0"),
    ({"dimension": 2.0}, TypeError, "dimension: expected a Python integer, got float"),
]


def row(function):
    return Row(
        function,
        {"distances": DISTANCES},
        rows=("distances",),
        options={"dimension": 4},
        differentiable=("distances",),
        bad=BAD,
        errors=ERRORS,
        float32=1e-6,
        bfloat16=1e-6,
    )


ROWS = [
    row(inclusion.log_inclusion),
    row(inclusion.log_exclusion),
    row(inclusion.inclusion_probability),
    row(inclusion.wilson_hilferty_log_inclusion),
    row(inclusion.wilson_hilferty_log_exclusion),
    Row(
        inclusion.inclusion_rate,
        {
            "distances": np.where(RNG.random((8, 3, 2)) < 0.5, 2.0, 9.0),
            "labels": RNG.integers(0, 2, (8, 3)),
            "where": RNG.random((8, 3)) < 0.7,
        },
        rows=("distances", "labels", "where"),
        options={"dimension": 4},
        coupled=True,
        outputs="same",
        errors=[
            *ERRORS[1:],
            ({"labels": np.zeros((8, 2), int)}, ValueError, r"labels.*\(8, 3\).*\(8, 2\)"),
            ({"where": np.ones((8, 2), bool)}, ValueError, r"where.*\(8, 3\).*\(8, 2\)"),
        ],
        float32=1e-6,
        bfloat16=1e-6,
    ),
]
