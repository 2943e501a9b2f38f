"""Rows of `jaxad.losses.prototypes`."""

import numpy as np

from jaxad.losses import prototypes
from tables.row import Row

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(8, 2, 3, 4))
PROTOTYPES = RNG.normal(size=(3, 4))
LOG_VARIANCES = 0.5 * RNG.normal(size=(3, 4))
DISTANCES = RNG.uniform(0.0, 9.0, (8, 2, 3))
LABELS = RNG.integers(0, 3, (8, 2))
WHERE = RNG.random((8, 2)) < 0.8
COSINES = RNG.uniform(-1.0, 1.0, (8, 2, 3))
MAPS, MAP_WHERE = RNG.uniform(0.0, 9.0, (8, 2, 3)), RNG.random((8, 2, 3)) < 0.8
VECTOR_ERRORS = [
    ({"features": FEATURES[..., :3]}, ValueError, r"features.*\(4,\).*\(3,\)"),
    ({"prototypes": PROTOTYPES[0]}, ValueError, r"prototypes: expected axes \[K, N\].*\(4,\)"),
    ({"features": np.ones((8, 4), int)}, TypeError, "features: expected a floating-point"),
]
AT_PROTOTYPE = np.broadcast_to(PROTOTYPES[0], FEATURES.shape)


def integers(name, array):
    return ({name: array.astype(int)}, TypeError, f"{name}: expected a floating-point")


def cosine_row(function, options, **more):
    return Row(
        function,
        {"features": FEATURES, "prototypes": PROTOTYPES},
        rows=("features",),
        options=options,
        differentiable=("features", "prototypes"),
        bad=[
            {"features": 0.0 * FEATURES},
            {"prototypes": 0.0 * PROTOTYPES},
            {"features": AT_PROTOTYPE},
            {"features": 1e30 * FEATURES},
            {"features": 1e-30 * FEATURES},
        ],
        errors=VECTOR_ERRORS,
        float32=1e-6,
        bfloat16=1e-6,
        **more,
    )


def image_row(function):
    return Row(
        function,
        {"score_map": MAPS, "where": MAP_WHERE},
        rows=("score_map", "where"),
        differentiable=("score_map",),
        bad=[{"where": np.zeros((8, 2, 3), bool)}],
        errors=[
            ({"where": MAP_WHERE[..., :2]}, ValueError, r"where.*\(8, 2, 3\).*\(8, 2, 2\)"),
            integers("score_map", MAPS),
        ],
        float32=1e-6,
        bfloat16=1e-6,
    )


ROWS = [
    Row(
        prototypes.squared_mahalanobis,
        {"features": FEATURES, "prototypes": PROTOTYPES, "log_variances": LOG_VARIANCES},
        rows=("features",),
        differentiable=("features", "prototypes", "log_variances"),
        bad=[{"features": AT_PROTOTYPE}, {"features": 1e4 * FEATURES}],
        errors=[
            *VECTOR_ERRORS,
            ({"log_variances": LOG_VARIANCES[:2]}, ValueError, r"log_variances.*3, 4.*2, 4"),
        ],
        float32=1e-6,
        bfloat16=1e-6,
    ),
    Row(
        prototypes.squared_euclidean,
        {"features": FEATURES, "prototypes": PROTOTYPES},
        rows=("features",),
        differentiable=("features", "prototypes"),
        bad=[{"features": AT_PROTOTYPE}],
        errors=VECTOR_ERRORS,
        float32=1e-6,
        bfloat16=1e-6,
    ),
    Row(
        prototypes.log_posterior,
        {"distances": DISTANCES},
        rows=("distances",),
        differentiable=("distances",),
        bad=[{"distances": 1e6 * DISTANCES}, {"distances": np.zeros((8, 2, 3))}],
        errors=[integers("distances", DISTANCES)],
        float32=1e-6,
        bfloat16=1e-6,
    ),
    Row(
        prototypes.nearest_prototype,
        {"distances": DISTANCES},
        rows=("distances",),
        differentiable=("distances",),
        bad=[{"distances": np.zeros((8, 2, 3))}],
        errors=[integers("distances", DISTANCES)],
        float32=1e-7,
        bfloat16=1e-7,
    ),
    Row(
        prototypes.label_distances,
        {"distances": DISTANCES, "labels": np.where(WHERE, LABELS, 255), "where": WHERE},
        rows=("distances", "labels", "where"),
        differentiable=("distances",),
        bad=[{"where": np.zeros((8, 2), bool)}],
        errors=[({"labels": LABELS[:, :1]}, ValueError, r"labels.*\(8, 2\).*\(8, 1\)")],
        float32=1e-7,
        bfloat16=1e-7,
    ),
    image_row(prototypes.image_sum),
    image_row(prototypes.image_mean),
    Row(
        prototypes.data_variances,
        {
            "features": FEATURES[:, 0],
            "prototypes": PROTOTYPES,
            "labels": np.where(LABELS[:, :1] == 1, 0, LABELS[:, :1]) + np.zeros((8, 3), int),
            "where": WHERE[:, :1],
        },
        rows=("features", "labels", "where"),
        differentiable=("features", "prototypes"),
        coupled=True,
        outputs="same",
        bad=[
            {"where": np.zeros((8, 1), bool)},
            {"features": AT_PROTOTYPE[:, 0], "labels": np.zeros((8, 3), int)},
        ],
        errors=[
            *VECTOR_ERRORS,
            ({"labels": LABELS}, ValueError, r"labels.*\(8, 3\).*\(8, 2\)"),
            ({"where": WHERE}, ValueError, r"where.*\(8, 3\).*\(8, 2\)"),
        ],
        float32=1e-6,
        bfloat16=1e-6,
        name="one_class_absent",
    ),
    cosine_row(prototypes.cosine_similarities, {}),
    cosine_row(prototypes.cosine_logits, {"scale": 10.0}),
    Row(
        prototypes.cosine_anomaly,
        {"cosines": COSINES},
        rows=("cosines",),
        differentiable=("cosines",),
        bad=[{"cosines": np.ones((8, 2, 3))}, {"cosines": -np.ones((8, 2, 3))}],
        errors=[integers("cosines", COSINES)],
        float32=1e-6,
        bfloat16=1e-6,
    ),
    Row(
        prototypes.cosine_softmax_anomaly,
        {"cosines": COSINES},
        rows=("cosines",),
        options={"scale": 10.0},
        differentiable=("cosines",),
        bad=[{"cosines": np.ones((8, 2, 3))}, {"cosines": 1e3 * COSINES}],
        errors=[integers("cosines", COSINES)],
        float32=2e-6,
        bfloat16=2e-6,
    ),
]
