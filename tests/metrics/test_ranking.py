import numpy as np
import pytest
import vectors
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as sk

from jaxad.metrics import ranking

AREAS = [ranking.roc_auc, ranking.average_precision, ranking.pr_auc, ranking.fpr_at_tpr]
# Few distinct scores, so that most examples have ties.
ENTRIES = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40)


def both(entries):
    truth = np.array([t for t, _ in entries], np.uint8)
    assume(0 < truth.sum() < len(truth))
    return truth, np.array([s for _, s in entries], np.float64)


def test_published_scoring_is_reproduced():
    golden = vectors.load("rtfm", "test_scoring")
    truth, scores = golden["gt"], golden["frame_scores"]
    actual = [
        f(truth, scores) for f in (ranking.roc_auc, ranking.pr_auc, ranking.average_precision)
    ]
    np.testing.assert_allclose(actual, golden["metrics64"], rtol=1e-12)


@given(ENTRIES)
def test_roc_auc_is_the_share_of_pairs_in_order(entries):
    truth, scores = both(entries)
    gaps = scores[truth == 1][:, None] - scores[truth == 0][None]
    expected = np.mean((gaps > 0) + 0.5 * (gaps == 0))
    assert ranking.roc_auc(truth, scores) == pytest.approx(expected, abs=1e-12)


@given(ENTRIES)
def test_average_precision_by_thresholds(entries):
    truth, scores = both(entries)
    expected, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = scores >= threshold
        gained = truth[chosen].sum() / truth.sum()
        expected += (gained - recall) * truth[chosen].mean()
        recall = gained
    assert ranking.average_precision(truth, scores) == pytest.approx(expected, abs=1e-12)


@given(ENTRIES, st.sampled_from([0.05, 0.5, 0.8, 0.95, 1.0]))
def test_fpr_at_tpr_by_thresholds(entries, tpr):
    truth, scores = both(entries)
    reached = [t for t in set(scores) if np.mean(scores[truth == 1] >= t) >= tpr]
    expected = np.mean(scores[truth == 0] >= max(reached))
    assert ranking.fpr_at_tpr(truth, scores, tpr=tpr) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", AREAS)
@given(entries=ENTRIES)
def test_only_the_order_of_scores_matters(metric, entries):
    truth, scores = both(entries)
    expected = metric(truth, scores)
    assert metric(truth, np.exp(scores) - 1000) == expected
    assert metric(truth, 1e6 * scores**3) == expected
    assert metric(truth[::-1], scores[::-1]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", AREAS)
@given(entries=ENTRIES)
def test_repeating_every_entry_changes_nothing(metric, entries):
    truth, scores = both(entries)
    actual = metric(np.repeat(truth, 16), np.repeat(scores, 16))
    assert actual == pytest.approx(metric(truth, scores), abs=1e-12)


@pytest.mark.parametrize("metric", AREAS)
def test_perfect_and_inverted_scores(metric):
    truth, scores = np.array([[0, 0], [1, 1]]), np.array([[-5.0, 1.0], [2.0, 9.0]])
    perfect, inverted = metric(truth, scores), metric(truth, -scores)
    if metric is ranking.fpr_at_tpr:
        assert (perfect, inverted) == (0.0, 1.0)
    else:
        assert perfect == 1.0
        assert inverted < 0.5


@pytest.mark.parametrize("metric", AREAS)
@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_is_undefined(metric, truth):
    assert np.isnan(metric(np.array(truth), np.arange(float(len(truth)))))


@pytest.mark.parametrize("curve", [ranking.roc_curve, ranking.precision_recall_curve])
def test_curve_of_one_class_is_empty(curve):
    x, y = curve(np.ones(3), np.arange(3.0))
    assert x.size == y.size == 0


@pytest.mark.parametrize("metric", [*AREAS, ranking.roc_curve, ranking.precision_recall_curve])
def test_bad_input_is_named(metric):
    truth = np.array([0, 1, 0])
    with pytest.raises(ValueError, match="2 of 3 scores are NaN or infinite"):
        metric(truth, np.array([np.nan, 1.0, -np.inf]))
    with pytest.raises(ValueError, match="found 255; remove void"):
        metric(np.array([0, 1, 255]), np.zeros(3))
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        metric(truth, np.zeros(2))


@pytest.mark.parametrize("tpr", [0.0, 1.1])
def test_tpr_out_of_range(tpr):
    with pytest.raises(ValueError, match=f"got {tpr}"):
        ranking.fpr_at_tpr(np.array([0, 1]), np.zeros(2), tpr=tpr)


@pytest.mark.parametrize("function", [ranking.roc_curve, ranking.precision_recall_curve])
def test_too_few_points(function):
    with pytest.raises(ValueError, match="got 1"):
        function(np.array([0, 1]), np.array([0.0, 1.0]), points=1)


def test_scores_keep_double_precision():
    scores = np.array([1.0, 1.0 + 1e-12])
    assert ranking.roc_auc(np.array([0, 1]), scores) == 1.0


def test_decimated_curves_keep_ends_and_area():
    rng = np.random.default_rng(0)
    truth = rng.random(20_000) < 0.1
    scores = rng.standard_normal(20_000) + 1.5 * truth
    x, y = ranking.roc_curve(truth, scores, points=200)
    assert len(x) <= 200
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert sk.auc(x, y) == pytest.approx(ranking.roc_auc(truth, scores), abs=1e-3)
    recall, precision = ranking.precision_recall_curve(truth, scores, points=200)
    assert len(recall) <= 200
    assert (recall[0], recall[-1], precision[0]) == (0, 1, 1)
    assert np.all(np.diff(recall) >= 0)
    assert sk.auc(recall, precision) == pytest.approx(ranking.pr_auc(truth, scores), abs=5e-3)


@given(ENTRIES)
def test_short_curves_are_whole(entries):
    truth, scores = both(entries)
    x, y = ranking.roc_curve(truth, scores)
    assert sk.auc(x, y) == pytest.approx(ranking.roc_auc(truth, scores), abs=1e-12)
