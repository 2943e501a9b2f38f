"""Losses of PMSACL: pseudo classes of strongly augmented images as dense, separate clusters.

Class n is what one strong augmentation makes of normal images (0: none). Its centre is the mean of
its features before training, and stays. Features are drawn to their centre, and contrasted by their
direction from it.

Conventions of this file:

- `features [B, 2, D]` are raw projections of two weak views of the same strongly augmented image
  (`[B, ..., D]` where views do not matter); `classes [B]` says which class it was made for. All
  classes of all images come as one axis: `[N, K, 2, D]` is reshaped to `[N · K, 2, D]`.
- `centres [K, D]` are constants of the training; pass them from fitted statistics.
- `valid [B]` marks what is no padding; the rest may hold anything, NaN included.
- Values come per row; with `axis_name` the rows of all devices are in each denominator, and
  `masked.mean(values, valid[:, None], axis_name=axis_name)` is the loss of the global batch.
- 16-bit inputs are widened.

Source: "document" is document 004, a thesis whose chapter 5 describes PMSACL; no code is published.
It gives neither α nor τ: the defaults here are a choice, τ that of chapter 4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxad.losses import checks, contrastive, devices, masked, relations

__all__ = [
    "CentreSums",
    "add_to_centres",
    "centred_direction",
    "finish_centres",
    "kappa",
    "multi_centring",
    "pmsacl",
    "pmsacl_positive_at_tau",
    "zero_centres",
]


class CentreSums(NamedTuple):
    """What the centres are computed from; two of them merge by adding.

    Attributes:
        sums: Sum of the features of each class `[K, D]`.
        counts: Number of features of each class `[K]`.
    """

    sums: jax.Array
    counts: jax.Array


def zero_centres(classes: int, dim: int) -> CentreSums:
    """Sums over no features.

    Args:
        classes: K, at least 1, else a `ValueError`.
        dim: D, at least 1, else a `ValueError`.

    Returns:
        Zeros `[K, D]` and `[K]`, float32.
    """
    checks.positive_integer("classes", classes)
    checks.positive_integer("dim", dim)
    return CentreSums(jnp.zeros((classes, dim), jnp.float32), jnp.zeros(classes, jnp.float32))


def add_to_centres(
    total: CentreSums,
    features: jax.Array,
    classes: jax.Array,
    valid: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> CentreSums:
    """Sums with those of one more batch added.

    Args:
        total: Sums so far, `[K, D]` and `[K]`, the same on all devices.
        features: Floats `[B, ..., D]`, not normalised; else a `TypeError`.
        classes: Integers 0 to K - 1, `[B]`, else a `ValueError`.
        valid: Items that are no padding `[B]`, else a `ValueError`. All by default.
        axis_name: Named axis of devices, whose features are added too.

    Returns:
        Sums `[K, D]` and `[K]`, the same on all devices.
    """
    valid = _check_classes(features, classes, valid)
    number, dim = jnp.shape(total.sums)
    checks.shape_equal("features", jnp.shape(features), (*jnp.shape(features)[:-1], dim))
    rows = masked.widen(features).reshape(valid.shape[0], -1, dim)
    of_item = jnp.sum(jnp.where(valid[:, None, None], rows, 0.0), axis=1)  # [B, D]
    belongs = (jnp.asarray(classes)[:, None] == jnp.arange(number)) & valid[:, None]
    belongs = belongs.astype(rows.dtype)  # [B, K]
    new = CentreSums(
        # A product instead of a scatter: the same sums on every run, on every device.
        jnp.matmul(belongs.T, of_item, precision=jax.lax.Precision.HIGHEST),
        jnp.sum(belongs, axis=0) * rows.shape[1],
    )
    return jax.tree.map(lambda a, b: masked.widen(a) + devices.total(b, axis_name), total, new)


def finish_centres(total: CentreSums) -> jax.Array:
    """The mean features of each class.

    Args:
        total: Sums over all batches, `[K, D]` and `[K]`, else a `ValueError`.

    Returns:
        Centres `[K, D]`; 0 for a class without features.

    References:
        Document, section 5.3.1, eq. 5.2.
    """
    checks.shape_equal("total.counts", jnp.shape(total.counts), jnp.shape(total.sums)[:1])
    sums, counts = (masked.widen(x) for x in total)
    return sums / jnp.maximum(counts, 1.0)[:, None]


def centred_direction(
    features: jax.Array, classes: jax.Array, centres: jax.Array, *, floor: float = 1e-6
) -> jax.Array:
    """(F - c_n) / max(‖F - c_n‖, floor): the direction in which features lie from their centre.

    Args:
        features: Floats `[B, ..., D]`, else a `TypeError`.
        classes: n, integers 0 to K - 1, `[B]`, else a `ValueError`.
        centres: c, `[K, D]`, else a `ValueError`.
        floor: Keeps the gradient, which grows as the inverse distance, finite near the centre.

    Returns:
        Unit vectors `[B, ..., D]`; 0 with zero gradient at the centre itself.

    References:
        Document, section 5.3.1, eq. 5.6.
    """
    _check_classes(features, classes, None)
    offsets = _offsets(features, classes, centres)
    norms = masked.norm(offsets, True, axis=-1)[..., None]
    # Selected, as the slope 1 / floor is large where the direction has no meaning.
    return jnp.where(norms > 0.0, offsets, 0.0) / jnp.maximum(norms, floor)


def multi_centring(
    features: jax.Array, classes: jax.Array, centres: jax.Array, valid: jax.Array | None = None
) -> jax.Array:
    """‖F - c_n‖², the squared distance to the class's centre.

    Args:
        features: Floats `[B, ..., D]`, else a `TypeError`.
        classes: n, integers 0 to K - 1, `[B]`, else a `ValueError`.
        centres: c, `[K, D]`, else a `ValueError`.
        valid: Items that are no padding `[B]`, else a `ValueError`. All by default.

    Returns:
        Loss per row `[B, ...]`, summed over D; 0 for padding.

    References:
        Document, section 5.3.1, eq. 5.3.
    """
    valid = _check_classes(features, classes, valid)
    offsets = _offsets(_without_padding(features, valid), classes, centres)
    distances = jnp.sum(jnp.square(offsets), axis=-1)
    return jnp.where(_like_rows(valid, distances), distances, 0.0)


def kappa(
    classes: jax.Array,
    other_classes: jax.Array,
    *,
    temperature: float = 0.2,
    alpha: float = 2.0,
) -> jax.Array:
    """κ(n, m) = 1 / (α τ) for n = m, 1 / τ otherwise: what a similarity is multiplied by.

    α above 1 weakens the repulsion within a class, as the text wants it; α below 1 shrinks the
    temperature, as it also says.

    Args:
        classes: n, integers `[R]`.
        other_classes: m, integers `[Q]`.
        temperature: τ, positive.
        alpha: α, positive.

    Returns:
        κ `[R, Q]`, float32.

    References:
        Document, section 5.3.1, eq. 5.7.
    """
    checks.rank_equal("classes", jnp.shape(classes), "R")
    checks.rank_equal("other_classes", jnp.shape(other_classes), "Q")
    same = jnp.asarray(classes)[:, None] == jnp.asarray(other_classes)[None, :]
    return jnp.where(same, 1.0 / (alpha * temperature), 1.0 / temperature)


def pmsacl(
    features: jax.Array,
    classes: jax.Array,
    centres: jax.Array,
    valid: jax.Array | None = None,
    *,
    temperature: float = 0.2,
    alpha: float = 2.0,
    axis_name: str | None = None,
) -> jax.Array:
    """log Σ_q exp(κ_rq f_r · f_q) - f_r · f_p / τ, p the other view, q every other row.

    f is the `centred_direction` of a row, each from its own class's centre. The positive is in the
    denominator with κ(n, n), unlike in the numerator: for α > 1 the loss can be negative.

    Args:
        features: Floats `[B, 2, D]`, not normalised; else a `TypeError`, or a `ValueError` for
            other shapes.
        classes: n, integers 0 to K - 1, `[B]`, else a `ValueError`.
        centres: c, `[K, D]`, else a `ValueError`.
        valid: Items that are no padding `[B]`, else a `ValueError`. All by default.
        temperature: τ, positive.
        alpha: α, positive, see `kappa`.
        axis_name: Named axis of devices, whose rows are in the denominators too.

    Returns:
        Loss per item and view `[B, 2]`; 0 for padding. Eq. 5.4 is its mean.

    References:
        Document, section 5.3.1, eq. 5.5.
    """
    directions, relation, scale = _pmsacl(
        features, classes, centres, valid, temperature, alpha, axis_name
    )
    return _over_rows(directions, relation, scale, temperature, axis_name)


def pmsacl_positive_at_tau(
    features: jax.Array,
    classes: jax.Array,
    centres: jax.Array,
    valid: jax.Array | None = None,
    *,
    temperature: float = 0.2,
    alpha: float = 2.0,
    axis_name: str | None = None,
) -> jax.Array:
    """As `pmsacl` with 1 / τ for the positive in the denominator too: never negative.

    Args:
        features: Floats `[B, 2, D]`, not normalised; else a `TypeError`, or a `ValueError` for
            other shapes.
        classes: n, integers 0 to K - 1, `[B]`, else a `ValueError`.
        centres: c, `[K, D]`, else a `ValueError`.
        valid: Items that are no padding `[B]`, else a `ValueError`. All by default.
        temperature: τ, positive.
        alpha: α, positive, see `kappa`.
        axis_name: Named axis of devices, whose rows are in the denominators too.

    Returns:
        Loss per item and view `[B, 2]`; 0 for padding.

    References:
        Document, section 5.3.1, eq. 5.5, made a cross-entropy.
    """
    directions, relation, scale = _pmsacl(
        features, classes, centres, valid, temperature, alpha, axis_name
    )
    scale = jnp.where(relation.positive, 1.0 / temperature, scale)
    return _over_rows(directions, relation, scale, temperature, axis_name)


def _pmsacl(features, classes, centres, valid, temperature, alpha, axis_name):
    """Directions `[2 B, D]`, the relation of their rows and κ `[2 B, 2 B of all devices]`."""
    checks.rank_equal("features", jnp.shape(features), "B 2 D")
    items, _, dim = jnp.shape(features)
    checks.shape_equal("features", jnp.shape(features), (items, 2, dim))
    valid = _check_classes(features, classes, valid)
    directions = centred_direction(_without_padding(features, valid), classes, centres)
    item = devices.first_row(items, axis_name) + jnp.arange(items)
    item, of_row, valid = (jnp.repeat(x, 2) for x in (item, jnp.asarray(classes), valid))
    view = jnp.tile(jnp.arange(2), items)
    relation = relations.all_other_rows(item, of_row, view, valid, axis_name=axis_name)
    scale = kappa(of_row, devices.gather(of_row, axis_name), temperature=temperature, alpha=alpha)
    return directions.reshape(-1, dim), relation, scale


def _over_rows(directions, relation, scale, temperature, axis_name):
    each = contrastive.masked_info_nce(
        directions,
        *relation,
        temperature=temperature,
        denominator_scale=scale,
        axis_name=axis_name,
    )
    return each.reshape(-1, 2)


def _offsets(features, classes, centres):
    features, centres = masked.widen(features), masked.widen(centres)
    checks.rank_equal("centres", centres.shape, "K D")
    checks.shape_equal("centres", centres.shape, (centres.shape[0], features.shape[-1]))
    own = centres[jnp.asarray(classes)]  # [B, D]
    return features - own.reshape(own.shape[0], *(1,) * (features.ndim - 2), own.shape[-1])


def _without_padding(features, valid):
    return jnp.where(_like_rows(valid, features), features, 0.0)


def _like_rows(valid, values):
    return valid.reshape(-1, *(1,) * (values.ndim - 1))


def _check_classes(features, classes, valid):
    """Raises at what does not fit; gives `valid` as booleans `[B]`."""
    checks.floating("features", features)
    if jnp.ndim(features) < 2:
        checks.rank_equal("features", jnp.shape(features), "B D")
    rows = jnp.shape(features)[0]
    checks.shape_equal("classes", jnp.shape(classes), (rows,))
    return masked.valid_rows(valid, rows)
