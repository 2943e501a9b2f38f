import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.metrics import regions, streaming, streaming_regions


def maps(seed, images=3):
    rng = np.random.default_rng(seed)
    truth = rng.random((images, 7, 8)) < 0.3
    truth[0, 0, 0], truth[0, -1, -1] = True, False
    return truth, (rng.normal(size=truth.shape) + truth).astype(np.float32)


@given(st.integers(0, 9999), st.sampled_from([0.05, 0.3, 1.0]), st.sampled_from([2, 2**9, 2**12]))
@settings(max_examples=60, deadline=None)
def test_exact_area_lies_within_the_bounds(seed, limit, bins):
    truth, scores = maps(seed)
    state = streaming_regions.add(streaming_regions.zero(bins=bins), truth, scores)
    result = streaming_regions.aupro(state, fpr_limit=limit)
    assert result.lower <= result.value <= result.upper
    exact = regions.aupro(truth, scores, fpr_limit=limit)
    assert result.lower - 1e-12 <= exact <= result.upper + 1e-12


def test_default_bins_are_close():
    truth, scores = maps(0)
    state = streaming_regions.add(streaming_regions.zero(), truth, scores)
    result = streaming_regions.aupro(state)
    assert result.value == pytest.approx(regions.aupro(truth, scores), abs=1e-3)
    assert result.upper - result.lower < 0.05


def test_merging_equals_adding_all_at_once():
    truth, scores = maps(1)
    where = scores > -1
    zero = streaming_regions.zero(bins=2**10)
    parts = [
        streaming_regions.add(zero, *image[:2], where=image[2])
        for image in zip(truth, scores, where, strict=True)
    ]
    whole = streaming_regions.add(zero, truth, scores, where=where)
    merged = streaming.merge(*parts)
    np.testing.assert_array_equal(merged.normal, whole.normal)
    np.testing.assert_allclose(merged.covered, whole.covered, rtol=1e-12)
    assert merged.regions == whole.regions == regions.components(truth & where)[1]


def test_images_without_anomaly_count_their_normal_pixels():
    truth, scores = maps(2)
    truth[1:] = False
    zero = streaming_regions.zero(bins=2**10)
    state = streaming_regions.add(zero, truth, scores)
    assert state.normal.sum() == (~truth).sum()
    assert np.isnan(streaming_regions.aupro(zero)).all()
    assert np.isnan(streaming_regions.aupro(streaming_regions.add(zero, 0 * truth, scores))).all()


def test_bad_input_is_named():
    zero = streaming_regions.zero(bins=4)
    with pytest.raises(ValueError, match="1 of 4 scores are NaN"):
        streaming_regions.add(zero, np.eye(2), np.array([[0, np.nan], [1, 2]]))
    with pytest.raises(ValueError, match="fpr_limit must be in"):
        streaming_regions.aupro(zero, fpr_limit=2.0)
