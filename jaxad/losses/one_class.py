"""One-class losses and scores: how far an embedding lies from what is normal.

Embeddings `[..., D]` in, one value per example `[...]` out, not reduced and at least float32; a
mean over a padded batch is `masked.mean`. Squared distances are scores as well as losses. Centers,
variances and radii are statistics, fitted outside the gradient (`e_step`, `radius_quantile`).

Sources: "document" is the thesis whose chapter 6 describes the interpolated Gaussian descriptor;
[191] is Ruff et al., Deep One-Class Classification, ICML 2018, and its code
(github.com/lukasruff/Deep-SVDD-PyTorch).
"""

import jax
import jax.numpy as jnp

from jaxad.losses import checks, devices, masked

__all__ = [
    "deep_sad",
    "gaussian_anomaly",
    "gaussian_normality",
    "multi_scale_score",
    "multi_scale_score_released",
    "radius_quantile",
    "reconstruction_and_anomaly",
    "scaled_distance",
    "soft_boundary",
    "soft_boundary_score",
    "squared_distance",
]

_FLOOR = 1e-6  # Keeps value and gradient finite for zero variance, or an anomaly on the center.


def squared_distance(embeddings: jax.Array, center: jax.Array) -> jax.Array:
    """‖z - c‖²: loss and score of one-class Deep SVDD; 0 with zero gradient at the center.

    Args:
        embeddings: Floats `[..., D]`, else a `TypeError`.
        center: Floats `[D]`, else a `ValueError`.

    Returns:
        `[...]`. Source: [191], eq. 4, whose weight decay is left to the optimizer.
    """
    checks.floating("embeddings", embeddings)
    checks.shape_equal("center", jnp.shape(center), jnp.shape(embeddings)[-1:])
    return jnp.sum(jnp.square(masked.widen(embeddings) - masked.widen(center)), axis=-1)


def scaled_distance(embeddings: jax.Array, center: jax.Array, variance: jax.Array) -> jax.Array:
    """q = ‖z - μ‖² / σ²: minus the logarithm of `gaussian_normality`.

    It ranks like `gaussian_anomaly`, but keeps apart the far anomalies that are all 1 there.

    Args:
        embeddings: Floats `[..., D]`, else a `TypeError`.
        center: μ `[D]`, else a `ValueError`.
        variance: σ², a scalar, else a `ValueError`: the mean squared distance, see `e_step`; at
            least 1e-6 is used.

    Returns:
        `[...]`; 1 on average over the rows that center and variance were fitted to.
    """
    checks.shape_equal("variance", jnp.shape(variance), ())
    distances = squared_distance(embeddings, center)
    return distances / jnp.maximum(masked.widen(variance), _FLOOR)


def gaussian_normality(embeddings: jax.Array, center: jax.Array, variance: jax.Array) -> jax.Array:
    """p(normal | x) = exp(-‖z - μ‖² / σ²) (document, below eq. 6.5).

    Args:
        embeddings: Floats `[..., D]`, else a `TypeError`.
        center: μ `[D]`, else a `ValueError`.
        variance: σ², a scalar, else a `ValueError`; at least 1e-6 is used.

    Returns:
        Probabilities `[...]`: higher is more normal.
    """
    return jnp.exp(-scaled_distance(embeddings, center, variance))


def gaussian_anomaly(embeddings: jax.Array, center: jax.Array, variance: jax.Array) -> jax.Array:
    """ℓ_h = 1 - exp(-‖z - μ‖² / σ²), loss and score (document, eq. 6.8).

    Its gradient 2 p (z - μ) / σ² vanishes far from the center: outliers among the training rows are
    meant to be left alone.

    Args:
        embeddings: Floats `[..., D]`, else a `TypeError`.
        center: μ `[D]`, else a `ValueError`.
        variance: σ², a scalar, else a `ValueError`; at least 1e-6 is used.

    Returns:
        `[...]` in [0, 1].
    """
    return _one_minus_exp(scaled_distance(embeddings, center, variance))


def soft_boundary(
    embeddings: jax.Array, center: jax.Array, radius: jax.Array, *, nu: float = 0.1
) -> jax.Array:
    """R² + max(0, ‖z - c‖² - R²) / ν: soft-boundary Deep SVDD.

    Its mean over a batch is the objective: a share of about ν of the rows stays outside.

    Args:
        embeddings: Floats `[..., D]`, else a `TypeError`.
        center: `[D]`, else a `ValueError`.
        radius: R, a scalar, else a `ValueError`; see `radius_quantile`.
        nu: In (0, 1], else a `ValueError`.

    Returns:
        `[...]`. Source: [191], eq. 3.
    """
    _check_share(nu)
    outside = soft_boundary_score(embeddings, center, radius)
    return jnp.square(masked.widen(radius)) + jax.nn.relu(outside) / nu


def soft_boundary_score(embeddings: jax.Array, center: jax.Array, radius: jax.Array) -> jax.Array:
    """‖z - c‖² - R²: positive outside the sphere.

    Args:
        embeddings: Floats `[..., D]`, else a `TypeError`.
        center: `[D]`, else a `ValueError`.
        radius: R, a scalar, else a `ValueError`.

    Returns:
        `[...]`. Source: [191], section 3.3.
    """
    checks.shape_equal("radius", jnp.shape(radius), ())
    return squared_distance(embeddings, center) - jnp.square(masked.widen(radius))


def radius_quantile(
    distances: jax.Array,
    where: jax.Array | None = None,
    *,
    nu: float = 0.1,
    axis_name: str | None = None,
) -> jax.Array:
    """The radius that leaves a share ν of the rows outside: the best one for fixed embeddings.

    The (1 - ν) quantile of the distances, linear between neighbors, as in the code of [191].

    Args:
        distances: Squared distances `[B]`, else a `ValueError`.
        where: Rows that count; broadcasts to `[B]`, else a `ValueError`. All by default.
        nu: In (0, 1], else a `ValueError`.
        axis_name: Named axis of devices, each with rows of its own.

    Returns:
        Scalar R, without gradient; 0 where no row counts.
    """
    _check_share(nu)
    checks.floating("distances", distances)
    checks.rank_equal("distances", jnp.shape(distances), "B")
    where = masked.as_mask(where, distances.shape)
    distances = jax.lax.stop_gradient(masked.widen(distances))
    distances, where = devices.gather((distances, where), axis_name)
    rows = jnp.sum(where, dtype=jnp.int32)
    # Rows that do not count come last, where the quantile of the others never looks.
    ordered = jnp.sqrt(jnp.sort(jnp.where(where, distances, jnp.inf)))
    place = (1.0 - nu) * jnp.maximum(rows - 1, 0).astype(ordered.dtype)
    low = jnp.floor(place).astype(jnp.int32)
    below, above = ordered[low], ordered[jnp.minimum(low + 1, jnp.maximum(rows - 1, 0))]
    radius = below + (place - low) * (above - below)
    return devices.same_on_all(jnp.where(rows > 0, radius, 0.0), axis_name)


def deep_sad(
    embeddings: jax.Array, center: jax.Array, labels: jax.Array, *, eta: float = 1.0
) -> jax.Array:
    """Squared distance d to the center for normal examples, η / d for labeled anomalies.

    Args:
        embeddings: Floats `[..., D]`, else a `TypeError`.
        center: `[D]`, else a `ValueError`.
        labels: `[...]`, else a `ValueError`; 0 for normal or unlabeled, 1 for anomalous.
        eta: Weight of the labeled anomalies.

    Returns:
        `[...]`; at the center an anomaly costs η / 1e-6, with zero gradient. Source: Ruff et al.,
        Deep Semi-Supervised Anomaly Detection, https://arxiv.org/abs/1906.02694
    """
    distances = squared_distance(embeddings, center)
    checks.shape_equal("labels", jnp.shape(labels), distances.shape)
    return jnp.where(jnp.asarray(labels) == 1, eta / (distances + _FLOOR), distances)


def reconstruction_and_anomaly(
    reconstruction_error: jax.Array, anomaly: jax.Array, *, xi: float = 0.5
) -> jax.Array:
    """ξ ℓ_rec + (1 - ξ)(1 - p): the detector's score of an image or of a patch.

    Global and local models each have one: the image's is the global one plus the largest local one.

    Args:
        reconstruction_error: ℓ_rec, of `similarity_losses.mae_mixed_similarity`; floats `[...]`,
            else a `TypeError`.
        anomaly: 1 - p of `gaussian_anomaly`, of the same shape, else a `ValueError`.
        xi: ξ in [0, 1], else a `ValueError`; the document gives none.

    Returns:
        Scores `[...]`, at least float32. Source: document, eqs. 4.5 and 5.10.
    """
    checks.floating("reconstruction_error", reconstruction_error)
    checks.floating("anomaly", anomaly)
    checks.shape_equal("anomaly", jnp.shape(anomaly), jnp.shape(reconstruction_error))
    if not 0.0 <= xi <= 1.0:
        raise ValueError(f"xi: expected a number in [0, 1], got {xi}.")
    return xi * masked.widen(reconstruction_error) + (1.0 - xi) * masked.widen(anomaly)


def multi_scale_score(
    image_reconstruction: jax.Array,
    image_anomaly: jax.Array,
    patch_reconstruction: jax.Array,
    patch_anomaly: jax.Array,
    where: jax.Array | None = None,
) -> jax.Array:
    """(ℓ_r + ℓ_h) of the image + its largest over the patches (document, eqs. 6.21 to 6.23).

    Args:
        image_reconstruction: ℓ_r of the global model `[B]`.
        image_anomaly: ℓ_h of the global model `[B]`, else a `ValueError`.
        patch_reconstruction: ℓ_r of the local model `[B, P]`, else a `ValueError`.
        patch_anomaly: ℓ_h of the local model `[B, P]`, else a `ValueError`.
        where: Real patches; broadcasts to `[B, P]`, else a `ValueError`. All by default.

    Returns:
        Scores `[B]`; an image without patches has its global score alone.
    """
    image, patch = (image_reconstruction, image_anomaly), (patch_reconstruction, patch_anomaly)
    whole, parts = _scales(image, patch, where, (1.0, 1.0), (1.0, 1.0))
    return whole + parts


def multi_scale_score_released(
    image_reconstruction: jax.Array,
    image_anomaly: jax.Array,
    patch_reconstruction: jax.Array,
    patch_anomaly: jax.Array,
    where: jax.Array | None = None,
) -> jax.Array:
    """½ (0.1 ℓ_r + 0.9 ℓ_h) of the image + ½ the largest 0.9 ℓ_r + 0.1 ℓ_h of a patch.

    Args:
        image_reconstruction: ℓ_r of the global model `[B]`.
        image_anomaly: ℓ_h of the global model `[B]`, else a `ValueError`.
        patch_reconstruction: ℓ_r of the local model `[B, P]`, else a `ValueError`.
        patch_anomaly: ℓ_h of the local model `[B, P]`, else a `ValueError`.
        where: Real patches; broadcasts to `[B, P]`, else a `ValueError`. All by default.

    Returns:
        Scores `[B]`. Source: released code (github.com/tianyu0207/IGD), whose weights gave table
        6.2 of the document.
    """
    image, patch = (image_reconstruction, image_anomaly), (patch_reconstruction, patch_anomaly)
    whole, parts = _scales(image, patch, where, (0.1, 0.9), (0.9, 0.1))
    return 0.5 * whole + 0.5 * parts


def _scales(image, patch, where, image_weights, patch_weights):
    """Weighted sum of each pair of terms: of the image `[B]`, and the patches' largest `[B]`."""
    checks.rank_equal("image_reconstruction", jnp.shape(image[0]), "B")
    checks.shape_equal("image_anomaly", jnp.shape(image[1]), image[0].shape)
    checks.rank_equal("patch_reconstruction", jnp.shape(patch[0]), "B P")
    checks.shape_equal("patch_reconstruction", patch[0].shape[:1], image[0].shape)
    checks.shape_equal("patch_anomaly", jnp.shape(patch[1]), patch[0].shape)
    image, patch = map(masked.widen, image), list(map(masked.widen, patch))
    where = masked.as_mask(where, patch[0].shape)
    whole = sum(w * x for w, x in zip(image_weights, image, strict=True))
    # Selected before the sum, whose gradient would carry a NaN of a missing patch back.
    patch = (jnp.where(where, x, 0.0) for x in patch)
    each = sum(w * x for w, x in zip(patch_weights, patch, strict=True))
    largest = jnp.max(jnp.where(where, each, -jnp.inf), axis=-1, initial=-jnp.inf)
    return whole, jnp.where(jnp.any(where, axis=-1), largest, 0.0)


@jax.custom_jvp
def _one_minus_exp(q):
    return -jnp.expm1(-q)


@_one_minus_exp.defjvp
def _one_minus_exp_slope(primals, tangents):
    # The built-in slope of expm1(-q), expm1(-q) + 1, has lost all digits where exp(-q) is small.
    (q,), (step,) = primals, tangents
    return _one_minus_exp(q), jnp.exp(-q) * step


def _check_share(nu):
    if not 0.0 < nu <= 1.0:
        raise ValueError(f"nu: expected a number in (0, 1], got {nu}.")
