import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.losses import cross_entropy, focal

PRECISIONS = {  # Context, type, stated tolerance.
    "float32": (contextlib.nullcontext, jnp.float32, 2e-5),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-6),
}
focal_loss = jax.jit(focal.focal_loss, static_argnames=("gamma", "alpha"))
softmax_focal_loss = jax.jit(focal.softmax_focal_loss, static_argnames="gamma")
weighted_cross_entropy = jax.jit(focal.weighted_cross_entropy)
optax_focal_loss = jax.jit(optax.sigmoid_focal_loss, static_argnames=("alpha", "gamma"))
every_precision = pytest.mark.parametrize("precision", PRECISIONS)


@every_precision
@pytest.mark.parametrize(
    "name, gamma, alpha",
    [
        ("focal_g2_a0.25", 2.0, 0.25),
        ("focal_g2_anone", 2.0, None),
        ("focal_g0_anone", 0.0, None),
        ("focal_g1_a0.75", 1.0, 0.75),
        ("bce", 0.0, None),
    ],
)
def test_golden_focal(name, gamma, alpha, precision):
    context, dtype, rtol = PRECISIONS[precision]
    golden = vectors.load("fsad_net", "baselines")
    with context():
        logits = jnp.asarray(golden["logit"], dtype)
        actual = focal_loss(logits, golden["label"], gamma=gamma, alpha=alpha)
        vectors.assert_close(actual, golden[name], rtol=rtol, atol=1e-8)


@every_precision
@pytest.mark.parametrize("name, gamma", [("softmax_ce", 0.0), ("softmax_focal_g2", 2.0)])
def test_golden_softmax(name, gamma, precision):
    context, dtype, rtol = PRECISIONS[precision]
    golden = vectors.load("fsad_net", "baselines")
    with context():
        logits = jnp.asarray(golden["softmax_logits"], dtype)
        actual = softmax_focal_loss(logits, golden["softmax_label"], gamma=gamma)
        vectors.assert_close(actual, golden[name], rtol=rtol, atol=1e-8)


def test_golden_cross_entropy():
    golden = vectors.load("fsad_net", "baselines")
    actual = weighted_cross_entropy(golden["logit"], golden["label"])
    vectors.assert_close(actual, golden["bce"], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(jnp.mean(actual), golden["bce_mean"], rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    logits=st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=3),
    gamma=st.sampled_from([0.5, 2.0]),
    alpha=st.sampled_from([None, 0.25]),
)
def test_focal_equals_that_of_optax(logits, gamma, alpha):
    logits, labels = jnp.array(logits), jnp.array([0, 1, 1])
    expected = optax_focal_loss(logits, labels, alpha=alpha, gamma=gamma)
    actual = focal_loss(logits, labels, gamma=gamma, alpha=alpha)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-6)  # optax rounds 1 - p_t.


def test_without_focus_all_are_cross_entropies():
    logits, labels = jnp.array([-3.0, 0.5, 2.0, 40.0]), jnp.array([0, 1, 0, 0])
    expected = optax.sigmoid_binary_cross_entropy(logits, labels)
    np.testing.assert_allclose(focal_loss(logits, labels, gamma=0.0), expected, rtol=1e-6)
    np.testing.assert_allclose(weighted_cross_entropy(logits, labels), expected, rtol=1e-6)
    wide = jnp.array([[0.1, 2.0, -1.0], [3.0, 0.0, 0.5]])
    np.testing.assert_allclose(
        softmax_focal_loss(wide, jnp.array([2, 0]), gamma=0.0),
        jax.jit(cross_entropy.softmax_cross_entropy)(wide, jnp.array([2, 0])),
        rtol=1e-6,
    )


def test_two_classes_are_the_binary_case_of_their_difference():
    logits, labels = jnp.array([[0.3, -1.0], [2.0, 2.5], [-4.0, 0.0]]), jnp.array([0, 1, 1])
    expected = focal_loss(logits[:, 1] - logits[:, 0], labels, gamma=2.0, alpha=0.25)
    actual = softmax_focal_loss(logits, labels, weights=jnp.array([0.75, 0.25]))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_confident_right_answers_keep_their_digits():
    # p_t = 1 - e^-20: (1 - p_t)² (-log p_t) = e^-60, where 1 - p_t rounds to 0 in float32.
    actual = focal_loss(jnp.array([20.0]), jnp.array([1]))
    np.testing.assert_allclose(actual, [np.exp(-60.0)], rtol=1e-4)


def test_positive_weight_counts_an_anomaly_several_times():
    logits = jnp.array([0.5, 0.5])
    single = weighted_cross_entropy(logits, jnp.array([0, 1]))
    triple = weighted_cross_entropy(logits, jnp.array([0, 1]), positive_weight=3.0)
    np.testing.assert_allclose(triple, single * jnp.array([1.0, 3.0]), rtol=1e-6)


@pytest.mark.parametrize("label", [-1, 3, 255])
def test_label_that_is_no_class_gives_nan(label):
    weights = jnp.array([0.5, 1.0, 2.0])
    loss = focal.softmax_focal_loss(jnp.ones((2, 3)), jnp.array([label, 1]), weights=weights)
    np.testing.assert_array_equal(jnp.isnan(loss), [True, False])
