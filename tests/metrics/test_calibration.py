import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from jaxad.metrics import calibration, streaming


def decisions(seed, count=60):
    rng = np.random.default_rng(seed)
    # Twentieths: many lie on the edges of 5 and 10 bins.
    confidence = rng.integers(0, 21, count) / 20
    return confidence, rng.random(count) < confidence


def predictions(seed, count=30, classes=4):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(classes), count), rng.integers(0, classes, count)


@given(st.integers(0, 999), st.sampled_from([1, 5, 10, 15]))
@settings(max_examples=25, deadline=None)
def test_errors_bin_by_bin(seed, bins):
    confidence, right = decisions(seed)
    gaps, weights = [], []
    for k in range(bins):
        low = -1 if k == 0 else k / bins  # 0 falls into the first bin.
        inside = (confidence > low) & (confidence <= (k + 1) / bins)
        if inside.any():
            gaps.append(abs(confidence[inside].mean() - right[inside].mean()))
            weights.append(inside.mean())
    state = calibration.add(calibration.zero(bins=bins), confidence, right)
    expected = np.dot(gaps, weights)
    assert calibration.calibration_error(state) == pytest.approx(expected, abs=1e-12)
    largest = calibration.largest_calibration_error(state)
    assert largest == pytest.approx(max(gaps), abs=1e-12)
    curve = calibration.curve(state)
    np.testing.assert_allclose(np.abs(curve.confidence - curve.accuracy), gaps, atol=1e-12)
    np.testing.assert_allclose(curve.share, weights, atol=1e-12)


@given(st.integers(0, 999), st.integers(0, 60))
@settings(max_examples=25, deadline=None)
def test_merged_states_equal_one(seed, cut):
    confidence, right = decisions(seed)
    zero = calibration.zero()
    first = calibration.add(zero, confidence[:cut], right[:cut])
    second = calibration.add(zero, confidence[cut:], right[cut:])
    merged = streaming.merge(first, second)
    whole = calibration.add(zero, confidence, right)
    np.testing.assert_array_equal(merged.counts, whole.counts)
    np.testing.assert_array_equal(merged.right, whole.right)
    np.testing.assert_allclose(merged.confidence, whole.confidence, rtol=1e-12)
    assert zero.counts.sum() == 0  # States are left as they are.


def test_hand_computed_errors():
    # Bin (0.5, 1] of two: confidences 0.6 and 1.0, one right: |0.5 - 0.8|. Bin [0, 0.5]: 0.5 right.
    state = calibration.add(calibration.zero(bins=2), [0.6, 1.0, 0.5], [0, 1, 1])
    assert calibration.calibration_error(state) == pytest.approx((2 * 0.3 + 0.5) / 3)
    assert calibration.largest_calibration_error(state) == pytest.approx(0.5)


@given(st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_adaptive_error_of_as_many_bins_as_decisions(seed):
    confidence, right = decisions(seed)
    expected = np.abs(confidence - right).mean()
    actual = calibration.adaptive_calibration_error(confidence, right, bins=100)
    assert actual == pytest.approx(expected, abs=1e-12)
    one = calibration.adaptive_calibration_error(confidence, right, bins=1)
    assert one == pytest.approx(abs(confidence.mean() - right.mean()), abs=1e-12)


def test_adaptive_bins_hold_equally_many():
    confidence = np.array([0.9, 0.1, 0.8, 0.2])
    # Bins {0.1, 0.2} and {0.8, 0.9}; only the second has a right decision.
    actual = calibration.adaptive_calibration_error(confidence, [1, 0, 0, 0], bins=2)
    assert actual == pytest.approx((abs(0 - 0.3) + abs(1 - 1.7)) / 4)


@given(st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_proper_scores_as_defined(seed):
    probabilities, labels = predictions(seed)
    expected = sk.log_loss(labels, probabilities, labels=range(4))
    assert calibration.negative_log_likelihood(probabilities, labels) == pytest.approx(expected)
    expected = np.square(probabilities - np.eye(4)[labels]).sum(1).mean()
    assert calibration.brier(probabilities, labels) == pytest.approx(expected)


def test_class_errors_are_averaged():
    probabilities, labels = predictions(0)
    expected = [
        calibration.calibration_error(
            calibration.add(calibration.zero(bins=5), probabilities[:, k], labels == k)
        )
        for k in range(4)
    ]
    actual = calibration.classwise_calibration_error(probabilities, labels, bins=5)
    assert actual == pytest.approx(np.mean(expected))


METRICS = [
    calibration.negative_log_likelihood,
    calibration.brier,
    calibration.classwise_calibration_error,
]


@pytest.mark.parametrize("metric", METRICS)
def test_void_examples_may_hold_anything(metric):
    probabilities, labels = predictions(1)
    where = np.arange(30) % 3 > 0
    spoiled = np.where(where[:, None], probabilities, np.nan), np.where(where, labels, 255)
    expected = metric(probabilities[where], labels[where])
    assert metric(*spoiled, where=where) == pytest.approx(expected)


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_has_no_error(metric):
    assert np.isnan(metric(np.zeros((0, 3)), np.zeros(0, int)))


def test_empty_state_has_no_error():
    assert np.isnan(calibration.calibration_error(calibration.zero()))
    assert np.isnan(calibration.largest_calibration_error(calibration.zero()))
    assert np.isnan(calibration.adaptive_calibration_error(np.zeros(0), np.zeros(0)))


def test_certain_mistakes_cost_infinitely_much():
    assert calibration.negative_log_likelihood([[1.0, 0.0]], [1]) == np.inf
    assert calibration.brier([[1.0, 0.0]], [1]) == 2.0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"confidence must be 0 to 1, found 1\.5"):
        calibration.add(calibration.zero(), [1.5], [1])
    with pytest.raises(ValueError, match=r"labels must be integers 0 to 1, got .*255"):
        calibration.brier([[0.5, 0.5]], [255])
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        calibration.zero(bins=0)
    with pytest.raises(ValueError, match="right must be 0 or 1, found 2"):
        calibration.add(calibration.zero(), [0.5], [2])
