import functools
from functools import partial

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layouts import AXIS, spread

from jaxad.models.deeplab_v3_plus import (
    DecoderInput,
    DeepLabV3PlusResNet,
    DeepLabV3PlusWide,
    with_abstention,
)
from jaxad.models.resnet import DEPTHS_50

TINY = {
    "wide": partial(DeepLabV3PlusWide, 5, 1 / 16, (1,) * 6),
    "resnet": partial(DeepLabV3PlusResNet, 5, 1 / 16, (1,) * 4),
}
BOTH = pytest.mark.parametrize("name", TINY)
SIZE = (17, 24)
ONES = ("scale", "var")


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def drawn(network, seed=1):
    """Variables without the zeros and ones of fresh norms, which would hide mistakes."""
    images = jax.ShapeDtypeStruct((1, *SIZE, 3), jnp.float32)
    rng = np.random.default_rng(seed)

    def one(path, x):
        if x.ndim == 1:
            return jnp.asarray(rng.uniform(0.1, 0.4, x.shape) + (path[-1].key in ONES), x.dtype)
        deviation = np.sqrt(2.0 / np.prod(x.shape[:-1]))
        return jnp.asarray(rng.normal(0.0, deviation, x.shape), x.dtype)

    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    return jax.tree_util.tree_map_with_path(one, dict(shapes))


def loss(network, params, stats, rows, *, axis_name=None):
    """A sum over real rows that weighs logits differently, and the new statistics."""
    maps, new = network.apply(
        {"params": params, "batch_stats": stats},
        rows["image"],
        rows["where"],
        train=True,
        dropout=True,
        rngs={"dropout": jax.random.key(5)},
        mutable=["batch_stats"],
    )
    value = 0.0
    for logits in (maps.logits, maps.auxiliary):
        if logits is not None:
            weights = jnp.cos(jnp.arange(logits[0].size) + 0.5).reshape(logits.shape[1:])
            each = jnp.mean(jnp.tanh(logits) * weights, axis=(1, 2, 3))
            value += jnp.sum(jnp.where(rows["where"], each, 0.0))
    return value if axis_name is None else jax.lax.psum(value, axis_name), new["batch_stats"]


def batch(seed=0):
    where = jnp.array([True] * 6 + [False, True])
    return {"image": draw(8, *SIZE, 3, seed=seed), "where": where}


@functools.cache
def compiled_step(network):
    return jax.jit(jax.value_and_grad(partial(loss, network), has_aux=True))


def step(network, variables, rows):
    return compiled_step(network)(variables["params"], variables["batch_stats"], rows)


def assert_close(actual, expected, share=1e-4):
    """Up to a share of each array's largest entry; gradients that vanish count as the others."""
    floor = max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(expected)) * 1e-3

    def one(a, b):
        largest = max(float(jnp.max(jnp.abs(b))), floor)
        np.testing.assert_allclose(a, b, rtol=0, atol=share * largest)

    jax.tree.map(one, actual, expected)


# Sizes


@pytest.mark.parametrize(
    "network, parameters",
    [
        (DeepLabV3PlusWide(), 137_103_936),
        (DeepLabV3PlusWide(20), 137_104_192),
        (DeepLabV3PlusResNet(), 64_197_446),
        (DeepLabV3PlusResNet(deep_supervision=False), 59_467_571),
    ],
)
def test_parameter_counts_are_the_published_ones(network, parameters):
    assert count(shapes(network)) == parameters


def test_the_last_block_has_as_many_parameters_as_pebal_fine_tunes():
    params = shapes(DeepLabV3PlusWide(20))
    assert sum(count(params[name]) for name in DeepLabV3PlusWide.head_modules) == 1_296_384


def test_resnet_50_differs_from_101_by_its_third_stage():
    # 17 bottlenecks: 1 x 1 to 256, 3 x 3, 1 x 1 to 1024, and three norms.
    block = 1024 * 256 + 9 * 256 * 256 + 256 * 1024 + 2 * (256 + 256 + 1024)
    assert count(shapes(DeepLabV3PlusResNet(depths=DEPTHS_50))) == 64_197_446 - 17 * block


def shapes(network):
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), images)["params"]


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize("name, stride", [("wide", 2), ("resnet", 4)])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_maps_have_the_stride_of_the_skip_connection(name, stride, output_stride):
    network = TINY[name](output_stride=output_stride)
    images = jax.ShapeDtypeStruct((2, 33, 40, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    maps = jax.eval_shape(network.apply, variables, images)
    assert maps.logits.shape == (2, -(-33 // stride), -(-40 // stride), 5)
    assert maps.features.shape == (*maps.logits.shape[:3], 16)
    assert maps.auxiliary is None


def test_deep_supervision_is_applied_only_while_training():
    images = jax.ShapeDtypeStruct((2, *SIZE, 3), jnp.float32)
    for deep, shape in ((True, (2, 3, 3, 5)), (False, None)):
        network = TINY["resnet"](deep_supervision=deep)
        variables = jax.eval_shape(network.init, jax.random.key(0), images)
        train = partial(network.apply, train=True, mutable=["batch_stats"])
        maps, _ = jax.eval_shape(train, variables, images)
        assert (None if maps.auxiliary is None else maps.auxiliary.shape) == shape


# Trunk and head


@BOTH
def test_the_head_reads_the_trunk_and_its_own_modules_alone(name):
    network, images = TINY[name](), draw(2, *SIZE, 3)
    variables = drawn(network)
    trunk = jax.jit(partial(network.apply, method="trunk"))(variables, images)
    own = {
        kind: {module: values[module] for module in network.head_modules if module in values}
        for kind, values in variables.items()
    }
    actual = jax.jit(partial(network.apply, method="head"))(own, trunk)
    assert jnp.mean(actual.features > 0.0) > 0.2
    expected = jax.jit(network.apply)(variables, images)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), actual, expected)


def head(network, variables):
    maps = DecoderInput(jnp.abs(draw(2, 5, 6, 19)))
    return jax.jit(partial(network.apply, method="head"))(variables, maps)


@BOTH
def test_logits_are_the_last_convolution_of_the_features(name):
    network = TINY[name](classifier="linear")
    variables = drawn(network)
    maps, params = head(network, variables), variables["params"]
    last = params["final"]["classify"] if name == "wide" else params["final2"]
    expected = maps.features @ last["conv"]["kernel"][0, 0] + last["conv"]["bias"]
    np.testing.assert_allclose(maps.logits, expected, rtol=1e-4, atol=1e-5)


@BOTH
def test_cosine_logits_stay_within_tau(name):
    network = TINY[name](classifier="cosine", tau=3.0)
    assert 0.1 < jnp.max(jnp.abs(head(network, drawn(network)).logits)) <= 3.0 + 1e-5


# Training


@pytest.mark.parametrize(
    "name, layout", [("wide", "shard_map"), ("wide", "pmap"), ("resnet", "shard_map")]
)
def test_a_training_pass_on_eight_devices_is_that_on_one(name, layout):
    variables, rows = drawn(TINY[name]()), batch()
    network = TINY[name](axis_name=AXIS)

    def on_device(rows):
        function = jax.value_and_grad(partial(loss, network, axis_name=AXIS), has_aux=True)
        out, gradient = function(variables["params"], variables["batch_stats"], rows)
        return out, jax.lax.pmean(gradient, AXIS)

    assert_close(spread(layout, on_device, rows), step(TINY[name](), variables, rows), 1e-3)


@BOTH
def test_rows_that_are_not_real_change_nothing(name):
    network, rows = TINY[name](), batch()
    variables = drawn(network)
    other = {**rows, "image": jnp.where(rows["where"][:, None, None, None], rows["image"], 1e3)}
    expected = step(network, variables, rows)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7),
        step(network, variables, other),
        expected,
    )


def test_rematerialisation_gives_the_same_gradients():
    variables, rows = drawn(TINY["wide"]()), batch()
    expected = step(TINY["wide"](), variables, rows)
    assert_close(step(TINY["wide"](remat=True), variables, rows), expected, 1e-3)


@BOTH
def test_bfloat16_is_for_the_computation_alone(name):
    network = TINY[name](dtype=jnp.bfloat16)
    variables = drawn(network)
    (_, stats), gradient = jax.eval_shape(partial(step, network), variables, batch())
    kept = {x.dtype for x in jax.tree.leaves((variables, stats, gradient))}
    assert kept == {jnp.dtype(jnp.float32)}
    images = draw(2, *SIZE, 3)
    maps = jax.jit(network.apply)(variables, images)
    exact = jax.jit(TINY[name]().apply)(variables, images)
    assert (maps.logits.dtype, maps.features.dtype) == (jnp.float32, jnp.bfloat16)
    assert_close(maps.logits, exact.logits, 0.1)


# Abstention


@BOTH
@pytest.mark.parametrize("classifier", ["linear", "linear_without_bias"])
def test_abstention_adds_a_channel_and_keeps_the_others(name, classifier):
    network = TINY[name](classifier=classifier)
    params = drawn(network)["params"]
    actual = jax.jit(with_abstention)(params, jax.random.key(3))
    wider = TINY[name](classifier="linear_without_bias").clone(num_classes=6)
    expected = shapes(wider)
    assert jax.tree.map(jnp.shape, actual) == jax.tree.map(jnp.shape, expected)
    before, after = (flax.traverse_util.flatten_dict(x, sep="/") for x in (params, actual))
    changed = [path for path in after if before[path].shape != after[path].shape]
    assert len(changed) == (1 if name == "wide" else 2)
    for path, values in after.items():
        kept = values[..., :5] if path in changed else values
        np.testing.assert_array_equal(kept, before[path])


def test_the_abstention_channel_is_drawn_from_hes_normal_distribution():
    kernel = jnp.ones((1, 1, 256, 19))
    params = {"final": {"classify": {"conv": {"kernel": kernel}}}}
    draw_one = lambda key: with_abstention(params, key)["final"]["classify"]["conv"]["kernel"]  # noqa: E731
    new = jax.vmap(draw_one)(jax.random.split(jax.random.key(0), 64))[..., -1]
    # 16,384 draws: the standard error of their deviation is 0.6 %.
    np.testing.assert_allclose(jnp.std(new), np.sqrt(2 / 256), rtol=0.03)
    np.testing.assert_allclose(jnp.mean(new), 0.0, atol=0.003)


def test_the_two_outputs_get_different_abstention_channels():
    kernels = {"conv": {"kernel": jnp.zeros((1, 1, 8, 5))}}
    params = {"final2": kernels, "dsn": {"classify": kernels}}
    new = with_abstention(params, jax.random.key(0))
    assert not np.allclose(
        new["final2"]["conv"]["kernel"], new["dsn"]["classify"]["conv"]["kernel"]
    )


def test_abstention_without_a_linear_classifier_is_an_error():
    params = {"final": {"classify": {"prototypes": jnp.zeros((5, 16))}}}
    with pytest.raises(ValueError, match="params: expected a linear classifier, one of final/"):
        with_abstention(params, jax.random.key(0))


@BOTH
@pytest.mark.parametrize(
    "options, message",
    [
        ({"classifier": "mlp"}, r"classifier: expected one of .*'mlp'"),
        ({"output_stride": 4}, r"output_stride: expected one of .* 4"),
        ({"num_classes": 0}, r"num_classes: expected at least 1, got 0"),
    ],
)
def test_wrong_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        shapes(TINY[name]().clone(**options))


@BOTH
@pytest.mark.parametrize(
    "images, where, message",
    [
        ((2, 8, 3), None, r"images: expected \[B, H, W, 3\], got \(2, 8, 3\)"),
        ((2, 8, 8, 3), (3,), r"where: expected shape \(2,\), got \(3,\)"),
    ],
)
def test_wrong_shapes_are_named(name, images, where, message):
    where = None if where is None else jnp.ones(where, bool)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(TINY[name]().init, jax.random.key(0), jnp.ones(images), where)
