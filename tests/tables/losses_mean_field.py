"""Rows of `jaxad.losses.mean_field`."""

import numpy as np

from jaxad.losses import mean_field
from tables.row import Row

RNG = np.random.default_rng(0)
PROBABILITIES = RNG.dirichlet(np.full(3, 5.0), (8, 3, 4))
MARGINALS = RNG.permuted(np.tile([0.5, 0.3, 0.2], (8, 3, 4, 1)), axis=-1)  # No two nearly equal.
BAD = [
    {"probabilities": np.eye(3)[np.arange(8 * 12).reshape(8, 3, 4) % 3]},  # Sure, and log 0.
    {"probabilities": np.zeros((8, 3, 4, 3))},
    {"probabilities": np.full((8, 3, 4, 3), 1 / 3)},
]
ERRORS = [
    ({"probabilities": np.ones((8, 3, 4, 3), int)}, TypeError, "probabilities: expected a float"),
    (
        {"probabilities": np.ones((8, 3))},
        ValueError,
        r"probabilities: expected axes \[..., H, W, K\], got \(8, 3\)",
    ),
    (
        {"probabilities": np.ones((8, 0, 4, 3))},
        ValueError,
        r"probabilities: expected pixels and classes, got \(8, 0, 4, 3\)",
    ),
    ({"iterations": 0}, ValueError, "iterations: expected an integer of at least 1, got 0"),
    ({"sigma": 0.0}, ValueError, "sigma: expected a number above 0, got 0.0"),
]
TOO_LARGE = (
    {"probabilities": np.ones((8, 1, 65_537, 2))},
    ValueError,
    "probabilities: expected at most 65536 pixels per image, got 1 x 65537",
)
CLASS_SIGMA = ({"class_sigma": -1.0}, ValueError, "class_sigma: expected a number above 0")


def row(function, *errors, **options):
    return Row(
        function,
        {"probabilities": PROBABILITIES},
        rows=("probabilities",),
        options={"sigma": 1.5, "weight": 2.0, "iterations": 2, **options},
        differentiable=("probabilities",),
        bfloat16=1e-6,
        float32=1e-6,
        bad=BAD,
        errors=[*ERRORS, *errors],
    )


ROWS = [
    row(mean_field.gaussian),
    row(mean_field.bilateral, TOO_LARGE, CLASS_SIGMA, class_sigma=0.7),
    Row(
        mean_field.score,
        {"marginals": MARGINALS},
        rows=("marginals",),
        differentiable=("marginals",),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{"marginals": np.full((8, 3, 4, 3), 1 / 3)}, {"marginals": BAD[0]["probabilities"]}],
        errors=[({"marginals": np.ones((8, 3), int)}, TypeError, "marginals: expected a floating")],
    ),
]
