"""`jaxad.models.unet`."""

import dataclasses
from functools import partial

import drawn
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layouts import AXIS, spread

from jaxad import scene_sections
from jaxad.losses import cross_entropy
from jaxad.models import unet
from jaxad.models.example_dropout import ExampleDropout
from jaxad.models.unet import UNet

TINY = {"num_classes": 3, "width": 1 / 16, "levels": 2, "groups": 2, "dropout_rate": 0.5}
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def close(actual, expected):
    largest = np.max(np.abs(expected))
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5 + 1e-4 * largest)


def shapes_of(network, *size):
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(size))


# Layers.


def test_transposed_convolution_is_that_of_lax():
    """Value and gradients."""

    def plain(inputs, kernel):
        of = {"padding": "VALID", "dimension_numbers": DIMENSIONS, "transpose_kernel": True}
        return jax.lax.conv_transpose(inputs, jnp.swapaxes(kernel, 2, 3), (2, 2), **of)

    given, results = (draw(2, 3, 5, 6), draw(2, 2, 6, 4, seed=1)), []
    for function in (unet.transposed_convolution, plain):
        value, back = jax.vjp(function, *given)
        results.append((value, *back(jnp.cos(value))))
    for one, other in zip(*results, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_transposed_convolution_by_hand():
    kernel = jnp.array([[2.0, 3.0], [5.0, 7.0]])[:, :, None, None]
    outputs = unet.transposed_convolution(jnp.array([[[[1.0], [10.0]]]]), kernel)[0, :, :, 0]
    np.testing.assert_array_equal(outputs, [[2.0, 3.0, 20.0, 30.0], [5.0, 7.0, 50.0, 70.0]])


def test_transposed_convolution_is_one_product():
    text = str(jax.make_jaxpr(unet.transposed_convolution)(draw(1, 2, 2, 3), draw(2, 2, 3, 4)))
    assert text.count("dot_general") == 1
    assert "conv_general_dilated" not in text


def test_pooling_is_that_of_flax():
    """Value and gradient."""
    inputs, results = draw(2, 6, 4, 3), []
    for pool in (unet.max_pool, lambda x: nn.max_pool(x, (2, 2), strides=(2, 2))):
        value, back = jax.vjp(pool, inputs)
        results.append((value, *back(jnp.cos(value))))
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_pooling_chooses_the_first_of_equal_ones():
    gradient = jax.grad(lambda x: jnp.sum(unet.max_pool(x)))(jnp.ones((1, 2, 4, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0, 1, 0], [0, 0, 0, 0]])


def test_gradient_of_pooling_asks_for_no_equality():
    """Inputs computed again for it may be rounded otherwise, and then equal nothing."""
    gradient = jax.grad(lambda x: jnp.sum(unet.max_pool(x)))
    assert " eq " not in str(jax.make_jaxpr(gradient)(draw(1, 4, 4, 2)))


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_pooling_keeps_nan(place):
    inputs = jnp.ones(4).at[place].set(jnp.nan).reshape(1, 2, 2, 1)
    assert np.isnan(unet.max_pool(inputs)).all()


# Sizes of the document.


@pytest.mark.parametrize(
    "norm, expected", [("none", 31_030_788), ("batch", 31_036_676), ("group", 31_036_676)]
)
def test_published_numbers_of_parameters(norm, expected):
    shapes = shapes_of(UNet(4, norm=norm), 1, 16, 16, 1)
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == expected
    assert ("batch_stats" in shapes) == (norm == "batch")


def test_maps_of_the_document():
    network, images = UNet(4), jnp.zeros((2, 224, 224, 1))
    maps = jax.eval_shape(network.init_with_output, jax.random.key(0), images)[0]
    assert maps.logits.shape == (2, 224, 224, 4)
    assert maps.features.shape == (2, 224, 224, 64)
    assert maps.encoder.shape == (2, 14, 14, 1024)
    assert maps.auxiliary is None


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_width_and_levels(levels):
    network, images = UNet(3, width=1 / 16, levels=levels), jnp.zeros((1, 32, 64, 2))
    maps, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), images)
    assert maps.logits.shape == (1, 32, 64, 3)
    assert maps.features.shape == (1, 32, 64, 4)
    assert maps.encoder.shape == (1, 32 // 2**levels, 64 // 2**levels, 4 * 2**levels)
    blocks = {f"encode_{i}" for i in range(levels + 1)} | {f"decode_{i}" for i in range(levels)}
    assert variables["params"].keys() == blocks | {"classify"}


def test_section_has_all_fields():
    own = {"num_classes", "axis_name", "dtype", "parent", "name"}
    fields = {each.name: each.default for each in dataclasses.fields(UNet) if each.name not in own}
    section = scene_sections.unet()
    assert section.pop("name") == "unet"
    assert section == fields
    assert scene_sections.unet(norm="group")["norm"] == "group"


# What it computes.


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    images = jnp.asarray(rng.normal(size=(16, 8, 12, 1)), jnp.float32)
    return images, jnp.asarray(rng.integers(0, 3, (16, 8, 12))), jnp.arange(16) < 13


@pytest.fixture(scope="module")
def variables(batch):
    """By norm."""
    return {norm: drawn.variables(UNet(**TINY, norm=norm), batch[0]) for norm in unet.NORMS}


def test_layers_in_the_order_of_the_document(batch, variables):
    """Against the operations written out, without a norm."""
    params, images = variables["none"]["params"], batch[0][:2]

    def convolved(block, x):
        for layer in (block["conv1"], block["conv2"]):
            x = jax.lax.conv_general_dilated(
                x, layer["kernel"], (1, 1), ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS
            )
            x = jnp.maximum(x + layer["bias"], 0.0)
        return x

    def raised(block, deep, skip):
        kernel = jnp.swapaxes(block["up"]["kernel"], 2, 3)
        of = {"dimension_numbers": DIMENSIONS, "transpose_kernel": True}
        up = jax.lax.conv_transpose(deep, kernel, (2, 2), "VALID", **of) + block["up"]["bias"]
        return convolved(block["convs"], jnp.concatenate([skip, up], axis=-1))

    pool = partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2))
    first = convolved(params["encode_0"], images)
    second = convolved(params["encode_1"], pool(first))
    encoder = convolved(params["encode_2"], pool(second))
    x = raised(params["decode_1"], encoder, second)
    features = raised(params["decode_0"], x, first)
    last = params["classify"]["conv"]
    logits = features @ last["kernel"][0, 0] + last["bias"]
    maps = jax.jit(UNet(**TINY, norm="none").apply)({"params": params}, images)
    for actual, expected in zip(
        (maps.logits, maps.features, maps.encoder), (logits, features, encoder), strict=True
    ):
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def supervised(network, variables, params, batch, axis_name=None):
    """Loss with dropout; the encoder's maps enter it, as in methods that read them."""
    images, labels, rows = batch
    maps, new = network.apply(
        {**variables, "params": params},
        images,
        rows,
        train=True,
        dropout=True,
        rngs={"dropout": jax.random.key(3)},
        mutable=["batch_stats"],
    )
    value = cross_entropy.mean_cross_entropy(
        maps.logits, labels, where=rows[:, None, None], axis_name=axis_name
    )
    encoder = jnp.where(rows[:, None, None, None], maps.encoder, 0.0)
    total = jnp.sum(jnp.square(encoder))
    total = total if axis_name is None else jax.lax.psum(total, axis_name)
    return value + 1e-4 * total, new


@pytest.fixture(scope="module")
def expected(batch, variables):
    """By norm: loss, statistics and gradients of the global batch on one device."""
    results = {}
    for norm in unet.NORMS:
        step = partial(supervised, UNet(**TINY, norm=norm), variables[norm])
        step = jax.jit(jax.value_and_grad(step, has_aux=True))
        results[norm] = step(variables[norm]["params"], batch)
    return results


@pytest.mark.parametrize("norm", unet.NORMS)
def test_eight_devices_normalise_and_drop_as_one(norm, batch, variables, expected):
    network, params = UNet(**TINY, norm=norm, axis_name=AXIS), variables[norm]["params"]
    step = partial(supervised, network, variables[norm], axis_name=AXIS)

    def on_device(rows):
        result, gradient = jax.value_and_grad(step, has_aux=True)(params, rows)
        return result, jax.lax.pmean(gradient, AXIS)

    jax.tree.map(close, spread("shard_map_unchecked", on_device, batch), expected[norm])


@pytest.mark.parametrize("norm", unet.NORMS)
def test_rows_that_are_not_real_change_nothing(norm, batch, variables, expected):
    images, labels, rows = batch
    batch = jnp.where(rows[:, None, None, None], images, jnp.nan), labels.at[13:].set(1), rows
    step = partial(supervised, UNet(**TINY, norm=norm), variables[norm])
    step = jax.jit(jax.value_and_grad(step, has_aux=True))
    jax.tree.map(close, step(variables[norm]["params"], batch), expected[norm])


@pytest.mark.parametrize("norm", unet.NORMS)
def test_rematerialisation_changes_no_gradient(norm, batch, variables, expected):
    network = UNet(**TINY, norm=norm, remat=True)
    step = jax.value_and_grad(partial(supervised, network, variables[norm]), has_aux=True)
    params = variables[norm]["params"]
    assert "remat" in str(jax.make_jaxpr(step)(params, batch))
    jax.tree.map(close, jax.jit(step)(params, batch), expected[norm])


@pytest.mark.parametrize("norm", unet.NORMS)
def test_every_parameter_is_trained(norm, expected):
    for leaf in jax.tree.leaves(expected[norm][1]):
        assert np.any(np.asarray(leaf))


def test_group_norm_does_not_mix_images(batch, variables):
    run = jax.jit(partial(UNet(**TINY, norm="group").apply, variables["group"], train=True))
    images = batch[0][:2]
    close(run(images.at[1].set(100.0)).logits[0], run(images).logits[0])


@pytest.mark.parametrize("levels", [1, 2])
def test_head_is_all_behind_the_trunk(levels, batch):
    network, images = UNet(**{**TINY, "levels": levels}), batch[0][:2]
    variables = drawn.variables(network, images)

    @jax.jit
    def run(variables):
        trunk = network.apply(variables, images, method="trunk")
        own = {
            kind: {name: tree[name] for name in UNet.head_modules if name in tree}
            for kind, tree in variables.items()
        }
        return network.apply(own, trunk, method="head"), network.apply(variables, images)

    jax.tree.map(close, *run(variables))


@pytest.mark.parametrize("norm", unet.NORMS)
@pytest.mark.parametrize("remat", [False, True])
def test_16_bit_computation_keeps_float32_parameters_statistics_and_logits(
    norm, remat, batch, variables
):
    images, _, rows = batch
    network = UNet(**TINY, norm=norm, remat=remat, dtype=jnp.bfloat16)
    run = partial(network.apply, train=True, mutable=["batch_stats"])
    maps, new = jax.eval_shape(run, variables[norm], images, rows)
    assert maps.features.dtype == maps.encoder.dtype == jnp.bfloat16
    assert maps.logits.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves((variables[norm], new))} == {jnp.dtype(jnp.float32)}


def test_16_bit_computation_is_near(batch, variables):
    images, given = batch[0], variables["batch"]
    wide, narrow = (
        jax.jit(UNet(**TINY, dtype=dtype).apply)(given, images).logits
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    np.testing.assert_allclose(narrow, wide, rtol=0, atol=0.05 * np.abs(wide).max())


# Dropout.


def dropped(network, variables, images, **options):
    """Outputs of the three dropout layers by name."""
    _, state = network.apply(
        variables,
        images,
        capture_intermediates=lambda module, _: isinstance(module, ExampleDropout),
        mutable=["intermediates"],
        **options,
    )
    return {name: of["__call__"][0] for name, of in state["intermediates"].items()}


@pytest.mark.parametrize(
    "levels, sizes",
    [
        (1, {"drop_skip": (8, 12, 4), "drop_encoder": (4, 6, 8), "drop_decoder": (8, 12, 4)}),
        (2, {"drop_skip": (4, 6, 8), "drop_encoder": (2, 3, 16), "drop_decoder": (4, 6, 8)}),
    ],
)
def test_dropout_is_behind_the_three_deepest_places(levels, sizes, batch):
    network, images = UNet(**{**TINY, "levels": levels}), batch[0]
    variables = drawn.variables(network, images)
    rngs = {"dropout": jax.random.key(0)}
    clean = dropped(network, variables, images)
    noisy = dropped(network, variables, images, dropout=True, rngs=rngs)
    assert {name: x.shape[1:] for name, x in noisy.items()} == sizes
    # Its input is the same with and without: each positive entry is zero or twice as large.
    positive = np.asarray(clean["drop_skip"]) > 0
    ratios = np.asarray(noisy["drop_skip"])[positive] / np.asarray(clean["drop_skip"])[positive]
    assert set(np.round(ratios, 3)) == {0.0, 2.0}
    assert abs(np.mean(ratios == 0) - 0.5) < 4 * 0.5 / np.sqrt(ratios.size)
    for name in ("drop_encoder", "drop_decoder"):
        assert np.mean(noisy[name] == 0) > np.mean(clean[name] == 0) + 0.1


def test_masks_follow_the_key(batch, variables):
    network, images = UNet(**TINY), batch[0]
    run = jax.jit(
        lambda key: (
            network.apply(variables["batch"], images, dropout=True, rngs={"dropout": key}).logits
        )
    )
    one, same, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_rate_zero_drops_nothing_and_needs_no_key(batch, variables):
    network = UNet(**{**TINY, "dropout_rate": 0.0})
    run = jax.jit(partial(network.apply, variables["batch"]), static_argnames="dropout")
    close(run(batch[0], dropout=True).logits, run(batch[0]).logits)


# Initialisation.


@pytest.mark.parametrize(
    "initialisation, low, high", [("he_normal", 0.3, 3.0), ("torch_uniform", 2e-5, 1e-3)]
)
def test_size_of_the_encoder_output_without_a_norm(initialisation, low, high):
    network = UNet(4, width=1 / 8, norm="none", initialisation=initialisation)
    maps = jax.jit(network.init_with_output)(jax.random.key(0), draw(1, 64, 64, 1))[0]
    assert low < np.sqrt(np.mean(np.square(maps.encoder))) < high


@pytest.mark.parametrize("initialisation", unet.INITIALISATIONS)
def test_variance_of_transposed_kernels(initialisation):
    params = jax.jit(UNet(4, width=1 / 2, levels=1, initialisation=initialisation).init)(
        jax.random.key(0), jnp.zeros((1, 2, 2, 1))
    )["params"]
    kernel = np.asarray(params["decode_0"]["up"]["kernel"])  # [2, 2, 64, 32]
    expected = {"he_normal": 1 / 64, "torch_uniform": 1 / (3 * 4 * 32)}[initialisation]
    np.testing.assert_allclose(np.var(kernel), expected, rtol=0.1)


# Mistakes.


@pytest.mark.parametrize(
    "options, message",
    [
        ({"norm": "layer"}, r"norm: expected one of .*, got 'layer'"),
        ({"initialisation": "zeros"}, r"initialisation: expected one of .*, got 'zeros'"),
        ({"classifier": "sine"}, r"classifier: expected one of .*, got 'sine'"),
        ({"levels": 0}, r"levels: expected at least 1, got 0"),
        ({"dropout_rate": 1.0}, r"dropout_rate: expected \[0, 1\), got 1.0"),
        ({"norm": "group", "groups": 3}, r"groups: .* counts \[4, 8, 16\], got 3"),
        ({"norm": "group", "groups": 0}, r"groups: .* got 0"),
    ],
)
def test_unknown_values_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(UNet(**{**TINY, **options}), 1, 8, 8, 1)


@pytest.mark.parametrize(
    "size, message",
    [
        ((1, 30, 32, 1), r"multiples of 16 \(2 \*\* levels, levels = 4\), got 30 x 32"),
        ((1, 32, 200, 1), r"multiples of 16 .*, got 32 x 200"),
        ((1, 0, 32, 1), r"multiples of 16 .*, got 0 x 32"),
        ((32, 32, 1), r"images: expected \[B, H, W, channels\], got \(32, 32, 1\)"),
    ],
)
def test_other_sizes_are_errors(size, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(UNet(width=1 / 16), *size)
