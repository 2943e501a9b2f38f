"""`jaxad.losses.entropy`: entropy scores, those of several passes, entropy maximisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxad.losses import entropy

CASES = ["in_only", "mixed", "mixed_lambda_0.25", "all_outlier"]
LOGITS = hnp.arrays(np.float32, (2, 5), elements=st.floats(-30, 30, width=32))
FAR = jnp.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4]])


def golden(case):
    arrays = vectors.load("entropy_max", "losses")
    logits = jnp.moveaxis(arrays["logits"], 1, -1)
    arrays = vectors.part(arrays, f"{case}/")
    target = arrays["target"]
    return arrays, logits, (target, target < 19, target == 254)


@pytest.mark.parametrize("case", CASES)
def test_terms_per_image_equal_the_documents(case):
    with jax.enable_x64(True):
        arrays, logits, (labels, inlier, outlier) = golden(case)
        logits = logits.astype(jnp.float64)
        # The golden arrays hold both terms of every image.
        of_inliers = entropy.inlier_cross_entropy(logits, labels, inlier)
        of_outliers = entropy.outlier_cross_entropy(logits, outlier)
        vectors.assert_close(of_inliers, arrays["paper_l_in_per_image"], rtol=1e-6)
        vectors.assert_close(of_outliers, arrays["paper_l_out_per_image"], rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_documents_objective_and_gradient(case):
    with jax.enable_x64(True):
        arrays, logits, masks = golden(case)
        run = jax.jit(jax.value_and_grad(entropy.entropy_maximisation))
        given = (logits.astype(jnp.float64), *masks, arrays["is_proxy_image"])
        value, gradient = run(*given, weight=float(arrays["lambda"]))
        vectors.assert_close(value, arrays["paper_total"], rtol=1e-6)
        gradient = jnp.moveaxis(gradient, -1, 1)
        vectors.assert_close(gradient, arrays["paper_grad"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_released_objective_and_gradient(case):
    arrays, logits, masks = golden(case)
    run = jax.jit(jax.value_and_grad(entropy.entropy_maximisation_released))
    value, gradient = run(logits, *masks, weight=float(arrays["lambda"]))
    vectors.assert_close(value, arrays["released"], rtol=1e-5)
    gradient = jnp.moveaxis(gradient, -1, 1)
    vectors.assert_close(gradient, arrays["released_grad"], rtol=1e-5, atol=1e-6)


def test_normalised_entropy_of_probabilities_equals_the_golden_scores():
    arrays = vectors.load("entropy_max", "scores")
    p = jnp.moveaxis(arrays["probs"], 0, -1)
    actual = entropy.normalised_entropy_of_probabilities(p)
    vectors.assert_close(actual, arrays["normalised_entropy_float64"], rtol=0, atol=1e-6)
    vectors.assert_close(actual, arrays["normalised_entropy"], rtol=0, atol=1e-6)
    for threshold in (0.3, 0.5, 0.7):
        np.testing.assert_array_equal(actual >= threshold, arrays[f"mask_t{threshold}"])


def test_normalised_entropy_of_logits_equals_the_golden_scores():
    arrays = vectors.load("entropy_max", "scores")
    logits = jnp.log(jnp.moveaxis(arrays["probs"], 0, -1))  # -inf for a probability of 0.
    actual = entropy.normalised_entropy(logits)
    vectors.assert_close(actual, arrays["normalised_entropy_float64"], rtol=0, atol=1e-6)


def test_entropy_equals_the_golden_score():
    arrays = vectors.load("pebal", "posthoc")
    actual = entropy.entropy(jnp.moveaxis(arrays["logits"], 1, -1))
    vectors.assert_close(actual, arrays["entropy"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ["c0", "c1"])
def test_foreground_score_of_several_passes_equals_the_golden_one(case):
    arrays = vectors.part(vectors.load("aux_prototypes", "entropy_score"), f"{case}/")
    log_p = entropy.mean_log_probabilities(arrays["logits"])
    vectors.assert_close(jnp.exp(log_p), arrays["mean_prob"], rtol=2e-5)
    vectors.assert_close(
        entropy.predictive_entropy(arrays["logits"]), arrays["entropy"], rtol=2e-5, atol=1e-6
    )
    np.testing.assert_array_equal(jnp.argmax(log_p, axis=-1), arrays["pred"])
    actual = entropy.foreground_entropy(log_p, background=int(arrays["background"]))
    vectors.assert_close(actual, arrays["score"], rtol=2e-5)


def test_entropy_of_two_even_classes_among_nineteen():
    logits = jnp.full((19,), -1e4).at[jnp.array([2, 7])].set(3.0)
    np.testing.assert_allclose(entropy.entropy(logits), np.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(entropy.normalised_entropy(logits), 0.23540, rtol=1e-4)


def test_entropy_of_a_sure_prediction_keeps_its_digits():
    # p = (1 - q, q) with q = e^-30 / (1 + e^-30): H = q (1 + 30) to first order.
    actual = entropy.entropy(jnp.array([30.0, 0.0]))
    np.testing.assert_allclose(actual, 31.0 * np.exp(-30.0), rtol=1e-5)


def test_gradient_of_entropy_with_two_largest_logits():
    z = jnp.array([1.0, -2.0, 1.0, 0.5])
    p = jax.nn.softmax(z)
    # dH / dz_k = -p_k (log p_k + H).
    expected = -p * (jnp.log(p) + entropy.entropy(z))
    np.testing.assert_allclose(jax.grad(entropy.entropy)(z), expected, atol=1e-6)


def test_no_foreground_gives_the_most():
    logits = jnp.zeros((2, 2, 2, 4)).at[..., 3].set(1.0)
    logits = logits.at[1, 0, 0, 1].set(9.0)
    p = np.exp([0, 9, 0, 1]) / np.exp([0, 9, 0, 1]).sum()
    actual = entropy.foreground_entropy(logits, background=3)
    np.testing.assert_allclose(actual, [np.log(4), -(p * np.log(p)).sum()], rtol=1e-5)


def test_foreground_leaves_masked_pixels_out():
    logits = jnp.zeros((1, 2, 3)).at[0, 0].set(jnp.nan).at[0, 1, 1].set(1.0)
    where = jnp.array([[False, True]])
    actual = entropy.foreground_entropy(logits, background=2, where=where)
    np.testing.assert_allclose(actual, entropy.entropy(logits[0, 1]), rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(LOGITS, st.floats(-20, 20, width=32))
def test_entropy_ignores_a_constant_and_the_order_of_classes(logits, constant):
    h = entropy.entropy(logits)
    np.testing.assert_allclose(entropy.entropy(logits + constant), h, atol=2e-4)
    np.testing.assert_allclose(entropy.entropy(logits[:, [3, 0, 4, 2, 1]]), h, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(LOGITS)
def test_temperature_raises_entropy(logits):
    cold, warm = entropy.entropy(logits), entropy.entropy(logits / 2.0)
    assert (warm >= cold - 1e-5).all()
    assert (warm <= np.log(5) + 1e-5).all()


@settings(max_examples=20, deadline=None)
@given(LOGITS)
def test_uniform_loss_is_at_least_log_k(logits):
    loss = entropy.uniform_cross_entropy(logits)
    assert (loss >= np.log(5) - 1e-5).all()


def test_uniform_loss_is_least_at_uniform_logits_where_its_gradient_is_zero():
    value, slope = jax.value_and_grad(entropy.uniform_cross_entropy)(jnp.full((19,), 2.0))
    np.testing.assert_allclose(value, 2.944439, rtol=1e-6)
    np.testing.assert_allclose(slope, 0.0, atol=1e-7)


def test_gradient_of_the_uniform_loss_is_p_less_one_over_k():
    z = jnp.array([0.3, -1.0, 2.0])
    slope = jax.grad(entropy.uniform_cross_entropy)(z)
    np.testing.assert_allclose(slope, jax.nn.softmax(z) - 1 / 3, atol=1e-6)


def test_entropy_of_probabilities_equals_that_of_logits():
    z = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    actual = entropy.entropy_of_probabilities(jax.nn.softmax(z))
    np.testing.assert_allclose(actual, entropy.entropy(z), rtol=1e-5)


def test_probability_of_zero_passes_no_gradient():
    p = jnp.array([0.0, 1.0, 1e-42])
    value, slope = jax.value_and_grad(entropy.entropy_of_probabilities)(p)
    assert value == 0.0
    np.testing.assert_array_equal(slope, [0.0, -1.0, 0.0])


@pytest.mark.parametrize("function", [entropy.entropy, entropy.uniform_cross_entropy])
def test_far_logits_give_finite_values_and_gradients(function):
    value, slope = jax.value_and_grad(lambda z: jnp.sum(function(z)))(FAR)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_passes_that_agree_have_no_information_and_no_variance():
    z = np.random.default_rng(1).normal(size=(1, 3, 4)).astype(np.float32)
    same = np.repeat(z, 5, axis=0)
    np.testing.assert_allclose(entropy.mutual_information(same), 0.0, atol=1e-6)
    np.testing.assert_allclose(entropy.predictive_variance(same), 0.0, atol=1e-12)
    np.testing.assert_allclose(entropy.predictive_entropy(same), entropy.entropy(z[0]), rtol=1e-5)


def test_two_sure_passes_that_disagree():
    # p = (1, 0), (0, 1): mean (1/2, 1/2), so H = I = log 2, and each class has variance 1/4.
    z = jnp.array([[300.0, 0.0], [0.0, 300.0]])
    np.testing.assert_allclose(entropy.predictive_entropy(z), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(entropy.mutual_information(z), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(entropy.predictive_variance(z), 0.25, rtol=1e-6)
    np.testing.assert_allclose(entropy.predicted_class_variance(z), 0.25, rtol=1e-6)


def test_information_is_the_entropy_that_averaging_adds():
    z = 2.0 * np.random.default_rng(2).normal(size=(6, 5, 4)).astype(np.float32)
    expected = entropy.predictive_entropy(z) - jnp.mean(entropy.entropy(z), axis=0)
    np.testing.assert_allclose(entropy.mutual_information(z), expected, rtol=1e-4, atol=1e-6)


def test_void_alone_costs_nothing():
    logits = jnp.ones((2, 3, 4, 5))
    none, labels = jnp.zeros((2, 3, 4), bool), jnp.full((2, 3, 4), 255)
    proxy = jnp.array([False, True])
    value, slope = jax.value_and_grad(entropy.entropy_maximisation)(
        logits, labels, none, none, proxy
    )
    assert value == 0.0
    np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize("weight, which", [(0.0, "outlier"), (1.0, "inlier")])
def test_extreme_weights_switch_one_set_off(weight, which):
    _, logits, (labels, inlier, outlier) = golden("mixed")
    proxy = jnp.array([False, False, True])
    run = jax.jit(jax.grad(entropy.entropy_maximisation))
    slope = run(logits, labels, inlier, outlier, proxy, weight=weight)
    np.testing.assert_array_equal(slope[outlier if which == "outlier" else inlier], 0.0)


@pytest.mark.parametrize("released", [False, True])
def test_padded_rows_change_nothing(released):
    _, logits, (labels, inlier, outlier) = golden("mixed")
    arrays = [logits, labels, inlier, outlier]
    function = entropy.entropy_maximisation_released
    if not released:
        arrays.append(jnp.array([False, False, True]))
        function = entropy.entropy_maximisation
    run = jax.jit(jax.value_and_grad(function))
    expected, _ = run(*arrays)
    fill = [jnp.nan, 255, True, True, True][: len(arrays)]
    padded = [
        jnp.concatenate([x, jnp.full_like(x[:1], f)]) for x, f in zip(arrays, fill, strict=True)
    ]
    actual, slope = run(*padded, valid=jnp.array([1, 1, 1, 0]))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    np.testing.assert_array_equal(slope[3], 0.0)
    assert np.isfinite(slope).all()


def test_released_form_is_the_documents_where_all_images_are_known():
    # One set alone: the mean over its images, times 1 / K.
    _, logits, (labels, inlier, outlier) = golden("in_only")
    released = entropy.entropy_maximisation_released(logits, labels, inlier, outlier)
    document = entropy.entropy_maximisation(logits, labels, inlier, outlier, jnp.zeros(3, bool))
    np.testing.assert_allclose(released, document / 19, rtol=1e-5)


def test_predicted_class_variance_by_hand():
    p = jnp.array([[0.8, 0.1, 0.1], [0.4, 0.5, 0.1]])  # Mean: 0.6, 0.3, 0.1; class 0 is predicted.
    np.testing.assert_allclose(entropy.predicted_class_variance(jnp.log(p)), 0.04, rtol=1e-5)


def test_a_class_that_every_pass_leaves_out_keeps_gradients_finite():
    z = jnp.array([[1.0, 0.0, -jnp.inf], [0.0, 2.0, -jnp.inf]])
    for score in (entropy.predictive_entropy, entropy.mutual_information):
        value, gradient = jax.value_and_grad(score)(z)
        without = score(z[:, :2])
        np.testing.assert_allclose(value, without, rtol=1e-6)
        assert jnp.isfinite(gradient).all()
