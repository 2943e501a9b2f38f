import numpy as np
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.metrics import regions, segmentation

SEEDS = st.integers(0, 9999)


def maps(seed, images=2, height=9, width=11, levels=6):
    """Blobs of truth, and scores with many ties."""
    rng = np.random.default_rng(seed)
    truth = rng.random((images, height, width)) < 0.3
    truth[0, 0, 0], truth[0, -1, -1] = True, False
    scores = (rng.integers(0, levels, truth.shape) + 2 * truth) / levels
    return truth, scores


def flood(mask):
    """Components of one image pixel by pixel, numbered by their first."""
    labels = np.zeros(mask.shape, int)
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start]:
            continue
        number, stack = labels.max() + 1, [start]
        while stack:
            y, x = stack.pop()
            inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
            if inside and mask[y, x] and not labels[y, x]:
                labels[y, x] = number
                stack += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return labels


def thresholds_one_by_one(truth, scores):
    """The PRO curve as it is defined."""
    masks = [(i, flood(m) == k) for i, m in enumerate(truth) for k in range(1, flood(m).max() + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(scores)[::-1]:
        called = scores >= threshold
        covered = np.mean([called[i][mask].mean() for i, mask in masks])
        points.append((called[~truth].mean(), covered))
    return np.array(points).T


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_components_are_numbered_by_their_first_pixel(seed):
    truth, _ = maps(seed)
    labels, count = regions.components(truth)
    first = flood(truth[0])
    np.testing.assert_array_equal(labels[0], first)
    second = flood(truth[1])
    np.testing.assert_array_equal(labels[1], np.where(second, second + first.max(), 0))
    assert count == first.max() + second.max()


def test_small_and_lesser_components_are_cleared():
    mask = np.array([[1, 1, 0, 0, 1], [0, 0, 0, 0, 1], [1, 0, 0, 1, 0]])
    kept = regions.remove_small(mask, min_area=2)
    np.testing.assert_array_equal(kept, [[1, 1, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0]])
    largest = regions.largest_component(np.stack([mask, 0 * mask, mask[::-1]]))
    expected = np.array([[0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0]])
    np.testing.assert_array_equal(largest, [expected, 0 * expected, expected[::-1]])


def test_the_first_of_equal_components_is_kept():
    np.testing.assert_array_equal(regions.largest_component([[1, 0, 1]]), [[1, 0, 0]])


def test_published_cleaning_is_reproduced():
    golden = vectors.load("pmsacl", "evaluation")
    masks, called = golden["masks"], golden["heatmaps"] >= golden["threshold"]
    cleaned = regions.remove_small(called, min_area=int(golden["min_area"]))
    np.testing.assert_array_equal(cleaned, golden["cleaned"])
    np.testing.assert_allclose(segmentation.iou(masks, cleaned), golden["iou_cleaned"], rtol=1e-12)
    largest = regions.largest_component(called)
    np.testing.assert_allclose(segmentation.iou(masks, largest), golden["iou_largest"], rtol=1e-12)


@pytest.mark.parametrize("limit, name", [(0.3, "pro_auc_fpr0.3"), (1.0, "pro_auc_fpr1.0")])
def test_reference_pro_is_near_and_at_its_own_thresholds_the_same(limit, name):
    golden = vectors.load("pmsacl", "evaluation")
    maps_of_it, expected = (golden["masks"], golden["heatmaps"]), float(golden[name])
    released = regions.aupro_released(*maps_of_it, fpr_limit=limit, thresholds=None)
    assert released == pytest.approx(expected, abs=1e-12)
    # With every threshold there is: 1.1e-4 away at 0.3, 4e-5 at 1.
    actual = regions.aupro(*maps_of_it, fpr_limit=limit)
    assert actual == pytest.approx(expected, abs=1.5e-4)


def test_thresholds_at_normal_pixels_by_hand():
    # Regions of 1 and of 2 pixels; normal scores 0.1, 0.4, 0.6, 0.8.
    truth = np.array([[1, 0, 1, 1], [0, 0, 0, 0]])
    scores = np.array([[0.7, 0.1, 0.5, 0.9], [0.4, 0.6, 0.8, 0.4]])
    # Above 0.8, 0.6, 0.4, 0.4, 0.1; at no threshold all pixels are flagged, so (1, 1) is added.
    flagged = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    covered = np.array([0.25, 0.75, 1.0, 1.0, 1.0, 1.0])
    actual = regions.aupro_released(truth, scores, fpr_limit=1.0, thresholds=None)
    assert actual == pytest.approx(np.trapezoid(covered, flagged))
    few = regions.aupro_released(truth, scores, fpr_limit=1.0, thresholds=2)  # 0.8 and 0.1.
    assert few == pytest.approx(np.trapezoid([0.25, 1.0, 1.0], [0.0, 0.8, 1.0]))


@given(SEEDS, st.floats(0.05, 1.0))
@settings(max_examples=25, deadline=None)
def test_thresholds_at_normal_pixels_change_little(seed, limit):
    truth, scores = maps(seed)
    normal = max(int(np.sum(truth == 0)), 1)
    released = regions.aupro_released(truth, scores, fpr_limit=limit, thresholds=None)
    exact = regions.aupro(truth, scores, fpr_limit=limit)
    ties = normal - len(np.unique(scores[truth == 0]))
    np.testing.assert_allclose(released, exact, atol=(2 + ties) / normal / limit)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_pro_curve_by_thresholds(seed):
    truth, scores = maps(seed)
    actual = regions.pro_curve(truth, scores)
    np.testing.assert_allclose(actual, thresholds_one_by_one(truth, scores), atol=1e-12)


@given(SEEDS, st.floats(0.01, 1.0))
@settings(max_examples=25, deadline=None)
def test_area_up_to_a_limit_by_a_fine_grid(seed, limit):
    x, y = regions.pro_curve(*maps(seed))
    # Vertical steps have no area: of points with one x, the grid needs any.
    grid = np.unique(np.append(np.linspace(0, limit, 20_001), x[x < limit]))
    assert regions.integrate_to(x, y, limit) == pytest.approx(
        np.trapezoid(np.interp(grid, x, y), grid) / limit, abs=2e-4 / limit
    )


def test_perfect_scores_cover_all_regions_at_once():
    truth, _ = maps(0)
    assert regions.aupro(truth, truth.astype(float)) == pytest.approx(1.0)
    # All tied: one straight line, of area limit² / 2 over limit.
    assert regions.aupro(truth, np.zeros(truth.shape), fpr_limit=0.3) == pytest.approx(0.15)


def test_every_region_weighs_the_same():
    # Of two regions, of 1 and of 4 pixels, only the small one scores above the normal pixels.
    truth = np.array([[1, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1]])
    scores = np.zeros(truth.shape)
    scores[0, 0], scores[0, 3:] = 2.0, 1.0
    flagged, covered = regions.pro_curve(truth, scores)
    np.testing.assert_allclose(flagged, [0, 0, 3 / 7, 1])
    np.testing.assert_allclose(covered, [0, 1 / 2, 1 / 2, 1])


def test_void_pixels_change_nothing():
    truth, scores = maps(3)
    where = np.ones(truth.shape, bool)
    where[:, :2] = False
    marked = np.where(where, truth, 255)
    spoiled = np.where(where, scores, np.nan)
    expected = regions.aupro(truth[:, 2:], scores[:, 2:])
    assert regions.aupro(marked, spoiled, where=where) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [0, 1])
def test_pro_without_regions_or_normal_pixels_is_undefined(value):
    truth = np.full((1, 2, 3), value)
    assert np.isnan(regions.aupro(truth, np.zeros((1, 2, 3))))
    assert np.isnan(regions.aupro_released(truth, np.zeros((1, 2, 3))))


def overlaps_one_by_one(truth, predicted):
    """sIoU and precision set by set."""
    true, called = flood(truth), flood(predicted)

    def siou(labels, others):
        result, precision = [], []
        for i in range(1, labels.max() + 1):
            own = labels == i
            touching = np.isin(others, np.unique(others[own & (others > 0)])) & (others > 0)
            union = (own | touching) & ~((labels > 0) & ~own & touching)
            result.append((own & touching).sum() / union.sum())
            precision.append((own & touching).sum() / own.sum())
        return result, precision

    (siou_true, _), (siou_called, precision) = siou(true, called), siou(called, true)
    return siou_true, siou_called, precision


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_component_overlaps_set_by_set(seed):
    (truth, predicted), _ = maps(seed)
    actual = regions.component_overlaps(truth, predicted)
    for part, expected in zip(actual, overlaps_one_by_one(truth, predicted), strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-12)


def test_a_bridge_over_two_objects_is_not_held_against_either():
    # One prediction of 5 pixels covers both objects of 2 and the gap: sIoU 2 / (5 - 2).
    truth = np.array([[1, 1, 0, 1, 1, 0]])
    predicted = np.array([[1, 1, 1, 1, 1, 0]])
    actual = regions.component_overlaps(truth, predicted)
    np.testing.assert_allclose(actual.truth_siou, [2 / 3, 2 / 3])
    np.testing.assert_allclose(actual.predicted_siou, [4 / 5])
    np.testing.assert_allclose(actual.predicted_precision, [4 / 5])


def test_small_objects_become_void():
    truth = np.array([[1, 0, 0, 0, 1, 1]])
    predicted = np.array([[1, 1, 0, 0, 1, 1]])
    actual = regions.component_overlaps(truth, predicted, min_truth_area=2)
    np.testing.assert_allclose(actual.truth_siou, [1])
    np.testing.assert_allclose(actual.predicted_precision, [0, 1])  # Of what is left, a pixel.
    actual = regions.component_overlaps(truth, predicted[:, ::-1], min_predicted_area=3)
    np.testing.assert_allclose(actual.truth_siou, [0, 0])


def test_component_f1_counts_over_all_images():
    overlaps = regions.ComponentOverlaps
    images = [
        overlaps(np.array([0.6, 0.2]), np.array([0.5]), np.array([0.9])),
        overlaps(np.array([1.0]), np.zeros(0), np.array([0.3, 0.5])),
    ]
    actual = regions.component_f1(images, thresholds=[0.25, 0.5])
    np.testing.assert_array_equal(actual.found, [2, 2])
    np.testing.assert_array_equal(actual.missed, [1, 1])
    np.testing.assert_array_equal(actual.invented, [0, 1])
    np.testing.assert_allclose(actual.f1, [4 / 5, 4 / 6])
    assert actual.mean == pytest.approx((4 / 5 + 4 / 6) / 2)
    assert len(regions.component_f1(images).f1) == 11
    assert np.isnan(regions.component_f1([]).mean)


@pytest.mark.parametrize("case", ["c19_t0.7", "c5_t0.8"])
def test_published_adjusted_iou_is_reproduced(case):
    golden = vectors.part(vectors.load("entropy_max", "segments"), f"{case}/")
    where = golden["gt"] != 255
    actual = regions.adjusted_iou(golden["gt"] == 2, golden["mask"], where=where)
    np.testing.assert_allclose(actual.iou, golden["iou"], rtol=1e-12)
    np.testing.assert_array_equal(actual.false_positive, golden["iou0"])
    np.testing.assert_array_equal(actual.missed, golden["gt_iou0"])
    labels, _ = regions.components(golden["mask"].astype(bool) & where)
    np.testing.assert_array_equal(labels, np.abs(golden["components"]))


def test_adjusted_iou_counts_the_missed_part_next_to_it():
    # S is 3 pixels, 2 of them anomalous; the truth's other 2 pixels hang on to it, 1 lies apart.
    truth = np.array([[0, 1, 1, 1, 1, 0, 1]])
    predicted = np.array([[1, 1, 1, 0, 0, 0, 0]])
    actual = regions.adjusted_iou(truth, predicted)
    np.testing.assert_allclose(actual.iou, [2 / 5])
    np.testing.assert_array_equal(actual.missed, [False, True])
    nothing = regions.adjusted_iou(truth, 0 * predicted)
    assert nothing.iou.shape == (0,)
    assert nothing.missed.all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"fpr_limit must be in .* got 0"):
        regions.aupro(np.ones((2, 2)), np.ones((2, 2)), fpr_limit=0)
    with pytest.raises(ValueError, match=r"fpr_limit must be in \(0, 1\], got 2"):
        regions.aupro_released(np.ones((2, 2)), np.ones((2, 2)), fpr_limit=2)
    with pytest.raises(ValueError, match="thresholds must be at least 2 or None, got 1"):
        regions.aupro_released(np.ones((2, 2)), np.ones((2, 2)), thresholds=1)
    with pytest.raises(ValueError, match="truth must be 0 or 1, found 255"):
        regions.aupro(np.full((2, 2), 255), np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"truth must be one image \[H, W\], got \(1, 2, 2\)"):
        regions.component_overlaps(np.ones((1, 2, 2)), np.ones((1, 2, 2)))
    with pytest.raises(ValueError, match=r"mask must be \[..., H, W\], got \(3,\)"):
        regions.components(np.ones(3))
    with pytest.raises(ValueError, match="1 of 4 scores are NaN"):
        regions.aupro(np.eye(2), np.array([[0, np.nan], [1, 2]]))
