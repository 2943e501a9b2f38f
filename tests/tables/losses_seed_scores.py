"""Rows of `jaxad.losses.seed_scores`; its first axis counts seeds: there are no rows to share."""

from functools import partial

import numpy as np

from jaxad.losses import seed_scores, similarity_losses
from tables.row import Row

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(2, 6, 6, 2))
OTHERS = RNG.uniform(size=(3, 2, 6, 6, 2))
OPTIONS = {"data_range": 1.0, "window": 3, "weights": (0.4, 0.6)}
BAD = [
    {"reconstructions": np.stack([IMAGES] * 3)},
    {"images": np.zeros_like(IMAGES), "reconstructions": np.ones_like(OTHERS)},
    {"images": np.zeros_like(IMAGES), "reconstructions": np.zeros_like(OTHERS)},
]
ERRORS = [
    ({"images": np.ones((2, 6, 6, 2), int)}, TypeError, "images: expected a floating-point"),
    (
        {"reconstructions": OTHERS[:, :1]},
        ValueError,
        r"reconstructions: expected shape \(3, 2, 6, 6, 2\), got \(3, 1, 6, 6, 2\)",
    ),
    ({"reconstructions": OTHERS[:0]}, ValueError, r"reconstructions: .*got \(0, 2, 6, 6, 2\)"),
    ({"data_range": 0.0}, ValueError, "data_range: expected a number above 0, got 0.0"),
]
SCORES = RNG.uniform(size=(3, 2, 4))
POOL_ERRORS = [
    ({"patch_scores": np.ones((3, 2, 4), int)}, TypeError, "patch_scores: expected a floating"),
    ({"patch_scores": SCORES[0]}, ValueError, r"patch_scores: expected axes \[S, B, N\]"),
    ({"patch_scores": SCORES[:0]}, ValueError, r"patch_scores: expected a seed, got \(0, 2, 4\)"),
]


def pool(function, errors=(), **given):
    return Row(
        function,
        {"patch_scores": SCORES, **given},
        differentiable=("patch_scores",),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{"patch_scores": np.zeros_like(SCORES)}],
        errors=[*POOL_ERRORS, *errors],
    )


REMOVED = RNG.random((3, 2, 4)) < 0.5
SHAPE = ({"removed": REMOVED[:2]}, ValueError, r"removed: .*\(3, 2, 4\), got \(2, 2, 4\)")

ROWS = [
    Row(
        seed_scores.multi_seed_scores,
        {"images": IMAGES, "reconstructions": OTHERS, "channel_weights": np.array([0.3, 0.6])},
        options={**OPTIONS, "patch_size": 3},
        differentiable=("images", "reconstructions"),
        bfloat16=1e-5,
        bad=BAD,
        errors=[
            *ERRORS,
            ({"patch_size": 4}, ValueError, "expected sides that are multiples of 4, got 6 x 6"),
        ],
    ),
    Row(
        seed_scores.multi_seed_scores_of,
        {"images": IMAGES, "reconstructions": OTHERS},
        options={
            "measure": partial(similarity_losses.mae_ms_ssim_map, **OPTIONS),
            "patch_size": 3,
        },
        differentiable=("images", "reconstructions"),
        bfloat16=1e-5,
        bad=BAD,
        errors=[
            *ERRORS[:3],
            ({"patch_size": 4}, ValueError, "expected sides that are multiples of 4, got 6 x 6"),
            (
                {"measure": lambda x, y: x - y},
                ValueError,
                r"measure: .*\(2, 6, 6\).*\(2, 6, 6, 2\)",
            ),
        ],
    ),
    Row(
        seed_scores.product_scores,
        {"images": IMAGES, "reconstructions": OTHERS},
        options=OPTIONS,
        differentiable=("images", "reconstructions"),
        bfloat16=1e-5,
        bad=BAD,
        errors=ERRORS,
    ),
    pool(seed_scores.pool_mean),
    pool(seed_scores.pool_largest),
    pool(seed_scores.pool_removed_mean, [SHAPE], removed=REMOVED),
]
