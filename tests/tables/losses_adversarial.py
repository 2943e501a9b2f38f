"""Rows of `jaxad.losses.adversarial`."""

import jax.numpy as jnp
import numpy as np

from jaxad.losses import adversarial
from tables.row import Row

RNG = np.random.default_rng(0)
REAL, FAKE = RNG.normal(size=(2, 8))
IMAGES, FAKES = RNG.normal(size=(2, 8, 2, 3))
FRACTIONS = RNG.uniform(size=8)
VALID = np.array([1, 1, 0, 1, 1, 0, 1, 1], bool)
INNER, OUTER = RNG.normal(size=(6, 4)), RNG.normal(size=4)
SATURATED = np.tile([1e4, -1e4], 4)


def critic(x):
    return jnp.tanh(x.reshape(x.shape[0], 6) @ jnp.asarray(INNER, x.dtype)) @ jnp.asarray(
        OUTER, x.dtype
    )


def one(function, name):
    return Row(
        function,
        {name: FAKE},
        rows=(name,),
        differentiable=(name,),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{name: SATURATED}, {name: np.zeros(8)}],
        errors=[({name: np.ones(8, int)}, TypeError, f"{name}: expected a floating-point")],
    )


def two(function, first, second):
    return Row(
        function,
        {first: REAL, second: FAKE},
        rows=(first, second),
        differentiable=(first, second),
        bfloat16=1e-6,
        float32=1e-6,
        bad=[{first: SATURATED, second: -SATURATED}, {first: np.zeros(8), second: np.zeros(8)}],
        errors=[
            ({second: np.ones(7)}, ValueError, rf"{second}: .*\(8,\).*\(7,\)"),
            ({first: np.ones(8, int)}, TypeError, f"{first}: expected a floating-point"),
        ],
    )


def slopes(function):
    return Row(
        function,
        {"points": IMAGES, "where": VALID},
        rows=("points", "where"),
        options={"critic": critic},
        differentiable=("points",),
        bfloat16=5e-6,
        float32=5e-6,
        bad=[
            {"points": np.full((8, 2, 3), 1e4)},  # tanh is flat there: the gradient is zero.
            {"points": np.where(VALID[:, None, None], IMAGES, np.nan)},
            {"where": np.zeros(8, bool)},
        ],
        errors=[
            ({"points": np.ones((8, 6), int)}, TypeError, "points: expected a floating-point"),
            ({"where": np.ones(7, bool)}, ValueError, r"where: .*\(8,\).*\(7,\)"),
            ({"critic": lambda x: x[:, 0]}, ValueError, r"critic: .*\(1,\).*\(1, 3\)"),
        ],
    )


ROWS = [
    two(adversarial.wasserstein_critic, "real_values", "fake_values"),
    one(adversarial.wasserstein_generator, "fake_values"),
    two(adversarial.discriminator, "real_logits", "fake_logits"),
    one(adversarial.generator_minimax, "fake_logits"),
    one(adversarial.generator_non_saturating, "fake_logits"),
    one(adversarial.generator_cooperative, "fake_logits"),
    slopes(adversarial.gradient_penalty),
    slopes(adversarial.squared_slopes),
    Row(
        adversarial.gradient_penalty,
        {"points": IMAGES},
        rows=("points",),
        options={"critic": lambda x: jnp.zeros(x.shape[0], x.dtype)},
        differentiable=("points",),
        bad=[{"points": np.zeros((8, 2, 3))}],
        errors=[({"where": np.ones(7, bool)}, ValueError, r"where: .*\(8,\).*\(7,\)")],
        name="constant",
    ),
]
