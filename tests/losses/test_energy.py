"""`jaxad.losses.energy`: maps, margins, regularisers, smoothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxad.losses import energy

CASES = ["mixed", "no_outlier", "small_penalty", "large_logits"]
MAP = jnp.array([[1.0, 4.0, 2.0], [-3.0, 0.0, 5.0]])
LOGITS = hnp.arrays(np.float64, (3, 5), elements=st.floats(-50, 50))


def golden(case):
    arrays = vectors.part(vectors.load("pebal", "losses"), f"{case}/")
    return arrays, jnp.moveaxis(arrays["logits"], 1, -1), arrays["target"]


@pytest.mark.parametrize("case", CASES)
def test_energy_of_the_inlier_channels_equals_the_released_map(case):
    arrays, logits, _ = golden(case)
    vectors.assert_close(energy.free_energy(logits[..., :-1]), arrays["released/energy_map"])


@pytest.mark.parametrize("temperature, name", [(1.0, "energy"), (2.0, "energy_T2")])
def test_energy_with_temperature_equals_the_golden_score(temperature, name):
    arrays = vectors.load("pebal", "posthoc")
    with jax.enable_x64(True):
        logits = jnp.moveaxis(jnp.asarray(arrays["logits"], jnp.float64), 1, -1)
        actual = energy.free_energy(logits, temperature=temperature)
        vectors.assert_close(actual, arrays[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("which", ["in", "out"])
def test_margins_equal_the_golden_sums(case, which):
    arrays, logits, target = golden(case)
    with jax.enable_x64(True):
        e = energy.free_energy(jnp.asarray(logits, jnp.float64)[..., :-1])
        if which == "in":
            actual = jnp.sum(energy.inlier_margin(e, target < 19))
        else:
            actual = jnp.sum(energy.outlier_margin(e, target == 254))
        vectors.assert_close(actual, arrays[f"paper/sum_ebm_{which}"], rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_document_regularisers_equal_the_golden_sums(case):
    arrays, logits, _ = golden(case)
    with jax.enable_x64(True):
        e = energy.free_energy(jnp.asarray(logits, jnp.float64)[..., :-1])
        vectors.assert_close(jnp.sum(energy.smoothness(e)), arrays["paper/sum_smooth"], rtol=1e-6)
        vectors.assert_close(jnp.sum(energy.sparsity(e)), arrays["paper/sum_sparse"], rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_released_energy_loss_and_its_gradient(case):
    arrays, logits, target = golden(case)

    @jax.jit
    def loss(logits):
        e = energy.free_energy(logits[..., :-1])
        smooth = 3e-6 * jnp.sum(energy.smoothness_released(e))
        sparse = 5e-4 * energy.sparsity_released(e, target == 254)
        margins = energy.margins_released(e, target < 19, target == 254)
        return margins + smooth + sparse, (smooth, sparse)

    (value, (smooth, sparse)), gradient = jax.value_and_grad(loss, has_aux=True)(logits)
    vectors.assert_close(smooth, arrays["released/smooth"])
    vectors.assert_close(sparse, arrays["released/sparsity"])
    vectors.assert_close(value, arrays["released/energy_loss"])
    gradient = jnp.moveaxis(gradient, -1, 1)
    vectors.assert_close(gradient, arrays["released/grad_energy_loss"], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("case", [0, 1])
def test_smoothing_equals_the_released_one(case):
    arrays = vectors.load("pebal", "gaussian_blur")
    x, cotangent = arrays[f"x/{case}"], arrays[f"cotangent/{case}"]
    actual, pull = jax.vjp(energy.gaussian_smoothing, x)
    vectors.assert_close(actual, arrays[f"y/{case}"], rtol=0, atol=1e-6)
    vectors.assert_close(pull(cotangent)[0], arrays[f"grad_x/{case}"], rtol=0, atol=1e-6)


def test_smoothing_keeps_constants_and_leaves_other_maps_alone():
    maps = jnp.stack([jnp.full((5, 6), 3.0), jnp.zeros((5, 6))])
    np.testing.assert_allclose(energy.gaussian_smoothing(maps), maps, rtol=1e-6)


def test_smoothing_of_symmetric_map_is_symmetric():
    x = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    x = x + x.T
    y = np.asarray(energy.gaussian_smoothing(x))
    np.testing.assert_allclose(y, y.T, atol=1e-6)


def test_energy_of_two_equal_logits():
    # -2 log(2 exp(3 / 2)) = -2 log 2 - 3.
    actual = energy.free_energy(jnp.array([3.0, 3.0]), temperature=2.0)
    np.testing.assert_allclose(actual, -3.0 - 2.0 * np.log(2.0), rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(LOGITS)
def test_energy_lies_within_log_k_below_the_negative_max(logits):
    e = np.asarray(energy.free_energy(logits.astype(np.float32)), np.float64)
    highest = -logits.max(-1)
    assert e.shape == (3,)
    assert (e <= highest + 1e-4).all()
    assert (e >= highest - np.log(5) - 1e-4).all()


def test_energy_falls_by_a_constant_added_to_all_logits():
    z = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    shifted = energy.free_energy(z + np.float32(2.5))
    np.testing.assert_allclose(shifted, energy.free_energy(z) - 2.5, rtol=1e-5)


def test_low_temperature_gives_the_negative_max():
    z = jnp.array([[1.0, 2.0, -3.0]])
    np.testing.assert_allclose(energy.free_energy(z, temperature=1e-3), [-2.0], rtol=1e-6)


def test_margins_cost_nothing_beyond_them():
    # Energies -13, -12, -9 and -6, -5: (-9 + 12)² = 9, (-6 + 9)² = 9.
    e = jnp.array([-13.0, -12.0, -9.0, -6.0, -5.0])
    np.testing.assert_allclose(energy.inlier_margin(e), [0.0, 0.0, 9.0, 36.0, 49.0])
    np.testing.assert_allclose(energy.outlier_margin(e), [49.0, 36.0, 9.0, 0.0, 0.0])


def test_gradient_beyond_a_margin_is_zero():
    inlier = jax.grad(lambda e: energy.inlier_margin(e))(-12.5)
    outlier = jax.grad(lambda e: energy.outlier_margin(e))(-5.5)
    assert (inlier, outlier) == (0.0, 0.0)


def test_regularisers_by_hand():
    # Right: |3| |−2| |3| |5| = 13; below: |−4| |−4| |3| = 11. Squares: 9+4+9+25 + 16+16+9 = 88.
    np.testing.assert_allclose(energy.smoothness(MAP), 24.0)
    np.testing.assert_allclose(energy.smoothness_released(MAP), 44.0)
    np.testing.assert_allclose(energy.sparsity(MAP), 15.0)


def test_a_difference_needs_both_ends():
    where = jnp.array([[1, 1, 0], [0, 1, 1]])
    # Left over: 1-4, 0-5 to the right, 4-0 below.
    np.testing.assert_allclose(energy.smoothness(MAP, where), 3.0 + 5.0 + 4.0)


def test_repeating_the_batch_doubles_released_smoothness_and_scales_sparsity():
    e = jnp.stack([MAP, MAP - 2.0])
    outlier = MAP > 0
    twice = jnp.concatenate([e, e])

    @jax.jit
    def terms(e):
        smooth = jnp.sum(energy.smoothness_released(e))
        sparse = energy.sparsity_released(e, outlier)
        return jnp.stack([smooth, sparse, energy.margins_released(e, ~outlier, outlier)])

    factors = np.array([2.0, np.sqrt(2.0), 1.0])
    np.testing.assert_allclose(terms(twice), factors * terms(e), rtol=1e-6)


def test_released_margins_without_outliers_are_the_whole_inlier_mean():
    e = jnp.array([[-9.0, -10.0]])
    inlier, outlier = jnp.ones((1, 2), bool), jnp.zeros((1, 2), bool)
    np.testing.assert_allclose(energy.margins_released(e, inlier, outlier), (9.0 + 4.0) / 2)


def test_what_lies_outside_the_mask_may_be_nan():
    where = jnp.array([[True, True, False]])
    e = jnp.array([[-3.0, -4.0, jnp.nan]])
    terms = (
        energy.inlier_margin,
        energy.outlier_margin,
        energy.smoothness,
        energy.smoothness_released,
        energy.sparsity,
        energy.sparsity_released,
    )
    run = jax.jit(jax.value_and_grad(lambda e: sum(jnp.sum(f(e, where)) for f in terms)))
    value, gradient = run(e)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert gradient[0, 2] == 0.0
