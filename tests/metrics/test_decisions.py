import numpy as np
import pytest
import vectors
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from jaxad.metrics import decisions

ENTRIES = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40)


def both(entries):
    truth = np.array([t for t, _ in entries], np.uint8)
    assume(0 < truth.sum() < len(truth))
    return truth, np.array([s for _, s in entries], np.float64)


def test_published_thresholds_are_reproduced():
    golden = vectors.load("pmsacl", "evaluation")
    truth, scores, drawn = (golden[f"det_{n}"] for n in ("labels", "scores", "validation"))
    threshold = decisions.youden(truth[drawn], scores[drawn]).threshold
    assert threshold == golden["det_threshold"]
    names = ["sensitivity", "specificity", "accuracy"]
    rates = decisions.at_threshold(truth, scores, threshold)
    actual = [getattr(rates, name) for name in names]
    np.testing.assert_allclose(actual, [golden[f"det_{n}"] for n in names], rtol=1e-12)
    rest = np.setdiff1d(np.arange(len(truth)), drawn)
    rates = decisions.at_threshold(truth[rest], scores[rest], threshold)
    actual = [getattr(rates, name) for name in names[:2]]
    expected = [golden[f"det_{n}_without_validation"] for n in names[:2]]
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@given(ENTRIES)
@settings(deadline=None)
def test_f1_max_by_thresholds(entries):
    truth, scores = both(entries)
    thresholds = sorted(set(scores), reverse=True)
    values = [sk.f1_score(truth, scores >= t) for t in thresholds]
    best = decisions.f1_max(truth, scores)
    assert best.value == pytest.approx(max(values), abs=1e-12)
    reached = [t for t, v in zip(thresholds, values, strict=True) if v > max(values) - 1e-12]
    assert best.threshold == reached[0]


@given(ENTRIES)
@settings(deadline=None)
def test_youden_by_thresholds(entries):
    truth, scores = both(entries)
    thresholds = sorted(set(scores), reverse=True)
    values = [sk.balanced_accuracy_score(truth, scores >= t) * 2 - 1 for t in thresholds]
    best = decisions.youden(truth, scores)
    assert best.value == pytest.approx(max(values), abs=1e-12)
    reached = [t for t, v in zip(thresholds, values, strict=True) if v > max(values) - 1e-12]
    assert best.threshold == reached[0]


@given(ENTRIES, st.floats(-4, 4))
@settings(deadline=None)
def test_rates_at_a_threshold_equal_scikit_learn(entries, threshold):
    truth, scores = both(entries)
    called = scores >= threshold
    rates = decisions.at_threshold(truth, scores, threshold)
    assert rates.accuracy == pytest.approx(sk.accuracy_score(truth, called))
    assert rates.sensitivity == pytest.approx(sk.recall_score(truth, called))
    assert rates.specificity == pytest.approx(sk.recall_score(truth, called, pos_label=0))
    assert rates.f1 == pytest.approx(sk.f1_score(truth, called))
    if called.any():
        assert rates.precision == pytest.approx(sk.precision_score(truth, called))
    else:
        assert np.isnan(rates.precision)


@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1, 1], []])
@pytest.mark.parametrize("criterion", [decisions.f1_max, decisions.youden])
def test_one_class_has_no_best_threshold(criterion, truth):
    assert np.isnan(criterion(np.array(truth), np.arange(float(len(truth))))).all()


def test_rates_of_absent_classes():
    rates = decisions.at_threshold(np.zeros(3), np.arange(3.0), 1.0)
    assert rates.specificity == 1 / 3
    assert np.isnan(rates.sensitivity)
    assert np.isnan(decisions.at_threshold(np.zeros(0), np.zeros(0), 1.0)).all()


def test_all_scores_tied():
    # One threshold: everything is called anomalous; 2 of 5 are.
    truth, scores = np.array([1, 0, 0, 1, 0]), np.full(5, 7.0)
    assert decisions.f1_max(truth, scores) == (pytest.approx(4 / 7), 7.0)
    assert decisions.youden(truth, scores) == (0.0, 7.0)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        decisions.youden(np.array([0, 1]), np.array([np.nan, 1]))
    with pytest.raises(ValueError, match="threshold must be a number"):
        decisions.at_threshold(np.array([0, 1]), np.zeros(2), np.nan)
