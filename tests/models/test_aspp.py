import drawn
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.models.aspp import ASPP, aspp_rates
from jaxad.models.layers import Mode

INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 7, 5)), jnp.float32)


def test_branches_stand_in_the_published_orders():
    last, first = (ASPP(4, (2, 3, 5), pooling=pooling) for pooling in ("last", "first"))
    variables = drawn.variables(last, INPUTS, Mode())
    a, b = (jax.jit(lambda v, m=m: m.apply(v, INPUTS, Mode()))(variables) for m in (last, first))
    assert a.shape == (2, 9, 7, 20)
    np.testing.assert_array_equal(jnp.roll(a, 4, axis=-1), b)
    # The image's mean is the same everywhere, the other branches are not.
    assert jnp.all(jnp.ptp(a[..., 16:], axis=(1, 2)) == 0)
    assert jnp.all(jnp.ptp(a[..., :16], axis=(1, 2)) > 0)


def test_branches_by_hand():
    network = ASPP(3, (2,), pooling="first")
    variables = drawn.variables(network, INPUTS, Mode())
    out = jax.jit(lambda v: network.apply(v, INPUTS, Mode()))(variables)

    def normalised(x, name):
        scale, bias = (variables["params"][name]["norm"][k] for k in ("scale", "bias"))
        mean, var = (variables["batch_stats"][name]["norm"][k] for k in ("mean", "var"))
        return np.maximum((x - mean) / np.sqrt(var + 1e-5) * scale + bias, 0)

    kernel = {k: np.asarray(v["conv"]["kernel"]) for k, v in variables["params"].items()}
    mean = np.mean(INPUTS, axis=(1, 2)) @ kernel["pooled"][0, 0]
    np.testing.assert_allclose(out[:, 4, 4, :3], normalised(mean, "pooled"), rtol=1e-4, atol=1e-5)
    point = np.asarray(INPUTS)[:, 4, 4] @ kernel["pointwise"][0, 0]
    np.testing.assert_allclose(
        out[:, 4, 4, 3:6], normalised(point, "pointwise"), rtol=1e-4, atol=1e-5
    )
    wide = sum(
        np.asarray(INPUTS)[:, 4 + 2 * (i - 1), 4 + 2 * (j - 1)] @ kernel["dilated1"][i, j]
        for i in range(3)
        for j in range(3)
    )
    np.testing.assert_allclose(out[:, 4, 4, 6:], normalised(wide, "dilated1"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "output_stride, expected", [(8, (12, 24, 36)), (16, (6, 12, 18)), (32, (3, 6, 9))]
)
def test_rates_follow_the_stride(output_stride, expected):
    assert aspp_rates(output_stride) == expected
    found = {}

    def note(call, args, kwargs, context):
        if isinstance(context.module, nn.Conv):
            found[context.module.path[0]] = context.module.kernel_dilation
        return call(*args, **kwargs)

    network = ASPP(2, aspp_rates(output_stride), projection=3)
    with nn.intercept_methods(note):
        out = jax.eval_shape(
            lambda key: network.init_with_output(key, INPUTS, Mode())[0], jax.random.key(0)
        )
    assert out.shape == (2, 9, 7, 3)
    assert tuple(found[f"dilated{i}"] for i in (1, 2, 3)) == expected
    assert found["pointwise"] == found["pooled"] == found["projection"] == 1


def test_published_numbers_of_parameters():
    def count(network):
        inputs = jnp.zeros((1, 2, 2, 2048))
        shapes = jax.eval_shape(lambda k: network.init(k, inputs, Mode()), jax.random.key(0))
        return sum(x.size for x in jax.tree.leaves(shapes["params"]))

    branches = 2 * (2048 * 256 + 512) + 3 * (9 * 2048 * 256 + 512)
    assert count(ASPP(256)) == branches
    assert count(ASPP(256, projection=256)) == branches + 1280 * 256 + 512


def test_unknown_values_are_errors():
    with pytest.raises(ValueError, match=r"pooling: expected one of .*'first'.*, got 'middle'"):
        drawn.variables(ASPP(2, pooling="middle"), INPUTS, Mode())
    with pytest.raises(ValueError, match=r"output_stride: expected one of \(8, 16, 32\), got 4"):
        aspp_rates(4)
