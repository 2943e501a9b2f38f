import numpy as np
import pytest

from jaxad.errors import InputError
from jaxad.evaluation import components
from jaxad.metrics import bounded_ranking, streaming


def test_sums_by_hand():
    truth = np.zeros((6, 12), bool)
    truth[1:3, 1:5] = truth[4:6, 8:10] = True  # 8 and 4 pixels.
    flagged = np.zeros_like(truth)
    flagged[1:3, 3:7] = True  # Half inside the first.
    flagged[0, 11] = True  # Too small to count.
    rule = components.Rule(min_truth=2, min_predicted=3)
    where = np.ones_like(truth)
    sums = components.add(components.zero(), truth, flagged, rule, where=where)
    sums = components.add(sums, truth, truth, rule, where=where)
    assert (sums.truths, sums.predicted) == (4, 3)
    assert sums.siou == pytest.approx(4 / 12 + 0 + 1 + 1)
    assert sums.precision == pytest.approx(0.5 + 1 + 1)
    # The first is found up to 0.30, its prediction right up to 0.50.
    np.testing.assert_array_equal(sums.found, [3] * 2 + [2] * 9)
    np.testing.assert_array_equal(sums.invented, [0] * 6 + [1] * 5)
    f1 = [6 / 7] * 2 + [4 / 6] * 4 + [4 / 7] * 5
    found = components.metrics(sums)
    assert found["component_f1"] == pytest.approx(np.mean(f1))
    assert found["component_siou"] == pytest.approx((4 / 12 + 2) / 4)
    assert found["component_ppv"] == pytest.approx(2.5 / 3)


def test_void_counts_nowhere():
    truth = np.zeros((6, 12), bool)
    truth[1:3, 1:5] = True
    where = np.ones_like(truth)
    where[3:] = False
    flagged = truth.copy()
    flagged[4:] = True
    rule = components.Rule(min_truth=0, min_predicted=0)
    sums = components.add(components.zero(), truth, flagged, rule, where=where)
    assert (sums.siou, sums.precision, sums.predicted) == (1, 1, 1)


def test_no_components_are_no_numbers():
    assert all(np.isnan(value) for value in components.metrics(components.zero()).values())


def test_thresholds_of_little():
    empty = streaming.zero()
    assert components.normal_threshold(empty, 0.01) is None
    assert components.oracle_threshold(empty) is None
    tied = streaming.add(empty, np.full(9, 3.0), np.zeros(9))
    threshold = components.normal_threshold(tied, 0.01)
    assert 3.0 < threshold < 3.1
    top = np.full(9, np.finfo(np.float32).max)
    threshold = components.normal_threshold(streaming.add(empty, top, np.zeros(9)), 0.01)
    assert np.isfinite(threshold)


def test_oracle_is_the_threshold_of_the_best_f1():
    rng = np.random.default_rng(0)
    truth = rng.random(2000) < 0.1
    scores = (rng.normal(size=2000) + 2 * truth).astype(np.float32)
    histogram = streaming.add(streaming.zero(), scores, truth)
    flagged = scores >= components.oracle_threshold(histogram)
    f1 = 2 * np.sum(flagged & truth) / (flagged.sum() + truth.sum())
    assert f1 == pytest.approx(bounded_ranking.f1_max(histogram).value)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"threshold": "test"}, r"eval.components.threshold: expected .*'oracle'.*found 'test'"),
        ({"fpr": 1.5}, r"eval.components.fpr: expected a number in \[0, 1\], found 1.5"),
        ({"min_truth": -1}, r"eval.components.min_truth: .*found -1"),
        ({"min_predicted": None}, r"eval.components.min_predicted: .*found None"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(InputError, match=message):
        components.Rule(**fields)
