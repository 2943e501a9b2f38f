"""Probability of inclusion of a squared Mahalanobis distance, and its logarithms.

P_I(D) = Q(N / 2, D / 2), Q the regularised upper incomplete gamma function: the share of N-variate
normal vectors that lie farther from their mean than D. All is done in logarithms. As numbers, at
N = 256 in float32, P_I is 0 from D = 670 and 1 - P_I is 0 up to D = 151, and training starts there.

`distances` are squared, `dimension` is N. Results are float32, or wider for wider inputs. Losses
made of them are in `inclusion_exposure`.

Source: document 000 (aux_prototypes), section 3.2, eq. 7; no code was released.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp

from jaxad.losses import checks, masked

__all__ = [
    "inclusion_probability",
    "inclusion_rate",
    "log_exclusion",
    "log_inclusion",
    "wilson_hilferty_log_exclusion",
    "wilson_hilferty_log_inclusion",
]

_LEAST_RATIO = 1e-3  # D / N below which a line replaces what diverges at D = 0.


def log_inclusion(distances: jax.Array, dimension: int) -> jax.Array:
    """log P_I(D) = log Q(N / 2, D / 2), with its own derivative.

    Args:
        distances: Squared distances D, floats `[...]`, at least 0, else a `TypeError`.
        dimension: N, at least 1, else a `ValueError`.

    Returns:
        Logarithms `[...]`, 0 at D = 0 and falling, with a slope from 0 to -1/2; the slope for
        N = 1, which diverges at 0, is bounded.

    References:
        Document 000, eq. 7.
    """
    return _log_upper(_half(distances, dimension), dimension / 2)


def log_exclusion(distances: jax.Array, dimension: int) -> jax.Array:
    """log(1 - P_I(D)) = log P(N / 2, D / 2), with its own derivative; no difference is formed.

    Below D = 0.001 N, where it diverges, its tangent goes on: the slope stays at about 500.

    Args:
        distances: Squared distances D, floats `[...]`, at least 0, else a `TypeError`.
        dimension: N, at least 1, else a `ValueError`.

    Returns:
        Logarithms `[...]`, negative and rising to 0.

    References:
        Document 000, eq. 7, as used in eq. 8.
    """
    return _log_lower(_half(distances, dimension), dimension / 2)


def inclusion_probability(distances: jax.Array, dimension: int) -> jax.Array:
    """P_I(D), a map of it per class for distances per class; losses take `log_inclusion`.

    Args:
        distances: Squared distances D, floats `[...]`, at least 0, else a `TypeError`.
        dimension: N, at least 1, else a `ValueError`.

    Returns:
        Probabilities `[...]`: 1 at D = 0, about a half at D = N.

    References:
        Document 000, eq. 7.
    """
    return jnp.exp(log_inclusion(distances, dimension))


def inclusion_rate(
    distances: jax.Array,
    labels: jax.Array,
    dimension: int,
    where: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Share of each class's pixels with P_I above a half: shows classes that were never pulled in.

    Args:
        distances: Squared distances to all prototypes, floats `[B, ..., K]`, else a `TypeError`.
        labels: Integers `[B, ...]`, else a `ValueError`.
        dimension: N, at least 1, else a `ValueError`.
        where: Pixels that are not void; broadcasts to `labels`, else a `ValueError`.
        axis_name: Named axis of devices; all get the rates of the global batch.

    Returns:
        Rates `[K]`, 0 for a class without pixels, and numbers of pixels `[K]`.
    """
    labels = jnp.asarray(labels)
    checks.shape_equal("labels", labels.shape, jnp.shape(distances)[:-1])
    inside = (log_inclusion(distances, dimension) > -math.log(2.0)).astype(jnp.float32)
    real = masked.as_mask(where, labels.shape)
    own = real[..., None] & (labels[..., None] == jnp.arange(inside.shape[-1]))
    axes = tuple(range(labels.ndim))
    rates = masked.mean(inside, own, axis=axes, axis_name=axis_name)
    return rates, masked.count(own, inside, axis=axes, axis_name=axis_name)


def wilson_hilferty_log_inclusion(distances: jax.Array, dimension: int) -> jax.Array:
    """log P_I from the cube root of D / N, which is close to normal; cheap, and rough far outside.

    With t = 2 / (9 N): log Phi(-z), z = ((D / N)^(1/3) - 1 + t) / sqrt(t).

    Args:
        distances: Squared distances D, floats `[...]`, at least 0, else a `TypeError`.
        dimension: N, at least 1, else a `ValueError`.

    Returns:
        Logarithms `[...]`. At N = 256 off by 0.03 at D = 1.5 N, 0.35 at 2 N and 16 at 5 N.

    References:
        Wilson and Hilferty, The distribution of chi-square, 1931. Not in document 000.
    """
    return jax.scipy.special.log_ndtr(-_cube_root_normal(distances, dimension))


def wilson_hilferty_log_exclusion(distances: jax.Array, dimension: int) -> jax.Array:
    """log(1 - P_I) by the same approximation: log Phi(z).

    Args:
        distances: Squared distances D, floats `[...]`, at least 0, else a `TypeError`.
        dimension: N, at least 1, else a `ValueError`.

    Returns:
        Logarithms `[...]`; below D = 0.001 N a line replaces the cube root.
    """
    return jax.scipy.special.log_ndtr(_cube_root_normal(distances, dimension))


def _half(distances, dimension):
    checks.floating("distances", distances)
    checks.positive_integer("dimension", dimension)
    return masked.widen(distances) / 2.0


def _cube_root_normal(distances, dimension):
    ratios = 2.0 * _half(distances, dimension) / dimension
    floored = jnp.maximum(ratios, _LEAST_RATIO)
    roots = jnp.cbrt(floored)
    roots = roots + (ratios - floored) / (3.0 * jnp.square(roots))  # The tangent below the floor.
    variance = 2.0 / (9.0 * dimension)
    return (roots - 1.0 + variance) / math.sqrt(variance)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _log_upper(x, a):
    """log Q(a, x), for one a."""
    return _log_upper_and_rate(x, a)[0]


@_log_upper.defjvp
def _log_upper_jvp(a, primals, tangents):
    log_upper, rate = _log_upper_and_rate(primals[0], a)
    return log_upper, -rate * tangents[0]


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _log_lower(x, a):
    """log P(a, x), for one a; a line below _LEAST_RATIO."""
    return _log_lower_and_rate(x, a)[0]


@_log_lower.defjvp
def _log_lower_jvp(a, primals, tangents):
    log_lower, rate = _log_lower_and_rate(primals[0], a)
    return log_lower, rate * tangents[0]


def _log_upper_and_rate(x, a):
    """log Q and f / Q, f the density."""
    log_front, series, fraction = _expansions(x, a)
    # For a = 1/2 alone the density diverges at 0.
    least = _LEAST_RATIO * a if a < 1 else float(jnp.finfo(x.dtype).tiny)
    log_density = log_front + math.log(a) - jnp.log(jnp.maximum(x, least))
    log_lower = jnp.where(x < a, log_front + jnp.log(series), -1.0)  # -1: any safe value.
    log_upper = jnp.where(
        x < a, jax.nn.log1mexp(-log_lower), log_front + math.log(a) + jnp.log(fraction)
    )
    # Each side's own expansion gives f / Q or f / P without the exponential of a difference.
    near = jnp.exp(jnp.where(x < a, log_density - log_upper, 0.0))
    return log_upper, jnp.where(x < a, near, 1.0 / (jnp.maximum(x, a) * fraction))


def _log_lower_and_rate(x, a):
    """log P and f / P, f the density."""
    floored = jnp.maximum(x, _LEAST_RATIO * a)
    log_front, series, fraction = _expansions(floored, a)
    log_density = log_front + math.log(a) - jnp.log(floored)
    above = floored >= a
    log_upper = jnp.where(above, log_front + math.log(a) + jnp.log(fraction), -1.0)
    log_lower = jnp.where(above, jax.nn.log1mexp(-log_upper), log_front + jnp.log(series))
    far = jnp.exp(jnp.where(above, log_density - log_lower, 0.0))
    rate = jnp.where(above, far, a / (floored * series))
    return log_lower + rate * (x - floored), rate


def _expansions(x, a):
    """log(x^a e^-x / Gamma(a + 1)), the series of P at min(x, a), the fraction of Q at max(x, a).

    P = front * series; Q = front * a * fraction. Both converge most slowly at x = a: there, this
    many terms give the series to 1e-14 and the fraction to 1e-7 for N = 1, 1e-12 from N = 7 on.
    Written out, they are one kernel.
    """
    below, above = jnp.minimum(x, a), jnp.maximum(x, a)
    series = jnp.ones_like(x)
    for k in range(int(8.0 * math.sqrt(a)) + 16, 0, -1):
        series = 1.0 + below / (a + k) * series
    terms = 48 + int(math.sqrt(a))
    if a == int(a):
        terms = min(terms, int(a) - 1)  # The term k = a is 0: a finite sum.
    denominator = above + (2 * terms + 1 - a)
    for k in range(terms, 0, -1):
        denominator = above + (2 * k - 1 - a) - k * (k - a) / denominator
    # Stirling's remainder, in double precision: lgamma of the array library would cancel.
    remainder = math.lgamma(a + 1) - (a + 0.5) * math.log(a) + a - 0.5 * math.log(2.0 * math.pi)
    excess = (x - a) / a
    close = excess >= -0.5
    tiny = float(jnp.finfo(x.dtype).tiny)
    logs = jnp.where(
        close,
        jnp.log1p(jnp.where(close, excess, 0.0)),
        jnp.log(jnp.maximum(x / a, tiny)),
    )
    log_front = a * (logs - excess) - (0.5 * math.log(2.0 * math.pi * a) + remainder)
    return log_front, series, 1.0 / denominator
