"""Rows of `jaxad.losses.cross_entropy`."""

import numpy as np

from jaxad.losses import cross_entropy
from tables.row import Row

RNG = np.random.default_rng(0)
LOGITS = 2.0 * RNG.normal(size=(8, 3, 4))
LABELS = RNG.integers(0, 4, (8, 3))
WHERE = RNG.random((8, 3)) < 0.7
VOID = np.where(WHERE, LABELS, 255)
ERRORS = [
    ({"labels": LABELS[:, :2]}, ValueError, r"labels.*\(8, 3\).*\(8, 2\)"),
    ({"where": WHERE[:, :2]}, ValueError, r"where.*\(8, 3\).*\(8, 2\)"),
]
SATURATED = 1e4 * np.sign(LOGITS)


def row(function, name, *, more=None, bad=(), errors=(), **options):
    more = more or {}
    return Row(
        function,
        {name: LOGITS, **more, "labels": VOID, "where": WHERE},
        rows=(name, *more, "labels", "where"),
        differentiable=(name, *more),
        bad=[{name: SATURATED}, {"where": np.zeros((8, 3), bool)}, *bad],
        errors=[
            *ERRORS,
            ({name: np.ones((8, 3, 4), int)}, TypeError, f"{name}: expected a floating-point"),
            *errors,
        ],
        **options,
    )


ROWS = [
    row(cross_entropy.select_class, "values", float32=1e-7, bfloat16=1e-7),
    row(cross_entropy.softmax_cross_entropy, "logits", float32=1e-6, bfloat16=1e-6),
    row(
        cross_entropy.mean_cross_entropy,
        "logits",
        coupled=True,
        outputs="same",
        float32=1e-6,
        bfloat16=1e-6,
    ),
    row(
        cross_entropy.deeply_supervised_cross_entropy,
        "logits",
        more={"auxiliary_logits": LOGITS[::-1] / 2},
        errors=[({"auxiliary_logits": LOGITS[:, :2]}, ValueError, "auxiliary_logits.*3, 4.*2, 4")],
        options={"auxiliary_weight": 0.3},
        coupled=True,
        outputs="same",
        float32=1e-6,
        bfloat16=1e-6,
    ),
]
