import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import vectors

from jaxad.losses import weibull

CASES = ["c0/", "c1/", "c2/"]


@pytest.mark.parametrize("case", CASES)
def test_golden_fit(case):
    golden = vectors.part(vectors.load("aux_prototypes", "weibull"), case)
    fitted = weibull.fit(golden["x"])
    np.testing.assert_allclose(fitted, (golden["shape"], golden["scale"]), rtol=1e-10)
    assert isinstance(fitted.shape, float)
    assert isinstance(fitted.scale, float)


@pytest.mark.parametrize("case", CASES)
def test_golden_scaling(case):
    golden = vectors.part(vectors.load("aux_prototypes", "weibull"), case)
    query, fitted = jnp.asarray(golden["query"]), (golden["shape"], golden["scale"])
    np.testing.assert_allclose(jax.jit(weibull.cdf)(query, *fitted), golden["cdf"], atol=1e-6)
    actual = jax.jit(weibull.log_survival)(query, *fitted)
    # The shape, up to 12, multiplies the rounding of the logarithm.
    np.testing.assert_allclose(actual, golden["log_sf"], rtol=1e-5)


def test_fit_is_at_the_top_of_the_likelihood():
    samples = np.random.default_rng(0).weibull(2.5, 400) * 3.0
    shape, scale = weibull.fit(samples)

    def likelihood(shape, scale):
        return scipy.stats.weibull_min.logpdf(samples, shape, scale=scale).mean()

    best = likelihood(shape, scale)
    for factor in (0.98, 1.02):
        assert likelihood(factor * shape, scale) < best > likelihood(shape, factor * scale)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_fit_of_scaled_samples_has_the_scaled_scale(factor):
    samples = np.random.default_rng(0).gamma(2.0, 1.0, 50)
    shape, scale = weibull.fit(samples)
    np.testing.assert_allclose(weibull.fit(factor * samples), (shape, factor * scale), rtol=1e-9)


def test_nearly_equal_samples_have_a_large_shape():
    fitted = weibull.fit(np.array([1.0, 1.0 + 1e-9]))
    assert fitted.shape > 1e8
    np.testing.assert_allclose(fitted.scale, 1.0, rtol=1e-8)


@pytest.mark.parametrize("tail", [1.0, 0.25])
@pytest.mark.parametrize("case", CASES)
def test_fit_of_counted_scores_is_near_the_exact_one(case, tail):
    samples = vectors.part(vectors.load("aux_prototypes", "weibull"), case)["x"]
    counted = weibull.histogram(jnp.asarray(samples, jnp.float32))
    actual = jax.jit(lambda h: weibull.fit_histogram(h, tail_fraction=tail))(counted)
    np.testing.assert_allclose(actual, weibull.fit(samples, tail_fraction=tail), rtol=1e-3)


def test_histograms_add_up():
    samples = jnp.asarray(np.random.default_rng(0).gamma(2.0, 1.0, (2, 50)), jnp.float32)
    parts = [weibull.histogram(part) for part in samples]
    whole = weibull.histogram(samples)
    np.testing.assert_array_equal(parts[0].counts + parts[1].counts, whole.counts)
    np.testing.assert_allclose(parts[0].sums + parts[1].sums, whole.sums, atol=1e-6)


def test_scores_outside_the_mask_and_zeros_are_not_counted():
    samples = jnp.array([[1.0, 0.0, jnp.nan], [2.0, -1.0, 3.0]])
    where = jnp.array([[True, True, False], [True, True, True]])
    assert float(weibull.histogram(samples, where).counts.sum()) == 3.0


def test_fit_of_no_counted_scores_is_the_unit_exponential():
    np.testing.assert_array_equal(
        weibull.fit_histogram(weibull.histogram(jnp.zeros(3))), (1.0, 1.0)
    )


def test_fit_of_counted_equal_scores_is_steep_and_finite():
    shape, scale = weibull.fit_histogram(weibull.histogram(jnp.full(9, 3.0)))
    assert 1e5 < float(shape) < 1e6
    np.testing.assert_allclose(scale, 3.0, rtol=1e-3)


def test_counted_scores_beyond_the_bins_stay_in_the_outer_ones():
    counted = weibull.histogram(jnp.array([1e-30, 1e30]))
    assert float(counted.counts[0]) == float(counted.counts[-1]) == 1.0


def test_samples_outside_the_mask_do_not_count():
    samples = np.random.default_rng(0).gamma(2.0, 1.0, (4, 5))
    where = np.ones((4, 5), bool)
    where[1, 2] = where[0, 0] = False
    spoilt = np.where(where, samples, [np.nan, 0.0, -1.0, np.inf, 5.0])
    assert weibull.fit(spoilt, where) == weibull.fit(samples[where])


def test_tail_fraction_keeps_the_largest_samples():
    samples = np.random.default_rng(0).gamma(2.0, 1.0, 40)
    assert weibull.fit(samples, tail_fraction=0.25) == weibull.fit(np.sort(samples)[-10:])


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        ([], {}, "samples: expected positive finite numbers, got 0"),
        ([1.0, 0.0], {}, "samples: expected positive.* from 0"),
        ([1.0, np.nan], {}, "samples: expected positive"),
        ([2.0, 2.0], {}, "samples: expected at least two different values, got 2"),
        ([1.0, 2.0], {"where": [True]}, None),
        ([1.0, 2.0], {"where": [True] * 3}, r"where.*\(2,\).*\(3,\)"),
        ([1.0, 2.0], {"tail_fraction": 0.0}, r"tail_fraction: .* got 0.0"),
    ],
)
def test_bad_samples(samples, options, message):
    if message is None:  # A mask that broadcasts.
        assert weibull.fit(samples, **options) == weibull.fit(samples)
        return
    with pytest.raises(ValueError, match=message):
        weibull.fit(samples, **options)


def test_scaling_is_exponential_for_shape_one():
    # 1 - exp(-a / 2) at 0, 2 and 2 log 4: 0, 1 - 1 / e and 3 / 4.
    actual = weibull.cdf(jnp.array([0.0, 2.0, 2 * np.log(4.0)]), 1.0, 2.0)
    np.testing.assert_allclose(actual, [0.0, 1 - np.exp(-1.0), 0.75], rtol=1e-6)


def test_large_shape_and_far_scores_stay_finite():
    values = jnp.array([0.0, 1e-30, 250.0, 1e6, 1e30])
    for function in (weibull.cdf, weibull.log_survival):
        run = jax.jit(jax.vmap(jax.value_and_grad(lambda a, f=function: f(a, 17.5, 260.0))))
        assert np.isfinite(run(values)).all()
    np.testing.assert_array_equal(weibull.cdf(values, 17.5, 260.0)[3:], 1.0)
