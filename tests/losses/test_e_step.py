import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.losses import e_step, moments, one_class

CASES = (
    "unequal_batches",
    "centre_near_zero",
    "variance_floor_mixed",
    "exact_zero_mean_component",
    "single_sample",
)
every_case = pytest.mark.parametrize("case", CASES)
add = jax.jit(moments.add)
add_released = jax.jit(e_step.add_released)


def load(case):
    arrays = vectors.part(vectors.load("igd", "e_step"), f"{case}/")
    cuts = np.cumsum(arrays["batch_sizes"])[:-1]
    return arrays, np.split(arrays["features"], cuts)


def fit(batches):
    state = moments.zero_trace(batches[0].shape[1:])
    for batch in batches:
        state = add(state, batch)
    return e_step.finish(state)


@every_case
def test_golden_mean_and_variance(case):
    golden, batches = load(case)
    center, variance = fit(batches)
    # Stated tolerance 1e-5, absolute.
    np.testing.assert_allclose(center, golden["paper_mu"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(variance, golden["paper_sigma2"], rtol=1e-6, atol=1e-6)
    assert (center.shape, variance.shape) == (golden["paper_mu"].shape, ())


@every_case
def test_golden_released_rules(case):
    golden, batches = load(case)
    center = e_step.away_from_zero(fit(batches).center)
    np.testing.assert_allclose(center, golden["official_c"], rtol=0, atol=1e-6)
    state = e_step.zero_released()
    for batch in batches:
        state = add_released(state, batch, center)
    variance = e_step.finish_released(state)
    np.testing.assert_allclose(variance, golden["official_sigma2"], rtol=1e-6)
    assert variance.shape == ()


def test_mean_scaled_distance_of_the_fitted_rows_is_one():
    golden, batches = load("unequal_batches")
    center, variance = fit(batches)
    scaled = one_class.scaled_distance(golden["features"], center, variance)
    np.testing.assert_allclose(jnp.mean(scaled), 1.0, rtol=1e-6)


def test_one_row_has_no_variance_and_does_not_break_the_classifier():
    z = jnp.array([[1.0, 2.0]])
    center, variance = fit([z])
    assert float(variance) == 0.0
    assert float(one_class.gaussian_anomaly(z, center, variance)[0]) == 0.0


@pytest.mark.parametrize("value, moved", [(0.0, 0.0), (0.03, 0.1), (-0.03, -0.1), (0.1, 0.1)])
def test_small_coordinates_move_away_from_zero_with_their_sign(value, moved):
    actual = e_step.away_from_zero(jnp.array([value, -2.0]))
    np.testing.assert_array_equal(actual, np.array([moved, -2.0], np.float32))


def test_released_batches_weigh_the_same_whatever_their_size():
    # Mean squared distances 4 (one row) and 2 (two rows): (4 + 2) / 2 = 3, not 8 / 3.
    state = e_step.zero_released()
    state = add_released(state, jnp.array([[2.0, 0.0]]), jnp.zeros(2))
    state = add_released(state, jnp.array([[1.0, 1.0], [-1.0, 1.0]]), jnp.zeros(2))
    np.testing.assert_allclose(e_step.finish_released(state), 3.0)


def test_released_batch_without_rows_is_none():
    state = add_released(e_step.zero_released(), jnp.full((2, 3), 2.0), jnp.zeros(3))
    after = add_released(state, jnp.full((2, 3), jnp.nan), jnp.zeros(3), jnp.zeros(2, bool))
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_no_batch_gives_zero():
    assert float(e_step.finish_released(e_step.zero_released())) == 0.0
