"""Penalties on a video's snippet scores over time: smoothness and sparsity, in each published form.

`T` snippets are the last axis of scores; `where` marks the real ones among padding, `valid [B]` the
rows that are no padding, `labels [B]` are 0 (normal) or 1 (anomalous). "document" is the thesis
004, "released" the code published with its chapter 8 (github.com/tianyu0207/RTFM). The forms of
other releases are built of these and of `masked`: that of github.com/tianyu0207/weakly-polyp is
`smoothness` and `masked.norm(scores, where, axis=-1)` of the anomalous videos.
"""

import jax
import jax.numpy as jnp

from jaxad.losses import checks, devices, masked

__all__ = [
    "mean_smoothness",
    "mean_sparsity",
    "smoothness",
    "smoothness_released",
    "sparsity",
    "sparsity_released",
]


def smoothness(scores: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Sum of squared differences of neighbouring scores of a video (document, section 8.3.4).

    Args:
        scores: `[..., T]`.
        where: Real snippets; broadcasts to `scores`. A difference needs both its ends.

    Returns:
        Loss per video `[...]`.
    """
    return _squared_steps(scores, _real(scores, where))


def sparsity(scores: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Sum of absolute scores of a video (document, section 8.3.4).

    Args:
        scores: `[..., T]`.
        where: Real snippets; broadcasts to `scores`.

    Returns:
        Loss per video `[...]`.
    """
    where = _real(scores, where)
    return masked.total(masked.absolute(jnp.where(where, scores, 0.0)), where, axis=-1)


def smoothness_released(
    scores: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    where: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """Sum of squared differences along the anomalous videos laid end to end; released code.

    The last snippet of a video is a neighbour of the first of the next anomalous one. The sum is
    not divided by the number of videos.

    Args:
        scores: `[B, T]`.
        labels: `[B]`, else a `ValueError`.
        valid: `[B]`, else a `ValueError`.
        where: Real snippets `[B, T]`; the others are cut out before the videos are joined.
        axis_name: Named axis of devices.

    Returns:
        Scalar, before the released weight of 8e-4.
    """
    mask = _anomalous_snippets(scores, labels, valid, where)
    scores, mask = devices.gather((scores, mask), axis_name)
    scores, mask = scores.reshape(-1), mask.reshape(-1)
    joined = jnp.argsort(~mask, stable=True)  # Selected snippets first, in their order.
    return devices.same_on_all(_squared_steps(scores[joined], mask[joined]), axis_name)


def sparsity_released(
    scores: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    where: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """Euclidean norm of all scores of all anomalous videos together; released code.

    Args:
        scores: `[B, T]`.
        labels: `[B]`, else a `ValueError`.
        valid: `[B]`, else a `ValueError`.
        where: Real snippets `[B, T]`.
        axis_name: Named axis of devices.

    Returns:
        Scalar, before the released weight of 8e-3; its gradient is zero where all scores are.
    """
    mask = _anomalous_snippets(scores, labels, valid, where)
    return masked.norm(scores, mask, axis_name=axis_name)


def mean_smoothness(scores: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """`smoothness` divided by the number of snippets (document, eq. 9.2, first term).

    Args:
        scores: `[..., T]`.
        where: Real snippets; broadcasts to `scores`.

    Returns:
        Loss per video `[...]`; 0 without a real snippet.
    """
    return smoothness(scores, where) / _length(scores, where)


def mean_sparsity(scores: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """`sparsity` divided by the number of snippets (document, eq. 9.2, second term).

    Args:
        scores: `[..., T]`.
        where: Real snippets; broadcasts to `scores`.

    Returns:
        Loss per video `[...]`; 0 without a real snippet.
    """
    return sparsity(scores, where) / _length(scores, where)


def _length(scores, where):
    return jnp.maximum(masked.count(_real(scores, where), scores, axis=-1), 1.0)


def _squared_steps(scores, where):
    scores = jnp.where(where, masked.widen(scores), 0.0)
    steps = scores[..., 1:] - scores[..., :-1]
    return masked.total(jnp.square(steps), where[..., 1:] & where[..., :-1], axis=-1)


def _real(scores, where):
    checks.floating("scores", scores)
    return masked.as_mask(where, jnp.shape(scores))


def _anomalous_snippets(scores, labels, valid, where):
    checks.rank_equal("scores", jnp.shape(scores), "B T")
    checks.shape_equal("labels", jnp.shape(labels), scores.shape[:1])
    checks.shape_equal("valid", jnp.shape(valid), scores.shape[:1])
    anomalous = (labels == 1) & jnp.asarray(valid).astype(bool)
    return _real(scores, where) & anomalous[:, None]
