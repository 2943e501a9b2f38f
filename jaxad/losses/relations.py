"""Which rows of a contrastive batch attract, and which stand in whose denominator.

A row is one weak view of one strongly augmented image: `image_id`, `strong_id` (which strong
augmentation) and `view_id` (0 or 1), integers `[R]`. A row is itself by its place. From the ids of
its rows and of those of all devices each device builds its share of a `Relation`, booleans
`[R, R of all devices]`, for `contrastive.masked_info_nce`. `valid` marks the rows that are no
padding: others are neither anchors nor in a denominator.

The positive of CCD is always the other view of the same strongly augmented image. Its eq. 4.2 is
damaged in print and leaves open which rows are the negatives: each reading is a function, and
`all_other_rows` that of the released code (github.com/tianyu0207/CCD). "Document" is document 004,
a thesis.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxad.losses import checks, devices, masked

__all__ = [
    "Relation",
    "all_other_rows",
    "first_view_anchors",
    "other_images",
    "same_label_rows",
    "same_strong_both_views",
    "same_strong_other_view",
]


class Relation(NamedTuple):
    """What the rows of all devices (second axis) are to the rows of this one (first axis).

    Attributes:
        positive: Pairs that attract, booleans `[R, Q]`.
        denominator: Pairs in the denominator, the positive ones included, booleans `[R, Q]`.
        anchor: Rows that have a loss, booleans `[R]`: real ones with a positive.
    """

    positive: jax.Array
    denominator: jax.Array
    anchor: jax.Array


class _Pairs(NamedTuple):
    """Comparisons of this device's rows with those of all, booleans `[R, Q]`."""

    same_image: jax.Array
    same_strong: jax.Array
    same_view: jax.Array
    other_row: jax.Array


def all_other_rows(
    image_id: jax.Array,
    strong_id: jax.Array,
    view_id: jax.Array,
    valid: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> Relation:
    """Positive: the other view of the same strongly augmented image. Negative: every other row.

    The mask of the released code, with both views as anchors. The ids only find the positive: to
    make negatives of an image's second copy in a batch, give it another `image_id`.

    Args:
        image_id: Integers `[R]`.
        strong_id: Integers `[R]`, else a `ValueError`.
        view_id: Integers `[R]`, else a `ValueError`.
        valid: Rows that are no padding `[R]`, else a `ValueError`. All by default.
        axis_name: Named axis of devices, whose ids are gathered.

    Returns:
        Relation of `[R, R of all devices]`.
    """
    pairs, real = _compare(image_id, strong_id, view_id, valid, axis_name)
    return _relation(pairs, pairs.other_row, real)


def same_strong_other_view(
    image_id: jax.Array,
    strong_id: jax.Array,
    view_id: jax.Array,
    valid: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> Relation:
    """Negative: other images under the same strong augmentation, seen in the other view.

    Eq. 4.2 to the letter: the sum runs over other images, under the same augmentation a_j, in the
    second view. Copies under different strong augmentations are then never contrasted.

    Args:
        image_id: Integers `[R]`, of the source image.
        strong_id: Integers `[R]`, else a `ValueError`.
        view_id: Integers `[R]`, else a `ValueError`.
        valid: Rows that are no padding `[R]`, else a `ValueError`. All by default.
        axis_name: Named axis of devices, whose ids are gathered.

    Returns:
        Relation of `[R, R of all devices]`; the positive is the other view of the same strongly
        augmented image.

    References:
        Document, section 4.2.1, eq. 4.2.
    """
    pairs, real = _compare(image_id, strong_id, view_id, valid, axis_name)
    negative = ~pairs.same_image & pairs.same_strong & ~pairs.same_view
    return _relation(pairs, negative, real)


def same_strong_both_views(
    image_id: jax.Array,
    strong_id: jax.Array,
    view_id: jax.Array,
    valid: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> Relation:
    """Negative: other images under the same strong augmentation, in both views.

    Args:
        image_id: Integers `[R]`, of the source image.
        strong_id: Integers `[R]`, else a `ValueError`.
        view_id: Integers `[R]`, else a `ValueError`.
        valid: Rows that are no padding `[R]`, else a `ValueError`. All by default.
        axis_name: Named axis of devices, whose ids are gathered.

    Returns:
        Relation of `[R, R of all devices]`; the positive is the other view of the same strongly
        augmented image.

    References:
        Document, section 4.2.1, eq. 4.2 with the sum taken over both views.
    """
    pairs, real = _compare(image_id, strong_id, view_id, valid, axis_name)
    return _relation(pairs, ~pairs.same_image & pairs.same_strong, real)


def other_images(
    image_id: jax.Array,
    strong_id: jax.Array,
    view_id: jax.Array,
    valid: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> Relation:
    """Negative: other images, under any strong augmentation and in both views.

    Args:
        image_id: Integers `[R]`, of the source image.
        strong_id: Integers `[R]`, else a `ValueError`.
        view_id: Integers `[R]`, else a `ValueError`.
        valid: Rows that are no padding `[R]`, else a `ValueError`. All by default.
        axis_name: Named axis of devices, whose ids are gathered.

    Returns:
        Relation of `[R, R of all devices]`; the positive is the other view of the same strongly
        augmented image.

    References:
        Document, section 4.2.1, eq. 4.2: negatives from the data set without the image.
    """
    pairs, real = _compare(image_id, strong_id, view_id, valid, axis_name)
    return _relation(pairs, ~pairs.same_image, real)


def same_label_rows(
    labels: jax.Array, valid: jax.Array | None = None, *, axis_name: str | None = None
) -> Relation:
    """Positive: every other row of the same label. Negative: the rows of other labels.

    Args:
        labels: Integers `[R]`.
        valid: Rows that are no padding `[R]`, else a `ValueError`. All by default.
        axis_name: Named axis of devices, whose labels are gathered.

    Returns:
        Relation of `[R, R of all devices]`; a row alone with its label is no anchor.
    """
    checks.rank_equal("labels", jnp.shape(labels), "R")
    none = jnp.zeros(jnp.shape(labels), jnp.int32)
    pairs, real = _compare(labels, none, none, valid, axis_name)
    positive = pairs.same_image & pairs.other_row & real
    return Relation(positive, pairs.other_row & real, jnp.any(positive, axis=-1))


def first_view_anchors(relation: Relation, view_id: jax.Array) -> Relation:
    """The same relation with the rows of view 0 as the only anchors.

    Args:
        relation: Relation of `[R, Q]`.
        view_id: Integers `[R]`, else a `ValueError`.

    Returns:
        Relation of `[R, Q]`.
    """
    checks.shape_equal("view_id", jnp.shape(view_id), jnp.shape(relation.anchor))
    return relation._replace(anchor=relation.anchor & (jnp.asarray(view_id) == 0))


def _compare(image_id, strong_id, view_id, valid, axis_name):
    checks.rank_equal("image_id", jnp.shape(image_id), "R")
    rows = jnp.shape(image_id)
    checks.shape_equal("strong_id", jnp.shape(strong_id), rows)
    checks.shape_equal("view_id", jnp.shape(view_id), rows)
    valid = masked.valid_rows(valid, *rows)
    place = devices.first_row(*rows, axis_name) + jnp.arange(*rows)
    own = (jnp.asarray(image_id), jnp.asarray(strong_id), jnp.asarray(view_id), place)
    others, valid_others = devices.gather((own, valid), axis_name)
    image, strong, view, same_row = (
        a[:, None] == b[None, :] for a, b in zip(own, others, strict=True)
    )
    return _Pairs(image, strong, view, ~same_row), valid[:, None] & valid_others[None, :]


def _relation(pairs, negative, real):
    positive = pairs.same_image & pairs.same_strong & ~pairs.same_view & real
    return Relation(positive, positive | (negative & real), jnp.any(positive, axis=-1))
