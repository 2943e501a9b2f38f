"""The type in which images are computed."""

import jax
import jax.numpy as jnp

__all__ = ["bounded", "widen"]


def bounded(values: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """The same values, those that rounding took out of [low, high] put back to its ends.

    Args:
        values: Floats `[...]`, in [low, high] but for rounding.
        low: Lower end; broadcasts to the values.
        high: Upper end; broadcasts to the values.

    Returns:
        Of the shape of `values`, exactly in [low, high]; the gradient is that of the values as
        they were: at an end a clip would halve it.
    """
    inside = jax.lax.stop_gradient(jnp.clip(values, low, high))
    return inside + (values - jax.lax.stop_gradient(values))


def widen(images: jax.Array) -> jax.Array:
    """The same values in float32, or in their own type where that is wider.

    What changes pixels computes in this type and returns the images in theirs, so that a chain of
    operations on bfloat16 images rounds once per operation.

    Args:
        images: Floats `[...]`, else a `TypeError`.

    Returns:
        `[...]`, at least float32.
    """
    dtype = jnp.result_type(images)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"images: expected floating-point numbers, got {dtype}.")
    return jnp.asarray(images).astype(jnp.promote_types(dtype, jnp.float32))
