import contextlib
import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from layouts import AXIS, LAYOUTS, spread

from jaxad.losses import masked, mil, temporal_penalties

PRECISIONS = {  # Context, type, tolerance of float64 golden vectors.
    "float32": (contextlib.nullcontext, jnp.float32, 1e-5),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-9),
}
LABELS = jnp.array([0, 1, 1, 0, 0])
VALID = jnp.ones(5, bool)
BAGS = jnp.array([0.2, 0.9, 0.4, 0.1, 0.6])  # Anomalous 0.9, 0.4; normal 0.2, 0.1, 0.6.

COUPLED_BAGS = {
    "magnitude_hinge": jax.jit(partial(mil.magnitude_hinge, margin=1.0)),
    "all_pairs": jax.jit(mil.ranking_hinge_all_pairs),
    "index_pairs": jax.jit(mil.ranking_hinge_index_pairs),
    "released": jax.jit(mil.ranking_hinge_released),
}
COUPLED_SCORES = {
    "smoothness": jax.jit(temporal_penalties.smoothness_released),
    "sparsity": jax.jit(temporal_penalties.sparsity_released),
}


def value_and_grad(function, *args, **options):
    return jax.jit(jax.value_and_grad(function, *args, **options))


def grad(function):
    return jax.jit(jax.grad(function))


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0.05, 0.95, shape), jnp.float32)


# Magnitudes and top-k


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.vmap])
def test_magnitude_is_the_norm_and_its_gradient_the_direction(transform):
    features = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(transform(mil.feature_magnitude)(features), [5.0, 0.0])
    gradient = grad(lambda x: jnp.sum(mil.feature_magnitude(x)))(features)
    np.testing.assert_allclose(gradient, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


def test_magnitude_of_16_bit_features_is_float32():
    magnitude = mil.feature_magnitude(jnp.ones((2, 1024), jnp.bfloat16))
    assert magnitude.dtype == jnp.float32
    np.testing.assert_allclose(magnitude, [32.0, 32.0])


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_top_k_falls_and_takes_the_first_of_equals(transform):
    values = jnp.array([[1.0, 3.0, 3.0, 2.0], [0.0, -0.0, 0.0, -0.0]])
    indices, real = transform(partial(mil.top_k_indices, k=3))(values)
    np.testing.assert_array_equal(indices, [[1, 2, 3], [0, 1, 2]])
    assert real.all()


def test_top_k_beyond_the_length_takes_all():
    indices, real = mil.top_k_indices(jnp.array([1.0, 2.0]), 5)
    np.testing.assert_array_equal(indices, [1, 0])
    assert real.shape == (2,)


def test_masked_entries_are_chosen_last_whatever_they_hold():
    values = jnp.array([[9.0, -jnp.inf, 2.0, 8.0], [9.0, 1.0, 2.0, 8.0]])
    where = jnp.array([[False, True, True, False], [True, False, True, False]])
    indices, real = mil.top_k_indices(values, 3, where)
    np.testing.assert_array_equal(indices[:, :2], [[2, 1], [0, 2]])
    np.testing.assert_array_equal(real, [[True, True, False]] * 2)
    np.testing.assert_allclose(mil.top_k_mean(values, 3, where)[1], 5.5)


def test_top_k_mean_without_real_entries_is_zero_with_zero_gradient():
    loss = partial(mil.top_k_mean, k=2, where=jnp.zeros(4, bool))
    value, gradient = value_and_grad(loss)(jnp.ones(4))
    assert value == 0.0
    np.testing.assert_array_equal(gradient, jnp.zeros(4))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=5, max_size=5), st.permutations(range(5)))
def test_top_k_mean_ignores_order_and_falls_with_k(values, order):
    values = jnp.array(values, jnp.float32)
    means = [mil.top_k_mean(values, k) for k in range(1, 6)]
    shuffled = [mil.top_k_mean(values[jnp.array(order)], k) for k in range(1, 6)]
    np.testing.assert_allclose(shuffled, means, rtol=1e-5, atol=1e-4)
    assert (np.diff(means) <= 1e-4).all()
    np.testing.assert_allclose(means[-1], np.mean(values), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("k, error", [(0, ValueError), (2.0, TypeError)])
def test_bad_k_is_named(k, error):
    with pytest.raises(error, match="k: expected"):
        mil.top_k_indices(jnp.ones(3), k)


def test_expected_separability_peaks_where_k_is_the_number_of_anomalous_snippets():
    golden = vectors.load("rtfm", "separability")
    k, mu, eps = golden["k"], golden["mu"], golden["eps"]
    p = np.minimum(mu, k) / (k + eps)
    normal = golden["mean_normal"]
    anomalous = p * golden["mean_abnormal"] + (1 - p) * normal  # Eq. 8.4.
    with jax.enable_x64(True):
        curve = np.diagonal(mil.separability(jnp.asarray(anomalous), jnp.full(len(k), normal)))
    np.testing.assert_allclose(curve, golden["expected"], rtol=1e-9)
    assert k[np.argmax(curve)] == mu


# Magnitude losses


@pytest.mark.parametrize("precision", PRECISIONS)
def test_paper_magnitude_loss_matches_golden(precision):
    golden = vectors.load("rtfm", "losses_paper")
    context, dtype, rtol = PRECISIONS[precision]
    k, margin = int(golden["k"]), float(golden["margin"])
    split = len(golden["feat_a"])
    with context():
        features = jnp.asarray(np.concatenate([golden["feat_a"], golden["feat_n"]]), dtype)
        labels = jnp.array([1] * split + [0] * len(golden["feat_n"]))

        def loss(features):
            g = mil.top_k_mean(mil.feature_magnitude(features), k)
            return mil.magnitude_hinge(g, labels, labels >= 0, margin=margin), g

        indices, _ = mil.top_k_indices(mil.feature_magnitude(features), k)
        (hinge, g), gradient = value_and_grad(loss, has_aux=True)(features)
        assert hinge.dtype == dtype
        separability = mil.separability(g[:split], g[split:])
    close = partial(vectors.assert_close, rtol=rtol, atol=rtol)
    close(g, np.concatenate([golden["g_a"], golden["g_n"]]))
    close(hinge, golden["hinge_mean"])
    close(separability, golden["separability"])
    close(gradient, np.concatenate([golden["grad_feat_a"], golden["grad_feat_n"]]))
    np.testing.assert_array_equal(indices, np.concatenate([golden["idx_a"], golden["idx_n"]]))


def test_hinge_averages_all_pairs():
    # Margin 1: pairs (0.9, 0.4) x (0.2, 0.1, 0.6) cost 0.3 0.2 0.7 and 0.8 0.7 1.2.
    actual = mil.magnitude_hinge(BAGS, LABELS, VALID, margin=1.0)
    assert actual.shape == ()
    np.testing.assert_allclose(actual, (0.3 + 0.2 + 0.7 + 0.8 + 0.7 + 1.2) / 6, rtol=1e-6)


def test_hinge_gradient_reaches_only_the_chosen_snippets():
    features = jnp.array([[[3.0, 4.0], [0.0, 1.0]], [[0.0, 2.0], [1.0, 0.0]]])  # Anomalous, normal.

    def loss(features, margin):
        g = mil.top_k_mean(mil.feature_magnitude(features), 1)
        return mil.magnitude_hinge(g, jnp.array([1, 0]), jnp.ones(2), margin=margin)

    gradient = grad(loss)(features, 100.0)
    np.testing.assert_allclose(gradient, [[[-0.6, -0.8], [0, 0]], [[0, 1], [0, 0]]], rtol=1e-6)
    for margin in (3.0, 2.0):  # d = 3: at the margin and beyond it.
        value, gradient = value_and_grad(loss)(features, margin)
        assert value == 0.0
        assert not gradient.any()


def test_zero_features_cost_the_margin_and_its_square():
    features, labels = jnp.zeros((4, 2, 3, 5)), jnp.array([0, 0, 1, 1])
    magnitudes = jnp.mean(mil.feature_magnitude(features), axis=(1, 2))
    assert mil.magnitude_hinge(magnitudes, labels, jnp.ones(4), margin=100.0) == 100.0
    released = partial(mil.magnitude_released, labels=labels, valid=jnp.ones(4), margin=100.0)
    value, gradient = value_and_grad(released)(features)
    np.testing.assert_allclose(1e-4 * value, 1.0, rtol=1e-6)
    assert not gradient.any()


def released_batch(golden, kind):
    """`[N·B, k, D]`, crop-major, as `[B, N, k, D]`."""
    features = golden[kind]
    return features.reshape(2, 4, *features.shape[1:]).swapaxes(0, 1)


def test_released_losses_match_golden():
    golden = vectors.load("rtfm", "losses_released")
    features = jnp.asarray(
        np.concatenate([released_batch(golden, "feat_n"), released_batch(golden, "feat_a")])
    )
    scores = jnp.asarray(np.concatenate([golden["score_n"], golden["score_a"]]))
    labels, valid = jnp.repeat(jnp.array([0, 1]), 4), jnp.ones(8, bool)

    def loss(features, scores):
        magnitude = mil.magnitude_released(features, labels, valid, margin=100.0)
        classification = masked.mean(mil.bag_bce(scores, labels), valid)
        return classification + 1e-4 * magnitude, (classification, magnitude)

    (total, (cls, magnitude)), (g_features, g_scores) = value_and_grad(loss, (0, 1), has_aux=True)(
        features, scores
    )
    vectors.assert_close(total, golden["total"])
    vectors.assert_close(cls, golden["cls"])
    vectors.assert_close(magnitude, golden["magnitude"], rtol=2e-5)
    g = [released_batch(golden, "g_feat_n"), released_batch(golden, "g_feat_a")]
    vectors.assert_close(g_features, np.concatenate(g), rtol=2e-5, atol=2e-5)
    g = np.concatenate([golden["g_score_n"], golden["g_score_a"]])
    vectors.assert_close(g_scores, g, rtol=2e-5, atol=2e-5)


def test_released_magnitude_pairs_by_order_of_label_and_leaves_singles_out():
    v = jnp.array([1.0, 90.0, 80.0, 2.0, 50.0])  # Norms; the last normal one has no partner.
    features = v[:, None, None, None] * jnp.array([0.6, 0.8])
    actual = mil.magnitude_released(features, LABELS, VALID, margin=100.0)
    np.testing.assert_allclose(actual, ((10 + 1) ** 2 + (20 + 2) ** 2) / 2, rtol=1e-5)


def test_norm_of_the_mean_is_at_most_the_mean_of_the_norms():
    features = jnp.asarray(np.random.default_rng(0).normal(size=(20, 3, 6)))
    of_mean = mil.feature_magnitude(jnp.mean(features, axis=1))
    assert (of_mean <= jnp.mean(mil.feature_magnitude(features), axis=1)).all()


# Cross-entropies


def test_cross_entropy_of_hand_picked_probabilities():
    p, y = jnp.array([0.25, 0.25, 0.0, 1.0, 0.0, 1.0]), jnp.array([1, 0, 0, 1, 1, 0])
    actual = mil.binary_cross_entropy(p, y)
    np.testing.assert_allclose(
        actual, [np.log(4), np.log(4 / 3), 0.0, 0.0, 100.0, 100.0], rtol=1e-6
    )


@pytest.mark.parametrize("p", [0.0, 1e-45, 1e-39, 1e-38, 0.3, 1.0 - 6e-8, 1.0])
@pytest.mark.parametrize("y", [0, 1])
def test_cross_entropy_is_finite_with_its_gradient(p, y):
    value, gradient = value_and_grad(mil.binary_cross_entropy)(jnp.float32(p), jnp.int32(y))
    assert 0.0 <= value <= 100.0
    assert jnp.isfinite(gradient)


def test_cross_entropy_gradient():
    p, y = draw(4), jnp.array([0, 1, 0, 1])
    check_grads(lambda p: mil.binary_cross_entropy(p, y), (p,), order=1, rtol=1e-2)


def test_snippet_loss_sums_and_bag_loss_takes_the_mean_score():
    scores, labels = jnp.array([[0.5, 0.25], [0.5, 0.75]]), jnp.array([1, 0])
    np.testing.assert_allclose(mil.snippet_bce(scores, labels), [np.log(8)] * 2, rtol=1e-6)
    np.testing.assert_allclose(
        mil.bag_bce(scores, labels), [-np.log(0.375), -np.log(0.375)], rtol=1e-6
    )


@pytest.mark.parametrize("loss", [mil.snippet_bce, mil.bag_bce])
def test_chosen_padding_counts_for_nothing(loss):
    scores, labels = draw(2, 3), jnp.array([1, 0])
    where = jnp.array([[True, True, False], [False, False, False]])
    padded = jnp.where(where, scores, jnp.nan)
    value, gradient = value_and_grad(lambda s: loss(s, labels, where)[0])(padded)
    np.testing.assert_allclose(value, loss(scores[:1, :2], labels[:1])[0], rtol=1e-6)
    assert (gradient[~where] == 0).all()
    assert loss(padded, labels, where)[1] == 0.0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_paper_score_losses_match_golden(precision):
    golden = vectors.load("rtfm", "losses_paper")
    context, dtype, rtol = PRECISIONS[precision]
    with context():
        scores = jnp.asarray(np.concatenate([golden["scores_a"], golden["scores_n"]]), dtype)
        labels = jnp.array([1] * len(golden["scores_a"]) + [0] * len(golden["scores_n"]))
        indices = jnp.asarray(np.concatenate([golden["idx_a"], golden["idx_n"]]))

        def loss(scores):
            each = mil.snippet_bce(mil.take_snippets(scores, indices), labels)
            return masked.mean(each, True), each

        (value, each), gradient = value_and_grad(loss, has_aux=True)(scores)
        smooth, sparse = temporal_penalties.smoothness(scores), temporal_penalties.sparsity(scores)

    def both(name):
        return np.concatenate([golden[f"{name}_a"], golden[f"{name}_n"]])

    close = partial(vectors.assert_close, rtol=rtol, atol=rtol)
    close(each, both("bce_sum_per_video"))
    close(value, golden["bce_mean_over_videos"])
    close(gradient, both("grad_bce_scores"))
    close(smooth, both("smooth_per_video"))
    close(sparse, both("sparsity_per_video"))


# Smoothness and sparsity


def test_per_video_regularisers_by_hand():
    scores = jnp.array([[0.1, 0.4, 0.2], [0.5, 0.5, 0.9]])
    where = jnp.array([[True, True, True], [True, False, True]])
    np.testing.assert_allclose(
        temporal_penalties.smoothness(scores), [0.09 + 0.04, 0.16], rtol=1e-5
    )
    np.testing.assert_allclose(temporal_penalties.smoothness(scores, where), [0.13, 0.0], rtol=1e-5)
    np.testing.assert_allclose(temporal_penalties.sparsity(scores, where), [0.7, 1.4], rtol=1e-6)


@pytest.mark.parametrize("loss", [temporal_penalties.smoothness, temporal_penalties.sparsity])
def test_regulariser_of_padding_is_that_of_the_real_part(loss):
    scores = draw(2, 4)
    padded = jnp.concatenate([scores, jnp.full((2, 3), jnp.nan)], axis=1)
    where = jnp.arange(7) < 4
    value, gradient = value_and_grad(lambda s: jnp.sum(loss(s, where)))(padded)
    np.testing.assert_allclose(value, jnp.sum(loss(scores)), rtol=1e-6)
    expected = grad(lambda s: jnp.sum(loss(s)))(scores)
    np.testing.assert_allclose(gradient, jnp.pad(expected, ((0, 0), (0, 3))), rtol=1e-6)


def test_released_regularisers_match_golden():
    golden = vectors.load("rtfm", "losses_released")
    anomalous = jnp.asarray(golden["scores_flat"]).reshape(4, 32)
    scores = jnp.concatenate([draw(4, 32), anomalous])
    labels, valid = jnp.repeat(jnp.array([0, 1]), 4), jnp.ones(8)
    for loss, weight, name in (
        (temporal_penalties.smoothness_released, 8e-4, "smooth"),
        (temporal_penalties.sparsity_released, 8e-3, "sparsity"),
    ):
        value, gradient = value_and_grad(lambda s, f=loss, w=weight: w * f(s, labels, valid))(
            scores
        )
        vectors.assert_close(value, golden[name])
        vectors.assert_close(gradient[4:].reshape(-1), golden[f"g_{name}"], rtol=2e-5, atol=2e-5)
        assert not gradient[:4].any()


def test_released_smoothness_joins_anomalous_videos_only():
    scores = jnp.array([[0.1, 0.3], [0.9, 0.9], [0.6, 0.7]])  # Joined: 0.1 0.3 0.6 0.7.
    labels, valid = jnp.array([1, 0, 1]), jnp.ones(3)
    actual = temporal_penalties.smoothness_released(scores, labels, valid)
    np.testing.assert_allclose(actual, 0.04 + 0.09 + 0.01, rtol=1e-5)
    where = jnp.array([[True, False], [True, True], [True, True]])  # Joined: 0.1 0.6 0.7.
    actual = temporal_penalties.smoothness_released(scores, labels, valid, where)
    np.testing.assert_allclose(actual, 0.25 + 0.01, rtol=1e-5)


def test_constant_scores():
    scores, labels, valid = jnp.full((6, 32), 0.3), jnp.array([0, 1] * 3), jnp.ones(6)
    assert temporal_penalties.smoothness_released(scores, labels, valid) == 0.0
    actual = 8e-3 * temporal_penalties.sparsity_released(scores, labels, valid)
    np.testing.assert_allclose(actual, 8e-3 * 0.3 * np.sqrt(32 * 3), rtol=1e-6)


def test_released_sparsity_of_zero_scores_has_zero_gradient():
    gradient = grad(temporal_penalties.sparsity_released)(
        jnp.zeros((2, 3)), jnp.ones(2), jnp.ones(2)
    )
    np.testing.assert_array_equal(gradient, jnp.zeros((2, 3)))


# Ranking of bags


@pytest.mark.parametrize("precision", PRECISIONS)
def test_deepmil_losses_match_golden(precision):
    golden = vectors.load("rtfm", "losses_paper")
    context, dtype, rtol = PRECISIONS[precision]
    count = int(golden["deepmil_count"])
    with context():
        scores = np.concatenate([golden["scores_a"][:count], golden["scores_n"][:count]])
        scores, labels = jnp.asarray(scores, dtype), jnp.repeat(jnp.array([1, 0]), count)
        valid = jnp.ones(2 * count, bool)
        bags = mil.top_k_mean(scores, 1)
        all_pairs = COUPLED_BAGS["all_pairs"](bags, labels, valid)
        index_pairs = COUPLED_BAGS["index_pairs"](bags, labels, valid)

        def total(scores):
            hinge = mil.ranking_hinge_released(mil.top_k_mean(scores, 1), labels, valid)
            smooth = masked.total(temporal_penalties.smoothness(scores), labels == 1)
            sparse = masked.total(temporal_penalties.sparsity(scores), labels == 1)
            return hinge + 8e-5 * smooth + 8e-5 * sparse, (smooth, sparse)

        (value, (smooth, sparse)), gradient = value_and_grad(total, has_aux=True)(scores)
    close = partial(vectors.assert_close, rtol=rtol, atol=rtol)
    close(all_pairs, golden["deepmil_all_pairs_mean"])
    close(index_pairs, golden["deepmil_index_paired_mean"])
    close(smooth, golden["deepmil_smooth_sum"])
    close(sparse, golden["deepmil_sparsity_sum"])
    close(value, golden["deepmil_released_total"])
    expected = [golden["grad_deepmil_scores_a"], golden["grad_deepmil_scores_n"]]
    close(gradient, np.concatenate(expected))


def test_ranking_of_bags_by_hand():
    # Index pairs: (0.9, 0.2) and (0.4, 0.1); the third normal video has no partner.
    mean = 1.0 - (0.9 + 0.4) / 2 + (0.2 + 0.1 + 0.6) / 3
    np.testing.assert_allclose(mil.ranking_hinge_all_pairs(BAGS, LABELS, VALID), mean, rtol=1e-6)
    np.testing.assert_allclose(mil.ranking_hinge_released(BAGS, LABELS, VALID), 2 * mean, rtol=1e-6)
    np.testing.assert_allclose(
        mil.ranking_hinge_index_pairs(BAGS, LABELS, VALID), (0.3 + 0.7) / 2, rtol=1e-6
    )


@pytest.mark.parametrize(
    "bags, expected", [((0.0, 1.0), 0.0), ((0.5, 0.5), 1.0), ((1.0, 0.0), 2.0)]
)
def test_ranking_of_one_pair_lies_between_0_and_2(bags, expected):
    for loss in COUPLED_BAGS.values():
        assert loss(jnp.array(bags), jnp.array([0, 1]), jnp.ones(2)) == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6))
def test_ranking_of_scores_is_linear_so_that_pairing_does_not_matter(bags):
    bags, labels = jnp.array(bags, jnp.float32), jnp.array([0, 1, 1, 0, 1, 0])
    expected = 1.0 - jnp.mean(bags[labels == 1]) + jnp.mean(bags[labels == 0])
    for loss in (mil.ranking_hinge_all_pairs, mil.ranking_hinge_index_pairs):
        np.testing.assert_allclose(loss(bags, labels, jnp.ones(6)), expected, atol=1e-5)


# What all losses that couple videos share


@pytest.mark.parametrize("name", COUPLED_BAGS)
def test_bags_of_padding_rows_count_for_nothing(name):
    loss = COUPLED_BAGS[name]
    padded = jnp.concatenate([BAGS, jnp.full(2, jnp.nan)])
    labels, valid = jnp.concatenate([LABELS, jnp.array([0, 1])]), jnp.arange(7) < 5
    value, gradient = value_and_grad(loss)(padded, labels, valid)
    expected = value_and_grad(loss)(BAGS, LABELS, VALID)
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, jnp.pad(expected[1], (0, 2)), rtol=1e-6)


@pytest.mark.parametrize("name", COUPLED_SCORES)
def test_scores_of_padding_rows_count_for_nothing(name):
    loss, scores = COUPLED_SCORES[name], draw(5, 4)
    padded = jnp.concatenate([scores, jnp.full((2, 4), jnp.nan)])
    labels, valid = jnp.concatenate([LABELS, jnp.array([0, 1])]), jnp.arange(7) < 5
    value, gradient = value_and_grad(loss)(padded, labels, valid)
    expected = value_and_grad(loss)(scores, LABELS, VALID)
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, jnp.pad(expected[1], ((0, 2), (0, 0))), rtol=1e-6)


def test_released_magnitude_ignores_padding():
    features, where = draw(5, 2, 3, 4) * 60, jnp.arange(15).reshape(5, 3) % 4 > 0
    expected = mil.magnitude_released(features, LABELS, VALID, where=where)
    bad = jnp.where(where[:, None, :, None], features, jnp.nan)
    bad = jnp.concatenate([bad, jnp.full((1, 2, 3, 4), jnp.nan)])
    labels, valid = jnp.append(LABELS, 1), jnp.append(VALID, False)
    where = jnp.concatenate([where, jnp.ones((1, 3), bool)])
    loss = partial(mil.magnitude_released, labels=labels, valid=valid, where=where)
    value, gradient = value_and_grad(loss)(bad)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("label", [0, 1])
def test_an_empty_half_gives_zero_with_zero_gradient(label):
    labels = jnp.full(5, label)
    losses = [partial(f, labels=labels, valid=VALID) for f in COUPLED_BAGS.values()]
    for loss in losses:
        value, gradient = value_and_grad(loss)(BAGS)
        assert value == 0.0
        assert not gradient.any()
    loss = partial(mil.magnitude_released, labels=labels, valid=VALID)
    value, gradient = value_and_grad(loss)(draw(5, 2, 3, 4))
    assert value == 0.0
    assert not gradient.any()
    for loss in COUPLED_SCORES.values():
        value, gradient = value_and_grad(loss)(draw(5, 4), jnp.zeros(5), VALID)
        assert value == 0.0
        assert not gradient.any()


@pytest.mark.parametrize("name", [*COUPLED_BAGS, *COUPLED_SCORES])
def test_coupled_gradients(name):
    if name in COUPLED_BAGS:
        check_grads(partial(COUPLED_BAGS[name], labels=LABELS, valid=VALID), (BAGS,), order=1)
    else:
        loss = partial(COUPLED_SCORES[name], labels=LABELS, valid=VALID)
        check_grads(loss, (draw(5, 4),), order=1)


def coupled_losses(weights, rows, axis_name):
    """All losses that couple videos, weighed differently, as one scalar."""
    where = rows["where"]
    features = rows["features"] * weights  # [B, 2, 3, 4]
    scores = jax.nn.sigmoid(jnp.sum(jnp.mean(features, 1), -1))  # [B, 3]
    magnitudes = jnp.mean(mil.feature_magnitude(features), axis=1)
    of = {"labels": rows["label"], "valid": rows["valid"], "axis_name": axis_name}
    bags = mil.top_k_mean(scores, 2, where)
    return {
        "hinge": mil.magnitude_hinge(mil.top_k_mean(magnitudes, 2, where), margin=4.0, **of),
        "released": mil.magnitude_released(features, margin=4.0, where=where, **of),
        "smooth": temporal_penalties.smoothness_released(scores, where=where, **of),
        "sparse": temporal_penalties.sparsity_released(scores, where=where, **of),
        "all": mil.ranking_hinge_all_pairs(bags, **of),
        "index": mil.ranking_hinge_index_pairs(bags, **of),
        "sum": mil.ranking_hinge_released(bags, **of),
        "snippet": masked.mean(
            mil.snippet_bce(scores, rows["label"], where), rows["valid"], axis_name=axis_name
        ),
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_eight_devices_give_the_value_and_gradient_of_one(layout):
    rng = np.random.default_rng(1)
    rows = {
        "features": jnp.asarray(rng.normal(size=(16, 2, 3, 4)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, 2, 16)).at[:2].set(1),  # No normal one on device 0.
        "valid": jnp.arange(16) < 13,  # Device 7 holds padding alone.
        "where": jnp.asarray(rng.uniform(size=(16, 3)) < 0.8).at[:, 0].set(True),
    }
    weights = jnp.array([0.5, -1.0, 2.0, 1.0])

    def gradients(rows, axis_name):
        each = coupled_losses(weights, rows, axis_name)
        return each, {
            name: grad(lambda w, n=name: coupled_losses(w, rows, axis_name)[n])(weights)
            for name in each
        }

    def on_device(rows):
        value, gradient = gradients(rows, AXIS)
        return value, jax.lax.pmean(gradient, AXIS)

    actual = spread(layout, on_device, rows)
    expected = jax.jit(partial(gradients, axis_name=None))(rows)
    assert all(v != 0 for v in expected[0].values())
    for name in expected[0]:
        np.testing.assert_allclose(actual[0][name], expected[0][name], rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(
            actual[1][name], expected[1][name], rtol=2e-5, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("name", COUPLED_BAGS)
def test_16_bit_bags_give_float32(name):
    actual = COUPLED_BAGS[name](BAGS.astype(jnp.bfloat16), LABELS, VALID)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, COUPLED_BAGS[name](BAGS, LABELS, VALID), rtol=1e-2)


@pytest.mark.parametrize("name", COUPLED_BAGS)
def test_errors_name_argument_expected_and_got(name):
    loss = COUPLED_BAGS[name]
    with pytest.raises(ValueError, match=r"labels: expected shape \(5,\), got \(1,\)"):
        loss(BAGS, LABELS[:1], VALID)
    with pytest.raises(ValueError, match=r"valid: expected shape \(5,\), got \(5, 1\)"):
        loss(BAGS, LABELS, VALID[:, None])
    with pytest.raises(TypeError, match="expected a floating-point array, got int32"):
        loss(LABELS, LABELS, VALID)
    with pytest.raises(ValueError, match=r"expected axes \[B\], got \(5, 1\)"):
        loss(BAGS[:, None], LABELS, VALID)


def test_shape_errors_of_other_losses():
    with pytest.raises(ValueError, match=r"features: expected axes \[B, N, k, D\], got \(5, 3\)"):
        mil.magnitude_released(draw(5, 3), LABELS, VALID)
    with pytest.raises(ValueError, match=r"where: expected shape \(5, 3\), got \(5,\)"):
        mil.magnitude_released(draw(5, 2, 3, 4), LABELS, VALID, where=VALID)
    with pytest.raises(ValueError, match=r"scores: expected axes \[B, T\]"):
        temporal_penalties.smoothness_released(draw(5), LABELS, VALID)
    with pytest.raises(ValueError, match=r"labels: expected shape \(5,\), got \(2,\)"):
        mil.snippet_bce(draw(5, 3), LABELS[:2])
    with pytest.raises(ValueError, match=r"normal: expected axes \[B_n\]"):
        mil.separability(BAGS, BAGS[None])


def test_options_are_keyword_only_and_every_public_function_is_documented():
    for name in mil.__all__:
        function = getattr(mil, name)
        assert function.__doc__, name
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name in ("margin", "axis_name"):
                assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_logarithm_is_below_minus_100(precision):
    context, dtype, _ = PRECISIONS[precision]
    with context():
        p = jnp.array([0.0, 5e-324, 1e-300, 1e-44, 1e-40], dtype)
        loss, gradient = jax.vmap(jax.value_and_grad(mil.binary_cross_entropy), (0, None))(p, 1.0)
        # e^-100 is 3.7e-44: float64 holds the last one, -log 1e-40 = 92.1, float32 as a subnormal.
        last = 100.0 if precision == "float32" else 40.0 * np.log(10.0)
    np.testing.assert_allclose(loss, [100.0] * 4 + [last], rtol=1e-6)
    assert np.all(np.isfinite(gradient))
    assert not np.any(gradient[:4])
