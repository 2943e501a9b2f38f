"""Separable filters of images and maps, as two products with banded matrices.

A filter of one axis is linear, so it is a matrix `[n_out, n_in]`: built on the host from static
shapes, with the padding folded in. Two dense products suit accelerators, and the gradient, padding
included, is the transposed product.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.losses import checks, masked

__all__ = ["gaussian_kernel", "separable_filter"]

_BLOCK = 64
_PADDINGS = ("valid", "reflect", "edge", "zero")


def gaussian_kernel(size: int, sigma: float) -> np.ndarray:
    """exp(-k^2 / (2 sigma^2)) at k = -(size - 1) / 2, ..., (size - 1) / 2, divided by its sum.

    Args:
        size: Number of taps, at least 1, else a `ValueError`.
        sigma: Standard deviation in pixels, above 0, else a `ValueError`.

    Returns:
        `[size]`, NumPy float64, sum 1.
    """
    checks.positive_integer("size", size)
    if not sigma > 0.0:
        raise ValueError(f"sigma: expected a number above 0, got {sigma}.")
    offsets = np.arange(size) - (size - 1) / 2
    # The smallest exponent is taken out: a narrow kernel of even size would divide 0 by 0.
    exponents = -0.5 * np.square(offsets / sigma)
    weights = np.exp(exponents - exponents.max())
    return weights / weights.sum()


def separable_filter(
    values: jax.Array,
    kernel: np.ndarray,
    *,
    axes: Sequence[int] = (-2, -1),
    padding: str = "valid",
    dilation: int = 1,
) -> jax.Array:
    """Correlates two axes with one kernel: out[i, j] = sum_a sum_b k[a] k[b] v[i + a, j + b].

    Every output is a sum over its row and column, or over blocks of them where a side is long, most
    of it times 0: a NaN or an infinity spreads along both. Replace such values first.

    Args:
        values: Floats `[...]`, else a `TypeError`. Both sides must be long enough for one output
            ("valid") or longer than the padding ("reflect"), else a `ValueError`.
        kernel: Taps `[k]`, a NumPy array or a sequence of numbers, else a `ValueError`; k is odd
            unless the padding is "valid", else a `ValueError`.
        axes: Two different axes of `values`, else a `ValueError`.
        padding: What lies beyond the border, else a `ValueError`. "valid": nothing, outputs are
            `dilation * (k - 1)` shorter. The others keep the size: "reflect" mirrors without
            repeating the edge, "edge" repeats it, "zero" is 0.
        dilation: Distance of neighboring taps, at least 1, else a `ValueError`.

    Returns:
        Filtered values `[...]`, at least float32.
    """
    checks.floating("values", values)
    checks.positive_integer("dilation", dilation)
    taps = np.asarray(kernel, np.float64)
    checks.rank_equal("kernel", taps.shape, "k")
    values = masked.widen(values)
    for axis in _two_axes(axes, values.ndim):
        values = _filter_axis(values, axis, taps, padding, dilation)
    return values


def _filter_axis(values, axis, taps, padding, dilation):
    span = dilation * (taps.size - 1)
    block = max(_BLOCK, span)
    if values.shape[axis] < 4 * block:
        matrix = _banded(values.shape[axis], taps, padding, dilation)
        return jnp.moveaxis(_product(values, axis, matrix), -1, axis)
    # A long side in blocks: the work then grows with the side, not with its square. The outputs of
    # a block depend on the inputs of the block and of the next.
    _banded(4 * block, taps, padding, dilation)  # For its checks.
    values = jnp.moveaxis(values, axis, -1)
    outer = [(0, 0)] * (values.ndim - 1)
    if padding != "valid":
        mode = {"reflect": "reflect", "edge": "edge", "zero": "constant"}[padding]
        values = jnp.pad(values, [*outer, (span // 2, span // 2)], mode=mode)
    outputs = values.shape[-1] - span
    blocks = -(-outputs // block) + 1
    values = jnp.pad(values, [*outer, (0, blocks * block - values.shape[-1])])
    values = values.reshape(*values.shape[:-1], blocks, block)
    matrix = _banded(2 * block, taps, "valid", dilation)[:block]
    own = _product(values[..., :-1, :], -1, matrix[:, :block])
    filtered = own + _product(values[..., 1:, :], -1, matrix[:, block:])
    filtered = filtered.reshape(*filtered.shape[:-2], -1)[..., :outputs]
    return jnp.moveaxis(filtered, -1, axis)


def _product(values, axis, matrix):
    # Without "highest", accelerators round the factors to fewer bits than float32 has.
    matrix = jnp.asarray(matrix, values.dtype)
    return jnp.tensordot(values, matrix, axes=(axis, 1), precision="highest")


def _two_axes(axes, rank):
    chosen = [axis % rank for axis in axes if -rank <= axis < rank]
    if len(chosen) != 2 or len(axes) != 2 or chosen[0] == chosen[1]:
        raise ValueError(f"axes: expected two different axes of {rank}, got {tuple(axes)}.")
    return chosen


def _banded(length: int, taps: np.ndarray, padding: str, dilation: int) -> np.ndarray:
    """The filter of an axis of `length` entries as a matrix `[n_out, n_in]`."""
    if padding not in _PADDINGS:
        raise ValueError(f"padding: expected one of {', '.join(_PADDINGS)}, got {padding!r}.")
    span = dilation * (taps.size - 1)
    needed = {"valid": span + 1, "reflect": span // 2 + 1}.get(padding, 1)
    if length < needed:
        raise ValueError(
            f"values: expected sides of at least {needed} for {taps.size} taps with dilation "
            f"{dilation} and padding {padding!r}, got {length}."
        )
    if padding != "valid" and taps.size % 2 == 0:
        raise ValueError(f"kernel: expected an odd number of taps, got {taps.size}.")
    before = 0 if padding == "valid" else span // 2
    outputs = np.arange(length - span + 2 * before)
    sources = outputs[:, None] + dilation * np.arange(taps.size) - before  # [n_out, k]
    weights = np.broadcast_to(taps, sources.shape)
    if padding == "zero":
        weights = np.where((sources >= 0) & (sources < length), weights, 0.0)
    if padding == "reflect":
        sources = np.where(sources < 0, -sources, sources)
        sources = np.where(sources >= length, 2 * (length - 1) - sources, sources)
    sources = np.clip(sources, 0, length - 1)
    matrix = np.zeros((outputs.size, length))
    np.add.at(matrix, (outputs[:, None], sources), weights)  # A mirrored entry is hit twice.
    return matrix
