"""Weights of training examples from a small clean set: learning to reweight, in closed form.

One step of gradient descent on Σ ε_i ℓ_i moves the parameters by -η Σ ε_i ∇ℓ_i. At ε = 0 the
validation loss then changes with ε_i at the rate -η <∇ℓ_i, ∇L_val>: no step has to be taken, and
one forward-mode pass gives the products of all examples. An example that pulls the parameters where
the clean set wants them gets weight.

Source: Ren et al., Learning to Reweight Examples for Robust Deep Learning,
https://arxiv.org/abs/1803.09050, algorithm 1; a baseline of chapter 10 of the document.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxad.losses import checks, masked

__all__ = ["gradient_alignment", "weights_from_alignment"]


def gradient_alignment(
    losses: Callable[[Any, Any], jax.Array], params: Any, rows: Any, direction: Any
) -> jax.Array:
    """<∇ℓ_i, v> for every example i; -η times it is the derivative by ε_i.

    Args:
        losses: `(params, rows)` to the losses `[B]`, one per example, else a `ValueError`.
        params: Parameters, a tree of floats.
        rows: The examples, whatever `losses` takes: arrays `[B, ...]`.
        direction: v, the gradient of the mean validation loss at `params` (of all devices), a tree
            like them, else a `ValueError`.

    Returns:
        `[B]`, at least float32, without gradient.
    """
    if jax.tree.structure(direction) != jax.tree.structure(params):
        raise ValueError(
            f"direction: expected the tree of params, {jax.tree.structure(params)}, got "
            f"{jax.tree.structure(direction)}."
        )
    wanted = list(map(jnp.shape, jax.tree.leaves(params)))
    given = list(map(jnp.shape, jax.tree.leaves(direction)))
    if given != wanted:
        raise ValueError(f"direction: expected the shapes of params, {wanted}, got {given}.")
    params, direction = jax.tree.map(masked.widen, (params, direction))
    direction = jax.tree.map(lambda v, p: v.astype(p.dtype), direction, params)
    each, alignment = jax.jvp(lambda p: losses(p, rows), (params,), (direction,))
    checks.rank_equal("losses(params, rows)", each.shape, "B")
    return jax.lax.stop_gradient(masked.widen(alignment))


def weights_from_alignment(
    alignment: jax.Array, valid: jax.Array | None = None, *, axis_name: str | None = None
) -> jax.Array:
    """max(0, alignment), divided by its sum over the global batch.

    The loss to minimize next is Σ w_i ℓ_i, a sum and not a mean.

    Args:
        alignment: Of `gradient_alignment`, floats `[B]`, else a `TypeError`.
        valid: Real rows `[B]`, else a `ValueError`; all by default.
        axis_name: Named axis of devices, each with rows of its own.

    Returns:
        Weights `[B]`, without gradient: they sum to 1 over the global batch, or all are 0 where no
        example helps.
    """
    checks.floating("alignment", alignment)
    checks.rank_equal("alignment", jnp.shape(alignment), "B")
    valid = masked.valid_rows(valid, alignment.shape[0])
    alignment = jax.lax.stop_gradient(masked.widen(alignment))
    helpful = jnp.where(valid & (alignment > 0.0), alignment, 0.0)
    sums = masked.total(helpful, True, axis_name=axis_name)
    return helpful / jnp.where(sums > 0.0, sums, 1.0)
