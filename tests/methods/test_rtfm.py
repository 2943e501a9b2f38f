from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import vectors
from layouts import LAYOUTS, mapped

from jaxad.convert import rtfm as published
from jaxad.errors import InputError
from jaxad.losses import mil
from jaxad.methods import base, rtfm
from jaxad.models.rtfm import RTFM

RELEASED = {
    "mtn": "released",
    "magnitude": "released",
    "magnitude_weight": 1e-4,
    "classification": "released",
    "regularisers": "released",
    "smoothness_weight": 8e-4,
    "sparsity_weight": 8e-3,
}
NO_DROPOUT = {"feature_dropout": 0.0, "selection_dropout": 0.0, "classifier_dropout": 0.0}
VARIANTS = {
    "paper": {},
    "released": RELEASED,
    "score_ranking": {"feature_magnitude": False, "pdc": False, "tsa": False},
}
SMALL = {"hidden": (6, 4), "margin": 20.0, "k": 2}
KEY = jax.random.key(11)


def build(tx=None, **options):
    return rtfm.build({"train": optax.sgd(0.01) if tx is None else tx}, **{**SMALL, **options})


def make_batch(rows=8, crops=2, length=6, dim=8, seed=0):
    """Half anomalous, with two strong snippets each; lengths vary, the rest of a video is NaN."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, crops, length, dim)).astype(np.float32)
    label = np.arange(rows) % 2
    features[label == 1, :, 1:3] += 2.0
    lengths = rng.integers(3, length + 1, rows)
    padding = np.arange(length) >= lengths[:, None]
    features[np.broadcast_to(padding[:, None], (rows, crops, length))] = np.nan
    return {
        "features": jnp.asarray(features),
        "label": jnp.asarray(label),
        "valid": jnp.ones(rows, bool),
        "length": jnp.asarray(lengths, jnp.int32),
        "index": jnp.arange(rows),
    }


def with_padding_rows(batch, count):
    """Rows of NaN behind a batch, labelled anomalous."""
    fill = {"features": np.nan, "label": 1, "valid": False, "length": 6, "index": 0}
    return {
        name: jnp.concatenate([x, jnp.full((count, *x.shape[1:]), fill[name], x.dtype)])
        for name, x in batch.items()
    }


def start(method, batch, seed=0):
    """A fresh state whose zeros and ones are moved a little, as after some training."""
    state = jax.jit(lambda key: method.stages["train"].init(key, batch, {}))(jax.random.key(seed))
    rng = np.random.default_rng(seed)

    def move(x):
        return x + jnp.asarray(rng.normal(0, 0.1, x.shape), x.dtype)

    return state.replace(params=jax.tree.map(move, state.params))


def stepper(method, layout="shard_map", devices=1):
    update = method.stages["train"].update
    return mapped(layout, lambda shared, rows: update(shared[0], rows, shared[1]), devices=devices)


@cache
def case(variant, **options):
    """A method and its step on one device, compiled once for all tests."""
    method = build(**VARIANTS[variant], **options)
    return method, stepper(method)


def score(method, state, batch):
    return jax.jit(method.score)({"train": state}, batch)


def close(actual, expected, rtol=1e-5, atol=1e-6):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=atol), actual, expected)


# Golden vectors


def golden_batch(features, label):
    rows, _, length, _ = features.shape
    return {
        "features": jnp.asarray(features),
        "label": jnp.asarray(label),
        "valid": jnp.ones(rows, bool),
        "length": jnp.full(rows, length, jnp.int32),
        "index": jnp.arange(rows),
    }


def golden_network():
    """The golden network in evaluation mode: model, variables, batch and vectors."""
    golden = vectors.load("rtfm", "model")
    model = RTFM("released", hidden=(16, 8), feature_dropout=0.0, classifier_dropout=0.0)
    batch = golden_batch(golden["x"], [0, 0, 1, 1])
    like = jax.eval_shape(partial(model.init, train=False), KEY, batch["features"])
    params, stats = published.convert(
        vectors.part(golden, "sd/"), like["params"], like["batch_stats"]
    )
    return model, {"params": params, "batch_stats": stats}, batch, golden


def assert_chosen(chosen, golden, prefix):
    for rows, half in ((slice(0, 2), "normal"), (slice(2, 4), "abnormal")):
        bags = jnp.mean(chosen.scores[rows], axis=-1, keepdims=True)
        vectors.assert_close(bags, golden[f"{prefix}score_{half}"])
        features = chosen.features[rows].swapaxes(0, 1).reshape(6, 3, 64)  # Crop-major.
        vectors.assert_close(features, golden[f"{prefix}feat_{half}"])


def test_network_selection_losses_and_gradients_match_golden():
    model, variables, batch, golden = golden_network()
    where = rtfm.real_snippets(batch)
    of = {"label": batch["label"], "valid": batch["valid"], "form": "released"}

    def total(params, features):
        out = model.apply(variables | {"params": params}, features, where, train=False)
        chosen = rtfm.choose(out, out["magnitudes"], 3, where)
        magnitude = rtfm.magnitude_loss(chosen, margin=100.0, **of)
        cls = rtfm.classification_loss(chosen, **of)
        smooth, sparse = rtfm.temporal_losses(out["scores"], where, **of)
        smooth, sparse = 8e-4 * smooth, 8e-3 * sparse
        return cls + 1e-4 * magnitude + smooth + sparse, {
            "out": out,
            "chosen": chosen,
            "terms": {"magnitude": magnitude, "cls": cls, "smooth": smooth, "sparsity": sparse},
        }

    run = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))
    (value, aux), gradients = run(variables["params"], batch["features"])
    vectors.assert_close(aux["out"]["scores"], golden["scores"][..., 0])
    vectors.assert_close(aux["out"]["magnitudes"], golden["magnitudes"], rtol=2e-5)
    assert_chosen(aux["chosen"], golden, "")
    vectors.assert_close(value, golden["loss_total"], rtol=2e-5)
    for name, term in aux["terms"].items():
        vectors.assert_close(term, golden[f"loss_{name}"], rtol=2e-5)
    vectors.assert_close(gradients[1], golden["grad_x"], rtol=2e-5, atol=2e-5)
    arrays = vectors.part(golden, "sd/") | vectors.part(golden, "grad/")
    expected, _ = published.convert(arrays, variables["params"], variables["batch_stats"])
    jax.tree.map(partial(vectors.assert_close, rtol=2e-5, atol=2e-5), gradients[0], expected)


@pytest.mark.parametrize("prefix", ["", "masked_"])
def test_selection_with_and_without_dropped_snippets_matches_golden(prefix):
    model, variables, batch, golden = golden_network()
    where = rtfm.real_snippets(batch)
    out = jax.jit(partial(model.apply, train=False))(variables, batch["features"], where)
    keep = np.concatenate([golden["keep_normal"], golden["keep_abnormal"]]) if prefix else 1.0
    ranks = out["magnitudes"] * keep
    indices, _ = mil.top_k_indices(ranks, 3, where)
    expected = np.concatenate([golden[f"{prefix}idx_normal"], golden[f"{prefix}idx_abnormal"]])
    np.testing.assert_array_equal(indices, expected)
    assert_chosen(rtfm.choose(out, ranks, 3, where), golden, prefix)


@pytest.mark.parametrize("devices", [1, 4])
def test_four_training_steps_match_golden(devices):
    golden = vectors.load("rtfm", "train_steps")
    tx = optax.chain(optax.add_decayed_weights(5e-3), optax.adam(1e-3))
    options = {"hidden": (8, 8), "k": 3, "margin": 100.0}
    method = build(tx, **RELEASED, **NO_DROPOUT, **options)
    features = np.concatenate([golden["x_normal"], golden["x_abnormal"]])
    batch = golden_batch(features, [0, 0, 1, 1])
    state = method.stages["train"].init(KEY, batch, {})
    state = method.convert["train"](vectors.part(golden, "before/"), state)
    step = stepper(method, devices=devices)
    for i in range(4):
        state, metrics = step((state, KEY), batch)
        for name, key in (("loss", "loss"), ("smoothness", "smooth"), ("sparsity", "sparsity")):
            np.testing.assert_allclose(metrics[name], golden[key][i], rtol=1e-4)
        if i in (0, 3):
            after = vectors.part(golden, f"after{i + 1}/")
            expected = method.convert["train"](after, state)
            close(state.params, expected.params, rtol=1e-5, atol=1e-5)
            close(state.stats, expected.stats, rtol=1e-4, atol=1e-5)
    assert state.step == 4


def test_scores_of_whole_videos_match_golden():
    golden = vectors.load("rtfm", "test_scoring")
    method = build(hidden=(8, 4), k=3, **RELEASED)
    videos = [golden[f"video_{i}"].swapaxes(0, 1) for i in range(4)]  # [N, T, D]
    longest = max(video.shape[1] for video in videos)
    features = [np.pad(v, ((0, 0), (0, longest - v.shape[1]), (0, 0))) for v in videos]
    batch = golden_batch(np.stack(features), [0] * 4)
    batch["length"] = jnp.array([video.shape[1] for video in videos])
    state = method.stages["train"].init(KEY, batch, {})
    state = method.convert["train"](vectors.part(golden, "sd/"), state)
    scores = score(method, state, batch)
    for i, video in enumerate(videos):
        length = video.shape[1]
        magnitudes = scores.extra["magnitude"][i]
        vectors.assert_close(scores.snippet[i, :length], golden[f"scores_{i}"])
        vectors.assert_close(magnitudes[:length], golden[f"magnitudes_{i}"], rtol=2e-5, atol=2e-5)
        assert not scores.snippet[i, length:].any()
        assert not magnitudes[length:].any()
        top = np.argsort(-golden[f"magnitudes_{i}"], kind="stable")[:3]
        vectors.assert_close(scores.image[i], golden[f"scores_{i}"][top].mean())
        vectors.assert_close(
            scores.extra["top_k_magnitude"][i], golden[f"magnitudes_{i}"][top].mean(), rtol=2e-5
        )


# The contract


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_eight_devices_with_padding_rows_take_the_step_of_one_without(variant, layout):
    method, step = case(variant)  # All dropouts act; plain SGD shows a wrong scale.
    batch = make_batch(rows=13)
    state = start(method, batch)
    expected = step((state, KEY), batch)
    actual = stepper(method, layout, 8)((state, KEY), with_padding_rows(batch, 3))
    close(actual, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_falls_and_anomalous_videos_rise(variant):
    method = build(optax.adam(3e-3), **VARIANTS[variant], **NO_DROPOUT)
    batch = make_batch(rows=16)
    state = jax.jit(lambda key: method.stages["train"].init(key, batch, {}))(KEY)
    step = stepper(method)
    losses = []
    for i in range(60):
        state, metrics = step((state, jax.random.fold_in(KEY, i)), batch)
        losses.append(float(metrics["loss"]))
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.7 * losses[0]
    image = score(method, state, batch).image
    assert jnp.mean(image[batch["label"] == 1]) > jnp.mean(image[batch["label"] == 0]) + 0.3
    assert metrics["top_k_score_anomalous"] > metrics["top_k_score_normal"]


def test_a_batch_of_padding_alone_changes_only_what_does_not_look_at_it():
    (method, step), batch = case("paper"), make_batch(rows=13)
    state = start(method, batch)
    new, metrics = step((state, KEY), batch | {"valid": jnp.zeros(13, bool)})
    assert (metrics["loss"], metrics["grad_norm"]) == (0.0, 0.0)
    close(new.params, state.params, rtol=0, atol=0)
    close(new.stats, state.stats, rtol=0, atol=0)


@pytest.mark.parametrize("half", [0, 1])
def test_a_batch_of_one_label_is_finite(half):
    (method, step), batch = case("released"), make_batch(rows=13)
    _, metrics = step((start(method, batch), KEY), batch | {"label": jnp.full(13, half)})
    assert metrics["magnitude"] == 0.0
    assert all(jnp.isfinite(x) for x in metrics.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_do_not_depend_on_padding(variant):
    method, batch = build(**VARIANTS[variant]), make_batch(rows=4)
    state = start(method, batch)
    padded = with_padding_rows(batch, 2)
    padded["features"] = jnp.pad(
        padded["features"], ((0, 0), (0, 0), (0, 5), (0, 0)), constant_values=np.nan
    )
    actual, expected = score(method, state, padded), score(method, state, batch)
    for a, e in (
        (actual.snippet[:4, :6], expected.snippet),
        (actual.image[:4], expected.image),
        (actual.extra["magnitude"][:4, :6], expected.extra["magnitude"]),
        (actual.extra["top_k_magnitude"][:4], expected.extra["top_k_magnitude"]),
    ):
        np.testing.assert_allclose(a, e, rtol=2e-5, atol=2e-5)
    assert not actual.snippet[4:].any()
    assert not actual.snippet[:, 6:].any()
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(actual))


def test_the_same_key_gives_the_same_step_and_another_key_another():
    (method, step), batch = case("paper"), make_batch(rows=13)
    state = start(method, batch)
    first, again = step((state, KEY), batch), step((state, KEY), batch)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    other = step((state, jax.random.key(12)), batch)
    assert first[1]["loss"] != other[1]["loss"]


def test_selection_dropout_alone_changes_the_choice():
    batch, metrics = make_batch(rows=13), []
    for rate in (0.0, 0.7):
        method, step = case("paper", **{**NO_DROPOUT, "selection_dropout": rate})
        metrics.append(step((start(method, batch), KEY), batch)[1])
    for half in ("normal", "anomalous"):  # Not always the largest are chosen.
        name = f"top_k_magnitude_{half}"
        assert metrics[1][name] < metrics[0][name]


def test_16_bit_computation_keeps_a_float32_state():
    batch = make_batch(rows=13)
    method, step = case("paper", dtype="bfloat16", **NO_DROPOUT)
    state = start(method, batch)
    new, metrics = step((state, KEY), batch)
    _, expected = case("paper", **NO_DROPOUT)[1]((state, KEY), batch)
    kinds = {x.dtype for x in jax.tree.leaves((new.params, new.stats, metrics))}
    assert kinds == {jnp.dtype("float32")}
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=0.05)


def test_a_video_shorter_than_k_is_scored_by_what_it_has():
    method, batch = build(k=5), make_batch()
    batch["length"] = jnp.array([1, 2, 3, 4, 5, 6, 6, 6])
    batch["features"] = jnp.nan_to_num(batch["features"])
    scores = score(method, start(method, batch), batch)
    np.testing.assert_allclose(scores.image[0], scores.snippet[0, 0], rtol=1e-6)
    np.testing.assert_allclose(scores.image[1], jnp.mean(scores.snippet[1, :2]), rtol=1e-6)


def test_paper_losses_average_over_pairs_and_videos():
    chosen = rtfm.Chosen(
        scores=jnp.array([[0.5, 0.5], [0.9, 0.8]]),
        magnitudes=jnp.array([[3.0, 1.0], [7.0, 9.0]]),
        features=jnp.zeros((2, 1, 2, 4)),
        real=jnp.ones((2, 2), bool),
    )
    of = {"label": jnp.array([0, 1]), "valid": jnp.ones(2, bool)}
    magnitude = rtfm.magnitude_loss(chosen, form="paper", margin=10.0, **of)
    np.testing.assert_allclose(magnitude, 10.0 - (8.0 - 2.0), rtol=1e-6)
    classification = rtfm.classification_loss(chosen, form="paper", **of)
    np.testing.assert_allclose(classification, (np.log(4) - np.log(0.72)) / 2, rtol=1e-6)
    scores = jnp.array([[0.3, 0.3, 0.9], [0.1, 0.4, 0.2]])
    where = jnp.array([[True, True, True], [True, True, False]])
    smooth, sparse = rtfm.temporal_losses(scores, where, form="paper", **of)
    np.testing.assert_allclose([smooth, sparse], [0.09, 0.5], rtol=1e-6)
    np.testing.assert_allclose(rtfm.ranking_loss(chosen, **of), 1 - 0.85 + 0.5, rtol=1e-6)


# Options


@pytest.mark.parametrize(
    "field, value, expected",
    [
        ("k", 0, "an integer of at least 1, found 0"),
        ("k", True, "an integer of at least 1, found True"),
        ("margin", -1.0, "a number of at least 0, found -1.0"),
        ("margin", float("nan"), "a number of at least 0, found nan"),
        ("mtn", "big", "one of 'paper', 'released', found 'big'"),
        ("magnitude", "both", "one of 'paper', 'released', found 'both'"),
        ("classification", None, "one of 'paper', 'released', found None"),
        ("regularisers", "", "one of 'paper', 'released', found ''"),
        ("attention_scale", "T", "one of 'length', 'none', found 'T'"),
        ("pdc", 1, "True or False, found 1"),
        ("tsa", "yes", "True or False, found 'yes'"),
        ("feature_magnitude", 0, "True or False, found 0"),
        ("smoothness_weight", "8e-4", "a number of at least 0, found '8e-4'"),
        ("sparsity_weight", -8e-3, "a number of at least 0, found -0.008"),
        ("magnitude_weight", float("inf"), "a number of at least 0, found inf"),
        ("feature_dropout", 1.0, r"a number in \[0, 1\), found 1.0"),
        ("selection_dropout", -0.1, r"a number in \[0, 1\), found -0.1"),
        ("classifier_dropout", 2, r"a number in \[0, 1\), found 2"),
        ("hidden", 512, "any number of integers of at least 1, found 512"),
        ("hidden", (512, 0), r"any number of integers of at least 1, found \(512, 0\)"),
    ],
)
def test_a_bad_value_names_field_expected_and_found(field, value, expected):
    with pytest.raises(InputError, match=rf"config\.method\.{field}: expected {expected}"):
        build(**{field: value})


@pytest.mark.parametrize("options", [{"mtn": "paper"}, {"mtn": "released", "tsa": False}])
def test_only_the_released_network_reads_published_checkpoints(options):
    method, batch = build(**options), make_batch()
    with pytest.raises(InputError, match=r"config\.method\.mtn: expected 'released'"):
        method.convert["train"]({}, start(method, batch))


def test_method_is_of_the_contract():
    method = build()
    assert isinstance(method, base.Method)
    assert list(method.stages) == ["train"]
    assert method.stages["train"].fits == ()
