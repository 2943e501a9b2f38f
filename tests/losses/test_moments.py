import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import AXIS, LAYOUTS, spread

from jaxad.losses import moments

ZEROS = {
    "trace": moments.zero_trace,
    "diagonal": moments.zero_diagonal,
    "full": moments.zero_full,
}
every_kind = pytest.mark.parametrize("kind", ZEROS)
add = jax.jit(moments.add, static_argnames="axis_name")
merge = jax.jit(moments.merge)
merge_all = jax.jit(moments.merge_all)


def exact(features, kind):
    """Moments of `features [N, ..., D]` by NumPy in float64."""
    x = np.asarray(features, np.float64)
    centered = x - x.mean(axis=0)
    products = np.einsum("n...d,n...e->...de", centered, centered)
    squares = np.einsum("...dd->...d", products)
    scatter = {"full": products, "diagonal": squares, "trace": squares.sum(axis=-1)}[kind]
    return moments.Moments(np.int32(len(x)), x.mean(axis=0), np.zeros(x.shape[1:]), scatter)


def features(rows, seed=0, offset=3.0):
    x = np.random.default_rng(seed).normal(offset, 1.0, (rows, 2, 3))
    return x.astype(np.float32)


def assert_same(actual, expected, rtol=1e-6):
    assert int(actual.count) == int(expected.count)
    vectors.assert_close(actual.mean, expected.mean, rtol=rtol, atol=rtol)
    vectors.assert_close(actual.scatter, expected.scatter, rtol=rtol, atol=rtol)


def gathered(x, kind, size, where=None):
    """The rows added in batches of `size`, the last one padded with NaN."""
    where = np.ones(len(x), bool) if where is None else where
    state = ZEROS[kind](x.shape[1:])
    for start in range(0, len(x), size):
        rows, real = x[start : start + size], where[start : start + size]
        missing = size - len(rows)
        rows = np.concatenate([rows, np.full((missing, *x.shape[1:]), np.nan, x.dtype)])
        state = add(state, rows, np.concatenate([real, np.zeros(missing, bool)]))
    return state


@every_kind
@pytest.mark.parametrize("size", [1, 4, 11])
def test_batches_of_any_size_give_the_statistics_of_all_rows(kind, size):
    x = features(11)
    assert_same(gathered(x, kind, size), exact(x, kind))


def test_scatter_over_rows_is_the_covariance_of_numpy():
    x = features(7)
    state = add(moments.zero_full((2, 3)), x)
    expected = np.cov(x[:, 1], rowvar=False)
    np.testing.assert_allclose(state.scatter[1] / 6, expected, rtol=1e-5, atol=1e-6)


@every_kind
def test_large_offset_cancels_nothing(kind):
    x = features(40, offset=3000.0)  # Raw second moments in float32 would be off by about 1.
    assert_same(gathered(x, kind, 8), exact(x, kind))


def test_a_long_batch_of_large_values_has_an_exact_mean():
    x = (1e4 + np.arange(3000) % 2).astype(np.float32)[:, None]
    state = add(moments.zero_diagonal((1,)), x)
    np.testing.assert_allclose(state.mean, [1e4 + 0.5], rtol=1e-7)
    np.testing.assert_allclose(state.scatter, [3000 * 0.25], rtol=1e-6)


def test_rows_outside_the_mask_may_hold_anything():
    x = features(6)
    where = np.array([1, 0, 1, 1, 0, 1], bool)
    hidden = np.where(where[:, None, None], x, np.array([np.nan, np.inf, 1e30], np.float32))
    actual = add(moments.zero_full((2, 3)), hidden, where)
    assert_same(actual, exact(x[where], "full"))


def test_a_batch_without_rows_changes_nothing():
    state = add(moments.zero_full((2, 3)), features(5))
    after = add(state, np.full((4, 2, 3), np.nan, np.float32), np.zeros(4, bool))
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_merging_with_nothing_changes_nothing():
    state = add(moments.zero_full((2, 3)), features(5))
    nothing = moments.zero_full((2, 3))
    jax.tree.map(np.testing.assert_array_equal, merge(state, nothing), state)
    jax.tree.map(np.testing.assert_array_equal, merge(nothing, state), state)


@settings(max_examples=15, deadline=None)
@given(
    counts=st.tuples(*[st.integers(0, 6)] * 3),
    offset=st.sampled_from([0.0, 300.0, -3000.0]),
    seed=st.integers(0, 99),
)
def test_merge_is_associative_and_commutative(counts, offset, seed):
    x = features(18, seed, offset)
    wheres = [np.arange(18) // 6 == i for i in range(3)]
    wheres = [w & (np.arange(18) % 6 < n) for w, n in zip(wheres, counts, strict=True)]
    a, b, c = (add(moments.zero_full((2, 3)), x, where) for where in wheres)
    left, right = merge(merge(a, b), c), merge(a, merge(b, c))
    for other in (right, merge(c, merge(b, a))):
        assert int(left.count) == int(other.count) == sum(counts)
        np.testing.assert_allclose(left.mean, other.mean, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(left.scatter, other.scatter, rtol=1e-5, atol=1e-5)


@every_kind
def test_merge_all_equals_one_accumulator(kind):
    x = features(12, offset=300.0)
    parts = [gathered(x[a:b], kind, 8) for a, b in [(0, 5), (5, 5), (5, 6), (6, 12)]]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
    assert_same(merge_all(stack), exact(x, kind))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_devices_that_gather_alone_meet_at_the_end(layout):
    x = features(16, offset=300.0)

    def run(rows):
        mine = moments.add(moments.zero_full((2, 3)), rows)
        mine = jax.tree.map(lambda leaf: leaf[None], mine)  # A stack of one.
        return moments.merge_all(mine, axis_name=AXIS)

    assert_same(spread(layout, run, jnp.asarray(x)), exact(x, "full"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_devices_share_each_batch(layout):
    x = features(16)
    where = np.arange(16) % 8 < 3  # Some devices have no real row.
    hidden = np.where(where[:, None, None], x, np.nan)

    def run(rows):
        return moments.add(moments.zero_full((2, 3)), *rows, axis_name=AXIS)

    actual = spread(layout, run, (jnp.asarray(hidden), jnp.asarray(where)))
    assert_same(actual, exact(x[where], "full"))


def test_bfloat16_features_are_summed_in_float32():
    x = jnp.asarray(features(300), jnp.bfloat16)
    state = add(moments.zero_full((2, 3)), x)
    assert (state.mean.dtype, state.scatter.dtype) == (jnp.float32, jnp.float32)
    assert_same(state, exact(np.asarray(x, np.float32), "full"))


def test_state_keeps_its_shapes_and_types_so_that_it_can_be_scanned():
    batches = jnp.asarray(features(12)).reshape(3, 4, 2, 3)
    state, _ = jax.lax.scan(
        lambda state, rows: (moments.add(state, rows), None), moments.zero_full((2, 3)), batches
    )
    assert_same(state, exact(features(12), "full"))


def test_a_row_needs_an_axis_of_features():
    with pytest.raises(ValueError, match=r"shape: expected \(\.\.\., D\), got \(\)"):
        moments.zero_trace(())
