"""Center and variance of latent codes: the E-step of the interpolated Gaussian descriptor (IGD).

The codes of the training set are gathered with `moments.zero_trace((D,))` and `moments.add`,
outside the gradient; `finish` reads off the Gaussian. The released code has rules of its own, which
depend on how the set is cut into batches: `away_from_zero` and what is named `..._released`.

Sources: "document" is the thesis whose chapter 6 describes IGD; "released" is the code published
with it (github.com/tianyu0207/IGD).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxad.losses import checks, masked, one_class
from jaxad.losses.moments import Moments

__all__ = [
    "BatchVariance",
    "IsotropicGaussian",
    "add_released",
    "away_from_zero",
    "finish",
    "finish_released",
    "zero_released",
]


class IsotropicGaussian(NamedTuple):
    """What `one_class.gaussian_anomaly` measures codes against.

    Attributes:
        center: μ `[D]`.
        variance: σ², the mean squared distance to the center: of the whole vector, not per feature.
    """

    center: jax.Array
    variance: jax.Array


class BatchVariance(NamedTuple):
    """The released estimate of the variance so far.

    Attributes:
        batches: Number of batches, int32.
        total: Sum of the batches' floored variances.
    """

    batches: jax.Array
    total: jax.Array


def finish(moments: Moments) -> IsotropicGaussian:
    """μ = mean of z, σ² = mean of ‖z - μ‖² (document, eq. 6.3).

    Args:
        moments: Of `moments.zero_trace((..., D))`: a scatter `[...]` for a mean `[..., D]`, else a
            `ValueError`.

    Returns:
        Center `[..., D]` and variance `[...]`; 0 before the first row. A variance of 0 (one row, or
        all equal) is left as it is: the functions that divide by it have a floor.
    """
    mean = masked.widen(moments.mean)
    checks.shape_equal("moments.scatter", jnp.shape(moments.scatter), mean.shape[:-1])
    rows = jnp.maximum(jnp.asarray(moments.count).astype(mean.dtype), 1.0)
    return IsotropicGaussian(mean, masked.widen(moments.scatter) / rows)


def away_from_zero(center: jax.Array, *, margin: float = 0.1) -> jax.Array:
    """Moves coordinates that are nearer to zero than `margin` to ± margin; an exact zero stays.

    Without it, a bias-free encoder could reach such a coordinate by shutting a unit off.

    Args:
        center: Floats `[..., D]`, else a `TypeError`.
        margin: Least distance from zero, above 0.

    Returns:
        `[..., D]`, at least float32. Source: released code, after the initial center of Ruff et
        al., Deep One-Class Classification, ICML 2018.
    """
    checks.floating("center", center)
    center = masked.widen(center)
    return jnp.where(jnp.abs(center) < margin, jnp.sign(center) * margin, center)


def zero_released() -> BatchVariance:
    """No batches yet.

    Returns:
        `BatchVariance` of scalars.
    """
    return BatchVariance(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32))


def add_released(
    state: BatchVariance,
    embeddings: jax.Array,
    center: jax.Array,
    where: jax.Array | None = None,
    *,
    floor: float = 1.0,
    axis_name: str | None = None,
) -> BatchVariance:
    """Adds max(floor, mean of ‖z - c‖² over the batch); released code.

    Unlike eq. 6.3, batches of different sizes weigh the same and each has a floor. The released
    training refreshes the variance before the center, so against the center of the last time.

    Args:
        state: Of the batches before.
        embeddings: Floats `[B, D]`, else a `TypeError`.
        center: `[D]`, else a `ValueError`.
        where: Rows that count; broadcasts to `[B]`, else a `ValueError`. A batch without any is
            none.
        floor: Least variance of a batch.
        axis_name: Named axis of devices that share the batch.

    Returns:
        `BatchVariance` of scalars, the same on all devices.
    """
    checks.rank_equal("embeddings", jnp.shape(embeddings), "B D")
    distances = one_class.squared_distance(embeddings, center)
    where = masked.as_mask(where, distances.shape)
    mean = masked.mean(distances, where, axis_name=axis_name)
    real = masked.count(where, distances, axis_name=axis_name) > 0
    total = masked.widen(state.total)
    return BatchVariance(
        state.batches + real.astype(jnp.int32),
        total + jnp.where(real, jnp.maximum(mean, floor), 0.0).astype(total.dtype),
    )


def finish_released(state: BatchVariance) -> jax.Array:
    """Mean of the batches' floored variances; released code (there called sigma).

    Args:
        state: Of at least one batch.

    Returns:
        Scalar σ²; 0 before the first batch.
    """
    checks.rank_equal("state.total", jnp.shape(state.total), "")
    total = masked.widen(state.total)
    return total / jnp.maximum(jnp.asarray(state.batches).astype(total.dtype), 1.0)
