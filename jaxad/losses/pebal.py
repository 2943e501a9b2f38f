"""PEBAL: the whole objectives of energy-biased abstention learning, of the document and released.

Conventions of this file:

- `logits [B, H, W, Y + 1]` hold Y classes and, last, the abstention channel. The free energy is
  that of the Y classes alone.
- `labels` hold a class, 0 to Y - 1, on inlier pixels. Which pixels are `inlier` and which are
  `outlier` is said by masks; a pixel in neither is void, one in both is an outlier.
- `valid [B]` marks the rows that are no padding; the others may hold anything, NaN included. A void
  pixel has no label loss but does have an energy: it counts in the regularisers, and a smoothed
  penalty reaches its neighbours.
- With an `axis_name` each device passes its images and gets the value of the global batch, ready
  for gradients that are averaged over the axis: sums and counts are added up over the devices
  before anything is divided, squares before the root.
- A mean over no pixels is 0 with zero gradient (the released code returns NaN).

Sources: "document" is the thesis 004, whose chapter 11 describes PEBAL; "released" is the code
published with it (github.com/tianyu0207/PEBAL).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxad.losses import abstention, checks, energy, masked

__all__ = ["PebalReleasedTerms", "PebalTerms", "pebal", "pebal_released", "pebal_sum"]


class PebalTerms(NamedTuple):
    """Scalars of the document's objective: the weighted total, then each term without its weight.

    Attributes:
        total: What to minimise.
        inlier_abstention: Eq. 11.3 on inlier pixels.
        outlier_abstention: Eq. 11.3 on outlier pixels, whose label is the abstention channel.
        inlier_margin: Eq. 11.6.
        outlier_margin: Eq. 11.7.
        smoothness: Eq. 11.8, first term, over all pixels.
        sparsity: Eq. 11.8, second term, over all pixels.
    """

    total: jax.Array
    inlier_abstention: jax.Array
    outlier_abstention: jax.Array
    inlier_margin: jax.Array
    outlier_margin: jax.Array
    smoothness: jax.Array
    sparsity: jax.Array


class PebalReleasedTerms(NamedTuple):
    """Scalars of the released objective: the weighted total, then its terms.

    Attributes:
        total: What to minimise.
        clean_images: Mean abstention loss of the inlier pixels of images without outlier pixels.
        mixed_images: The same of images with outlier pixels, plus the weighted outlier part.
        margins: `energy.margins_released`.
        smoothness: `energy.smoothness_released`, summed over the batch, without weight.
        sparsity: `energy.sparsity_released`, without weight.
    """

    total: jax.Array
    clean_images: jax.Array
    mixed_images: jax.Array
    margins: jax.Array
    smoothness: jax.Array
    sparsity: jax.Array


def pebal(
    logits: jax.Array,
    labels: jax.Array,
    inlier: jax.Array,
    outlier: jax.Array,
    *,
    penalty: jax.Array | None = None,
    margin_in: float = -12.0,
    margin_out: float = -6.0,
    energy_weight: float = 0.1,
    smoothness_weight: float = 5e-4,
    sparsity_weight: float = 3e-6,
    valid: jax.Array | None = None,
    axis_name: str | None = None,
) -> PebalTerms:
    """The objective of the document with means: over inlier, over outlier, or over all pixels.

    Args:
        logits: Floats `[B, H, W, Y + 1]`, else a `ValueError`.
        labels: Integers `[B, H, W]`, else a `ValueError`; looked at on inlier pixels alone.
        inlier: Inlier pixels; broadcasts to `[B, H, W]`, else a `ValueError`.
        outlier: Outlier pixels; broadcasts to `[B, H, W]`, else a `ValueError`.
        penalty: a `[B, H, W]`, else a `ValueError`. By default the
            `abstention.energy_penalty` of the logits; pass `jax.lax.stop_gradient` of it, or any
            other, to replace it.
        margin_in: The highest energy of an inlier without cost.
        margin_out: The lowest energy of an outlier without cost.
        energy_weight: λ, of both margin terms.
        smoothness_weight: β1.
        sparsity_weight: β2.
        valid: Rows that are no padding `[B]`, else a `ValueError`.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalars, see `PebalTerms`.

    References:
        Document, eq. 11.2 to 11.8; its sums over pixels are means here, as the weights need.
    """
    weights = (energy_weight, smoothness_weight, sparsity_weight)
    given = _objective_inputs(logits, labels, inlier, outlier, penalty, valid)
    return _text_terms(masked.mean, given, (margin_in, margin_out), weights, axis_name)


def pebal_sum(
    logits: jax.Array,
    labels: jax.Array,
    inlier: jax.Array,
    outlier: jax.Array,
    *,
    penalty: jax.Array | None = None,
    margin_in: float = -12.0,
    margin_out: float = -6.0,
    energy_weight: float = 0.1,
    smoothness_weight: float = 5e-4,
    sparsity_weight: float = 3e-6,
    valid: jax.Array | None = None,
    axis_name: str | None = None,
) -> PebalTerms:
    """The objective of the document as it is written: every term is a sum over pixels.

    Args:
        logits: Floats `[B, H, W, Y + 1]`, else a `ValueError`.
        labels: Integers `[B, H, W]`, else a `ValueError`; looked at on inlier pixels alone.
        inlier: Inlier pixels; broadcasts to `[B, H, W]`, else a `ValueError`.
        outlier: Outlier pixels; broadcasts to `[B, H, W]`, else a `ValueError`.
        penalty: a `[B, H, W]`, else a `ValueError`. By default the
            `abstention.energy_penalty` of the logits.
        margin_in: The highest energy of an inlier without cost.
        margin_out: The lowest energy of an outlier without cost.
        energy_weight: λ, of both margin terms.
        smoothness_weight: β1.
        sparsity_weight: β2.
        valid: Rows that are no padding `[B]`, else a `ValueError`.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalars, see `PebalTerms`.

    References:
        Document, eq. 11.2 to 11.8.
    """
    weights = (energy_weight, smoothness_weight, sparsity_weight)
    given = _objective_inputs(logits, labels, inlier, outlier, penalty, valid)
    return _text_terms(masked.total, given, (margin_in, margin_out), weights, axis_name)


def pebal_released(
    logits: jax.Array,
    labels: jax.Array,
    inlier: jax.Array,
    outlier: jax.Array,
    *,
    penalty: jax.Array | None = None,
    margin_in: float = -12.0,
    margin_out: float = -6.0,
    outlier_weight: float = 0.1,
    energy_weight: float = 0.1,
    smoothness_weight: float = 3e-6,
    sparsity_weight: float = 5e-4,
    valid: jax.Array | None = None,
    axis_name: str | None = None,
) -> PebalReleasedTerms:
    """The objective of the released code, which made the document's tables.

    Images with and without outlier pixels have a mean inlier loss each, so that the inliers of the
    few images with outliers weigh as much as those of all others. Smoothness is a sum over the
    batch, sparsity the norm over its outlier pixels.

    Args:
        logits: Floats `[B, H, W, Y + 1]`, else a `ValueError`.
        labels: Integers `[B, H, W]`, else a `ValueError`; looked at on inlier pixels alone.
        inlier: Inlier pixels; broadcasts to `[B, H, W]`, else a `ValueError`.
        outlier: Outlier pixels; broadcasts to `[B, H, W]`, else a `ValueError`.
        penalty: a `[B, H, W]`, else a `ValueError`, used as it is. By default the
            `abstention.energy_penalty` of the logits after `energy.gaussian_smoothing`, for which
            H and W are at least 4, else a `ValueError`.
        margin_in: The highest energy of an inlier without cost.
        margin_out: The lowest energy of an outlier without cost.
        outlier_weight: Weight of `abstention.class_suppression_released`.
        energy_weight: Weight of margins, smoothness and sparsity together.
        smoothness_weight: Weight of the smoothness among these.
        sparsity_weight: Weight of the sparsity among these.
        valid: Rows that are no padding `[B]`, else a `ValueError`.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalars, see `PebalReleasedTerms`.

    References:
        Released code; document, eq. 11.2, for what it stands for.
    """
    given = _objective_inputs(logits, labels, inlier, outlier, penalty, valid)
    logits, labels, inlier, outlier, energies, penalty, valid = given
    if penalty is None:
        penalty = energy.gaussian_smoothing(abstention.energy_penalty(energies))
    mixed = jnp.any(outlier, axis=(1, 2), keepdims=True)
    each = abstention.pixel_loss_released(logits, labels, penalty, inlier, outlier)
    clean_images = masked.mean(each, inlier & ~mixed, axis_name=axis_name)
    mixed_images = masked.mean(each, inlier & mixed, axis_name=axis_name)
    mixed_images += outlier_weight * masked.mean(each, outlier, axis_name=axis_name)
    margins = energy.margins_released(
        energies,
        inlier,
        outlier,
        margin_in=margin_in,
        margin_out=margin_out,
        axis_name=axis_name,
    )
    steps = energy.smoothness_released(energies)
    smoothness = masked.total(steps, valid, axis_name=axis_name)
    sparsity = energy.sparsity_released(energies, outlier, axis_name=axis_name)
    regularised = margins + smoothness_weight * smoothness + sparsity_weight * sparsity
    total = clean_images + mixed_images + energy_weight * regularised
    return PebalReleasedTerms(total, clean_images, mixed_images, margins, smoothness, sparsity)


def _text_terms(reduce, given, margins, weights, axis_name):
    """The document's terms, `reduce` being a mean or a sum over the pixels of a mask."""
    logits, labels, inlier, outlier, energies, penalty, valid = given
    if penalty is None:
        penalty = abstention.energy_penalty(energies)
    labels = jnp.where(outlier, logits.shape[-1] - 1, labels)
    each = abstention.abstention_loss(logits, labels, penalty, inlier | outlier)
    each_in = energy.inlier_margin(energies, inlier, margin=margins[0])
    each_out = energy.outlier_margin(energies, outlier, margin=margins[1])
    # Regularisers come per map: a mean over maps becomes one over pixels by the size of a map.
    size = energies[0].size if reduce is masked.mean else 1
    terms = [
        reduce(each, inlier, axis_name=axis_name),
        reduce(each, outlier, axis_name=axis_name),
        reduce(each_in, inlier, axis_name=axis_name),
        reduce(each_out, outlier, axis_name=axis_name),
        reduce(energy.smoothness(energies), valid, axis_name=axis_name) / size,
        reduce(energy.sparsity(energies), valid, axis_name=axis_name) / size,
    ]
    of_margins, of_steps, of_sizes = weights
    factors = (1.0, 1.0, of_margins, of_margins, of_steps, of_sizes)
    total = sum(factor * term for factor, term in zip(factors, terms, strict=True))
    return PebalTerms(total, *terms)


def _objective_inputs(logits, labels, inlier, outlier, penalty, valid):
    """What the objectives start from, checked, with padded rows cleared."""
    checks.floating("logits", logits)
    checks.rank_equal("logits", jnp.shape(logits), "B H W Y+1")
    pixels = logits.shape[:-1]
    checks.shape_equal("labels", jnp.shape(labels), pixels)
    valid = masked.valid_rows(valid, pixels[0])
    inlier, outlier = _sets(inlier, outlier, pixels, valid[:, None, None])
    logits = jnp.where(valid[:, None, None, None], masked.widen(logits), 0.0)
    if penalty is not None:
        checks.shape_equal("penalty", jnp.shape(penalty), pixels)
    energies = energy.free_energy(logits[..., :-1])
    # An inlier cannot be labelled with the abstention channel: -1 is no class, and gives NaN.
    labels = jnp.where(jnp.asarray(labels) == logits.shape[-1] - 1, -1, jnp.asarray(labels))
    return logits, labels, inlier, outlier, energies, penalty, valid


def _sets(inlier, outlier, pixels, valid):
    """Disjoint masks of the shape of the pixels."""
    inlier = masked.as_mask(inlier, pixels, name="inlier") & valid
    outlier = masked.as_mask(outlier, pixels, name="outlier") & valid
    return inlier & ~outlier, outlier
