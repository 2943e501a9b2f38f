"""Rows of `jaxad.losses.exponential`."""

import numpy as np

from jaxad.losses import exponential
from tables.row import Row

ROWS = [
    Row(
        exponential.capped_exp,
        {"values": np.random.default_rng(0).normal(size=8)},
        rows=("values",),
        differentiable=("values",),
        float32=1e-6,
        bfloat16=1e-6,
        bad=[{"values": np.array([1e4, -1e4, 64.0, 65.0, 88.0, 89.0, 0.0, 1e10])}],
        errors=[({"values": np.ones(8, int)}, TypeError, "values: expected a floating-point")],
    )
]
