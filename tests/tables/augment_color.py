"""Rows of `jaxad.augment.color` and `jaxad.augment.blur`."""

import numpy as np

from jaxad.augment import blur, color
from tables.row import Row

RNG = np.random.default_rng(0)
IMAGES, KEYS = RNG.uniform(0.2, 0.8, (8, 5, 4, 3)), np.arange(8)
FACTORS = np.concatenate([RNG.uniform(0.8, 1.2, (8, 3)), RNG.uniform(-0.1, 0.1, (8, 1))], 1)
ORDER = np.stack([RNG.permutation(4) for _ in range(8)])
SHORT = ({"keys": KEYS[:4]}, ValueError, r"keys.*\(8,\).*\(4,\)")
TWO = ({"images": IMAGES[..., :2]}, ValueError, r"images.*1 or 3 channels.*\(8, 5, 4, 2\)")
INTEGERS = ({"images": IMAGES.astype(np.uint8)}, TypeError, "images.*floating-point.*uint8")
FLAT = {"images": np.full_like(IMAGES, 0.5)}


def row(function, given, *errors, **options):
    given = {**given, "images": IMAGES}
    options = {"bfloat16": 4e-3, "float32": 2e-6, **options}
    return Row(function, given, rows=tuple(given), errors=[*errors], **options)


ROWS = [
    row(color.to_grey, {}, TWO, INTEGERS, differentiable=("images",), bad=[FLAT]),
    row(color.solarize, {}, INTEGERS, ({"threshold": 2.0}, ValueError, "threshold.*2.0")),
    row(
        color.normalize,
        {},
        INTEGERS,
        ({"std": (1.0, 0.0, 1.0)}, ValueError, "std.*positive"),
        ({"mean": (1.0, 0.0)}, ValueError, "mean.*3 numbers"),
        differentiable=("images",),
        bad=[FLAT],
    ),
    row(
        color.jitter,
        {"factors": FACTORS, "order": ORDER},
        TWO,
        ({"factors": FACTORS[:, :3]}, ValueError, r"factors.*\(8, 4\).*\(8, 3\)"),
        differentiable=("images",),
        bad=[
            FLAT,
            {"images": np.zeros_like(IMAGES)},
            {"images": np.ones_like(IMAGES)},
            {"factors": np.zeros_like(FACTORS)},
        ],
    ),
    Row(
        color.draw_jitter,
        {"keys": KEYS},
        rows=("keys",),
        errors=[
            ({"hue": 0.6}, ValueError, r"hue.*\[0, 0.5\].*0.6"),
            ({"contrast": -1.0}, ValueError, "contrast.*-1"),
        ],
    ),
    row(color.random_jitter, {"keys": KEYS}, SHORT, TWO),
    row(
        blur.gaussian_blur,
        {"sigma": RNG.uniform(0.1, 2.0, 8)},
        INTEGERS,
        ({"kernel_size": 4}, ValueError, "kernel_size.*odd.*4"),
        ({"sigma": np.ones(3)}, ValueError, r"sigma.*\(8,\).*\(3,\)"),
        options={"kernel_size": 5},
        differentiable=("images",),
        bad=[FLAT, {"sigma": np.zeros(8)}, {"sigma": np.full(8, 1e4)}],
    ),
    row(
        blur.random_blur,
        {"keys": KEYS},
        SHORT,
        ({"sigma": (2.0, 1.0)}, ValueError, r"sigma.*\(2.0, 1.0\)"),
        options={"kernel_size": 3},
    ),
]
