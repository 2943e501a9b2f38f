import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.models import layers


@pytest.mark.parametrize("size", [(8, 12), (5, 40), (3, 3)])
@pytest.mark.parametrize("dilation", [1, 3, 5, 8, 12, 36])
@pytest.mark.parametrize("stride", [1, 2])
def test_taps_that_read_padding_alone_are_left_out(size, dilation, stride):
    """Value and gradients of the plain operation."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32)
    layer = layers.conv(4, 3, layers.Mode(), stride=stride, dilation=dilation)
    variables = layer.init(jax.random.key(0), x)

    def plain(kernel, x):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            ((dilation, dilation),) * 2,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def ours(kernel, x):
        return layer.apply({"params": {"kernel": kernel}}, x)

    kernel = variables["params"]["kernel"]
    results = []
    for function in (ours, plain):
        value, back = jax.vjp(function, kernel, x)
        results.append((value, *back(jnp.cos(value))))
    assert results[0][0].shape == results[1][0].shape
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_dilation_beyond_the_map_costs_one_tap():
    x = jax.ShapeDtypeStruct((1, 8, 12, 3), jnp.float32)
    layer = layers.conv(4, 3, layers.Mode(), dilation=36)
    text = str(jax.make_jaxpr(lambda x: layer.init_with_output(jax.random.key(0), x)[0])(x))
    assert "rhs_dilation=(1, 1)" in text
    assert "rhs_dilation=(36, 36)" not in text
