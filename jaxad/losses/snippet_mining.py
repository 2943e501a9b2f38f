"""Hard and easy snippets of weakly labelled videos, and the loss that contrasts them.

A video's scores are `[..., T]`, `where` marks its real snippets. Everything chosen is a mask
`[..., T]`: no shape depends on data, and no gradient flows through a choice. Sets of chapter 9:

    hard anomalous   temporal_edges(p) | missed_snippets(p), p = binarise(scores)
    hard normal      highest(scores, 3) of normal videos
    easy anomalous   highest(scores, 3) of anomalous videos
    easy normal      lowest(scores, 3) of normal videos

Sources: document 004, chapter 9; "released" is github.com/tianyu0207/weakly-polyp.
"""

import jax
import jax.numpy as jnp

from jaxad.losses import checks, devices, masked, mil

__all__ = [
    "binarise",
    "contrast",
    "contrast_released",
    "highest",
    "lowest",
    "missed_snippets",
    "missed_snippets_released",
    "outer_ring_released",
    "temporal_edges",
    "temporal_edges_released",
]


def binarise(
    scores: jax.Array, where: jax.Array | None = None, *, threshold: float | None = None
) -> jax.Array:
    """Which snippets score above the threshold, strictly (section 9.3.3).

    Args:
        scores: Floats `[..., T]`, else a `TypeError`.
        where: Real snippets; broadcasts to `scores`.
        threshold: A number, or None: the median of the video's real scores, as released. Then at
            most half of a video's snippets are above, and none of equal ones.

    Returns:
        Booleans `[..., T]`, False at padding.
    """
    checks.floating("scores", scores)
    where = masked.as_mask(where, jnp.shape(scores))
    scores = jax.lax.stop_gradient(masked.widen(scores))
    if threshold is not None:
        return (scores > threshold) & where
    count = jnp.sum(where, axis=-1, keepdims=True)
    ranked = jnp.sort(jnp.where(where, scores, jnp.inf), axis=-1)
    lower = jnp.take_along_axis(ranked, jnp.maximum(count - 1, 0) // 2, axis=-1)
    upper = jnp.take_along_axis(ranked, jnp.maximum(count // 2, 0), axis=-1)
    return (scores > 0.5 * (lower + upper)) & where


def temporal_edges(positive: jax.Array) -> jax.Array:
    """First and last snippet of each run of positives: the run minus its erosion of width 3.

    Args:
        positive: Booleans `[..., T]`; what lies outside the video is negative.

    Returns:
        Booleans `[..., T]` (section 9.3.3).
    """
    positive = _booleans("positive", positive)
    return positive & ~(_shift(positive, -1) & positive & _shift(positive, 1))


def temporal_edges_released(positive: jax.Array) -> jax.Array:
    """Erosion of width 2 minus erosion of width 4, both off-centre; released code.

    Of a run from a to b of four or more it marks a + 1 and b.

    Args:
        positive: Booleans `[..., T]`; what lies outside the video is negative.

    Returns:
        Booleans `[..., T]`.
    """
    positive = _booleans("positive", positive)
    two = _shift(positive, -1) & positive
    return two & ~(_shift(positive, -2) & two & _shift(positive, 1))


def outer_ring_released(positive: jax.Array) -> jax.Array:
    """Dilation of width 4 minus dilation of width 2: a ring around each run; released code.

    No loss of the release uses it.

    Args:
        positive: Booleans `[..., T]`; what lies outside the video is negative.

    Returns:
        Booleans `[..., T]`.
    """
    positive = _booleans("positive", positive)
    two = positive | _shift(positive, 1)
    return (two | _shift(positive, -1) | _shift(positive, 2)) & ~two


def missed_snippets(
    positive: jax.Array,
    where: jax.Array | None = None,
    *,
    window: int = 10,
    required: int = 9,
) -> jax.Array:
    """Negatives inside a window of K consecutive snippets of which at least R are positive.

    Args:
        positive: Booleans `[..., T]`.
        where: Real snippets; broadcasts to `positive`. A window with another one does not count.
        window: K, at least 1; no window fits a video shorter than that.
        required: R, at least 1.

    Returns:
        Booleans `[..., T]` (section 9.3.3; K and R as released).
    """
    return _missed(positive, where, window, required, last=0)


def missed_snippets_released(
    positive: jax.Array, *, window: int = 10, required: int = 9
) -> jax.Array:
    """`missed_snippets` of the released code, which never tries the last window of a video.

    Args:
        positive: Booleans `[..., T]`.
        window: K, at least 1.
        required: R, at least 1.

    Returns:
        Booleans `[..., T]`.
    """
    return _missed(positive, None, window, required, last=1)


def highest(scores: jax.Array, k: int | float, where: jax.Array | None = None) -> jax.Array:
    """The k snippets of the highest scores; of equal ones the first.

    Args:
        scores: Floats `[..., T]`.
        k: See `mil.top_k_indices`.
        where: Those to choose from; broadcasts to `scores`. Fewer than k of them are all chosen.

    Returns:
        Booleans `[..., T]`.
    """
    indices, real = mil.top_k_indices(scores, k, where)
    # A scatter, as comparing indices with places would take [..., k, T].
    none = jnp.zeros(jnp.shape(scores), bool)
    return jnp.put_along_axis(none, indices, real, axis=-1, inplace=False)


def lowest(scores: jax.Array, k: int | float, where: jax.Array | None = None) -> jax.Array:
    """The k snippets of the lowest scores; of equal ones the first.

    Args:
        scores: Floats `[..., T]`.
        k: See `mil.top_k_indices`.
        where: Those to choose from; broadcasts to `scores`.

    Returns:
        Booleans `[..., T]`.
    """
    return highest(-jnp.asarray(scores), k, where)


def contrast(
    embeddings: jax.Array,
    hard: jax.Array,
    easy: jax.Array,
    negatives: jax.Array,
    *,
    temperature: float = 0.07,
    axis_name: str | None = None,
) -> jax.Array:
    """Pulls each hard snippet to each easy one of its class, away from the other class.

    Mean over pairs (i, j) of -log(e^{x_i·x_j/τ} / (e^{x_i·x_j/τ} + Σ_m e^{x_i·x_m/τ})), i hard, j
    easy, m over the negatives: only the one positive of the pair is in its denominator (eq. 9.6,
    whose minus sign is missing in print).

    Args:
        embeddings: x, floats `[B, T, C]`; normalise them before (`masked.unit`), since products of
            thousands of channels are beyond any temperature.
        hard: i, booleans `[B, T]`, else a `ValueError`.
        easy: j, booleans `[B, T]`, else a `ValueError`.
        negatives: m, booleans `[B, T]`, else a `ValueError`.
        temperature: τ; the document gives none, this is the released one.
        axis_name: Named axis of devices: pairs and negatives of the global batch.

    Returns:
        Scalar, 0 with zero gradient if there is no pair.
    """
    checks.rank_equal("embeddings", jnp.shape(embeddings), "B T C")
    checks.floating("embeddings", embeddings)
    for name, mask in (("hard", hard), ("easy", easy), ("negatives", negatives)):
        checks.shape_equal(name, jnp.shape(mask), embeddings.shape[:2])
    used = jnp.asarray(hard) | jnp.asarray(easy) | jnp.asarray(negatives)
    own = jnp.where(used[..., None], masked.widen(embeddings), 0.0)
    own = own.reshape(-1, own.shape[-1])  # [R, C]
    others, easy, negatives = devices.gather(
        (own, jnp.ravel(easy), jnp.ravel(negatives)), axis_name
    )
    # Divided by a small temperature, the rounding of TF32 or bfloat16 products would show.
    similar = jnp.matmul(own, others.T, precision=jax.lax.Precision.HIGHEST) / temperature
    each = _pairs_against(similar, similar, negatives)
    pairs = jnp.ravel(hard)[:, None] & easy[None, :]
    return masked.mean(each, pairs, axis_name=axis_name)


def contrast_released(
    hard: jax.Array, easy: jax.Array, negatives: jax.Array, *, temperature: float = 0.07
) -> jax.Array:
    """One pair per index: the mean hard feature against the mean easy one; released code.

    Both means and the negatives are normalised. The release adds up the means over pairs of both
    classes and weighs them with 0.25.

    Args:
        hard: Features of a video's hard snippets, floats `[P, n, C]`.
        easy: Of the easy snippets of the same class `[P, m, C]`, else a `ValueError`.
        negatives: Of the easy snippets of the other class, from the video of the same index
            `[P, M, C]`, else a `ValueError`.
        temperature: τ.

    Returns:
        Loss per pair `[P]`.
    """
    checks.floating("hard", hard)
    checks.rank_equal("hard", jnp.shape(hard), "P n C")
    for name, features in (("easy", easy), ("negatives", negatives)):
        checks.rank_equal(name, jnp.shape(features), "P n C")
        given, expected = jnp.shape(features), jnp.shape(hard)
        checks.shape_equal(name, (given[0], given[2]), (expected[0], expected[2]))
    query, positive = (masked.unit(jnp.mean(masked.widen(x), axis=1)) for x in (hard, easy))
    negatives = masked.unit(negatives)
    similar = jnp.sum(query * positive, axis=-1, keepdims=True) / temperature  # [P, 1]
    # Divided by a small temperature, the rounding of TF32 or bfloat16 products would show.
    exact = jax.lax.Precision.HIGHEST
    others = jnp.einsum("pc,pmc->pm", query, negatives, precision=exact) / temperature
    return _pairs_against(similar, others, jnp.ones(others.shape[-1], bool))[:, 0]


def _pairs_against(similar, others, where):
    """-log(e^s / (e^s + Σ e^others)) for each entry s of a row `[R, P]`, others `[R, M]`."""
    largest = jax.lax.stop_gradient(
        jnp.max(jnp.where(where, others, -jnp.inf), axis=-1, keepdims=True, initial=-1e30)
    )
    total = masked.total(jnp.exp(jnp.where(where, others - largest, 0.0)), where, axis=-1)[:, None]
    empty = total == 0.0
    against = jnp.log(jnp.where(empty, 1.0, total)) + largest
    return jnp.where(empty, 0.0, jax.nn.softplus(jnp.where(empty, 0.0, against - similar)))


def _missed(positive, where, window, required, last):
    checks.positive_integer("window", window)
    checks.positive_integer("required", required)
    positive = _booleans("positive", positive)
    where = masked.as_mask(where, positive.shape)
    positive = positive & where
    length = positive.shape[-1]
    starts = length - window + 1 - last
    if starts < 1:
        return jnp.zeros(positive.shape, bool)

    def within(values):
        """Sums of K neighbours, for each start of a window."""
        sums = jnp.cumsum(values, axis=-1, dtype=jnp.int32)
        sums = jnp.concatenate([jnp.zeros_like(sums[..., :1]), sums], axis=-1)
        return (sums[..., window:] - sums[..., :-window])[..., :starts]

    found = (within(positive) >= required) & (within(where) == window)
    # A snippet is inside of windows that start at most K - 1 before it.
    sums = jnp.cumsum(found, axis=-1, dtype=jnp.int32)
    sums = jnp.concatenate([jnp.zeros_like(sums[..., :1]), sums], axis=-1)
    place = jnp.arange(length)
    upto = sums[..., jnp.minimum(place + 1, starts)]
    before = sums[..., jnp.clip(place - window + 1, 0, starts)]
    return (upto > before) & where & ~positive


def _shift(positive, offset):
    """`positive[..., t + offset]` at each t, False outside."""
    padding = [(0, 0, 0)] * (positive.ndim - 1) + [(-offset, offset, 0)]
    return jax.lax.pad(positive, jnp.zeros((), bool), padding)


def _booleans(name, mask):
    mask = jnp.asarray(mask)
    if mask.ndim < 1:
        raise ValueError(f"{name}: expected [..., T], got a scalar.")
    return mask.astype(bool)
