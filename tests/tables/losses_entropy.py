"""Rows of `jaxad.losses.entropy`."""

import numpy as np

from jaxad.losses import entropy
from tables.row import Row

RNG = np.random.default_rng(14)
LOGITS = 2.0 * RNG.normal(size=(8, 3, 4, 5))
PASSES = 2.0 * RNG.normal(size=(3, 8, 5))
P = 0.8 * RNG.dirichlet(np.ones(5), size=(8, 2)) + 0.04  # The slope of p log p is steep at 0.
SETS = RNG.integers(0, 3, size=(8, 3, 4))  # 0 inlier, 1 outlier, 2 void.
INLIER, OUTLIER = SETS == 0, SETS == 1
LABELS = np.where(INLIER, RNG.integers(0, 5, size=(8, 3, 4)), 255)
PROXY = np.array([0, 1, 0, 0, 1, 0, 0, 1], bool)
VALID = np.array([1, 1, 1, 1, 1, 0, 1, 1], bool)
NONE = np.zeros((8, 3, 4), bool)
FAR = [{"logits": 1e4 * np.sign(LOGITS)}, {"logits": np.zeros(LOGITS.shape)}]
FAR_PASSES = [{"logits": 1e4 * np.sign(PASSES)}, {"logits": np.zeros(PASSES.shape)}]
WRONG_TYPE = (
    {"logits": np.ones((8, 3, 4, 5), int)},
    TypeError,
    "logits: expected a floating-point",
)
ONE_CLASS = ({"logits": np.ones((8, 3, 4, 1))}, ValueError, "logits: expected at least 2.*got 1")
WRONG_LABELS = ({"labels": LABELS[:7]}, ValueError, r"labels.*\(8, 3, 4\).*\(7, 3, 4\)")
WRONG_INLIER = ({"inlier": INLIER[:7]}, ValueError, r"inlier.*\(8, 3, 4\).*\(7, 3, 4\)")
WRONG_OUTLIER = ({"outlier": OUTLIER[:7]}, ValueError, r"outlier.*\(8, 3, 4\).*\(7, 3, 4\)")


def of_logits(function, arguments=None, *, bad=(), errors=(), **options):
    arguments = arguments or {}
    return Row(
        function,
        {"logits": LOGITS, **arguments},
        rows=("logits", *arguments),
        differentiable=("logits",),
        bfloat16=2e-6,
        float32=2e-6,
        bad=[*FAR, *bad],
        errors=[WRONG_TYPE, *errors],
        **options,
    )


def of_probabilities(function, *errors):
    return Row(
        function,
        {"probabilities": P},
        rows=("probabilities",),
        differentiable=("probabilities",),
        bfloat16=2e-6,
        float32=2e-6,
        bad=[
            {"probabilities": np.eye(5)[np.zeros((8, 2), int)]},
            {"probabilities": np.zeros((8, 2, 5))},
            {"probabilities": np.full((8, 2, 5), 1e-42)},
            {"probabilities": np.full((8, 2, 5), 0.2)},
        ],
        errors=[
            ({"probabilities": np.ones((8, 5), int)}, TypeError, "probabilities: expected a float"),
            *errors,
        ],
    )


def of_passes(function):
    return Row(
        function,
        {"logits": PASSES},
        differentiable=("logits",),
        bfloat16=2e-6,
        float32=2e-6,
        bad=[*FAR_PASSES, {"logits": np.repeat(PASSES[:1], 3, axis=0)}],
        errors=[
            ({"logits": np.ones((3, 8, 5), int)}, TypeError, "logits: expected a floating-point"),
            ({"logits": np.ones((0, 8, 5))}, ValueError, r"logits.*\[T, ..., K\].*\(0, 8, 5\)"),
        ],
    )


def objective(function, *, proxy):
    arguments = {"labels": LABELS, "inlier": INLIER, "outlier": OUTLIER, "valid": VALID}
    bad = [
        {"inlier": NONE, "outlier": NONE},
        {"valid": np.zeros(8, bool)},
        {"logits": np.where((VALID[:, None, None] & (SETS < 2))[..., None], LOGITS, np.nan)},
    ]
    errors = [
        WRONG_LABELS,
        WRONG_INLIER,
        WRONG_OUTLIER,
        (
            {"logits": LOGITS[0]},
            ValueError,
            r"logits: expected axes \[B, H, W, K\], got \(3, 4, 5\)",
        ),
        ({"valid": VALID[:7]}, ValueError, r"valid.*\(8,\).*\(7,\)"),
    ]
    if proxy:
        arguments["proxy"] = PROXY
        bad += [{"proxy": np.zeros(8, bool)}, {"proxy": np.ones(8, bool)}]
        errors.append(({"proxy": PROXY[:7]}, ValueError, r"proxy.*\(8,\).*\(7,\)"))
    return of_logits(function, arguments, bad=bad, errors=errors, coupled=True, outputs="same")


ROWS = [
    of_logits(entropy.entropy, bad=[{"logits": np.where(LOGITS > 1.0, -np.inf, LOGITS)}]),
    of_logits(entropy.normalised_entropy, errors=[ONE_CLASS]),
    of_probabilities(entropy.entropy_of_probabilities),
    of_probabilities(
        entropy.normalised_entropy_of_probabilities,
        ({"probabilities": np.ones((8, 1))}, ValueError, "probabilities: .*at least 2.*got 1"),
    ),
    of_logits(
        entropy.foreground_entropy,
        {"where": SETS < 2},
        options={"background": 2},
        bad=[{"where": NONE}, {"logits": np.where((SETS < 2)[..., None], LOGITS, np.nan)}],
        errors=[
            ({"background": 5}, ValueError, "background: expected a class from 0 to 4, got 5"),
            ({"where": NONE[:7]}, ValueError, r"where.*\(8, 3, 4\).*\(7, 3, 4\)"),
            ({"logits": np.ones((8, 5))}, ValueError, r"logits.*\[..., H, W, K\].*\(8, 5\)"),
        ],
    ),
    of_passes(entropy.mean_log_probabilities),
    of_passes(entropy.predictive_entropy),
    of_passes(entropy.mutual_information),
    of_passes(entropy.predicted_class_variance),
    of_passes(entropy.predictive_variance),
    of_logits(
        entropy.uniform_cross_entropy,
        {"where": OUTLIER},
        bad=[{"where": NONE}, {"logits": np.where(OUTLIER[..., None], LOGITS, np.nan)}],
        errors=[({"where": NONE[:7]}, ValueError, r"where.*\(8, 3, 4\).*\(7, 3, 4\)")],
    ),
    of_logits(
        entropy.inlier_cross_entropy,
        {"labels": LABELS, "inlier": INLIER},
        bad=[{"inlier": NONE}, {"logits": np.where(INLIER[..., None], LOGITS, np.nan)}],
        errors=[WRONG_LABELS, WRONG_INLIER],
    ),
    of_logits(
        entropy.outlier_cross_entropy,
        {"outlier": OUTLIER},
        bad=[{"outlier": NONE}, {"logits": np.where(OUTLIER[..., None], LOGITS, np.nan)}],
        errors=[
            WRONG_OUTLIER,
            ({"logits": np.ones((8, 5))}, ValueError, r"logits.*\[..., H, W, K\].*\(8, 5\)"),
        ],
    ),
    objective(entropy.entropy_maximisation, proxy=True),
    objective(entropy.entropy_maximisation_released, proxy=False),
]
