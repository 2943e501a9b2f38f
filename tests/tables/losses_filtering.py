"""Rows of `jaxad.losses.filtering`."""

import numpy as np

from jaxad.losses import filtering
from tables.row import Row

VALUES = np.random.default_rng(0).normal(size=(8, 5, 7))
KERNEL = (0.2, 0.5, 0.4)
ERRORS = [
    ({"values": np.ones((8, 5, 7), int)}, TypeError, "values: expected a floating-point"),
    ({"axes": (1, -2)}, ValueError, r"axes: expected two different axes of 3, got \(1, -2\)"),
    ({"axes": (0, 3)}, ValueError, "axes: expected two different axes"),
    ({"padding": "same"}, ValueError, "padding: expected one of valid, .*got 'same'"),
    ({"dilation": 0}, ValueError, "dilation: expected an integer of at least 1, got 0"),
    ({"kernel": np.ones((3, 3))}, ValueError, r"kernel: expected axes \[k\], got \(3, 3\)"),
    (
        {"kernel": np.ones(6), "padding": "valid", "dilation": 1},
        ValueError,
        "values: expected sides of at least 6 for 6 taps .*got 5",
    ),
    (
        {"kernel": np.ones(11), "padding": "reflect", "dilation": 1},
        ValueError,
        "values: expected sides of at least 6 .*got 5",
    ),
    (
        {"kernel": np.ones(2), "padding": "edge"},
        ValueError,
        "kernel: expected an odd number of taps, got 2",
    ),
]


def row(padding, dilation):
    return Row(
        filtering.separable_filter,
        {"values": VALUES},
        rows=("values",),
        options={"kernel": KERNEL, "padding": padding, "dilation": dilation},
        differentiable=("values",),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{"values": np.zeros((8, 5, 7))}, {"values": np.full((8, 5, 7), 1e30)}],
        errors=ERRORS,
        name=padding,
    )


ROWS = [row("valid", 2), row("reflect", 1), row("edge", 2), row("zero", 1)]
HOST = {filtering.gaussian_kernel: "makes a NumPy array of static numbers"}
