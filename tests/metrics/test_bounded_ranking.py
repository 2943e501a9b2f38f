import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.metrics import bounded_ranking, decisions, ranking, streaming

# Exact, over a histogram, options.
PAIRS = [
    (ranking.roc_auc, bounded_ranking.roc_auc, {}),
    (ranking.average_precision, bounded_ranking.average_precision, {}),
    (ranking.fpr_at_tpr, bounded_ranking.fpr_at_tpr, {}),
    (ranking.fpr_at_tpr, bounded_ranking.fpr_at_tpr, {"tpr": 0.6}),
    (ranking.fpr_at_tpr_nearest, bounded_ranking.fpr_at_tpr_nearest, {}),
    (ranking.fpr_at_tpr_nearest, bounded_ranking.fpr_at_tpr_nearest, {"tpr": 0.6}),
    (lambda *given: decisions.f1_max(*given).value, bounded_ranking.f1_max, {}),
]
IDS = ["auc", "ap", "fpr95", "fpr60", "nearest95", "nearest60", "f1"]
every_pair = pytest.mark.parametrize("exact, binned, options", PAIRS, ids=IDS)
RESULTS = [binned for _, binned, options in PAIRS if not options]


def entries(seed, count, levels):
    """Few or many anomalous ones, with ties or without."""
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < rng.choice([0.1, 0.5, 0.9])
    truth[0], truth[-1] = True, False
    scores = rng.normal(size=count) + rng.choice([-1, 0, 1, 3]) * truth
    return truth, np.round(scores * levels) / levels


@every_pair
@given(
    seed=st.integers(0, 99_999),
    count=st.integers(2, 60),
    bins=st.sampled_from([2, 2**9, 2**10, 2**11, 2**12]),
    levels=st.sampled_from([1, 4, 1000]),
)
@settings(max_examples=150, deadline=None)
def test_exact_value_lies_within_the_bounds(exact, binned, options, seed, count, bins, levels):
    truth, scores = entries(seed, count, levels)
    histogram = streaming.add(streaming.zero(bins=bins), scores, truth)
    result = binned(histogram, **options)
    assert result.lower <= result.value <= result.upper
    value = exact(truth, scores, **options)
    assert result.lower - 1e-12 <= value <= result.upper + 1e-12


@every_pair
@given(seed=st.integers(0, 99_999), bins=st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_bins_as_ties_give_the_value(exact, binned, options, seed, bins):
    truth, scores = entries(seed, 50, 1000)
    histogram = streaming.add_in_range(streaming.zero(bins=bins), scores, truth, low=-10, high=10)
    tied = np.minimum(np.floor((scores + 10) / 20 * bins), bins - 1)
    assert binned(histogram, **options).value == pytest.approx(exact(truth, tied, **options))


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_bounds_of_the_areas_are_reached(name):
    # One bin of 2 anomalous and 2 normal scores above one of 1 and 1: the extreme orders.
    histogram = streaming.ScoreHistogram(np.array([[1, 2], [1, 2]]), np.array(0))
    truth = np.array([1, 1, 0, 0, 1, 0])
    best = np.array([9.0, 9.0, 8.0, 7.0, 2.0, 1.0])
    worst = np.array([6.0, 7.0, 8.0, 9.0, 1.0, 2.0])
    result = getattr(bounded_ranking, name)(histogram)
    exact = getattr(ranking, name)
    assert result.upper == pytest.approx(exact(truth, best))
    # The lower bound of average precision replaces a sum by an integral: lower, but little.
    slack = 0 if name == "roc_auc" else 0.01
    assert result.lower <= exact(truth, worst) <= result.lower + slack + 1e-12


def test_doubt_of_the_auc_is_half_the_pairs_that_share_a_bin():
    truth, scores = entries(5, 60, 1000)
    histogram = streaming.add(streaming.zero(bins=2**10), scores, truth)
    bins = streaming.score_bins(scores, bins=2**10)
    doubt = np.mean(bins[truth][:, None] == bins[~truth]) / 2
    result = bounded_ranking.roc_auc(histogram)
    assert result.upper - result.value == pytest.approx(doubt)
    assert result.value - result.lower == pytest.approx(doubt)


def test_classes_apart_leave_no_doubt_about_the_auc():
    truth, scores = np.array([0, 1, 0, 1]), np.array([1.0, 2.0, 4.0, 8.0])
    histogram = streaming.add(streaming.zero(), scores, truth)
    assert bounded_ranking.roc_auc(histogram) == (0.75, 0.75, 0.75)


@pytest.mark.parametrize("metric", RESULTS)
def test_a_million_million_pixels(metric):
    small = streaming.add(streaming.zero(bins=2**12), *entries(0, 60, 1000)[::-1])
    large = small._replace(counts=small.counts * 10**11)
    expected, actual = metric(small), metric(large)
    assert actual.value == pytest.approx(expected.value, rel=1e-9)
    assert actual.upper == pytest.approx(expected.upper, rel=1e-9)
    # The lower bound of average precision takes the scores of a bin one by one.
    slack = 0.1 if metric is bounded_ranking.average_precision else 0
    assert actual.lower == pytest.approx(expected.lower, rel=1e-9, abs=slack)


@given(st.integers(0, 99_999))
@settings(max_examples=25, deadline=None)
def test_points_of_the_curve_lie_on_the_exact_one(seed):
    truth, scores = entries(seed, 40, 1000)
    x, y = bounded_ranking.roc_curve(streaming.add(streaming.zero(bins=2**10), scores, truth))
    points = {(0.0, 0.0)}
    for t in scores:
        points.add((np.mean(scores[~truth] >= t), np.mean(scores[truth] >= t)))
    assert all(
        np.min(np.abs(np.array(list(points)) - p).sum(1)) < 1e-12 for p in zip(x, y, strict=True)
    )


@given(st.integers(0, 99_999))
@settings(max_examples=25, deadline=None)
def test_threshold_of_f1_reaches_it(seed):
    truth, scores = entries(seed, 40, 1000)
    best = bounded_ranking.f1_max(streaming.add(streaming.zero(bins=2**10), scores, truth))
    threshold = float(streaming.bin_edges(bins=2**10)[best.first_bin])
    assert decisions.at_threshold(truth, np.float32(scores), threshold).f1 == pytest.approx(
        best.value
    )


@pytest.mark.parametrize("metric", [*RESULTS, bounded_ranking.released])
@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_is_undefined(metric, truth):
    histogram = streaming.add(streaming.zero(), np.arange(float(len(truth))), np.array(truth))
    assert np.isnan(metric(histogram)[:3]).all()
    assert bounded_ranking.roc_curve(histogram)[0].size == 0


@pytest.mark.parametrize("metric", [*RESULTS, bounded_ranking.released, bounded_ranking.roc_curve])
def test_nan_of_a_device_is_refused_in_the_end(metric):
    histogram = streaming.zero()._replace(not_finite=np.array(3))
    with pytest.raises(ValueError, match="3 scores are NaN or infinite"):
        metric(histogram)


@pytest.mark.parametrize("metric", [bounded_ranking.fpr_at_tpr, bounded_ranking.fpr_at_tpr_nearest])
def test_tpr_out_of_range(metric):
    histogram = streaming.add(streaming.zero(), np.zeros(2), np.array([0, 1]))
    with pytest.raises(ValueError, match="tpr must be in"):
        metric(histogram, tpr=0.0)


def test_published_histogram_metrics_are_reproduced():
    golden = vectors.load("entropy_max", "histogram_eval")
    scores = np.concatenate([golden["scores_in"], golden["scores_out"]])
    truth = np.arange(len(scores)) >= len(golden["scores_in"])
    histogram = streaming.add_in_range(streaming.zero(bins=100), scores, truth, low=0, high=1)
    np.testing.assert_array_equal(histogram.counts, [golden["counts_in"], golden["counts_out"]])
    names = ["released_auroc", "released_fpr95", "released_auprc"]
    released = bounded_ranking.released(histogram)
    np.testing.assert_allclose(released, [golden[name] for name in names], rtol=1e-12)
    area = bounded_ranking.roc_auc(histogram)
    assert area.value == pytest.approx(float(golden["binned_auroc"]), rel=1e-12)
    assert area.lower <= golden["exact_auroc"] <= area.upper
    precision = bounded_ranking.average_precision(histogram)
    assert precision.value == pytest.approx(float(golden["binned_ap"]), rel=1e-12)
    assert precision.lower <= golden["exact_ap"] <= precision.upper
    assert ranking.roc_auc(truth, scores) == pytest.approx(float(golden["exact_auroc"]), rel=1e-12)
