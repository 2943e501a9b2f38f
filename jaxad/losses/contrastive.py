"""Contrastive losses: a row's features against those of the other rows, of all devices.

`masked_info_nce` does the arithmetic for any relation of rows. The contrastive distribution loss of
CCD (eq. 4.2) is this with one of the relations of `relations.py`; with `all_other_rows` it is
`nt_xent` of strongly augmented images.

Conventions of this file:

- `features [R, D]` are taken as they come; `masked.unit` of them makes the similarities cosines.
- Functions of views take `features [B, 2, D]`, two weak views of each item.
- `valid` marks what is no padding: a padded row is neither anchor nor negative and may hold
  anything, NaN included.
- Values come per anchor. With `axis_name` each device holds its own anchors against the rows of all
  devices, a block `[R, R of all devices]`, and `masked.mean(values, anchor, axis_name=axis_name)`
  is the loss of the global batch.
- 16-bit inputs are widened.

Sources: "document" is document 004, a thesis whose chapter 4 describes CCD; "released" is the code
published with it (github.com/tianyu0207/CCD).
"""

import jax
import jax.numpy as jnp

from jaxad.losses import checks, devices, masked, relations

__all__ = [
    "contrastive_distribution_released",
    "masked_info_nce",
    "nt_xent",
    "supervised_contrastive",
]


def masked_info_nce(
    features: jax.Array,
    positive: jax.Array,
    denominator: jax.Array,
    anchor: jax.Array,
    *,
    temperature: float = 0.2,
    denominator_scale: jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """log Σ_q exp(κ_rq s_rq) - mean_p s_rp / τ, s_rq = f_r · f_q, for each anchor r.

    q runs over the row's denominator and p over its positives; κ = 1 / τ unless given. One positive
    that is part of the denominator makes it a cross-entropy.

    Args:
        features: Floats `[R, D]`, else a `TypeError`.
        positive: Booleans `[R, Q]`, else a `ValueError`; Q = R · devices.
        denominator: Booleans `[R, Q]`, else a `ValueError`. Name the positives here too, and leave
            out the row itself.
        anchor: Booleans `[R]`, else a `ValueError`.
        temperature: τ, positive.
        denominator_scale: κ, floats that broadcast to `[R, Q]`, else a `ValueError`.
        axis_name: Named axis of devices, whose rows are gathered once.

    Returns:
        Loss per row `[R]`, at least float32; 0 with zero gradient for rows that are no anchor, or
        have no positive or no denominator.

    References:
        Van den Oord et al., Representation Learning with Contrastive Predictive Coding,
        https://arxiv.org/abs/1807.03748; several positives as in Khosla et al., Supervised
        Contrastive Learning, https://arxiv.org/abs/2004.11362, eq. 2.
    """
    checks.floating("features", features)
    checks.rank_equal("features", jnp.shape(features), "R D")
    own = masked.widen(features)
    others = devices.gather(own, axis_name)
    pairs = (own.shape[0], others.shape[0])
    checks.shape_equal("positive", jnp.shape(positive), pairs)
    checks.shape_equal("denominator", jnp.shape(denominator), pairs)
    checks.shape_equal("anchor", jnp.shape(anchor), pairs[:1])
    positive, denominator, anchor = (
        jnp.asarray(x).astype(bool) for x in (positive, denominator, anchor)
    )
    anchor = anchor & jnp.any(positive, axis=-1) & jnp.any(denominator, axis=-1)
    used = jnp.any((positive | denominator) & anchor[:, None], axis=0)
    # A NaN in a row without use would reach the other rows' gradients as 0 · NaN in the product.
    own = jnp.where(anchor[:, None], own, 0.0)
    others = jnp.where(used[:, None], others, 0.0)
    # Divided by a small temperature, the rounding of TF32 or bfloat16 products would show.
    similarity = jnp.matmul(own, others.T, precision=jax.lax.Precision.HIGHEST)  # [R, Q]
    logits = attraction = similarity / temperature
    if denominator_scale is not None:
        checks.broadcastable("denominator_scale", jnp.shape(denominator_scale), pairs)
        logits = similarity * denominator_scale
    # Masked before the row's maximum is taken: the similarity of a long vector with itself, if it
    # were the maximum, would let all others underflow. Rows that are no anchor keep finite logits.
    logits = jnp.where(denominator, logits, -jnp.inf)
    logits = jnp.where(anchor[:, None], logits, 0.0)
    each = jax.nn.logsumexp(logits, axis=-1) - masked.mean(attraction, positive, axis=-1)
    return jnp.where(anchor, each, 0.0)


def nt_xent(
    features: jax.Array,
    valid: jax.Array | None = None,
    *,
    temperature: float = 0.2,
    axis_name: str | None = None,
) -> jax.Array:
    """-log of the other view's share among all other rows, for each view of each item.

    SimCLR's loss where an item is an image, and the contrastive distribution loss where it is a
    strongly augmented image: copies of one image under other strong augmentations are negatives.

    Args:
        features: Floats `[B, 2, D]`, L2-normalised for cosine similarities; else a `TypeError`, or
            a `ValueError` for other shapes.
        valid: Items that are no padding `[B]`, else a `ValueError`. All by default.
        temperature: τ, positive.
        axis_name: Named axis of devices, whose items are negatives too.

    Returns:
        Loss per item and view `[B, 2]`, 0 for padding; the loss of a batch is `masked.mean(values,
        valid[:, None], axis_name=axis_name)`.

    References:
        Chen et al., A Simple Framework for Contrastive Learning of Visual Representations,
        https://arxiv.org/abs/2002.05709, eq. 1; document, section 4.2.1, eq. 4.2, with the
        mask of the released code for both views.
    """
    valid = _check_views(features, valid)
    relation = _view_pairs(features, valid, axis_name)
    return _over_views(features, relation, temperature=temperature, axis_name=axis_name)


def contrastive_distribution_released(
    features: jax.Array,
    valid: jax.Array | None = None,
    *,
    temperature: float = 0.2,
    axis_name: str | None = None,
) -> jax.Array:
    """As `nt_xent`, but only the first view of each item is an anchor; released code.

    Unlike the released code it subtracts the row's maximum after the row itself is masked out, so
    that features need not be normalised.

    Args:
        features: Floats `[B, 2, D]`, else a `TypeError`, or a `ValueError` for other shapes.
        valid: Items that are no padding `[B]`, else a `ValueError`. All by default.
        temperature: τ, positive.
        axis_name: Named axis of devices, whose items are negatives too.

    Returns:
        Loss per item `[B]`, 0 for padding; the loss of a batch is `masked.mean(values, valid,
        axis_name=axis_name)`.
    """
    valid = _check_views(features, valid)
    relation = _view_pairs(features, valid, axis_name)
    view_id = jnp.tile(jnp.arange(2), features.shape[0])
    relation = relations.first_view_anchors(relation, view_id)
    each = _over_views(features, relation, temperature=temperature, axis_name=axis_name)
    return each[:, 0]


def supervised_contrastive(
    features: jax.Array,
    labels: jax.Array,
    valid: jax.Array | None = None,
    *,
    temperature: float = 0.2,
    axis_name: str | None = None,
) -> jax.Array:
    """-mean_p log(exp(s_rp / τ) / Σ_q exp(s_rq / τ)), p over the other rows of the same label.

    Args:
        features: Floats `[B, V, D]`, V views of each item, L2-normalised for cosine similarities;
            else a `TypeError`.
        labels: Integers `[B]`, else a `ValueError`; those of strong augmentations, say.
        valid: Items that are no padding `[B]`, else a `ValueError`. All by default.
        temperature: τ, positive.
        axis_name: Named axis of devices, whose items count too.

    Returns:
        Loss per item and view `[B, V]`; 0 for padding, and for a row alone with its label.

    References:
        Khosla et al., Supervised Contrastive Learning, https://arxiv.org/abs/2004.11362, eq. 2.
    """
    checks.rank_equal("features", jnp.shape(features), "B V D")
    items, views, _ = features.shape
    checks.shape_equal("labels", jnp.shape(labels), (items,))
    valid = masked.valid_rows(valid, items)
    relation = relations.same_label_rows(
        jnp.repeat(labels, views), jnp.repeat(valid, views), axis_name=axis_name
    )
    return _over_views(features, relation, temperature=temperature, axis_name=axis_name)


def _over_views(features, relation, **options):
    """`masked_info_nce` of features `[B, V, D]` whose views are the rows, as `[B, V]`."""
    rows = features.reshape(-1, features.shape[-1])
    return masked_info_nce(rows, *relation, **options).reshape(features.shape[:2])


def _view_pairs(features, valid, axis_name):
    """Two views of an item are positives, all other rows negatives."""
    items = features.shape[0]
    item = devices.first_row(items, axis_name) + jnp.arange(items)
    view = jnp.tile(jnp.arange(2), items)
    item, valid = jnp.repeat(item, 2), jnp.repeat(valid, 2)
    return relations.all_other_rows(item, jnp.zeros_like(view), view, valid, axis_name=axis_name)


def _check_views(features, valid):
    checks.floating("features", features)
    checks.rank_equal("features", jnp.shape(features), "B 2 D")
    items, _, dim = jnp.shape(features)
    checks.shape_equal("features", jnp.shape(features), (items, 2, dim))
    return masked.valid_rows(valid, items)
