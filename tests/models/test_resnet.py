from functools import partial

import drawn
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.convert import torch_layout
from jaxad.convert.deeplab_v3 import resnet_name
from jaxad.models.layers import Mode
from jaxad.models.resnet import DEPTHS_50, DEPTHS_101, ResNet, scaled, stage_strides

SMALL = {"width": 1 / 16, "depths": (1, 2, 2, 1)}
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 33, 47, 3)), jnp.float32)


def shapes_of(network, images=IMAGES):
    return jax.eval_shape(lambda key: network.init(key, images, Mode()), jax.random.key(0))


def convolutions(network):
    """Stride, dilation and padding of each convolution by path, without computing anything."""
    found = {}

    def note(call, args, kwargs, context):
        if isinstance(context.module, nn.Conv) and context.method_name == "__call__":
            conv = context.module
            path = "/".join(conv.path)
            found[path] = (conv.strides, conv.kernel_dilation, conv.padding[0][0])
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        shapes_of(network)
    return found


# Places of strides and dilations


@pytest.mark.parametrize(
    "output_stride, expected",
    [
        (8, ((1, 1), (2, 1), (1, 2), (1, 4))),
        (16, ((1, 1), (2, 1), (2, 1), (1, 2))),
        (32, ((1, 1), (2, 1), (2, 1), (2, 1))),
    ],
)
def test_strides_and_dilations_of_the_sheet(output_stride, expected):
    assert stage_strides(output_stride) == expected
    found = convolutions(ResNet(**SMALL, output_stride=output_stride))
    for stage, (stride, dilation) in enumerate(expected, start=1):
        for index in range(SMALL["depths"][stage - 1]):
            own = stride if index == 0 else 1
            # Every block of a dilated stage is dilated, the first one too.
            assert found[f"layer{stage}_{index}/conv2"] == (own, dilation, dilation)
            assert found[f"layer{stage}_{index}/conv1"] == (1, 1, 0)
        assert found[f"layer{stage}_0/conv_shortcut"] == (stride, 1, 0)
        assert f"layer{stage}_1/conv_shortcut" not in found


def test_first_blocks_may_keep_the_dilation_of_the_stage_before():
    found = convolutions(ResNet(**SMALL, output_stride=8, first_dilation="previous"))
    dilations = [found[f"layer{s}_{i}/conv2"][1] for s, i in ((2, 0), (3, 0), (3, 1), (4, 0))]
    assert dilations == [1, 1, 2, 2]


def test_stems():
    seven, deep = (convolutions(ResNet(**SMALL, stem=stem)) for stem in ("seven", "deep"))
    assert seven["stem_conv1"] == (2, 1, 3)
    assert "stem_conv2" not in seven
    assert [deep[f"stem_conv{i}"] for i in (1, 2, 3)] == [(2, 1, 1), (1, 1, 1), (1, 1, 1)]


# Sizes


@pytest.mark.parametrize(
    "depths, stem, expected",
    [
        # Torchvision's 25,557,032 and 44,549,160 without their 2,049,000 of the last layer.
        (DEPTHS_50, "seven", 23_508_032),
        (DEPTHS_101, "seven", 42_500_160),
        # 7 x 7 stem with norm: 9,536. Three 3 x 3: 9 (3·64 + 64·64 + 64·128) + 2·256 = 112,832.
        # The first bottleneck reads 64 channels more, twice: 64 (64 + 256) = 20,480.
        (DEPTHS_101, "deep", 42_500_160 - 9_536 + 112_832 + 20_480),
    ],
)
def test_numbers_of_parameters(depths, stem, expected):
    params = shapes_of(ResNet(depths, stem=stem))["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == expected


@pytest.mark.parametrize("height, width", [(33, 47), (32, 48), (8, 1), (1, 1)])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_odd_sizes_round_up(height, width, output_stride):
    network = ResNet(**SMALL, output_stride=output_stride)
    images = jnp.zeros((1, height, width, 3))
    stages = jax.eval_shape(lambda v: network.apply(v, images, Mode()), shapes_of(network, images))
    strides = (4, 4, 8, min(16, output_stride), output_stride)
    for stage, stride, channels in zip(stages, strides, (4, 16, 32, 64, 128), strict=True):
        assert stage.shape == (1, -(-height // stride), -(-width // stride), channels)


@pytest.mark.parametrize(
    "channels, width, expected", [(64, 1 / 16, 4), (48, 0.1, 5), (10, 0.25, 2), (64, 1e-6, 1)]
)
def test_width_is_rounded_to_at_least_one_channel(channels, width, expected):
    assert scaled(channels, width) == expected


# Values


def test_golden_stages_of_the_published_resnet_101():
    golden = vectors.load("pebal", "resnet101")
    network = ResNet(tuple(int(n) for n in golden["structure"]), width=1 / 16, stem="deep")
    images = jnp.asarray(np.moveaxis(golden["image"], 1, -1))
    stem = {"conv": (0, 3, 6), "norm": (1, 4, 7)}

    def name_of(layer):
        if not layer.startswith("stem"):
            return resnet_name(layer)
        return f"layer0.{stem[layer[5:9]][int(layer[9:]) - 1]}"

    arrays = vectors.part(golden, "state/module.")
    arrays = {name: a for name, a in arrays.items() if name.startswith("layer")}
    variables = shapes_of(network, images)
    params, stats = torch_layout.fill(
        arrays, variables["params"], variables["batch_stats"], name_of
    )
    variables = {"params": params, "batch_stats": stats}
    stages = jax.jit(lambda v, x: network.apply(v, x, Mode()))(variables, images)
    for index in (0, 1, 3, 4):
        expected = np.moveaxis(golden[f"layer{index}"], 1, -1)
        vectors.assert_close(stages[index], expected, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def learned():
    """Variables of a small network; from images and real rows, its loss, statistics, gradients."""
    options = {"width": 1 / 32, "depths": (1, 1, 1, 1)}
    images = IMAGES[:, :17, :15]
    variables = drawn.variables(ResNet(**options), images, Mode())

    def gradients(images, where, remat=False):
        network = ResNet(**options, remat=remat)

        def loss(params):
            mode, new = Mode(train=True, where=where), ["batch_stats"]
            stages, new = network.apply({**variables, "params": params}, images, mode, mutable=new)
            return sum(jnp.mean(jnp.square(stage[:2])) for stage in stages), new

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    gradients = jax.jit(gradients, static_argnames="remat")
    return gradients, images, gradients(images, jnp.array([True, True]))


def close(actual, expected):
    largest = np.max(np.abs(expected))
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5 + 1e-4 * largest)


def test_rematerialisation_changes_no_gradient(learned):
    gradients, images, expected = learned
    jax.tree.map(close, gradients(images, jnp.array([True, True]), remat=True), expected)


def test_rematerialisation_keeps_little_for_the_gradient():
    images = jax.ShapeDtypeStruct((2, 129, 129, 3), jnp.float32)

    def kept(remat):
        """Bytes between forward and backward pass, parameters included."""
        network = ResNet((1, 2, 2, 1), width=1 / 4, remat=remat)
        variables = shapes_of(network, jnp.zeros((1, 8, 8, 3)))

        def backward(variables, images):
            def stages(params):
                new = {**variables, "params": params}
                return network.apply(new, images, Mode(train=True), mutable=["batch_stats"])

            return jax.vjp(stages, variables["params"], has_aux=True)[1]

        residuals = jax.tree.leaves(jax.eval_shape(backward, variables, images))
        return sum(x.size * x.dtype.itemsize for x in residuals)

    assert kept(True) < kept(False) / 2


def test_rows_that_are_not_real_change_nothing(learned):
    gradients, images, expected = learned
    padded = jnp.concatenate([images, jnp.full_like(images[:1], jnp.nan)])
    jax.tree.map(close, gradients(padded, jnp.array([True, True, False])), expected)


def test_16_bit_computation_keeps_float32_parameters_and_statistics():
    network = ResNet(**SMALL)
    variables = drawn.variables(network, IMAGES, Mode())
    mode = Mode(train=True, dtype=jnp.bfloat16)
    run = partial(network.apply, mode=mode, mutable=["batch_stats"])
    stages, new = jax.eval_shape(run, variables, IMAGES)
    assert {stage.dtype for stage in stages} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype for x in jax.tree.leaves((variables, new))} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"output_stride": 4}, r"output_stride: expected one of \(8, 16, 32\), got 4"),
        ({"stem": "three"}, r"stem: expected one of \('seven', 'deep'\), got 'three'"),
        ({"first_dilation": "none"}, r"first_dilation: expected one of .*, got 'none'"),
        ({"depths": (3, 4, 6)}, r"depths: expected four numbers of at least 1, got \(3, 4, 6\)"),
        ({"depths": (1, 0, 1, 1)}, r"depths: .* got \(1, 0, 1, 1\)"),
    ],
)
def test_unknown_values_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(ResNet(**{**SMALL, **options}))


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 8, 8, 1)])
def test_images_of_other_axes_are_errors(shape):
    with pytest.raises(ValueError, match=r"images: expected \[B, H, W, 3\], got"):
        shapes_of(ResNet(**SMALL), jnp.zeros(shape))
