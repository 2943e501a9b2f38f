"""`jaxad.losses.abstention`: pixel-wise losses of a network with an abstention channel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from jax.scipy.special import logsumexp

from jaxad.losses import abstention, cross_entropy, energy, masked

CASES = ["mixed", "no_outlier", "small_penalty", "large_logits"]


def golden(case):
    arrays = vectors.part(vectors.load("pebal", "losses"), f"{case}/")
    return arrays, jnp.moveaxis(arrays["logits"], 1, -1), arrays["target"]


@pytest.mark.parametrize("case", CASES)
def test_penalty_equals_the_released_one(case):
    arrays, logits, _ = golden(case)
    penalty = abstention.energy_penalty(energy.free_energy(logits[..., :-1]))
    vectors.assert_close(penalty, arrays["released/penalty"], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["deep_gambler_o4.5", "outlier_class_ce"])
def test_baselines_and_their_gradients(case, name):
    with jax.enable_x64(True):
        arrays, logits, target = golden(case)
        inlier, outlier = target < 19, target == 254

        @jax.jit
        def loss(logits):
            if name == "outlier_class_ce":
                each = abstention.outlier_class_cross_entropy(logits, target, inlier, outlier)
                return masked.mean(each, inlier | outlier)
            return masked.mean(abstention.deep_gambler(logits, target, inlier), inlier)

        value, gradient = jax.value_and_grad(loss)(logits.astype(jnp.float64))
        vectors.assert_close(value, arrays[f"baseline/{name}"], rtol=1e-6)
        gradient = jnp.moveaxis(gradient, -1, 1)
        vectors.assert_close(gradient, arrays[f"baseline/grad_{name}"], rtol=1e-6, atol=1e-9)


def test_negative_loss_of_a_penalty_below_one():
    # Y = 2, z = 0: E = -ln 2, a = (ln 2)², p = r = 1/3.
    a = abstention.energy_penalty(energy.free_energy(jnp.zeros(2)))
    np.testing.assert_allclose(a, 0.480453, rtol=1e-6)
    actual = abstention.abstention_loss(jnp.zeros(3), jnp.array(0), a)
    np.testing.assert_allclose(actual, -np.log(1 / 3 + 1 / (3 * 0.480453)), rtol=1e-5)
    np.testing.assert_allclose(actual, -0.026761, rtol=1e-4)


def test_infinite_penalty_gives_cross_entropy():
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    labels = jnp.array([0, 3, 1, 2, 3])
    actual = abstention.abstention_loss(logits, labels, np.inf)
    expected = cross_entropy.softmax_cross_entropy(logits, labels)
    assert actual.shape == (5,)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_penalty_of_one_joins_class_and_abstention():
    logits = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    labels = jnp.array([0, 2, 1, 2, 0])
    p = jax.nn.softmax(logits)
    expected = -jnp.log(p[jnp.arange(5), labels] + p[:, -1])
    actual = abstention.abstention_loss(logits, labels, 1.0)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_label_of_the_abstention_channel():
    # r + r / a with r = 1/3, a = 4.
    actual = abstention.abstention_loss(jnp.zeros(3), jnp.array(2), 4.0)
    np.testing.assert_allclose(actual, -np.log(1 / 3 + 1 / 12), rtol=1e-6)


def test_a_lower_penalty_never_costs_more():
    logits = np.random.default_rng(2).normal(size=(6, 4)).astype(np.float32)
    slope = jax.grad(
        lambda a: jnp.sum(abstention.abstention_loss(logits, jnp.arange(6) % 4, a)), 0
    )(jnp.linspace(0.1, 40.0, 6))
    assert (slope >= 0.0).all()


def test_suppression_by_hand_and_its_floor():
    # p = (1/2, 1/4, 1/4), a = 5: shares 0.55 and 0.3.
    logits = jnp.log(jnp.array([0.5, 0.25, 0.25]))
    actual = abstention.class_suppression_released(logits, 5.0)
    np.testing.assert_allclose(actual, -(np.log(0.55) + np.log(0.3)) / 2, rtol=1e-5)
    # p = (1, 0, 0): -(log 1 + log 1e-7) / 2, and no gradient through the floor.
    sure = jnp.array([200.0, 0.0, 0.0])
    value, slope = jax.value_and_grad(abstention.class_suppression_released)(sure, 5.0)
    np.testing.assert_allclose(value, -np.log(1e-7) / 2, rtol=1e-5)
    np.testing.assert_array_equal(slope, 0.0)


def test_energy_of_zero_gives_a_finite_loss_without_gradient_through_the_floor():
    def loss(logits):
        penalty = abstention.energy_penalty(energy.free_energy(logits[..., :-1]))
        return abstention.abstention_loss(logits, jnp.array(0), penalty)

    logits = jnp.array([-np.log(2.0), -np.log(2.0), 1.0])  # E = 0.
    value, slope = jax.value_and_grad(loss)(logits)
    p = np.asarray(jax.nn.softmax(logits))
    np.testing.assert_allclose(value, -np.log(p[0] + p[2] / 1e-6), rtol=1e-5)
    assert np.isfinite(slope).all()


def test_penalty_of_zero_counts_as_the_lowest():
    zero = abstention.abstention_loss(jnp.zeros(3), jnp.array(0), 0.0)
    lowest = abstention.abstention_loss(jnp.zeros(3), jnp.array(0), 1e-6)
    assert zero == lowest
    assert np.isfinite(zero)


def test_abstention_probability_is_the_last_share():
    logits = jnp.log(jnp.array([[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]]))
    np.testing.assert_allclose(abstention.abstention_probability(logits), [5 / 8, 2 / 8], rtol=1e-6)


def test_labels_and_values_outside_the_mask_may_be_anything():
    logits = jnp.array([[1.0, 2.0, 0.0], [jnp.nan, jnp.nan, jnp.inf]])
    labels, where = jnp.array([1, 254]), jnp.array([True, False])
    penalty = jnp.array([3.0, jnp.nan])

    def loss(logits, penalty):
        of_class = abstention.abstention_loss(logits, labels, penalty, where)
        suppressed = abstention.class_suppression_released(logits, penalty, where)
        exposed = abstention.outlier_class_cross_entropy(logits, labels, where, ~where & where)
        return jnp.sum(of_class + suppressed + exposed)

    value, (slope, of_penalty) = jax.value_and_grad(loss, (0, 1))(logits, penalty)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
    np.testing.assert_array_equal(slope[1], 0.0)
    assert of_penalty[1] == 0.0


def test_energy_and_penalty_do_not_see_the_abstention_logit():
    logits = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)
    slope = jax.grad(lambda z: jnp.sum(abstention.energy_penalty(energy.free_energy(z[..., :-1]))))(
        logits
    )
    np.testing.assert_array_equal(slope[:, -1], 0.0)
    expected = -np.asarray(logsumexp(logits[:, :-1], axis=-1))
    np.testing.assert_allclose(energy.free_energy(logits[:, :-1]), expected, rtol=1e-5)
