"""How losses that couple the examples of a batch see those of the other devices.

With an `axis_name`, each device holds some rows of the global batch, in order: device d rows
d · B to (d + 1) · B - 1. Without, the local rows are the global batch.
"""

import jax
import jax.numpy as jnp

__all__ = ["first_row", "gather", "same_on_all", "total"]


def gather(rows, axis_name: str | None):
    """The rows of all devices, in the order of the global batch; gradients flow back to each.

    Args:
        rows: Arrays `[B, ...]`, or a tree of them.
        axis_name: Named axis of devices; None returns the rows.

    Returns:
        `[B · devices, ...]`.
    """
    return rows if axis_name is None else jax.lax.all_gather(rows, axis_name, tiled=True)


def first_row(rows: int, axis_name: str | None) -> jax.Array:
    """The place in the global batch of a device's first row.

    Args:
        rows: Number of rows on each device.
        axis_name: Named axis of devices; None gives 0.

    Returns:
        Integer scalar.
    """
    return jnp.zeros((), jnp.int32) if axis_name is None else jax.lax.axis_index(axis_name) * rows


def total(sums: jax.Array, axis_name: str | None) -> jax.Array:
    """Adds up what the devices hold.

    Args:
        sums: A local sum `[...]`.
        axis_name: Named axis of devices; None returns `sums`.

    Returns:
        `[...]`, the same on all devices.
    """
    return sums if axis_name is None else jax.lax.psum(sums, axis_name)


def same_on_all(value: jax.Array, axis_name: str | None) -> jax.Array:
    """A value that all devices hold already, made known as such.

    The mean over devices says so to `shard_map`, and shares the gradient among them, as the sum
    does in losses that end in one.

    Args:
        value: `[...]`, computed from gathered rows.
        axis_name: Named axis of devices; None returns `value`.

    Returns:
        `[...]`.
    """
    return value if axis_name is None else jax.lax.pmean(value, axis_name)
