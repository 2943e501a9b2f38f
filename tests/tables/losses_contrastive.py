"""Rows of `jaxad.losses.contrastive`."""

import numpy as np

from jaxad.losses import contrastive
from tables.row import Row

FEATURES = np.random.default_rng(0).normal(size=(8, 3))
FEATURES /= np.linalg.norm(FEATURES, axis=-1, keepdims=True)
OTHER = ~np.eye(8, dtype=bool)
POSITIVE = OTHER & (np.random.default_rng(1).random((8, 8)) < 0.3)
DENOMINATOR = OTHER & (POSITIVE | (np.random.default_rng(2).random((8, 8)) < 0.6))
SCALE = np.random.default_rng(3).uniform(1, 5, (8, 8))
NONE = np.zeros((8, 8), bool)
UNUSED = np.where(np.arange(8)[:, None] == 5, np.nan, FEATURES)

VIEWS = np.random.default_rng(4).normal(size=(8, 2, 3))
VIEWS /= np.linalg.norm(VIEWS, axis=-1, keepdims=True)
VALID = np.array([1, 1, 0, 1, 1, 1, 0, 1], bool)
PADDED = np.where(VALID[:, None, None], VIEWS, np.nan)
BAD_VIEWS = [
    {"features": np.zeros((8, 2, 3))},
    {"features": np.ones((8, 2, 3))},
    {"features": 1e4 * VIEWS},
    {"features": -1e4 * np.repeat(VIEWS[:, :1], 2, axis=1)},
    {"features": PADDED},
    {"valid": np.zeros(8, bool)},
    {"valid": np.eye(8, dtype=bool)[3]},
]
VALID_ERROR = ({"valid": np.ones(4, bool)}, ValueError, r"valid.*\(8,\).*\(4,\)")
WRONG_TYPE = ({"features": np.ones((8, 2, 3), int)}, TypeError, "features: expected a floating")


def masked_info_nce(scale, name):
    return Row(
        contrastive.masked_info_nce,
        {
            "features": FEATURES,
            "positive": POSITIVE,
            "denominator": DENOMINATOR,
            "anchor": np.arange(8) != 5,
            "denominator_scale": scale,
        },
        rows=("features", "positive", "denominator", "anchor")
        + (() if scale is None else ("denominator_scale",)),
        options={"temperature": 0.3},
        differentiable=("features",),
        coupled=True,
        float32=5e-7,
        bfloat16=5e-7,
        bad=[
            {"features": np.zeros((8, 3))},
            {"features": np.ones((8, 3))},
            {"features": 1e4 * FEATURES},
            {"positive": NONE},
            {"denominator": NONE},
            {"positive": NONE, "denominator": NONE},
            {"anchor": np.zeros(8, bool)},
            # A NaN that no anchor looks at.
            {"features": UNUSED, "positive": POSITIVE & (np.arange(8) != 5)}
            | {"denominator": DENOMINATOR & (np.arange(8) != 5)},
        ],
        errors=[
            ({"features": np.ones((8, 3), int)}, TypeError, "features: expected a floating"),
            ({"features": np.ones((2, 4, 3))}, ValueError, r"features.*\[R, D\].*\(2, 4, 3\)"),
            ({"positive": NONE[:, :4]}, ValueError, r"positive.*\(8, 8\).*\(8, 4\)"),
            ({"denominator": NONE[:4]}, ValueError, r"denominator.*\(8, 8\).*\(4, 8\)"),
            ({"anchor": NONE[0, :4]}, ValueError, r"anchor.*\(8,\).*\(4,\)"),
            ({"denominator_scale": SCALE[:3]}, ValueError, r"denominator_scale.*\(8, 8\).*\(3, 8"),
        ],
        name=name,
    )


def of_views(function):
    return Row(
        function,
        {"features": VIEWS, "valid": VALID},
        rows=("features", "valid"),
        differentiable=("features",),
        coupled=True,
        float32=5e-7,
        bfloat16=5e-7,
        bad=BAD_VIEWS,
        errors=[
            WRONG_TYPE,
            ({"features": np.ones((8, 3))}, ValueError, r"features.*\[B, 2, D\].*\(8, 3\)"),
            ({"features": np.ones((8, 3, 4))}, ValueError, r"features.*\(8, 2, 4\).*\(8, 3, 4\)"),
            VALID_ERROR,
        ],
    )


ROWS = [
    masked_info_nce(None, "one_temperature"),
    masked_info_nce(SCALE, "scale_per_pair"),
    of_views(contrastive.nt_xent),
    of_views(contrastive.contrastive_distribution_released),
    Row(
        contrastive.supervised_contrastive,
        {"features": VIEWS, "labels": np.array([0, 1, 1, 2, 0, 1, 2, 3]), "valid": VALID},
        rows=("features", "labels", "valid"),
        differentiable=("features",),
        coupled=True,
        float32=5e-7,
        bfloat16=5e-7,
        bad=[*BAD_VIEWS, {"features": VIEWS[:, :1], "labels": np.arange(8)}],
        errors=[
            WRONG_TYPE,
            ({"labels": np.zeros(4, int)}, ValueError, r"labels.*\(8,\).*\(4,\)"),
            VALID_ERROR,
        ],
    ),
]
