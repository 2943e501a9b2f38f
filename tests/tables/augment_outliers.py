"""Rows of `jaxad.augment.outliers` and of its operations: swap, intensity, elastic, affine."""

import numpy as np

from jaxad.augment import affine, elastic, intensity, outliers, swap
from tables.row import Row

HOST = {outliers.medical_operations: "returns functions"}
RNG = np.random.default_rng(0)
IMAGES, KEYS = RNG.random((8, 8, 10, 2)), np.arange(8)
DARK = IMAGES.copy()  # One pixel far below the others: the minimum has a gradient.
DARK[:, 0, 0, 0] = -0.5
LABELS = RNG.integers(0, 4, (8, 8, 10))
FIELDS, CONTROLS = RNG.uniform(-2, 2, (8, 8, 10, 2)), RNG.normal(size=(8, 5, 4, 2))
ANGLES, SHIFTS = RNG.uniform(-20, 20, 8), RNG.uniform(-2, 2, (8, 2))
PLACES = RNG.integers(0, 5, (8, 3, 2, 2))
SHORT = ({"keys": KEYS[:4]}, ValueError, r"keys.*\(8,\).*\(4,\)")
INTEGERS = ({"images": LABELS[..., None]}, TypeError, "images.*floating-point.*int32")
FLOATS = ({"labels": LABELS.astype(float)}, TypeError, "labels.*integers.*float32")
FLAT = {"images": np.zeros_like(IMAGES)}
CHOICES = {"operations": outliers.medical_operations(patch=3, swaps=2, displacement=1.0)}


def row(function, given, *errors, **options):
    options = {"bfloat16": 4e-3, "float32": 4e-6, **options}
    return Row(function, given, rows=tuple(given), errors=[*errors], **options)


ROWS = [
    row(
        swap.swap_patches,
        {"images": IMAGES, "locations": PLACES},
        ({"locations": PLACES[:, 0]}, ValueError, r"locations.*\(8, n, 2, 2\).*\(8, 2, 2\)"),
        ({"patch": 9}, ValueError, "patch.*at most 8.*9"),
        options={"patch": 3},
        bfloat16=0.0,
    ),
    row(
        swap.random_swap,
        {"keys": KEYS, "images": IMAGES},
        SHORT,
        ({"patch": 8}, ValueError, r"patch.*8 leaves no two places.*\(8, 10\)"),
        options={"patch": 3, "swaps": 4},
        bfloat16=0.0,
    ),
    row(
        intensity.adjust_gamma,
        {"images": IMAGES + 0.1, "logs": SHIFTS[:, 0] / 5},
        INTEGERS,
        ({"logs": SHIFTS}, ValueError, r"logs.*\(8,\).*\(8, 2\)"),
        differentiable=("images", "logs"),
        bad=[FLAT, {"images": -np.ones_like(IMAGES)}, {"logs": np.full(8, 5.0)}],
    ),
    row(
        intensity.random_gamma,
        {"keys": KEYS, "images": IMAGES},
        SHORT,
        ({"logs": (0.3, -0.3)}, ValueError, r"logs.*\(0.3, -0.3\)"),
    ),
    row(
        elastic.spline_fields,
        {"controls": CONTROLS},
        ({"controls": CONTROLS[:, :3]}, ValueError, r"controls.*>= 4.*\(8, 3, 4, 2\)"),
        options={"size": (3, 5)},
        differentiable=("controls",),
        bad=[{"controls": np.zeros_like(CONTROLS)}],
    ),
    row(
        elastic.deform_images,
        {"images": DARK, "fields": FIELDS},
        INTEGERS,
        ({"fields": FIELDS[:, :2]}, ValueError, r"fields.*\(8, 8, 10, 2\).*\(8, 2, 10, 2\)"),
        differentiable=("images",),
        bad=[FLAT, {"fields": np.full_like(FIELDS, 1e6)}],
    ),
    row(elastic.deform_labels, {"labels": LABELS, "fields": FIELDS}, FLOATS),
    row(
        elastic.random_elastic,
        {"keys": KEYS, "images": IMAGES},
        SHORT,
        ({"locked": 4}, ValueError, "locked.*4 rings leave no point of 7"),
    ),
    row(
        affine.rotate_translate,
        {"images": IMAGES, "angles": ANGLES, "shifts": SHIFTS},
        INTEGERS,
        ({"angles": ANGLES[:2]}, ValueError, r"angles.*\(8,\).*\(2,\)"),
        differentiable=("images",),
        bad=[FLAT, {"shifts": np.full((8, 2), 1e6)}],
    ),
    row(
        affine.rotate_translate_labels,
        {"labels": LABELS, "angles": ANGLES, "shifts": SHIFTS},
        FLOATS,
    ),
    row(affine.draw_rigid, {"keys": KEYS}, ({"pixels": -1.0}, ValueError, "pixels.*-1")),
    row(
        affine.random_rigid,
        {"keys": KEYS, "images": IMAGES, "labels": LABELS},
        SHORT,
        ({"labels": LABELS[:, :2]}, ValueError, r"labels.*\(8, 8, 10\).*\(8, 2, 10\)"),
        options={"pixels": 2.0},
    ),
    row(
        outliers.apply_operations,
        {"keys": KEYS, "images": IMAGES, "chosen": (PLACES[..., 0, 0] + KEYS[:, None]) % 6},
        ({"chosen": KEYS}, ValueError, r"chosen.*\(8, n\).*\(8,\)"),
        options=CHOICES,
        bfloat16=1e-2,  # Three operations, each of which rounds.
    ),
    row(
        outliers.random_operations,
        {"keys": KEYS, "images": IMAGES},
        SHORT,
        ({"count": 7}, ValueError, "count.*got 7"),
        ({"probabilities": (1.0, 2.0)}, ValueError, r"probabilities.*\(6,\).*\(2,\)"),
        options=CHOICES,
    ),
]
