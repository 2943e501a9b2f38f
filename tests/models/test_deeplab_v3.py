import dataclasses
from functools import partial

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layouts import AXIS, spread

from jaxad import resampling, scene_sections
from jaxad.losses import cross_entropy
from jaxad.models.deeplab_v3 import DeepLabV3
from jaxad.models.resnet import DEPTHS_50, DEPTHS_101

TINY = {"num_classes": 3, "width": 1 / 32, "depths": (1, 1, 1, 1), "output_stride": 16}


def close(actual, expected):
    largest = np.max(np.abs(expected))
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5 + 1e-4 * largest)


def supervised(network, variables, params, batch, axis_name=None):
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
    logits, auxiliary = (
        resampling.bilinear(each, labels.shape[1:], align_corners=DeepLabV3.align_corners)
        for each in (maps.logits, maps.auxiliary)
    )
    value = cross_entropy.deeply_supervised_cross_entropy(
        logits, auxiliary, labels, rows[:, None, None], axis_name=axis_name
    )
    return value, new["batch_stats"]


@pytest.mark.parametrize("depths, expected", [(DEPTHS_50, 42_004_074), (DEPTHS_101, 60_996_202)])
def test_published_numbers_of_parameters(depths, expected):
    shapes = jax.eval_shape(
        DeepLabV3(21, depths=depths).init, jax.random.key(0), jnp.zeros((1, 16, 16, 3))
    )
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == expected


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    images = jnp.asarray(rng.normal(size=(16, 24, 20, 3)), jnp.float32)
    return images, jnp.asarray(rng.integers(0, 3, (16, 24, 20))), jnp.arange(16) < 13


@pytest.fixture(scope="module")
def variables(batch):
    return drawn.variables(DeepLabV3(**TINY), batch[0])


@pytest.fixture(scope="module")
def expected(batch, variables):
    """Loss, statistics and gradients of the global batch on one device, with dropout."""
    step = partial(supervised, DeepLabV3(**TINY), variables)
    return jax.jit(jax.value_and_grad(step, has_aux=True))(variables["params"], batch)


def test_eight_devices_normalise_and_drop_as_one(batch, variables, expected):
    network = DeepLabV3(**TINY, axis_name=AXIS)
    step = partial(supervised, network, variables, axis_name=AXIS)

    def on_device(rows):
        result, gradient = jax.value_and_grad(step, has_aux=True)(variables["params"], rows)
        return result, jax.lax.pmean(gradient, AXIS)

    jax.tree.map(close, spread("shard_map_unchecked", on_device, batch), expected)


def test_rows_that_are_not_real_change_nothing(batch, variables, expected):
    images, labels, rows = batch
    batch = jnp.where(rows[:, None, None, None], images, jnp.nan), labels.at[13:].set(1), rows
    step = partial(supervised, DeepLabV3(**TINY), variables)
    actual = jax.jit(jax.value_and_grad(step, has_aux=True))(variables["params"], batch)
    jax.tree.map(close, actual, expected)


def test_rematerialisation_changes_no_gradient(batch, variables, expected):
    step = partial(supervised, DeepLabV3(**TINY, remat=True), variables)
    actual = jax.jit(jax.value_and_grad(step, has_aux=True))(variables["params"], batch)
    jax.tree.map(close, actual, expected)


def test_every_parameter_is_trained(expected):
    for leaf in jax.tree.leaves(expected[1]):
        assert np.any(np.asarray(leaf))


def test_head_is_all_behind_the_trunk(batch, variables):
    network, images = DeepLabV3(**TINY), batch[0][:2]

    @jax.jit
    def run(variables):
        trunk = network.apply(variables, images, method="trunk")
        own = {name: variables["params"][name] for name in DeepLabV3.head_modules}
        stats = {"last": variables["batch_stats"]["last"]}
        head = network.apply({"params": own, "batch_stats": stats}, trunk, method="head")
        return trunk.auxiliary, head, network.apply(variables, images)

    auxiliary, halves, whole = run(variables)
    assert auxiliary is whole.auxiliary is None
    jax.tree.map(close, halves, whole)


def test_16_bit_computation_keeps_float32_parameters_statistics_and_logits(batch, variables):
    images, _, rows = batch
    network = DeepLabV3(**TINY, dtype=jnp.bfloat16)
    run = partial(network.apply, train=True, mutable=["batch_stats"])
    maps, new = jax.eval_shape(run, variables, images, rows)
    assert maps.features.dtype == jnp.bfloat16
    assert maps.logits.dtype == maps.auxiliary.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves((variables, new))} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("height, width", [(33, 47), (8, 1)])
@pytest.mark.parametrize("classifier", ["cosine", "linear"])
def test_odd_sizes_round_up(height, width, output_stride, classifier):
    network = DeepLabV3(**{**TINY, "output_stride": output_stride}, classifier=classifier)
    images = jnp.zeros((1, height, width, 3))
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    maps = jax.eval_shape(network.apply, variables, images)
    assert maps.logits.shape == (1, -(-height // output_stride), -(-width // output_stride), 3)


@pytest.mark.parametrize("output_stride, side", [(8, 28), (16, 14)])
def test_encoder_is_the_output_of_the_backbone(output_stride, side):
    network, images = DeepLabV3(4, output_stride=output_stride), jnp.zeros((2, 224, 224, 1))
    maps = jax.eval_shape(network.init_with_output, jax.random.key(0), images)[0]
    assert maps.encoder.shape == (2, side, side, 2048)
    assert maps.logits.shape == (2, side, side, 4)


def test_encoder_has_no_dropout_and_the_type_of_the_computation(batch, variables):
    network = DeepLabV3(**TINY, dtype=jnp.bfloat16)
    run = jax.jit(partial(network.apply, variables), static_argnames="dropout")
    dropped = run(batch[0][:2], dropout=True, rngs={"dropout": jax.random.key(0)})
    clean = run(batch[0][:2])
    assert clean.encoder.dtype == jnp.bfloat16
    np.testing.assert_array_equal(dropped.encoder, clean.encoder)
    assert np.any(dropped.logits != clean.logits)


def test_grey_images_are_repeated(batch, variables):
    grey, run = batch[0][:2, :, :, :1], jax.jit(partial(DeepLabV3(**TINY).apply, variables))
    jax.tree.map(close, run(grey), run(jnp.repeat(grey, 3, axis=-1)))


def test_one_input_channel_is_not_repeated():
    network = DeepLabV3(**TINY, input_channels=1)
    params = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]
    assert params["backbone"]["stem_conv1"]["kernel"].shape == (7, 7, 1, 2)


@pytest.mark.parametrize(
    "input_channels, shape", [(1, (1, 8, 8, 3)), (3, (1, 8, 8, 4)), (3, (8, 8, 1))]
)
def test_images_of_other_channels_are_errors(input_channels, shape):
    network = DeepLabV3(**TINY, input_channels=input_channels)
    message = rf"images: expected \[B, H, W, {input_channels}\], got"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape))


def test_section_has_all_fields():
    own = {"num_classes", "axis_name", "dtype", "parent", "name"}
    defaults = {each.name: each.default for each in dataclasses.fields(DeepLabV3)}
    section = scene_sections.deeplab_v3()
    assert section.pop("name") == "deeplab_v3"
    assert section == {name: value for name, value in defaults.items() if name not in own}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"input_channels": 0}, r"input_channels: expected at least 1, got 0"),
        ({"output_stride": 4}, r"output_stride: expected one of \(8, 16, 32\), got 4"),
        ({"classifier": "sine"}, r"classifier: expected one of .*, got 'sine'"),
        ({"first_dilation": "none"}, r"first_dilation: expected one of .*, got 'none'"),
    ],
)
def test_unknown_values_are_errors(options, message):
    network = DeepLabV3(**{**TINY, **options})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
