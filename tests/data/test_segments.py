import itertools

import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.data import segments

LENGTHS = st.integers(1, 300)
SEGMENTS = st.integers(1, 40)


def by_definition(rows, bounds):
    """Segment means one after another, the way the published code loops."""
    pairs = itertools.pairwise(bounds)
    return np.stack([rows[a : max(b, a + 1)].mean(axis=0, dtype=np.float64) for a, b in pairs])


@pytest.mark.parametrize("n", [1, 2, 5, 16, 31, 32, 33, 40, 64, 77, 100, 129])
def test_uniform_equals_published_code(n):
    golden = vectors.load("rtfm", "segment")
    actual = segments.uniform(golden[f"x_{n}"], 32)
    assert actual.dtype == np.float32
    vectors.assert_close(actual, golden[f"y_{n}"], rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("count", [32, 10, 12])
def test_uniform_bounds_equal_published_code(count):
    golden = vectors.load("rtfm", "segment")
    expected = golden[f"bounds_T{count}"]
    actual = [segments.uniform_bounds(int(n), count) for n in golden["bounds_n"]]
    np.testing.assert_array_equal(actual, expected)


def test_uniform_keeps_crops_apart():
    golden = vectors.load("rtfm", "segment")
    actual = segments.uniform(golden["disk"], 32).swapaxes(0, 1)  # [N, T, D]
    vectors.assert_close(actual, golden["disk_segments"], rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("n", [1, 7, 33, 64, 100])
def test_deepmil_equals_independent_code(n):
    golden = vectors.load("rtfm", "deepmil_segment")
    vectors.assert_close(segments.deepmil(golden[f"x_{n}"], 32), golden[f"y_{n}"], atol=2e-7)


def test_deepmil_bounds_equal_independent_code():
    golden = vectors.load("rtfm", "deepmil_segment")
    actual = [segments.deepmil_bounds(int(n)) for n in golden["bounds_n"]]
    # Matlab's are counted from 1.
    np.testing.assert_array_equal(actual, golden["bounds"] - golden["bounds"].min())


@pytest.mark.parametrize("n", [1, 7, 33, 64, 100])
def test_deepmil_expansion_equals_independent_code(n):
    golden = vectors.load("rtfm", "deepmil_segment")[f"frame_segment_{n}"]
    published = segments.deepmil_segment_of_row(n, tail="uncovered")
    np.testing.assert_array_equal(np.repeat(published, 16), golden)
    filled = segments.deepmil_segment_of_row(n)
    np.testing.assert_array_equal(filled, np.where(published < 0, 31, published))


@given(LENGTHS, SEGMENTS, st.integers(0, 1000))
def test_uniform_equals_its_definition(n, count, seed):
    rows = np.random.default_rng(seed).standard_normal((n, 2, 3)).astype(np.float32)
    expected = by_definition(rows, segments.uniform_bounds(n, count))
    np.testing.assert_array_equal(segments.uniform(rows, count), expected.astype(np.float32))


@given(LENGTHS, SEGMENTS, st.integers(0, 1000))
def test_deepmil_equals_its_definition(n, count, seed):
    rows = np.random.default_rng(seed).standard_normal((n, 3)).astype(np.float32)
    means = by_definition(rows, segments.deepmil_bounds(n, count))
    expected = means / np.linalg.norm(means, axis=-1, keepdims=True)
    np.testing.assert_allclose(segments.deepmil(rows, count), expected, rtol=1e-6, atol=1e-7)


@given(LENGTHS, SEGMENTS)
def test_uniform_bounds_cover_all_rows_once(n, count):
    bounds = segments.uniform_bounds(n, count)
    assert (bounds[0], bounds[-1]) == (0, n)
    assert set(np.diff(bounds)) <= {n // count, n // count + 1}


@given(LENGTHS, SEGMENTS)
def test_deepmil_segments_run_forward_over_all_rows(n, count):
    segment = segments.deepmil_segment_of_row(n, count)
    assert len(segment) == n
    assert np.all(np.diff(segment) >= 0)
    assert segment[-1] == count - 1


@given(st.floats(-1e3, 1e3, width=32), LENGTHS)
def test_constant_rows_give_that_constant(value, n):
    actual = segments.uniform(np.full((n, 2), value, np.float32), 32)
    np.testing.assert_allclose(actual, value, rtol=1e-7)


def test_as_many_rows_as_segments_are_untouched():
    rows = np.random.default_rng(0).standard_normal((32, 2, 5)).astype(np.float32)
    np.testing.assert_array_equal(segments.uniform(rows, 32), rows)


def test_sums_do_not_lose_digits():
    rows = np.full((32 * 70_001, 1), 0.1, np.float32)  # float32 running sums drift by 1e-4 here.
    np.testing.assert_allclose(segments.uniform(rows, 32), np.float32(0.1), rtol=1e-7)


@settings(max_examples=20)
@given(LENGTHS)
def test_deepmil_rows_have_unit_length_and_zero_rows_stay_zero(n):
    rows = np.ones((n, 2, 3), np.float32)
    rows[:, 1] = 0
    actual = segments.deepmil(rows)
    np.testing.assert_allclose(np.linalg.norm(actual[:, 0], axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(actual[:, 1], 0)


@pytest.mark.parametrize("function", [segments.uniform, segments.deepmil])
@pytest.mark.parametrize("n, count", [(0, 32), (5, 0)])
def test_empty_sizes_are_refused(function, n, count):
    with pytest.raises(ValueError, match=rf"got {n} rows, {count} segments"):
        function(np.zeros((n, 2)), count)


def test_unknown_tail_is_refused():
    with pytest.raises(ValueError, match=r"'last' or 'uncovered', got 'first'"):
        segments.deepmil_segment_of_row(5, tail="first")
