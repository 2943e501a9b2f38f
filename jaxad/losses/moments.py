"""Mean and spread of feature vectors, gathered batch by batch, on one device or on many.

Counts, means and sums of products *about the mean* are kept and merged (Chan, Golub and LeVeque,
Updating formulae and a pairwise algorithm for computing sample variances, 1979). Raw second moments
would cancel in float32 where the mean is large against the spread. Differences of rounded means
would too, if less; so a mean is kept as a place near it and a small shift from there. The result
does not depend on order, on how rows are cut into batches or on the number of devices, up to
rounding.

What is kept of the products follows from the rank of `scatter`: their sum over features (a number
per position), each feature's square (a vector) or all pairs (a matrix). Positions are any axes
before the last; each has statistics of its own. To share one set between positions, fold them into
the rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxad.losses import checks, devices, masked

__all__ = ["Moments", "add", "merge", "merge_all", "zero_diagonal", "zero_full", "zero_trace"]


class Moments(NamedTuple):
    """Statistics of the rows seen so far.

    Attributes:
        count: Rows, int32.
        pivot: Some place near the mean `[..., D]`; 0 before the first row.
        shift: The mean's difference from the pivot `[..., D]`.
        scatter: Sum over rows of products of the differences from the mean: `[...]` (squared
            norms), `[..., D]` (squares) or `[..., D, D]` (all products).
    """

    count: jax.Array
    pivot: jax.Array
    shift: jax.Array
    scatter: jax.Array

    @property
    def mean(self) -> jax.Array:
        """`[..., D]`, rounded to the type of its parts; 0 before the first row."""
        return self.pivot + self.shift


def zero_trace(shape: Sequence[int], *, dtype: jnp.dtype = jnp.float32) -> Moments:
    """No rows yet; squared distances to the mean will be summed over features.

    Args:
        shape: `(..., D)` of one row.
        dtype: Of the sums, at least float32 to be of use.

    Returns:
        `Moments` with a scatter `[...]`.
    """
    return _zero(shape, tuple(shape)[:-1], dtype)


def zero_diagonal(shape: Sequence[int], *, dtype: jnp.dtype = jnp.float32) -> Moments:
    """No rows yet; the variance of each feature will be known, no covariances.

    Args:
        shape: `(..., D)` of one row.
        dtype: Of the sums, at least float32 to be of use.

    Returns:
        `Moments` with a scatter `[..., D]`.
    """
    return _zero(shape, tuple(shape), dtype)


def zero_full(shape: Sequence[int], *, dtype: jnp.dtype = jnp.float32) -> Moments:
    """No rows yet; the covariance matrix of the features will be known.

    Args:
        shape: `(..., D)` of one row. The scatter takes D times the memory of a row.
        dtype: Of the sums, at least float32 to be of use.

    Returns:
        `Moments` with a scatter `[..., D, D]`.
    """
    return _zero(shape, (*shape, tuple(shape)[-1]), dtype)


def add(
    moments: Moments,
    features: jax.Array,
    where: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> Moments:
    """Statistics with the rows of one more batch.

    Args:
        moments: Of the rows before, the same on all devices.
        features: Floats `[B, ..., D]`, else a `TypeError`; a row as in `moments.mean`, else a
            `ValueError`. They are summed in the type of the moments.
        where: Rows that count; broadcasts to `[B]`, else a `ValueError`. All by default.
        axis_name: Named axis of devices, each with rows of its own.

    Returns:
        `Moments` of the same shapes, the same on all devices.
    """
    checks.floating("features", features)
    like = _checked(moments)
    shape, dtype = like.pivot.shape, like.pivot.dtype
    checks.shape_equal("features", jnp.shape(features)[1:], shape)
    rows = features.shape[0]
    where = masked.as_mask(where, (rows,))
    real = where.reshape(rows, *(1,) * len(shape))
    features = jnp.where(real, features.astype(dtype), 0.0)
    first = masked.mean(features, real, axis=0, axis_name=axis_name)
    pivot = jnp.where(like.count > 0, like.pivot, first)
    centered = jnp.where(real, features - pivot, 0.0)
    shift = masked.mean(centered, real, axis=0, axis_name=axis_name)
    scatter = _sum_of_products(jnp.where(real, centered - shift, 0.0), like)
    count = devices.total(jnp.sum(where, dtype=jnp.int32), axis_name)
    return merge(like, Moments(count, pivot, shift, devices.total(scatter, axis_name)))


def merge(first: Moments, second: Moments) -> Moments:
    """Statistics of the rows of both.

    Args:
        first: Of some rows.
        second: Of other rows, in the same shapes, else a `ValueError`.

    Returns:
        `Moments` of shapes `[..., D]` as given; where one has no rows, the other.
    """
    first, second = _checked(first), _checked(second)
    checks.shape_equal("second.mean", second.pivot.shape, first.pivot.shape)
    checks.shape_equal("second.scatter", second.scatter.shape, first.scatter.shape)
    n1, n2 = first.count.astype(first.pivot.dtype), second.count.astype(first.pivot.dtype)
    share = n2 / jnp.maximum(n1 + n2, 1.0)
    step = (second.pivot - first.pivot) + (second.shift - first.shift)
    between = _sum_of_products(jnp.sqrt(n1 * share) * step[None], first)
    return Moments(
        first.count + second.count,
        jnp.where(n1 > 0, first.pivot, second.pivot),
        jnp.where(n1 > 0, first.shift + share * step, second.shift),
        first.scatter + second.scatter + between,
    )


def merge_all(stack: Moments, *, axis_name: str | None = None) -> Moments:
    """Statistics of the rows of many accumulators at once.

    Devices or processes that gathered alone meet here, once, instead of at every batch.

    Args:
        stack: `Moments` whose leaves have one more axis in front, `[S, ...]`: a count `[S]`, else a
            `ValueError`.
        axis_name: Named axis of devices, each with a stack of its own.

    Returns:
        `Moments` without that axis, the same on all devices.
    """
    checks.rank_equal("stack.count", jnp.shape(stack.count), "S")
    like = _checked(Moments(*(leaf[0] for leaf in stack)))
    counts, pivots = jnp.asarray(stack.count), masked.widen(stack.pivot)
    weights = counts.astype(pivots.dtype).reshape(-1, *(1,) * like.pivot.ndim)
    total = jnp.maximum(devices.total(jnp.sum(weights), axis_name), 1.0)

    def mean(values):
        return devices.total(jnp.sum(weights * values, axis=0), axis_name) / total

    pivot = mean(pivots)
    shifts = (pivots - pivot) + masked.widen(stack.shift)
    shift = mean(shifts)
    between = _sum_of_products(jnp.sqrt(weights) * (shifts - shift), like)
    scatter = jnp.sum(masked.widen(stack.scatter), axis=0) + between
    count = devices.total(jnp.sum(counts, dtype=jnp.int32), axis_name)
    return Moments(count, pivot, shift, devices.total(scatter, axis_name))


def _zero(shape, scatter, dtype):
    if not shape:
        raise ValueError("shape: expected (..., D), got ().")
    mean = jnp.zeros(shape, dtype)
    # Two arrays: a donated accumulator must not hold one buffer twice.
    return Moments(jnp.zeros((), jnp.int32), mean, jnp.zeros_like(mean), jnp.zeros(scatter, dtype))


def _checked(moments):
    """The moments in at least float32, their shapes checked against each other."""
    pivot, shift, scatter = map(masked.widen, moments[1:])
    shape = pivot.shape
    checks.shape_equal("shift", shift.shape, shape)
    kinds = (shape[:-1], shape, (*shape, *shape[-1:]))
    if scatter.shape not in kinds:
        raise ValueError(f"scatter: expected a shape among {kinds}, got {scatter.shape}.")
    return Moments(jnp.asarray(moments.count), pivot, shift, scatter)


def _sum_of_products(rows, like):
    """Sum over the first axis of `rows [R, ..., D]`, in the form of `like.scatter`."""
    extra = like.scatter.ndim - like.pivot.ndim
    if extra == 1:
        # The default precision of accelerators, 8 or 11 bits, would undo all care taken before.
        return jnp.einsum("r...d,r...e->...de", rows, rows, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(jnp.square(rows), axis=0 if extra == 0 else (0, -1))
