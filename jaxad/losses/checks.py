"""Checks of static facts (shapes, types, Python numbers) that raise while a function is traced.

Values of arrays are unknown under `jit`, so none is looked at. Every message names the argument,
what was expected and what was given.
"""

import numbers
from collections.abc import Sequence

import jax
import jax.numpy as jnp

__all__ = [
    "broadcastable",
    "floating",
    "positive_integer",
    "rank_equal",
    "shape_equal",
]


def shape_equal(name: str, actual: Sequence[int], expected: Sequence[int]) -> None:
    """Raises a `ValueError` unless both shapes are the same."""
    if tuple(actual) != tuple(expected):
        raise ValueError(f"{name}: expected shape {tuple(expected)}, got {tuple(actual)}.")


def rank_equal(name: str, actual: Sequence[int], axes: str) -> None:
    """Raises a `ValueError` unless a shape has as many axes as `axes` names: "B T" means two."""
    if len(actual) != len(axes.split()):
        raise ValueError(f"{name}: expected axes [{', '.join(axes.split())}], got {tuple(actual)}.")


def broadcastable(name: str, actual: Sequence[int], target: Sequence[int]) -> None:
    """Raises a `ValueError` unless an array of shape `actual` broadcasts to `target` as it is."""
    fits = len(actual) <= len(target) and all(
        a in (1, b) for a, b in zip(reversed(actual), reversed(target), strict=False)
    )
    if not fits:
        raise ValueError(
            f"{name}: expected a shape that broadcasts to {tuple(target)}, got {tuple(actual)}."
        )


def floating(name: str, array: jax.Array) -> None:
    """Raises a `TypeError` unless an array holds real floating-point numbers."""
    dtype = jnp.result_type(array)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating-point array, got {dtype}.")


def positive_integer(name: str, value: int) -> None:
    """Raises a `TypeError` for anything but a Python integer, a `ValueError` for one below 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: expected a Python integer, got {type(value).__name__}.")
    if value < 1:
        raise ValueError(f"{name}: expected an integer of at least 1, got {value}.")
