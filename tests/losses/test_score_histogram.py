import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.losses import score_histogram
from jaxad.metrics import bounded_ranking, ranking, streaming

LIMITS = np.finfo(np.float32)
SPECIAL = [0.0, -0.0, LIMITS.smallest_subnormal, -LIMITS.smallest_subnormal, LIMITS.tiny]
SPECIAL += [LIMITS.max, LIMITS.min, 1.0, -1.0, np.nextafter(np.float32(1), np.float32(2))]


def entries(count=3000):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=count) * 10.0 ** rng.integers(-40, 38, count)
    scores = np.concatenate([SPECIAL, np.clip(scores, LIMITS.min, LIMITS.max)])
    return scores.astype(np.float32), rng.integers(0, 2, len(scores))


@pytest.mark.parametrize("bins", [2, 2**10, 2**16, 2**24])
def test_bins_are_those_of_the_host(bins):
    scores, _ = entries()
    actual = jax.jit(lambda x: score_histogram.score_bins(x, bins=bins))(scores)
    assert actual.dtype == jnp.int32
    np.testing.assert_array_equal(actual, streaming.score_bins(scores, bins=bins))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_bins_of_16_bits_are_those_of_the_host(dtype):
    # Every finite number of the type.
    every = jax.lax.bitcast_convert_type(jnp.arange(2**16).astype(jnp.uint16), dtype)
    wide = np.asarray(every).astype(np.float32)
    kept = np.isfinite(wide)
    actual = jax.jit(score_histogram.score_bins)(every[kept])
    np.testing.assert_array_equal(actual, streaming.score_bins(wide[kept]))


def test_counts_are_those_of_the_host():
    scores, truth = entries()
    where = np.arange(len(scores)) % 3 > 0
    add = jax.jit(score_histogram.add)
    state = score_histogram.zero()
    for part in (slice(0, 1000), slice(1000, None)):
        state = add(state, scores[part], truth[part], where[part])
    actual = streaming.from_device(state)
    expected = streaming.add(streaming.zero(), scores, truth, where=where)
    np.testing.assert_array_equal(actual.counts, expected.counts)
    assert actual.counts.dtype == np.int64
    merged = streaming.merge(actual, expected)
    assert merged.counts.sum() == 2 * where.sum()


def test_metrics_of_a_device_bound_the_exact_ones():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, (2, 20, 20))
    scores = (rng.normal(size=truth.shape) + truth).astype(np.float32)
    state = score_histogram.add(score_histogram.zero(), scores, truth)
    result = bounded_ranking.roc_auc(streaming.from_device(state))
    assert result.lower <= ranking.roc_auc(truth, scores) <= result.upper
    assert result.upper - result.lower < 0.02


def test_what_is_not_finite_is_counted_apart_and_refused_by_the_host():
    scores = jnp.array([jnp.nan, jnp.inf, -jnp.inf, -jnp.nan, 1.0])
    truth = jnp.array([0, 1, 0, 1, 1])
    state = score_histogram.add(score_histogram.zero(bins=8), scores, truth)
    assert int(state.not_finite) == 4
    assert int(state.counts.sum()) == 1
    with pytest.raises(ValueError, match="4 scores are NaN or infinite"):
        bounded_ranking.roc_auc(streaming.from_device(state))


def test_void_scores_may_hold_anything():
    state = score_histogram.add(
        score_histogram.zero(bins=8), jnp.array([jnp.nan, 1.0]), jnp.array([255, 0]), [0, 1]
    )
    assert int(state.not_finite) == 0
    np.testing.assert_array_equal(state.counts.sum(axis=1), [1, 0])


@pytest.mark.parametrize("bins, error", [(100, ValueError), (1, ValueError), (8.0, TypeError)])
def test_bins_must_be_a_power_of_two(bins, error):
    with pytest.raises(error, match="bins"):
        score_histogram.zero(bins=bins)


def test_float64_is_rounded_as_on_the_host():
    scores = np.random.default_rng(2).normal(size=1000) * 1e3
    with jax.enable_x64(True):
        actual = score_histogram.score_bins(jnp.asarray(scores), bins=2**24)
        assert jnp.asarray(scores).dtype == jnp.float64
    np.testing.assert_array_equal(actual, streaming.score_bins(scores, bins=2**24))
