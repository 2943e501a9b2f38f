from functools import partial

import drawn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from layouts import AXIS, spread

from jaxad import resampling
from jaxad.convert import pspnet as published
from jaxad.losses import cross_entropy
from jaxad.models.layers import Mode
from jaxad.models.pspnet import PSPNet

SMALL = {"width": 1 / 16, "depths": (1, 1, 1, 1)}
TINY = {"num_classes": 3, "width": 1 / 32, "depths": (1, 1, 1, 1), "output_stride": 16}
TOLERANCE = {"rtol": 0, "atol": 1e-5}


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def last_axis(array):
    return np.moveaxis(array, 1, -1)


@pytest.fixture(scope="module")
def golden():
    return vectors.load("pans", "pspnet")


def from_golden(golden, network, images):
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    params, stats = published.convert(
        vectors.part(golden, "state/"), shapes["params"], shapes["batch_stats"], scales="plain"
    )
    return {"params": params, "batch_stats": stats}


def close(actual, expected):
    largest = np.max(np.abs(expected))
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5 + 1e-4 * largest)


def supervised(network, variables, params, batch, axis_name=None, dropout=False):
    """The loss of document 001 at the size of the labels, and the new statistics."""
    images, labels, rows = batch
    maps, new = network.apply(
        {**variables, "params": params},
        images,
        rows,
        train=True,
        dropout=dropout,
        rngs={"dropout": jax.random.key(3)},
        mutable=["batch_stats"],
    )
    logits, auxiliary = (
        resampling.bilinear(each, labels.shape[1:], align_corners=PSPNet.align_corners)
        for each in (maps.logits, maps.auxiliary)
    )
    where = labels != 255 if rows is None else (labels != 255) & rows[:, None, None]
    value = cross_entropy.deeply_supervised_cross_entropy(
        logits, auxiliary, labels, where, axis_name=axis_name
    )
    return value, new["batch_stats"]


# Against the released code


@pytest.mark.parametrize("classifier, expected", [("cosine", 51_314_752), ("linear", 51_314_778)])
def test_published_numbers_of_parameters(classifier, expected):
    network = PSPNet(classifier=classifier)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
    counts = {name: sum(x.size for x in jax.tree.leaves(v)) for name, v in shapes.items()}
    assert counts["backbone"] == 23_508_032
    assert counts["pyramid"] + counts["last"] + counts["auxiliary"] == 27_793_408
    assert sum(counts.values()) == expected


@pytest.mark.parametrize("output_stride", [8, 16])
def test_golden_maps(golden, output_stride):
    network = PSPNet(**SMALL, output_stride=output_stride)
    images = jnp.asarray(last_axis(golden["image"]))
    variables = from_golden(golden, network, images)

    @jax.jit
    def run(variables, images):
        def inside(network, images):
            *_, before, last = network.backbone(images, Mode())
            features = network.auxiliary(before, Mode())
            return {
                "mod4": before,
                "mod5": last,
                "features_deepsup": features,
                "logits_deepsup_low": network.auxiliary_classify(features),
            }

        maps = network.apply(variables, images)
        maps = {"logits_low": maps.logits, "features": maps.features}
        return maps | network.apply(variables, images, method=inside)

    maps = run(variables, images)
    for name, value in maps.items():
        vectors.assert_close(value, last_axis(golden[f"os{output_stride}/{name}"]), **TOLERANCE)
    if output_stride == 8:
        enlarged = resampling.bilinear(
            maps["logits_low"][:1], images.shape[1:3], align_corners=PSPNet.align_corners
        )
        vectors.assert_close(enlarged, last_axis(golden["os8/logits_image0"]), **TOLERANCE)


def test_golden_training_pass(golden):
    network = PSPNet(**SMALL)
    images = jnp.asarray(last_axis(golden["image"]))
    variables = from_golden(golden, network, images)
    batch = images, jnp.asarray(golden["train/target"]), None
    run = jax.jit(jax.value_and_grad(partial(supervised, network, variables), has_aux=True))
    (value, stats), gradient = run(variables["params"], batch)
    np.testing.assert_allclose(value, golden["train/loss"], rtol=1e-5)
    # The expected gradients and statistics take the way of a checkpoint, to be compared by name.
    new, slopes = (vectors.part(golden, f"train/{kind}/") for kind in ("new", "grad"))
    expected = {name: np.full_like(a, np.nan) for name, a in vectors.part(golden, "state/").items()}
    expected = published.convert(expected | new | slopes, gradient, stats, scales="plain")
    compared = 0
    for actual, wanted in zip((gradient, stats), expected, strict=True):
        wanted = flax.traverse_util.flatten_dict(wanted, sep="/")
        for name, value in flax.traverse_util.flatten_dict(actual, sep="/").items():
            if not np.isnan(wanted[name]).any():
                # 1e-4 of the largest value and 1e-5, as the vectors state.
                atol = 1e-4 * np.max(np.abs(wanted[name])) + 1e-5
                np.testing.assert_allclose(value, wanted[name], rtol=0, atol=atol)
                compared += 1
    assert compared == len(new) + len(slopes) == 15


# Its parts


def test_head_is_all_behind_the_trunk():
    images = draw(2, 32, 40, 3)
    network = PSPNet(**TINY)
    variables = drawn.variables(network, images)

    @jax.jit
    def halves(variables, images):
        trunk = network.apply(variables, images, method="trunk")
        return trunk.auxiliary, network.apply(variables, trunk, method="head")

    auxiliary, maps = halves(variables, images)
    whole = jax.jit(network.apply)(variables, images)
    assert auxiliary is None
    assert maps.auxiliary is None
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), maps, whole)


def test_head_reads_just_the_parameters_it_names():
    images = draw(1, 32, 40, 3)
    network = PSPNet(**TINY)
    variables = drawn.variables(network, images)
    own = {name: variables["params"][name] for name in PSPNet.head_modules}
    trunk = jax.eval_shape(partial(network.apply, method="trunk"), variables, images)
    stats = {"batch_stats": {"last": variables["batch_stats"]["last"]}}
    head = partial(network.apply, method="head")
    maps = jax.eval_shape(head, {"params": own, **stats}, trunk)
    assert maps.logits.shape == (1, 2, 3, 3)
    without = {k: v for k, v in variables["params"].items() if k not in PSPNet.head_modules}
    jax.eval_shape(partial(network.apply, method="trunk"), {**variables, "params": without}, images)


def test_cosine_logits_are_bounded_and_zero_features_give_zero():
    images = 100 * draw(1, 32, 40, 3)
    network = PSPNet(**TINY)
    variables = drawn.variables(network, images)
    run = jax.jit(lambda v: network.apply(v, images))
    assert jnp.max(jnp.abs(run(variables).logits)) <= network.tau * (1 + 1e-6)

    silent = jax.tree.map(jnp.zeros_like, variables["params"]["last"])
    silent = {**variables, "params": {**variables["params"], "last": silent}}
    np.testing.assert_array_equal(run(silent).logits, 0.0)
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(jnp.sin(run(v).logits + 1.0))))(silent)
    for leaf in jax.tree.leaves(gradient):
        np.testing.assert_array_equal(leaf, 0.0)


def test_deep_supervision_is_for_training_alone():
    images = draw(2, 33, 47, 3)
    network = PSPNet(**TINY)
    variables = drawn.variables(network, images)
    assert "auxiliary_classify" in variables["params"]
    used = {k: v for k, v in variables["params"].items() if "auxiliary" not in k}
    maps = jax.eval_shape(network.apply, {**variables, "params": used}, images)
    assert maps.auxiliary is None
    run = partial(network.apply, train=True, mutable=["batch_stats"])
    maps, _ = jax.eval_shape(run, variables, images)
    assert maps.auxiliary.shape == maps.logits.shape == (2, 3, 3, 3)  # 33 and 47 over 16.


def test_channels_drop_when_asked_and_only_then():
    images = draw(2, 32, 40, 3)
    network = PSPNet(**TINY, dropout_rate=0.5)
    variables = drawn.variables(network, images)

    @jax.jit
    def run(key):
        return network.apply(variables, images, dropout=True, rngs={"dropout": key})

    first, other = run(jax.random.key(1)), run(jax.random.key(2))
    assert jnp.any(first.logits != other.logits)
    dropped = jnp.all(first.features == 0, axis=(1, 2))
    plain = jax.jit(network.apply)(variables, images)
    assert 2 <= jnp.sum(dropped) <= 30
    np.testing.assert_allclose(
        first.features,
        jnp.where(dropped[:, None, None], 0, 2 * plain.features),
        rtol=1e-4,
        atol=1e-6,
    )


# Training


@pytest.fixture(scope="module")
def batch():
    images = draw(16, 24, 20, 3)
    labels = np.random.default_rng(1).integers(0, 3, (16, 24, 20))
    labels[:, :5] = 255
    return images, jnp.asarray(labels), jnp.arange(16) < 13


@pytest.fixture(scope="module")
def variables(batch):
    return drawn.variables(PSPNet(**TINY), batch[0])


@pytest.fixture(scope="module")
def expected(batch, variables):
    """Loss, statistics and gradients of the global batch on one device, with dropout."""
    step = partial(supervised, PSPNet(**TINY), variables, dropout=True)
    return jax.jit(jax.value_and_grad(step, has_aux=True))(variables["params"], batch)


def test_eight_devices_normalise_and_drop_as_one(batch, variables, expected):
    network = PSPNet(**TINY, axis_name=AXIS)
    step = partial(supervised, network, variables, axis_name=AXIS, dropout=True)

    def on_device(rows):
        result, gradient = jax.value_and_grad(step, has_aux=True)(variables["params"], rows)
        return result, jax.lax.pmean(gradient, AXIS)

    actual = spread("shard_map_unchecked", on_device, batch)
    jax.tree.map(close, actual, expected)


def test_rows_that_are_not_real_change_nothing(batch, variables, expected):
    images, labels, rows = batch
    batch = jnp.where(rows[:, None, None, None], images, jnp.nan), labels.at[13:].set(1), rows
    step = partial(supervised, PSPNet(**TINY), variables, dropout=True)
    actual = jax.jit(jax.value_and_grad(step, has_aux=True))(variables["params"], batch)
    jax.tree.map(close, actual, expected)


def test_rematerialisation_changes_no_gradient(batch, variables, expected):
    step = partial(supervised, PSPNet(**TINY, remat=True), variables, dropout=True)
    actual = jax.jit(jax.value_and_grad(step, has_aux=True))(variables["params"], batch)
    jax.tree.map(close, actual, expected)


def test_16_bit_computation_keeps_float32_parameters_statistics_and_logits(batch, variables):
    images, _, rows = batch
    network = PSPNet(**TINY, dtype=jnp.bfloat16)
    run = partial(network.apply, train=True, mutable=["batch_stats"])
    maps, new = jax.eval_shape(run, variables, images, rows)
    assert maps.features.dtype == jnp.bfloat16
    assert maps.logits.dtype == maps.auxiliary.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves((variables, new))} == {jnp.dtype(jnp.float32)}


def test_16_bit_logits_are_near_the_others(batch, variables):
    rounded, exact = (
        jax.jit(PSPNet(**TINY, dtype=dtype).apply)(variables, batch[0]).logits
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    assert 0 < jnp.mean(jnp.abs(rounded - exact)) < 0.02 * PSPNet.tau


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("height, width", [(33, 47), (8, 1)])
@pytest.mark.parametrize("classifier", ["cosine", "linear", "linear_without_bias"])
def test_odd_sizes_round_up(height, width, output_stride, classifier):
    network = PSPNet(**{**TINY, "output_stride": output_stride}, classifier=classifier)
    images = jnp.zeros((1, height, width, 3))
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    maps = jax.eval_shape(network.apply, variables, images)
    assert maps.logits.shape == (1, -(-height // output_stride), -(-width // output_stride), 3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"output_stride": 4}, r"output_stride: expected one of \(8, 16, 32\), got 4"),
        ({"classifier": "sine"}, r"classifier: expected one of .*'cosine'.*, got 'sine'"),
    ],
)
def test_unknown_values_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            PSPNet(**{**TINY, **options}).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3))
        )
