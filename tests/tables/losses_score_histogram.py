"""Rows of `jaxad.losses.score_histogram`."""

import numpy as np

from jaxad.losses import score_histogram
from tables.row import Row

SCORES = np.random.default_rng(0).normal(size=(8, 6))
TRUTH = np.random.default_rng(1).random((8, 6)) < 0.4
WHERE = np.random.default_rng(2).random((8, 6)) < 0.7
STATE = score_histogram.ScoreHistogram(np.arange(64).reshape(2, 32), np.array(3))
INTEGERS = ({"scores": np.ones((8, 6), int)}, TypeError, "scores: expected a floating-point")
BINS = [
    ({"bins": 100}, ValueError, "bins: expected a power of two, 2 to 2\\^24, got 100"),
    ({"bins": 2**25}, ValueError, "bins: expected a power of two"),
]

HOST = {score_histogram.zero: "Takes no arrays."}

ROWS = [
    Row(
        score_histogram.score_bins,
        {"scores": SCORES},
        rows=("scores",),
        errors=[INTEGERS, *BINS],
    ),
    Row(
        score_histogram.add,
        {"state": STATE, "scores": SCORES, "truth": TRUTH, "where": WHERE},
        rows=("scores", "truth", "where"),
        coupled=True,
        outputs="same",
        errors=[
            INTEGERS,
            ({"truth": np.zeros((8, 5))}, ValueError, r"truth.*\(8, 6\).*\(8, 5\)"),
            ({"where": np.zeros((8, 5))}, ValueError, r"where.*\(8, 6\).*\(8, 5\)"),
            (
                {"state": STATE._replace(counts=np.zeros((3, 32), int))},
                ValueError,
                r"state.*\(2, 32\).*\(3, 32\)",
            ),
        ],
    ),
]
