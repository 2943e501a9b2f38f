"""Random numbers from one key per example.

The draw of an example depends on its key alone: not on the other examples of the batch, on their
number, or on how devices share them. This holds for threefry keys, the default of JAX: others, as
"rbg", draw jointly under `vmap` and are refused. Numbers are float32 or int32 whatever types are
enabled, so that one key means one augmentation.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxad.augment import checks

__all__ = ["happens", "integers", "normal", "orders", "split", "uniform"]


def split(keys: jax.Array, count: int) -> jax.Array:
    """Independent keys for several draws.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        count: How many each is split into; at least 1, else a `ValueError`.

    Returns:
        Typed keys `[count, B]`, to be unpacked.
    """
    checks.keys("keys", keys)
    checks.integer("count", count)
    return jax.vmap(lambda key: jax.random.split(key, count), out_axes=1)(keys)


def uniform(
    keys: jax.Array, low: jax.Array, high: jax.Array, *, shape: Sequence[int] = ()
) -> jax.Array:
    """Numbers uniform in [low, high]; `high` itself comes by rounding only.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        low: Lower bound; broadcasts to the result.
        high: Upper bound; broadcasts to the result. Equal bounds give the bound.
        shape: Shape of an example's draw.

    Returns:
        float32 `[B, *shape]`.
    """
    checks.keys("keys", keys)
    share = jax.vmap(lambda key: jax.random.uniform(key, tuple(shape), jnp.float32))(keys)
    low, high = jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32)
    return low + (high - low) * share


def integers(
    keys: jax.Array, low: jax.Array, high: jax.Array, *, shape: Sequence[int] = ()
) -> jax.Array:
    """Integers uniform in [low, high), the upper bound excluded.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        low: Lower bound; broadcasts to the result.
        high: Upper bound; broadcasts to the result. `low` is drawn where it is not above `low`.
        shape: Shape of an example's draw.

    Returns:
        int32 `[B, *shape]`.
    """
    checks.keys("keys", keys)
    full = (keys.shape[0], *shape)
    low, high = (jnp.broadcast_to(jnp.asarray(x, jnp.int32), full) for x in (low, high))
    draw = lambda key, low, high: jax.random.randint(key, shape, low, high, jnp.int32)  # noqa: E731
    return jax.vmap(draw)(keys, low, high)


def normal(keys: jax.Array, *, shape: Sequence[int] = ()) -> jax.Array:
    """Numbers of the standard normal distribution.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        shape: Shape of an example's draw.

    Returns:
        float32 `[B, *shape]`.
    """
    checks.keys("keys", keys)
    return jax.vmap(lambda key: jax.random.normal(key, tuple(shape), jnp.float32))(keys)


def happens(keys: jax.Array, probability: float) -> jax.Array:
    """Whether something of the given probability happens: never at 0, always at 1.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        probability: In [0, 1], else a `ValueError`; or an array that broadcasts to `[B]`.

    Returns:
        Booleans `[B]`.
    """
    checks.probability("probability", probability)
    return uniform(keys, 0.0, 1.0) < probability


def orders(keys: jax.Array, count: int) -> jax.Array:
    """Random orders of the numbers 0 to count - 1, each as likely as any other.

    Args:
        keys: Typed keys `[B]`, else a `TypeError`.
        count: At least 1, else a `ValueError`.

    Returns:
        int32 `[B, count]`.
    """
    checks.keys("keys", keys)
    checks.integer("count", count)
    items = jnp.arange(count, dtype=jnp.int32)
    return jax.vmap(lambda key: jax.random.permutation(key, items))(keys)
