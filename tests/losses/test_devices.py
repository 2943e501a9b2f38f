import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layouts import AXIS, LAYOUTS, spread

from jaxad.losses import devices

ROWS = np.arange(32, dtype=np.float32).reshape(16, 2)
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def known(value):
    """A value that all devices hold, as one that `shard_map` lets out."""
    return jax.lax.pmean(value, AXIS)


def test_one_device_is_the_global_batch():
    rows = {"a": jnp.ones((3, 2)), "b": jnp.arange(3)}
    assert devices.gather(rows, None) is rows
    assert devices.total(rows["a"], None) is rows["a"]
    assert devices.same_on_all(rows["a"], None) is rows["a"]


def test_first_row_of_one_device_is_zero():
    first = devices.first_row(3, None)
    assert (first.shape, first.dtype, int(first)) == ((), jnp.int32, 0)


@every_layout
def test_gathered_rows_keep_the_order_of_the_global_batch(layout):
    def on_device(rows):
        return jax.tree.map(known, devices.gather({"all": rows, "one": rows[:, 0]}, AXIS))

    gathered = spread(layout, on_device, ROWS)
    np.testing.assert_array_equal(gathered["all"], ROWS)
    np.testing.assert_array_equal(gathered["one"], ROWS[:, 0])


@every_layout
def test_first_row_is_the_place_in_the_gathered_rows(layout):
    def on_device(rows):
        place = devices.first_row(2, AXIS) + jnp.arange(2)
        own = devices.gather(rows, AXIS)[place]
        return jax.lax.pmax(jnp.max(jnp.abs(own - rows)), AXIS), jax.lax.psum(place, AXIS)

    difference, places = spread(layout, on_device, ROWS)
    assert difference == 0.0
    np.testing.assert_array_equal(places, [56, 64])  # 2 (0 + ... + 7), and one more each.


@every_layout
def test_total_adds_up_the_devices(layout):
    total = spread(layout, lambda rows: devices.total(jnp.sum(rows, axis=0), AXIS), ROWS)
    np.testing.assert_array_equal(total, ROWS.sum(axis=0))


@every_layout
def test_value_that_is_the_same_on_all_is_not_changed(layout):
    def on_device(rows):
        return devices.same_on_all(jnp.mean(devices.gather(rows, AXIS)), AXIS)

    np.testing.assert_allclose(spread(layout, on_device, ROWS), ROWS.mean(), rtol=1e-6)


@every_layout
@pytest.mark.parametrize("gathers", [True, False])
def test_mean_of_the_devices_gradients_is_that_of_one_device(layout, gathers):
    weights = jnp.array([0.5, -1.0])

    def loss(weights, rows, axis_name):
        values = jnp.sin(rows / 32.0 @ weights)
        if gathers:
            values = devices.gather(values, axis_name)
            return devices.same_on_all(jnp.sum(jnp.square(values)), axis_name)
        return devices.total(jnp.sum(jnp.square(values)), axis_name)

    def on_device(rows):
        value, gradient = jax.value_and_grad(loss)(weights, rows, AXIS)
        return value, jax.lax.pmean(gradient, AXIS)

    value, gradient = spread(layout, on_device, ROWS)
    expected = jax.value_and_grad(loss)(weights, jnp.asarray(ROWS), None)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-5)
