"""Rows of `jaxad.losses.mutual_information`."""

import numpy as np

from jaxad.losses import mutual_information
from tables.row import Row

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(8, 8, 2))  # [B, N, L]
JOINT, MARGINAL = RNG.normal(size=(2, 8, 3))
LOCAL, EMBEDDINGS = RNG.normal(size=(8, 3, 4)), RNG.normal(size=(8, 4))
VALID = np.array([1, 1, 0, 1, 1, 1, 0, 1], bool)
ALONE = np.arange(8) == 3
HOLES = np.where((VALID[:, None] & VALID)[..., None], SCORES, np.nan)


def pairs(function, **options):
    name = "-".join(str(value) for value in options.values())
    return Row(
        function,
        {"scores": SCORES, "valid": VALID},
        rows=("scores", "valid"),
        options=options,
        differentiable=("scores",),
        coupled=True,
        outputs="same",
        bfloat16=5e-6,
        float32=5e-6,
        bad=[
            {"scores": np.zeros((8, 8, 2))},
            {"scores": np.full((8, 8, 2), 1e4)},
            {"scores": 1e4 * np.sign(SCORES)},
            {"scores": -1e4 * (np.eye(8)[..., None] + np.zeros(2))},
            {"scores": HOLES},
            {"valid": ALONE},
            {"valid": np.zeros(8, bool)},
        ],
        errors=[
            ({"scores": np.ones((8, 7, 2))}, ValueError, r"scores: .*\(8, 8\).*\(8, 7\)"),
            ({"valid": np.ones(7, bool)}, ValueError, r"valid: .*\(8,\).*\(7,\)"),
            ({"scores": np.ones((8, 8, 2), int)}, TypeError, "scores: expected a floating-point"),
            (
                {"scores": np.ones((1, 1, 2)), "valid": np.ones(1, bool)},
                ValueError,
                "scores: expected at least 2 examples",
            ),
        ],
        name=name,
    )


def shifted(function):
    return Row(
        function,
        {"joint": JOINT, "marginal": MARGINAL, "valid": VALID},
        rows=("joint", "marginal", "valid"),
        differentiable=("joint", "marginal"),
        coupled=True,
        outputs="same",
        bfloat16=5e-6,
        float32=5e-6,
        bad=[
            {"joint": np.full((8, 3), 1e4), "marginal": np.full((8, 3), -1e4)},
            {"joint": np.full((8, 3), -1e4), "marginal": np.full((8, 3), 1e4)},
            {"joint": np.where(VALID[:, None], JOINT, np.nan)},
            {"marginal": np.where(VALID[:, None], JOINT, np.inf)},
            {"valid": np.zeros(8, bool)},
        ],
        errors=[
            ({"marginal": np.ones((8, 2))}, ValueError, r"marginal: .*\(8, 3\).*\(8, 2\)"),
            ({"valid": np.ones(7, bool)}, ValueError, r"valid: .*\(8,\).*\(7,\)"),
            ({"joint": np.ones((8, 3), int)}, TypeError, "joint: expected a floating-point"),
        ],
    )


ROWS = [
    Row(
        mutual_information.dot_scores,
        {"local": LOCAL, "embeddings": EMBEDDINGS},
        rows=("local", "embeddings"),
        differentiable=("local", "embeddings"),
        coupled=True,
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{"local": np.zeros((8, 3, 4))}],
        errors=[
            ({"local": np.ones((8, 4))}, ValueError, r"local: .*\[B, L, Z\].*\(8, 4\)"),
            ({"embeddings": np.ones((8, 5))}, ValueError, r"embeddings: .*\(8, 4\).*\(8, 5\)"),
        ],
    ),
    shifted(mutual_information.donsker_varadhan),
    shifted(mutual_information.jensen_shannon),
    pairs(mutual_information.donsker_varadhan_pairs),
    pairs(mutual_information.donsker_varadhan_pooled),
    pairs(mutual_information.jensen_shannon_pairs),
    pairs(mutual_information.info_nce),
    pairs(mutual_information.info_nce_released),
    pairs(mutual_information.info_nce)._replace(
        arguments={"scores": SCORES},
        rows=("scores",),
        bad=[{"scores": np.zeros_like(SCORES)}],
        errors=None,  # Those of the row before.
        name="all_rows",
    ),
    *(
        pairs(mutual_information.fenchel_dual, measure=measure)
        for measure in ("GAN", "JSD", "KL", "RKL", "H2", "X2")
    ),
]
ROWS[-1] = ROWS[-1]._replace(
    errors=[*ROWS[-1].errors, ({"measure": "W1"}, ValueError, "measure: expected one of .*'W1'")]
)
