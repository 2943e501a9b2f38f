"""Checks of metric inputs; every message names the argument, what was expected and what was given.

Unlike the losses, metrics run on the host and look at values too.
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["binary", "finite", "mask", "numbers", "same_shape", "selection", "two_classes"]


def same_shape(first: str, shape: Sequence[int], second: str, other: Sequence[int]) -> None:
    """Raises a `ValueError` unless both shapes are the same."""
    if tuple(shape) != tuple(other):
        raise ValueError(
            f"{first} and {second} must have one shape, got {tuple(shape)} and {tuple(other)}."
        )


def finite(name: str, values: np.ndarray) -> None:
    """Raises a `ValueError` if any of the values is NaN or infinite."""
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise ValueError(f"{bad} of {values.size} {name} are NaN or infinite.")


def mask(name: str, values: np.ndarray) -> np.ndarray:
    """The same entries as booleans; a `ValueError` for any other than 0 and 1."""
    values = np.asarray(values)
    if values.dtype == bool:
        return values
    other = values[(values != 0) & (values != 1)]
    if other.size:
        raise ValueError(
            f"{name} must be 0 or 1, found {other.flat[0]}; remove void entries before."
        )
    return values.astype(bool)


def numbers(name: str, values: np.ndarray) -> np.ndarray:
    """The same values as float64; a `ValueError` if any is NaN or infinite."""
    values = np.asarray(values, np.float64)
    finite(name, values)
    return values


def selection(where: np.ndarray | None, name: str, shape: Sequence[int]) -> np.ndarray:
    """The entries of the array `name` that count, as booleans: all for None, else `where`."""
    if where is None:
        return np.ones(shape, bool)
    same_shape(name, shape, "where", np.shape(where))
    return mask("where", where)


def binary(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat int8 truth of 0 and 1 and flat finite float64 scores, else a `ValueError`."""
    truth, scores = np.asarray(truth), np.asarray(scores, np.float64)
    same_shape("truth", truth.shape, "scores", scores.shape)
    truth = mask("truth", truth)
    finite("scores", scores)
    return truth.ravel().astype(np.int8), scores.ravel()


def two_classes(truth: np.ndarray) -> bool:
    """Whether entries of 0 and of 1 are both there."""
    return 0 < int(truth.sum(dtype=np.int64)) < truth.size
