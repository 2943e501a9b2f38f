import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import AXIS, LAYOUTS, spread

from jaxad.losses import masked, one_class

CENTER = jnp.array([1.0, 1.0])
EMBEDDINGS = jnp.array([[3.0, 1.0], [1.0, 4.0], [1.0, 1.0]])  # Squared distances 4, 9, 0.
LABELS = jnp.array([0, 1, 0])
transforms = pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
radius_quantile = jax.jit(one_class.radius_quantile, static_argnames="nu")
PRECISIONS = {
    "float32": (contextlib.nullcontext, jnp.float32, 2e-6),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-9),
}


@transforms
def test_squared_distance(transform):
    actual = transform(one_class.squared_distance)(EMBEDDINGS, CENTER)
    np.testing.assert_array_equal(actual, np.array([4.0, 9.0, 0.0]))
    assert actual.shape == (3,)


def test_deep_svdd_is_zero_at_the_center_with_zero_gradient():
    value, gradient = jax.value_and_grad(one_class.squared_distance)(CENTER, CENTER)
    assert float(value) == 0.0
    np.testing.assert_array_equal(gradient, np.zeros(2))


# Gaussian anomaly classifier


@pytest.mark.parametrize("precision", PRECISIONS)
def test_golden_gaussian_classifier(precision):
    context, dtype, rtol = PRECISIONS[precision]  # Stated tolerance 1e-6 relative, of float64.
    golden = vectors.load("igd", "losses")
    with context():
        z, c, variance = (jnp.asarray(golden[k], dtype) for k in ("z", "c", "sigma2"))
        normal = one_class.gaussian_normality(z, c, variance)
        loss = one_class.gaussian_anomaly(z, c, variance)

        def mean(z):
            return masked.mean(one_class.gaussian_anomaly(z, c, variance), True)

        gradient = jax.jit(jax.grad(mean))(z)
        vectors.assert_close(normal, golden["p_normal"], rtol=rtol, atol=0)
        vectors.assert_close(loss, golden["l_h"], rtol=rtol, atol=0)
        vectors.assert_close(gradient, golden["grad_z_of_mean_l_h"], rtol=rtol, atol=1e-7)


def test_classifier_by_hand():
    # Distances 4, 9, 0 with variance 4: exp(-1), exp(-9/4), 1.
    normal = one_class.gaussian_normality(EMBEDDINGS, CENTER, jnp.array(4.0))
    np.testing.assert_allclose(normal, np.exp([-1.0, -2.25, 0.0]), rtol=1e-6)
    anomaly = one_class.gaussian_anomaly(EMBEDDINGS, CENTER, jnp.array(4.0))
    np.testing.assert_allclose(anomaly, 1 - np.exp([-1.0, -2.25, 0.0]), rtol=1e-6)


def test_loss_near_the_center_keeps_its_digits():
    # q = 1e-8: 1 - exp(-q) computed as written would be 0 in float32.
    loss = one_class.gaussian_anomaly(jnp.array([1e-4, 0.0]), jnp.zeros(2), jnp.array(1.0))
    np.testing.assert_allclose(loss, 1e-8, rtol=1e-5)


def test_gradient_far_from_the_center_keeps_its_digits():
    # At distance 4 with variance 1: 2 · 4 · exp(-16) = 9.0e-7; 1 + expm1(-16) would be 0 or an eps.
    slope = jax.grad(one_class.gaussian_anomaly)(jnp.array([4.0]), jnp.zeros(1), jnp.array(1.0))
    np.testing.assert_allclose(slope, [8 * np.exp(-16)], rtol=1e-5)


def test_outliers_are_left_alone_but_still_ranked():
    z, variance = jnp.array([[1e4], [2e4]]), jnp.array(1.0)
    gradient = jax.grad(lambda z: one_class.gaussian_anomaly(z, jnp.zeros(1), variance).sum())(z)
    np.testing.assert_array_equal(gradient, np.zeros((2, 1)))
    np.testing.assert_array_equal(one_class.gaussian_anomaly(z, jnp.zeros(1), variance), [1, 1])
    scaled = one_class.scaled_distance(z, jnp.zeros(1), variance)
    assert float(scaled[1]) > float(scaled[0])


def test_second_derivative_of_the_loss():
    # l(z) = 1 - exp(-z²): l'' = (2 - 4 z²) exp(-z²).
    loss = lambda z: one_class.gaussian_anomaly(z[None], jnp.zeros(1), jnp.array(1.0))  # noqa: E731
    second = jax.grad(jax.grad(loss))(jnp.array(0.5))
    np.testing.assert_allclose(second, (2 - 4 * 0.25) * np.exp(-0.25), rtol=1e-6)


# Spheres


@transforms
def test_soft_boundary_by_hand(transform):
    # R² = 4: outside by 0, 5, -4; 4 + relu(outside) / 0.25.
    run = transform(partial(one_class.soft_boundary, nu=0.25))
    np.testing.assert_allclose(run(EMBEDDINGS, CENTER, jnp.array(2.0)), [4.0, 24.0, 4.0])
    score = transform(one_class.soft_boundary_score)(EMBEDDINGS, CENTER, jnp.array(2.0))
    np.testing.assert_allclose(score, [0.0, 5.0, -4.0])


def test_soft_boundary_draws_only_what_is_outside():
    def mean(z):
        return jnp.sum(one_class.soft_boundary(z, CENTER, jnp.array(2.0), nu=0.25))

    gradient = jax.grad(mean)(EMBEDDINGS)  # 2 (z - c) / ν; on the sphere the kink's 0.
    np.testing.assert_allclose(gradient, [[0.0, 0.0], [0.0, 24.0], [0.0, 0.0]])


def test_squared_radius_is_stationary_where_a_share_nu_is_outside():
    # d/dR² of the mean loss = 1 - (share outside) / ν: with ν = 1/2, two of four outside.
    z = jnp.array([[1.0], [2.0], [3.0], [4.0]])
    loss = partial(one_class.soft_boundary, z, jnp.zeros(1), nu=0.5)
    slope = jax.grad(lambda radius: jnp.mean(loss(radius)))(jnp.array(2.5))
    np.testing.assert_allclose(slope, 0.0, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), real=st.integers(1, 9), nu=st.sampled_from([0.03, 0.25, 0.5, 1.0]))
def test_radius_is_numpy_s_quantile_of_the_real_rows(seed, real, nu):
    distances = np.random.default_rng(seed).random(9).astype(np.float32) * 9
    where = np.arange(9) < real
    expected = np.quantile(np.sqrt(distances[:real].astype(np.float64)), 1.0 - nu)
    hidden = np.where(where, distances, np.nan)
    actual = radius_quantile(jnp.asarray(hidden), where, nu=nu)
    assert actual.shape == ()
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_radius_without_rows_is_zero():
    assert float(one_class.radius_quantile(jnp.full(4, jnp.nan), jnp.zeros(4, bool))) == 0.0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_radius_is_that_of_the_global_batch(layout):
    distances = jnp.asarray(np.random.default_rng(0).random(16), jnp.float32)
    where = jnp.arange(16) % 7 < 4
    expected = one_class.radius_quantile(distances, where, nu=0.3)
    actual = spread(
        layout,
        lambda rows: one_class.radius_quantile(*rows, nu=0.3, axis_name=AXIS),
        (distances, where),
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@transforms
def test_deep_sad_by_hand(transform):
    actual = transform(partial(one_class.deep_sad, eta=2.0))(EMBEDDINGS, CENTER, LABELS)
    np.testing.assert_allclose(actual, [4.0, 2.0 / 9.0, 0.0], rtol=1e-6)
    assert actual.shape == (3,)


def test_deep_sad_without_anomalies_is_deep_svdd():
    actual = one_class.deep_sad(EMBEDDINGS, CENTER, jnp.zeros(3, int))
    np.testing.assert_array_equal(actual, one_class.squared_distance(EMBEDDINGS, CENTER))


def test_deep_sad_anomaly_on_the_center():
    value, gradient = jax.value_and_grad(one_class.deep_sad)(CENTER, CENTER, jnp.array(1))
    np.testing.assert_allclose(value, 1e6, rtol=1e-5)
    np.testing.assert_array_equal(gradient, np.zeros(2))


@pytest.mark.parametrize(
    "function", [one_class.squared_distance, partial(one_class.gaussian_anomaly, variance=2.0)]
)
def test_16_bit_embeddings_are_widened(function):
    actual = function(jnp.full((2, 300), 0.1, jnp.bfloat16), jnp.zeros(300, jnp.bfloat16))
    assert actual.dtype == jnp.float32


# Scores of two scales


def test_golden_scores():
    golden = vectors.load("igd", "losses")
    image = [jnp.asarray(golden[k], jnp.float32)[None] for k in ("global_l_r", "global_l_h")]
    anomaly = jnp.asarray(golden["l_h"], jnp.float32)[None]
    text = jnp.asarray(golden["l_r_range_scaled"], jnp.float32)[None]
    score = jax.jit(one_class.multi_scale_score)(*image, text, anomaly)
    np.testing.assert_allclose(score, [golden["score_paper"]], rtol=1e-6)
    signed = jnp.asarray(golden["l_r_released_local_score"], jnp.float32)[None]
    score = jax.jit(one_class.multi_scale_score_released)(*image, signed, anomaly)
    np.testing.assert_allclose(score, [golden["score_released_det"]], rtol=1e-6)


def test_missing_patches_have_no_say():
    terms = [jnp.array([1.0]), jnp.array([2.0]), jnp.array([[3.0, jnp.nan]]), jnp.ones((1, 2))]
    some, none = jnp.array([[True, False]]), jnp.zeros((1, 2), bool)
    np.testing.assert_allclose(one_class.multi_scale_score(*terms, some), [3.0 + 4.0])
    np.testing.assert_allclose(one_class.multi_scale_score(*terms, none), [3.0])


def test_score_of_the_detector_by_hand():
    anomaly = one_class.gaussian_anomaly(EMBEDDINGS, CENTER, jnp.array(4.0))
    score = one_class.reconstruction_and_anomaly(jnp.array([0.2, 0.4, 0.6]), anomaly, xi=0.25)
    # Squared distances 4, 9, 0: 1 - p = 1 - e^(-1), 1 - e^(-9/4), 0.
    expected = [0.05 + 0.75 * (1 - np.exp(-1.0)), 0.1 + 0.75 * (1 - np.exp(-2.25)), 0.15]
    assert score.shape == (3,)
    np.testing.assert_allclose(score, expected, rtol=1e-6)


@pytest.mark.parametrize(("xi", "expected"), [(0.0, 0.9), (0.5, 0.6), (1.0, 0.3)])
def test_score_of_the_detector_lies_between_its_terms(xi, expected):
    score = one_class.reconstruction_and_anomaly(jnp.array([0.3]), jnp.array([0.9]), xi=xi)
    np.testing.assert_allclose(score, [expected], rtol=1e-6)
