"""Rows of `jaxad.augment.scene_crops`."""

import numpy as np

from jaxad.augment import scene_crops
from tables.row import Row

RNG = np.random.default_rng(0)
IMAGES, KEYS = RNG.random((8, 7, 9, 2)), np.arange(8)
LABELS = RNG.integers(0, 19, (8, 7, 9)).astype(np.uint8)
SCALES = RNG.uniform(0.4, 1.5, 8)
CROP = scene_crops.Crop(KEYS % 2 == 0, SCALES, RNG.integers(-2, 3, (8, 2)))
SHORT = ({"keys": KEYS[:4]}, ValueError, r"keys.*\(8,\).*\(4,\)")
FLOATS = ({"labels": LABELS.astype(float)}, TypeError, "labels.*integers.*float32")
CHANCE = ({"flip": 1.5}, ValueError, r"probability.*\[0, 1\].*1.5")
SIZE = ({"size": (4, -1)}, ValueError, "size.*at least 1.*-1")


def row(function, given, *errors, **options):
    return Row(
        function,
        given,
        rows=tuple(given),
        bfloat16=4e-3,
        float32=4e-6,
        errors=[*errors],
        options=options,
    )


SCENES = {"keys": KEYS, "images": IMAGES, "labels": LABELS}
DRAWN = {"keys": KEYS, "scales": SCALES}
SCALED = ({"scales": SCALES[:2]}, ValueError, r"scales.*\(8,\).*\(2,\)")

ROWS = [
    row(
        scene_crops.scale_and_crop,
        {"images": IMAGES, "labels": LABELS, "crop": CROP},
        FLOATS,
        SIZE,
        size=(5, 6),
    ),
    row(
        scene_crops.scale_and_crop_smoothed,
        {"images": IMAGES, "labels": LABELS, "crop": CROP},
        FLOATS,
        SIZE,
        size=(5, 6),
    ),
    row(scene_crops.draw_centred, DRAWN, SCALED, SIZE, shape=(7, 9), size=(5, 6)),
    row(scene_crops.draw_surrounded, DRAWN, SCALED, SIZE, shape=(7, 9), size=(5, 6)),
    row(
        scene_crops.random_scale_range,
        SCENES,
        SHORT,
        FLOATS,
        CHANCE,
        ({"scales": (2.0, 1.0)}, ValueError, r"scales.*\(2.0, 1.0\)"),
        size=(5, 6),
    ),
    row(
        scene_crops.random_scale_choice,
        SCENES,
        SHORT,
        CHANCE,
        ({"scales": ()}, ValueError, "scales.*positive"),
        size=(5, 6),
    ),
    row(scene_crops.random_crop_or_scale, SCENES, SHORT, FLOATS, SIZE, size=(5, 6)),
    row(scene_crops.random_crop_or_scale, SCENES, SHORT, size=(8, 6))._replace(name="short"),
    row(scene_crops.random_crop_or_squash, SCENES, SHORT, FLOATS, SIZE, size=(5, 6)),
    row(scene_crops.random_crop_or_squash, SCENES, SHORT, size=(8, 6))._replace(name="short"),
]
