"""Rows of `jaxad.losses.inclusion_exposure`."""

import numpy as np

from jaxad.losses import inclusion_exposure
from tables.row import Row

RNG = np.random.default_rng(0)
DISTANCES = RNG.uniform(1.0, 9.0, (8, 2, 3))  # Around N = 4.
WHERE = RNG.random((8, 2, 3)) < 0.8
LABELS = np.array([0, 1, 0, 0, 1, 0, 1, 0])
VALID = np.array([1, 1, 1, 0, 1, 1, 1, 1], bool)
EMPTY = np.zeros((8, 2, 3), bool)
BAD = [
    {"where": EMPTY},
    {"distances": np.zeros((8, 2, 3))},
    {"distances": np.full((8, 2, 3), 1e6)},
    {"distances": np.where(WHERE, DISTANCES, 1e6)},
]
WRONG_WHERE = ({"where": WHERE[..., :2]}, ValueError, r"where.*\(8, 2, 3\).*\(8, 2, 2\)")


def row(function, name="distances", *, arguments=(), options=(), bad=(), errors=(), **more):
    return Row(
        function,
        {name: DISTANCES, **dict(arguments), "where": WHERE},
        rows=(name, *dict(arguments), "where"),
        options=dict(options),
        differentiable=(name,),
        bad=[*({name if k == "distances" else k: v for k, v in b.items()} for b in BAD), *bad],
        errors=[
            WRONG_WHERE,
            ({name: np.ones((8, 2, 3), int)}, TypeError, f"{name}: expected a floating-point"),
            *errors,
        ],
        float32=1e-6,
        bfloat16=1e-6,
        **more,
    )


def terms(function):
    one_axis = ({"distances": np.ones(8), "where": None}, ValueError, r"distances.*h, w.*\(8,\)")
    no_dimension = ({"dimension": 0}, ValueError, "dimension: .* at least 1, got 0")
    return row(function, options={"dimension": 4}, errors=[one_axis, no_dimension])


def coupled(function):
    return row(
        function,
        arguments={"labels": LABELS, "valid": VALID},
        options={"dimension": 4},
        bad=[
            {"valid": np.zeros(8, bool)},
            {"labels": np.zeros(8, int)},
            {"labels": np.ones(8, int)},
        ],
        errors=[
            ({"labels": LABELS[:7]}, ValueError, r"labels.*\(8,\).*\(7,\)"),
            ({"valid": VALID[:7]}, ValueError, r"valid.*\(8,\).*\(7,\)"),
            ({"distances": DISTANCES[0]}, ValueError, r"distances.*B, h, w.*\(2, 3\)"),
        ],
        coupled=True,
        outputs="same",
    )


ROWS = [
    row(inclusion_exposure.log_mean_exp, "logs"),
    terms(inclusion_exposure.inlier_terms),
    terms(inclusion_exposure.inlier_terms_mean_log),
    terms(inclusion_exposure.outlier_terms),
    coupled(inclusion_exposure.outlier_exposure),
    coupled(inclusion_exposure.outlier_exposure_mean_log),
]
