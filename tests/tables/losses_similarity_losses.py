"""Rows of `jaxad.losses.similarity_losses`."""

import numpy as np

from jaxad.losses import similarity_losses
from tables.losses_similarity import BAD, ERRORS, FLOOR, IMAGES, NO_WEIGHTS, OTHERS, PAIR
from tables.row import Row

RNG = np.random.default_rng(0)
CHANNELS = np.array([0.3, 0.6])
OPTIONS = {"data_range": 3.0, "window": 3, "weights": (0.4, 0.6)}
SHARE = ({"rho": 1.5}, ValueError, r"rho: expected a number in \[0, 1\], got 1.5")
NU = ({"nu": -0.1}, ValueError, r"nu: expected a number in \[0, 1\], got -0.1")
SMALL_ERRORS = [e for e in ERRORS if "sigma" not in e[0]]
SIMILARITIES = {
    "global_similarity": RNG.uniform(size=8),
    "local_similarity": RNG.uniform(size=8),
}
EDGES = [{"global_similarity": np.ones(8), "local_similarity": np.zeros(8)}]
SHAPE = ({"local_similarity": np.ones(4)}, ValueError, r"local_similarity: .*\(8,\), got \(4,\)")


def loss(function):
    return Row(
        function,
        PAIR,
        rows=tuple(PAIR),
        options=OPTIONS,
        differentiable=tuple(PAIR),
        bfloat16=1e-5,
        bad=BAD,
        # Shapes are compared before axes are counted.
        errors=[*(e for e in SMALL_ERRORS if e is not ERRORS[1]), NO_WEIGHTS, FLOOR, SHARE],
    )


def anomaly_map(function):
    weights = ({"channel_weights": np.ones(3)}, ValueError, r"channel_weights: .*\(2,\), got \(3,")
    return Row(
        function,
        {**PAIR, "channel_weights": CHANNELS},
        rows=tuple(PAIR),
        options=OPTIONS,
        differentiable=tuple(PAIR),
        bfloat16=1e-5,
        bad=BAD,
        errors=[*SMALL_ERRORS, NO_WEIGHTS, SHARE, weights],
    )


ROWS = [
    loss(similarity_losses.mae_ms_ssim),
    loss(similarity_losses.mae_ms_ssim_range_scaled),
    loss(similarity_losses.mae_ms_ssim_released),
    anomaly_map(similarity_losses.mae_ms_ssim_map),
    anomaly_map(similarity_losses.mae_ms_ssim_range_scaled_map),
    Row(
        similarity_losses.mae,
        {"images": IMAGES, "reconstructions": OTHERS},
        rows=("images", "reconstructions"),
        differentiable=("images", "reconstructions"),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{"reconstructions": IMAGES}],
        errors=[ERRORS[0], ERRORS[2]],
    ),
    Row(
        similarity_losses.channel_sum,
        {"maps": IMAGES, "channel_weights": CHANNELS},
        rows=("maps",),
        differentiable=("maps", "channel_weights"),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{"maps": np.zeros_like(IMAGES)}],
        errors=[
            ({"maps": np.ones((8, 2), int)}, TypeError, "maps: expected a floating-point"),
            ({"channel_weights": np.ones(3)}, ValueError, r"channel_weights: .*\(2,\), got \(3,"),
        ],
    ),
    Row(
        similarity_losses.mixed_dissimilarity,
        SIMILARITIES,
        rows=tuple(SIMILARITIES),
        options={"nu": 0.3},
        differentiable=tuple(SIMILARITIES),
        bfloat16=1e-6,
        float32=1e-6,
        bad=EDGES,
        errors=[SHAPE, NU],
    ),
    Row(
        similarity_losses.mae_mixed_similarity,
        {"mean_absolute_error": RNG.uniform(size=8), **SIMILARITIES},
        rows=("mean_absolute_error", *SIMILARITIES),
        differentiable=("mean_absolute_error", *SIMILARITIES),
        bfloat16=1e-6,
        float32=1e-6,
        bad=EDGES,
        errors=[
            SHAPE,
            NU,
            SHARE,
            ({"mean_absolute_error": np.ones(4)}, ValueError, r"mean_absolute_error: .*\(8,\)"),
        ],
    ),
]
