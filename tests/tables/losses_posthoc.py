"""Rows of `jaxad.losses.posthoc`."""

import numpy as np

from jaxad.losses import posthoc
from tables.row import Row

LOGITS = 2.0 * np.random.default_rng(13).normal(size=(8, 2, 5))


def score(function, *errors):
    return Row(
        function,
        {"logits": LOGITS},
        rows=("logits",),
        differentiable=("logits",),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[
            {"logits": np.zeros((8, 2, 5))},
            {"logits": 1e4 * np.sign(LOGITS)},
            {"logits": np.where(LOGITS > 1.0, -np.inf, LOGITS)},
        ],
        errors=[
            ({"logits": np.ones((8, 5), int)}, TypeError, "logits: expected a floating-point"),
            *errors,
        ],
    )


ROWS = [
    score(posthoc.odds),
    score(posthoc.max_softmax),
    score(posthoc.max_logit),
    score(
        posthoc.probability_margin,
        ({"logits": np.ones((8, 1))}, ValueError, r"logits: .*2 classes, got \(8, 1\)"),
    ),
]
