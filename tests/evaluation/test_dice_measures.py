import dataclasses

import numpy as np
import ood_scenes
import pytest
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.data.split import Split
from jaxad.evaluation import collecting, dice_measures, measures, predictions

NORMAL = [i for i, name in enumerate(ood_scenes.SETS) if not name]


def scored(truth, guesses, *, background, subjects=None, labels=None):
    """Predictions of label maps, `[n, H, W]` each."""
    count = len(truth)
    split = Split(
        names=[f"{i}" for i in range(count)],
        labels=np.zeros(count, int) if labels is None else labels,
        read=lambda i: {},
        fingerprint={},
        segment_classes=tuple(f"class {i}" for i in range(4)),
        background=background,
        subjects=subjects,
    )
    scores = {
        "pixel": np.zeros(truth.shape, np.float32),
        "classes": guesses,
        "index": np.arange(count),
        "valid": np.ones(count, bool),
    }
    return collecting.collect(split, [(scores, {"segments": truth.astype(np.uint8)})])


def by_hand(places):
    """Dice of the foreground classes, pooled over images."""
    truth = np.stack([ood_scenes.SCENES[i][1]["segments"] for i in places])
    guesses = np.stack([ood_scenes.SCENES[i][0]["classes"] for i in places])
    return [
        2 * np.sum((truth == k) & (guesses == k)) / (np.sum(truth == k) + np.sum(guesses == k))
        for k in range(3)
    ]


def test_golden_dice():
    golden = vectors.part(vectors.load("aux_prototypes", "metrics"), "dice/")
    found = measures.measure(
        scored(
            golden["gt"],
            golden["pred"],
            background=int(golden["background"]),
            subjects=[f"slice {i}" for i in range(5)],  # So means over patients are over slices.
        )
    )
    pooled = [found[f"dice/class {k}"] for k in range(3)]
    np.testing.assert_allclose(pooled, golden["pooled"], atol=1e-6)
    assert found["dice"] == pytest.approx(float(golden["pooled_total"]), abs=1e-6)
    means = [found[f"per_subject/dice/class {k}"] for k in range(3)]
    np.testing.assert_allclose(means, golden["nanmean_over_slices"], atol=1e-6)
    assert found["per_subject/dice"] == pytest.approx(golden["nanmean_over_slices"].mean())
    assert "dice/class 3" not in found


def test_dice_is_that_of_normal_images_alone():
    found = measures.measure(ood_scenes.collected())
    expected = by_hand(NORMAL)
    assert [found[f"dice/{name}"] for name in ood_scenes.CLASSES[:3]] == pytest.approx(expected)
    assert found["dice"] == pytest.approx(np.mean(expected))


def test_means_over_patients_are_of_their_normal_images():
    found = measures.measure(ood_scenes.collected())
    expected = np.mean([by_hand(pair) for pair in ((0, 1), (2, 3), (4, 5))], axis=0)
    own = [found[f"per_subject/dice/{name}"] for name in ood_scenes.CLASSES[:3]]
    assert own == pytest.approx(expected.tolist())
    assert found["per_subject/dice"] == pytest.approx(expected.mean())


@settings(max_examples=20)
@given(st.permutations(range(ood_scenes.COUNT)), st.integers(1, 5))
def test_order_and_batching_change_nothing(order, size):
    expected = dice_measures.evaluated(ood_scenes.collected())
    assert dice_measures.evaluated(ood_scenes.collected(order, size=size)) == expected


def test_one_patient_equals_the_pooled_values():
    rng = np.random.default_rng(0)
    truth, guesses = rng.integers(0, 4, (2, 3, 6, 6))
    found = measures.measure(scored(truth, guesses, background=0, subjects=["P"] * 3))
    for name in ("dice", "dice/class 1", "dice/class 3"):
        assert found[f"per_subject/{name}"] == found[name]
    assert "dice/class 0" not in found


def test_class_that_is_nowhere_is_left_out_of_means_and_has_a_reason():
    truth = np.zeros((1, 2, 2), int)
    truth[0, 0] = 1
    result = scored(truth, truth, background=3, subjects=["P"])
    found, reasons = dice_measures.evaluated(result)
    assert (found["dice"], found["per_subject/dice"]) == (1, 1)
    for name in ("dice/class 2", "per_subject/dice/class 2"):
        assert reasons[name].startswith("No normal image holds the class")


def test_missed_and_invented_classes_have_dice_zero():
    truth, guesses = np.zeros((1, 2, 2), int), np.ones((1, 2, 2), int)
    found, _ = dice_measures.evaluated(scored(truth, guesses, background=3))
    assert (found["dice/class 0"], found["dice/class 1"]) == (0, 0)
    assert "per_subject/dice" not in found


def test_no_normal_images_and_no_truth_leave_reasons():
    maps = np.zeros((1, 2, 2), int)
    anomalous = scored(maps, maps, background=3, labels=np.array([1]), subjects=["P"])
    found, reasons = dice_measures.evaluated(anomalous)
    assert found == {}
    assert {"dice", "per_subject/dice", "dice/class 0"} <= reasons.keys()
    scores = {**next(ood_scenes.batches(size=ood_scenes.COUNT))[0]}
    unknown = collecting.collect(ood_scenes.split(), [(scores, {})])
    assert dice_measures.evaluated(unknown)[1]["dice"] == "The split has no truth of classes."


def test_no_background_no_dice():
    result = ood_scenes.collected(of=ood_scenes.split(background=None))
    assert dice_measures.evaluated(result) == ({}, {})
    assert dice_measures.foreground(result) == ()
    assert "mean_iou" in measures.measure(result)


def test_dice_leaves_other_metrics_as_they_are():
    without = measures.measure(ood_scenes.collected(of=ood_scenes.split(background=None)))
    found = measures.measure(ood_scenes.collected())
    assert {name: v for name, v in found.items() if "dice" not in name} == without


def test_all_can_be_computed_again_from_the_file(tmp_path):
    result = ood_scenes.collected()
    result.save(tmp_path / "test.npz")
    loaded = predictions.load(tmp_path / "test.npz")
    assert measures.measure(loaded) == measures.measure(result)
    assert (loaded.subjects, loaded.class_groups) == (ood_scenes.SUBJECTS, ood_scenes.GROUPS)
    assert loaded.pixels.background == 3
    with np.load(tmp_path / "test.npz") as file:
        counts = file["pixels/counts"]
    assert (counts.shape, counts.dtype) == ((ood_scenes.COUNT, 4, 3), np.int32)
    assert not counts[-1].any()  # All void.


def test_every_metric_is_explained():
    result = ood_scenes.collected()
    for name in dice_measures.evaluated(result)[0]:
        assert len(measures.explain(name)) > 20, name
    assert "class a/b." in measures.explain("per_subject/dice/a/b")
    assert "dice" in measures.headlines(measures.measure(result))


def test_background_outside_the_classes():
    with pytest.raises(ValueError, match="background must be 0 to 3, got 4"):
        ood_scenes.collected(of=dataclasses.replace(ood_scenes.split(), background=4))
