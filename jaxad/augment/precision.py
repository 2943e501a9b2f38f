"""The type in which images are computed."""

import jax
import jax.numpy as jnp

__all__ = ["widen"]


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
