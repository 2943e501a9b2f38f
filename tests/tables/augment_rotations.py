"""Rows of `jaxad.augment.rotations`."""

import numpy as np

from jaxad.augment import rotations
from tables.row import Row

IMAGES = np.random.default_rng(0).random((8, 4, 4, 2))
KEYS = np.arange(8)
FLAGS = np.arange(8) % 3 == 0
FLAT = ({"images": IMAGES[0, 0]}, ValueError, r"images.*\[B, H, W.*\(4, 2\)")
OBLONG = ({"images": IMAGES[:, :3]}, ValueError, r"images.*square.*\(8, 3, 4, 2\)")
SHORT = ({"keys": KEYS[:4]}, ValueError, r"keys.*\(8,\).*\(4,\)")


def row(function, given, *errors):
    given = {**given, "images": IMAGES}
    return Row(function, given, rows=tuple(given), bfloat16=0.0, float32=0.0, errors=[*errors])


ROWS = [
    row(rotations.rotate_quarter, {"turns": np.arange(8)}, FLAT, OBLONG),
    row(
        rotations.random_quarter_rotation,
        {"keys": KEYS},
        OBLONG,
        SHORT,
        ({"choices": ()}, ValueError, "choices.*at least one"),
    ),
    row(rotations.rotate_half, {}, FLAT),
    row(
        rotations.flip_horizontal,
        {"flipped": FLAGS},
        FLAT,
        ({"flipped": FLAGS[:3]}, ValueError, r"flipped.*\(8,\).*\(3,\)"),
    ),
    row(rotations.flip_vertical, {"flipped": FLAGS}, FLAT),
    row(
        rotations.random_horizontal_flip,
        {"keys": KEYS},
        SHORT,
        ({"probability": -0.1}, ValueError, "probability.*-0.1"),
    ),
]
