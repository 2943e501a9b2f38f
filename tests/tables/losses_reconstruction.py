"""Rows of `jaxad.losses.reconstruction`."""

import numpy as np

from jaxad.losses import reconstruction
from tables.row import Row

RNG = np.random.default_rng(0)
IMAGES, OTHERS = RNG.normal(size=(2, 8, 3, 2, 3))
LATENTS, OTHER_LATENTS = RNG.normal(size=(2, 8, 5))


def errors_of(first, second):
    shape = r"\(8, 3, 2, 3\)"
    return [
        ({second: np.ones((8, 3, 2, 1))}, ValueError, rf"{second}: .*{shape}.*\(8, 3, 2, 1\)"),
        ({first: np.ones((8, 3, 2, 3), int)}, TypeError, f"{first}: expected a floating-point"),
    ]


def pair(function, first):
    return Row(
        function,
        {first: IMAGES, "reconstructions": OTHERS},
        rows=(first, "reconstructions"),
        differentiable=(first, "reconstructions"),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{"reconstructions": IMAGES}, {first: np.full((8, 3, 2, 3), 1e10)}],
        errors=errors_of(first, "reconstructions"),
    )


def with_second(function, name):
    other = f"reconstruction_{name}"
    return Row(
        function,
        {"images": IMAGES, "reconstructions": OTHERS, name: LATENTS, other: OTHER_LATENTS},
        rows=("images", "reconstructions", name, other),
        options={"kappa": 0.5},
        differentiable=("images", "reconstructions", name, other),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{"reconstructions": IMAGES, other: LATENTS}],
        errors=[
            *errors_of("values", "reconstructions")[:1],
            ({other: np.ones((8, 4))}, ValueError, rf"{other}: .*\(8, 5\).*\(8, 4\)"),
            ({other: np.ones((8, 5), int)}, TypeError, f"{other}: expected a floating-point"),
        ],
    )


ROWS = [
    pair(reconstruction.squared_error_sum, "values"),
    pair(reconstruction.squared_error_mean, "values"),
    pair(reconstruction.error_norm, "values"),
    with_second(reconstruction.image_and_feature_error, "features"),
    with_second(reconstruction.image_and_latent_norm, "latents"),
    pair(reconstruction.squared_error_map, "images"),
    pair(reconstruction.absolute_error_map, "images"),
    pair(reconstruction.error_norm_map, "images"),
    Row(
        reconstruction.gaussian_kl,
        {"mean": LATENTS, "log_variance": OTHER_LATENTS},
        rows=("mean", "log_variance"),
        differentiable=("mean", "log_variance"),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[
            {"log_variance": np.full((8, 5), 1e4)},
            {"log_variance": np.full((8, 5), -1e4)},
            {"mean": np.zeros((8, 5)), "log_variance": np.zeros((8, 5))},
        ],
        errors=[
            ({"log_variance": np.ones((8, 4))}, ValueError, r"log_variance: .*\(8, 5\).*\(8, 4\)"),
            ({"mean": np.ones((8, 5), int)}, TypeError, "mean: expected a floating-point"),
        ],
    ),
]
