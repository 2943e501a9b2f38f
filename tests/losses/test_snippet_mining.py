from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.losses import masked, mil, snippet_mining, temporal_penalties

SCORES = np.random.default_rng(0).random((3, 12))


def positives(text):
    return jnp.array([c == "1" for c in text])


def text(mask):
    return "".join("1" if x else "0" for x in np.asarray(mask))


@pytest.fixture(scope="module")
def mining():
    return vectors.load("ctmil", "mining")


def test_released_masks_match_golden(mining):
    binary = snippet_mining.binarise(jnp.asarray(mining["scores"]))
    np.testing.assert_array_equal(binary, mining["binary"].astype(bool))
    edges = snippet_mining.temporal_edges_released(binary)
    missed = snippet_mining.missed_snippets_released(binary)
    np.testing.assert_array_equal(edges, mining["edge_inner"].astype(bool))
    np.testing.assert_array_equal(missed, mining["missed"].astype(bool))
    np.testing.assert_array_equal(edges | missed, mining["hard_abnormal_mask"].astype(bool))
    ring = snippet_mining.outer_ring_released(binary)
    np.testing.assert_array_equal(ring, mining["edge_outer"].astype(bool))


def test_masks_of_the_text_match_golden(mining):
    scores = jnp.asarray(mining["scores"])
    binary = snippet_mining.binarise(scores, threshold=float(mining["paper_eps"]))
    np.testing.assert_array_equal(binary, mining["paper_binary"].astype(bool))
    edges = snippet_mining.temporal_edges(binary)
    window, required = int(mining["paper_K"]), int(mining["paper_R"])
    missed = snippet_mining.missed_snippets(binary, window=window, required=required)
    np.testing.assert_array_equal(edges, mining["paper_edge"].astype(bool))
    np.testing.assert_array_equal(missed, mining["paper_missed"].astype(bool))
    np.testing.assert_array_equal(edges | missed, mining["paper_hard"].astype(bool))


def one_hot(indices, length=32):
    return np.any(np.asarray(indices)[..., None] == np.arange(length), axis=-2)


@pytest.mark.parametrize(
    "name, choose",
    [
        ("easy_abnormal_idx", partial(snippet_mining.highest, k=4)),
        ("easy_normal_idx", partial(snippet_mining.lowest, k=4)),
        ("hard_normal_idx", partial(snippet_mining.highest, k=2)),
    ],
)
def test_selections_match_golden(mining, name, choose):
    distinct = slice(int(mining["distinct_from"]), None)
    actual = choose(jnp.asarray(mining["scores"][distinct]))
    np.testing.assert_array_equal(actual, one_hot(mining[name][distinct]))


def test_hardest_anomalous_snippets_match_golden(mining):
    distinct = int(mining["distinct_from"])
    marked = jnp.asarray(mining["hard_abnormal_mask"][distinct:]).astype(bool)
    actual = snippet_mining.highest(jnp.asarray(mining["scores"][distinct:]), 2, marked)
    assert (mining["hard_abnormal_available"][distinct:] >= 2).all()
    np.testing.assert_array_equal(actual, one_hot(mining["hard_abnormal_idx"][distinct:]))


def test_selections_under_a_dropout_mask_match_golden(mining):
    # Row i of the normal copies is row i of `keep`, of the anomalous copies row 22 + i.
    scores, keep = jnp.asarray(mining["scores"]), jnp.asarray(mining["keep"])
    distinct = slice(int(mining["distinct_from"]), None)
    normal, anomalous = keep[:22], keep[22:]
    easy_anomalous = snippet_mining.highest(scores * anomalous, 4)
    hard_normal = snippet_mining.highest(scores * normal, 2)
    easy_normal = snippet_mining.highest(
        (jnp.max(scores, axis=-1, keepdims=True) - scores) * normal, 4
    )
    for actual, name in (
        (easy_anomalous, "masked_easy_abnormal_idx"),
        (hard_normal, "masked_hard_normal_idx"),
        (easy_normal, "masked_easy_normal_idx"),
    ):
        expected = one_hot(mining[name][distinct])
        np.testing.assert_array_equal(actual[distinct], expected, err_msg=name)


def test_median_lies_between_the_middle_two_and_equal_scores_give_none():
    scores = jnp.array([[4.0, 1.0, 3.0, 2.0, 9.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    where = jnp.array([True, True, True, True, False])  # Median of 1 2 3 4 is 2.5.
    actual = snippet_mining.binarise(scores, where)
    np.testing.assert_array_equal(actual, [[True, False, True, False, False], [False] * 5])
    assert not snippet_mining.binarise(scores, jnp.zeros(5, bool)).any()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=12, max_size=12))
def test_mining_by_median_depends_on_the_order_alone(values):
    scores = jnp.array(values, jnp.float32)
    a, b = snippet_mining.binarise(scores), snippet_mining.binarise(2.0 * scores - 3.0)
    np.testing.assert_array_equal(a, b)
    assert a.sum() <= 6


@pytest.mark.parametrize(
    "run, edges, released",
    [
        ("00111100", "00100100", "00010100"),
        ("00111000", "00101000", "00011000"),
        ("00110000", "00110000", "00010000"),
        ("00100000", "00100000", "00000000"),
        ("11110000", "10010000", "01010000"),
    ],
)
def test_edges_by_hand(run, edges, released):
    assert text(snippet_mining.temporal_edges(positives(run))) == edges
    assert text(snippet_mining.temporal_edges_released(positives(run))) == released


def test_missed_snippets_by_hand():
    run = positives("0110111000")
    # Windows of 4 with 3 positives: 1-4 (0110 11 -> 1101), 2-5, 3-6 (0111), 4-7 (1110).
    actual = snippet_mining.missed_snippets(run, window=4, required=3)
    assert text(actual) == "0001000100"
    where = jnp.arange(10) < 7  # The window 4-7 then leaves the video.
    assert text(snippet_mining.missed_snippets(run, where, window=4, required=3)) == "0001000000"


def test_last_window_is_tried_by_the_text_alone():
    run = positives("000001110")
    assert text(snippet_mining.missed_snippets(run, window=4, required=3)) == "000010001"
    released = snippet_mining.missed_snippets_released(run, window=4, required=3)
    assert text(released) == "000010000"


def test_no_window_fits_a_short_video():
    assert not snippet_mining.missed_snippets(positives("11011"), window=6, required=1).any()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.booleans(), min_size=16, max_size=16))
def test_edges_are_positive_and_missed_snippets_are_not(values):
    positive = jnp.array(values)
    assert not (snippet_mining.temporal_edges(positive) & ~positive).any()
    assert not (snippet_mining.missed_snippets(positive, window=5, required=4) & positive).any()


def test_fraction_chooses_a_part_of_the_real_snippets():
    where = jnp.arange(12) < jnp.array([[12], [8], [3]])
    chosen = snippet_mining.highest(jnp.asarray(SCORES), 0.25, where)
    np.testing.assert_array_equal(chosen.sum(-1), [3, 2, 1])
    means = mil.top_k_mean(jnp.asarray(SCORES, jnp.float32), 0.25, where)
    expected = [
        np.sort(row[:n])[-m:].mean()
        for row, n, m in zip(SCORES, (12, 8, 3), (3, 2, 1), strict=True)
    ]
    np.testing.assert_allclose(means, expected, rtol=1e-6)


def flat_sets(golden):
    """The four sets as masks over one row of snippets."""
    sizes = {name: len(golden[name]) for name in ("HA", "EA", "HN", "EN")}
    embeddings = np.concatenate([golden[name] for name in sizes])[None]
    starts = np.cumsum([0, *sizes.values()])
    place = np.arange(starts[-1])
    masks = {
        name: jnp.asarray((place >= a) & (place < b))[None]
        for name, a, b in zip(sizes, starts[:-1], starts[1:], strict=True)
    }
    return embeddings, masks


@pytest.mark.parametrize("form", ["normalised", "raw"])
def test_contrast_of_the_text_matches_golden(form):
    golden = vectors.load("ctmil", "losses_paper")
    embeddings, masks = flat_sets(golden)
    expected = vectors.part(golden, f"{form}/")
    with jax.enable_x64(True):

        def loss(x):
            x = masked.unit(x) if form == "normalised" else x
            of = partial(snippet_mining.contrast, x, temperature=float(expected["tau"]))
            return of(masks["HA"], masks["EA"], masks["EN"]) + of(
                masks["HN"], masks["EN"], masks["EA"]
            )

        value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(embeddings, jnp.float64))
    np.testing.assert_allclose(value, expected["mean"], rtol=1e-9)
    for name, mask in masks.items():
        actual = gradient[np.asarray(mask)]
        vectors.assert_close(actual, expected[f"g_mean_{name}"], rtol=1e-6, atol=1e-9)


def test_released_contrast_matches_golden():
    golden = vectors.load("ctmil", "losses_released")

    def loss(ha, ea, en, hn):
        a = jnp.mean(snippet_mining.contrast_released(ha, ea, en))
        n = jnp.mean(snippet_mining.contrast_released(hn, en, ea))
        return a + n, (a, n)

    names = ("H_Abn", "E_Abn", "E_Nor", "H_Nor_top_k")
    given = [jnp.asarray(golden[f"in_{name}"]) for name in names]
    run = jax.jit(jax.value_and_grad(loss, argnums=range(4), has_aux=True))
    (value, (anomalous, normal)), gradients = run(*given)
    np.testing.assert_allclose(value, golden["contrast"], rtol=1e-5)
    np.testing.assert_allclose(anomalous, golden["contrast_abnormal"], rtol=1e-5)
    np.testing.assert_allclose(normal, golden["contrast_normal"], rtol=1e-5)
    for name, gradient in zip(names, gradients, strict=True):
        vectors.assert_close(gradient, golden[f"g_{name}"], atol=5e-5)


def test_contrast_by_hand():
    # One hard, one easy, both e1; M = 2 orthogonal negatives: log(1 + 2 exp(-1/τ)).
    x = jnp.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]])
    hard, easy, negatives = (jnp.array([row]) for row in np.eye(4, dtype=bool)[:3])
    negatives = negatives | jnp.array([[False, False, False, True]])
    actual = snippet_mining.contrast(x, hard, easy, negatives, temperature=0.5)
    np.testing.assert_allclose(actual, np.log(1 + 2 * np.exp(-2.0)), rtol=1e-6)
    same = snippet_mining.contrast(jnp.ones_like(x), hard, easy, negatives)
    np.testing.assert_allclose(same, np.log(3.0), rtol=1e-6)
    np.testing.assert_array_equal(
        snippet_mining.contrast(x, hard, easy, jnp.zeros((1, 4), bool)), 0.0
    )


def test_published_objective_of_the_scores_matches_golden():
    golden = vectors.load("ctmil", "losses_released")
    scores = jnp.asarray(golden["scores"])
    labels = jnp.array([0] * 4 + [1] * 4)

    def loss(flat):
        s = flat.reshape(8, 32)
        ranking = mil.ranking_hinge_index_pairs(mil.top_k_mean(s, 3), labels, labels >= 0)
        smooth = temporal_penalties.smoothness(s)
        sparse = masked.norm(s, True, axis=-1)
        return ranking + 8e-5 * masked.mean(smooth + sparse, labels == 1), (smooth[4], sparse[4])

    (value, (smooth, sparse)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(scores)
    np.testing.assert_allclose(value, golden["ranking"], rtol=1e-5)
    np.testing.assert_allclose(8e-5 * smooth, golden["smooth_first_abnormal"], rtol=1e-5)
    np.testing.assert_allclose(8e-5 * sparse, golden["sparsity_first_abnormal"], rtol=1e-5)
    vectors.assert_close(gradient, golden["g_ranking"], atol=5e-5)


def test_regulariser_and_pairs_of_the_text_match_golden():
    golden = vectors.load("ctmil", "losses_paper")
    with jax.enable_x64(True):
        for kind in "an":
            scores = jnp.asarray(golden[f"scores_{kind}"], jnp.float64)
            smooth = float(golden["alpha"]) * temporal_penalties.mean_smoothness(scores)
            sparse = float(golden["beta"]) * temporal_penalties.mean_sparsity(scores)
            np.testing.assert_allclose(smooth + sparse, golden[f"reg_per_video_{kind}"], rtol=1e-9)
        both = jnp.asarray(np.concatenate([golden["scores_a"], golden["scores_n"]]), jnp.float64)
        labels = jnp.array([1] * 3 + [0] * 4)
        bags = mil.top_k_mean(both, int(golden["k"]))
        actual = mil.ranking_hinge_all_pairs(bags, labels, labels >= 0)
    np.testing.assert_allclose(actual, golden["hinge_mean"], rtol=1e-9)


def test_chosen_of_leading_axes_are_those_of_each_row():
    where = SCORES > 0.2
    together = snippet_mining.highest(SCORES.reshape(3, 2, 6), 2, where.reshape(3, 2, 6))
    rows = [snippet_mining.highest(*row) for row in _rows_of(where)]
    assert together.shape == (3, 2, 6)
    np.testing.assert_array_equal(together.reshape(6, 6), rows)


def _rows_of(where):
    return [(s, 2, w) for s, w in zip(SCORES.reshape(6, 6), where.reshape(6, 6), strict=True)]


def test_memory_of_a_choice_does_not_grow_with_what_is_chosen():
    def temporary(k):
        compiled = jax.jit(lambda x: snippet_mining.highest(x, k)).lower(jnp.zeros(1000)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(500) < 500 * 1000 / 4  # Of 500 x 1000 booleans, the fourth part.
