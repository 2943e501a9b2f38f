from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from layouts import mapped

from jaxad.errors import InputError
from jaxad.methods import deepmil, feature_norm

KEY = jax.random.key(3)
SMALL = {"hidden": (6, 4)}


def build(tx=None, **options):
    return deepmil.build({"train": optax.sgd(0.01) if tx is None else tx}, **{**SMALL, **options})


def make_batch(rows=8, length=5, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 2, length, 8)).astype(np.float32)
    label = np.arange(rows) % 2
    features[label == 1, :, 1] += 2.0
    return {
        "features": jnp.asarray(features),
        "label": jnp.asarray(label),
        "valid": jnp.ones(rows, bool),
        "length": jnp.asarray(rng.integers(2, length + 1, rows)),
        "index": jnp.arange(rows),
    }


def with_padding_rows(batch, count):
    return {
        name: jnp.concatenate([x, jnp.zeros((count, *x.shape[1:]), x.dtype)])
        for name, x in batch.items()
    } | {
        "features": jnp.pad(
            batch["features"], ((0, count), (0, 0), (0, 0), (0, 0)), constant_values=np.nan
        )
    }


def start(method, batch):
    return jax.jit(lambda key: method.stages["train"].init(key, batch, {}))(KEY)


def stepper(method, layout="shard_map", devices=1):
    update = method.stages["train"].update
    return mapped(layout, lambda shared, rows: update(shared[0], rows, shared[1]), devices=devices)


@pytest.mark.parametrize(
    "layout, options",
    [
        ("shard_map", {}),
        ("shard_map_unchecked", {"reduction": "released"}),
        ("pmap", {"pairing": "index", "k": 3, "network": "linear"}),
    ],
)
def test_eight_devices_with_padding_rows_take_the_step_of_one_without(layout, options):
    method, batch = build(**options), make_batch(rows=13)
    state = start(method, batch)
    expected = stepper(method)((state, KEY), batch)
    actual = stepper(method, layout, 8)((state, KEY), with_padding_rows(batch, 3))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), actual, expected)


def test_terms_of_the_loss_by_hand():
    batch = make_batch(rows=4)
    batch["length"] = jnp.full(4, 5)
    values = {}
    for reduction in ("mean", "released"):
        method = build(reduction=reduction, dropout=0.0)
        state = start(method, batch)
        values[reduction] = stepper(method)((state, KEY), batch)[1]
    s = jax.jit(method.score)({"train": state}, batch).snippet
    normal, anomalous = s[::2], s[1::2]
    hinge = np.mean([[1 - a.max() + n.max() for n in normal] for a in anomalous])
    smooth = np.sum(np.diff(anomalous, axis=1) ** 2)
    matrices = [x for x in jax.tree.leaves(state.params) if x.ndim == 2]
    penalty = 0.001 * sum(np.sum(np.square(x)) for x in matrices)
    for reduction, share in (("mean", 0.5), ("released", 1.0)):
        m = values[reduction]
        np.testing.assert_allclose(m["ranking"], 2 * share * hinge, rtol=1e-5)
        np.testing.assert_allclose(m["smoothness"], 8e-5 * share * smooth, rtol=1e-4)
        np.testing.assert_allclose(m["sparsity"], 8e-5 * share * np.sum(anomalous), rtol=1e-5)
        np.testing.assert_allclose(m["penalty"], penalty, rtol=1e-5)
        parts = m["ranking"] + m["smoothness"] + m["sparsity"] + m["penalty"]
        np.testing.assert_allclose(m["loss"], parts, rtol=1e-6)


def test_pairing_does_not_matter_for_scores_in_the_unit_interval():
    batch = make_batch()
    losses = []
    for pairing in ("all", "index"):
        method = build(pairing=pairing)
        losses.append(stepper(method)((start(method, batch), KEY), batch)[1]["ranking"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_loss_falls():
    method, batch = build(optax.adagrad(0.05), dropout=0.0), make_batch(rows=16)
    state, step, losses = start(method, batch), stepper(method), []
    for _ in range(60):
        state, metrics = step((state, KEY), batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.7 * losses[0]


def test_image_is_the_highest_snippet_and_padding_counts_for_nothing():
    method, batch = build(), make_batch()
    state, score = start(method, batch), jax.jit(method.score)
    expected = score({"train": state}, batch)
    np.testing.assert_array_equal(expected.image, jnp.max(expected.snippet, axis=1))
    padded = with_padding_rows(batch, 2)
    padded["features"] = jnp.pad(
        padded["features"], ((0, 0), (0, 0), (0, 4), (0, 0)), constant_values=np.nan
    )
    actual = score({"train": state}, padded)
    np.testing.assert_allclose(actual.image[:8], expected.image, rtol=1e-6)
    np.testing.assert_allclose(actual.snippet[:8, :5], expected.snippet, rtol=1e-6)
    assert not actual.snippet[8:].any()
    assert not actual.snippet[jnp.arange(9) >= padded["length"][:, None]].any()


@pytest.mark.parametrize(
    "field, value, expected",
    [
        ("network", "deep", "one of 'original', 'linear', found 'deep'"),
        ("pairing", "none", "one of 'all', 'index', found 'none'"),
        ("reduction", "sum", "one of 'mean', 'released', found 'sum'"),
        ("k", 0, "an integer of at least 1, found 0"),
        ("penalty", -1, "a number of at least 0, found -1"),
        ("dropout", 1.0, r"a number in \[0, 1\), found 1.0"),
        ("hidden", (512,), r"2 integers of at least 1, found \(512,\)"),
    ],
)
def test_a_bad_value_names_field_expected_and_found(field, value, expected):
    with pytest.raises(InputError, match=rf"config\.method\.{field}: expected {expected}"):
        build(**{field: value})


def test_released_reduction_needs_all_pairs():
    with pytest.raises(InputError, match=r"config\.method\.reduction: expected 'mean'"):
        build(pairing="index", reduction="released")


def test_feature_norm_scores_by_the_raw_norms():
    method, batch = feature_norm.build({}, k=2), with_padding_rows(make_batch(), 2)
    stage = method.stages["train"]
    assert (stage.update, stage.fits) == (None, ())
    scores = jax.jit(method.score)({"train": stage.init(KEY, batch, {})}, batch)
    norms = np.linalg.norm(batch["features"][:8], axis=-1).mean(axis=1)
    norms = np.where(np.arange(5) < batch["length"][:8, None], norms, 0.0)
    np.testing.assert_allclose(scores.snippet[:8], norms, rtol=1e-5)
    np.testing.assert_allclose(scores.image[:8], np.sort(norms)[:, -2:].mean(1), rtol=1e-5)
    assert not scores.snippet[8:].any()
    assert not scores.image[8:].any()
    with pytest.raises(InputError, match=r"config\.method\.k: expected"):
        feature_norm.build({}, k=0)
