"""Rows of `jaxad.losses.pmsacl`."""

import numpy as np

from jaxad.losses import pmsacl
from tables.row import Row

FEATURES = np.random.default_rng(0).normal(size=(8, 2, 3))
CLASSES = np.array([0, 1, 2, 0, 1, 2, 2, 0])
CENTRES = np.random.default_rng(1).normal(size=(3, 3))
VALID = np.array([1, 1, 0, 1, 1, 1, 0, 1], bool)
AT_CENTRE = np.repeat(CENTRES[CLASSES][:, None], 2, axis=1)
BAD = [
    {"features": np.zeros((8, 2, 3))},
    {"features": AT_CENTRE},
    {"features": AT_CENTRE, "centres": np.float32(CENTRES).astype(float)},
    {"features": AT_CENTRE + 1e-7 * FEATURES},
    {"features": 1e4 * FEATURES},
    {"features": np.ones((8, 2, 3)), "classes": np.zeros(8, int)},
]
BAD_PADDING = [
    {"features": np.where(VALID[:, None, None], FEATURES, np.nan)},
    {"classes": np.where(VALID, CLASSES, 255)},
    {"valid": np.zeros(8, bool)},
    {"valid": np.eye(8, dtype=bool)[3]},
]
ERRORS = [
    ({"features": np.ones((8, 2, 3), int)}, TypeError, "features: expected a floating"),
    ({"classes": np.zeros(4, int)}, ValueError, r"classes.*\(8,\).*\(4,\)"),
    ({"centres": np.zeros((3, 4))}, ValueError, r"centres.*\(3, 3\).*\(3, 4\)"),
]
VALID_ERROR = ({"valid": np.ones(4, bool)}, ValueError, r"valid.*\(8,\).*\(4,\)")


def contrastive(function):
    return Row(
        function,
        {"features": FEATURES, "classes": CLASSES, "centres": CENTRES, "valid": VALID},
        rows=("features", "classes", "valid"),
        options={"alpha": 1.5},
        differentiable=("features", "centres"),
        coupled=True,
        float32=5e-7,
        bfloat16=5e-7,
        bad=BAD + BAD_PADDING,
        errors=[
            *ERRORS,
            ({"features": np.ones((8, 3))}, ValueError, r"features.*\[B, 2, D\].*\(8, 3\)"),
            ({"features": np.ones((8, 3, 3))}, ValueError, r"features.*\(8, 2, 3\).*\(8, 3, 3\)"),
            VALID_ERROR,
        ],
    )


SUMS = pmsacl.CentreSums(np.random.default_rng(2).normal(size=(3, 3)), np.array([4.0, 0.0, 7.0]))

ROWS = [
    contrastive(pmsacl.pmsacl),
    contrastive(pmsacl.pmsacl_positive_at_tau),
    Row(
        pmsacl.centred_direction,
        {"features": FEATURES, "classes": CLASSES, "centres": CENTRES},
        rows=("features", "classes"),
        differentiable=("features", "centres"),
        float32=5e-7,
        bfloat16=5e-7,
        bad=BAD,
        errors=ERRORS,
    ),
    Row(
        pmsacl.multi_centring,
        {"features": FEATURES, "classes": CLASSES, "centres": CENTRES, "valid": VALID},
        rows=("features", "classes", "valid"),
        differentiable=("features", "centres"),
        float32=5e-7,
        bfloat16=5e-7,
        bad=BAD + BAD_PADDING,
        errors=[*ERRORS, VALID_ERROR],
    ),
    Row(
        pmsacl.kappa,
        {"classes": CLASSES, "other_classes": np.array([1, 0, 2, 2, 1])},
        rows=("classes",),
        options={"alpha": 1.5},
        float32=5e-7,
        bfloat16=5e-7,
        errors=[
            ({"classes": np.zeros((4, 2), int)}, ValueError, r"classes.*\[R\].*\(4, 2\)"),
            ({"other_classes": np.zeros((4, 2), int)}, ValueError, r"other_classes.*\[Q\].*\(4"),
        ],
    ),
    Row(
        pmsacl.add_to_centres,
        {"total": SUMS, "features": FEATURES, "classes": CLASSES, "valid": VALID},
        rows=("features", "classes", "valid"),
        differentiable=("features",),
        coupled=True,
        outputs="same",
        float32=5e-7,
        bfloat16=5e-7,
        bad=[*BAD_PADDING, {"features": 1e4 * FEATURES}],
        errors=[
            *ERRORS[:2],
            ({"features": np.zeros((8, 2, 4))}, ValueError, r"features.*\(8, 2, 3\).*\(8, 2, 4\)"),
            VALID_ERROR,
        ],
    ),
    Row(
        pmsacl.finish_centres,
        {"total": SUMS},
        differentiable=("total",),
        bad=[{"total": pmsacl.CentreSums(np.zeros((3, 3)), np.zeros(3))}],
        float32=5e-7,
        bfloat16=5e-7,
        errors=[
            (
                {"total": pmsacl.CentreSums(SUMS.sums, np.ones(2))},
                ValueError,
                r"total.counts.*\(3,\).*\(2,\)",
            )
        ],
    ),
]

HOST = {pmsacl.zero_centres: "takes sizes alone and makes zeros"}
