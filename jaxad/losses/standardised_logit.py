"""Standardised max logit: the max logit relative to its distribution for the predicted class.

Statistics of the training pixels are gathered as sums: `zero`, then `add` for each batch, `merge`
for sums gathered apart, `finish` at the end. Each class keeps its count, mean and sum of squared
deviations, which merge without the cancellation that sums of squares suffer.

Maps are `[..., H, W]`, classes are the last axis of logits. A higher score is more anomalous.
16-bit inputs are widened: results are float32 or wider.

Source: Jung et al., Standardized Max Logits, https://arxiv.org/abs/2107.11264, and its code
(github.com/shjung13/Standardized-max-logits), as compared in document 004, chapter 11.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxad.losses import checks, energy, masked

__all__ = [
    "MaxLogitStatistics",
    "MaxLogitSums",
    "add",
    "boundary",
    "finish",
    "merge",
    "refine",
    "standardised_max_logit",
    "suppress_boundary",
    "zero",
]

_LOWEST_VARIANCE = 1e-12  # Of a class whose max logits are all equal.


class MaxLogitSums(NamedTuple):
    """What is known of the max logits of the pixels seen so far, by predicted class.

    Attributes:
        count: Number of pixels `[K]`.
        mean: Their mean `[K]`, 0 for a class without pixels.
        squares: Their sum of squared deviations from that mean `[K]`.
    """

    count: jax.Array
    mean: jax.Array
    squares: jax.Array


class MaxLogitStatistics(NamedTuple):
    """Distribution of the max logit of each predicted class.

    Attributes:
        mean: `[K]`, 0 for a class without pixels.
        variance: Unbiased, `[K]`, 1 for a class with fewer than two pixels.
        count: Number of pixels `[K]`; warn where it is below 2.
    """

    mean: jax.Array
    variance: jax.Array
    count: jax.Array


def zero(classes: int, *, dtype: jnp.dtype = jnp.float32) -> MaxLogitSums:
    """The sums of no pixels.

    Args:
        classes: K, at least 1, else a `ValueError`.
        dtype: Of the sums.

    Returns:
        Three arrays `[K]` of zeros.
    """
    checks.positive_integer("classes", classes)
    return MaxLogitSums(*(jnp.zeros(classes, dtype) for _ in MaxLogitSums._fields))


def add(
    sums: MaxLogitSums,
    logits: jax.Array,
    where: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> MaxLogitSums:
    """The sums with the pixels of a batch added.

    Args:
        sums: Of the pixels before, `[K]` each; the same on all devices.
        logits: Floats `[..., K]`, else a `TypeError`; K as in `sums`, else a `ValueError`.
        where: Pixels that count; broadcasts to `[...]`, else a `ValueError`. All by default.
        axis_name: Named axis of devices, whose pixels are all added.

    Returns:
        Sums, `[K]` each, the same on all devices.
    """
    checks.floating("logits", logits)
    checks.shape_equal("sums", jnp.shape(sums.count), jnp.shape(logits)[-1:])
    where = masked.as_mask(where, logits.shape[:-1])
    logits = masked.widen(logits)
    classes = jnp.arange(logits.shape[-1])
    member = where[..., None] & (jnp.argmax(logits, axis=-1)[..., None] == classes)  # [..., K]
    values = jnp.max(logits, axis=-1)[..., None]
    axes = tuple(range(logits.ndim - 1))

    def by_class(each):
        return masked.total(each, member, axis=axes, axis_name=axis_name)

    ones = jnp.ones((), logits.dtype)
    count = by_class(jnp.broadcast_to(ones, member.shape))
    some = jnp.maximum(count, 1.0)
    mean = by_class(jnp.broadcast_to(values, member.shape)) / some
    apart = values - mean
    # What rounding left in the mean shows in the sum of the deviations, and is taken out of both.
    left = by_class(apart)
    squares = by_class(jnp.square(apart)) - jnp.square(left) / some
    return merge(sums, MaxLogitSums(count, mean + left / some, jnp.maximum(squares, 0.0)))


def merge(sums: MaxLogitSums, others: MaxLogitSums) -> MaxLogitSums:
    """The sums of two disjoint sets of pixels; the order does not matter but for rounding.

    Args:
        sums: Of one set, `[K]` each.
        others: Of the other, `[K]` each, else a `ValueError`.

    Returns:
        Sums, `[K]` each.

    References:
        Chan et al., Updating Formulae and a Pairwise Algorithm for Computing Sample Variances,
        1982.
    """
    checks.shape_equal("others", jnp.shape(others.count), jnp.shape(sums.count))
    count = masked.widen(sums.count) + masked.widen(others.count)
    share = masked.widen(others.count) / jnp.maximum(count, 1.0)
    step = masked.widen(others.mean) - masked.widen(sums.mean)
    squares = masked.widen(sums.squares) + masked.widen(others.squares)
    return MaxLogitSums(
        count,
        masked.widen(sums.mean) + step * share,
        squares + jnp.square(step) * masked.widen(sums.count) * share,
    )


def finish(sums: MaxLogitSums) -> MaxLogitStatistics:
    """Mean and unbiased variance of each class.

    Args:
        sums: `[K]` each.

    Returns:
        Statistics, `[K]` each; mean 0 and variance 1 stand in where pixels are missing.
    """
    checks.rank_equal("sums", jnp.shape(sums.count), "K")
    sums = jax.tree.map(masked.widen, sums)
    several = sums.count > 1.0
    spread = sums.squares / jnp.where(several, sums.count - 1.0, 1.0)
    return MaxLogitStatistics(sums.mean, jnp.where(several, spread, 1.0), sums.count)


def standardised_max_logit(logits: jax.Array, statistics: MaxLogitStatistics) -> jax.Array:
    """-(max_k z_k - mean_c) / sqrt(variance_c), c the predicted class.

    Args:
        logits: z, floats `[..., K]`, else a `TypeError`; K as in `statistics`, else a `ValueError`.
        statistics: Of `finish`, `[K]` each.

    Returns:
        Score `[...]`, at least float32.
    """
    checks.floating("logits", logits)
    checks.shape_equal("statistics", jnp.shape(statistics.mean), jnp.shape(logits)[-1:])
    logits = masked.widen(logits)
    predicted = jnp.argmax(logits, axis=-1)
    mean = masked.widen(statistics.mean)[predicted]
    variance = masked.widen(statistics.variance)[predicted]
    apart = jnp.max(logits, axis=-1) - mean
    return -apart * jax.lax.rsqrt(jnp.maximum(variance, _LOWEST_VARIANCE))


def boundary(classes: jax.Array) -> jax.Array:
    """Pixels where predictions change: 3 × 3 cross dilation ≠ 3 × 3 erosion of the class numbers.

    What lies outside the map counts for neither.

    Args:
        classes: Predicted classes, integers `[..., H, W]`, else a `TypeError`.

    Returns:
        Booleans `[..., H, W]`.
    """
    _check_classes(classes)
    below_all, above_all = jnp.iinfo(classes.dtype).min, jnp.iinfo(classes.dtype).max
    largest = jnp.maximum(
        _window(classes, (3, 1), jax.lax.max, below_all),
        _window(classes, (1, 3), jax.lax.max, below_all),
    )
    return largest != _window(classes, (3, 3), jax.lax.min, above_all)


def suppress_boundary(
    scores: jax.Array, classes: jax.Array, *, width: int = 4, iterations: int = 4
) -> jax.Array:
    """Replaces the scores near class boundaries by those around, from the outside inwards.

    In each iteration the pixels within some distance (in steps to one of four neighbours) of a
    boundary pixel become the mean of those further away in their 3 × 3 window, or stay if there are
    none. The distance falls from width - 1 by width / iterations each time, and is 0 in the last.

    Args:
        scores: Floats `[..., H, W]`, else a `TypeError`.
        classes: Predicted classes, integers `[..., H, W]`, else a `ValueError` or a `TypeError`.
        width: Of the band around boundaries, at least 0, else a `ValueError`; 4 in the released
            evaluation, 8 in the paper.
        iterations: At least 1 and a divisor of `width`, else a `ValueError`.

    Returns:
        Scores `[..., H, W]`, at least float32.
    """
    checks.floating("scores", scores)
    _check_classes(classes)
    checks.shape_equal("classes", jnp.shape(classes), jnp.shape(scores))
    checks.positive_integer("iterations", iterations)
    if width < 0 or width % iterations:
        raise ValueError(f"width: expected a multiple of iterations={iterations}, got {width}.")
    step = width // iterations
    radii = [width - step * i - 1 for i in range(iterations - 1)] + [0]
    distances = _distances(boundary(classes), max(radii))

    def shrink(scores, radius):
        inside = distances <= radius
        outside = (~inside).astype(scores.dtype)
        weights = _sum_of_nine(outside)
        means = _sum_of_nine(jnp.where(inside, 0.0, scores)) / jnp.maximum(weights, 1.0)
        return jnp.where(inside & (weights > 0.0), means, scores), None

    return jax.lax.scan(shrink, masked.widen(scores), jnp.array(radii))[0]


def refine(
    scores: jax.Array,
    classes: jax.Array,
    *,
    width: int = 4,
    iterations: int = 4,
    dilation: int = 6,
) -> jax.Array:
    """Boundary suppression, then smoothing with a dilated 7 × 7 Gaussian of σ = 1 tap.

    Args:
        scores: Of `standardised_max_logit`, floats `[..., H, W]`, else a `TypeError`.
        classes: Predicted classes, integers `[..., H, W]`, else a `ValueError` or a `TypeError`.
        width: As for `suppress_boundary`.
        iterations: As for `suppress_boundary`.
        dilation: Distance of neighbouring taps in pixels; the border is repeated.

    Returns:
        Scores `[..., H, W]`, at least float32.
    """
    suppressed = suppress_boundary(scores, classes, width=width, iterations=iterations)
    return energy.gaussian_smoothing(suppressed, dilation=dilation, padding="edge")


def _window(values, sides, combine, neutral):
    """`combine` over a window around each pixel, what lies outside the map being `neutral`."""
    sides = (1,) * (values.ndim - 2) + sides
    neutral = jnp.array(neutral, values.dtype)
    return jax.lax.reduce_window(values, neutral, combine, sides, (1,) * values.ndim, "SAME")


def _distances(mask, most):
    """Steps from each pixel to the mask, most + 1 for those further away `[..., H, W]`."""

    def grow(state, _):
        reached, distances = state
        reached = _window(reached, (3, 1), jax.lax.max, 0) | _window(
            reached, (1, 3), jax.lax.max, 0
        )
        return (reached, distances + (1 - reached)), None

    reached = mask.astype(jnp.int32)
    return jax.lax.scan(grow, (reached, 1 - reached), length=most)[0][1]


def _sum_of_nine(values):
    """Sums over 3 × 3 windows of maps whose border is repeated once."""
    values = jnp.pad(values, [(0, 0)] * (values.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    values = values[..., :-2, :] + values[..., 1:-1, :] + values[..., 2:, :]
    return values[..., :-2] + values[..., 1:-1] + values[..., 2:]


def _check_classes(classes):
    if not jnp.issubdtype(jnp.result_type(classes), jnp.integer):
        raise TypeError(f"classes: expected an integer array, got {jnp.result_type(classes)}.")
    if jnp.ndim(classes) < 2:
        raise ValueError(f"classes: expected axes [..., H, W], got {jnp.shape(classes)}.")
