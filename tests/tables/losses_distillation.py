"""Rows of `jaxad.losses.distillation`."""

import numpy as np

from jaxad.losses import distillation
from tables.row import Row

RNG = np.random.default_rng(0)
LOGITS = RNG.uniform(-1.0, 1.0, (8, 4, 6))  # [B, V, K], cosines as the base head gives.
TEACHER = RNG.dirichlet(np.ones(6), (8, 2))  # [B, G, K]
CENTER = RNG.normal(size=6) / 8.0
VALID = np.array([1, 1, 0, 1, 1, 0, 1, 1], bool)
SATURATED = np.where(np.arange(6) == 2, 1e4, -1e4)
ONE_HOT = np.broadcast_to(np.eye(6)[2], (8, 2, 6))


def pairs(function, **options):
    return Row(
        function,
        {"logits": LOGITS, "probabilities": TEACHER},
        rows=("logits", "probabilities"),
        differentiable=("logits",),
        bfloat16=5e-6,
        float32=5e-6,
        bad=[
            {"logits": np.zeros((8, 4, 6))},
            {"logits": np.broadcast_to(SATURATED, (8, 4, 6))},
            {"logits": np.broadcast_to(-SATURATED, (8, 4, 6)), "probabilities": ONE_HOT},
        ],
        errors=[
            ({"logits": np.ones((8, 6))}, ValueError, r"logits: .*\[B, V, K\].*\(8, 6\)"),
            ({"logits": np.ones((8, 4, 6), int)}, TypeError, "logits: expected a floating-point"),
            (
                {"probabilities": np.ones((8, 2, 5))},
                ValueError,
                r"probabilities: .*\(8, 2, 6\).*\(8, 2, 5\)",
            ),
            ({"probabilities": np.ones((8, 5, 6))}, ValueError, "probabilities: .* got 5 and 4"),
            (
                {"probabilities": np.ones((8, 1, 6)), "logits": np.ones((8, 1, 6))},
                ValueError,
                "probabilities: .* got 1 and 1",
            ),
        ],
        **options,
    )


def negatives(function):
    return Row(
        function,
        {"logits": LOGITS},
        rows=("logits",),
        differentiable=("logits",),
        bfloat16=5e-6,
        float32=5e-6,
        bad=[
            {"logits": np.zeros((8, 4, 6))},
            {"logits": np.broadcast_to(SATURATED, (8, 4, 6))},
        ],
        errors=[
            ({"logits": np.ones((8, 6))}, ValueError, r"logits: .*\[B, V, K\].*\(8, 6\)"),
            ({"logits": np.ones((8, 4, 6), int)}, TypeError, "logits: expected a floating-point"),
        ],
    )


ROWS = [
    Row(
        distillation.teacher_probabilities,
        {"logits": LOGITS, "center": CENTER},
        rows=("logits",),
        options={"temperature": 0.04},
        bfloat16=2e-5,
        float32=2e-5,
        errors=[
            ({"center": np.ones(5)}, ValueError, r"center: .*\(6,\).*\(5,\)"),
            ({"logits": np.ones((8, 6), int)}, TypeError, "logits: expected a floating-point"),
        ],
    ),
    pairs(distillation.pair_cross_entropy),
    pairs(distillation.positive_views, options={"temperature": 0.2}),
    pairs(distillation.positive_views_mean),
    negatives(distillation.negative_views),
    negatives(distillation.negative_views_mean),
    Row(
        distillation.update_center,
        {"center": CENTER, "logits": LOGITS, "where": VALID},
        rows=("logits", "where"),
        coupled=True,
        outputs="same",
        bfloat16=2e-6,
        float32=2e-6,
        errors=[
            ({"center": np.ones(5)}, ValueError, r"center: .*\(6,\).*\(5,\)"),
            ({"where": np.ones(7, bool)}, ValueError, r"where: .*\(8,\).*\(7,\)"),
        ],
    ),
    Row(
        distillation.ema,
        {
            "average": {"kernel": LOGITS[0], "bias": CENTER, "count": np.int32(3)},
            "values": {"kernel": LOGITS[1], "bias": -CENTER, "count": np.int32(4)},
        },
        options={"momentum": 0.9},
        bfloat16=4e-3,  # The average keeps its type.
        float32=1e-6,
        outputs="same",
        errors=[
            ({"values": {"kernel": LOGITS[1]}}, ValueError, "values: expected the structure"),
            (
                {"values": {"kernel": LOGITS[1, 1:], "bias": -CENTER, "count": np.int32(4)}},
                ValueError,
                r"values\['kernel'\]: .*\(4, 6\).*\(3, 6\)",
            ),
        ],
    ),
    Row(
        distillation.ema,
        {"average": {"kernel": LOGITS[0]}, "values": {"kernel": LOGITS[1]}},
        options={"momentum": 0.5},
        differentiable=("average", "values"),
        bfloat16=4e-3,
        float32=1e-6,
        bad=[{"average": {"kernel": np.zeros((4, 6))}}],
        outputs="same",
        errors=[({"values": {"bias": LOGITS[1]}}, ValueError, "values: expected the structure")],
        name="gradient",
    ),
    Row(
        distillation.cosine_schedule,
        {"step": np.arange(12)},
        options={"base": 0.4, "final": 0.01, "steps": 10, "warmup_steps": 3, "start": 0.1},
        outputs="same",
        float32=1e-6,
        bfloat16=1e-6,
        errors=[
            ({"steps": 0}, ValueError, "steps: expected an integer of at least 1, got 0"),
            ({"warmup_steps": 10}, ValueError, "warmup_steps: .* from 0 to 9, got 10"),
        ],
    ),
    Row(
        distillation.linear_schedule,
        {"step": np.arange(12)},
        options={"start": 0.055, "end": 0.01, "steps": 8},
        outputs="same",
        float32=1e-6,
        bfloat16=1e-6,
        errors=[({"steps": 0}, ValueError, "steps: expected an integer of at least 1, got 0")],
    ),
    Row(
        distillation.occupied_dimensions,
        {"probabilities": TEACHER[:, 0], "where": VALID},
        rows=("probabilities", "where"),
        coupled=True,
        outputs="same",
        errors=[
            ({"probabilities": np.ones(8)}, ValueError, r"probabilities: .*\[B, K\].*\(8,\)"),
            ({"where": np.ones(7, bool)}, ValueError, r"where: .*\(8,\).*\(7,\)"),
        ],
    ),
]
