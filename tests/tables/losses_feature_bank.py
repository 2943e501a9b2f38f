"""Rows of `jaxad.losses.feature_bank`. Queries are on all devices, the bank is shared out."""

import numpy as np

from jaxad.losses import feature_bank
from tables.row import Row

RNG = np.random.default_rng(0)
BANK = RNG.normal(size=(16, 5))
FEATURES = RNG.normal(size=(3, 5))
WHERE = np.arange(16) % 5 != 3
LABELS = np.arange(16) % 3
EXCLUDE = np.array([4, -1, 15])
TWINS = np.broadcast_to(BANK[:1], (16, 5))  # All cosines are equal.
BAD = [
    {"features": np.zeros((3, 5))},
    {"bank": np.zeros((16, 5))},
    {"where": np.zeros(16, bool)},
    {"where": np.arange(16) == 4},  # The first query has nothing left.
    {"features": 1e10 * FEATURES},
    {"features": TWINS[:3]},
    {"features": -TWINS[:3], "bank": TWINS},
]
ERRORS = [
    ({"features": np.ones(5)}, ValueError, r"features: .*\[Q, D\].*\(5,\)"),
    ({"bank": np.ones((16, 4))}, ValueError, r"bank: .*\(16, 5\).*\(16, 4\)"),
    ({"bank": np.ones((0, 5))}, ValueError, r"bank: .*\(1, 5\).*\(0, 5\)"),
    ({"where": np.ones(15, bool)}, ValueError, r"where: .*\(16,\).*\(15,\)"),
    ({"exclude": np.zeros(2, int)}, ValueError, r"exclude: .*\(3,\).*\(2,\)"),
    ({"features": np.ones((3, 5), int)}, TypeError, "features: expected a floating-point"),
    ({"block_size": 0}, ValueError, "block_size: expected an integer of at least 1"),
]


def row(function, error, arguments=None, differentiable=("features", "bank"), **options):
    arguments = arguments or {}
    name = options.pop("name", "")
    return Row(
        function,
        {"features": FEATURES, "bank": BANK, "where": WHERE, "exclude": EXCLUDE, **arguments},
        rows=("bank", "where", *(("labels",) if "labels" in arguments else ())),
        options=options,
        differentiable=differentiable,
        coupled=True,
        outputs="same",
        bfloat16=error,
        float32=error,
        bad=BAD,
        errors=ERRORS,
        name=name,
    )


ROWS = [
    row(feature_bank.mean_exp, 2e-6, temperature=0.5, block_size=3),
    row(feature_bank.mean_exp, 2e-5, name="default"),
    row(feature_bank.log_mean_exp, 2e-6, block_size=5),
    row(feature_bank.max_cosine, 2e-6, block_size=3),
    row(feature_bank.nearest, 2e-6, k=4, block_size=3),
    row(
        feature_bank.neighbour_votes,
        1e-5,
        {"labels": LABELS},
        classes=3,
        k=5,
        temperature=0.2,
        block_size=3,
    ),
]
