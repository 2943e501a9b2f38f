from functools import partial

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.models.scene_classifier import Classifier

FEATURES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 5)), jnp.float32)


def test_golden_cosine_classifier():
    golden = vectors.load("pans", "cosine_classifier")
    classifier = Classifier(golden["w"].shape[0], "cosine", float(golden["tau"]))
    run = jax.jit(classifier.apply)
    for name in ("", "_deepsup"):
        params = {"prototypes": jnp.asarray(golden[f"w{name}"][..., 0, 0])}
        logits = run({"params": params}, jnp.asarray(np.moveaxis(golden[f"x{name}"], 1, -1)))
        expected = np.moveaxis(golden[f"logits{name}"], 1, -1)
        vectors.assert_close(logits, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "linear_without_bias"])
def test_linear_logits_by_hand(kind):
    classifier = Classifier(3, kind)
    variables = drawn.variables(classifier, FEATURES)
    conv = variables["params"]["conv"]
    expected = np.asarray(FEATURES) @ np.asarray(conv["kernel"])[0, 0]
    assert ("bias" in conv) == (kind == "linear")
    expected = expected + np.asarray(conv.get("bias", 0.0))
    np.testing.assert_allclose(
        jax.jit(classifier.apply)(variables, FEATURES), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["cosine", "linear", "linear_without_bias"])
def test_logits_of_16_bit_features_are_float32(kind):
    classifier = Classifier(3, kind)
    variables = drawn.variables(classifier, FEATURES)
    rounded = FEATURES.astype(jnp.bfloat16)
    run = jax.jit(classifier.apply)
    logits = run(variables, rounded)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, run(variables, rounded.astype(jnp.float32)), rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_gradients_are_finite_for_any_length(scale):
    classifier = Classifier(3, "cosine")
    variables = drawn.variables(classifier, FEATURES)

    def loss(variables, features):
        return jnp.sum(jnp.sin(classifier.apply(variables, features) + 1.0))

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))(variables, scale * FEATURES)
    for leaf in jax.tree.leaves(gradient):
        assert np.all(np.isfinite(leaf))


def test_first_prototypes_are_uniform_within_the_bound_of_their_length():
    classifier = Classifier(50, "cosine")
    features = jnp.zeros((1, 1, 1, 64))
    variables = jax.jit(classifier.init)(jax.random.key(0), features)
    prototypes = np.asarray(variables["params"]["prototypes"])
    assert prototypes.shape == (50, 64)
    assert 0.99 / 8 < np.max(np.abs(prototypes)) <= 1 / 8


def test_unknown_kinds_are_errors():
    with pytest.raises(ValueError, match=r"classifier: expected one of .*, got 'sine'"):
        jax.eval_shape(partial(Classifier(3, "sine").init), jax.random.key(0), FEATURES)
