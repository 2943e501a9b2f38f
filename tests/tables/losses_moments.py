"""Rows of `jaxad.losses.moments`."""

import numpy as np

from jaxad.losses import moments
from jaxad.losses.moments import Moments
from tables.row import Row

RNG = np.random.default_rng(0)
WHERE = RNG.random(8) < 0.6
FEATURES = np.where(WHERE[:, None, None], RNG.normal(3.0, 1.0, (8, 2, 3)), np.nan)
PIVOT = RNG.normal(size=(2, 3))
SCATTERS = {  # As a fit could have left them: sums of squares.
    "trace": RNG.random(2) * 20,
    "diagonal": RNG.random((2, 3)) * 20,
    "full": RNG.random((2, 3, 3)) * 20,
}
SHIFT = RNG.normal(size=(2, 3)) / 8
NONE = Moments(np.int32(0), np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3, 3)))


def some(kind, count=5):
    return Moments(np.int32(count), PIVOT, SHIFT, SCATTERS[kind])


ROWS = [
    *(
        Row(
            moments.add,
            {"moments": some(kind), "features": FEATURES, "where": WHERE},
            rows=("features", "where"),
            coupled=True,
            outputs="same",
            errors=[
                ({"features": np.ones((8, 2, 4))}, ValueError, r"features.*\(2, 3\).*\(2, 4\)"),
                ({"features": np.ones((8, 2, 3), int)}, TypeError, "features: expected a float"),
                ({"where": np.ones(7, bool)}, ValueError, r"where.*\(8,\).*\(7,\)"),
            ],
            bfloat16=1e-6,
            float32=1e-6,
            name=kind,
        )
        for kind in SCATTERS
    ),
    Row(
        moments.add,
        {"moments": NONE, "features": FEATURES, "where": np.zeros(8, bool)},
        rows=("features", "where"),
        coupled=True,
        outputs="same",
        errors=[({"features": np.ones((8, 3))}, ValueError, r"features.*\(2, 3\).*\(3,\)")],
        bfloat16=0.0,
        float32=0.0,
        name="nothing_to_nothing",
    ),
    *(
        Row(
            moments.merge,
            {"first": some(kind), "second": some(kind, 2)._replace(pivot=PIVOT[::-1] + 1)},
            errors=[
                (
                    {"second": Moments(np.int32(2), np.ones((2, 4)), np.ones((2, 4)), np.ones(2))},
                    ValueError,
                    r"second.mean.*\(2, 3\).*\(2, 4\)",
                ),
                (
                    {"second": Moments(np.int32(2), PIVOT, SHIFT, np.ones(7))},
                    ValueError,
                    r"scatter: expected a shape among .*\(2, 3, 3\).*got \(7,\)",
                ),
            ],
            bfloat16=1e-6,
            float32=1e-6,
            name=kind,
        )
        for kind in SCATTERS
    ),
    Row(
        moments.merge_all,
        {
            "stack": Moments(
                np.array([3, 0, 1, 5, 2, 2, 7, 4], np.int32),
                RNG.normal(3.0, 1.0, (8, 2, 3)),
                RNG.normal(size=(8, 2, 3)) / 8,
                RNG.random((8, 2, 3, 3)),
            )
        },
        rows=("stack",),
        coupled=True,
        outputs="same",
        errors=[({"stack": some("full")}, ValueError, r"stack.count: expected axes \[S\]")],
        bfloat16=3e-6,  # Of the shift, which is small against the pivot whose rounding it takes up.
        float32=3e-6,
    ),
]
HOST = {
    moments.zero_trace: "takes no arrays",
    moments.zero_diagonal: "takes no arrays",
    moments.zero_full: "takes no arrays",
}
