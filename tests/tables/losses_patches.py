"""Rows of `jaxad.losses.patches`."""

import numpy as np

from jaxad.losses import patches
from tables.row import Row

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(8, 6, 5, 2))
MAPS = RNG.normal(size=(8, 6, 3, 3))  # 3 x 2 patches of 3 x 3.
SIZES = {"image_size": (6, 5), "stride": 2}
ERRORS = [
    ({"patches": np.ones((8, 6, 3, 3), int)}, TypeError, "patches: expected a floating-point"),
    ({"patches": MAPS[:, :5]}, ValueError, r"patches: expected 6 of each .*\(8, 5, 3, 3\)"),
    ({"patches": MAPS[..., :2]}, ValueError, r"patches: expected \[B, P, size, size\].*\(8, 6"),
    ({"stride": 4}, ValueError, "stride: expected at most 3, the size of a patch, got 4"),
]


def fold(function, name, maps):
    return Row(
        function,
        {"patches": maps},
        rows=("patches",),
        options=SIZES,
        differentiable=("patches",),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{"patches": np.zeros_like(maps)}],
        errors=ERRORS,
        name=name,
    )


ROWS = [
    Row(
        patches.extract_patches,
        {"images": IMAGES},
        rows=("images",),
        options={"size": 3, "stride": 2},
        differentiable=("images",),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{"images": np.zeros_like(IMAGES)}],
        errors=[
            ({"images": IMAGES[0]}, ValueError, r"images: expected axes \[B, H, W, C\]"),
            ({"size": 6}, ValueError, "size: expected at most 5, .*got 6"),
            ({"stride": 4}, ValueError, "stride: expected at most 3, .*got 4"),
        ],
    ),
    fold(patches.fold_sum, "maps", MAPS),
    fold(patches.fold_sum, "channels", RNG.normal(size=(8, 6, 3, 3, 2))),
    fold(patches.fold_mean, "maps", MAPS),
]
HOST = {
    patches.overlap_counts: "makes a NumPy array of static numbers",
    patches.patch_starts: "makes a NumPy array of static numbers",
}
