"""Cosines between vectors and prototypes, for the classifier in a network and for losses."""

import jax
import jax.numpy as jnp

__all__ = ["similarities"]


def similarities(vectors: jax.Array, prototypes: jax.Array, *, epsilon: float = 1e-12) -> jax.Array:
    """s_k = v . w_k / (max(||v||, epsilon) max(||w_k||, epsilon)).

    Lengths are taken relative to the largest entry, so that no square over- or underflows. Below
    epsilon the value follows the formula and the gradient is zero, where it would be 1 / epsilon.

    Args:
        vectors: v, floats `[..., N]`.
        prototypes: w, floats `[K, N]`.
        epsilon: Least length to divide by.

    Returns:
        Cosines `[..., K]` in [-1, 1] up to rounding, in at least float32; 0 for a zero vector.

    References:
        Document 001, eq. 2; epsilon from its released code.
    """
    vectors, prototypes = _unit(vectors, epsilon), _unit(prototypes, epsilon)
    # Full precision: tensor cores would round the inputs of a float32 product to 10 bits.
    return jnp.einsum("...n,kn->...k", vectors, prototypes, precision=jax.lax.Precision.HIGHEST)


def _unit(vectors, epsilon):
    vectors = jnp.asarray(vectors)
    vectors = vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32))
    # The direction does not depend on this factor, so no gradient need pass through it.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(vectors), axis=-1, keepdims=True))
    nonzero = largest > 0.0
    scaled = jnp.where(nonzero, vectors / jnp.where(nonzero, largest, 1.0), 0.0)
    lengths = jnp.sqrt(jnp.where(nonzero, jnp.sum(jnp.square(scaled), -1, keepdims=True), 1.0))
    unit = scaled / lengths
    shrunk = jax.lax.stop_gradient(unit * (largest * lengths / epsilon))
    return jnp.where(largest * lengths >= epsilon, unit, shrunk)
