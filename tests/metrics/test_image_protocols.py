import numpy as np
import pytest
import vectors

from jaxad.metrics import calibration, image_protocols, ranking, segmentation


@pytest.mark.parametrize("kind", ["released", "void_excluded"])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_published_image_means_are_reproduced(kind, column):
    golden = vectors.load("pans", "metrics")
    labels = [golden[f"label/{i}"] for i in range(6)]
    scores = [1 - golden[f"confidence/{i}"] for i in range(6)]
    # The released program takes void (255) for anomalous.
    where = [x < 255 for x in labels] if kind == "void_excluded" else None
    metric = (ranking.roc_auc, ranking.average_precision, ranking.fpr_at_tpr_nearest)[column]
    actual = image_protocols.per_image(metric, [x >= 13 for x in labels], scores, where=where)
    expected = [golden[f"{kind}/per_image/{i}"][column] for i in range(6)]
    np.testing.assert_allclose(actual, expected, atol=1e-12)
    mean = image_protocols.mean_over_images(actual)
    assert 100 * mean.mean == pytest.approx(golden[f"{kind}/mean_percent"][column])
    assert mean.images == np.isfinite(expected).sum()


def test_best_threshold_golden():
    golden = vectors.load("memmc_mae", "iou_protocol")
    truth, maps, thresholds = (golden[n] for n in ("truth", "maps", "thresholds"))
    best = image_protocols.best_threshold_iou(truth, maps, thresholds)
    assert best.threshold == golden["best_threshold"]
    means = golden["mean_iou_per_threshold"]
    np.testing.assert_allclose(best.mean_iou_per_threshold, means, rtol=1e-12)
    each = segmentation.map_iou(truth, maps, best.threshold)
    grouped = image_protocols.group_mean(each, golden["groups"])
    np.testing.assert_allclose(grouped.groups, golden["group_mean_iou"], rtol=1e-12)
    expected = [golden["mean_iou"], golden["std_iou"]]
    np.testing.assert_allclose(grouped[:2], expected, rtol=1e-12)


def test_many_thresholds_equal_one_after_the_other():
    golden = vectors.load("memmc_mae", "iou_protocol")
    truth, maps, thresholds = (golden[n] for n in ("truth", "maps", "thresholds"))
    truth = truth * (np.arange(12) != 5)[:, None, None]  # One image without anomaly.
    thresholds = [*thresholds, 2.0]  # Nothing is predicted.
    actual = image_protocols.iou_at_thresholds(truth, maps, thresholds)
    expected = [segmentation.map_iou(truth, maps, t) for t in thresholds]
    assert actual.shape == (11, 12)
    np.testing.assert_array_equal(actual, expected)


def test_images_without_truth_are_left_out():
    truth, scores = np.array([[0, 0], [0, 1]]), np.array([[9.0, 9.0], [1.0, 5.0]])
    best = image_protocols.best_threshold_iou(truth, scores, [0.0, 5.0])
    assert best[:2] == (5.0, 1.0)
    nothing = image_protocols.best_threshold_iou(truth[:1], scores[:1], [0.0, 5.0])
    assert np.isnan(nothing.mean_iou)


def test_images_may_differ_in_size():
    truth, scores = [np.array([[0, 1]]), np.array([[0], [1], [255]])], [np.array([[0.0, 1.0]])]
    scores.append(np.array([[1.0], [0.0], [np.nan]]))
    where = [x < 255 for x in truth]
    actual = image_protocols.per_image(ranking.roc_auc, truth, scores, where=where)
    np.testing.assert_array_equal(actual, [1, 0])


def test_no_image_counts():
    mean = image_protocols.mean_over_images(np.full(3, np.nan))
    assert np.isnan(mean.mean)
    assert mean.images == 0


def test_groups_are_drawn_without_replacement_and_repeat_with_the_seed():
    groups = image_protocols.draw_groups(10, groups=4, size=7, seed=3)
    assert groups.shape == (4, 7)
    assert all(len(set(group)) == 7 for group in groups)
    again = image_protocols.draw_groups(10, groups=4, size=7, seed=3)
    np.testing.assert_array_equal(groups, again)
    with pytest.raises(ValueError, match=r"1 to 10 \(images\), got 11"):
        image_protocols.draw_groups(10, size=11)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="got 1, 2 and 1"):
        image_protocols.per_image(ranking.roc_auc, [np.zeros(1)], [np.zeros(1)] * 2)
    with pytest.raises(ValueError, match="at least one candidate"):
        image_protocols.best_threshold_iou(np.ones((1, 2)), np.ones((1, 2)), [])


def test_disjoint_groups_share_no_image_and_repeat_with_the_seed():
    groups = image_protocols.draw_disjoint_groups(11, groups=3, size=3, seed=3)
    assert groups.shape == (3, 3)
    assert len(np.unique(groups)) == 9
    assert groups.max() < 11
    again = image_protocols.draw_disjoint_groups(11, groups=3, size=3, seed=3)
    np.testing.assert_array_equal(groups, again)
    with pytest.raises(ValueError, match=r"at most 11 \(images\), got 3 and 4"):
        image_protocols.draw_disjoint_groups(11, groups=3, size=4)


def test_no_image_has_no_best_threshold():
    best = image_protocols.best_threshold_iou(np.zeros((0, 2, 2)), np.zeros((0, 2, 2)), [0.0, 1.0])
    np.testing.assert_array_equal(best.mean_iou_per_threshold, [np.nan, np.nan])
    assert np.isnan(best[:2]).all()


def test_a_selection_of_another_shape_is_told_from_its_array():
    with pytest.raises(ValueError, match=r"^confidence and where.*\(3,\) and \(2,\)"):
        calibration.adaptive_calibration_error(np.ones(3), np.ones(3), where=np.ones(2))
