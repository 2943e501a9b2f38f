"""`jaxad.losses.class_gaussians`: streaming fit and Mahalanobis distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.losses import class_gaussians as gaussians

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(60, 4)) @ RNG.normal(size=(4, 4)) + 3.0
LABELS = RNG.integers(0, 3, size=60)


def fitted(features, labels, classes, *, cuts=(), dtype=jnp.float32, **options):
    sums = gaussians.zero(classes, features.shape[-1], dtype=dtype)
    for part in np.split(np.arange(len(features)), cuts):
        sums = jax.jit(gaussians.add)(sums, jnp.asarray(features, dtype)[part], labels[part])
    return gaussians.finish(sums, **options)


def test_golden_fit_and_distances_in_float64():
    arrays = vectors.load("pebal", "posthoc")
    with jax.enable_x64(True):
        given = (arrays["maha_train"], arrays["maha_label"], 5)
        fit = fitted(*given, cuts=(13, 250), dtype=jnp.float64, ridge=0.0)
        vectors.assert_close(fit.means, arrays["maha_mu"], rtol=1e-9)
        vectors.assert_close(fit.covariance, arrays["maha_cov"], rtol=1e-9, atol=1e-12)
        distances = gaussians.squared_distances(arrays["maha_test"], fit)
        vectors.assert_close(distances, arrays["maha_distance2"], rtol=1e-9)
        score = gaussians.mahalanobis(arrays["maha_test"], fit)
        vectors.assert_close(score, arrays["maha_score"], rtol=1e-9)


def test_golden_scores_in_float32():
    arrays = vectors.load("pebal", "posthoc")
    fit = fitted(arrays["maha_train"], arrays["maha_label"], 5, cuts=(13, 250), ridge=0.0)
    score = gaussians.mahalanobis(jnp.asarray(arrays["maha_test"], jnp.float32), fit)
    vectors.assert_close(score, arrays["maha_score"], rtol=1e-5)


def test_merging_equals_adding():
    features = jnp.asarray(FEATURES, jnp.float32)
    parts = [
        gaussians.add(gaussians.zero(3, 4), features[p], LABELS[p])
        for p in (slice(0, 5), slice(5, 60))
    ]
    whole = gaussians.add(gaussians.zero(3, 4), features, LABELS)
    for actual, expected in zip(gaussians.merge(*parts), whole, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_covariance_survives_a_large_mean():
    far = (FEATURES + 1e4).astype(np.float32)
    fit = fitted(far, LABELS, 3, cuts=(7, 31), ridge=0.0)
    exact = far.astype(np.float64)
    means = np.stack([exact[np.equal(LABELS, k)].mean(0) for k in range(3)])
    apart = exact - means[LABELS]
    np.testing.assert_allclose(fit.covariance, apart.T @ apart / 60, rtol=0, atol=2e-3)


def test_distance_to_a_mean_is_zero_and_affine_maps_leave_distances():
    fit = fitted(FEATURES, LABELS, 3, ridge=0.0)
    np.testing.assert_allclose(
        np.diagonal(gaussians.squared_distances(fit.means, fit)), 0.0, atol=1e-6
    )
    turn = np.triu(RNG.normal(size=(4, 4))) + 3.0 * np.eye(4)
    turned = fitted(FEATURES @ turn + 1.0, LABELS, 3, ridge=0.0)
    queries = RNG.normal(size=(5, 4)).astype(np.float32)
    expected = gaussians.squared_distances(queries, fit)
    actual = gaussians.squared_distances((queries @ turn + 1.0).astype(np.float32), turned)
    assert actual.shape == (5, 3)
    np.testing.assert_allclose(actual, expected, rtol=1e-3)


def test_unit_covariance_gives_euclidean_distances():
    fit = gaussians.finish(gaussians.zero(2, 3))
    actual = gaussians.squared_distances(jnp.array([[1.0, 2.0, 2.0]]), fit)
    np.testing.assert_allclose(actual, [[9.0, 9.0]], rtol=1e-6)


def test_class_without_features_is_nobodys_nearest():
    fit = fitted(FEATURES, np.where(LABELS == 1, 2, LABELS), 3)
    np.testing.assert_array_equal(fit.present, [True, False, True])
    queries = jnp.zeros((1, 4))  # The mean that stands in for the missing class.
    distances = gaussians.squared_distances(queries, fit)
    expected = jnp.minimum(distances[:, 0], distances[:, 2])
    np.testing.assert_allclose(gaussians.mahalanobis(queries, fit), expected, rtol=1e-6)
    assert expected[0] > 0.0


def test_masked_and_unlabelled_features_do_not_count():
    where = np.arange(60) % 4 != 0
    labels = np.where(np.arange(60) % 5 == 0, 255, LABELS)
    spoilt = np.where((where & (labels < 3))[:, None], FEATURES, np.nan).astype(np.float32)
    actual = gaussians.add(gaussians.zero(3, 4), spoilt, labels, where)
    kept = where & (labels < 3)
    expected = gaussians.add(gaussians.zero(3, 4), FEATURES[kept].astype(np.float32), labels[kept])
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_labels_of_pixels_may_come_as_maps():
    maps = FEATURES.reshape(3, 4, 5, 4).astype(np.float32)
    actual = gaussians.add(gaussians.zero(3, 4), maps, LABELS.reshape(3, 4, 5))
    expected = gaussians.add(gaussians.zero(3, 4), maps.reshape(60, 4), LABELS)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["constant feature", "equal rows"])
def test_singular_covariance_gives_finite_scores_and_gradients(kind):
    features = FEATURES.astype(np.float32)
    features[:, 2] = 0.0
    if kind == "equal rows":
        features[:] = 1.5
    fit = fitted(features, LABELS, 3)
    queries = jnp.asarray(FEATURES[:5], jnp.float32)
    value, slope = jax.value_and_grad(lambda f: jnp.sum(gaussians.mahalanobis(f, fit)))(queries)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_gradient_is_twice_the_whitened_difference():
    fit = fitted(FEATURES, LABELS, 3, ridge=0.0)
    query = jnp.asarray(FEATURES[0] + 1.0, jnp.float32)
    nearest = int(jnp.argmin(gaussians.squared_distances(query, fit)))
    slope = jax.grad(gaussians.mahalanobis)(query, fit)
    expected = 2.0 * np.linalg.solve(fit.covariance, query - fit.means[nearest])
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-3)
