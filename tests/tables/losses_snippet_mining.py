"""Rows of `jaxad.losses.snippet_mining`."""

import numpy as np

from jaxad.losses import snippet_mining
from tables.row import Row

RNG = np.random.default_rng(0)
SCORES = RNG.uniform(0.1, 0.9, (8, 12))
WHERE = np.arange(12) < RNG.integers(4, 13, (8, 1))
POSITIVE = RNG.random((8, 12)) < 0.7
SETS = {name: RNG.random((8, 3)) < 0.5 for name in ("hard", "easy", "negatives")}
EMBEDDINGS = RNG.normal(size=(8, 3, 4)) / 2
NONE = np.zeros((8, 3), bool)
FEATURES = {"hard": RNG.normal(size=(8, 2, 4)), "easy": RNG.normal(size=(8, 3, 4))}
FEATURES["negatives"] = RNG.normal(size=(8, 5, 4))
SCALAR = ({"positive": np.array(True)}, ValueError, r"positive: expected \[..., T\]")


def selection(function, given, errors, **options):
    return Row(function, given, rows=tuple(given), options=options, errors=errors)


ROWS = [
    selection(
        snippet_mining.binarise,
        {"scores": SCORES, "where": WHERE},
        [
            ({"scores": np.ones((8, 12), int)}, TypeError, "scores: expected a floating-point"),
            ({"where": np.ones((8, 5), bool)}, ValueError, r"where: .*\(8, 12\).*\(8, 5\)"),
        ],
    ),
    selection(snippet_mining.temporal_edges, {"positive": POSITIVE}, [SCALAR]),
    selection(snippet_mining.temporal_edges_released, {"positive": POSITIVE}, [SCALAR]),
    selection(snippet_mining.outer_ring_released, {"positive": POSITIVE}, [SCALAR]),
    selection(
        snippet_mining.missed_snippets,
        {"positive": POSITIVE, "where": WHERE},
        [
            ({"window": 0}, ValueError, "window: expected an integer of at least 1, got 0"),
            ({"required": 2.0}, TypeError, "required: expected a Python integer"),
        ],
        window=4,
        required=3,
    ),
    selection(
        snippet_mining.missed_snippets_released,
        {"positive": POSITIVE},
        [({"window": 0}, ValueError, "window: expected an integer of at least 1, got 0")],
        window=4,
        required=3,
    ),
    selection(
        snippet_mining.highest,
        {"scores": SCORES, "where": WHERE},
        [({"k": 0}, ValueError, "k: expected")],
        k=3,
    ),
    selection(
        snippet_mining.lowest,
        {"scores": SCORES, "where": WHERE},
        [({"k": 0}, ValueError, "k: expected")],
        k=3,
    ),
    Row(
        snippet_mining.contrast,
        {"embeddings": EMBEDDINGS, **SETS},
        rows=("embeddings", "hard", "easy", "negatives"),
        options={"temperature": 0.5},
        differentiable=("embeddings",),
        coupled=True,
        outputs="same",
        bad=[
            {"embeddings": np.zeros((8, 3, 4))},
            {"embeddings": np.full((8, 3, 4), 1e4)},
            {"negatives": NONE},
            {"hard": NONE},
            {
                "embeddings": np.full((8, 3, 4), np.nan),
                "hard": NONE,
                "easy": NONE,
                "negatives": NONE,
            },
        ],
        errors=[
            ({"hard": NONE[:, :2]}, ValueError, r"hard: .*\(8, 3\).*\(8, 2\)"),
            ({"embeddings": np.ones((8, 3))}, ValueError, r"embeddings: .*\[B, T, C\].*\(8, 3\)"),
        ],
    ),
    Row(
        snippet_mining.contrast_released,
        FEATURES,
        rows=("hard", "easy", "negatives"),
        options={"temperature": 0.5},
        differentiable=("hard", "easy", "negatives"),
        bad=[{"hard": np.zeros((8, 2, 4))}, {"negatives": np.zeros((8, 5, 4))}],
        errors=[
            ({"easy": np.ones((8, 3, 5))}, ValueError, r"easy: .*\(8, 4\).*\(8, 5\)"),
            ({"hard": np.ones((8, 2, 4), int)}, TypeError, "hard: expected a floating-point"),
        ],
    ),
]
