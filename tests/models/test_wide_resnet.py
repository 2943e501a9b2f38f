from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.models.layers import Mode
from jaxad.models.wide_resnet import PreActivationBlock, WideResNet

PLAIN = Mode()
TINY = {"width": 1 / 32, "structure": (1, 1, 2, 1, 1, 1)}


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def block(channels, inputs, mode=PLAIN, zero=(), **options):
    """A block and its variables, with zeros in some layers."""
    module = PreActivationBlock(channels, mode, **options)
    variables = jax.jit(module.init)(jax.random.key(1), inputs, None)
    params = {
        name: jax.tree.map(jnp.zeros_like, layer) if name in zero else layer
        for name, layer in variables["params"].items()
    }
    return module, {"params": params, "batch_stats": variables["batch_stats"]}


@pytest.mark.parametrize("channels, last", [((4, 6), "conv2"), ((4, 5, 6), "conv3")])
def test_the_shortcut_is_the_input_itself_where_nothing_changes(channels, last):
    inputs = draw(2, 5, 7, 6)
    module, variables = block(channels, inputs, zero=(last,), dilation=2)
    np.testing.assert_array_equal(jax.jit(module.apply)(variables, inputs, None), inputs)


@pytest.mark.parametrize("features, stride", [(6, 2), (4, 1)])
def test_the_shortcut_projects_the_activated_input_where_size_or_channels_change(features, stride):
    inputs = draw(2, 5, 7, 6)
    module, variables = block((4, features), inputs, zero=("conv2",), stride=stride)
    kernel = variables["params"]["projection"]["kernel"][0, 0]
    # A fresh norm divides by sqrt(1 + epsilon).
    expected = jnp.maximum(inputs, 0.0)[:, ::stride, ::stride] / np.sqrt(1.0 + 1e-5) @ kernel
    actual = jax.jit(module.apply)(variables, inputs, None)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_dropout_drops_whole_channels_behind_the_last_norm():
    inputs = draw(3, 4, 4, 8)
    mode = Mode(train=True, dropout=True)
    module, variables = block((8, 8, 8), inputs, mode, dropout=0.5)
    variables["params"]["conv3"] = {"kernel": jnp.eye(8)[None, None]}
    still = module.clone(mode=Mode(train=True))

    @partial(jax.jit, static_argnums=0)
    def apply(module, variables):
        rngs = {"dropout": jax.random.key(3)}
        return module.apply(variables, inputs, None, mutable=["batch_stats"], rngs=rngs)

    dropped, stats = apply(module, variables)
    kept, still_stats = apply(still, variables)
    # Statistics are those of all channels.
    jax.tree.map(np.testing.assert_array_equal, stats, still_stats)
    ratio = np.asarray((dropped - inputs) / jnp.where(kept == inputs, 1.0, kept - inputs))
    channels = ratio.max(axis=(1, 2))
    assert set(np.round(channels.ravel(), 3)) == {0.0, 2.0}
    seen = np.asarray(kept != inputs)
    np.testing.assert_allclose(
        ratio, np.where(seen, channels[:, None, None], 0.0), rtol=1e-4, atol=1e-5
    )


def convolutions(output_stride):
    """(stride, dilation) of all 3 x 3 convolutions in order, and the sizes of the maps."""
    module, mode = WideResNet(output_stride=output_stride, **TINY), PLAIN
    images = jax.ShapeDtypeStruct((1, 65, 48, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, mode), images)
    jaxpr, maps = jax.make_jaxpr(lambda v, x: module.apply(v, x, mode), return_shape=True)(
        variables, images
    )
    found = [
        (e.params["window_strides"][0], e.params["rhs_dilation"][0])
        for e in jaxpr.eqns
        if e.primitive.name == "conv_general_dilated" and e.invars[1].aval.shape[0] == 3
    ]
    return found, {name: x.shape[1:] for name, x in maps.items()}


FIRST = [(1, 1)] * 5 + [(2, 1)] + [(1, 1)] * 3  # mod1 to mod4.


@pytest.mark.parametrize(
    "output_stride, deep",
    [
        (8, [(1, 2), (1, 2), (1, 4), (1, 4)]),  # mod5, then one in each of mod6 and mod7.
        (16, [(2, 1), (1, 1), (1, 2), (1, 2)]),
        (32, [(2, 1), (1, 1), (1, 1), (1, 1)]),
    ],
)
def test_strides_and_dilations(output_stride, deep):
    found, _ = convolutions(output_stride)
    assert found == FIRST + deep


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_sizes_are_rounded_up_and_channels_are_scaled(output_stride):
    _, maps = convolutions(output_stride)
    channels = {"mod2": 4, "mod3": 8, "mod4": 16, "mod5": 32, "mod6": 64, "mod7": 128}
    reached = {"mod2": 2, "mod3": 4, "mod4": 8, "mod5": 16, "mod6": 32, "mod7": 32}
    for name, stride in reached.items():
        stride = min(stride, output_stride)
        assert maps[name] == (-(-65 // stride), -(-48 // stride), channels[name])


@pytest.mark.parametrize(
    "options, shape, message",
    [
        ({"structure": (1, 1)}, (1, 8, 8, 3), r"structure: expected 6 numbers .*\(1, 1\)"),
        ({"structure": (1, 1, 0, 1, 1, 1)}, (1, 8, 8, 3), r"structure: .* each at least 1"),
        ({"output_stride": 4}, (1, 8, 8, 3), r"output_stride: expected one of \(8, 16, 32\), got"),
        ({"width": 0.0}, (1, 8, 8, 3), r"width: expected a number above 0, got 0\.0"),
        ({}, (1, 8, 8, 1), r"images: expected \[B, H, W, 3\], got \(1, 8, 8, 1\)"),
    ],
)
def test_wrong_options_are_named(options, shape, message):
    network = WideResNet(**{**TINY, **options})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda x: network.init(jax.random.key(0), x, PLAIN), jnp.ones(shape))
