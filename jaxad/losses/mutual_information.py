"""Bounds of the mutual information between images and embeddings, from a critic's values.

A critic T scores pairs: joint ones, an image (or one location of it) with its own embedding, and
marginal ones, with another image's.

Conventions of this file:

- Bounds are to be maximised: negate them for a loss. Those named `_released` or `fenchel_` are
  losses as they stand.
- Two forms. Shifted: `joint [B, ...]` and `marginal [B, ...]`, one marginal pair per image, made
  with `interpolation.rolled_partners`; roll what is smaller, feature maps or embeddings. All pairs:
  `scores [B, N, ...]`, T of the image of row i with the embedding of column j; N counts the whole
  global batch, so that a device scores its own images against all embeddings (`dot_scores` does).
  The own embedding of row i is column i, further on by the rows of the devices before.
- Further axes are locations: expectations run over the batch for each location, and the bounds are
  averaged over the locations (document, eq. 10.1).
- `valid [B]` marks the rows that are no padding, all by default. Padding may hold anything.
- Expectations couple examples: all devices of an `axis_name` get the value of the global batch. A
  batch with fewer than two real rows has no marginal pair and gives 0 with zero gradient.
- 16-bit inputs are widened.

The game that matches embeddings to a prior (document, eq. 10.3) is the one of `adversarial`:
`discriminator` for its discriminator, `generator_minimax`, `generator_non_saturating` and
`generator_cooperative` for the encoder.

Sources: "document" is number 004, chapter 10; "DIM" is the Deep InfoMax authors' code
(github.com/rdevon/DIM); "[dim-pt]" the port that the document's code starts from
(github.com/DuaneNielsen/DeepInfomaxPytorch).
"""

import math

import jax
import jax.numpy as jnp

from jaxad.losses import checks, devices, masked
from jaxad.losses.exponential import capped_exp

__all__ = [
    "donsker_varadhan",
    "donsker_varadhan_pairs",
    "donsker_varadhan_pooled",
    "dot_scores",
    "fenchel_dual",
    "info_nce",
    "info_nce_released",
    "jensen_shannon",
    "jensen_shannon_pairs",
]

_LOG_2 = math.log(2.0)
_SOFTPLUS = jax.nn.softplus
# By measure: what is expected of joint pairs, to be raised, and of marginal pairs, to be lowered.
_FENCHEL = {
    "GAN": (lambda t: -_SOFTPLUS(-t), _SOFTPLUS),
    "JSD": (lambda t: _LOG_2 - _SOFTPLUS(-t), lambda t: _SOFTPLUS(t) - _LOG_2),
    "KL": (lambda t: t, lambda t: capped_exp(t - 1.0)),
    "RKL": (lambda t: -capped_exp(-t), lambda t: t - 1.0),
    "H2": (lambda t: 1.0 - capped_exp(-t), lambda t: capped_exp(t) - 1.0),
    "X2": (jnp.square, lambda t: -0.5 * jnp.square(jnp.abs(t) + 1.0)),
}
_OWN_LOGIT = -10.0  # DIM puts it in place of an image's own locations among the negatives.


def dot_scores(
    local: jax.Array, embeddings: jax.Array, *, axis_name: str | None = None
) -> jax.Array:
    """<M_il, z_j>, the dot-product critic, for every location of every image with every embedding.

    Args:
        local: Features of L locations `[B, L, Z]`, else a `ValueError`.
        embeddings: One per image `[B, Z]`, else a `ValueError`.
        axis_name: Named axis of devices; embeddings of all devices are used.

    Returns:
        Scores `[B, N, L]`, N = B without `axis_name`.

    References:
        DIM.
    """
    checks.floating("local", local)
    checks.rank_equal("local", jnp.shape(local), "B L Z")
    rows, _, width = jnp.shape(local)
    checks.shape_equal("embeddings", jnp.shape(embeddings), (rows, width))
    embeddings = devices.gather(masked.widen(embeddings), axis_name)
    return jnp.einsum("ilz,jz->ijl", masked.widen(local), embeddings, precision="highest")


def donsker_varadhan(
    joint: jax.Array,
    marginal: jax.Array,
    valid: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """E_joint[T] - log E_marginal[exp T], with one marginal pair per image.

    One logarithm per location; to pool batch and locations under one, flatten both arrays and
    repeat `valid`. The estimate from N pairs exceeds the truth at will, but a critic bounded by
    |T| <= c gives at most 2 c.

    Args:
        joint: T of images with their own embeddings `[B, ...]`.
        marginal: T of shifted pairs, the shape of `joint`, else a `ValueError`.
        valid: `[B]`, else a `ValueError`; see `interpolation.rolled_partners`. All by default.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar bound.

    References:
        Document, eqs. 10.1 and 10.2.
    """
    real = _check_shifted(joint, marginal, valid)
    sums, count = _log_sum_exp(marginal, real, 0, axis_name)
    expected = masked.mean(joint, real, axis=0, axis_name=axis_name)
    return jnp.mean(_difference(expected, sums, count))


def donsker_varadhan_pairs(
    scores: jax.Array, valid: jax.Array | None = None, *, axis_name: str | None = None
) -> jax.Array:
    """E_joint[T] - log E_marginal[exp T] over all pairs of the batch, for each location.

    Args:
        scores: T `[B, N, ...]`, N counting the global batch, else a `ValueError`.
        valid: `[B]`, else a `ValueError`; all by default.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar bound; adding a constant to all scores does not change it.

    References:
        Document, eqs. 10.1 and 10.2.
    """
    joint, marginal = _pairs(scores, valid, axis_name)
    sums, count = _log_sum_exp(scores, marginal, (0, 1), axis_name)
    expected = masked.mean(scores, joint, axis=(0, 1), axis_name=axis_name)
    return jnp.mean(_difference(expected, sums, count))


def donsker_varadhan_pooled(
    scores: jax.Array, valid: jax.Array | None = None, *, axis_name: str | None = None
) -> jax.Array:
    """`donsker_varadhan_pairs` with one logarithm for all pairs of all locations, as DIM means it.

    Never above the mean over locations, by Jensen's inequality, and equal to it without locations.

    Args:
        scores: T `[B, N, ...]`, N counting the global batch, else a `ValueError`.
        valid: `[B]`, else a `ValueError`; all by default.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar bound.
    """
    joint, marginal = _pairs(scores, valid, axis_name)
    sums, count = _log_sum_exp(scores, marginal, None, axis_name)
    return _difference(masked.mean(scores, joint, axis_name=axis_name), sums, count)


def jensen_shannon(
    joint: jax.Array,
    marginal: jax.Array,
    valid: jax.Array | None = None,
    *,
    axis_name: str | None = None,
) -> jax.Array:
    """-E_joint[softplus(-T)] - E_marginal[softplus(T)], with one marginal pair per image.

    Args:
        joint: T of images with their own embeddings `[B, ...]`.
        marginal: T of shifted pairs, the shape of `joint`, else a `ValueError`.
        valid: `[B]`, else a `ValueError`; see `interpolation.rolled_partners`. All by default.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar, at most 0; -2 log 2 for a critic that is 0.

    References:
        [dim-pt], as a loss.
    """
    real = _check_shifted(joint, marginal, valid)
    each = _SOFTPLUS(-_select(joint, real)) + _SOFTPLUS(_select(marginal, real))
    return -masked.mean(each, real, axis_name=axis_name)


def jensen_shannon_pairs(
    scores: jax.Array, valid: jax.Array | None = None, *, axis_name: str | None = None
) -> jax.Array:
    """-E_joint[softplus(-T)] - E_marginal[softplus(T)] over all pairs of the batch.

    Args:
        scores: T `[B, N, ...]`, N counting the global batch, else a `ValueError`.
        valid: `[B]`, else a `ValueError`; all by default.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar, at most 0; 2 log 2 below minus the loss of `fenchel_dual` with measure "JSD".
    """
    return -_two_means(scores, valid, lambda t: -_SOFTPLUS(-t), _SOFTPLUS, axis_name)


def info_nce(
    scores: jax.Array, valid: jax.Array | None = None, *, axis_name: str | None = None
) -> jax.Array:
    """mean_i (T_ii - log sum_j exp T_ij), the own embedding among the j, for each location.

    Plus log N it bounds the mutual information, by at most log N.

    Args:
        scores: T `[B, N, ...]`, N counting the global batch, else a `ValueError`.
        valid: `[B]`, else a `ValueError`; all by default.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar, at most 0.
    """
    joint, marginal = _pairs(scores, valid, axis_name)
    own = masked.total(scores, joint, axis=1)  # [B, ...]
    sums, _ = _log_sum_exp(scores, joint | marginal, 1, None)
    real = _as_rows(valid, own)
    return masked.mean(own - sums, real, axis_name=axis_name)


def info_nce_released(
    scores: jax.Array, valid: jax.Array | None = None, *, axis_name: str | None = None
) -> jax.Array:
    """Cross-entropy of each own location of an embedding against all locations of other images.

    -log of exp T_jj,l / (exp T_jj,l + sum_{i != j, l'} exp T_ij,l' + L e^-10), averaged over
    embeddings and locations: the entries of the own image are not left out but set to -10.

    Args:
        scores: T `[B, N, L]`, N counting the global batch, else a `ValueError`.
        valid: `[B]`, else a `ValueError`; all by default.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar loss, at least 0.

    References:
        DIM, its InfoNCE loss.
    """
    checks.rank_equal("scores", jnp.shape(scores), "B N L")
    joint, marginal = _pairs(scores, valid, axis_name)
    rows, _, locations = jnp.shape(scores)
    own = masked.total(scores, joint, axis=1)  # [B, L]
    others, count = _log_sum_exp(scores, marginal, (0, 2), axis_name)  # [N]
    others = jnp.logaddexp(others, _OWN_LOGIT + math.log(locations))
    mine = devices.first_row(rows, axis_name) + jnp.arange(rows)
    each = jnp.logaddexp(others[mine][:, None], own) - own
    real = _as_rows(valid, own) & (count[mine] > 0)[:, None]
    return masked.mean(each, real, axis_name=axis_name)


def fenchel_dual(
    scores: jax.Array,
    valid: jax.Array | None = None,
    *,
    measure: str = "JSD",
    axis_name: str | None = None,
) -> jax.Array:
    """E_marginal[b(T)] - E_joint[a(T)] with a, b of an f-divergence, over all pairs and locations.

    | measure | a(T) | b(T) |
    | --- | --- | --- |
    | GAN | -softplus(-T) | softplus(T) |
    | JSD | log 2 - softplus(-T) | softplus(T) - log 2 |
    | KL | T | exp(T - 1) |
    | RKL | -exp(-T) | T - 1 |
    | H2 | 1 - exp(-T) | exp(T) - 1 |
    | X2 | T² | -(\\|T\\| + 1)² / 2 |

    X2 is as released; what it lowers has no lower bound. KL is in the form of the conjugate, which
    many copies of DIM have; DIM itself at commit 91f46d3 has T + 1 and exp T, which is this at
    T + 1: pass `scores + 1` for it. exp is `capped_exp`.

    Args:
        scores: T `[B, N, ...]`, N counting the global batch, else a `ValueError`.
        valid: `[B]`, else a `ValueError`; all by default.
        measure: A name of the table, else a `ValueError`.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar loss.

    References:
        DIM.
    """
    if measure not in _FENCHEL:
        raise ValueError(f"measure: expected one of {list(_FENCHEL)}, got {measure!r}.")
    return _two_means(scores, valid, *_FENCHEL[measure], axis_name)


def _two_means(scores, valid, of_joint, of_marginal, axis_name):
    """E_marginal[of_marginal(T)] - E_joint[of_joint(T)], 0 without marginal pairs."""
    joint, marginal = _pairs(scores, valid, axis_name)
    t = _select(scores, joint | marginal)
    lowered = masked.mean(of_marginal(t), marginal, axis_name=axis_name)
    raised = masked.mean(of_joint(t), joint, axis_name=axis_name)
    some = masked.count(marginal, t, axis_name=axis_name) > 0
    return jnp.where(some, lowered - raised, 0.0)


def _difference(expected, sums, count):
    return jnp.where(count > 0, expected - (sums - jnp.log(jnp.maximum(count, 1.0))), 0.0)


def _log_sum_exp(values, where, axis, axis_name):
    """log sum exp of the entries of `where` over all devices, and their number.

    Nothing selected gives a very low number with zero gradient.
    """
    values = _select(values, where)
    where = jnp.broadcast_to(where, values.shape)
    shift = jax.lax.stop_gradient(jnp.where(where, values, -jnp.inf))
    shift = jnp.max(shift, axis=axis, keepdims=True)
    if axis_name is not None:
        shift = jax.lax.pmax(shift, axis_name)
    shift = jnp.where(jnp.isfinite(shift), shift, 0.0)
    # Selected before the exponential: a masked entry may be far above the shift.
    terms = jnp.exp(jnp.where(where, values - shift, 0.0))
    sums = masked.total(terms, where, axis=axis, axis_name=axis_name)
    some = sums > 0
    sums = jnp.log(jnp.where(some, sums, 1.0)) + shift.reshape(sums.shape)
    count = masked.count(where, values, axis=axis, axis_name=axis_name)
    return jnp.where(some, sums, -1e30), count


def _select(values, where):
    return jnp.where(where, masked.widen(values), 0.0)


def _pairs(scores, valid, axis_name):
    """Masks `[B, N, 1...]` of the joint and of the marginal pairs of real rows."""
    checks.floating("scores", scores)
    rows = jnp.shape(scores)[0]
    valid = masked.valid_rows(valid, rows)
    columns = devices.gather(valid, axis_name)
    checks.shape_equal("scores", jnp.shape(scores)[:2], (rows, columns.shape[0]))
    _check_two("scores", columns.shape[0])
    mine = devices.first_row(rows, axis_name) + jnp.arange(rows)
    same = mine[:, None] == jnp.arange(columns.shape[0])
    both = valid[:, None] & columns
    shape = both.shape + (1,) * (jnp.ndim(scores) - 2)
    return (both & same).reshape(shape), (both & ~same).reshape(shape)


def _as_rows(valid, like):
    return masked.valid_rows(valid, like.shape[0]).reshape((-1,) + (1,) * (like.ndim - 1))


def _check_shifted(joint, marginal, valid):
    checks.floating("joint", joint)
    checks.floating("marginal", marginal)
    checks.shape_equal("marginal", jnp.shape(marginal), jnp.shape(joint))
    return _as_rows(valid, joint)


def _check_two(name, rows):
    if rows < 2:
        raise ValueError(f"{name}: expected at least 2 examples, as one has no other, got {rows}.")
