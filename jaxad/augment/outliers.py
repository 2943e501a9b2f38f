"""Outliers made of normal images: each is changed by operations drawn from a list.

An operation is any function of keys and images that returns images of that shape:
`lambda keys, images: swap.random_swap(keys, images, patch=9)[0]`.

Source: "000" is the document on auxiliary prototypes, section 5; the strengths were in a supplement
that is not available, so they are those of TorchIO 1.2.1.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.augment import checks, draws, elastic, intensity, permutations, rotations, swap

__all__ = ["apply_operations", "medical_operations", "random_operations"]

Operation = Callable[[jax.Array, jax.Array], jax.Array]


def medical_operations(
    *,
    grid: int = 2,
    patch: int = 15,
    swaps: int = 100,
    logs: tuple[float, float] = (-0.3, 0.3),
    displacement: float = 7.5,
) -> tuple[Operation, ...]:
    """The six operations of the document.

    In order: half turn, vertical flip, permuted patches, swapped patches, gamma, elastic
    deformation. All take images `[B, H, W, C]`.

    Args:
        grid: Patches per side of the permutation.
        patch: Side of swapped patches in pixels.
        swaps: Number of exchanged pairs.
        logs: Smallest and largest logarithm of gamma.
        displacement: Largest displacement of a control point in pixels.

    Returns:
        Six functions of keys and images.
    """
    return (
        lambda keys, images: rotations.rotate_half(images),
        lambda keys, images: images[:, ::-1],
        lambda keys, images: permutations.random_patch_permutation(keys, images, grid=grid)[0],
        lambda keys, images: swap.random_swap(keys, images, patch=patch, swaps=swaps)[0],
        lambda keys, images: intensity.random_gamma(keys, images, logs=logs)[0],
        lambda keys, images: elastic.random_elastic(keys, images, displacement=displacement)[0],
    )


def apply_operations(
    keys: jax.Array, images: jax.Array, chosen: jax.Array, *, operations: Sequence[Operation]
) -> jax.Array:
    """Changes each image by its operations, one after the other.

    All operations run on all images, and each image keeps the result of its own.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: `[B, H, W, C]` of a type and range the operations take, else a `ValueError`.
        chosen: Numbers of the operations, integers `[B, n]`, else a `ValueError`.
        operations: Functions of keys and images; at least one, else a `ValueError`.

    Returns:
        `[B, H, W, C]` in the type of the images.
    """
    checks.images("images", images, floating=False)
    checks.keys("keys", keys, images.shape[0])
    chosen = jnp.asarray(chosen)
    if chosen.ndim != 2 or chosen.shape[0] != images.shape[0]:
        raise ValueError(f"chosen: expected shape ({len(images)}, n), got {chosen.shape}.")
    checks.integers("chosen", chosen)
    if not len(operations):
        raise ValueError("operations: expected at least one, got none.")

    def step(images, turn):
        keys, number = turn
        changed = images
        for i, operation in enumerate(operations):
            result = operation(keys, images)
            checks.shape_equal(f"operations[{i}]", result.shape, images.shape)
            here = (number == i)[:, None, None, None]
            changed = jnp.where(here, result.astype(images.dtype), changed)
        return changed, None

    turns = draws.split(keys, max(chosen.shape[1], 1))[: chosen.shape[1]], chosen.T
    return jax.lax.scan(step, images, turns)[0]


def random_operations(
    keys: jax.Array,
    images: jax.Array,
    *,
    operations: Sequence[Operation],
    probabilities: Sequence[float] | None = None,
    count: int = 1,
) -> tuple[jax.Array, jax.Array]:
    """Changes each image by operations drawn for it, none twice, in random order.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        images: `[B, H, W, C]` of a type and range the operations take, else a `ValueError`.
        operations: Functions of keys and images; `medical_operations()` are those of the document.
        probabilities: Of the operations, at least 0, as many, else a `ValueError`; they need not
            sum to 1. Equal by default. With a count above 1: of those not drawn yet.
        count: Number of operations of each image; at most that of the likely ones, else a
            `ValueError`.

    Returns:
        The images, and the numbers of their operations int32 `[B, count]` (000, section 5).
    """
    checks.images("images", images, floating=False)
    checks.keys("keys", keys, images.shape[0])
    checks.integer("count", count)
    weights = np.ones(len(operations)) if probabilities is None else np.asarray(probabilities)
    checks.shape_equal("probabilities", weights.shape, (len(operations),))
    if (weights < 0).any() or count > (weights > 0).sum():
        raise ValueError(
            f"count: expected at most the number of operations with a positive probability, "
            f"got {count} and probabilities {weights.tolist()}."
        )
    for_choice, for_operations = draws.split(keys, 2)
    with np.errstate(divide="ignore"):
        logs = jnp.asarray(np.log(weights), jnp.float32)
    # The largest of log p + Gumbel noise is a draw with probabilities p, the next one a draw from
    # the rest.
    share = draws.uniform(for_choice, 1e-20, 1.0, shape=logs.shape)
    _, chosen = jax.lax.top_k(logs - jnp.log(-jnp.log(share)), count)
    chosen = chosen.astype(jnp.int32)
    return apply_operations(for_operations, images, chosen, operations=operations), chosen
