import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import AXIS, LAYOUTS, spread

from jaxad.losses import contrastive, masked, relations

PRECISIONS = {  # Context, type, tolerance of float64 golden vectors.
    "float32": (contextlib.nullcontext, jnp.float32, 2e-6),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-10),
}
FORMS = {
    "symmetric": relations.all_other_rows,
    "printed_4_2": relations.same_strong_other_view,
    "same_strong_both_views": relations.same_strong_both_views,
    "other_instances_any_strong": relations.other_images,
    "released": lambda image, strong, view: relations.first_view_anchors(
        relations.all_other_rows(image, strong, view), view
    ),
}
# The temperature is traced: one compilation for all.
nt_xent = jax.jit(contrastive.nt_xent)
released = jax.jit(contrastive.contrastive_distribution_released)
supervised_contrastive = jax.jit(contrastive.supervised_contrastive)


def unit(*shape, seed=0):
    x = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True), jnp.float32)


# Golden vectors


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("form", FORMS)
def test_golden_forms(form, precision):
    golden = vectors.load("ccd", "contrastive_forms")
    relation = FORMS[form](golden["image_id"], golden["strong_id"], golden["view_id"])
    temperature = float(golden["temperature"])
    context, dtype, tolerance = PRECISIONS[precision]

    def loss(features):
        each = contrastive.masked_info_nce(features, *relation, temperature=temperature)
        return masked.mean(each, relation.anchor)

    with context():
        features = jnp.asarray(golden["features"], dtype)
        value, gradient = jax.jit(jax.value_and_grad(loss))(features)
    vectors.assert_close(value, golden[f"{form}/loss"], rtol=tolerance)
    vectors.assert_close(gradient, golden[f"{form}/grad_features"], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", ["b4_d8_t0.2", "b6_d128_t0.2", "b1_d8_t0.2", "b3_d5_t0.07"])
def test_golden_released(case):
    golden = vectors.part(vectors.load("ccd", "contrastive_released"), f"{case}/")
    temperature = float(golden["temperature"])

    @jax.jit
    @jax.value_and_grad
    def loss(features):
        return jnp.mean(
            contrastive.contrastive_distribution_released(features, temperature=temperature)
        )

    value, gradient = loss(golden["features"])
    np.testing.assert_allclose(value, golden["loss"], rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(gradient, golden["grad_features"], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_golden_released_with_unnormalised_features(precision):
    golden = vectors.part(vectors.load("ccd", "contrastive_released"), "large/")
    context, dtype, tolerance = PRECISIONS[precision]
    loss = jax.value_and_grad(lambda x: jnp.mean(contrastive.contrastive_distribution_released(x)))
    with context():
        value, gradient = jax.jit(loss)(jnp.asarray(golden["features"], dtype))
    vectors.assert_close(value, golden["loss_float64"], rtol=tolerance)
    vectors.assert_close(gradient, golden["grad_features_float64"], rtol=tolerance, atol=tolerance)


def test_golden_released_of_equal_rows():
    golden = vectors.part(vectors.load("ccd", "contrastive_released"), "equal/")
    each = released(golden["features"])
    assert each.shape == (5,)
    np.testing.assert_allclose(each, np.full(5, golden["loss"]), rtol=1e-6)


def test_golden_released_of_a_model_whose_rows_interleave_the_views():
    golden = vectors.part(vectors.load("ccd", "heads_and_model"), "model/train/")
    each = released(golden["features"].reshape(3, 2, 16))
    vectors.assert_close(jnp.mean(each), golden["contrastive"], rtol=2e-6)


# Closed forms and limits


@pytest.mark.parametrize("items", [1, 2, 7])
def test_equal_rows_cost_the_logarithm_of_their_number(items):
    # All similarities are the same: the positive's share is 1 of 2 B - 1.
    each = nt_xent(jnp.broadcast_to(unit(4), (items, 2, 4)))
    assert each.shape == (items, 2)
    np.testing.assert_allclose(each, np.full((items, 2), np.log(2 * items - 1)), atol=1e-6)


def test_two_items_by_hand():
    # Views of an item are equal, the items orthogonal: exp(1/τ) against exp(1/τ) + 2 exp(0).
    features = jnp.repeat(jnp.eye(2)[:, None], 2, axis=1)
    each = nt_xent(features, temperature=0.5)
    np.testing.assert_allclose(each, np.full((2, 2), np.log1p(2 * np.exp(-2.0))), rtol=1e-6)


def test_single_item_costs_nothing_with_zero_gradient():
    run = jax.jit(jax.value_and_grad(lambda x: jnp.sum(contrastive.nt_xent(x))))
    value, gradient = run(unit(1, 2, 5))
    np.testing.assert_allclose(value, 0.0, atol=1e-6)
    np.testing.assert_allclose(gradient, np.zeros((1, 2, 5)), atol=1e-6)


def test_zero_vectors_cost_as_equal_ones():
    np.testing.assert_allclose(nt_xent(jnp.zeros((3, 2, 4))), np.full((3, 2), np.log(5)), rtol=1e-6)


def test_high_temperature_counts_rows_and_low_temperature_takes_the_nearest():
    features = unit(4, 2, 3, seed=1)
    np.testing.assert_allclose(nt_xent(features, temperature=1e6), np.log(7), rtol=1e-5)
    rows = np.asarray(features, np.float64).reshape(8, 3)
    similarity = rows @ rows.T - 1e9 * np.eye(8)
    hardest = similarity.max(axis=1) - similarity[np.arange(8), np.arange(8) ^ 1]
    low = 1e-4 * nt_xent(features, temperature=1e-4)
    np.testing.assert_allclose(low.reshape(-1), hardest, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.05, 5.0))
def test_unit_features_stay_within_the_bounds(seed, temperature):
    each = nt_xent(unit(3, 2, 4, seed=seed), temperature=temperature)
    low, high = np.log1p(4 * np.exp(np.array([-2, 2]) / temperature))
    assert np.all(each >= low - 1e-5)
    assert np.all(each <= high * (1 + 1e-5))


def test_agrees_with_optax_on_unit_features():
    features = unit(5, 2, 6, seed=2)
    expected = optax.losses.ntxent(features.reshape(10, 6), jnp.repeat(jnp.arange(5), 2), 0.2)
    np.testing.assert_allclose(jnp.mean(nt_xent(features)), expected, rtol=1e-6)


# Symmetries


def test_order_of_items_does_not_matter():
    features, order = unit(6, 2, 4, seed=3), np.random.default_rng(0).permutation(6)
    np.testing.assert_allclose(nt_xent(features[order]), nt_xent(features)[order], rtol=2e-6)


def test_swapping_views_matters_to_the_released_loss_alone():
    features = unit(4, 2, 5, seed=4)
    np.testing.assert_allclose(nt_xent(features[:, ::-1]), nt_xent(features)[:, ::-1], rtol=2e-6)
    assert not np.allclose(released(features[:, ::-1]), released(features), rtol=1e-2)


def test_released_values_are_those_of_the_first_views():
    features, valid = unit(4, 2, 5, seed=5), jnp.array([True, True, False, True])
    np.testing.assert_array_equal(released(features, valid), nt_xent(features, valid)[:, 0])


def test_rotating_all_features_changes_nothing():
    features = unit(4, 2, 5, seed=6)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))
    rotated = features @ jnp.asarray(rotation, jnp.float32)
    np.testing.assert_allclose(nt_xent(rotated), nt_xent(features), rtol=1e-5)


# Padding


@pytest.mark.parametrize("function", [nt_xent, released])
def test_padding_changes_neither_value_nor_gradient(function):
    features, real = unit(5, 2, 4, seed=7), jnp.array([0, 1, 4])
    valid = jnp.zeros(5, bool).at[real].set(True)
    padded = jnp.where(valid[:, None, None], features, jnp.nan)
    weights = jnp.array([1.0, 2.0, -3.0, 0.5, 1.5])

    def weighted(x, valid, weights):
        each = function(x, valid)
        return jnp.sum(each.T @ weights), each

    run = jax.jit(jax.grad(weighted, has_aux=True))
    gradient, each = run(padded, valid, weights)
    inner_gradient, inner = run(features[real], None, weights[real])
    np.testing.assert_allclose(each[real], inner, rtol=2e-6)
    np.testing.assert_array_equal(each[~valid], np.zeros_like(each[~valid]))
    np.testing.assert_allclose(gradient[real], inner_gradient, atol=1e-5)
    np.testing.assert_array_equal(gradient[~valid], np.zeros((2, 2, 4)))


def test_one_image_leaves_the_printed_loss_nothing_to_contrast():
    view = np.tile([0, 1], 3)
    relation = relations.same_strong_other_view(np.zeros(6, int), np.repeat([0, 1, 2], 2), view)
    loss = lambda x: jnp.sum(contrastive.masked_info_nce(x, *relation))  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(loss))(unit(6, 4))
    np.testing.assert_allclose(value, 0.0, atol=1e-6)
    np.testing.assert_allclose(gradient, np.zeros((6, 4)), atol=1e-6)


# The general core


def test_core_against_loops_over_pairs():
    rng = np.random.default_rng(8)
    features = rng.normal(size=(6, 3))
    positive = np.triu(rng.random((6, 6)) < 0.6, 1)  # The last row has none.
    denominator = positive | (rng.random((6, 6)) < 0.5)
    anchor = np.array([1, 0, 1, 1, 1, 1], bool)
    scale = rng.uniform(1, 4, (6, 6))
    expected = np.zeros(6)
    for r in np.flatnonzero(anchor & positive.any(1)):
        s = features @ features[r]
        terms = [np.exp(scale[r, q] * s[q]) for q in range(6) if denominator[r, q]]
        expected[r] = np.log(sum(terms)) - np.mean([s[p] / 0.7 for p in range(6) if positive[r, p]])
    actual = contrastive.masked_info_nce(
        jnp.asarray(features, jnp.float32),
        *(positive, denominator, anchor),
        temperature=0.7,
        denominator_scale=jnp.asarray(scale, jnp.float32),
    )
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_array_equal(actual[jnp.array([1, 5])], [0.0, 0.0])


def test_long_vectors_keep_the_others_in_sight():
    # f·f = 4e4 of each row itself would let exp(s - maximum) of all others underflow.
    features = 200.0 * jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, -1.0], [-1.0, 0.0]]])
    # Item 0, view 0: s = 0 with its positive, 0 and -4e4 with the others: a share of 1/2.
    np.testing.assert_allclose(nt_xent(features)[0, 0], np.log(2.0), rtol=1e-6)


@pytest.mark.parametrize("case", ["B2_K2_D5", "B3_K4_D8"])
def test_golden_supervised_contrastive_on_classes(case):
    golden = vectors.part(vectors.load("pmsacl", "losses"), f"{case}/")
    directions = golden["centred_normalised"].astype(np.float32)
    images, classes, _, dim = directions.shape
    each = supervised_contrastive(
        directions.reshape(-1, 2, dim),
        np.tile(np.arange(classes), images),
        temperature=float(golden["tau"]),
    )
    assert each.shape == (images * classes, 2)
    vectors.assert_close(jnp.mean(each), golden["supcon_on_classes"], rtol=1e-6)


def test_supervised_contrastive_of_all_different_labels_is_nt_xent():
    features = unit(4, 2, 5, seed=9)
    actual = supervised_contrastive(features, jnp.arange(4))
    np.testing.assert_allclose(actual, nt_xent(features), rtol=2e-6)


# Devices


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mean_over_eight_devices_is_that_of_one(layout):
    # Device 0 has one real item of two, device 7 none.
    rows = {"inputs": unit(16, 2, 4, seed=10), "valid": (np.arange(16) < 13) & (np.arange(16) != 1)}
    weights = jnp.array([0.5, -1.0, 2.0, 1.0])

    def loss(weights, rows, axis_name):
        features, valid = rows["inputs"] * weights, rows["valid"]
        both = contrastive.nt_xent(features, valid, axis_name=axis_name)
        first = contrastive.contrastive_distribution_released(features, valid, axis_name=axis_name)
        return masked.mean(both, valid[:, None], axis_name=axis_name) - 2.0 * masked.mean(
            first, valid, axis_name=axis_name
        )

    def on_device(rows):
        value, gradient = jax.value_and_grad(loss)(weights, rows, AXIS)
        return value, jax.lax.pmean(gradient, AXIS)

    actual = spread(layout, on_device, rows)
    expected = jax.jit(jax.value_and_grad(partial(loss, axis_name=None)))(weights, rows)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(actual[1], expected[1], rtol=2e-5, atol=1e-6)


def test_no_block_larger_than_own_anchors_against_all_rows():
    def on_device(rows):
        return jax.lax.pmean(jnp.mean(contrastive.nt_xent(rows, axis_name=AXIS)), AXIS)

    text = str(jax.make_jaxpr(lambda rows: spread("shard_map", on_device, rows))(unit(16, 2, 4)))
    # 2 items of each of 8 devices: 4 own rows against 32.
    assert "f32[4,32]" in text
    assert "[32,32]" not in text
