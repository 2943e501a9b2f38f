import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.models.temporal_convolution import TemporalConvolution, temporal_convolution


def plain(inputs, kernel, dilation):
    padding = dilation * (kernel.shape[0] // 2)
    outputs = jax.lax.conv_general_dilated(
        inputs.reshape(-1, *inputs.shape[-2:]),
        kernel,
        window_strides=(1,),
        padding=[(padding, padding)],
        rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )
    return outputs.reshape(*inputs.shape[:-1], kernel.shape[-1])


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("channels, features", [(6, 2), (4, 4), (2, 5)])  # Both inner forms.
@pytest.mark.parametrize("size, dilation", [(1, 1), (3, 1), (3, 4), (3, 7), (3, 9), (5, 3)])
def test_value_and_gradients_are_those_of_the_plain_convolution(size, dilation, channels, features):
    inputs, kernel = draw(2, 3, 7, channels), draw(size, channels, features, seed=1)
    cotangent = draw(2, 3, 7, features, seed=2)

    def run(function):
        def weighed(inputs, kernel):
            outputs = function(inputs, kernel)
            return jnp.sum(outputs * cotangent), outputs

        (_, outputs), gradients = jax.jit(jax.value_and_grad(weighed, (0, 1), has_aux=True))(
            inputs, kernel
        )
        return outputs, *gradients

    actual = run(lambda x, k: temporal_convolution(x, k, dilation=dilation))
    expected = run(lambda x, k: plain(x, k, dilation))
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)


def test_by_hand():
    inputs, kernel = jnp.array([[1.0], [2.0], [4.0]]), jnp.array([[[10.0]], [[1.0]], [[100.0]]])
    actual = temporal_convolution(inputs, kernel)
    np.testing.assert_allclose(actual, [[201.0], [412.0], [24.0]])
    actual = temporal_convolution(inputs, kernel, dilation=2)
    np.testing.assert_allclose(actual, [[401.0], [2.0], [14.0]])


def test_module_adds_a_bias_and_initialises_by_glorot_over_channels_times_kernel():
    module, inputs = TemporalConvolution(40, kernel_size=3), draw(1, 5, 20)
    params = module.init(jax.random.key(0), inputs)["params"]
    assert params["kernel"].shape == (3, 20, 40)
    limit = np.sqrt(6 / (3 * 20 + 3 * 40))
    assert 0.98 * limit < jnp.max(jnp.abs(params["kernel"])) <= limit
    assert not params["bias"].any()
    biased = module.apply({"params": params | {"bias": jnp.ones(40)}}, inputs)
    expected = temporal_convolution(inputs, params["kernel"]) + 1.0
    np.testing.assert_allclose(biased, expected, rtol=1e-5, atol=1e-6)


def test_16_bit_computation_with_float32_parameters():
    module, inputs = TemporalConvolution(4, dtype=jnp.bfloat16), draw(1, 5, 8)
    params = module.init(jax.random.key(0), inputs)["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    outputs = module.apply({"params": params}, inputs)
    assert outputs.dtype == jnp.bfloat16
    exact = TemporalConvolution(4).apply({"params": params}, inputs)
    np.testing.assert_allclose(outputs.astype(jnp.float32), exact, atol=0.05)


@pytest.mark.parametrize(
    "kernel, dilation, message",
    [
        ((2, 6, 1), 1, r"kernel: expected \[K, C, F\] with odd K and C = 6, got \(2, 6, 1\)"),
        ((3, 5, 1), 1, r"C = 6, got \(3, 5, 1\)"),
        ((3, 6, 1), 0, "dilation: expected at least 1, got 0"),
    ],
)
def test_errors_name_argument_expected_and_got(kernel, dilation, message):
    with pytest.raises(ValueError, match=message):
        temporal_convolution(draw(4, 6), jnp.ones(kernel), dilation=dilation)
