"""Rows of `jaxad.augment.noise`."""

import numpy as np

from jaxad.augment import noise
from tables.row import Row

RNG = np.random.default_rng(0)
IMAGES, KEYS, CLASSES = RNG.random((8, 5, 4, 3)), np.arange(8), np.arange(8) % 4
NORMALS, UNIFORMS = RNG.normal(size=IMAGES.shape), RNG.random(IMAGES.shape)
SHORT = ({"keys": KEYS[:4]}, ValueError, r"keys.*\(8,\).*\(4,\)")
INTEGERS = ({"images": IMAGES.astype(np.uint8)}, TypeError, "images.*floating-point.*uint8")


def row(function, given, *errors, **options):
    given = {**given, "images": IMAGES}
    return Row(
        function, given, rows=tuple(given), bfloat16=4e-3, float32=1e-6, errors=[*errors], **options
    )


ROWS = [
    row(
        noise.add_noise,
        {"noise": 0.1 * NORMALS},
        ({"noise": NORMALS[:2]}, ValueError, r"noise.*\(8, 5, 4, 3\).*\(2, 5, 4, 3\)"),
        INTEGERS,
        differentiable=("noise",),
        bad=[{"images": np.zeros_like(IMAGES)}, {"noise": np.full_like(IMAGES, 1e4)}],
    ),
    row(
        noise.random_noise,
        {"keys": KEYS},
        SHORT,
        INTEGERS,
        ({"sigma": (0.2, 0.1)}, ValueError, r"sigma.*\(0.2, 0.1\)"),
        options={"probability": 0.5},
    ),
    row(
        noise.corrupt,
        {"classes": CLASSES, "normals": NORMALS, "uniforms": UNIFORMS},
        ({"classes": CLASSES[:2]}, ValueError, r"classes.*\(8,\).*\(2,\)"),
        ({"variance": -1.0}, ValueError, "variance.*at least 0.*-1"),
        options={"amount": 0.3},
    ),
    row(
        noise.random_corruption,
        {"keys": KEYS, "classes": CLASSES},
        SHORT,
        ({"amount": 2.0}, ValueError, "amount.*2.0"),
    ),
]
