"""Rows of `jaxad.augment.sampling` and `jaxad.augment.precision`."""

import numpy as np

from jaxad.augment import precision, sampling
from tables.row import Row

RNG = np.random.default_rng(0)
IMAGES = RNG.random((8, 4, 5, 2))
PLACES = RNG.uniform(-1.5, 6, (2, 8, 3, 2))
LABELS = RNG.integers(0, 9, (8, 4, 5)).astype(np.uint8)
SHAPES = [({"columns": PLACES[1, :, :2]}, ValueError, r"columns.*\(8, 3, 2\).*\(8, 2, 2\)")]

ROWS = [
    Row(
        precision.bounded,
        {"values": IMAGES},
        rows=("values",),
        options={"low": 0.0, "high": 1.0},
        differentiable=("values",),
        bad=[{"values": np.zeros((8, 4, 5, 2))}, {"values": np.full((8, 4, 5, 2), 1e4)}],
        errors=None,
    ),
    Row(
        sampling.bilinear,
        {"images": IMAGES, "rows": PLACES[0], "columns": PLACES[1]},
        rows=("images", "rows", "columns"),
        differentiable=("images",),
        bfloat16=8e-3,
        float32=1e-6,
        bad=[{"rows": np.full((8, 3, 2), 1e6)}, {"images": np.zeros((8, 4, 5, 2))}],
        errors=[
            *SHAPES,
            ({"images": IMAGES[0]}, ValueError, r"images.*\[B, H, W, C\].*\(4, 5, 2\)"),
        ],
    ),
    Row(
        sampling.nearest,
        {"values": LABELS, "rows": PLACES[0], "columns": PLACES[1]},
        rows=("values", "rows", "columns"),
        errors=[*SHAPES, ({"rows": PLACES[0, 0]}, ValueError, r"rows.*\[8, h, w\].*\(3, 2\)")],
    ),
    Row(
        sampling.within,
        {"rows": PLACES[0], "columns": PLACES[1]},
        rows=("rows", "columns"),
        options={"size": (4, 5)},
        errors=SHAPES,
    ),
    Row(
        precision.widen,
        {"images": IMAGES},
        rows=("images",),
        differentiable=("images",),
        bad=[{"images": np.zeros((8, 4, 5, 2))}],
        errors=[({"images": LABELS}, TypeError, "images.*floating-point.*uint8")],
    ),
]
