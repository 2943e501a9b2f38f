"""Reductions over the real entries of padded arrays, on one device or over a named axis.

Entries outside the mask may hold anything, NaN included: they change neither value nor gradient.
Sums run in float32 for 16-bit inputs. An `axis_name` makes every device return the value of the
global batch.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxad.losses import checks, devices

__all__ = [
    "absolute",
    "as_mask",
    "count",
    "mean",
    "norm",
    "total",
    "unit",
    "valid_rows",
    "widen",
    "zero_outside",
]

Axis = int | Sequence[int] | None


def widen(values: jax.Array) -> jax.Array:
    """The same values in float32, or in their own type where that is wider.

    Args:
        values: Real numbers `[...]`.

    Returns:
        `[...]`, at least float32.
    """
    values = jnp.asarray(values)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def total(
    values: jax.Array, where: jax.Array | None, *, axis: Axis = None, axis_name: str | None = None
) -> jax.Array:
    """Sum of the entries for which `where` holds.

    Args:
        values: Floats `[...]`, else a `TypeError`.
        where: Booleans or zeros and ones that broadcast to `values`, else a `ValueError`; None for
            all.
        axis: Axes to sum over; all by default.
        axis_name: Named axis of devices to sum over as well.

    Returns:
        The sums, at least float32; 0 with zero gradient where nothing is selected.
    """
    values = jnp.asarray(values)
    checks.floating("values", values)
    selected = jnp.where(as_mask(where, jnp.shape(values)), widen(values), 0.0)
    return devices.total(jnp.sum(selected, axis=axis), axis_name)


def count(
    where: jax.Array | None, like: jax.Array, *, axis: Axis = None, axis_name: str | None = None
) -> jax.Array:
    """Number of entries for which `where` holds.

    Args:
        where: Booleans or zeros and ones that broadcast to `like`, else a `ValueError`; None for
            all.
        like: The array `[...]` whose entries are meant.
        axis: Axes to count over; all by default.
        axis_name: Named axis of devices to count over as well.

    Returns:
        The counts, in the type that `total` sums in.
    """
    mask = as_mask(where, jnp.shape(like)).astype(widen(like).dtype)
    return devices.total(jnp.sum(mask, axis=axis), axis_name)


def mean(
    values: jax.Array, where: jax.Array | None, *, axis: Axis = None, axis_name: str | None = None
) -> jax.Array:
    """Mean of the entries for which `where` holds: sum over all devices / count over all devices.

    Dividing once, after both sums, weighs each entry the same however unevenly devices hold them;
    the mean of the devices' means would not.

    Args:
        values: Floats `[...]`, else a `TypeError`.
        where: Booleans or zeros and ones that broadcast to `values`, else a `ValueError`; None for
            all.
        axis: Axes to reduce; all by default.
        axis_name: Named axis of devices to reduce as well.

    Returns:
        The means, at least float32; 0 with zero gradient where nothing is selected.
    """
    sums = total(values, where, axis=axis, axis_name=axis_name)
    return sums / jnp.maximum(count(where, values, axis=axis, axis_name=axis_name), 1.0)


def norm(
    values: jax.Array, where: jax.Array | None, *, axis: Axis = None, axis_name: str | None = None
) -> jax.Array:
    """Euclidean norm of the entries for which `where` holds, with gradient 0 at 0.

    Args:
        values: Floats `[...]`, else a `TypeError`.
        where: Booleans or zeros and ones that broadcast to `values`, else a `ValueError`; None for
            all.
        axis: Axes to reduce; all by default.
        axis_name: Named axis of devices to reduce as well.

    Returns:
        The norms, at least float32.
    """
    checks.floating("values", values)
    # Selected before squared: the slope of a square, 2 x, would bring back a NaN outside the mask.
    selected = jnp.where(as_mask(where, jnp.shape(values)), widen(values), 0.0)
    squares = devices.total(jnp.sum(jnp.square(selected), axis=axis), axis_name)
    # The inner select keeps the infinite slope of the root at 0 out of the backward pass.
    return jnp.where(squares > 0.0, jnp.sqrt(jnp.where(squares > 0.0, squares, 1.0)), 0.0)


def unit(values: jax.Array, *, axis: int = -1) -> jax.Array:
    """Vectors divided by their Euclidean norm; a zero vector stays zero, with zero gradient.

    Args:
        values: Floats `[..., D]`, else a `TypeError`.
        axis: The axis of a vector's entries.

    Returns:
        `[..., D]` of length 1, at least float32; 0 for vectors without an entry beyond 1e-12, whose
        gradient would be as large as they are small. No length overflows.
    """
    checks.floating("values", values)
    values = widen(values)
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(values), axis=axis, keepdims=True))
    zero = largest < 1e-12
    scaled = values / jnp.where(zero, 1.0, largest)  # The direction does not depend on the scale.
    squares = jnp.sum(jnp.square(scaled), axis=axis, keepdims=True)
    return jnp.where(zero, 0.0, scaled * jax.lax.rsqrt(jnp.where(zero, 1.0, squares)))


def absolute(values: jax.Array) -> jax.Array:
    """|x| whose slope at 0 is 0, so that what is right already is left alone.

    The slope that JAX gives `jnp.abs` there is 1.

    Args:
        values: Floats `[...]`, else a `TypeError`.

    Returns:
        `[...]`, at least float32.
    """
    checks.floating("values", values)
    values = widen(values)
    return values * jax.lax.stop_gradient(jnp.sign(values))


def as_mask(where: jax.Array | None, shape: Sequence[int], *, name: str = "where") -> jax.Array:
    """A mask as booleans in the shape of the values it goes with.

    Args:
        where: Booleans or zeros and ones that broadcast to `shape`, else a `ValueError`; None for
            all.
        shape: Of the values.
        name: Of the argument, for the error.

    Returns:
        Booleans `[...]` of that shape.
    """
    where = jnp.asarray(True if where is None else where)
    checks.broadcastable(name, where.shape, shape)
    return jnp.broadcast_to(where.astype(bool), shape)


def valid_rows(valid: jax.Array | None, rows: int) -> jax.Array:
    """Which rows of a batch are no padding.

    Args:
        valid: `[B]`, else a `ValueError`; None for all.
        rows: B.

    Returns:
        Booleans `[B]`.
    """
    valid = jnp.ones(rows, bool) if valid is None else jnp.asarray(valid).astype(bool)
    checks.shape_equal("valid", valid.shape, (rows,))
    return valid


def zero_outside(values: jax.Array, where: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Values with 0 where no entry is real, so that no NaN there meets a later derivative.

    Args:
        values: Floats `[...]`, else a `TypeError`.
        where: Real entries; broadcasts to `values`, else a `ValueError`. None for all.

    Returns:
        Values `[...]`, at least float32, and the mask as booleans `[...]`.
    """
    checks.floating("values", values)
    real = as_mask(where, jnp.shape(values))
    return jnp.where(real, widen(values), 0.0), real
