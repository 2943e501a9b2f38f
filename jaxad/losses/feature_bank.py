"""Scores of query features against a bank of training features, block by block.

Conventions of this file:

- `features [Q, D]` are the queries, `bank [M, D]` what they are compared with, by cosine: neither
  need be normalised. A zero vector has cosine 0 with everything.
- Blocks of `block_size` bank rows are visited in turn, so that memory grows as Q · block_size, or
  Q · (k + block_size) in `nearest` and `neighbour_votes`, and no `[Q, M]` array exists, in the
  gradient neither; results do not depend on the block size beyond rounding.
- `where [M]` marks the real bank rows; the others may hold anything. `exclude [Q]` is the bank row
  that a query must not see, its own in a leave-one-out score, -1 for none. A query without any
  bank row scores 0 with zero gradient.
- With an `axis_name`, each device holds some rows of the bank (M is then what one holds), in
  order, and all have the same queries; `exclude` and rows that are returned count over all
  devices. All get the same result.
- Higher scores are more anomalous. 16-bit inputs are widened.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxad.losses import checks, devices, masked
from jaxad.losses.exponential import capped_exp

__all__ = [
    "Neighbours",
    "log_mean_exp",
    "max_cosine",
    "mean_exp",
    "nearest",
    "neighbour_votes",
]

_BLOCK = 1024


class Neighbours(NamedTuple):
    """The most similar bank rows of each query, most similar first.

    Attributes:
        cosines: `[Q, k]`; 0 where there is no neighbour.
        rows: Rows of the bank, int32 `[Q, k]`; -1 where there is no neighbour.
        real: Whether there is a neighbour, booleans `[Q, k]`.
    """

    cosines: jax.Array
    rows: jax.Array
    real: jax.Array


def mean_exp(
    features: jax.Array,
    bank: jax.Array,
    where: jax.Array | None = None,
    exclude: jax.Array | None = None,
    *,
    temperature: float = 0.04,
    block_size: int = _BLOCK,
    axis_name: str | None = None,
) -> jax.Array:
    """-(1 / M) sum_m exp(cos(f, f_m) / tau), the document's score: negative, near 0 if anomalous.

    It spans e^(2 / tau), 22 decades by default: rank by it or by `log_mean_exp`, which orders the
    same; plot and set thresholds with the latter.

    Args:
        features: Floats `[Q, D]`, else a `TypeError`.
        bank: Floats `[M, D]` with M >= 1, else a `ValueError`.
        where: Real bank rows; broadcasts to `[M]`, else a `ValueError`. All by default.
        exclude: Integers `[Q]`, else a `ValueError`; see the top of the file.
        temperature: tau > 0. Below about 1 / 64, scores of near twins leave float32 and follow
            `capped_exp`.
        block_size: Bank rows at a time, at least 1, else a `ValueError`.
        axis_name: Named axis of devices that share the bank.

    Returns:
        Scores `[Q]`.

    References:
        Document 003, eq. 6.
    """
    log_mean, seen = _log_mean(features, bank, where, exclude, temperature, block_size, axis_name)
    return jnp.where(seen, -capped_exp(log_mean), 0.0)


def log_mean_exp(
    features: jax.Array,
    bank: jax.Array,
    where: jax.Array | None = None,
    exclude: jax.Array | None = None,
    *,
    temperature: float = 0.04,
    block_size: int = _BLOCK,
    axis_name: str | None = None,
) -> jax.Array:
    """-log of the mean of exp(cos(f, f_m) / tau) over the bank: `mean_exp` on a usable scale.

    It lies in [-1 / tau, 1 / tau], and tends to tau^-1 times `max_cosine` for small tau.

    Args:
        features: Floats `[Q, D]`, else a `TypeError`.
        bank: Floats `[M, D]` with M >= 1, else a `ValueError`.
        where: Real bank rows; broadcasts to `[M]`, else a `ValueError`. All by default.
        exclude: Integers `[Q]`, else a `ValueError`; see the top of the file.
        temperature: tau > 0.
        block_size: Bank rows at a time, at least 1, else a `ValueError`.
        axis_name: Named axis of devices that share the bank.

    Returns:
        Scores `[Q]`.

    References:
        Document 003, eq. 6, -log(-S).
    """
    log_mean, _ = _log_mean(features, bank, where, exclude, temperature, block_size, axis_name)
    return -log_mean


def max_cosine(
    features: jax.Array,
    bank: jax.Array,
    where: jax.Array | None = None,
    exclude: jax.Array | None = None,
    *,
    block_size: int = _BLOCK,
    axis_name: str | None = None,
) -> jax.Array:
    """-max_m cos(f, f_m), the similarity to the nearest bank row alone.

    Args:
        features: Floats `[Q, D]`, else a `TypeError`.
        bank: Floats `[M, D]` with M >= 1, else a `ValueError`.
        where: Real bank rows; broadcasts to `[M]`, else a `ValueError`. All by default.
        exclude: Integers `[Q]`, else a `ValueError`; see the top of the file.
        block_size: Bank rows at a time, at least 1, else a `ValueError`.
        axis_name: Named axis of devices that share the bank.

    Returns:
        Scores `[Q]`; the gradient goes to the nearest row. Rows that tie exactly share it: equally
        within a block and between devices, by halves between a block and those before it.
    """

    def step(largest, cosines, keep, _):
        return jnp.maximum(largest, jnp.max(jnp.where(keep, cosines, -jnp.inf), axis=1))

    largest = _fold(step, -jnp.inf, features, bank, where, exclude, block_size, axis_name)
    found = jnp.isfinite(largest)
    largest = jnp.where(found, largest, -2.0)  # Below every cosine.
    highest = _highest(largest, axis_name)
    # A maximum over devices has no gradient of its own: the mean of those that reach it does.
    first = found & (largest == highest)
    sums = devices.total(jnp.where(first, largest, 0.0), axis_name)
    return -sums / jnp.maximum(devices.total(first.astype(sums.dtype), axis_name), 1.0)


def nearest(
    features: jax.Array,
    bank: jax.Array,
    k: int,
    where: jax.Array | None = None,
    exclude: jax.Array | None = None,
    *,
    block_size: int = _BLOCK,
    axis_name: str | None = None,
) -> Neighbours:
    """The k bank rows of largest cosine; of equal ones the first.

    Args:
        features: Floats `[Q, D]`, else a `TypeError`.
        bank: Floats `[M, D]` with M >= 1, else a `ValueError`.
        k: At least 1, else a `ValueError`; more than there are rows gives all of them.
        where: Real bank rows; broadcasts to `[M]`, else a `ValueError`. All by default.
        exclude: Integers `[Q]`, else a `ValueError`; see the top of the file.
        block_size: Bank rows at a time, at least 1, else a `ValueError`.
        axis_name: Named axis of devices that share the bank.

    Returns:
        `Neighbours` of shape `[Q, min(k, M)]`, M over all devices.
    """
    checks.positive_integer("k", k)
    _check(features, bank, where, exclude, block_size)
    held = min(k, jnp.shape(bank)[0])

    def step(state, cosines, keep, rows):
        cosines = jnp.concatenate([state[0], jnp.where(keep, cosines, -jnp.inf)], axis=1)
        rows = jnp.broadcast_to(rows, keep.shape)
        return _best(cosines, jnp.concatenate([state[1], rows], axis=1), held)

    queries = jnp.shape(features)[0]
    none = jnp.full((queries, held), -jnp.inf), jnp.full((queries, held), -1, jnp.int32)
    cosines, rows = _fold(step, none, features, bank, where, exclude, block_size, axis_name)
    cosines, rows = (devices.gather(x.T, axis_name).T for x in (cosines, rows))
    cosines, rows = _best(cosines, rows, min(k, cosines.shape[1]))
    real = jnp.isfinite(cosines)
    cosines = devices.same_on_all(jnp.where(real, cosines, 0.0), axis_name)
    rows = _highest(jnp.where(real, rows, -1), axis_name)
    return Neighbours(cosines, rows, rows >= 0)


def neighbour_votes(
    features: jax.Array,
    bank: jax.Array,
    labels: jax.Array,
    where: jax.Array | None = None,
    exclude: jax.Array | None = None,
    *,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
    block_size: int = _BLOCK,
    axis_name: str | None = None,
) -> jax.Array:
    """Sum of exp(cos / tau) over those of the k nearest bank rows that bear each label.

    The class of a query is the one with most votes; the share of right ones is the k-NN accuracy
    by which features are judged.

    Args:
        features: Floats `[Q, D]`, else a `TypeError`.
        bank: Floats `[M, D]` with M >= 1, else a `ValueError`.
        labels: Class of each bank row, integers `[M]`, else a `ValueError`. Labels below 0 (-1 for
            unlabelled rows, say) or from `classes` up do not vote, but their rows are neighbours.
        where: Real bank rows; broadcasts to `[M]`, else a `ValueError`. All by default.
        exclude: Integers `[Q]`, else a `ValueError`; see the top of the file.
        classes: Number of classes C, at least 1, else a `ValueError`.
        k: Number of neighbours, at least 1, else a `ValueError`.
        temperature: tau > 0.
        block_size: Bank rows at a time, at least 1, else a `ValueError`.
        axis_name: Named axis of devices that share the bank and its labels.

    Returns:
        Votes `[Q, C]`.

    References:
        Base code of document 003 (github.com/facebookresearch/dino).
    """
    checks.positive_integer("classes", classes)
    found = nearest(features, bank, k, where, exclude, block_size=block_size, axis_name=axis_name)
    checks.shape_equal("labels", jnp.shape(labels), jnp.shape(bank)[:1])
    weights = jnp.where(found.real, capped_exp(found.cosines / temperature), 0.0)
    chosen = devices.gather(jnp.asarray(labels), axis_name)[found.rows]  # [Q, k]
    weights = jnp.where(chosen >= 0, weights, 0.0)  # As an index, -1 would be the last class.
    queries = jnp.arange(chosen.shape[0])[:, None]
    votes = jnp.zeros((chosen.shape[0], classes), weights.dtype)
    votes = votes.at[queries, chosen].add(weights, mode="drop")
    return devices.same_on_all(votes, axis_name)


def _log_mean(features, bank, where, exclude, temperature, block_size, axis_name):
    """log((1 / M) sum_m exp(cos / tau)) `[Q]`, 0 for no rows, and whether there are any `[Q]`."""

    def step(state, cosines, keep, _):
        largest, sums, counts = state
        exponents = cosines / temperature
        top = jnp.max(jnp.where(keep, exponents, -jnp.inf), axis=1)
        # The shift drops out of the result, so it needs no gradient.
        new = jnp.maximum(largest, jax.lax.stop_gradient(top))
        terms = _shifted(exponents, new[:, None], keep)
        sums = sums * _shifted(largest, new, jnp.isfinite(largest)) + jnp.sum(terms, axis=1)
        return new, sums, counts + jnp.sum(keep, axis=1, dtype=sums.dtype)

    largest, sums, counts = _fold(
        step, (-jnp.inf, 0.0, 0.0), features, bank, where, exclude, block_size, axis_name
    )
    highest = _highest(largest, axis_name)
    sums = devices.total(sums * _shifted(largest, highest, jnp.isfinite(largest)), axis_name)
    counts = devices.total(counts, axis_name)
    seen = counts > 0
    highest, sums, counts = (
        jnp.where(seen, x, i) for x, i in ((highest, 0), (sums, 1), (counts, 1))
    )
    return highest + jnp.log(sums) - jnp.log(counts), seen


def _fold(step: Callable, state: Any, features, bank, where, exclude, block_size, axis_name):
    """Runs `state = step(state, cosines [Q, b], keep [Q, b], rows [b])` over blocks of the bank.

    Scalars in the first state stand for one such number per query.
    """
    where, exclude = _check(features, bank, where, exclude, block_size)
    queries, held = masked.unit(features), jnp.shape(bank)[0]
    block = min(block_size, held)
    before = devices.first_row(held, axis_name)
    state = jax.tree.map(lambda x: jnp.full(queries.shape[:1], x) if jnp.ndim(x) == 0 else x, state)
    state = jax.tree.map(
        lambda x: x.astype(queries.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, state
    )

    def visit(state, start):
        # The last block is moved back to fit: no padded copy of the bank. Rows seen before do not
        # count again.
        from_row = jnp.minimum(start, held - block)
        rows = from_row + jnp.arange(block, dtype=jnp.int32)
        real = jax.lax.dynamic_slice_in_dim(where, from_row, block) & (rows >= start)
        vectors = jax.lax.dynamic_slice_in_dim(bank, from_row, block)
        vectors = masked.unit(jnp.where(real[:, None], vectors, 0.0))
        # At full precision, as small temperatures enlarge the rounding of a cosine.
        cosines = jnp.matmul(queries, vectors.T, precision="highest")
        keep = real & (before + rows != exclude[:, None])
        return step(state, cosines, keep, before + rows)

    # Nothing of a block is kept for the way back, or all of them together would be [Q, M].
    visit = jax.checkpoint(visit, prevent_cse=False)
    # The first block comes before the loop: the state then varies over devices as the bank does.
    state = visit(state, jnp.int32(0))
    starts = block * jnp.arange(1, math.ceil(held / block), dtype=jnp.int32)
    if len(starts):
        state, _ = jax.lax.scan(lambda s, start: (visit(s, start), None), state, starts)
    return state


def _shifted(exponents, shift, keep):
    # Selected before the exponential: a masked entry may be far above the shift.
    return jnp.where(keep, jnp.exp(jnp.where(keep, exponents - shift, 0.0)), 0.0)


def _highest(values, axis_name):
    values = jax.lax.stop_gradient(values)
    return values if axis_name is None else jax.lax.pmax(values, axis_name)


def _best(cosines, rows, k):
    cosines, places = jax.lax.top_k(cosines, k)
    return cosines, jnp.take_along_axis(rows, places, axis=1)


def _check(features, bank, where, exclude, block_size):
    checks.floating("features", features)
    checks.floating("bank", bank)
    checks.rank_equal("features", jnp.shape(features), "Q D")
    checks.rank_equal("bank", jnp.shape(bank), "M D")
    rows, queries = jnp.shape(bank)[0], jnp.shape(features)[0]
    checks.shape_equal("bank", jnp.shape(bank), (max(rows, 1), jnp.shape(features)[1]))
    checks.positive_integer("block_size", block_size)
    where = masked.as_mask(where, (rows,))
    exclude = jnp.full(queries, -1, jnp.int32) if exclude is None else jnp.asarray(exclude)
    checks.shape_equal("exclude", exclude.shape, (queries,))
    return where, exclude
