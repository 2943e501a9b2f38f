"""Rows of `jaxad.losses.similarity`."""

import numpy as np

from jaxad.losses import similarity
from tables.row import Row

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(8, 5, 6, 2))
OTHERS = IMAGES + 0.5 * RNG.normal(size=IMAGES.shape)
ZEROS = np.zeros_like(IMAGES)
PAIR = {"images": IMAGES, "reconstructions": OTHERS}
BAD = [
    {"reconstructions": IMAGES},
    {"images": ZEROS, "reconstructions": ZEROS},
    {"images": ZEROS, "reconstructions": ZEROS + 3.0},
    {"reconstructions": -IMAGES},
    {"images": 1e4 * IMAGES, "reconstructions": -1e4 * IMAGES},
    {"images": ZEROS, "reconstructions": 1e-20 * IMAGES},
]
ERRORS = [
    ({"images": np.ones((8, 5, 6, 2), int)}, TypeError, "images: expected a floating-point"),
    ({"images": IMAGES[0]}, ValueError, r"images: expected axes \[B, H, W, C\], got \(5, 6, 2\)"),
    (
        {"reconstructions": OTHERS[:, :4]},
        ValueError,
        r"reconstructions: expected shape \(8, 5, 6, 2\), got \(8, 4, 6, 2\)",
    ),
    ({"data_range": 0.0}, ValueError, "data_range: expected a number above 0, got 0.0"),
    ({"window": 7}, ValueError, r"images: expected sides of at least .*\(8, 5, 6, 2\)"),
    ({"sigma": 0.0}, ValueError, "sigma: expected a number above 0, got 0.0"),
]
NO_WEIGHTS = ({"weights": ()}, ValueError, "weights: expected at least one, got none")
FLOOR = ({"floor": -1.0}, ValueError, "floor: expected a number")


def single(function):
    return Row(
        function,
        PAIR,
        rows=tuple(PAIR),
        options={"data_range": 3.0, "window": 3},
        differentiable=tuple(PAIR),
        bfloat16=1e-5,
        bad=BAD,
        errors=ERRORS,
    )


def multiple(function, *errors, **options):
    return Row(
        function,
        PAIR,
        rows=tuple(PAIR),
        options={"data_range": 3.0, "window": 3, "weights": (0.4, 0.6), **options},
        differentiable=tuple(PAIR),
        bfloat16=1e-5,
        bad=BAD,
        errors=[*ERRORS, NO_WEIGHTS, *errors],
        name="floor 0" if options else "",
    )


ROWS = [
    single(similarity.ssim),
    single(similarity.ssim_map),
    multiple(similarity.ms_ssim, FLOOR),
    multiple(similarity.ms_ssim, FLOOR, floor=0.0),
    multiple(similarity.ms_ssim_levels),
    multiple(similarity.dissimilarity_map),
    multiple(similarity.dissimilarity_product_map, FLOOR),
    Row(
        similarity.halve,
        {"images": IMAGES},
        rows=("images",),
        differentiable=("images",),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{"images": ZEROS}],
        errors=ERRORS[:2],
    ),
    Row(
        similarity.resize_nearest,
        {"maps": IMAGES},
        rows=("maps",),
        options={"size": (7, 4)},
        differentiable=("maps",),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{"maps": ZEROS}],
        errors=[
            ({"maps": IMAGES[0]}, ValueError, r"maps: expected axes \[B, H, W, C\], got"),
            ({"size": (7, 0)}, ValueError, "size: expected an integer of at least 1, got 0"),
        ],
    ),
]
