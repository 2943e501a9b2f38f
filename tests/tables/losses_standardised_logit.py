"""Rows of `jaxad.losses.standardised_logit`."""

import numpy as np

from jaxad.losses import standardised_logit as sml
from tables.row import Row

RNG = np.random.default_rng(15)
LOGITS = 2.0 * RNG.normal(size=(8, 6, 3))
WHERE = RNG.random((8, 6)) < 0.8
CLASSES = np.repeat(np.repeat(RNG.integers(0, 3, size=(8, 3, 3)), 3, axis=1), 3, axis=2)
SCORES = RNG.normal(size=(8, 9, 9))
SUMS = sml.MaxLogitSums(np.array([4.0, 0.0, 7.0]), np.array([1.5, 0.0, 2.0]), np.array([3.0, 0, 5]))
OTHERS = sml.MaxLogitSums(np.array([2.0, 3, 0]), np.array([2.5, 1.0, 0.0]), np.array([1.0, 2, 0]))
STATISTICS = sml.MaxLogitStatistics(np.array([1.5, 0, 2]), np.array([0.5, 1, 2]), np.ones(3) * 9)
NO_VARIANCE = STATISTICS._replace(variance=np.zeros(3))
SHORT = sml.MaxLogitSums(*(np.ones(2) for _ in range(3)))
WRONG_CLASSES = [
    ({"classes": CLASSES[:, :8]}, ValueError, r"classes.*\(8, 9, 9\).*\(8, 8, 9\)"),
    ({"classes": CLASSES * 1.0}, TypeError, "classes: expected an integer array"),
    ({"iterations": 3}, ValueError, "width: expected a multiple of iterations=3, got 4"),
    ({"iterations": 0}, ValueError, "iterations: expected an integer of at least 1"),
]


def map_filter(function, **options):
    return Row(
        function,
        {"scores": SCORES, "classes": CLASSES},
        rows=("scores", "classes"),
        options=options,
        differentiable=("scores",),
        bfloat16=2e-6,
        float32=2e-6,
        bad=[
            {"classes": np.zeros((8, 9, 9), int)},
            {"classes": np.indices((8, 9, 9)).sum(0) % 2},  # All is boundary.
            {"scores": np.full((8, 9, 9), -1e8)},
        ],
        errors=[
            *WRONG_CLASSES,
            ({"scores": np.ones((8, 9, 9), int)}, TypeError, "scores: expected a floating-point"),
        ],
    )


ROWS = [
    Row(
        sml.add,
        {"sums": SUMS, "logits": LOGITS, "where": WHERE},
        rows=("logits", "where"),
        coupled=True,
        outputs="same",
        bfloat16=2e-6,
        float32=2e-6,
        errors=[
            ({"sums": SHORT}, ValueError, r"sums.*\(3,\).*\(2,\)"),
            ({"logits": np.ones((8, 6, 3), int)}, TypeError, "logits: expected a floating-point"),
            ({"where": WHERE[:7]}, ValueError, r"where.*\(8, 6\).*\(7, 6\)"),
        ],
    ),
    Row(
        sml.merge,
        {"sums": SUMS, "others": OTHERS},
        bfloat16=1e-6,
        float32=1e-6,
        errors=[({"others": SHORT}, ValueError, r"others.*\(3,\).*\(2,\)")],
    ),
    Row(
        sml.finish,
        {"sums": SUMS},
        bfloat16=1e-6,
        float32=1e-6,
        errors=[
            (
                {"sums": sml.MaxLogitSums(*(np.ones((2, 2)) for _ in range(3)))},
                ValueError,
                r"sums: expected axes \[K\], got \(2, 2\)",
            )
        ],
    ),
    Row(
        sml.standardised_max_logit,
        {"logits": LOGITS, "statistics": STATISTICS},
        rows=("logits",),
        differentiable=("logits",),
        bfloat16=2e-6,
        float32=2e-6,
        bad=[
            {"logits": np.zeros((8, 6, 3))},
            {"logits": 1e4 * np.sign(LOGITS)},
            {"statistics": NO_VARIANCE},
        ],
        errors=[
            ({"logits": np.ones((8, 6, 4))}, ValueError, r"statistics.*\(4,\).*\(3,\)"),
            ({"logits": np.ones((8, 6, 3), int)}, TypeError, "logits: expected a floating-point"),
        ],
    ),
    Row(
        sml.boundary,
        {"classes": CLASSES},
        rows=("classes",),
        errors=[
            ({"classes": CLASSES * 1.0}, TypeError, "classes: expected an integer array"),
            ({"classes": CLASSES[0, 0]}, ValueError, r"classes: .*\[..., H, W\], got \(9,\)"),
        ],
    ),
    map_filter(sml.suppress_boundary),
    map_filter(sml.refine, dilation=2),
]
HOST = {sml.zero: "makes the state from Python numbers: no array goes in"}
