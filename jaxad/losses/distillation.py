"""Self-distillation: a student learns the soft classes that a slower teacher gives other views.

Conventions of this file:

- K soft classes are the last axis. Views are the second: `[B, V, K]` student logits of V views of
  each image, `[B, G, K]` of the teacher, which sees the G global views only. The student's first G
  views are those same global ones. (The base release lays views end to end, `[V · B, K]`: reshape
  to `[V, B, K]` and swap.)
- Losses come per image `[B]`. Logits are raw, before any temperature; a temperature may be traced.
- No gradient reaches the teacher or its center. 16-bit inputs are widened.

Sources: "document" is number 003; "base" is the code it builds on (github.com/facebookresearch/
dino), which has the centering, the schedules and the means that the document does not mention.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxad.losses import checks, entropy, masked

__all__ = [
    "cosine_schedule",
    "ema",
    "linear_schedule",
    "negative_views",
    "negative_views_mean",
    "occupied_dimensions",
    "pair_cross_entropy",
    "positive_views",
    "positive_views_mean",
    "teacher_probabilities",
    "update_center",
]


def teacher_probabilities(
    logits: jax.Array, center: jax.Array, *, temperature: float | jax.Array
) -> jax.Array:
    """softmax((z - c) / tau): centering keeps one class from winning, sharpening all from tying.

    Args:
        logits: Teacher logits z `[..., K]`.
        center: c `[K]`, else a `ValueError`; zeros give eq. 1 of the document.
        temperature: tau > 0 of the teacher, below the student's.

    Returns:
        Probabilities `[..., K]`, at least float32, without gradient.

    References:
        Document, eq. 1; base for the center.
    """
    checks.floating("logits", logits)
    checks.shape_equal("center", jnp.shape(center), jnp.shape(logits)[-1:])
    centered = masked.widen(logits) - masked.widen(center)
    return jax.lax.stop_gradient(jax.nn.softmax(centered / temperature))


def pair_cross_entropy(
    logits: jax.Array, probabilities: jax.Array, *, temperature: float | jax.Array = 0.1
) -> jax.Array:
    """-sum_k p_t^k log p_s^k for every pair of a teacher's and a student's view of an image.

    Args:
        logits: Student logits `[B, V, K]`.
        probabilities: Of the teacher `[B, G, K]` with G <= V, else a `ValueError`.
        temperature: tau > 0 of the student.

    Returns:
        `[B, G, V]`; 0 with zero gradient where both views are the same.

    References:
        Document, eq. 3, one term of the sum.
    """
    different = _different_views(logits, probabilities)
    log_shares = jax.nn.log_softmax(masked.widen(logits) / temperature)
    targets = jax.lax.stop_gradient(masked.widen(probabilities))
    # At full precision: accelerators would else round log-probabilities of -20 to three digits.
    each = -jnp.einsum("bgk,bvk->bgv", targets, log_shares, precision="highest")
    return jnp.where(different, each, 0.0)


def positive_views(
    logits: jax.Array, probabilities: jax.Array, *, temperature: float | jax.Array = 0.1
) -> jax.Array:
    """`pair_cross_entropy` summed over the pairs of different views (document, eq. 3).

    Args:
        logits: Student logits `[B, V, K]`.
        probabilities: Of the teacher `[B, G, K]` with G <= V and a pair of different views, else a
            `ValueError`.
        temperature: tau > 0 of the student.

    Returns:
        Loss per image `[B]`.
    """
    return jnp.sum(pair_cross_entropy(logits, probabilities, temperature=temperature), axis=(1, 2))


def positive_views_mean(
    logits: jax.Array, probabilities: jax.Array, *, temperature: float | jax.Array = 0.1
) -> jax.Array:
    """`pair_cross_entropy` averaged over the G · V - G pairs of different views, as in the base.

    Args:
        logits: Student logits `[B, V, K]`.
        probabilities: Of the teacher `[B, G, K]` with G <= V and a pair of different views, else a
            `ValueError`.
        temperature: tau > 0 of the student.

    Returns:
        Loss per image `[B]`.
    """
    pairs = int(_different_views(logits, probabilities).sum())
    return positive_views(logits, probabilities, temperature=temperature) / pairs


def negative_views(logits: jax.Array, *, temperature: float | jax.Array = 0.1) -> jax.Array:
    """-(1 / K) sum_k log p_s^k summed over the views of an image (document, eq. 4).

    Each view costs log K + KL(uniform || p_s), so at least log K, which constant logits reach; for
    the values of single views call `entropy.uniform_cross_entropy` with logits / tau.

    Args:
        logits: Student logits of negative examples `[B, V, K]`, else a `ValueError`.
        temperature: tau > 0 of the student.

    Returns:
        Loss per image `[B]`.
    """
    checks.rank_equal("logits", jnp.shape(logits), "B V K")
    checks.floating("logits", logits)
    each = entropy.uniform_cross_entropy(masked.widen(logits) / temperature)
    return jnp.sum(each, axis=1)


def negative_views_mean(logits: jax.Array, *, temperature: float | jax.Array = 0.1) -> jax.Array:
    """`negative_views` divided by the number of views, the partner of `positive_views_mean`.

    The document's weight of 1 between the two sums means another one between the two means: with
    18 pairs and 9 negative views, one half.

    Args:
        logits: Student logits of negative examples `[B, V, K]`, else a `ValueError`.
        temperature: tau > 0 of the student.

    Returns:
        Loss per image `[B]`.
    """
    checks.rank_equal("logits", jnp.shape(logits), "B V K")
    return negative_views(logits, temperature=temperature) / jnp.shape(logits)[1]


def update_center(
    center: jax.Array,
    logits: jax.Array,
    where: jax.Array | None = None,
    *,
    momentum: float = 0.9,
    axis_name: str | None = None,
) -> jax.Array:
    """m c + (1 - m) · mean of the teacher's raw logits over views and the global batch (base).

    Args:
        center: c `[K]`, else a `ValueError`.
        logits: Teacher logits `[B, ..., K]`, before centering and temperature.
        where: Real images; broadcasts to `[B]`, else a `ValueError`. All by default.
        momentum: m in [0, 1].
        axis_name: Named axis of devices; all get the center of the global batch.

    Returns:
        The next center `[K]`, at least float32, without gradient; the old one if no image is real.
    """
    checks.floating("logits", logits)
    checks.shape_equal("center", jnp.shape(center), jnp.shape(logits)[-1:])
    where = masked.as_mask(where, jnp.shape(logits)[:1])
    logits = jax.lax.stop_gradient(logits)
    rows = where.reshape(where.shape + (1,) * (logits.ndim - 1))
    leading = tuple(range(logits.ndim - 1))
    mean = masked.mean(logits, rows, axis=leading, axis_name=axis_name)
    real = masked.count(where, where, axis_name=axis_name) > 0
    old = jax.lax.stop_gradient(masked.widen(center))
    return jnp.where(real, momentum * old + (1.0 - momentum) * mean, old)


def ema(average, values, *, momentum: float | jax.Array):
    """m a + (1 - m) v for every leaf: how the teacher's parameters follow the student's.

    Args:
        average: Tree of arrays `[...]`, the teacher's. Keep them in float32: 16-bit numbers do not
            hold steps of 1 - m = 0.004.
        values: The student's after its update, a tree of the same structure and shapes, else a
            `ValueError`.
        momentum: m in [0, 1]; 1 keeps the average, 0 copies the values.

    Returns:
        Tree of arrays `[...]`, each in the type of its average. Leaves without a fraction, counters
        say, are copied from `values`.

    References:
        Document, eq. 2.
    """
    expected, given = jax.tree.structure(average), jax.tree.structure(values)
    if given != expected:
        raise ValueError(f"values: expected the structure {expected}, got {given}.")

    def one(path, a, v):
        a, v = jnp.asarray(a), jnp.asarray(v)
        checks.shape_equal(f"values{jax.tree_util.keystr(path)}", v.shape, a.shape)
        if not jnp.issubdtype(a.dtype, jnp.floating):
            return v.astype(a.dtype)
        return (momentum * masked.widen(a) + (1.0 - momentum) * masked.widen(v)).astype(a.dtype)

    return jax.tree_util.tree_map_with_path(one, average, values)


def cosine_schedule(
    step: jax.Array,
    *,
    base: float,
    final: float,
    steps: int,
    warmup_steps: int = 0,
    start: float = 0.0,
) -> jax.Array:
    """A line from `start` to `base`, then half a cosine from `base` to `final` (base release).

    For learning rates, weight decay (0.04 to 0.4) and the momentum of `ema` (0.996 to 1). With at
    least 2 warm-up steps, step 0 has `start` and step warmup_steps - 1 has `base`, as has the next;
    a single one has `start`; without any, step 0 has `base`. `final` is reached at `steps`, one
    after the last.

    Args:
        step: Integers from 0 `[...]`; may be traced.
        base: Value after the warm-up.
        final: Value at step `steps` and beyond.
        steps: Length of training, at least 1, else a `ValueError`.
        warmup_steps: From 0 to `steps` - 1, else a `ValueError`.
        start: Value at step 0 of a warm-up; unused without one.

    Returns:
        Values `[...]`, in JAX's default float type.
    """
    checks.positive_integer("steps", steps)
    if not 0 <= warmup_steps < steps:
        raise ValueError(
            f"warmup_steps: expected an integer from 0 to {steps - 1}, got {warmup_steps}."
        )
    step = jnp.asarray(step, jnp.result_type(float))
    rising = start + (base - start) * step / max(warmup_steps - 1, 1)
    share = jnp.clip((step - warmup_steps) / (steps - warmup_steps), 0.0, 1.0)
    falling = final + 0.5 * (base - final) * (1.0 + jnp.cos(jnp.pi * share))
    return jnp.where(step < warmup_steps, rising, falling)


def linear_schedule(step: jax.Array, *, start: float, end: float, steps: int) -> jax.Array:
    """A line from `start` at step 0 to `end` at step `steps` - 1, where it stays.

    The teacher's temperature, with epochs for steps: the document lowers it from 0.055 or 0.05 to
    0.01 over all of training, the base raises it over the first epochs.

    Args:
        step: Integers from 0 `[...]`; may be traced.
        start: First value.
        end: Last value.
        steps: Number of values on the line, at least 1, else a `ValueError`; the first is `start`.

    Returns:
        Values `[...]`, in JAX's default float type.
    """
    checks.positive_integer("steps", steps)
    step = jnp.asarray(step, jnp.result_type(float))
    line = start + (end - start) * step / max(steps - 1, 1)
    return jnp.where(step < steps, line, end)


def occupied_dimensions(
    probabilities: jax.Array, where: jax.Array | None = None, *, axis_name: str | None = None
) -> jax.Array:
    """How many soft classes get more than their share 1 / K of the mean probability.

    A single class in use gives 1, the uniform distribution 0. Means of several batches may be
    averaged first and passed as one row.

    Args:
        probabilities: Of the teacher `[B, K]`, else a `ValueError`.
        where: Real rows; broadcasts to `[B]`, else a `ValueError`. All by default.
        axis_name: Named axis of devices; all get the count of the global batch.

    Returns:
        Scalar, int32; 0 where no row is real.

    References:
        Document, figure 2.
    """
    checks.rank_equal("probabilities", jnp.shape(probabilities), "B K")
    rows, classes = jnp.shape(probabilities)
    where = masked.as_mask(where, (rows,))
    shares = masked.mean(probabilities, where[:, None], axis=0, axis_name=axis_name)
    # Rounding of a mean of exact 1 / K must not count as more than that.
    rounding = 32.0 * float(jnp.finfo(shares.dtype).eps)
    return jnp.sum(shares * classes > 1.0 + rounding, dtype=jnp.int32)


def _different_views(logits, probabilities):
    """Booleans `[G, V]`, known while tracing: whether a pair is of two different views."""
    checks.floating("logits", logits)
    checks.floating("probabilities", probabilities)
    checks.rank_equal("logits", jnp.shape(logits), "B V K")
    checks.rank_equal("probabilities", jnp.shape(probabilities), "B G K")
    (images, views, classes), seen = jnp.shape(logits), jnp.shape(probabilities)[1]
    checks.shape_equal("probabilities", jnp.shape(probabilities), (images, seen, classes))
    if seen > views or views == 1:
        raise ValueError(
            f"probabilities: expected at most as many views as logits, and a pair of different "
            f"ones, got {seen} and {views}."
        )
    return ~np.eye(seen, views, dtype=bool)
