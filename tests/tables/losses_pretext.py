"""Rows of `jaxad.losses.pretext`."""

import numpy as np

from jaxad.losses import pretext
from tables.row import Row

rng = np.random.default_rng(0)
VALID = np.array([1, 1, 0, 1, 1, 1, 0, 1], bool)
LOGITS = rng.normal(size=(8, 2, 4))
STRONG = np.array([0, 1, 2, 3, 1, 0, 3, 2])
SATURATED = 1e4 * np.sign(LOGITS)
POSITIONS = rng.normal(size=(8, 8))
DIRECTION = np.array([7, 0, 3, 1, 6, 2, 5, 4])
LINEAR = {
    "inputs": rng.normal(size=(8, 3)),
    "kernel": rng.normal(size=(3, 4)),
    "bias": rng.normal(size=4),
}
LINEAR_BAD = [
    {"kernel": np.zeros((3, 4))},
    {"kernel": 1e-30 * LINEAR["kernel"]},
    {"kernel": 1e4 * LINEAR["kernel"]},
    {"inputs": np.zeros((8, 3))},
]
LINEAR_ERRORS = [
    ({"inputs": np.ones((8, 3), int)}, TypeError, "inputs: expected a floating"),
    ({"inputs": np.ones((8, 2))}, ValueError, r"kernel.*\(2, 4\).*\(3, 4\)"),
    ({"bias": np.ones(3)}, ValueError, r"bias.*\(4,\).*\(3,\)"),
]
CORNERS = {
    "first": np.array([[0, 3], [20, 4], [9, 9], [11, 0], [24, 20], [2, 30], [17, 5], [8, 8]]),
    "direction": DIRECTION,
    "jitter": rng.integers(0, 2, (8, 2)),
}
CORNER_ERRORS = [
    ({"direction": np.zeros(4, int)}, ValueError, r"direction.*\(8,\).*\(4,\)"),
    ({"jitter": np.zeros(8, int)}, ValueError, r"jitter.*\(8, 2\).*\(8,\)"),
    ({"patch_size": 1}, ValueError, "patch_size: expected an integer of at least 2, got 1"),
    ({"patch_size": 8.0}, TypeError, "patch_size: expected a Python integer"),
]
SMALL = ({"image_size": (32, 7)}, ValueError, r"image_size: .* at least 8 .*\(32, 7\)")
VALID_ERROR = ({"valid": np.ones(4, bool)}, ValueError, r"valid.*\(8,\).*\(4,\)")
LOGITS_TYPE = ({"logits": np.ones((8, 2, 4), int)}, TypeError, "logits: expected a floating")


def linear(function, differentiable):
    return Row(
        function,
        LINEAR,
        rows=("inputs",),
        differentiable=differentiable,
        float32=5e-7,
        bfloat16=5e-7,
        bad=LINEAR_BAD,
        errors=LINEAR_ERRORS,
    )


def sampler(function, too_small):
    return Row(
        function,
        {"keys": np.arange(8)},
        rows=("keys",),
        options={"image_size": (32, 40), "patch_size": 8},
        errors=[too_small, *CORNER_ERRORS[2:], ({"keys": np.array(3)}, ValueError, r"keys.*\[B\]")],
    )


ROWS = [
    Row(
        pretext.augmentation_classification,
        {"logits": LOGITS, "strong_id": STRONG, "valid": VALID},
        rows=("logits", "strong_id", "valid"),
        differentiable=("logits",),
        float32=5e-7,
        bfloat16=5e-7,
        bad=[
            {"logits": SATURATED},
            {"logits": np.zeros((8, 2, 4))},
            {"logits": np.where(VALID[:, None, None], LOGITS, np.nan)},
            {"strong_id": np.where(VALID, STRONG, 255)},
            {"valid": np.zeros(8, bool)},
        ],
        errors=[
            LOGITS_TYPE,
            ({"logits": LOGITS[:, 0]}, ValueError, r"logits.*\[B, V, K\].*\(8, 4\)"),
            ({"strong_id": STRONG[:4]}, ValueError, r"strong_id.*\(8,\).*\(4,\)"),
            VALID_ERROR,
        ],
    ),
    Row(
        pretext.augmentation_classification_released,
        {"logits": LOGITS, "strong_id": STRONG},
        rows=("logits", "strong_id"),
        differentiable=("logits",),
        coupled=True,
        float32=5e-7,
        bfloat16=5e-7,
        bad=[{"logits": SATURATED}],
        errors=[
            LOGITS_TYPE,
            ({"logits": LOGITS[:, 0]}, ValueError, r"logits.*\[B, V, K\].*\(8, 4\)"),
            ({"strong_id": STRONG[:4]}, ValueError, r"strong_id.*\(8,\).*\(4,\)"),
        ],
    ),
    Row(
        pretext.patch_position,
        {"logits": POSITIONS, "direction": DIRECTION, "valid": VALID},
        rows=("logits", "direction", "valid"),
        differentiable=("logits",),
        float32=5e-7,
        bfloat16=5e-7,
        bad=[
            {"logits": 1e4 * np.sign(POSITIONS)},
            {"logits": np.where(VALID[:, None], POSITIONS, np.nan)},
            {"valid": np.zeros(8, bool)},
        ],
        errors=[
            ({"logits": np.ones((8, 8), int)}, TypeError, "logits: expected a floating"),
            ({"logits": POSITIONS[:, :7]}, ValueError, r"logits.*\(8, 8\).*\(8, 7\)"),
            ({"direction": DIRECTION[:4]}, ValueError, r"direction.*\(8,\).*\(4,\)"),
            VALID_ERROR,
        ],
    ),
    linear(pretext.normalized_linear, ("inputs", "kernel", "bias")),
    linear(pretext.normalized_linear_released, ("inputs", "bias")),
    Row(
        pretext.neighbour_corner,
        CORNERS,
        rows=tuple(CORNERS),
        options={"patch_size": 8},
        errors=CORNER_ERRORS,
    ),
    Row(
        pretext.neighbour_corner_released,
        CORNERS,
        rows=tuple(CORNERS),
        options={"image_size": (32, 40), "patch_size": 8},
        errors=[*CORNER_ERRORS, SMALL],
    ),
    sampler(
        pretext.sample_neighbours,
        ({"image_size": (14, 40)}, ValueError, r"image_size: .* at least 15 .*\(14, 40\)"),
    ),
    sampler(pretext.sample_neighbours_released, SMALL),
]
