"""Rows of `jaxad.losses.masked`."""

import numpy as np

from jaxad.losses import masked
from tables.row import Row

VALUES = np.random.default_rng(0).normal(size=(8, 5))
WHERE = np.random.default_rng(1).random((8, 5)) < 0.6
FINITE = [{"where": np.zeros((8, 5), bool)}, {"values": np.zeros((8, 5))}]
ERRORS = [
    ({"where": np.ones((8, 4), bool)}, ValueError, r"where.*\(8, 5\).*\(8, 4\)"),
    ({"values": np.ones((8, 5), int)}, TypeError, "values: expected a floating-point"),
]


def reduction(function, **options):
    return Row(
        function,
        {"values": VALUES, "where": WHERE},
        rows=("values", "where"),
        differentiable=("values",),
        bad=FINITE,
        errors=ERRORS,
        **options,
    )


ROWS = [
    reduction(masked.total, coupled=True, outputs="same"),
    reduction(masked.mean, coupled=True, outputs="same"),
    reduction(masked.norm, coupled=True, outputs="same"),
    Row(
        masked.count,
        {"where": WHERE, "like": VALUES},
        rows=("where", "like"),
        coupled=True,
        outputs="same",
        errors=[ERRORS[0]],
    ),
    Row(
        masked.unit,
        {"values": VALUES},
        rows=("values",),
        differentiable=("values",),
        bad=[
            {"values": np.zeros((8, 5))},
            {"values": np.full((8, 5), 1e30)},
            {"values": np.full((8, 5), 1e-30)},
        ],
        errors=[ERRORS[1]],
    ),
    Row(
        masked.widen,
        {"values": VALUES},
        rows=("values",),
        differentiable=("values",),
        bad=[{"values": np.zeros((8, 5))}],
        errors=None,  # Any array of real numbers has a wider form.
    ),
    Row(
        masked.absolute,
        {"values": VALUES},
        rows=("values",),
        differentiable=("values",),
        float32=1e-7,
        bad=[{"values": np.zeros((8, 5))}],
        errors=[ERRORS[1]],
    ),
    Row(
        masked.as_mask,
        {"where": WHERE},
        options={"shape": (8, 5)},
        outputs="same",
        errors=[({"where": np.ones((8, 4), bool)}, ValueError, r"where.*\(8, 5\).*\(8, 4\)")],
    ),
    Row(
        masked.valid_rows,
        {"valid": WHERE[:, 0]},
        options={"rows": 8},
        outputs="same",
        errors=[({"valid": np.ones(7, bool)}, ValueError, r"valid.*\(8,\).*\(7,\)")],
    ),
    Row(
        masked.zero_outside,
        {"values": VALUES, "where": WHERE},
        rows=("values", "where"),
        differentiable=("values",),
        bad=[
            {"where": np.zeros((8, 5), bool)},
            {"values": np.full((8, 5), np.nan), "where": np.zeros((8, 5), bool)},
        ],
        errors=ERRORS,
    ),
]
