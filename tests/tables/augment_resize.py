"""Rows of `jaxad.augment.resize` and `jaxad.augment.crops`."""

import numpy as np

from jaxad.augment import crops, resize
from tables.row import Row

RNG = np.random.default_rng(0)
IMAGES, KEYS = RNG.random((8, 5, 6, 2)), np.arange(8)
LABELS = RNG.integers(0, 9, (8, 5, 6)).astype(np.uint8)
BOXES = np.stack(
    [np.arange(8) % 3, np.arange(8) % 2, 1 + np.arange(8) % 2, 3 + np.arange(8) % 2], 1
)
RANK = ({"images": IMAGES[0]}, ValueError, r"images.*\[B, H, W, C\].*\(5, 6, 2\)")
SIZE = ({"size": (0, 3)}, ValueError, "size.*at least 1.*0")
SHORT = ({"keys": KEYS[:4]}, ValueError, r"keys.*\(8,\).*\(4,\)")


def row(function, given, *errors, **options):
    given = {**given, "images": IMAGES}
    return Row(
        function,
        given,
        rows=tuple(given),
        differentiable=("images",),
        bfloat16=8e-3,
        float32=2e-6,
        bad=[{"images": np.zeros_like(IMAGES)}],
        errors=[RANK, *errors],
        options={"size": (7, 3), **options},
    )


BOXED = [
    SIZE,
    ({"boxes": BOXES[:, :3]}, ValueError, r"boxes.*\(8, 4\).*\(8, 3\)"),
    ({"method": "lanczos"}, ValueError, "method.*bilinear.*lanczos"),
]

ROWS = [
    row(resize.resize_half_pixel, {}, SIZE),
    row(resize.resize_corners, {}, SIZE),
    row(resize.adaptive_average_pool, {}, SIZE),
    Row(
        resize.resize_nearest,
        {"values": LABELS},
        rows=("values",),
        options={"size": (7, 3)},
        errors=[SIZE, ({"values": LABELS[0]}, ValueError, r"values.*\(5, 6\)")],
    ),
    Row(
        resize.resize_labels_centre,
        {"values": LABELS},
        rows=("values",),
        options={"size": (3, 4)},
        errors=[SIZE, ({"values": LABELS[0]}, ValueError, r"values.*\(5, 6\)")],
    ),
    Row(
        resize.resize_labels_majority,
        {"labels": np.tile(LABELS, (1, 2, 1))},
        rows=("labels",),
        options={"factor": 2},
        errors=[
            ({"labels": LABELS}, ValueError, r"labels.*2 divides.*\(8, 5, 6\)"),
            ({"labels": LABELS.astype(float)}, TypeError, "labels.*integers.*float32"),
            ({"factor": 0}, ValueError, "factor.*at least 1.*0"),
        ],
    ),
    row(crops.crop_and_resize, {"boxes": BOXES}, *BOXED),
    row(crops.crop_and_resize, {"boxes": BOXES}, *BOXED, method="bicubic")._replace(name="bicubic"),
    Row(
        crops.draw_boxes,
        {"keys": KEYS},
        rows=("keys",),
        options={"shape": (9, 12)},
        errors=[
            ({"area": (1.0, 0.2)}, ValueError, r"area.*\(1.0, 0.2\)"),
            ({"shape": 5}, ValueError, "shape.*height, width.*5"),
        ],
    ),
    row(crops.random_resized_crop, {"keys": KEYS}, SIZE, SHORT),
]
