"""Bilinear resampling and adaptive pooling with the two published conventions of coordinates.

Networks enlarge their maps with it, and `augment.resize` resizes images. Pure functions of JAX
arrays; neither smooths before it shrinks.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Taps", "adaptive_average_pool", "bilinear", "bilinear_rows", "taps"]


class Taps(NamedTuple):
    """What each output of a line reads: `(1 - share) · first + share · second`.

    Attributes:
        first: Position of an input, int32 `[outputs]`.
        second: Position of the next one, or of the last input again, int32 `[outputs]`.
        share: Of the second, float64 `[outputs]` in [0, 1).
    """

    first: np.ndarray
    second: np.ndarray
    share: np.ndarray


def taps(inputs: int, outputs: int, *, align_corners: bool) -> Taps:
    """The inputs that a resized line reads, computed on the host in float64.

    Args:
        inputs: Length of the line.
        outputs: Its new length.
        align_corners: True: output i reads at i (inputs - 1) / (outputs - 1); False: at
            (i + 0.5) inputs / outputs - 0.5, held inside the line.

    Returns:
        Taps of all outputs.

    Raises:
        ValueError: A length is below 1.
    """
    if inputs < 1 or outputs < 1:
        raise ValueError(f"expected lengths of at least 1, got {inputs} and {outputs}.")
    i = np.arange(outputs)
    if align_corners:
        places = i * (inputs - 1) / max(outputs - 1, 1)
    else:
        places = np.clip((i + 0.5) * inputs / outputs - 0.5, 0, inputs - 1)
    first = np.floor(places).astype(np.int32)
    return Taps(first, np.minimum(first + 1, inputs - 1), places - first)


def bilinear(values: jax.Array, size: tuple[int, int], *, align_corners: bool) -> jax.Array:
    """Resizes maps, as two products with banded matrices: their gradient is two products as well.

    Args:
        values: Floats `[B, H, W, C]`.
        size: New height and width.
        align_corners: As for `taps`.

    Returns:
        `[B, *size, C]`, computed in at least float32, in the type of the values.
    """
    wide = _widen(values)
    for axis, product in ((1, "mh,bhwc->bmwc"), (2, "mw,bhwc->bhmc")):
        inputs, outputs = wide.shape[axis], size[axis - 1]
        if inputs == outputs:
            continue  # Both conventions read each place itself.
        first, second, share = taps(inputs, outputs, align_corners=align_corners)
        weights = np.zeros((outputs, inputs))
        np.add.at(weights, (np.arange(outputs), first), 1.0 - share)
        np.add.at(weights, (np.arange(outputs), second), share)
        wide = jnp.einsum(product, jnp.asarray(weights, wide.dtype), wide, precision="highest")
    return wide.astype(values.dtype)


def bilinear_rows(
    values: jax.Array,
    size: tuple[int, int],
    start: jax.Array,
    rows: int,
    *,
    align_corners: bool,
) -> jax.Array:
    """Some rows of `bilinear(values, size)`, without the others: for large maps piece by piece.

    Args:
        values: Floats `[B, H, W, C]`.
        size: Height and width of the whole resized map.
        start: First of the rows, an integer; may be traced. Rows outside the map repeat its border.
        rows: How many.
        align_corners: As for `taps`.

    Returns:
        `[B, rows, size[1], C]`, computed in at least float32, in the type of the values.
    """
    wide = _widen(values)
    wanted = jnp.clip(start + jnp.arange(rows), 0, size[0] - 1)
    for axis, places in ((1, wanted), (2, jnp.arange(size[1]))):
        table = taps(wide.shape[axis], size[axis - 1], align_corners=align_corners)
        first, second, share = (jnp.asarray(each)[places] for each in table)
        share = share.astype(wide.dtype).reshape((-1, 1, 1) if axis == 1 else (-1, 1))
        before, after = (jnp.take(wide, each, axis=axis) for each in (first, second))
        wide = before * (1.0 - share) + after * share
    return wide.astype(values.dtype)


def adaptive_average_pool(values: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Means over bins: bin k of s covers floor(k n / s) to ceil((k + 1) n / s) - 1.

    Bins overlap where s does not divide n.

    Args:
        values: Floats `[B, H, W, C]`.
        size: Bins per column and per row.

    Returns:
        `[B, *size, C]`, computed in at least float32, in the type of the values.
    """
    wide = _widen(values)
    for axis, product in ((1, "sh,bhwc->bswc"), (2, "sw,bhwc->bhsc")):
        weights = jnp.asarray(_bins(wide.shape[axis], size[axis - 1]), wide.dtype)
        wide = jnp.einsum(product, weights, wide, precision="highest")
    return wide.astype(values.dtype)


def _bins(inputs: int, bins: int) -> np.ndarray:
    """Weights `[bins, inputs]`."""
    k, pixels = np.arange(bins)[:, None], np.arange(inputs)
    inside = (pixels >= k * inputs // bins) & (pixels < -((k + 1) * inputs // -bins))
    return inside / inside.sum(axis=1, keepdims=True)


def _widen(values: jax.Array) -> jax.Array:
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))
