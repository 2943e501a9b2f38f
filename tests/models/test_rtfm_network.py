from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from layouts import AXIS, spread

from jaxad.convert import rtfm as published
from jaxad.models.rtfm import (
    RTFM,
    MultiScaleTemporalNetwork,
    TemporalSelfAttention,
    attend,
)

FORMS = ("paper", "released")
SMALL = {"hidden": (6, 4), "feature_dropout": 0.0, "classifier_dropout": 0.0}


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def scrambled(module, *args, seed=1):
    """Variables without the zeros and ones of a fresh network, which would hide mistakes."""
    variables = jax.jit(partial(module.init, train=False))(jax.random.key(0), *args)
    rng = np.random.default_rng(seed)
    variables = jax.tree.map(
        lambda x: x + jnp.asarray(rng.normal(0, 0.2, x.shape), x.dtype), variables
    )
    stats = jax.tree.map(jnp.abs, variables.get("batch_stats", {}))
    return {"params": variables["params"], "batch_stats": stats}


def from_golden(arrays, prefix, module, *args, wrap=()):
    """Variables of `module` from a published state dict."""
    shapes = jax.eval_shape(partial(module.init, train=False), jax.random.key(0), *args)
    params, stats = shapes["params"], shapes["batch_stats"]
    for name in reversed(wrap):
        params, stats = {name: params}, {name: stats}
    arrays = {f"{prefix}{name}": a for name, a in vectors.part(arrays, "sd/").items()}
    params, stats = published.convert(arrays, params, stats)
    for name in wrap:
        params, stats = params[name], stats[name]
    return {"params": params, "batch_stats": stats}


# Attention


@pytest.mark.parametrize("length", [3, 8, 20])  # Below, at and beyond the width: both orders.
def test_both_orders_of_multiplication_agree(length):
    query, key, value = (draw(2, length, 8, seed=seed) for seed in range(3))
    expected = (query @ jnp.swapaxes(key, 1, 2)) @ value
    np.testing.assert_allclose(attend(query, key, value), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("train", [False, True])
def test_attention_matches_golden(train):
    golden = vectors.load("rtfm", "nonlocal")
    x, cotangent = (jnp.asarray(golden[k].swapaxes(1, 2)) for k in ("x", "cotangent"))
    where = jnp.ones((1, 1), bool)
    where = jnp.broadcast_to(where, x.shape[:2])
    module = TemporalSelfAttention("released")
    wrap = ("temporal_network", "tsa")
    variables = from_golden(golden, "Aggregate.non_local.", module, x, where, wrap=wrap)

    @partial(jax.value_and_grad, has_aux=True)
    def run(x):
        z, new = module.apply(variables, x, where, train=train, mutable=["batch_stats"])
        return jnp.sum(z * cotangent), (z, new["batch_stats"])

    (_, (z, stats)), gradient = jax.jit(run)(x)
    mode = "train" if train else "eval"
    vectors.assert_close(z.swapaxes(1, 2), golden[f"z_{mode}"])
    vectors.assert_close(gradient.swapaxes(1, 2), golden[f"g_x_{mode}"], rtol=2e-5, atol=2e-5)
    if train:
        vectors.assert_close(stats["output_norm"]["mean"], golden["after/W.1.running_mean"])
        vectors.assert_close(stats["output_norm"]["var"], golden["after/W.1.running_var"])


def test_attention_map_matches_golden():
    golden = vectors.load("rtfm", "nonlocal")
    sd = vectors.part(golden, "sd/")

    def project(name):
        return golden["x"].swapaxes(1, 2) @ sd[f"{name}.weight"][..., 0].T + sd[f"{name}.bias"]

    identity = jnp.broadcast_to(jnp.eye(20), (3, 20, 20))
    actual = attend(project("theta"), project("phi") / 20, identity)
    vectors.assert_close(actual, golden["map_eval"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("train", [False, True])
def test_fresh_attention_is_the_identity(form, train):
    x, where = draw(2, 5, 8), jnp.ones((2, 5), bool)
    module = TemporalSelfAttention(form)
    variables = module.init(jax.random.key(0), x, where, train=False)
    y, _ = module.apply(variables, x, where, train=train, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, x)


def test_attention_scale_none_multiplies_by_the_length():
    x, where = draw(1, 6, 4), jnp.arange(6)[None] < 5
    variables = scrambled(TemporalSelfAttention(), x, where)
    silent = jax.tree.map(jnp.zeros_like, variables["params"]["value"])
    silent = variables | {"params": variables["params"] | {"value": silent}}

    def attended(scale):
        run = partial(TemporalSelfAttention("paper", scale).apply, train=False)
        return run(variables, x, where) - run(silent, x, where)

    np.testing.assert_allclose(attended("none"), 5 * attended("length"), rtol=1e-4, atol=1e-5)


def test_widths_of_the_attention():
    x, where = draw(1, 3, 8), jnp.ones((1, 3), bool)
    for form, width in (("paper", 8), ("released", 4)):
        module = TemporalSelfAttention(form)
        params = module.init(jax.random.key(0), x, where, train=False)["params"]
        assert params["query"]["kernel"].shape == (8, width)
        assert params["output"]["kernel"].shape == (width, 8)


# Multi-scale temporal network


@pytest.mark.parametrize("length", [32, 45])
def test_temporal_network_matches_golden(length):
    golden = vectors.load("rtfm", "aggregate")
    x, cotangent = golden[f"x_{length}"], golden[f"cot_{length}"]
    where = jnp.ones(x.shape[:2], bool)
    module = MultiScaleTemporalNetwork("released")
    wrap = ("temporal_network",)
    variables = from_golden(golden, "Aggregate.", module, x, where, wrap=wrap)

    @partial(jax.value_and_grad, has_aux=True)
    def run(x):
        y, out = module.apply(variables, x, where, train=False)
        return jnp.sum(y * cotangent), (y, out)

    (_, (y, out)), gradient = jax.jit(run)(x)
    vectors.assert_close(y, golden[f"y_eval_{length}"])
    vectors.assert_close(gradient, golden[f"g_x_{length}"], rtol=2e-5, atol=2e-5)
    if length == 32:
        for ours, theirs in (
            ("pdc1", "pdc1"),
            ("pdc2", "pdc2"),
            ("pdc3", "pdc3"),
            ("tsa_input", "tsa_in"),
            ("tsa", "tsa"),
        ):
            vectors.assert_close(out[ours], golden[f"{theirs}_32"])


def test_temporal_network_in_training_matches_golden():
    golden = vectors.load("rtfm", "aggregate")
    x = golden["x_32"]
    where = jnp.ones(x.shape[:2], bool)
    module = MultiScaleTemporalNetwork("released")
    wrap = ("temporal_network",)
    variables = from_golden(golden, "Aggregate.", module, x, where, wrap=wrap)
    run = jax.jit(partial(module.apply, train=True, mutable=["batch_stats"]))
    (y, _), new = run(variables, x, where)
    vectors.assert_close(y, golden["y_train_32"], atol=2e-6)
    after = {f"sd/{k}": v for k, v in vectors.part(golden, "after/").items()}
    expected = from_golden(golden | after, "Aggregate.", module, x, where, wrap=wrap)
    jax.tree.map(vectors.assert_close, new["batch_stats"], expected["batch_stats"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pdc, tsa", [(True, True), (True, False), (False, True), (False, False)])
def test_ablations_keep_the_shape_and_lose_their_sight(form, pdc, tsa):
    x = draw(1, 12, 8)
    module = MultiScaleTemporalNetwork(form, pdc=pdc, tsa=tsa)
    where = jnp.ones(x.shape[:2], bool)
    variables = scrambled(module, x, where)

    @jax.jit
    def run(x):
        return module.apply(variables, x, where, train=False)[0]

    y = run(x)
    assert y.shape == x.shape
    changed = jnp.any(run(x.at[0, 3].add(1.0)) != y, axis=-1)[0]
    reach = 12 if tsa else 8 if pdc and form == "paper" else 9 if pdc else 1
    reached = {12: range(12), 8: (0, 1, 2, 3, 4, 5, 7), 9: range(9), 1: (3,)}[reach]
    # A zero behind ReLU may hide a change, none may appear outside.
    assert set(np.flatnonzero(changed)) <= set(reached)
    assert changed[3]
    if tsa:
        assert changed[11]
    if not (pdc or tsa):
        assert set(variables["params"]) == {"pointwise", "pointwise_norm"}


def test_a_width_that_does_not_split_in_four_is_an_error():
    with pytest.raises(ValueError, match=r"features: .*D % 4 == 0, got \(1, 3, 6\)"):
        MultiScaleTemporalNetwork().init(
            jax.random.key(0), draw(1, 3, 6), jnp.ones((1, 3), bool), train=False
        )


# Whole network


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", ["length", "none"])
@pytest.mark.parametrize("padding", [0.0, np.nan])
def test_padded_and_unpadded_videos_score_alike(form, scale, padding):
    model = RTFM(form, scale, **SMALL)
    short = draw(2, 3, 9, 8)
    variables = scrambled(model, short)
    alone = jax.jit(partial(model.apply, train=False))(variables, short)
    padded = jnp.pad(short, ((0, 0), (0, 0), (0, 7), (0, 0)), constant_values=padding)
    where = jnp.broadcast_to(jnp.arange(16) < 9, (2, 16))
    out = jax.jit(partial(model.apply, train=False))(variables, padded, where)
    for name, axis in (("scores", 1), ("magnitudes", 1), ("crop_scores", 2), ("features", 2)):
        real, rest = jnp.split(out[name], [9], axis=axis)
        np.testing.assert_allclose(real, alone[name], rtol=2e-5, atol=2e-5)
        assert not rest.any()


@pytest.mark.parametrize("form", FORMS)
def test_padding_changes_nothing_in_training_either(form):
    model = RTFM(form, **SMALL)
    short = draw(2, 3, 9, 8)
    variables = scrambled(model, short)
    padded = jnp.pad(short, ((0, 1), (0, 0), (0, 7), (0, 0)), constant_values=np.nan)
    where = jnp.pad(jnp.ones((2, 9), bool), ((0, 1), (0, 7)))

    def run(variables, features, where):
        out, new = model.apply(variables, features, where, train=True, mutable=["batch_stats"])
        return jnp.sum(out["scores"]) + jnp.sum(out["magnitudes"]), new

    run = jax.jit(jax.value_and_grad(run, has_aux=True, allow_int=True))
    actual = run(variables, padded, where)
    expected = run(variables, short, jnp.ones((2, 9), bool))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), actual, expected)


def test_crops_are_averaged_behind_sigmoid_and_norm():
    model = RTFM(**SMALL)
    x = draw(2, 3, 5, 8)
    variables = scrambled(model, x)
    run = jax.jit(partial(model.apply, variables, train=False))
    out, mixed = run(x), run(x[:, jnp.array([2, 0, 1])])
    np.testing.assert_allclose(out["scores"], jnp.mean(out["crop_scores"], 1), rtol=1e-6)
    norms = jnp.linalg.norm(out["features"], axis=-1)
    np.testing.assert_allclose(out["magnitudes"], jnp.mean(norms, 1), rtol=1e-5)
    copies = run(jnp.broadcast_to(x[:, :1], x.shape))
    alone = jax.jit(partial(model.apply, variables, train=False))(x[:, :1])
    for name in ("scores", "magnitudes"):
        np.testing.assert_allclose(mixed[name], out[name], rtol=1e-5)
        np.testing.assert_allclose(copies[name], alone[name], rtol=1e-5)


def test_number_of_parameters_of_the_published_network():
    model = RTFM("released")
    shapes = jax.eval_shape(
        partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, 1, 4, 2048))
    )["params"]
    count = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in shapes.items()}
    assert count["classifier"] == 1_114_881
    assert sum(count.values()) == 24_718_849
    tsa = sum(x.size for x in jax.tree.leaves(shapes["temporal_network"]["tsa"]))
    assert tsa == 526_592


def test_initialisation_has_the_bounds_of_the_published_one():
    golden = vectors.part(vectors.load("rtfm", "model"), "init/")
    x = jnp.zeros((1, 1, 4, 64))
    model = RTFM("released", hidden=(16, 8))
    ours = jax.jit(partial(model.init, train=False))(jax.random.key(3), x)
    sd = {f"sd/{k}": v for k, v in golden.items()}
    theirs = from_golden(sd, "", model, x)

    def compare(path, a, b):
        assert a.shape == b.shape
        if path[-1].key == "kernel":
            fan_in, fan_out = np.prod(a.shape[:-1]), a.shape[-1] * np.prod(a.shape[:-2])
            limit = np.sqrt(6 / (fan_in + fan_out))
            for x in (a, b):
                assert np.max(np.abs(x)) <= limit * (1 + 1e-6)
                assert np.max(np.abs(x)) > 0.7 * limit
        else:
            np.testing.assert_array_equal(a, b)

    jax.tree_util.tree_map_with_path(compare, ours, theirs)


@pytest.mark.parametrize("form", FORMS)
def test_16_bit_computation_keeps_float32_parameters_statistics_and_outputs(form):
    x = draw(2, 2, 6, 8)
    exact, model = RTFM(form, **SMALL), RTFM(form, dtype=jnp.bfloat16, **SMALL)
    variables = scrambled(exact, x)
    out, new = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))(variables, x)
    for leaf in (out["scores"], out["magnitudes"], out["features"], *jax.tree.leaves(new)):
        assert leaf.dtype == jnp.float32
    run = jax.jit(partial(exact.apply, train=True, mutable=["batch_stats"]))
    expected, _ = run(variables, x)
    np.testing.assert_allclose(out["scores"], expected["scores"], atol=0.05)
    np.testing.assert_allclose(out["magnitudes"], expected["magnitudes"], rtol=0.05)


@pytest.mark.parametrize("layout", ["shard_map_unchecked"])  # All of them: methods/test_rtfm.py.
def test_eight_devices_drop_and_normalise_as_one(layout):
    rows = {"x": draw(16, 2, 5, 8), "where": jnp.arange(80).reshape(16, 5) < 61}
    model = {name: RTFM("released", hidden=(6, 4), axis_name=name) for name in (AXIS, None)}
    variables = scrambled(model[None], rows["x"])

    def loss(params, rows, axis_name):
        out, new = model[axis_name].apply(
            variables | {"params": params},
            rows["x"],
            rows["where"],
            train=True,
            rngs={"dropout": jax.random.key(5)},
            mutable=["batch_stats"],
        )
        value = jnp.sum(out["scores"]) + jnp.sum(out["magnitudes"])
        return value if axis_name is None else jax.lax.psum(value, axis_name), new

    def on_device(rows):
        (value, new), gradient = jax.value_and_grad(loss, has_aux=True)(
            variables["params"], rows, AXIS
        )
        return value, new, jax.lax.pmean(gradient, AXIS)

    (value, new), gradient = jax.jit(
        partial(jax.value_and_grad(loss, has_aux=True), axis_name=None)
    )(variables["params"], rows)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(close, spread(layout, on_device, rows), (value, new, gradient))


@pytest.mark.parametrize(
    "features, where, message",
    [
        ((2, 5, 8), None, r"features: expected \[B, N, T, D\], got \(2, 5, 8\)"),
        ((2, 1, 5, 8), (2, 4), r"where: expected shape \(2, 5\), got \(2, 4\)"),
    ],
)
def test_shape_errors(features, where, message):
    where = None if where is None else jnp.ones(where, bool)
    with pytest.raises(ValueError, match=message):
        RTFM(**SMALL).init(jax.random.key(0), jnp.ones(features), where, train=False)
