"""`jaxad.losses.posthoc`: scores of logits alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxad.losses import energy, posthoc

SCORES = [posthoc.max_softmax, posthoc.max_logit, posthoc.probability_margin]
LOGITS = hnp.arrays(np.float32, (2, 5), elements=st.floats(-30, 30, width=32))


@pytest.mark.parametrize(
    "function, name", [(posthoc.max_softmax, "msp"), (posthoc.max_logit, "max_logit")]
)
@pytest.mark.parametrize("system", ["pebal", "pans"])
def test_scores_equal_the_golden_ones(function, name, system):
    if system == "pans":
        arrays = vectors.load("pans", "scores")
        name = {"max_logit": "class_scores"}.get(name, name)
    else:
        arrays = vectors.load("pebal", "posthoc")
    logits = jnp.moveaxis(arrays["logits"], 1, -1)
    vectors.assert_close(function(logits), arrays[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "function, name", [(posthoc.max_softmax, "V"), (posthoc.probability_margin, "D")]
)
def test_heat_maps_equal_the_golden_ones(function, name):
    arrays = vectors.load("entropy_max", "scores")
    logits = jnp.log(jnp.moveaxis(arrays["probs"], 0, -1))  # -inf for a probability of 0.
    vectors.assert_close(function(logits), arrays[name], rtol=0, atol=1e-6)


def test_by_hand():
    logits = jnp.log(jnp.array([0.2, 0.5, 0.3]))
    np.testing.assert_allclose(posthoc.max_softmax(logits), 0.5, rtol=1e-6)
    np.testing.assert_allclose(posthoc.probability_margin(logits), 1 - 0.5 + 0.3, rtol=1e-6)
    np.testing.assert_allclose(posthoc.max_logit(logits), -np.log(0.5), rtol=1e-6)


@pytest.mark.parametrize("function", [posthoc.max_softmax, posthoc.probability_margin])
def test_sure_predictions_keep_their_order(function):
    # 1 - p would be 0 for all three in float32: 1 - p = exp(-z) / (1 + exp(-z)).
    z = np.array([20.0, 25.0, 40.0])
    logits = jnp.stack([jnp.asarray(z, jnp.float32), jnp.zeros(3)], axis=-1)
    share = np.exp(-z) / (1 + np.exp(-z))
    expected = share if function is posthoc.max_softmax else 2 * share
    np.testing.assert_allclose(function(logits), expected, rtol=1e-5)


@pytest.mark.parametrize("function", SCORES)
@settings(max_examples=15, deadline=None)
@given(LOGITS, st.floats(-20, 20, width=32))
def test_a_constant_and_the_order_of_classes(function, logits, constant):
    score = function(logits)
    moved = score - constant if function is posthoc.max_logit else score
    np.testing.assert_allclose(function(logits + constant), moved, atol=2e-4)
    np.testing.assert_allclose(function(logits[:, [3, 0, 4, 2, 1]]), score, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(LOGITS)
def test_max_logit_is_an_upper_bound_of_the_energy(logits):
    gap = posthoc.max_logit(logits) - energy.free_energy(logits)
    assert (gap >= -1e-4).all()
    assert (gap <= np.log(5) + 1e-4).all()


@pytest.mark.parametrize("function", SCORES)
def test_uniform_logits_score_highest(function):
    expected = {"max_softmax": 0.75, "probability_margin": 1.0, "max_logit": -2.0}
    actual = function(jnp.full((4,), 2.0))
    np.testing.assert_allclose(actual, expected[function.__name__], rtol=1e-6)


def test_one_class_is_always_sure():
    np.testing.assert_array_equal(posthoc.max_softmax(jnp.array([[3.0], [-1.0]])), [0.0, 0.0])


def test_gradient_of_max_softmax_is_that_of_the_plain_form():
    z = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    actual = jax.grad(lambda z: jnp.sum(posthoc.max_softmax(z)))(z)
    expected = jax.grad(lambda z: -jnp.sum(jnp.max(jax.nn.softmax(z), axis=-1)))(z)
    np.testing.assert_allclose(actual, expected, atol=1e-6)
