import numpy as np
import pixel_scenes
import pytest

from jaxad.evaluation import collecting, components, measures, pixel_measures, pixels

RANKED = (*pixel_measures.POOLED, *pixel_measures.PER_IMAGE)


def normal_scenes():
    """The same scenes, all anomalies turned to void."""
    return [
        (maps, {**truth, "anomaly": np.where(truth["anomaly"] == 1, 255, truth["anomaly"])})
        for maps, truth in pixel_scenes.SCENES
    ]


def evaluated(**options):
    return pixel_measures.evaluated(pixel_scenes.collected(**options).pixels)


def test_no_anomalous_pixel_leaves_out_rankings_and_says_why():
    found, reasons = evaluated(scenes=normal_scenes())
    assert set(RANKED) <= reasons.keys()
    count = sum(int((s[1]["anomaly"] == 0).sum()) for s in normal_scenes())
    assert reasons["pixel_auc"] == f"All {count:,} pixels are normal; both are needed."
    assert reasons["per_image/pixel_auc"] == "No image has both normal and anomalous pixels."
    assert found["per_image/images"] == 0
    assert found["mean_iou"] > 0.5


def test_nothing_but_void_and_nothing_but_anomalies():
    for value, why in ((255, "no pixels that are not void"), (1, "pixels are anomalous")):
        scenes = [
            (
                maps,
                {name: np.full_like(a, value) if a.ndim == 2 else a for name, a in truth.items()},
            )
            for maps, truth in pixel_scenes.SCENES
        ]
        for _, truth in scenes:
            truth["segments"] = np.full_like(truth["segments"], 255)
        found, reasons = evaluated(scenes=scenes)
        assert why in reasons["pixel_fpr95"]
        assert reasons["mean_iou"] == reasons["ece"] == "No pixel is of an inlier class."
        assert all(np.isfinite(v) for v in found.values())


def test_no_truth_leaves_out_everything_and_says_why():
    found, reasons = evaluated(truth=("image",))
    assert found == {}
    assert reasons["pixel_auc"] == reasons["component_f1"] == "The split has no truth per pixel."
    assert reasons["mean_iou"] == reasons["mce"] == "The split has no truth of classes."


def test_scores_alone_give_rankings_alone():
    found, reasons = evaluated(maps=("pixel",), truth=("anomaly",))
    assert {"mean_iou", "ece"}.isdisjoint({*found, *reasons})
    assert set(RANKED) <= found.keys()


def test_class_that_the_truth_lacks_has_no_entry_but_a_reason():
    state = pixels.zero(1, ("road", "sky", "car", "tree", "bus"))
    found, reasons = pixel_measures.evaluated(pixels.add(state, 0, "a", *pixel_scenes.SCENES[0]))
    assert "iou/bus" not in found
    assert reasons["iou/bus"] == "The truth holds no pixel of this class."
    unnamed = pixels.add(pixels.zero(1, None), 0, "a", *pixel_scenes.SCENES[0])
    found, reasons = pixel_measures.evaluated(unnamed)
    assert {name for name in {*found, *reasons} if name.startswith("iou/")} == {
        f"iou/{i}" for i in range(4)
    }


def test_split_without_a_threshold_recommends_one():
    rule = components.Rule(fpr=0.05)
    found, reasons = evaluated(keeping=collecting.Keeping(rule=rule))
    truth, scores = pixel_scenes.flat()
    reached = np.mean(scores[truth == 0] >= found["component_threshold"])
    assert 0.04 < reached <= 0.05
    assert "No threshold is known" in reasons["component_f1"]


def test_threshold_read_off_the_truth_is_called_an_oracle():
    rule = components.Rule("oracle", min_predicted=0)
    found, _ = evaluated(keeping=collecting.Keeping(rule=rule, threshold=1.5))
    assert found["oracle/component_threshold"] == 1.5
    assert not any(name.startswith("component") for name in found)
    assert "oracle" in measures.explain("oracle/component_f1")
    _, reasons = evaluated(keeping=collecting.Keeping(rule=rule))
    assert "oracle/component_f1" in reasons


def test_no_components_were_asked_for():
    found, reasons = evaluated(keeping=collecting.Keeping(rule=components.Rule("none")))
    assert not any("component" in name for name in {*found, *reasons})


def test_components_that_there_are_none_of_are_explained():
    keeping = collecting.Keeping(rule=components.Rule(min_truth=0), threshold=1e9)
    found, reasons = evaluated(keeping=keeping)
    assert (found["component_siou"], found["component_f1"]) == (0, 0)
    assert reasons["component_ppv"] == "No components of that size were predicted."
    _, reasons = evaluated(keeping=keeping, scenes=normal_scenes())
    assert "neither true nor predicted" in reasons["component_f1"]


def test_every_metric_is_finite_and_explained():
    scored = pixel_scenes.collected(keeping=collecting.Keeping(threshold=1.0))
    found = measures.measure(scored)
    assert len(found) >= 20
    for name, value in found.items():
        assert np.isfinite(value)
        assert len(measures.explain(name)) > 20, name
    for name in measures.undefined(pixel_scenes.collected(truth=("image",))):
        assert len(measures.explain(name)) > 20, name
    assert list(measures.headlines(found))[:3] == [
        "pixel AUC", "pixel average precision", "pixel FPR95"
    ]  # fmt: skip
    assert measures.headlines(found)["mean IoU"] == found["mean_iou"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3])
def test_threshold_of_a_share_of_normal_pixels(share):
    histogram = pixel_scenes.collected().pixels.histogram
    truth, scores = pixel_scenes.flat()
    threshold = components.normal_threshold(histogram, share)
    reached = np.mean(scores[truth == 0] >= threshold)
    below = np.max(scores[(truth == 0) & (scores < threshold)])
    assert reached <= share < np.mean(scores[truth == 0] >= below)
