"""Rows of `jaxad.losses.position_gaussians`."""

import numpy as np

from jaxad.losses import position_gaussians
from jaxad.losses.moments import Moments
from jaxad.losses.position_gaussians import DiagonalGaussians, Gaussians
from tables.row import Row

RNG = np.random.default_rng(0)
MEAN = RNG.normal(size=(2, 3, 2))
FACTOR = np.tril(RNG.normal(size=(2, 3, 2, 2)) * 0.3) + 2.0 * np.eye(2)
SCATTER = FACTOR @ np.swapaxes(FACTOR, -1, -2) * 4
VARIANCE = RNG.uniform(0.5, 2.0, MEAN.shape)
FEATURES = RNG.normal(size=(8, 2, 3, 2)) * 2
ON_MEAN = {"features": np.broadcast_to(MEAN, FEATURES.shape).copy()}
FAR = {"features": np.full(FEATURES.shape, 1e4)}
MAPS = RNG.random((8, 3, 5))
WHERE = RNG.random((8, 3, 5)) < 0.6
FLAT = {"maps": np.full((8, 3, 5), 0.5)}
EMPTY = {"where": np.zeros((8, 3, 5), bool)}
ONE_EMPTY = {"where": WHERE & (np.arange(8) != 2)[:, None, None]}
HIDDEN = {"maps": np.where(WHERE, MAPS, np.nan)}
INTEGERS = ({"maps": np.ones((8, 3, 5), int)}, TypeError, "maps: expected a floating-point")
FLAT_RANK = ({"maps": np.ones((8, 3))}, ValueError, r"maps: expected axes \[B, .*got \(8, 3\)")
WRONG_MASK = ({"where": np.ones((7, 3, 5))}, ValueError, r"where.*\(8, 3, 5\).*\(7, 3, 5\)")


def fit(function, mean, scatter, wrong):
    return Row(
        function,
        {"moments": Moments(np.int32(5), mean, mean / 8, scatter)},
        errors=[
            (
                {"moments": Moments(np.int32(5), mean, mean / 8, wrong)},
                ValueError,
                "moments.scatter",
            )
        ],
        bfloat16=2e-6,
        float32=2e-6,
        name=f"rank_{mean.ndim}",
    )


def distances(function, gaussians, wrong):
    return Row(
        function,
        {"features": FEATURES, "gaussians": gaussians},
        rows=("features",),
        differentiable=("features",),
        bad=[ON_MEAN, FAR],
        errors=[
            ({"features": FEATURES[..., :1]}, ValueError, r"features.*2,?\).*1,?\)"),
            ({"gaussians": wrong}, ValueError, "gaussians"),
        ],
        bfloat16=2e-6,
        float32=2e-6,
        name=f"rank_{gaussians.mean.ndim}",
    )


ROWS = [
    Row(
        position_gaussians.concatenate_layers,
        {
            "layers": [RNG.normal(size=(8, 4, 4, 2)), RNG.normal(size=(8, 2, 3, 3))],
            "channels": np.array([4, 0, 3], np.int32),
        },
        rows=("layers",),
        differentiable=("layers",),
        bad=[{"layers": [np.zeros((8, 4, 4, 2)), np.zeros((8, 2, 3, 3))]}],
        errors=[
            ({"layers": []}, ValueError, "layers: expected at least one"),
            ({"layers": [MAPS]}, ValueError, r"layers\[0\]: expected axes"),
            ({"channels": np.ones((1, 2), np.int32)}, ValueError, r"channels: expected axes \[D\]"),
        ],
        bfloat16=0.0,
        float32=0.0,
    ),
    Row(
        position_gaussians.draw_channels,
        {"key": np.int64(3)},
        options={"total": 7, "kept": 4},
        errors=[({"kept": 8}, ValueError, "kept: expected at most total = 7, got 8")],
    ),
    fit(position_gaussians.covariance, MEAN, SCATTER, VARIANCE),
    fit(position_gaussians.finish, MEAN, SCATTER, VARIANCE),
    fit(position_gaussians.finish, MEAN[0, 0], SCATTER[0, 0], VARIANCE[0, 0]),
    fit(position_gaussians.finish_diagonal, MEAN, VARIANCE, SCATTER),
    distances(position_gaussians.mahalanobis, Gaussians(MEAN, FACTOR), Gaussians(MEAN, FACTOR[0])),
    distances(
        position_gaussians.mahalanobis,
        Gaussians(MEAN[0, 0], FACTOR[0, 0]),
        Gaussians(MEAN[0, 0], FACTOR),
    ),
    distances(
        position_gaussians.mahalanobis_diagonal,
        DiagonalGaussians(MEAN, VARIANCE),
        DiagonalGaussians(MEAN, FACTOR),
    ),
    Row(
        position_gaussians.upsample_maps,
        {"maps": MAPS},
        rows=("maps",),
        options={"size": (6, 11)},
        differentiable=("maps",),
        bad=[FLAT],
        errors=[INTEGERS, FLAT_RANK],
        bfloat16=1e-6,
        float32=1e-6,
    ),
    Row(
        position_gaussians.smooth_maps,
        {"maps": MAPS},
        rows=("maps",),
        options={"sigma": 1.0},
        differentiable=("maps",),
        bad=[FLAT],
        errors=[INTEGERS, FLAT_RANK, ({"sigma": 0.0}, ValueError, "sigma: expected a number")],
        bfloat16=1e-6,
        float32=1e-6,
    ),
    Row(
        position_gaussians.image_score,
        {"maps": MAPS, "where": WHERE},
        rows=("maps", "where"),
        differentiable=("maps",),
        bad=[FLAT, EMPTY, HIDDEN],
        errors=[INTEGERS, FLAT_RANK, WRONG_MASK],
        bfloat16=0.0,
        float32=0.0,
    ),
    Row(
        position_gaussians.min_max_released,
        {"maps": MAPS, "where": ONE_EMPTY["where"]},
        rows=("maps", "where"),
        differentiable=("maps",),
        coupled=True,
        bad=[FLAT, EMPTY, {"maps": np.where(ONE_EMPTY["where"], MAPS, np.nan)}],
        errors=[INTEGERS, FLAT_RANK, WRONG_MASK],
        bfloat16=1e-6,
        float32=1e-6,
    ),
]
HOST = {
    position_gaussians.check_positive_definite: "looks at values to name what is wrong",
    position_gaussians.check_rows: "looks at a count",
}
