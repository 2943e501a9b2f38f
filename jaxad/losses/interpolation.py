"""A critic that guesses how two codes were mixed, and the mixing that it is shown.

Codes of two training images are interpolated and decoded; the critic is to tell the share of the
first, α, from the decoded image alone, and 0 for real ones. The encoder and decoder are rewarded
where it says 0 of an interpolation too, so that what lies between normal codes decodes to normal
images. Sources: "document" is the thesis whose chapter 6 describes the interpolated Gaussian
descriptor; "released" is the code published with it (github.com/tianyu0207/IGD).

Partners are found in the global batch, whatever device holds them, among its real rows.

Rows of padding may hold anything in functions with a `valid` or `where`: it reaches no other row.
In the others (`interpolate`, `share_error`, `critic_loss`, `fooling_loss`) they must be finite, or
the zero gradient of a row that is dropped later turns into NaN (`masked.zero_outside` sees to it).
"""

import jax
import jax.numpy as jnp

from jaxad.losses import checks, devices, masked

__all__ = [
    "critic_loss",
    "draw_shares",
    "fooling_loss",
    "interpolate",
    "reversed_partners",
    "rolled_partners",
    "share_error",
    "share_error_released",
]


def draw_shares(keys: jax.Array, *, low: float = 0.0, high: float = 0.5) -> jax.Array:
    """One share per example: α ~ U(0, 1/2) by default; `high=1` gives ζ (document, section 6.3.1).

    Args:
        keys: Typed keys `[B]`, else a `TypeError`; make one per place in the global batch, and the
            draw does not depend on the number of devices.
        low: Smallest share.
        high: Above every share, and above `low`, else a `ValueError`.

    Returns:
        `[B]`, float32.
    """
    if not jnp.issubdtype(jnp.result_type(keys), jax.dtypes.prng_key):
        raise TypeError(f"keys: expected typed keys (jax.random.key), got {keys.dtype}.")
    checks.rank_equal("keys", keys.shape, "B")
    if not low < high:
        raise ValueError(f"high: expected a number above low = {low}, got {high}.")

    def draw(key):
        return jax.random.uniform(key, (), jnp.float32, low, high)

    return jax.vmap(draw)(keys)


def interpolate(first: jax.Array, second: jax.Array, shares: jax.Array) -> jax.Array:
    """α · first + (1 - α) · second: codes with α, or images and their reconstructions with ζ.

    Args:
        first: Floats `[B, ...]`, else a `TypeError`.
        second: The same shape, else a `ValueError`.
        shares: α `[B]`, or a scalar for all (0.2 for ζ in the released code), else a `ValueError`.

    Returns:
        `[B, ...]`, at least float32. Source: document, eqs. 6.9 and 6.10.
    """
    checks.floating("first", first)
    checks.shape_equal("second", jnp.shape(second), jnp.shape(first))
    first, second = masked.widen(first), masked.widen(second)
    shares = jnp.asarray(shares, first.dtype)
    if shares.ndim:
        checks.shape_equal("shares", shares.shape, first.shape[:1])
        shares = shares.reshape(-1, *(1,) * (first.ndim - 1))
    return second + shares * (first - second)


def rolled_partners(
    rows: jax.Array, valid: jax.Array | None = None, *, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """The next real row of the global batch for each row; for the last one the first.

    No row is its own partner unless it is the only one.

    Args:
        rows: `[B, ...]`.
        valid: Real rows `[B]`, else a `ValueError`; all by default.
        axis_name: Named axis of devices.

    Returns:
        Partners `[B, ...]`, gradients flow to them, and which rows have one, booleans `[B]`: none
        in a batch of one. The others come back themselves.
    """
    return _partners(rows, valid, axis_name, lambda rank, count: (rank + 1) % count, least=2)


def reversed_partners(
    rows: jax.Array, valid: jax.Array | None = None, *, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """The batch read backwards: the i-th real row meets the i-th from the end; released code.

    The middle one of an odd number is its own partner.

    Args:
        rows: `[B, ...]`.
        valid: Real rows `[B]`, else a `ValueError`; all by default.
        axis_name: Named axis of devices.

    Returns:
        Partners `[B, ...]`, gradients flow to them, and which rows have one, booleans `[B]`: the
        real ones. The others come back themselves.
    """
    return _partners(rows, valid, axis_name, lambda rank, count: count - 1 - rank, least=1)


def share_error(predictions: jax.Array, shares: jax.Array) -> jax.Array:
    """(d(x̂_α) - α)²: what the critic gets wrong on interpolations (document, eq. 6.10, left).

    Args:
        predictions: Of the critic, floats `[B]`, else a `TypeError`.
        shares: α `[B]`, else a `ValueError`.

    Returns:
        Loss per example `[B]`.
    """
    predictions = _critic("predictions", predictions)
    checks.shape_equal("shares", jnp.shape(shares), predictions.shape)
    return jnp.square(predictions - masked.widen(shares))


def share_error_released(
    predictions: jax.Array,
    shares: jax.Array,
    where: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """(d(x̂_α_j) - α_i)² averaged over all pairs i, j; released code of the global model.

    Predictions `[B]` and shares `[B, 1]` were broadcast against each other, so that the best
    prediction is the mean share for every image. For comparison with published runs alone.

    Args:
        predictions: Of the critic, floats `[B]`, else a `TypeError`.
        shares: α `[B]`, else a `ValueError`.
        where: Rows that count; broadcasts to `[B]`, else a `ValueError`. All by default.
        axis_name: Named axis of devices.

    Returns:
        Scalar: the mean square of d - mean α, plus the variance of α.
    """
    predictions = _critic("predictions", predictions)
    checks.shape_equal("shares", jnp.shape(shares), predictions.shape)
    # Selected before the squares, whose slope would bring back a NaN of a row that does not count.
    predictions, where = masked.zero_outside(predictions, where)
    shares = jnp.where(where, masked.widen(shares), 0.0)
    middle = masked.mean(shares, where, axis_name=axis_name)
    each = jnp.square(predictions - middle) + jnp.square(shares - middle)
    return masked.mean(each, where, axis_name=axis_name)


def critic_loss(interpolated: jax.Array, mixed: jax.Array, shares: jax.Array) -> jax.Array:
    """ℓ_d = (d(x̂_α) - α)² + d(x̂_ζ)², minimized by the critic alone (document, eq. 6.10).

    Args:
        interpolated: d(x̂_α) of decoded interpolations, floats `[B]`, else a `TypeError`.
        mixed: d(x̂_ζ) of images mixed with their reconstructions `[B]`, else a `ValueError`.
        shares: α `[B]`, else a `ValueError`.

    Returns:
        Loss per example `[B]`; average it over the rows that have a partner.
    """
    checks.shape_equal("mixed", jnp.shape(mixed), jnp.shape(interpolated))
    return share_error(interpolated, shares) + fooling_loss(mixed)


def fooling_loss(predictions: jax.Array) -> jax.Array:
    """d²: of x̂_α, what encoder and decoder minimize (document, eq. 6.11, before the weight λ₃).

    Args:
        predictions: Of the critic, floats `[B]`, else a `TypeError`.

    Returns:
        Loss per example `[B]`.
    """
    return jnp.square(_critic("predictions", predictions))


def _critic(name, predictions):
    checks.floating(name, predictions)
    checks.rank_equal(name, jnp.shape(predictions), "B")
    return masked.widen(predictions)


def _partners(rows, valid, axis_name, turn, least):
    """Each real row's partner by rank among the real rows: `turn(rank, number of them)`."""
    rows = jnp.asarray(rows)
    local = rows.shape[0]
    valid = masked.valid_rows(valid, local)
    every, real = devices.gather((rows, valid), axis_name)
    count = jnp.sum(real, dtype=jnp.int32)
    rank = jnp.cumsum(real, dtype=jnp.int32) - 1
    order = jnp.argsort(~real, stable=True)  # The place of each rank.
    partner = order[turn(rank, jnp.maximum(count, 1))]
    paired = real & (count >= least)
    partner = jnp.where(paired, partner, jnp.arange(real.shape[0]))
    here = devices.first_row(local, axis_name) + jnp.arange(local)
    return every[partner[here]], paired[here]
