from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.losses import feature_bank

RNG = np.random.default_rng(0)
BANK = jnp.asarray(RNG.normal(size=(11, 4)), jnp.float32)
QUERIES = jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32)
SCORES = {
    "mean_exp": partial(feature_bank.mean_exp, temperature=0.2),
    "log_mean_exp": feature_bank.log_mean_exp,
    "max_cosine": feature_bank.max_cosine,
}
SCORES = {name: jax.jit(f, static_argnames="block_size") for name, f in SCORES.items()}
every_score = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)


def cosines(queries, bank):
    queries, bank = np.asarray(queries, np.float64), np.asarray(bank, np.float64)
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(bank, axis=1)
    return queries @ bank.T / lengths


# Scores


@pytest.mark.parametrize("block_size", [7, 1024])
@pytest.mark.parametrize("case", ["c0", "c1", "c2"])
def test_scores_golden(case, block_size):
    golden = vectors.part(vectors.load("self_distillation", "ood_score"), f"{case}/")
    given_ = golden["queries"], golden["bank"]
    options = {"block_size": block_size}
    tau = float(golden["tau"])
    score = jax.jit(partial(feature_bank.mean_exp, temperature=tau, **options))(*given_)
    log_score = jax.jit(partial(feature_bank.log_mean_exp, temperature=tau, **options))(*given_)
    highest = jax.jit(partial(feature_bank.max_cosine, **options))(*given_)
    np.testing.assert_allclose(score, golden["score"], rtol=1e-4)
    np.testing.assert_allclose(log_score, golden["neg_log_mean_exp"], rtol=0, atol=1e-5)
    # The vectors hold the cosine; the score is its negative.
    np.testing.assert_allclose(np.abs(highest), np.abs(golden["max_cos"]), rtol=0, atol=1e-6)
    np.testing.assert_allclose(highest, -cosines_or_zero(*given_).max(1), rtol=0, atol=1e-6)


def cosines_or_zero(queries, bank):
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(cosines(queries, bank))


@pytest.mark.parametrize("case", ["c0", "c1", "c2"])
def test_bank_scores_with_and_without_themselves_golden(case):
    golden = vectors.part(vectors.load("self_distillation", "ood_score"), f"{case}/")
    bank = golden["bank"]
    score = jax.jit(partial(feature_bank.mean_exp, temperature=float(golden["tau"]), block_size=48))
    own = np.arange(len(bank))
    np.testing.assert_allclose(score(bank, bank), golden["bank_score_with_self"], rtol=1e-4)
    without = score(bank, bank, None, own)
    np.testing.assert_allclose(without, golden["bank_score_leave_one_out"], rtol=1e-4)


@every_score
@pytest.mark.parametrize("block_size", [1, 4, 50])
def test_block_size_does_not_matter(score, block_size):
    actual = score(QUERIES, BANK, block_size=block_size)
    assert actual.shape == (3,)
    np.testing.assert_allclose(actual, score(QUERIES, BANK), rtol=1e-5)


@every_score
def test_mask_equals_indexing(score):
    where = jnp.arange(11) % 3 != 0
    holes = jnp.where(where[:, None], BANK, jnp.nan)
    actual = score(QUERIES, holes, where, block_size=4)
    np.testing.assert_allclose(actual, score(QUERIES, BANK[np.asarray(where)]), rtol=1e-5)


@every_score
def test_excluded_row_equals_its_deletion_for_that_query_alone(score):
    actual = score(QUERIES, BANK, None, jnp.array([-1, 6, -1]), block_size=4)
    everything, less = score(QUERIES, BANK), score(QUERIES, jnp.delete(BANK, 6, axis=0))
    expected = jnp.array([everything[0], less[1], everything[2]])
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@every_score
def test_lengths_of_features_do_not_matter(score):
    actual = score(QUERIES * jnp.array([[1e-3], [7.0], [1e4]]), BANK * 30.0)
    np.testing.assert_allclose(actual, score(QUERIES, BANK), rtol=1e-5)


@every_score
def test_a_bank_without_rows_scores_zero(score):
    np.testing.assert_array_equal(score(QUERIES, BANK, jnp.zeros(11, bool)), jnp.zeros(3))


@every_score
def test_bank_of_one_row_gives_its_similarity(score):
    name = next(n for n, f in SCORES.items() if f is score)
    cosine = cosines(QUERIES, BANK[:1])[:, 0]
    expected = {
        "mean_exp": -np.exp(cosine / 0.2),
        "log_mean_exp": -cosine / 0.04,
        "max_cosine": -cosine,
    }
    np.testing.assert_allclose(score(QUERIES, BANK[:1]), expected[name], rtol=1e-5)


@every_score
def test_doubled_bank_scores_the_same(score):
    twice = jnp.concatenate([BANK, BANK])
    np.testing.assert_allclose(score(QUERIES, twice), score(QUERIES, BANK), rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.floats(-1.0, 1.0), st.floats(0.0, 1.0), st.integers(0, 3))
def test_less_similar_rows_raise_the_scores(angle, drop, place):
    # A bank of four unit vectors in the plane; the query is the first axis.
    first = np.linspace(-0.9, 0.9, 4)
    first[place] = angle
    lower = first.copy()
    lower[place] = angle - drop * (angle + 1.0)
    query = jnp.array([[1.0, 0.0]])
    for score in (_LOG_SCORE, _SCORE):
        before, after = (
            score(query, np.stack([x, np.sqrt(np.maximum(1 - x * x, 0))], 1).astype(np.float32))
            for x in (first, lower)
        )
        assert after >= before - 1e-5 * jnp.abs(before)


_LOG_SCORE = jax.jit(partial(feature_bank.log_mean_exp, temperature=0.3))
_SCORE = jax.jit(partial(feature_bank.mean_exp, temperature=0.3))


@pytest.mark.parametrize("sign", [1.0, 0.0, -1.0])
def test_bounds_of_the_score(sign):
    # Identical, orthogonal (a zero query) and opposite banks: -e^25, -1 and -e^-25.
    bank = jnp.tile(BANK[:1], (5, 1))
    actual = jax.jit(feature_bank.mean_exp)(sign * BANK[:1], bank)
    np.testing.assert_allclose(actual, [-np.exp(sign * 25.0)], rtol=3e-5)


def test_small_temperatures_stay_in_the_log_domain():
    score = jax.jit(partial(feature_bank.log_mean_exp, temperature=1e-3, block_size=4))
    actual = score(QUERIES, BANK)
    exponents = cosines(QUERIES, BANK) / 1e-3
    highest = exponents.max(1)
    expected = -highest - np.log(np.mean(np.exp(exponents - highest[:, None]), axis=1))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    twins = jax.jit(partial(feature_bank.mean_exp, temperature=1e-3))(QUERIES, QUERIES)
    assert np.isfinite(twins).all()


def sizes(jaxpr):
    """Sizes of all arrays that a program makes, inner programs included."""
    for equation in jaxpr.eqns:
        yield from (v.aval.size for v in equation.outvars if hasattr(v.aval, "size"))
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from sizes(inner)


@every_score
def test_no_array_holds_all_pairs_in_the_gradient_either(score):
    queries, bank = jnp.ones((50, 2)), jnp.ones((60, 2))

    def total(queries, bank):
        return jnp.sum(score(queries, bank, block_size=5))

    program = jax.make_jaxpr(jax.value_and_grad(total, (0, 1)))(queries, bank)
    found = list(sizes(program.jaxpr))
    assert max(found) >= 250  # Queries times a block: the walk looks into loops.
    assert max(found) < 50 * 60 / 2


# Neighbours

NEAREST = jax.jit(feature_bank.nearest, static_argnames=("k", "block_size"))


@pytest.mark.parametrize("k", [1, 4, 20])
def test_nearest_is_a_sort_of_all_cosines(k):
    found = NEAREST(QUERIES, BANK, k, block_size=4)
    expected = cosines(QUERIES, BANK)
    order = np.argsort(-expected, axis=1)[:, :k]
    assert found.rows.shape == (3, min(k, 11))
    np.testing.assert_array_equal(found.rows, order)
    np.testing.assert_allclose(found.cosines, np.take_along_axis(expected, order, 1), atol=1e-6)
    assert found.real.all()


def test_equal_neighbours_come_in_their_order():
    found = NEAREST(QUERIES, jnp.tile(BANK[:1], (7, 1)), 4, block_size=2)
    np.testing.assert_array_equal(found.rows, np.tile(np.arange(4), (3, 1)))


def test_missing_neighbours_are_marked():
    where = jnp.arange(11) == 5
    found = NEAREST(QUERIES, BANK, 2, where, jnp.array([-1, 5, -1]), block_size=3)
    np.testing.assert_array_equal(found.rows, [[5, -1], [-1, -1], [5, -1]])
    np.testing.assert_array_equal(found.real, found.rows == 5)
    np.testing.assert_array_equal(found.cosines == 0.0, ~found.real)


@pytest.mark.parametrize("k", [1, 10, 20])
def test_votes_golden(k):
    golden = vectors.load("self_distillation", "knn")
    vote = partial(feature_bank.neighbour_votes, classes=10, k=k, block_size=64)
    votes = jax.jit(vote)(golden["queries"], golden["bank"], golden["bank_labels"])
    vectors.assert_close(votes, golden[f"votes_k{k}"], rtol=1e-4, atol=1e-5)
    correct = np.mean(np.argmax(votes, axis=1) == golden["query_labels"])
    np.testing.assert_allclose(100 * correct, golden[f"top1_k{k}"], rtol=1e-6)


def test_labels_beyond_the_classes_do_not_vote():
    labels = jnp.arange(11) % 3
    three, two = (
        jax.jit(partial(feature_bank.neighbour_votes, classes=c, k=11))(QUERIES, BANK, labels)
        for c in (3, 2)
    )
    np.testing.assert_allclose(two, three[:, :2], rtol=1e-6)


def test_rows_without_a_label_do_not_vote():
    labels = jnp.array([0, 1, -1, 1, 0, 2, -1, 2, 1, 7, -3])
    votes = feature_bank.neighbour_votes(QUERIES, BANK, labels, classes=3, k=11)
    bearing = (labels >= 0) & (labels < 3)
    expected = feature_bank.neighbour_votes(
        QUERIES, BANK, jnp.where(bearing, labels, 0), bearing, classes=3, k=11
    )
    assert votes.shape == (3, 3)
    np.testing.assert_allclose(votes, expected, rtol=1e-6)
