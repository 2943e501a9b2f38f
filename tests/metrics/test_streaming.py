import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.metrics import streaming

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
TINY = float(np.finfo(np.float32).smallest_subnormal)


def scores_and_truth(seed, count=200):
    rng = np.random.default_rng(seed)
    return rng.normal(size=count).astype(np.float32), rng.integers(0, 2, count)


@given(st.lists(FLOATS, min_size=2, max_size=30), st.sampled_from([2, 2**8, 2**16, 2**20]))
@settings(deadline=None)
def test_bins_keep_the_order(values, bins):
    values = np.sort(np.array(values, np.float32))
    indices = streaming.score_bins(values, bins=bins).astype(np.int64)
    assert np.all(np.diff(indices) >= 0)
    assert np.all(indices < bins)


@given(st.lists(FLOATS, min_size=2, max_size=30))
@settings(deadline=None)
def test_all_float32_are_told_apart_by_enough_bins(values):
    values = np.unique(np.array(values, np.float32) + np.float32(0))
    indices = streaming.score_bins(values, bins=2**32)
    assert len(np.unique(indices)) == len(np.unique(values))


@given(FLOATS)
@settings(deadline=None)
def test_edges_are_the_lowest_scores_of_bins(value):
    edges = streaming.bin_edges()
    index = int(streaming.score_bins(value))
    assert index == int(streaming.score_bins(edges[index]))
    below = np.nextafter(edges[index], np.float32(-np.inf))
    if np.isfinite(below) and below != 0:  # Of 0 and -0, numerically equal, the edge is 0.
        assert int(streaming.score_bins(below)) == index - 1


def test_a_bin_is_as_wide_as_stated():
    edges = streaming.bin_edges()
    normal = edges[np.isfinite(edges) & (edges >= 2.0**-126)].astype(float)
    widths = np.diff(normal) / normal[:-1]
    assert 2.0**-8 < widths.min() < 1.01 * 2.0**-8
    assert widths.max() == 2.0**-7


def test_zeros_share_a_bin():
    bins = streaming.score_bins([0.0, -0.0, -TINY], bins=2**32)
    assert bins[0] == bins[1] == bins[2] + 2  # Between them lies the place of -0.


@given(st.integers(0, 999), st.lists(st.integers(0, 200), max_size=4))
@settings(max_examples=25, deadline=None)
def test_merging_equals_adding_all_at_once(seed, cuts):
    scores, truth = scores_and_truth(seed)
    where = scores < 1
    zero = streaming.zero()
    edges = [0, *sorted(cuts), 200]
    parts = [
        streaming.add(zero, scores[a:b], truth[a:b], where=where[a:b])
        for a, b in itertools.pairwise(edges)
    ]
    whole = streaming.add(zero, scores, truth, where=where)
    assert whole.counts.sum() == where.sum()
    np.testing.assert_array_equal(streaming.merge(*parts).counts, whole.counts)
    np.testing.assert_array_equal(streaming.merge(*parts[::-1]).counts, whole.counts)
    assert zero.counts.sum() == 0  # States are left as they are.


def test_states_are_sums_of_plain_arrays():
    scores, truth = scores_and_truth(0)
    one = streaming.add(streaming.zero(bins=64), scores, truth)
    stacked = [np.stack([part, part, part]) for part in one]
    summed = streaming.ScoreHistogram(*(part.sum(0) for part in stacked))
    merged = streaming.merge(one, one, one)
    np.testing.assert_array_equal(merged.counts, summed.counts)
    assert merged.counts.dtype == np.int64


def test_state_does_not_grow():
    state = streaming.zero(bins=2**10)
    before = sum(part.nbytes for part in state)
    for seed in range(5):
        state = streaming.add(state, *scores_and_truth(seed, 10_000))
    assert state.counts.sum() == 50_000
    assert sum(part.nbytes for part in state) == before == 2 * 2**10 * 8 + 8


def test_long_inputs_are_taken_in_pieces(monkeypatch):
    scores, truth = scores_and_truth(0)
    where = truth * scores > -1
    whole = streaming.add(streaming.zero(), scores, truth, where=where)
    monkeypatch.setattr(streaming, "_CHUNK", 7)
    pieces = streaming.add(streaming.zero(), scores, truth, where=where)
    np.testing.assert_array_equal(whole.counts, pieces.counts)


def test_void_scores_may_hold_anything():
    scores = np.array([np.nan, 1.0, np.inf, 2.0])
    truth = np.array([0, 0, 255, 1])
    where = np.array([0, 1, 0, 1])
    state = streaming.add(streaming.zero(), scores, truth, where=where)
    np.testing.assert_array_equal(state.counts.sum(1), [1, 1])


@given(st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_linear_bins_equal_numpy(seed):
    # Sixteenths, so that scores on the edges of the bins are exact.
    scores = np.random.default_rng(seed).integers(-16, 17, 50) / 16
    state = streaming.add_in_range(streaming.zero(bins=8), scores, np.ones(50), low=-1.0, high=1.0)
    np.testing.assert_array_equal(state.counts[1], np.histogram(scores, 8, (-1, 1))[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, bool])
def test_scores_of_any_type(dtype):
    scores = np.array([0, 1, 1]).astype(dtype)
    state = streaming.add(streaming.zero(), scores, np.array([0, 1, 1]))
    np.testing.assert_array_equal(np.flatnonzero(state.counts[1]), streaming.score_bins([1.0]))


def test_bad_input_is_named():
    zero, truth = streaming.zero(), np.array([0, 1])
    with pytest.raises(ValueError, match="1 of 2 scores are NaN or infinite"):
        streaming.add(zero, np.array([0, np.nan]), truth)
    with pytest.raises(ValueError, match="1 of 2 scores are NaN or infinite"):
        streaming.add(zero, np.array([0, 1e39]), truth)
    with pytest.raises(ValueError, match="found 255; remove void"):
        streaming.add(zero, np.zeros(2), np.array([0, 255]))
    with pytest.raises(ValueError, match=r"truth and scores .* \(2,\) and \(3,\)"):
        streaming.add(zero, np.zeros(3), truth)
    with pytest.raises(ValueError, match=r"bins must be a power of two.* got 100"):
        streaming.add(streaming.zero(bins=100), np.zeros(2), truth)
    with pytest.raises(ValueError, match=r"scores must be 0 to 1, found 1\.5"):
        streaming.add_in_range(zero, np.array([0, 1.5]), truth, low=0, high=1)
    with pytest.raises(ValueError, match="low must be below high, got 1 and 1"):
        streaming.add_in_range(zero, np.zeros(2), truth, low=1, high=1)
    with pytest.raises(ValueError, match=r"others must be ScoreHistogram of shapes .*65536"):
        streaming.merge(zero, streaming.zero(bins=8))


@given(st.integers(0, 999), st.integers(1, 40), st.booleans())
@settings(max_examples=25, deadline=None)
def test_linear_bins_equal_numpy_at_their_edges(seed, bins, narrow):
    low, high = np.sort(np.random.default_rng(seed).normal(size=2))
    scores = np.linspace(low, high, bins + 1)
    beside = [np.nextafter(scores, -np.inf)[1:], np.nextafter(scores, np.inf)[:-1]]
    scores = np.concatenate([scores, *beside])
    if narrow:
        scores = scores.astype(np.float32)
        scores = scores[(scores.astype(float) >= low) & (scores.astype(float) <= high)]
    given_ = scores, np.ones(scores.size)
    state = streaming.add_in_range(streaming.zero(bins=bins), *given_, low=low, high=high)
    expected = np.histogram(scores.astype(float), bins, (low, high))[0]
    np.testing.assert_array_equal(state.counts, [np.zeros(bins), expected])


@pytest.mark.parametrize("truth", [0, 1])
def test_a_float32_just_below_the_range_is_refused(truth):
    low = 0.7  # The nearest float32 is 0.69999999.
    score = np.array([low], np.float32)
    with pytest.raises(ValueError, match=r"scores must be 0.7 to 1.0, found 0.6999"):
        streaming.add_in_range(streaming.zero(bins=4), score, [truth], low=low, high=1.0)


@pytest.mark.parametrize(
    "ends", [(-np.inf, 1.0), (0.0, np.inf), (np.nan, 1.0), (-1.7e308, 1.7e308)]
)
def test_a_range_must_be_finite(ends):
    with pytest.raises(ValueError, match="low and high must be finite"):
        streaming.add_in_range(streaming.zero(bins=4), [0.5], [1], low=ends[0], high=ends[1])
