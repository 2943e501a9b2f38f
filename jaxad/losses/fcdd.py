"""FCDD: a network with one output channel whose pseudo-Huber map is the anomaly score.

Conventions of this file:

- `outputs [B, h, w]` are the network's, linear; `labels [B]` 0 (normal) or 1 (outlier); `valid [B]`
  marks real images, `where` real pixels. What lies outside them may be anything, NaN included.
- 16-bit inputs are widened: losses are float32 or wider.
- Losses come per image `[B]`; those that couple images as a scalar with `axis_name`: each device
  passes its rows and gets the value of the global batch.

Sources: document 000, section 2.2, eq. 3; Liznerski et al., Explainable Deep One-Class
Classification, https://arxiv.org/abs/2007.01760, and its code (github.com/liznerski/fcdd).
"""

import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from jaxad.losses import checks, masked

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "batch_mean_released",
    "fcdd",
    "image_terms",
    "pixel_terms_released",
    "pseudo_huber",
    "receptive_upsample",
]

_LEAST_MEAN = 1e-31  # The released code adds it inside the logarithm: 71.4 at an all-zero map.


def pseudo_huber(outputs: jax.Array) -> jax.Array:
    """The score map F = sqrt(e^2 + 1) - 1.

    Args:
        outputs: e, floats `[...]`, else a `TypeError`.

    Returns:
        Scores `[...]`, at least 0 and at least float32. Their sum, or mean, over an image is its
        score (`prototypes.image_sum`, `prototypes.image_mean`).

    References:
        Document 000, section 2.2.
    """
    checks.floating("outputs", outputs)
    outputs = masked.widen(outputs)
    # e^2 / (sqrt(e^2 + 1) + 1) does not cancel for small e; for large ones F is |e| - 1 in all
    # digits, where the square would overflow.
    large = jnp.abs(outputs) > 1e10
    squares = jnp.square(jnp.where(large, 0.0, outputs))
    return jnp.where(
        large, masked.absolute(outputs) - 1.0, squares / (jnp.sqrt(squares + 1.0) + 1.0)
    )


def image_terms(outputs: jax.Array, labels: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """With m the mean of F over an image: m if it is normal, -log(1 - exp(-m)) if an outlier.

    Args:
        outputs: Floats `[B, h, w]`, else a `ValueError`.
        labels: `[B]`, else a `ValueError`.
        where: Real pixels; broadcasts to `outputs`, else a `ValueError`.

    Returns:
        Loss per image `[B]`, not reduced, at least 0; 0 where no pixel is real, and 71.4 with zero
        gradient for an outlier whose map is all zero.

    References:
        Document 000, eq. 3, the summands.
    """
    outputs, real = _maps("outputs", outputs, labels, where)
    means = masked.mean(pseudo_huber(outputs), real, axis=(1, 2))
    terms = jnp.where(jnp.asarray(labels) == 1, _push(means), means)
    return jnp.where(jnp.any(real, axis=(1, 2)), terms, 0.0)


def fcdd(
    outputs: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    where: jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Mean of `image_terms` over normal images + mean over outliers.

    Args:
        outputs: Floats `[B, h, w]`, else a `ValueError`.
        labels: `[B]`, else a `ValueError`.
        valid: `[B]`, else a `ValueError`.
        where: Real pixels; broadcasts to `outputs`, else a `ValueError`.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar; a kind of image that is missing adds 0.

    References:
        Document 000, eq. 3.
    """
    each, valid = _valid_terms(outputs, labels, valid, where)
    labels = jnp.asarray(labels)
    normal = masked.mean(each, (labels == 0) & valid, axis_name=axis_name)
    return normal + masked.mean(each, (labels == 1) & valid, axis_name=axis_name)


def batch_mean_released(
    outputs: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    where: jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """One mean of `image_terms` over the mixed batch; half of `fcdd` for as many of each kind.

    A batch of one kind keeps its labels; the released code takes a batch of outliers alone for an
    unlabeled one and then lowers their scores.

    Args:
        outputs: Floats `[B, h, w]`, else a `ValueError`.
        labels: `[B]`, else a `ValueError`.
        valid: `[B]`, else a `ValueError`.
        where: Real pixels; broadcasts to `outputs`, else a `ValueError`.
        axis_name: Named axis of devices, see the top of the file.

    Returns:
        Scalar; 0 for a batch without real images.

    References:
        Released code, the FCDD objective with labels.
    """
    each, valid = _valid_terms(outputs, labels, valid, where)
    return masked.mean(each, valid, axis_name=axis_name)


def pixel_terms_released(
    score_map: jax.Array, masks: jax.Array, where: jax.Array | None = None
) -> jax.Array:
    """mean F (1 - g) - log(1 - exp(-mean F g)) with anomalous pixels g known.

    Both means are over all real pixels of the image, so that they weigh their parts by area.

    Args:
        score_map: F at the size of the images, of `receptive_upsample` say, floats `[B, H, W]`,
            else a `ValueError`.
        masks: g, 1 (or True) for anomalous pixels, `[B, H, W]`, else a `ValueError`.
        where: Real pixels; broadcasts to `score_map`, else a `ValueError`.

    Returns:
        Loss per image `[B]`, not reduced; the first part alone for an image without anomalous
        pixels. The released code averages over the batch.

    References:
        Released code, the FCDD objective with ground-truth maps.
    """
    score_map, real = _maps("score_map", score_map, None, where)
    checks.shape_equal("masks", jnp.shape(masks), score_map.shape)
    anomalous = jnp.asarray(masks).astype(bool) & real
    normal_means = masked.mean(jnp.where(anomalous, 0.0, score_map), real, axis=(1, 2))
    anomalous_means = masked.mean(jnp.where(anomalous, score_map, 0.0), real, axis=(1, 2))
    pushed = jnp.where(jnp.any(anomalous, axis=(1, 2)), _push(anomalous_means), 0.0)
    return normal_means + pushed


def receptive_upsample(
    score_map: jax.Array,
    size: tuple[int, int],
    *,
    stride: int,
    field: int,
    start: float,
    std: float,
) -> jax.Array:
    """Score map at the size of the images: a Gaussian over the receptive field of each entry.

    Args:
        score_map: Floats `[..., h, w]`, else a `TypeError`.
        size: Height and width (H, W) of the images, each at least 1, else a `ValueError`.
        stride: Image pixels between the receptive fields of neighbors, at least 1, else a
            `ValueError`.
        field: Image pixels across a receptive field, at least 1, else a `ValueError`.
        start: Center of the first receptive field, in image pixels; between two, the first counts.
        std: Standard deviation of the Gaussian in image pixels, above 0, else a `ValueError`.

    Returns:
        Maps `[..., H, W]`, at least float32. The Gaussian is not normalised: its largest weight is
        1 for odd fields and 1/4 for even ones.

    References:
        Released code, upsampling by receptive field (a transposed convolution, cropped).
    """
    checks.floating("score_map", score_map)
    for name, value in (("size", size[0]), ("size", size[1]), ("stride", stride), ("field", field)):
        checks.positive_integer(name, value)
    if not std > 0.0:
        raise ValueError(f"std: expected a number above 0, got {std}.")
    values = masked.widen(score_map)
    rows, columns = (
        jnp.asarray(_spread(n, m, stride, field, start, std), values.dtype)
        for n, m in zip(size, values.shape[-2:], strict=True)
    )
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("Hh,...hw,Ww->...HW", rows, values, columns, precision=highest)


def _spread(size, entries, stride, field, start, std) -> "np.ndarray":
    """Weight `[size, entries]` of each entry at each pixel, along one axis."""
    import numpy as np

    offsets = np.arange(field - 1 + field % 2) - (field - 2 + field % 2) / 2
    window = np.exp(-0.5 * np.square(offsets / std))
    if field % 2 == 0:  # Two samples share the center.
        window = np.insert(window, field // 2, window[field // 2 - 1]) / 2
    taps = np.arange(size)[:, None] + (field - 1) // 2 - math.floor(start)
    taps = taps - stride * np.arange(entries)
    inside = (taps >= 0) & (taps < field)
    return np.where(inside, window[np.clip(taps, 0, field - 1)], 0.0)


def _push(means):
    """-log(1 - exp(-m)), with slope 0 where m is 0."""
    return -jax.nn.log1mexp(jnp.maximum(means, _LEAST_MEAN))


def _valid_terms(outputs, labels, valid, where):
    checks.shape_equal("valid", jnp.shape(valid), jnp.shape(outputs)[:1])
    valid = jnp.asarray(valid).astype(bool)
    outputs, real = _maps("outputs", outputs, labels, where)
    return image_terms(outputs, labels, real & valid[:, None, None]), valid


def _maps(name, values, labels, where):
    """Widened maps with 0 at pixels that are not real, and the real ones as booleans."""
    checks.floating(name, values)
    checks.rank_equal(name, jnp.shape(values), "B h w")
    if labels is not None:
        checks.shape_equal("labels", jnp.shape(labels), jnp.shape(values)[:1])
    return masked.zero_outside(values, where)
