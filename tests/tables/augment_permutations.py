"""Rows of `jaxad.augment.permutations`."""

import numpy as np

from jaxad.augment import permutations
from tables.row import Row

RNG = np.random.default_rng(0)
IMAGES = RNG.random((8, 4, 6, 2))
KEYS = np.arange(8)
PARTS = np.stack([RNG.permutation(4) for _ in range(8)])
PIXELS = np.stack([RNG.permutation(24) for _ in range(8)])
SHORT = ({"keys": KEYS[:4]}, ValueError, r"keys.*\(8,\).*\(4,\)")


def row(function, given, *errors, **options):
    given = {**given, "images": IMAGES}
    return Row(
        function,
        given,
        rows=tuple(given),
        options=options,
        bfloat16=0.0,
        float32=0.0,
        errors=[*errors],
    )


ROWS = [
    row(
        permutations.swap_halves,
        {"classes": np.arange(8) % 4},
        ({"classes": np.arange(4)}, ValueError, r"classes.*\(8,\).*\(4,\)"),
    ),
    row(
        permutations.permute_patches,
        {"indices": PARTS},
        ({"indices": PARTS[:, :3]}, ValueError, r"indices.*\(8, 1\).*\(8, 3\)"),
        ({"images": IMAGES[:, :3]}, ValueError, r"images.*2 divides.*\(8, 3, 6, 2\)"),
    ),
    row(
        permutations.random_patch_permutation,
        {"keys": KEYS},
        SHORT,
        ({"grid": 1}, ValueError, "grid.*at least 2.*1"),
        ({"grid": 4}, ValueError, r"images.*4 divides.*\(8, 4, 6, 2\)"),
    ),
    row(
        permutations.permute_pixels,
        {"indices": PIXELS},
        ({"indices": PARTS}, ValueError, r"indices.*\(8, 24\).*\(8, 4\)"),
    ),
    row(permutations.random_pixel_permutation, {"keys": KEYS}, SHORT),
    row(
        permutations.split_patches,
        {},
        ({"size": 3}, ValueError, r"images.*3 divides.*\(8, 4, 6, 2\)"),
        size=2,
    ),
]
