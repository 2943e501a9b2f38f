import jax
import jax.numpy as jnp
import numpy as np

from jaxad.losses import exponential

LIMIT = np.log(np.finfo(np.float32).max) - 24.0


def test_it_is_the_exponential_below_the_limit():
    values = jnp.linspace(-100.0, 64.0, 50)
    np.testing.assert_allclose(exponential.capped_exp(values), jnp.exp(values), rtol=1e-6)


def test_beyond_the_limit_it_follows_the_tangent():
    actual = exponential.capped_exp(jnp.float32(LIMIT + 10.0))
    np.testing.assert_allclose(actual, 11.0 * np.exp(LIMIT), rtol=1e-4)


def test_value_and_slope_rise_and_stay_finite():
    values = jnp.array([0.0, 64.0, LIMIT, 80.0, 1e3, 1e10])
    value = exponential.capped_exp(values)
    slope = jax.vmap(jax.grad(exponential.capped_exp))(values)
    assert np.isfinite(value).all()
    assert (np.diff(value) > 0).all()
    assert np.isfinite(slope).all()
    assert (slope > 0).all()
