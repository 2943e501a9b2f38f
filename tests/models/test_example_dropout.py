import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layouts import AXIS, LAYOUTS, spread

from jaxad.models.example_dropout import ExampleDropout, example_dropout

KEY = jax.random.key(7)


def test_keeps_the_share_and_the_mean():
    kept = np.asarray(example_dropout(KEY, jnp.ones((50, 11, 181)), 0.7))
    np.testing.assert_allclose(np.unique(kept), [0.0, 1.0 / 0.3], rtol=1e-6)
    # 99,550 entries: five standard deviations of the share are 0.0073.
    assert abs(np.mean(kept > 0) - 0.3) < 0.0073
    shares = np.mean(kept > 0, axis=(1, 2))
    assert np.std(shares) < 2 * np.sqrt(0.3 * 0.7 / (11 * 181))


def test_entries_and_rows_are_independent():
    kept = np.asarray(example_dropout(KEY, jnp.ones((2, 4096)), 0.5) > 0, np.float64)
    first, second = kept[0, :2048], kept[0, 2048:]  # The two halves of the same random words.
    for a, b in ((first, second), (kept[0], kept[1]), (first[1:], first[:-1])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.1


def test_a_row_does_not_depend_on_the_rows_around_it():
    x = jnp.ones((4, 5))
    np.testing.assert_array_equal(
        example_dropout(KEY, x, 0.5)[:2], example_dropout(KEY, x[:2], 0.5)
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_eight_devices_drop_what_one_drops(layout):
    rows = jnp.linspace(1.0, 2.0, 16 * 21).reshape(16, 21)

    def on_device(rows):
        dropped = example_dropout(KEY, rows, 0.6, axis_name=AXIS)
        gathered = jax.lax.all_gather(dropped, AXIS, tiled=True)
        return jax.lax.pmean(gathered, AXIS)

    actual = spread(layout, on_device, rows)
    np.testing.assert_allclose(actual, example_dropout(KEY, rows, 0.6), rtol=1e-6)


def test_gradient_is_that_of_the_kept_entries():
    x = jnp.arange(1.0, 13.0).reshape(3, 4)
    gradient = jax.grad(lambda x: jnp.sum(example_dropout(KEY, x, 0.5)))(x)
    np.testing.assert_array_equal(gradient, jnp.where(example_dropout(KEY, x, 0.5) > 0, 2.0, 0.0))


def test_type_is_kept_and_nan_is_dropped_like_anything():
    x = jnp.full((2, 64), jnp.nan, jnp.bfloat16)
    dropped = example_dropout(KEY, x, 0.5)
    assert dropped.dtype == jnp.bfloat16
    assert 0 < jnp.sum(dropped == 0) < 128


def test_module_drops_while_training_only_and_differs_from_its_sibling():
    x = jnp.ones((2, 50))

    class Two(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return ExampleDropout(0.5)(x, train=train), ExampleDropout(0.5)(x, train=train)

    first, second = Two().apply({}, x, train=True, rngs={"dropout": KEY})
    assert (first != second).any()
    for rate, train in ((0.5, False), (0.0, True)):
        np.testing.assert_array_equal(ExampleDropout(rate).apply({}, x, train=train), x)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_bad_rate_is_named(rate):
    with pytest.raises(ValueError, match=r"rate: expected a number in \[0, 1\), got"):
        example_dropout(KEY, jnp.ones((2, 3)), rate)
