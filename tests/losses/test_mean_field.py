"""`jaxad.losses.mean_field`: mean field of a dense CRF."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import vectors

from jaxad.losses import mean_field, posthoc

STEPS = (1, 5, 100)
FORMS = {"gaussian": mean_field.gaussian, "bilateral": mean_field.bilateral}
SPATIAL = functools.partial(mean_field.gaussian, sigma=10.0, weight=10.0)


def golden():
    arrays = vectors.load("pans", "crf")
    return arrays, jnp.moveaxis(arrays["probs"], 0, -1)


def dense(probabilities, sigma, class_sigma, weight, iterations):
    """The definition written out: an N x N kernel in float64."""
    height, width, classes = probabilities.shape
    p = np.asarray(probabilities, np.float64).reshape(-1, classes)
    places = np.stack(np.mgrid[:height, :width], -1).reshape(-1, 2) / sigma
    features = np.concatenate([places, p / class_sigma], axis=1)
    kernel = np.exp(-0.5 * np.square(features[:, None] - features).sum(-1))
    roots = 1 / np.sqrt(kernel.sum(1))
    kernel = roots[:, None] * kernel * roots
    unary, q = np.log(np.clip(p, 1e-5, 1.0)), p
    for _ in range(iterations):
        q = scipy.special.softmax(unary + weight * kernel @ q, axis=1)
    return q.reshape(probabilities.shape)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(shape[-1], 0.5), shape[:-1])


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("form", FORMS)
def test_marginals_and_scores_equal_the_golden_ones(form, steps):
    arrays, probabilities = golden()
    marginals = FORMS[form](probabilities, iterations=steps)
    expected = np.moveaxis(arrays[f"{form}/Q_after_{steps}"], 0, -1)
    np.testing.assert_allclose(marginals, expected, rtol=0, atol=1e-6)
    scores = mean_field.score(marginals)
    np.testing.assert_allclose(scores, arrays[f"{form}/score_after_{steps}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 5])
def test_places_alone_equal_the_golden_ones(steps):
    arrays, probabilities = golden()
    expected = np.moveaxis(arrays[f"bilateral/spatial_only_Q_after_{steps}"], 0, -1)
    actual = SPATIAL(probabilities, iterations=steps)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", STEPS)
def test_places_alone_stand_in_for_the_bilateral_kernel(steps):
    arrays, probabilities = golden()
    marginals = SPATIAL(probabilities, iterations=steps)
    expected = np.moveaxis(arrays[f"bilateral/Q_after_{steps}"], 0, -1)
    np.testing.assert_allclose(marginals, expected, rtol=0, atol=5e-3)
    assert np.abs(marginals - expected).max() > 1e-5  # It is not the same.


@pytest.mark.parametrize("sigma", [0.3, 2.0, 40.0])
def test_gaussian_filters_are_the_dense_kernel(sigma):
    probabilities = draw(23, 31, 4)  # Beyond the reach of the narrow kernels.
    with jax.enable_x64(True):
        actual = mean_field.gaussian(probabilities, sigma=sigma, weight=2.0, iterations=5)
    expected = dense(probabilities, sigma, np.inf, 2.0, 5)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-7)


def test_long_sides_in_blocks_are_the_dense_kernel():
    probabilities = draw(300, 2, 3)
    with jax.enable_x64(True):
        actual = mean_field.gaussian(probabilities, sigma=3.0, iterations=3)
    np.testing.assert_allclose(actual, dense(probabilities, 3.0, np.inf, 3.0, 3), atol=1e-7)


@pytest.mark.parametrize("entries", [1, 500, 10_000])
def test_bilateral_kernel_in_blocks_is_the_dense_kernel(entries, monkeypatch):
    monkeypatch.setattr(mean_field, "_BLOCK", entries)  # 1, 6 (and a rest) and all rows of 77.
    probabilities = draw(7, 11, 4)
    options = {"sigma": 2.0, "class_sigma": 0.4, "weight": 3.0, "iterations": 4}
    with jax.enable_x64(True):
        actual = mean_field.bilateral(probabilities, **options)
    np.testing.assert_allclose(actual, dense(probabilities, **options), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_marginals_are_probabilities_and_stop_moving(form):
    probabilities = jnp.asarray(draw(6, 7, 3), jnp.float32)
    marginals = FORMS[form](probabilities)
    np.testing.assert_allclose(jnp.sum(marginals, -1), 1.0, rtol=1e-6)
    assert (marginals >= 0.0).all()
    more = FORMS[form](probabilities, iterations=120)
    np.testing.assert_allclose(more, marginals, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_without_weight_the_probabilities_stay(form):
    probabilities = jnp.asarray(draw(4, 5, 3).clip(0.01), jnp.float32)
    expected = probabilities / jnp.sum(probabilities, -1, keepdims=True)
    actual = FORMS[form](probabilities, weight=0.0, iterations=3)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_a_doubtful_pixel_follows_its_neighbours():
    image = np.full((9, 9, 2), [0.9, 0.1])
    image[4, 4] = 0.4, 0.6
    marginals = mean_field.gaussian(jnp.asarray(image, jnp.float32))
    assert (jnp.argmax(marginals, -1) == 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_images_of_a_batch_and_of_more_axes_are_apart(form):
    probabilities = jnp.asarray(draw(2, 3, 4, 5, 3), jnp.float32)
    run = jax.jit(functools.partial(FORMS[form], iterations=3))
    np.testing.assert_allclose(run(probabilities)[1, 2], run(probabilities[1, 2]), atol=1e-6)


def test_score_keeps_the_digits_of_sure_pixels():
    # In float32 1 - Q would be 0 for the second.
    marginals = jnp.array([[1 - 1e-4, 1e-4, 0.0], [1.0, 1e-9, 2e-9]])
    np.testing.assert_allclose(mean_field.score(marginals), [1e-4, 3e-9], rtol=1e-6)


def test_score_is_max_softmax_of_log_marginals():
    marginals = jnp.asarray(draw(4, 5, 3), jnp.float32)
    expected = posthoc.max_softmax(jnp.log(marginals))
    np.testing.assert_allclose(mean_field.score(marginals), expected, rtol=1e-5)


def temporary_maps(function, *shape):
    """Memory beside input and output, in units of the input."""
    given = jax.ShapeDtypeStruct(shape, jnp.float32)
    analysis = jax.jit(function).lower(given).compile().memory_analysis()
    return analysis.temp_size_in_bytes / (4 * np.prod(shape))


def test_a_large_image_needs_a_few_maps():
    # 4.0 with sigma 3 and 5.3 with sigma 10; the dense kernel would be 110,376 maps.
    assert temporary_maps(mean_field.gaussian, 1024, 2048, 19) < 5
    assert temporary_maps(SPATIAL, 1024, 2048, 19) < 6


def test_the_dense_kernel_is_never_held():
    # The kernel of 128 x 128 pixels would be 862 maps, 1 GiB.
    assert temporary_maps(mean_field.bilateral, 128, 128, 19) < 50
    slope = jax.grad(lambda p: mean_field.bilateral(p, iterations=2)[0, 0, 0])
    assert temporary_maps(slope, 128, 128, 19) < 100
