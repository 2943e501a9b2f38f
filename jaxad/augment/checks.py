"""Checks of what augmentations are given: static facts (shapes, types, Python numbers), no values.

They raise while a function is traced; every message names the argument, what was expected and what
was given.
"""

import numbers
from collections.abc import Sequence

import jax
import jax.numpy as jnp

__all__ = [
    "colors",
    "images",
    "integer",
    "integers",
    "interval",
    "keys",
    "labels",
    "probability",
    "shape_equal",
    "size",
]


def shape_equal(name: str, actual: Sequence[int], expected: Sequence[int]) -> None:
    """Raises a `ValueError` unless both shapes are the same."""
    if tuple(actual) != tuple(expected):
        raise ValueError(f"{name}: expected shape {tuple(expected)}, got {tuple(actual)}.")


def images(name: str, array: jax.Array, *, floating: bool = True) -> None:
    """Raises a `ValueError` unless there are four axes, a `TypeError` unless they hold floats.

    Functions that only move pixels take any type: `floating=False`.
    """
    if jnp.ndim(array) != 4:
        raise ValueError(f"{name}: expected axes [B, H, W, C], got shape {jnp.shape(array)}.")
    if floating and not jnp.issubdtype(jnp.result_type(array), jnp.floating):
        raise TypeError(f"{name}: expected floating-point images, got {jnp.result_type(array)}.")


def colors(name: str, array: jax.Array) -> None:
    """Raises a `ValueError` or `TypeError` unless an array holds images of 1 or 3 channels."""
    images(name, array)
    if jnp.shape(array)[-1] not in (1, 3):
        raise ValueError(f"{name}: expected 1 or 3 channels, got shape {jnp.shape(array)}.")


def labels(name: str, array: jax.Array, like: jax.Array) -> None:
    """Raises unless an array holds one integer for each pixel of the images `like`."""
    shape_equal(name, jnp.shape(array), jnp.shape(like)[:3])
    integers(name, array)


def integers(name: str, array: jax.Array) -> None:
    """Raises a `TypeError` unless an array holds integers."""
    if not jnp.issubdtype(jnp.result_type(array), jnp.integer):
        raise TypeError(f"{name}: expected integers, got {jnp.result_type(array)}.")


def keys(name: str, array: jax.Array, batch: int | None = None) -> None:
    """Raises unless an array holds one typed threefry key for each example of the batch.

    Draws of other keys, as "rbg", depend on the whole batch under `vmap`.
    """
    dtype = getattr(array, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError(f"{name}: expected typed PRNG keys, one per example, got {dtype}.")
    implementation = str(jax.random.key_impl(array))
    if implementation != "threefry2x32":
        raise TypeError(
            f"{name}: expected threefry2x32 keys, whose draws do not hang on the rest of the "
            f"batch, got {implementation}; make them by jax.random.key(seed, impl='threefry2x32')."
        )
    if array.ndim != 1 or batch not in (None, array.shape[0]):
        expected = "[B]" if batch is None else (batch,)
        raise ValueError(f"{name}: expected shape {expected}, got {array.shape}.")


def integer(name: str, value: int, *, minimum: int = 1) -> None:
    """Raises a `TypeError` for anything but a Python integer, a `ValueError` below the minimum."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: expected a Python integer, got {type(value).__name__}.")
    if value < minimum:
        raise ValueError(f"{name}: expected an integer of at least {minimum}, got {value}.")


def size(name: str, value: tuple[int, int]) -> None:
    """Raises unless a value is a height and a width in pixels."""
    if not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"{name}: expected (height, width), got {value!r}.")
    for side in value:
        integer(name, side)


def probability(name: str, value: float) -> None:
    """Raises a `ValueError` for a Python number outside [0, 1]; arrays are not looked at."""
    if isinstance(value, numbers.Real) and not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}: expected a probability in [0, 1], got {value}.")


def interval(
    name: str, value: tuple[float, float], *, minimum: float = -float("inf")
) -> tuple[float, float]:
    """The two bounds; raises a `ValueError` unless minimum <= lower <= upper."""
    if len(value) != 2 or not minimum <= value[0] <= value[1]:
        least = "" if minimum == -float("inf") else f" from {minimum} on"
        raise ValueError(f"{name}: expected (lower, upper) in order{least}, got {value!r}.")
    return value
