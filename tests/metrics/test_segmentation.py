import numpy as np
import pytest
import vectors
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from jaxad.metrics import segmentation


def labels(seed, images=3, classes=4):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, (2, images, 5, 4))


def test_published_class_metrics_are_reproduced():
    golden = vectors.load("pans", "metrics")
    truth = np.stack([golden[f"label/{i}"] for i in range(6)])
    predicted = np.stack([golden[f"prediction/{i}"] for i in range(6)])
    each = segmentation.confusion_matrix(truth, predicted, classes=13, where=truth < 13)
    confusion = each.sum(0)
    np.testing.assert_array_equal(confusion, golden["confusion"])
    # That program adds 1e-6 to the union.
    np.testing.assert_allclose(segmentation.class_iou(confusion), golden["class_iou"], atol=1e-7)
    assert segmentation.mean_iou(confusion) == pytest.approx(float(golden["mean_iou"]), abs=1e-7)
    accuracy = segmentation.pixel_accuracy(confusion)
    assert accuracy == pytest.approx(float(golden["overall_acc"]), abs=1e-12)
    accuracy = segmentation.mean_class_accuracy(confusion)
    assert accuracy == pytest.approx(float(golden["mean_acc"]), abs=1e-7)


def test_published_dice_is_reproduced():
    golden = vectors.part(vectors.load("aux_prototypes", "metrics"), "dice/")
    each = segmentation.confusion_matrix(golden["gt"], golden["pred"], classes=4)
    per_slice = segmentation.dice(each)[:, :3]  # Class 3 is the background.
    np.testing.assert_allclose(per_slice, golden["per_slice"], rtol=1e-12)
    means = np.nanmean(per_slice, axis=0)
    np.testing.assert_allclose(means, golden["nanmean_over_slices"], rtol=1e-12)
    pooled = segmentation.dice(each.sum(0))[:3]
    np.testing.assert_allclose(pooled, golden["pooled"], rtol=1e-12)
    assert pooled.mean() == pytest.approx(float(golden["pooled_total"]))


def test_published_maps_are_reproduced():
    golden = vectors.load("pmsacl", "evaluation")
    given_ = golden["masks"], golden["heatmaps"], float(golden["threshold"])
    np.testing.assert_allclose(segmentation.map_iou(*given_), golden["iou"], rtol=1e-12)
    np.testing.assert_allclose(segmentation.map_dice(*given_), golden["dice"], rtol=1e-12)


@given(st.integers(0, 999))
def test_confusion_equals_scikit_learn(seed):
    truth, predicted = labels(seed)
    actual = segmentation.confusion_matrix(truth, predicted, classes=4)
    assert actual.shape == (3, 4, 4)
    for i in range(3):
        expected = sk.confusion_matrix(truth[i].ravel(), predicted[i].ravel(), labels=range(4))
        np.testing.assert_array_equal(actual[i], expected)


@given(st.integers(0, 999))
def test_class_scores_equal_scikit_learn(seed):
    truth, predicted = labels(seed, classes=3)
    confusion = segmentation.confusion_matrix(truth, predicted, classes=3).sum(0)
    truth, predicted = truth.ravel(), predicted.ravel()
    iou = sk.jaccard_score(truth, predicted, average=None)
    np.testing.assert_allclose(segmentation.class_iou(confusion), iou)
    np.testing.assert_allclose(
        segmentation.dice(confusion), sk.f1_score(truth, predicted, average=None)
    )
    assert segmentation.pixel_accuracy(confusion) == pytest.approx((truth == predicted).mean())
    balanced = sk.balanced_accuracy_score(truth, predicted)
    assert segmentation.mean_class_accuracy(confusion) == pytest.approx(balanced)


def test_absent_classes():
    # Class 1 is predicted but never true; class 2 is in neither.
    confusion = np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(segmentation.class_iou(confusion), [3 / 4, np.nan, np.nan])
    np.testing.assert_array_equal(segmentation.dice(confusion), [6 / 7, 0, np.nan])
    assert segmentation.mean_iou(confusion) == 3 / 4
    empty = np.zeros((2, 2), int)
    for metric in (
        segmentation.mean_iou,
        segmentation.pixel_accuracy,
        segmentation.mean_class_accuracy,
    ):
        assert np.isnan(metric(empty))


@given(st.integers(0, 999))
def test_counts_add_up_and_give_dice(seed):
    truth, predicted = labels(seed)
    each = segmentation.confusion_matrix(truth, predicted, classes=5)
    counts = segmentation.class_counts(each)
    assert counts.shape == (3, 5, 3)
    np.testing.assert_array_equal(counts.sum(0), segmentation.class_counts(each.sum(0)))
    np.testing.assert_array_equal(counts[..., 1].sum(-1), 20)
    np.testing.assert_array_equal(
        segmentation.dice_of_counts(counts.sum(0)), segmentation.dice(each.sum(0))
    )


def test_means_leave_out_what_is_undefined():
    values = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(segmentation.mean_of_defined(values), [2, np.nan])


def test_void_pixels_may_hold_anything():
    truth, predicted = labels(0)
    void = labels(1)[0] == 0
    spoiled = [np.where(void, bad, x) for bad, x in ((255, truth), (-7, predicted))]
    actual = segmentation.confusion_matrix(*spoiled, classes=4, where=~void)
    expected = segmentation.confusion_matrix(
        truth[None][:, ~void], predicted[None][:, ~void], classes=4
    )
    np.testing.assert_array_equal(actual.sum(0), expected[0])


def test_empty_masks_have_the_value_that_is_asked_for():
    truth = np.zeros((2, 2, 2), int)
    truth[1, 0, 0] = 1
    scores = np.zeros((2, 2, 2))
    np.testing.assert_array_equal(segmentation.map_iou(truth, scores, 0.5), [1, 0])
    np.testing.assert_array_equal(
        segmentation.map_dice(truth, scores, 0.5, empty=np.nan), [np.nan, 0]
    )


@given(st.integers(0, 999))
def test_map_iou_and_dice_are_related(seed):
    rng = np.random.default_rng(seed)
    truth, scores = rng.integers(0, 2, (3, 4, 5)), rng.random((3, 4, 5))
    iou, dice = segmentation.map_iou(truth, scores, 0.5), segmentation.map_dice(truth, scores, 0.5)
    np.testing.assert_allclose(dice, 2 * iou / (1 + iou), rtol=1e-12)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="truth must be 0 to 1, found 255"):
        segmentation.confusion_matrix(np.array([[255]]), np.array([[0]]), classes=2)
    with pytest.raises(ValueError, match="prediction must hold integers, got float64"):
        segmentation.confusion_matrix(np.array([[1]]), np.array([[0.5]]), classes=2)
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(1, 3\)"):
        segmentation.confusion_matrix(np.zeros((1, 2), int), np.zeros((1, 3), int), classes=2)
    with pytest.raises(ValueError, match=r"confusion must be \[..., K, K\], got \(2, 3\)"):
        segmentation.dice(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="1 of 4 scores are NaN"):
        segmentation.map_iou(np.zeros((1, 2, 2)), np.array([[[0, 1], [2, np.nan]]]), 0.5)
