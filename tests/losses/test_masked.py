import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from layouts import AXIS, LAYOUTS, spread

from jaxad.losses import masked

VALUES = jnp.array([[1.0, 2.0, 4.0], [-3.0, 8.0, 0.5]])
WHERE = jnp.array([[True, False, True], [True, True, False]])


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_mean_of_selected_entries(transform):
    mean = transform(masked.mean)(VALUES, WHERE)
    assert mean.shape == ()
    np.testing.assert_allclose(mean, (1 + 4 - 3 + 8) / 4)


def test_mean_over_one_axis_and_with_a_broadcast_mask():
    np.testing.assert_allclose(masked.mean(VALUES, WHERE, axis=-1), [2.5, 2.5])
    np.testing.assert_allclose(masked.mean(VALUES, WHERE[:1], axis=0), [-1.0, 0.0, 2.25])


def test_vmap_is_a_mean_per_row():
    np.testing.assert_allclose(jax.vmap(masked.mean)(VALUES, WHERE), [2.5, 2.5])


def test_a_mask_of_ones_and_zeros_is_one_of_booleans():
    a, b = masked.mean(VALUES, WHERE), masked.mean(VALUES, WHERE.astype(jnp.float32))
    np.testing.assert_array_equal(a, b)


def test_total_count_and_norm():
    np.testing.assert_allclose(masked.total(VALUES, WHERE), 10.0)
    np.testing.assert_allclose(masked.count(WHERE, VALUES), 4.0)
    np.testing.assert_allclose(masked.norm(VALUES, WHERE), np.sqrt(1 + 16 + 9 + 64), rtol=1e-6)


@pytest.mark.parametrize("reduce", [masked.mean, masked.total, masked.norm])
def test_empty_mask_gives_zero_and_zero_gradient(reduce):
    value, gradient = jax.value_and_grad(reduce)(VALUES, jnp.zeros_like(WHERE))
    assert value == 0.0
    np.testing.assert_array_equal(gradient, jnp.zeros_like(VALUES))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("reduce", [masked.mean, masked.total, masked.norm])
def test_what_is_masked_changes_neither_value_nor_gradient(reduce, bad):
    expected = jax.value_and_grad(reduce)(VALUES, WHERE)
    actual = jax.value_and_grad(reduce)(jnp.where(WHERE, VALUES, bad), WHERE)
    np.testing.assert_array_equal(actual[0], expected[0])
    np.testing.assert_array_equal(actual[1], expected[1])


@pytest.mark.parametrize("reduce", [masked.mean, masked.total, masked.norm])
def test_gradient(reduce):
    check_grads(lambda x: reduce(x, WHERE), (VALUES,), order=2, modes=["rev"], rtol=1e-2)


def test_norm_has_zero_gradient_at_zero():
    np.testing.assert_array_equal(jax.grad(masked.norm)(jnp.zeros(3), True), jnp.zeros(3))


def test_16_bit_values_are_summed_in_float32():
    mean = masked.mean(jnp.full(4096, 1.0, jnp.bfloat16), True)  # bfloat16 sums would stop at 256.
    assert (mean.dtype, float(mean)) == (jnp.float32, 1.0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reduce", [masked.mean, masked.total, masked.norm])
def test_devices_with_uneven_counts_give_the_global_value_and_gradient(layout, reduce):
    rows = {
        "x": jnp.linspace(-1.0, 2.0, 48).reshape(16, 3),
        "where": jnp.arange(16) < 5,  # Three devices have some, five have none.
    }
    weights = jnp.array([0.5, -1.0, 2.0])

    def loss(weights, rows, axis_name):
        return reduce(rows["x"] @ weights, rows["where"], axis_name=axis_name)

    def on_device(rows):
        value, gradient = jax.value_and_grad(loss)(weights, rows, AXIS)
        return value, jax.lax.pmean(gradient, AXIS)

    value, gradient = spread(layout, on_device, rows)
    expected = jax.value_and_grad(loss)(weights, rows, None)
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-5)


def test_errors_name_argument_expected_and_got():
    with pytest.raises(ValueError, match=r"where: .*\(2, 3\), got \(2,\)"):
        masked.mean(VALUES, jnp.ones(2))
    with pytest.raises(TypeError, match="values: expected a floating-point array, got int32"):
        masked.mean(jnp.arange(3), True)
