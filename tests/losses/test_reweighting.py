import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from layouts import AXIS, LAYOUTS, spread

from jaxad.losses import focal, reweighting

PRECISIONS = {  # Context, type, stated tolerance.
    "float32": (contextlib.nullcontext, jnp.float32, 2e-5),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-6),
}


def losses(theta, rows):
    x, y = rows
    return focal.weighted_cross_entropy(x @ theta, y)


def step(theta, rows, validation):
    """Alignment, weights, weighted loss and its gradient."""
    direction = jax.grad(lambda t: jnp.mean(losses(t, validation)))(theta)
    alignment = reweighting.gradient_alignment(losses, theta, rows, direction)
    weights = reweighting.weights_from_alignment(alignment)
    loss, gradient = jax.value_and_grad(lambda t: jnp.sum(weights * losses(t, rows)))(theta)
    return alignment, weights, loss, gradient


jitted_step = jax.jit(step)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_golden_step(precision):
    context, dtype, rtol = PRECISIONS[precision]
    golden = vectors.part(vectors.load("fsad_net", "baselines"), "l2rw_")
    with context():
        names = ("theta", "x", "y", "val_x", "val_y")
        theta, x, y, val_x, val_y = (jnp.asarray(golden[k], dtype) for k in names)
        alignment, weights, loss, gradient = jitted_step(theta, (x, y), (val_x, val_y))
        slope = -golden["lr"] * alignment
        vectors.assert_close(slope, golden["grad_eps"], rtol=rtol, atol=rtol / 10)
        vectors.assert_close(weights, golden["weights"], rtol=rtol, atol=1e-8)
        np.testing.assert_allclose(loss, golden["weighted_loss"], rtol=rtol)
        vectors.assert_close(gradient, golden["grad_theta"], rtol=rtol, atol=1e-8)


def test_alignment_is_the_derivative_through_the_inner_step():
    rng = np.random.default_rng(0)
    theta, x, val_x = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in (3, (7, 3), (5, 3)))
    rows, validation = (x, jnp.arange(7) % 2), (val_x, jnp.arange(5) % 2)
    rate = 0.3

    def after_the_step(epsilon):
        moved = theta - rate * jax.grad(lambda t: jnp.sum(epsilon * losses(t, rows)))(theta)
        return jnp.mean(losses(moved, validation))

    slope = jax.jit(jax.grad(after_the_step))(jnp.zeros(7))
    alignment = jitted_step(theta, rows, validation)[0]
    np.testing.assert_allclose(-rate * alignment, slope, rtol=1e-4, atol=1e-6)


def test_weights_by_hand():
    actual = reweighting.weights_from_alignment(jnp.array([3.0, -1.0, 1.0, 0.0]))
    np.testing.assert_allclose(actual, [0.75, 0.0, 0.25, 0.0])
    assert actual.shape == (4,)


@pytest.mark.parametrize("alignment", [[-1.0, -2.0], [0.0, 0.0], [jnp.nan, -1.0]])
def test_no_helpful_example_gives_no_weights(alignment):
    actual = reweighting.weights_from_alignment(jnp.array(alignment), jnp.array([False, True]))
    np.testing.assert_array_equal(actual, np.zeros(2))


def test_weights_are_constants():
    gradient = jax.grad(lambda a: reweighting.weights_from_alignment(a)[0])(jnp.array([1.0, 2.0]))
    np.testing.assert_array_equal(gradient, np.zeros(2))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_sum_to_one_over_all_devices(layout):
    alignment = jnp.asarray(np.random.default_rng(0).normal(size=16), jnp.float32)

    def run(rows):
        return jax.lax.psum(jnp.sum(reweighting.weights_from_alignment(rows, axis_name=AXIS)), AXIS)

    np.testing.assert_allclose(spread(layout, run, alignment), 1.0, rtol=1e-6)


def test_losses_must_be_one_per_example():
    with pytest.raises(ValueError, match=r"losses\(params, rows\): expected axes \[B\], got \(\)"):
        reweighting.gradient_alignment(
            lambda t, rows: jnp.sum(losses(t, rows)),
            jnp.ones(2),
            (jnp.ones((3, 2)), jnp.ones(3)),
            jnp.ones(2),
        )
