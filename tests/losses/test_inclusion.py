import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.losses import inclusion

PRECISIONS = {  # Context, type, error of logarithms in units of max(1, |log|), of their slopes.
    "float32": (contextlib.nullcontext, jnp.float32, 1e-6, 2e-5),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-12, 1e-11),
}


@partial(jax.jit, static_argnums=1)
def logs_and_slopes(distances, dimension):
    functions = (inclusion.log_inclusion, inclusion.log_exclusion)
    each = [jax.vmap(jax.value_and_grad(lambda d, f=f: f(d, dimension))) for f in functions]
    return [run(distances) for run in each]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dimension", [2, 4, 16, 64, 256])
def test_golden_logarithms_and_slopes(dimension, precision):
    context, dtype, share, slope_share = PRECISIONS[precision]
    golden = vectors.part(vectors.load("aux_prototypes", "inclusion_probability"), f"N{dimension}/")
    with context():
        inside, outside = jax.device_get(
            logs_and_slopes(jnp.asarray(golden["D"], dtype), dimension)
        )
    for (logs, slopes), name, slope in (
        (inside, "log_P_I", "dlogPI_dD"),
        (outside, "log_1m_P_I", "dlog1mPI_dD"),
    ):
        expected = golden[name]
        assert logs.shape == expected.shape
        assert np.max(np.abs(logs - expected) / np.maximum(1, np.abs(expected))) < share
        above = np.abs(golden[slope]) > 1e-30
        np.testing.assert_allclose(slopes[above], golden[slope][above], rtol=slope_share)
    np.testing.assert_allclose(np.exp(inside[0]), golden["P_I"], rtol=0, atol=1e-6)
    slopes_of_p = np.exp(inside[0]) * inside[1]
    np.testing.assert_allclose(slopes_of_p, golden["dPI_dD"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dimension", [1, 3, 7, 257, 1024])
def test_odd_and_large_dimensions_agree_with_scipy(dimension):
    distances = np.geomspace(1.01e-3, 1.5, 60, dtype=np.float32) * dimension
    inside, outside = logs_and_slopes(jnp.asarray(distances), dimension)
    half = distances.astype(np.float64) / 2
    for (logs, _), expected in (
        (inside, np.log(scipy.special.gammaincc(dimension / 2, half))),
        (outside, np.log(np.maximum(scipy.special.gammainc(dimension / 2, half), 1e-300))),
    ):
        near = expected > -680  # Farther out scipy has underflowed.
        assert near.sum() > 10
        error = np.abs(logs - expected) / np.maximum(1, np.abs(expected))
        assert error[near].max() < 2e-6


def test_two_dimensions_are_exponential():
    # Q(1, D / 2) = exp(-D / 2), so log P_I = -D / 2 with slope -1/2 everywhere.
    distances = jnp.array([0.0, 1e-3, 0.5, 1.0, 7.0, 1e4, 1e6])
    (logs, slopes), (outside, _) = logs_and_slopes(distances, 2)
    np.testing.assert_allclose(logs, -distances / 2, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(slopes, -0.5, rtol=1e-6)
    np.testing.assert_allclose(outside[3], np.log(1 - np.exp(-0.5)), rtol=1e-6)  # -0.93275.


@pytest.mark.parametrize("dimension", [1, 2, 5, 256])
def test_finite_from_zero_to_a_million(dimension):
    distances = jnp.concatenate([jnp.zeros(1), jnp.geomspace(1e-30, 1e6, 80)])
    (inside, falling), (outside, rising) = logs_and_slopes(distances, dimension)
    for array in (inside, falling, outside, rising):
        assert array.shape == (81,)
        assert np.isfinite(array).all()
    assert abs(inside[0]) < 1e-6
    assert abs(outside[-1]) < 1e-6
    assert np.all(np.diff(inside) <= 0)
    assert np.all(np.diff(outside) >= 0)
    assert np.all(falling <= 0)
    assert np.all(rising >= 0)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.6, 1.6))
def test_inclusion_and_exclusion_add_up_to_one(ratio):
    (inside, _), (outside, _) = logs_and_slopes(jnp.array([256 * ratio]), 256)
    np.testing.assert_allclose(np.exp(inside) + np.exp(outside), 1.0, rtol=1e-6)


def test_slope_is_between_zero_and_a_half_and_falls():
    (_, slopes), _ = logs_and_slopes(jnp.linspace(200.0, 1e4, 50), 256)
    assert np.all((slopes < 0) & (slopes > -0.5))
    assert np.all(np.diff(slopes) < 0)
    (_, known), _ = logs_and_slopes(jnp.array([256.0, 512.0, 1280.0]), 256)
    np.testing.assert_allclose(known, [-0.0361, -0.254, -0.401], atol=5e-4)


def test_exclusion_goes_on_as_its_tangent_near_zero():
    floor = 256e-3
    _, (values, slopes) = logs_and_slopes(jnp.array([0.0, floor / 2, floor * 1.0001]), 256)
    np.testing.assert_allclose(slopes, 499.5, rtol=1e-3)  # About N / (2 D) at the floor.
    np.testing.assert_allclose(np.diff(values), 499.5 * floor / 2, rtol=1e-3)


def test_known_quantiles():
    actual = jax.jit(inclusion.inclusion_probability, static_argnums=1)(
        jnp.array([0.0, 219.95, 256.0, 294.32]), 256
    )
    np.testing.assert_allclose(actual, [1.0, 0.95, 0.488, 0.05], atol=5e-4)


def test_second_derivative():
    # For N = 4: log Q = log(1 + D / 2) - D / 2, whose second derivative is -1 / (4 (1 + D / 2)^2).
    for distance in (3.0, 5.0):  # Both expansions.
        second = jax.jit(jax.grad(jax.grad(lambda d: inclusion.log_inclusion(d, 4))))(distance)
        np.testing.assert_allclose(second, -0.25 / (1 + distance / 2) ** 2, rtol=1e-4)


def test_wilson_hilferty_is_close_near_the_boundary():
    distances = jnp.linspace(0.6, 1.5, 40) * 256
    exact, cheap = (
        jax.jit(lambda d, f=f: f(d, 256))(distances)
        for f in (inclusion.log_inclusion, inclusion.wilson_hilferty_log_inclusion)
    )
    np.testing.assert_allclose(np.exp(cheap), np.exp(exact), atol=5e-5)
    np.testing.assert_allclose(cheap, exact, atol=0.04)
    other = jax.jit(lambda d: inclusion.wilson_hilferty_log_exclusion(d, 256))(distances)
    np.testing.assert_allclose(np.exp(cheap) + np.exp(other), 1.0, rtol=1e-6)


# Rates


def test_rate_counts_the_pixels_inside_per_class():
    # N = 2: P_I is above a half below D = 2 log 2 = 1.386.
    distances = jnp.array(
        [[[1.0, 9.0, 9.0], [1.5, 0.1, 9.0], [1.2, 9.0, 9.0], [9.0, 1.0, jnp.nan]]]
    )
    labels, where = jnp.array([[0, 0, 0, 255]]), jnp.array([[True, True, True, False]])
    rates, counts = jax.jit(inclusion.inclusion_rate, static_argnums=2)(distances, labels, 2, where)
    np.testing.assert_allclose(rates, [2 / 3, 0.0, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(counts, [3, 0, 0])
