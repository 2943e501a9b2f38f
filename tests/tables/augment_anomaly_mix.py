"""Rows of `jaxad.augment.anomaly_mix`."""

import numpy as np

from jaxad.augment import anomaly_mix
from tables.row import Row

RNG = np.random.default_rng(0)
GIVEN = {
    "images": RNG.integers(0, 255, (8, 6, 7, 3)).astype(np.uint8),
    "labels": RNG.integers(0, 19, (8, 6, 7)).astype(np.uint8),
    "objects": RNG.integers(0, 255, (8, 4, 5, 3)).astype(np.uint8),
    "masks": (RNG.random((8, 4, 5)) < np.arange(8)[:, None, None] / 8) * np.uint8(254),
}
CORNERS = RNG.integers(0, 4, (8, 2))
ERRORS = [
    ({"objects": GIVEN["objects"].astype(float)}, TypeError, "objects.*uint8.*float32"),
    ({"masks": GIVEN["masks"][:, :2]}, ValueError, r"masks.*\(8, 4, 5\).*\(8, 2, 5\)"),
    ({"labels": GIVEN["labels"].astype(float)}, TypeError, "labels.*integers.*float32"),
]

ROWS = [
    Row(
        anomaly_mix.bounding_boxes,
        {"masks": GIVEN["masks"]},
        rows=("masks",),
        errors=[({"masks": GIVEN["masks"][0]}, ValueError, r"masks.*\[B, h, w\].*\(4, 5\)")],
    ),
    Row(
        anomaly_mix.anomaly_mix,
        {**GIVEN, "corners": CORNERS},
        rows=(*GIVEN, "corners"),
        errors=[
            *ERRORS,
            ({"corners": CORNERS[:, :1]}, ValueError, r"corners.*\(8, 2\).*\(8, 1\)"),
        ],
    ),
    Row(
        anomaly_mix.random_anomaly_mix,
        {"keys": np.arange(8), **GIVEN},
        rows=("keys", *GIVEN),
        errors=ERRORS,
    ),
]
