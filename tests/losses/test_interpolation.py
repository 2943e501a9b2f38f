import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import AXIS, LAYOUTS, spread

from jaxad.losses import interpolation, masked

PRECISIONS = {
    "float32": (contextlib.nullcontext, jnp.float32, 2e-6),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-9),
}
every_precision = pytest.mark.parametrize("precision", PRECISIONS)
PARTNERS = {
    "rolled": jax.jit(interpolation.rolled_partners, static_argnames="axis_name"),
    "reversed": jax.jit(interpolation.reversed_partners, static_argnames="axis_name"),
}
every_pairing = pytest.mark.parametrize("pairing", PARTNERS)


def paired_by_hand(pairing, valid):
    """Index of each row's partner, and which rows have one."""
    real = [i for i, v in enumerate(valid) if v]
    partner, paired = list(range(len(valid))), [False] * len(valid)
    for place, row in enumerate(real):
        if pairing == "reversed":
            partner[row], paired[row] = real[-1 - place], True
        elif len(real) > 1:
            partner[row], paired[row] = real[(place + 1) % len(real)], True
    return partner, paired


@every_precision
def test_golden_critic_losses(precision):
    context, dtype, rtol = PRECISIONS[precision]  # Stated tolerance 1e-6 relative, of float64.
    golden = vectors.load("igd", "losses")
    with context():
        names = ("critic_of_interpolated", "critic_of_mixed", "alpha")
        between, mixed, alpha = (jnp.asarray(golden[k][:, 0], dtype) for k in names)
        mean = partial(masked.mean, where=True)
        values = {
            "l_d": mean(interpolation.critic_loss(between, mixed, alpha)),
            "l_d_front": mean(interpolation.share_error(between, alpha)),
            "l_d_back": mean(interpolation.fooling_loss(mixed)),
            "l_reg": mean(interpolation.fooling_loss(between)),
            "l_d_front_released_broadcast": interpolation.share_error_released(between, alpha),
        }
        for name, value in values.items():
            np.testing.assert_allclose(value, golden[name], rtol=rtol, err_msg=name)
            assert value.shape == ()


@every_precision
def test_golden_interpolation_pairs_the_reversed_batch(precision):
    context, dtype, rtol = PRECISIONS[precision]
    golden = vectors.load("igd", "losses")
    with context():
        z = jnp.asarray(golden["z"], dtype)
        partners, paired = PARTNERS["reversed"](z)
        alpha = jnp.asarray(golden["alpha"][:, 0], dtype)
        actual = interpolation.interpolate(z, partners, alpha)
        vectors.assert_close(actual, golden["interpolated_latents"], rtol=rtol, atol=rtol)
        assert paired.all()


@every_precision
def test_golden_mixed_images(precision):
    context, dtype, rtol = PRECISIONS[precision]
    golden = vectors.load("igd", "losses")
    with context():
        x, reconstruction = (jnp.asarray(golden[k], dtype) for k in ("x", "x_hat"))
        zeta = jnp.asarray(golden["zeta"][:, 0], dtype)
        actual = interpolation.interpolate(x, reconstruction, zeta)
        vectors.assert_close(actual, golden["mixed_images"], rtol=rtol, atol=rtol)


def test_share_one_is_the_first_and_zero_the_second():
    first, second = jnp.array([[1.0, 2.0]]), jnp.array([[5.0, -2.0]])
    for share, expected in [(1.0, first), (0.0, second), (0.25, jnp.array([[4.0, -1.0]]))]:
        actual = interpolation.interpolate(first, second, jnp.array(share))
        np.testing.assert_array_equal(actual, expected)


@every_pairing
@pytest.mark.parametrize(
    "valid", [[1] * 5, [0, 1, 0, 1, 1], [1, 0, 1, 1, 1], [0, 1, 0, 0, 0], [0] * 5]
)
def test_partners_by_hand(pairing, valid):
    rows = jnp.arange(2.0 * len(valid)).reshape(-1, 2)
    partners, paired = PARTNERS[pairing](rows, jnp.array(valid))
    expected, real = paired_by_hand(pairing, valid)
    np.testing.assert_array_equal(partners, rows[jnp.array(expected)])
    np.testing.assert_array_equal(paired, np.array(real, bool))


@settings(max_examples=20, deadline=None)
@given(valid=st.lists(st.booleans(), min_size=6, max_size=6))
def test_rolled_partners_are_a_permutation_without_fixed_point(valid):
    rows = jnp.arange(6.0)
    partners, paired = PARTNERS["rolled"](rows, jnp.array(valid))
    if sum(valid) > 1:
        real = np.flatnonzero(valid)
        np.testing.assert_array_equal(np.sort(partners[real]), real)
        assert (np.asarray(partners)[real] != real).all()
        np.testing.assert_array_equal(paired, np.array(valid))
    else:
        assert not paired.any()


@every_pairing
@pytest.mark.parametrize("layout", LAYOUTS)
def test_partners_come_from_all_devices(pairing, layout):
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)), jnp.float32)
    valid = jnp.arange(16) % 5 < 3
    weights = jnp.cos(jnp.arange(48.0)).reshape(16, 3)
    expected = jnp.sum(weights * PARTNERS[pairing](rows, valid)[0])

    def run(shared):
        rows, valid, weights = shared
        partners, _ = PARTNERS[pairing](rows, valid, axis_name=AXIS)
        return jax.lax.psum(jnp.sum(weights * partners), AXIS)

    actual = spread(layout, run, (rows, valid, weights))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_a_batch_of_one_passes_no_gradient_through_the_pair():
    def loss(z):
        partners, paired = interpolation.rolled_partners(z)
        codes = interpolation.interpolate(z, partners, jnp.array(0.3))
        return masked.mean(interpolation.fooling_loss(jnp.sum(codes, axis=-1)), paired)

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.array([[1.0, 2.0]]))
    assert float(value) == 0.0
    np.testing.assert_array_equal(gradient, np.zeros((1, 2)))


def test_shares_do_not_depend_on_how_the_batch_is_cut():
    keys = jax.random.split(jax.random.key(0), 6)
    whole = interpolation.draw_shares(keys)
    parts = jnp.concatenate(
        [interpolation.draw_shares(keys[:2]), interpolation.draw_shares(keys[2:])]
    )
    np.testing.assert_array_equal(whole, parts)
    assert (whole.shape, whole.dtype) == ((6,), jnp.float32)


@pytest.mark.parametrize("high", [0.5, 1.0])
def test_shares_are_uniform(high):
    keys = jax.random.split(jax.random.key(1), 4000)
    shares = np.asarray(interpolation.draw_shares(keys, high=high))
    assert shares.min() >= 0.0
    assert shares.max() < high
    # Standard errors: of the mean high / √(12 · 4000) = 0.0046 high; of the quartile 0.007 high.
    np.testing.assert_allclose(shares.mean(), high / 2, atol=0.02 * high)
    np.testing.assert_allclose(np.quantile(shares, 0.25), high / 4, atol=0.03 * high)


def test_shares_need_typed_keys():
    with pytest.raises(TypeError, match="keys: expected typed keys"):
        interpolation.draw_shares(jnp.zeros((3, 2), jnp.uint32))


def test_released_error_is_the_mean_over_all_pairs():
    predictions, shares = jnp.array([0.5, -1.0, 2.0]), jnp.array([0.1, 0.4, 0.2])
    pairs = jnp.square(predictions[None, :] - shares[:, None])
    actual = interpolation.share_error_released(predictions, shares)
    np.testing.assert_allclose(actual, jnp.mean(pairs), rtol=1e-6)


def test_released_error_is_least_at_the_mean_share_for_every_image():
    shares = jnp.array([0.1, 0.4, 0.2])
    slope = jax.grad(interpolation.share_error_released)(jnp.full(3, jnp.mean(shares)), shares)
    np.testing.assert_allclose(slope, np.zeros(3), atol=1e-7)
    slope = jax.grad(interpolation.share_error_released)(shares, shares)
    assert np.abs(slope).max() > 0.01  # The right answer is not its minimum.
