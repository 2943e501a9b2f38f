"""Rows of `jaxad.losses.one_class`."""

import numpy as np

from jaxad.losses import one_class
from tables.row import Row

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(8, 3))
CENTER = np.array([0.25, -0.5, 1.0])
VARIANCE = np.array(2.5)
LABELS = np.array([0, 1, 1, 0, 1, 0, 0, 1], np.int32)
ON_CENTER = np.broadcast_to(CENTER, Z.shape).copy()
FAR = np.full_like(Z, 1e4)
CENTER_ERROR = ({"center": np.ones(4)}, ValueError, r"center.*\(3,\).*\(4,\)")
INTEGERS = ({"embeddings": np.ones((8, 3), int)}, TypeError, "embeddings: expected a floating")
TERMS = {
    "image_reconstruction": RNG.random(8),
    "image_anomaly": RNG.random(8),
    "patch_reconstruction": RNG.random((8, 4)),
    "patch_anomaly": RNG.random((8, 4)),
    "where": RNG.random((8, 4)) < 0.7,
}


def row(function, arguments=None, *, bad=(), errors=(), **options):
    return Row(
        function,
        {"embeddings": Z, "center": CENTER, **(arguments or {})},
        rows=("embeddings", *(name for name in (arguments or {}) if name == "labels")),
        differentiable=("embeddings", "center"),
        bad=[{"embeddings": ON_CENTER}, {"embeddings": FAR}, *bad],
        errors=[CENTER_ERROR, INTEGERS, *errors],
        **options,
    )


def gaussian(function, **options):
    return row(
        function,
        {"variance": VARIANCE},
        bad=[
            {"variance": np.array(0.0)},
            {"variance": np.array(0.0), "embeddings": ON_CENTER},
            {"variance": np.array(0.0), "embeddings": FAR},
        ],
        errors=[({"variance": np.ones(3)}, ValueError, r"variance.*\(\).*\(3,\)")],
        **options,
    )


def sphere(function, **options):
    return row(
        function,
        {"radius": np.array(1.5)},
        bad=[{"radius": np.array(0.0)}],
        errors=[({"radius": np.ones(3)}, ValueError, r"radius.*\(\).*\(3,\)")],
        **options,
    )


def scales(function):
    return Row(
        function,
        TERMS,
        rows=tuple(TERMS),
        differentiable=("image_reconstruction", "image_anomaly", "patch_reconstruction"),
        bad=[
            {"where": np.zeros((8, 4), bool)},
            {
                "patch_reconstruction": np.where(TERMS["where"], 0.5, np.nan),
                "patch_anomaly": np.where(TERMS["where"], 0.5, np.inf),
            },
        ],
        errors=[
            ({"image_anomaly": np.ones(7)}, ValueError, r"image_anomaly.*\(8,\).*\(7,\)"),
            ({"patch_anomaly": np.ones((8, 3))}, ValueError, r"patch_anomaly.*\(8, 4\).*\(8, 3\)"),
            ({"where": np.ones((8, 3), bool)}, ValueError, r"where.*\(8, 4\).*\(8, 3\)"),
        ],
        bfloat16=1e-6,
        float32=1e-6,
    )


ROWS = [
    row(one_class.squared_distance, bfloat16=1e-6, float32=1e-6),
    gaussian(one_class.scaled_distance, bfloat16=1e-6, float32=1e-6),
    gaussian(one_class.gaussian_normality, bfloat16=1e-6, float32=1e-6),
    gaussian(one_class.gaussian_anomaly, bfloat16=1e-6, float32=1e-6),
    sphere(one_class.soft_boundary, options={"nu": 0.3}, bfloat16=1e-6, float32=1e-6),
    sphere(one_class.soft_boundary_score, bfloat16=1e-6, float32=1e-6),
    row(
        one_class.deep_sad,
        {"labels": LABELS},
        options={"eta": 2.0},
        errors=[({"labels": LABELS[:7]}, ValueError, r"labels.*\(8,\).*\(7,\)")],
        bfloat16=1e-6,
        float32=1e-6,
    ),
    Row(
        one_class.radius_quantile,
        {
            "distances": np.where(np.arange(16) == 3, np.nan, RNG.random(16)),
            "where": np.arange(16) % 5 != 3,
        },
        rows=("distances", "where"),
        options={"nu": 0.3},
        coupled=True,
        outputs="same",
        errors=[
            ({"where": np.ones(8, bool)}, ValueError, r"where.*\(16,\).*\(8,\)"),
            ({"nu": 0.0}, ValueError, r"nu: expected a number in \(0, 1\], got 0.0"),
        ],
        bfloat16=1e-6,
        float32=1e-6,
    ),
    Row(
        one_class.reconstruction_and_anomaly,
        {"reconstruction_error": TERMS["image_reconstruction"], "anomaly": TERMS["image_anomaly"]},
        rows=("reconstruction_error", "anomaly"),
        options={"xi": 0.3},
        differentiable=("reconstruction_error", "anomaly"),
        bad=[{"reconstruction_error": np.zeros(8), "anomaly": np.ones(8)}],
        errors=[
            ({"anomaly": np.ones(7)}, ValueError, r"anomaly.*\(8,\).*\(7,\)"),
            ({"anomaly": np.ones(8, int)}, TypeError, "anomaly: expected a floating-point"),
            ({"xi": 1.5}, ValueError, r"xi: expected a number in \[0, 1\], got 1.5"),
        ],
        bfloat16=1e-6,
        float32=1e-6,
    ),
    scales(one_class.multi_scale_score),
    scales(one_class.multi_scale_score_released),
]
