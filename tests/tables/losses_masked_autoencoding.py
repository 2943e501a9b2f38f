"""Rows of `jaxad.losses.masked_autoencoding`."""

import numpy as np

from jaxad.losses import masked_autoencoding
from tables.row import Row

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(8, 4, 6, 2))
PATCHES = RNG.normal(size=(8, 6, 3))
OTHERS = RNG.normal(size=(8, 6, 3))
REMOVED = RNG.random((8, 6)) < 0.6
NOISE = RNG.permutation(48).reshape(8, 6) / 64.0
INTEGERS = np.ones((8, 6, 3), int)
EXACT = {"bfloat16": 1e-6, "float32": 1e-6}
SIDES = ({"patch_size": 3}, ValueError, "expected sides that are multiples of 3, got 4 x 6")
TWO = {"patch_size": 2}

ROWS = [
    Row(
        masked_autoencoding.patchify,
        {"images": IMAGES},
        rows=("images",),
        options=TWO,
        differentiable=("images",),
        bad=[{"images": np.zeros_like(IMAGES)}],
        errors=[
            SIDES,
            ({"patch_size": 0}, ValueError, "patch_size: expected an integer of at least 1"),
            ({"images": IMAGES[0, 0]}, ValueError, r"images: expected .*got \(6, 2\)"),
        ],
        **EXACT,
    ),
    Row(
        masked_autoencoding.unpatchify,
        {"patches": RNG.normal(size=(8, 6, 8))},
        rows=("patches",),
        options={**TWO, "image_size": (4, 6)},
        differentiable=("patches",),
        bad=[{"patches": np.zeros((8, 6, 8))}],
        errors=[
            SIDES,
            ({"patches": PATCHES}, ValueError, r"patches: expected \[..., 6, 4 .*\(8, 6, 3\)"),
        ],
        **EXACT,
    ),
    Row(
        masked_autoencoding.masks_from_noise,
        {"noise": NOISE},
        rows=("noise",),
        options={"ratio": 0.5},
        errors=[
            ({"ratio": 0.9}, ValueError, "ratio: expected to keep one of 6 patches, got 0.9"),
            ({"noise": np.ones((8, 6), int)}, TypeError, "noise: expected a floating-point"),
            ({"noise": np.array(0.5)}, ValueError, r"noise: expected axes \[..., N\]"),
        ],
    ),
    Row(
        masked_autoencoding.random_masks,
        {"keys": np.arange(8)},
        rows=("keys",),
        options={"patches": 6, "ratio": 0.5},
        errors=[
            ({"ratio": 1.0}, ValueError, r"ratio: expected a number in \[0, 1\), got 1.0"),
            ({"patches": 0}, ValueError, "patches: expected an integer of at least 1, got 0"),
        ],
    ),
    Row(
        masked_autoencoding.take_patches,
        {"tokens": PATCHES, "indices": np.argsort(NOISE)[:, :4]},
        rows=("tokens", "indices"),
        differentiable=("tokens",),
        bad=[{"tokens": np.zeros_like(PATCHES)}],
        errors=[
            (
                {"indices": np.zeros((4, 2), int)},
                ValueError,
                r"indices: expected shape \(8,\), got \(4,\)",
            )
        ],
        **EXACT,
    ),
    Row(
        masked_autoencoding.standardize_patches,
        {"patches": PATCHES},
        rows=("patches",),
        differentiable=("patches",),
        bfloat16=1e-5,
        bad=[{"patches": np.zeros_like(PATCHES)}, {"patches": 1e4 * PATCHES}],
        errors=[
            ({"patches": INTEGERS}, TypeError, "patches: expected a floating-point"),
            ({"patches": PATCHES[..., :1]}, ValueError, "patches: expected at least 2 entries"),
        ],
    ),
    Row(
        masked_autoencoding.patch_mse,
        {"predictions": PATCHES, "targets": OTHERS},
        rows=("predictions", "targets"),
        differentiable=("predictions", "targets"),
        bad=[{"predictions": OTHERS}, {"predictions": 1e4 * PATCHES}],
        errors=[
            ({"predictions": INTEGERS}, TypeError, "predictions: expected a floating-point"),
            ({"targets": OTHERS[:4]}, ValueError, r"targets: .*\(8, 6, 3\), got \(4, 6, 3\)"),
        ],
        **EXACT,
    ),
    Row(
        masked_autoencoding.masked_patch_mse,
        {"predictions": PATCHES, "targets": OTHERS, "removed": REMOVED},
        rows=("predictions", "targets", "removed"),
        differentiable=("predictions", "targets"),
        coupled=True,
        outputs="same",
        bad=[
            {"removed": np.zeros((8, 6), bool)},
            {"predictions": OTHERS},
            {"predictions": np.where(REMOVED[..., None], PATCHES, np.nan)},
        ],
        errors=[
            ({"predictions": INTEGERS}, TypeError, "predictions: expected a floating-point"),
            ({"targets": OTHERS[:4]}, ValueError, r"targets: .*\(8, 6, 3\), got \(4, 6, 3\)"),
            ({"removed": REMOVED[:, :5]}, ValueError, r"removed: .*\(8, 6\), got \(8, 5\)"),
        ],
        **EXACT,
    ),
    Row(
        masked_autoencoding.paste_kept,
        {"images": IMAGES, "predictions": -IMAGES, "removed": REMOVED},
        rows=("images", "predictions", "removed"),
        options=TWO,
        differentiable=("images", "predictions"),
        bad=[{"removed": np.zeros((8, 6), bool)}],
        errors=[
            SIDES,
            ({"removed": REMOVED[:, :5]}, ValueError, r"removed: .*\(8, 6\), got \(8, 5\)"),
            ({"predictions": IMAGES[:4]}, ValueError, r"predictions: .*got \(4, 4, 6, 2\)"),
        ],
        **EXACT,
    ),
    Row(
        masked_autoencoding.patch_means,
        {"maps": IMAGES[..., 0]},
        rows=("maps",),
        options=TWO,
        differentiable=("maps",),
        bad=[{"maps": np.zeros((8, 4, 6))}],
        errors=[
            SIDES,
            ({"maps": np.ones((8, 4, 6), int)}, TypeError, "maps: expected a floating-point"),
        ],
        **EXACT,
    ),
]
HOST = {
    masked_autoencoding.kept_count: "a Python integer from static numbers",
    masked_autoencoding.position_table: "makes a NumPy array of static numbers",
}
