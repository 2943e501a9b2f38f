"""Rows of `jaxad.losses.weibull`."""

import numpy as np

from jaxad.losses import weibull
from tables.row import Row

VALUES = np.random.default_rng(0).uniform(0.5, 6.0, (8, 3))
PARAMETERS = {"shape": np.array(1.7), "scale": np.array(3.2)}


def row(function):
    return Row(
        function,
        {"values": VALUES, **PARAMETERS},
        rows=("values",),
        differentiable=("values", "shape", "scale"),
        bad=[
            {"values": np.zeros((8, 3))},
            {"values": 1e30 * VALUES},
            {"values": 1e-30 * VALUES},
            {"values": 1e4 * VALUES, "shape": np.array(40.0)},
        ],
        errors=[
            ({"values": np.ones((8, 3), int)}, TypeError, "values: expected a floating-point"),
            ({"shape": np.ones(2)}, ValueError, r"shape.*\(8, 3\).*\(2,\)"),
            ({"scale": np.ones(2)}, ValueError, r"scale.*\(8, 3\).*\(2,\)"),
        ],
        float32=2e-6,
        bfloat16=2e-6,
    )


ROWS = [row(weibull.cdf), row(weibull.log_survival)]
HOST = {weibull.fit: "runs scipy on the host, once, over all scores of the validation data"}
