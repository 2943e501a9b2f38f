"""Counts of scores on the device, for ranking metrics of more pixels than one cares to move.

A state is a histogram of float32 scores by their leading bits, the two classes apart; see
`jaxad.metrics.streaming`, whose `from_device` takes it and whose bins are the same. Its parts add
up: over calls, devices and processes.

Counts are int32: at most 2^31 - 1 scores, of all devices together, may go into a state before it is
moved to the host (`from_device`, then `merge` into int64 counts) and begun anew.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxad.losses import checks, devices, masked

__all__ = ["ScoreHistogram", "add", "score_bins", "zero"]

_EXPONENT = 0x7F800000  # Of float32: all ones for NaN and infinity.


class ScoreHistogram(NamedTuple):
    """Counts of scores; elementwise sums of states are states.

    Attributes:
        counts: Normal (row 0) and anomalous (row 1) scores per bin, rising, int32 `[2, bins]`.
        not_finite: NaN and infinite scores, which are in no bin, int32 `[]`.
    """

    counts: jax.Array
    not_finite: jax.Array


def zero(*, bins: int = 2**16) -> ScoreHistogram:
    """The state of no scores.

    Args:
        bins: A power of two, 2 to 2^24, else a `ValueError`.

    Returns:
        Counts of zero: int32 `[2, bins]` and `[]`.
    """
    _bits(bins)
    return ScoreHistogram(jnp.zeros((2, bins), jnp.int32), jnp.zeros((), jnp.int32))


def score_bins(scores: jax.Array, *, bins: int = 2**16) -> jax.Array:
    """The bin of each score: the leading bits of float32, made to rise with the score.

    Args:
        scores: Floats `[...]`, else a `TypeError`; float64 is rounded to float32, and what is
            then denormal may become 0, by device. 0 and -0 share a bin; what is not finite gets
            some bin.
        bins: A power of two, 2 to 2^24, else a `ValueError`.

    Returns:
        int32 `[...]`, 0 to `bins` - 1.
    """
    checks.floating("scores", scores)
    bits = _pattern(scores)
    # Negative numbers fall as their bits rise: flip all of them. Others: go above, flip the sign.
    negative = jax.lax.shift_right_arithmetic(bits, jnp.int32(31))
    ordered = bits ^ (negative | jnp.int32(-(2**31)))
    # Negative zero goes to zero by its bits, as float arithmetic may flush what is denormal.
    ordered = jnp.where(bits == -(2**31), jnp.int32(-(2**31)), ordered)
    return jax.lax.shift_right_logical(ordered, jnp.int32(32 - _bits(bins)))


def add(
    state: ScoreHistogram,
    scores: jax.Array,
    truth: jax.Array,
    where: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> ScoreHistogram:
    """Counts more scores.

    Args:
        state: Counts `[2, bins]` and `[]`, the same on all devices.
        scores: Floats `[...]`, else a `TypeError`; no gradient flows.
        truth: 0 for normal, anything else for anomalous, `[...]`, else a `ValueError`.
        where: Scores that count; broadcasts to `[...]`, else a `ValueError`. All by default.
        axis_name: Named axis of devices: each passes its scores and gets the counts of all.

    Returns:
        The state with them, `[2, bins]` and `[]`; see the top of the file for its limit.
    """
    bins = jnp.shape(state.counts)[-1]
    checks.shape_equal("state", jnp.shape(state.counts), (2, bins))
    checks.shape_equal("truth", jnp.shape(truth), jnp.shape(scores))
    scores = jax.lax.stop_gradient(scores)
    chosen = masked.as_mask(where, jnp.shape(scores))
    places = score_bins(scores, bins=bins) + bins * (jnp.asarray(truth) != 0).astype(jnp.int32)
    finite = (_pattern(scores) & _EXPONENT) != _EXPONENT
    # One past the end is dropped.
    places = jnp.where(chosen & finite, places, 2 * bins).reshape(-1)
    counts = jnp.zeros(2 * bins, jnp.int32).at[places].add(1, mode="drop")
    not_finite = jnp.sum(chosen & ~finite, dtype=jnp.int32)
    return ScoreHistogram(
        state.counts + devices.total(counts.reshape(2, bins), axis_name),
        state.not_finite + devices.total(not_finite, axis_name),
    )


def _pattern(scores: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(jnp.asarray(scores).astype(jnp.float32), jnp.int32)


def _bits(bins: int) -> int:
    """log2 of the number of bins."""
    checks.positive_integer("bins", bins)
    if not 2 <= bins <= 2**24 or bins & (bins - 1):
        raise ValueError(f"bins: expected a power of two, 2 to 2^24, got {bins}.")
    return int(bins).bit_length() - 1
