"""Rows of `jaxad.losses.interpolation`."""

import numpy as np

from jaxad.losses import interpolation
from tables.row import Row

RNG = np.random.default_rng(0)
CODES = RNG.normal(size=(8, 3))
OTHERS = RNG.normal(size=(8, 3))
SHARES = RNG.uniform(0.0, 0.5, 8)
CRITIC = RNG.normal(size=8)
VALID = np.array([1, 1, 0, 1, 0, 1, 1, 0], bool)
EXACT = {"bfloat16": 1e-6, "float32": 1e-6}
SATURATED = np.where(np.arange(8) % 2, 1e4, -1e4)
SHORT = ({"shares": SHARES[:7]}, ValueError, r"shares.*\(8,\).*\(7,\)")
INTEGERS = ({"predictions": np.ones(8, int)}, TypeError, "predictions: expected a floating-point")


def partners(function):
    return Row(
        function,
        {"rows": CODES, "valid": VALID},
        rows=("rows", "valid"),
        differentiable=("rows",),
        coupled=True,
        bad=[{"valid": np.zeros(8, bool)}, {"valid": np.arange(8) == 3}],
        errors=[({"valid": np.ones(7, bool)}, ValueError, r"valid.*\(8,\).*\(7,\)")],
        **EXACT,
    )


ROWS = [
    Row(
        interpolation.draw_shares,
        {"keys": np.arange(8)},
        rows=("keys",),
        options={"high": 1.0},
        errors=[
            ({"low": 0.5, "high": 0.5}, ValueError, "high: expected a number above low = 0.5"),
            ({"keys": np.int64(3)}, ValueError, r"keys: expected axes \[B\]"),
        ],
        bfloat16=0.0,
        float32=0.0,
    ),
    *(
        Row(
            interpolation.interpolate,
            {"first": CODES, "second": OTHERS, "shares": shares},
            rows=("first", "second", "shares")[: 2 + np.ndim(shares)],
            differentiable=("first", "second", "shares"),
            bad=[{"shares": np.zeros_like(shares)}, {"first": OTHERS}],
            errors=[
                ({"second": OTHERS[:7]}, ValueError, r"second.*\(8, 3\).*\(7, 3\)"),
                SHORT,
            ],
            name=name,
            **EXACT,
        )
        for name, shares in {"each": SHARES, "all": np.array(0.2)}.items()
    ),
    partners(interpolation.rolled_partners),
    partners(interpolation.reversed_partners),
    Row(
        interpolation.share_error,
        {"predictions": CRITIC, "shares": SHARES},
        rows=("predictions", "shares"),
        differentiable=("predictions",),
        bad=[{"predictions": SHARES}, {"predictions": SATURATED}],
        errors=[SHORT, INTEGERS],
        **EXACT,
    ),
    Row(
        interpolation.share_error_released,
        {
            "predictions": np.where(VALID, CRITIC, np.nan),
            "shares": np.where(VALID, SHARES, np.inf),
            "where": VALID,
        },
        rows=("predictions", "shares", "where"),
        differentiable=(),
        coupled=True,
        outputs="same",
        errors=[SHORT, INTEGERS, ({"where": np.ones(7)}, ValueError, r"where.*\(8,\).*\(7,\)")],
        name="masked",
        **EXACT,
    ),
    Row(
        interpolation.share_error_released,
        {"predictions": CRITIC, "shares": SHARES, "where": VALID},
        rows=("predictions", "shares", "where"),
        differentiable=("predictions",),
        coupled=True,
        outputs="same",
        bad=[
            {"where": np.zeros(8, bool)},
            {"predictions": np.where(VALID, CRITIC, np.nan)},
            {"predictions": SATURATED},
        ],
        errors=[SHORT],
        **EXACT,
    ),
    Row(
        interpolation.critic_loss,
        {"interpolated": CRITIC, "mixed": CRITIC[::-1].copy(), "shares": SHARES},
        rows=("interpolated", "mixed", "shares"),
        differentiable=("interpolated", "mixed"),
        bad=[{"interpolated": SHARES, "mixed": np.zeros(8)}, {"mixed": SATURATED}],
        errors=[SHORT, ({"mixed": CRITIC[:7]}, ValueError, r"mixed.*\(8,\).*\(7,\)")],
        **EXACT,
    ),
    Row(
        interpolation.fooling_loss,
        {"predictions": CRITIC},
        rows=("predictions",),
        differentiable=("predictions",),
        bad=[{"predictions": np.zeros(8)}, {"predictions": SATURATED}],
        errors=[INTEGERS, ({"predictions": np.ones((8, 1))}, ValueError, r"\[B\], got \(8, 1\)")],
        **EXACT,
    ),
]
