"""The exponential of numbers that nothing bounds: critics' outputs, log-variances, 1 / temperature.

e^x leaves float32 at x = 88. A score or loss that contains it must stay finite, and its gradient
must still point downhill, so a clamp will not do.
"""

import math

import jax
import jax.numpy as jnp

from jaxad.losses import checks, masked

__all__ = ["capped_exp"]

_ROOM = 24.0  # e^24 = 2.6e10: that many values, or a slope that long, still add up to a number.


def capped_exp(values: jax.Array) -> jax.Array:
    """e^x, and beyond 24 below the overflow its tangent: finite, rising, with a smooth slope.

    The limit is 64.7 in float32 and 685 in float64, far above any exponent of a sound training
    run.

    Args:
        values: Floats `[...]`, else a `TypeError`.

    Returns:
        `[...]`, at least float32.
    """
    checks.floating("values", values)
    values = masked.widen(values)
    limit = math.log(float(jnp.finfo(values.dtype).max)) - _ROOM
    beyond = jnp.maximum(values - limit, 0.0)
    return jnp.exp(jnp.minimum(values, limit)) * (1.0 + beyond)
