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


SAMPLES = np.random.default_rng(1).gamma(4.0, 60.0, (8, 3))
WHERE = np.random.default_rng(2).random((8, 3)) < 0.7
SCORES = weibull.LogHistogram(
    np.random.default_rng(3).integers(0, 3, 16384).astype(float), np.zeros(16384)
)

ROWS = [
    row(weibull.cdf),
    row(weibull.log_survival),
    Row(
        weibull.histogram,
        {"samples": np.where(WHERE, SAMPLES, np.nan), "where": WHERE},
        rows=("samples", "where"),
        coupled=True,
        outputs="same",
        errors=[
            ({"samples": np.ones((8, 3), int)}, TypeError, "samples: expected a floating-point"),
            ({"where": np.ones(2, bool)}, ValueError, r"where.*\(8, 3\).*\(2,\)"),
        ],
        float32=1e-3,  # Places in a bin are small differences of logarithms.
    ),
    Row(
        weibull.fit_histogram,
        {"scores": SCORES},
        options={"tail_fraction": 0.5},
        outputs="same",
        errors=[
            (
                {"scores": weibull.LogHistogram(np.zeros(5), np.zeros(16384))},
                ValueError,
                r"scores.counts.*\(16384,\).*\(5,\)",
            ),
            ({"tail_fraction": 0.0}, ValueError, "tail_fraction: expected"),
        ],
    ),
]
HOST = {weibull.fit: "runs scipy on the host, once, over all scores of the validation data"}
