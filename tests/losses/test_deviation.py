import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.losses import deviation, masked

NAMES = ("mixed", "all_normal", "all_abnormal", "single_normal", "single_abnormal", "kinks")
CASES = [name + suffix for name in NAMES for suffix in ("", "_shifted")]
PRECISIONS = {  # Context, type, stated tolerance.
    "float32": (contextlib.nullcontext, jnp.float32, 2e-5),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-6),
}


@jax.jit
def loss_and_gradient(scores, labels, mean, std, margin):
    def mean_loss(scores):
        each = deviation.deviation_loss(scores, labels, mean=mean, std=std, margin=margin)
        return masked.mean(each, True), each

    (value, each), gradient = jax.value_and_grad(mean_loss, has_aux=True)(scores)
    return each, value, gradient


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_golden_deviation_loss(case, precision):
    context, dtype, rtol = PRECISIONS[precision]
    golden = vectors.part(vectors.load("fsad_net", "deviation_loss"), f"{case}/")
    with context():
        constants = [jnp.asarray(x, dtype) for x in golden["mu_sigma_margin"]]
        scores = jnp.asarray(golden["score"], dtype)
        each, value, gradient = loss_and_gradient(scores, golden["label"], *constants)
        vectors.assert_close(each, golden["per_sample"], rtol=rtol, atol=1e-8 + rtol / 10)
        np.testing.assert_allclose(value, golden["loss"], rtol=rtol, atol=1e-8)
        vectors.assert_close(gradient, golden["grad"], rtol=rtol, atol=1e-8)


@pytest.mark.parametrize("version", ["paper", "released"])
def test_golden_loss_of_the_score_network(version):
    golden = vectors.load("fsad_net", "score_network")
    names = {"paper": (0.0, 1.0), "released": (golden["reference_mean"], golden["reference_std"])}
    scores, labels = jnp.asarray(golden["train_score"]), golden["label"]
    each, value, gradient = loss_and_gradient(scores, labels, *names[version], 6.0)
    np.testing.assert_allclose(value, golden[f"{version}_loss"], rtol=1e-6)  # Stated: 2e-4.
    expected = golden[f"grad_score_{version}"]
    if version == "released":
        # The vector holds both gradients: the second backward pass was added to the first.
        expected = expected - golden["grad_score_paper"]
    vectors.assert_close(gradient, expected, rtol=1e-6, atol=1e-6)
    if version == "released":
        normal = jnp.mean(jnp.where(labels == 0, each, 0.0))
        np.testing.assert_allclose(normal, golden["released_normal_part"], rtol=1e-6)


@pytest.mark.parametrize(
    "score, label, loss",
    [(0.0, 0, 0.0), (6.0, 1, 0.0), (7.0, 1, 0.0), (0.0, 1, 6.0), (-2.5, 0, 2.5)],
)
def test_loss_by_hand(score, label, loss):
    actual = deviation.deviation_loss(jnp.array([score]), jnp.array([label]))
    np.testing.assert_array_equal(actual, [loss])


def test_slope_at_both_kinks_is_zero():
    gradient = jax.grad(lambda s: deviation.deviation_loss(s, jnp.array([0, 1])).sum())
    np.testing.assert_array_equal(gradient(jnp.array([0.0, 6.0])), np.zeros(2))
    np.testing.assert_array_equal(gradient(jnp.array([0.1, 5.9])), [1.0, -1.0])
    np.testing.assert_array_equal(gradient(jnp.array([-0.1, 6.1])), [-1.0, 0.0])


def test_shifting_and_scaling_the_reference_is_the_same_as_standardizing_scores():
    scores, labels = jnp.array([1.0, -2.0, 4.0, 9.0]), jnp.array([0, 0, 1, 1])
    expected = deviation.deviation_loss((scores - 0.5) / 2.0, labels)
    actual = deviation.deviation_loss(scores, labels, mean=0.5, std=2.0)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_large_references_approach_the_constants():
    mean, std = deviation.draw_reference(jax.random.key(0), draws=200_000)
    # Standard errors: 1 / √200000 = 0.0022 and 0.0016.
    np.testing.assert_allclose([mean, std], [0.0, 1.0], atol=0.01)
    assert mean.shape == std.shape == ()


@pytest.mark.parametrize("ddof", [0, 1])
def test_reference_divides_as_asked(ddof):
    # Of two draws a, b: √((a - b)² / 2 / (2 - ddof)).
    mean, std = deviation.draw_reference(jax.random.key(3), draws=2, ddof=ddof)
    a, b = jax.random.normal(jax.random.key(3), (2,))
    np.testing.assert_allclose(mean, (a + b) / 2, rtol=1e-6)
    np.testing.assert_allclose(std, jnp.abs(a - b) / np.sqrt(2 * (2 - ddof)), rtol=1e-5)
