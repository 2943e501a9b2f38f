import numpy as np
import pytest
from scipy import stats

from jaxad.metrics import bootstrap, ranking


def roc_auc(truth, scores):
    """By ranks, for scores without ties: many times faster on few examples."""
    positive = truth.sum()
    above = stats.rankdata(scores)[truth].sum() - positive * (positive + 1) / 2
    return above / (positive * (len(truth) - positive))


METHODS = pytest.mark.parametrize("interval", [bootstrap.percentile, bootstrap.bca])


def detector(seed=0, normal=60, anomalous=12):
    rng = np.random.default_rng(seed)
    truth = np.arange(normal + anomalous) < anomalous
    return truth, rng.normal(size=truth.size) + 1.5 * truth


@METHODS
def test_the_same_seed_gives_the_same_interval(interval):
    truth, scores = detector()
    run = [
        interval(roc_auc, truth, scores, strata=truth, resamples=200, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert run[0] == run[1] != run[2]
    assert run[0].value == pytest.approx(ranking.roc_auc(truth, scores))
    assert run[0].low < run[0].value < run[0].high


@METHODS
def test_strata_keep_rare_classes(interval):
    # Unstratified, a fifth of the resamples would hold no anomalous example: NaN.
    truth, scores = np.arange(30) < 2, np.random.default_rng(0).normal(size=30)
    result = interval(ranking.roc_auc, truth, scores, strata=truth, resamples=50)
    assert np.isfinite(result).all()
    assert np.isnan(bootstrap.percentile(ranking.roc_auc, truth, scores, resamples=100).low)


@METHODS
def test_perfect_scores_have_an_interval_of_no_width(interval):
    truth = np.arange(20) < 5
    result = interval(ranking.roc_auc, truth, truth * 2.0, strata=truth, resamples=20)
    assert result == (1.0, 1.0, 1.0)


def test_percentiles_of_a_mean_are_those_of_the_central_limit():
    values = np.random.default_rng(0).normal(size=400)
    result = bootstrap.percentile(np.mean, values, resamples=4000, level=0.9)
    width = 2 * stats.norm.ppf(0.95) * values.std() / np.sqrt(400)
    assert result.high - result.low == pytest.approx(width, rel=0.06)  # 3 sigma of the quantiles.


def test_bca_equals_scipy_on_the_values():
    values = np.random.default_rng(0).exponential(size=50)
    actual = bootstrap.bca(np.mean, values, resamples=500, seed=3)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=500, method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    np.testing.assert_allclose(actual[1:], expected, rtol=1e-12)


@METHODS
def test_intervals_cover_as_often_as_they_say(interval):
    covered = 0
    for seed in range(60):
        values = np.random.default_rng(seed).normal(size=40)
        _, low, high = interval(np.mean, values, resamples=100, level=0.9, seed=seed)
        covered += low <= 0 <= high
    assert 46 <= covered <= 60  # 54 expected; below 46 less often than once in 500.


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="each stratum needs 2 examples"):
        bootstrap.percentile(np.mean, np.zeros(3), strata=np.array([0, 0, 1]))
    with pytest.raises(ValueError, match=r"of one length, got \[2, 3\]"):
        bootstrap.percentile(np.mean, np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="level must be in"):
        bootstrap.bca(np.mean, np.zeros(3), level=1.0)
    with pytest.raises(ValueError, match=r"strata must be \[3\], got \(2,\)"):
        bootstrap.bca(np.mean, np.zeros(3), strata=np.zeros(2))
