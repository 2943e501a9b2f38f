import numpy as np
import pytest

from jaxad.evaluation import measures
from jaxad.evaluation.predictions import Predictions


def brute_force_auc(truth, scores):
    """Share of (anomalous, normal) pairs in the right order, ties one half."""
    positive, negative = scores[truth == 1], scores[truth == 0]
    wins = (positive[:, None] > negative).sum() + 0.5 * (positive[:, None] == negative).sum()
    return wins / (len(positive) * len(negative))


def make(**changes):
    """Three videos in snippets of 2 frames, the last snippet of the first one incomplete."""
    fields = {
        "names": ("fight", "calm", "fire"),
        "labels": np.array([1, 0, 1]),
        "image": np.array([0.5, 0.4, 0.1]),
        "snippet": (np.array([0.1, 0.9, 0.3]), np.array([0.3, 0.2]), np.array([0.1, 0.2])),
        "extra": {
            "top": np.array([6.0, 2.0, 4.0]),
            "norm": (np.array([1.0, 5.0, 3.0]), np.array([2.0, 2.0]), np.array([1.0, 7.0])),
        },
        "frames": (
            np.array([0, 0, 0, 1, 1], np.uint8),
            np.zeros(4, np.uint8),
            np.array([0, 0, 1, 1], np.uint8),
        ),
        "classes": ("Fight", "", "Fire"),
        "frames_per_snippet": 2,
    }
    return Predictions(**{**fields, **changes})


def test_frame_metrics_by_hand():
    found = measures.measure(make())
    scores = np.array([0.1, 0.1, 0.9, 0.9, 0.3, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1, 0.2, 0.2])
    truth = np.array([0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1])
    assert found["frame_auc"] == pytest.approx(brute_force_auc(truth, scores))
    # Thresholds 0.9, 0.3, 0.2: 1 of 2, 2 of 5, 4 of 9 right; recalls 1/4, 1/2, 1.
    steps = 0.25 * 1 / 2 + 0.25 * 2 / 5 + 0.5 * 4 / 9
    assert found["frame_average_precision"] == pytest.approx(steps)
    area = 0.25 * (1 + 1 / 2) / 2 + 0.25 * (1 / 2 + 2 / 5) / 2 + 0.5 * (2 / 5 + 4 / 9) / 2
    assert found["frame_pr_auc"] == pytest.approx(area)
    assert found["frame_fpr95"] == pytest.approx(5 / 9)  # At 0.2: all but the four of 0.1.


def test_record_metrics_by_hand():
    found = measures.measure(make())
    assert found["image_auc"] == pytest.approx(1 / 2)  # 0.5 > 0.4 > 0.1.
    assert found["image_average_precision"] == pytest.approx((1 + 2 / 3) / 2)


def test_class_metrics_by_hand():
    found = measures.measure(make())
    assert found["class/Fight/frame_auc"] == pytest.approx(
        brute_force_auc(np.array([0, 0, 0, 1, 1]), np.array([0.1, 0.1, 0.9, 0.9, 0.3]))
    )
    assert found["class/Fire/frame_auc"] == 1.0
    with_normal = brute_force_auc(
        np.array([0, 0, 0, 0, 0, 0, 1, 1]), np.array([0.3, 0.3, 0.2, 0.2, 0.1, 0.1, 0.2, 0.2])
    )
    assert found["class/Fire/frame_auc_with_normal"] == pytest.approx(with_normal)


def test_separability_by_hand():
    found = {
        name.removeprefix("separability/"): value
        for name, value in measures.measure(make()).items()
        if name.startswith("separability/")
    }
    # Half of the second snippet of the first video is anomalous, and so is all of its short third.
    assert found == pytest.approx(
        {
            "top_anomalous": (6 + 4) / 2,
            "top_normal": 2,
            "norm_anomalous": (5 + 3 + 7) / 3,
            "norm_normal": (1 + 2 + 2 + 1) / 4,
            "score_anomalous": (0.9 + 0.3 + 0.2) / 3,
            "score_normal": (0.1 + 0.3 + 0.2 + 0.1) / 4,
        }
    )


def test_frame_auc_equals_brute_force_with_ties():
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 20, 12)
    snippet = tuple(np.round(rng.random(n), 1) for n in lengths)
    frames = tuple(rng.integers(0, 2, 16 * n - rng.integers(16)).astype(np.uint8) for n in lengths)
    found = measures.measure(
        Predictions(tuple("abcdefghijkl"), np.ones(12, int), snippet=snippet, frames=frames)
    )
    flat = np.concatenate(
        [np.repeat(s, 16)[: len(t)] for s, t in zip(snippet, frames, strict=True)]
    )
    expected = brute_force_auc(np.concatenate(frames), flat)
    assert found["frame_auc"] == pytest.approx(expected, abs=1e-12)


def test_order_of_records_does_not_matter():
    whole, order = make(), [2, 0, 1]
    turned = make(
        **{
            name: tuple(getattr(whole, name)[i] for i in order)
            for name in ("names", "snippet", "frames", "classes")
        },
        labels=whole.labels[order],
        image=whole.image[order],
        extra={
            "top": whole.extra["top"][order],
            "norm": tuple(whole.extra["norm"][i] for i in order),
        },
    )
    assert measures.measure(turned) == pytest.approx(measures.measure(whole))


def test_weak_labels_give_record_metrics_and_say_what_is_missing():
    weak = make(frames=None)
    found, reasons = measures.measure(weak), measures.undefined(weak)
    assert set(found) == {
        "image_auc",
        "image_average_precision",
        "separability/top_anomalous",
        "separability/top_normal",
    }
    assert reasons["frame_auc"] == "The split has no truth per frame."
    assert "separability/score_normal" in reasons
    assert "separability/norm_anomalous" in reasons


def test_image_scores_alone():
    images = Predictions(("a", "b"), np.array([0, 1]), image=np.array([0.2, 0.1]))
    assert measures.measure(images) == {
        "image_auc": 0.0,
        "image_average_precision": 0.5,
        "image_fpr95": 1.0,
        "image_fpr95_ood_positive": 1.0,
    }
    assert measures.undefined(images) == {}


def test_truth_of_one_class_leaves_out_rankings_and_says_why():
    normal = make(
        labels=np.zeros(3, int),
        frames=tuple(np.zeros(n, np.uint8) for n in (5, 4, 4)),
        classes=None,
    )
    found, reasons = measures.measure(normal), measures.undefined(normal)
    assert all(np.isfinite(value) for value in found.values())
    assert set(found) == {
        "separability/top_normal",
        "separability/norm_normal",
        "separability/score_normal",
    }
    assert reasons["frame_auc"] == "All 13 frames are normal; both are needed."
    assert reasons["image_auc"] == "All 3 videos are normal; both are needed."
    assert reasons["separability/top_anomalous"] == "There are no anomalous videos."


def test_class_that_is_anomalous_throughout():
    frames = (*make().frames[:2], np.ones(4, np.uint8))
    found, reasons = measures.measure(make(frames=frames)), measures.undefined(make(frames=frames))
    assert "class/Fire/frame_auc" not in found
    assert reasons["class/Fire/frame_auc"] == "All 4 frames are anomalous; both are needed."
    assert found["class/Fire/frame_auc_with_normal"] == pytest.approx(2 / 16)


def test_single_video():
    whole = make()
    one = Predictions(
        ("fight",), np.array([1]), whole.image[:1], whole.snippet[:1], frames=whole.frames[:1],
        frames_per_snippet=2,
    )  # fmt: skip
    assert measures.measure(one)["frame_auc"] == pytest.approx(0.5 * (2.5 + 2) / 3)
    assert measures.undefined(one)["image_auc"] == "All 1 videos are anomalous; both are needed."


def test_no_records():
    empty = Predictions((), np.zeros(0, int), np.zeros(0), (), frames=())
    assert measures.measure(empty) == {}


@pytest.mark.parametrize(
    "name", [*measures.measure(make()), *measures.undefined(make(frames=None))]
)
def test_every_metric_is_explained(name):
    assert len(measures.explain(name)) > 20


def test_headlines_have_names_to_read():
    found = measures.measure(make())
    assert list(measures.headlines(found))[:2] == ["frame AUC", "frame average precision"]
    assert measures.headlines(found)["frame FPR95"] == found["frame_fpr95"]
