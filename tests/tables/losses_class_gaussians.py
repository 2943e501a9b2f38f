"""Rows of `jaxad.losses.class_gaussians`."""

import numpy as np

from jaxad.losses import class_gaussians as gaussians
from tables.row import Row

RNG = np.random.default_rng(16)
FEATURES = RNG.normal(size=(8, 5, 3)) + 2.0
LABELS = RNG.integers(0, 4, size=(8, 5))  # Class 3 is void: there are three.
WHERE = RNG.random((8, 5)) < 0.8
SCATTER = np.array([[5.0, 1.0, 0.0], [1.0, 4.0, -1.0], [0.0, -1.0, 6.0]])
SUMS = gaussians.ClassSums(np.array([4.0, 0, 7]), np.ones((3, 1)) * [2.0, 1.0, 0.5], SCATTER)
OTHERS = gaussians.ClassSums(np.array([2.0, 3, 0]), RNG.normal(size=(3, 3)), np.eye(3))
FACTOR = np.array([[1.0, 0.0, 0.0], [0.5, 1.5, 0.0], [-0.25, 0.5, 0.75]])
FIT = gaussians.ClassGaussians(
    RNG.normal(size=(3, 3)), FACTOR @ FACTOR.T, FACTOR, np.array([1, 0, 1], bool)
)
WRONG_SUMS = gaussians.ClassSums(np.ones(3), np.ones((3, 2)), np.eye(2))


def distance(function):
    return Row(
        function,
        {"features": FEATURES, "gaussians": FIT},
        rows=("features",),
        differentiable=("features",),
        bfloat16=2e-6,
        float32=2e-6,
        bad=[
            {"features": np.broadcast_to(FIT.means[0], (8, 5, 3))},
            {"features": np.full((8, 5, 3), 1e8)},
            {"gaussians": FIT._replace(present=np.zeros(3, bool))},
        ],
        errors=[
            ({"features": np.ones((8, 5, 2))}, ValueError, r"features.*\(3,\).*\(2,\)"),
            ({"features": np.ones((8, 3), int)}, TypeError, "features: expected a floating-point"),
        ],
    )


ROWS = [
    Row(
        gaussians.add,
        {"sums": SUMS, "features": FEATURES, "labels": LABELS, "where": WHERE},
        rows=("features", "labels", "where"),
        coupled=True,
        outputs="same",
        bfloat16=2e-6,
        float32=2e-6,
        errors=[
            ({"sums": WRONG_SUMS}, ValueError, r"sums.*\(3,\).*\(2,\)"),
            ({"features": np.ones((8, 5, 3), int)}, TypeError, "features: expected a floating"),
            ({"labels": LABELS[:7]}, ValueError, r"labels.*\(8, 5\).*\(7, 5\)"),
            ({"where": WHERE[:7]}, ValueError, r"where.*\(8, 5\).*\(7, 5\)"),
        ],
    ),
    Row(
        gaussians.merge,
        {"sums": SUMS, "others": OTHERS},
        bfloat16=2e-6,
        float32=2e-6,
        errors=[({"others": WRONG_SUMS}, ValueError, r"others.*\(3, 3\).*\(3, 2\)")],
    ),
    Row(
        gaussians.finish,
        {"sums": SUMS},
        bfloat16=2e-6,
        float32=2e-6,
        errors=[
            ({"ridge": -1.0}, ValueError, "ridge: expected a number of at least 0, got -1.0"),
            (
                {"sums": SUMS._replace(means=np.ones(3))},
                ValueError,
                r"sums: .*\[K, D\], got \(3,\)",
            ),
        ],
    ),
    distance(gaussians.squared_distances),
    distance(gaussians.mahalanobis),
]
HOST = {gaussians.zero: "makes the state from Python numbers: no array goes in"}
