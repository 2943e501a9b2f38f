import contextlib
import dataclasses

import numpy as np
import pixel_scenes
import pytest
import vectors

from jaxad.errors import InputError
from jaxad.evaluation import collecting, components, pixel_measures, pixels, predictions
from jaxad.metrics import calibration, image_protocols, ranking, regions, segmentation

EXACT = {
    "auc": ranking.roc_auc,
    "average_precision": ranking.average_precision,
    "fpr95": ranking.fpr_at_tpr,
    "fpr95_nearest": ranking.fpr_at_tpr_nearest,
}
KEEPING = collecting.Keeping(threshold=1.0, rule=components.Rule(min_truth=2, min_predicted=2))


def images(scenes):
    """Truth and scores of each image without void."""
    where = [truth["anomaly"] != 255 for _, truth in scenes]
    return (
        [s[1]["anomaly"][w] for s, w in zip(scenes, where, strict=True)],
        [s[0]["pixel"][w] for s, w in zip(scenes, where, strict=True)],
    )


def measured(scored):
    return pixel_measures.evaluated(scored.pixels)[0]


def assert_same(first, second):
    """Counts equal, sums up to rounding."""
    a, b = first.pixels.arrays(), second.pixels.arrays()
    assert a.keys() == b.keys()
    for name, array in a.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(array, b[name], rtol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(array, b[name], err_msg=name)


def test_pooled_metrics_are_the_exact_ones_within_their_bounds():
    rng = np.random.default_rng(0)
    scenes = [
        ({**maps, "pixel": maps["pixel"] + rng.normal(0, 0.01, maps["pixel"].shape)}, truth)
        for maps, truth in pixel_scenes.SCENES
    ]
    scored = pixel_scenes.collected(scenes=scenes)
    truth, scores = pixel_scenes.flat(scenes)
    bounds, found = pixel_measures.bounds(scored.pixels), measured(scored)
    for name, exact in EXACT.items():
        low, high = bounds[f"pixel_{name}"]
        assert low - 1e-12 <= exact(truth, scores.astype(np.float32)) <= high + 1e-12, name
        assert low <= found[f"pixel_{name}"] <= high
        assert high - low < (0.03 if "fpr" in name else 0.02)


def test_pooled_metrics_are_exact_where_no_two_scores_share_a_bin():
    found = measured(pixel_scenes.collected())
    for name, exact in EXACT.items():
        assert found[f"pixel_{name}"] == pytest.approx(exact(*pixel_scenes.flat()), abs=1e-12)


@pytest.mark.parametrize("shape", pixel_scenes.SIZES)
def test_overlap_per_region_is_the_exact_one_within_its_bounds(shape):
    """For images of one size, which the exact metric wants."""
    of_size = [i for i in range(9) if pixel_scenes.SCENES[i][0]["pixel"].shape == shape]
    scenes = [pixel_scenes.SCENES[i] for i in of_size]
    state = pixels.zero(9, pixel_scenes.CLASSES)
    for place, (maps, truth) in zip(of_size, scenes, strict=True):
        state = pixels.add(state, place, "", maps, truth)
    truth = np.stack([truth["anomaly"] for _, truth in scenes])
    scores = np.stack([maps["pixel"] for maps, _ in scenes])
    exact = regions.aupro(truth, scores, where=truth != 255)
    low, high = pixel_measures.bounds(state)["pixel_aupro"]
    assert low - 1e-12 <= exact <= high + 1e-12
    assert high - low < 0.05


@pytest.mark.parametrize("seed", range(4))
def test_rankings_of_an_image_are_exact(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random(500) < (0.5, 0.02, 0.98, 0.1)[seed]
    scores = (rng.normal(size=500) * 10.0 ** rng.integers(-30, 30, 500)).astype(np.float32)
    scores[:200] = np.round(rng.normal(size=200))  # Ties, zeros of both signs among them.
    found = pixels.image_numbers(truth, scores)
    for name, exact in EXACT.items():
        assert found[name] == pytest.approx(exact(truth, scores), abs=1e-12), name
    assert (found["anomalous"], found["normal"]) == (truth.sum(), (~truth).sum())
    assert np.mean(scores <= found["peak"]) >= 0.985


@pytest.mark.parametrize("truth", [np.zeros(3, bool), np.ones(3, bool), np.zeros(0, bool)])
def test_rankings_of_an_image_of_one_kind_are_undefined(truth):
    found = pixels.image_numbers(truth, np.arange(len(truth), dtype=np.float32))
    assert all(np.isnan(found[name]) for name in EXACT)


def test_means_over_images_are_those_of_the_protocol():
    found = measured(pixel_scenes.collected())
    truth, scores = images(pixel_scenes.SCENES)
    assert found["per_image/images"] == 6
    for name, exact in EXACT.items():
        each = image_protocols.per_image(exact, truth, scores)
        mean = image_protocols.mean_over_images(each).mean
        assert found[f"per_image/pixel_{name}"] == pytest.approx(mean, abs=1e-12)


def test_classes_and_calibration_are_those_of_inlier_pixels():
    found = measured(pixel_scenes.collected())
    truth, guesses, confidence = (
        np.concatenate([np.ravel(scene[part][name]) for scene in pixel_scenes.SCENES])
        for part, name in ((1, "segments"), (0, "classes"), (0, "confidence"))
    )
    inlier = truth < 4
    counted = segmentation.confusion_matrix(
        truth[None], guesses[None], classes=4, where=inlier[None]
    )[0]
    assert found["mean_iou"] == pytest.approx(float(segmentation.mean_iou(counted)))
    own = [found[f"iou/{name}"] for name in pixel_scenes.CLASSES]
    assert own == pytest.approx(segmentation.class_iou(counted).tolist())
    right = guesses[inlier] == truth[inlier]
    assert found["pixel_accuracy"] == pytest.approx(right.mean())
    state = calibration.add(calibration.zero(), confidence[inlier], right)
    assert found["ece"] == pytest.approx(calibration.calibration_error(state))
    assert found["mce"] == pytest.approx(calibration.largest_calibration_error(state))


def test_components_are_those_of_all_images_together():
    found = measured(pixel_scenes.collected(keeping=KEEPING))
    overlaps = [
        regions.component_overlaps(
            truth["anomaly"],
            maps["pixel"] >= 1.0,
            where=truth["anomaly"] != 255,
            min_truth_area=2,
            min_predicted_area=2,
        )
        for maps, truth in pixel_scenes.SCENES
    ]
    siou = np.concatenate([each.truth_siou for each in overlaps])
    precision = np.concatenate([each.predicted_precision for each in overlaps])
    assert found["component_siou"] == pytest.approx(siou.mean())
    assert found["component_ppv"] == pytest.approx(precision.mean())
    assert found["component_f1"] == pytest.approx(regions.component_f1(overlaps).mean)
    assert found["component_threshold"] == 1.0


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("order", [range(9), (8, 3, 0, 5, 1, 7, 2, 6, 4)])
def test_order_and_batching_change_nothing(order, size):
    expected = pixel_scenes.collected(keeping=KEEPING)
    assert_same(pixel_scenes.collected(order, size=size, keeping=KEEPING), expected)


def test_what_void_pixels_hold_changes_nothing():
    changed = []
    for maps, truth in pixel_scenes.SCENES:
        void = truth["anomaly"] == 255
        pixel = np.where(void, 1e6, maps["pixel"]).astype(np.float32)
        classes = np.where(void, 3 - maps["classes"], maps["classes"])
        confidence = np.where(void, 0.01, maps["confidence"]).astype(np.float32)
        changed.append(({"pixel": pixel, "classes": classes, "confidence": confidence}, truth))
    assert_same(
        pixel_scenes.collected(scenes=changed, keeping=KEEPING),
        pixel_scenes.collected(keeping=KEEPING),
    )


def test_released_metrics_of_pans():
    """Per image, void left out; scores are 1 - confidence."""
    golden = vectors.load("pans", "metrics")
    count = sum(name.startswith("label/") for name in golden)
    state = pixels.zero(count, None)
    for i in range(count):
        label = golden[f"label/{i}"].astype(np.int64)
        anomaly = np.select([label == 255, label >= 13], [255, 1], 0).astype(np.uint8)
        maps = {"pixel": 1 - golden[f"confidence/{i}"], "classes": golden[f"prediction/{i}"]}
        segments = np.where(label == 13, 254, label).astype(np.uint8)
        state = pixels.add(state, i, f"{i}", maps, {"anomaly": anomaly, "segments": segments})
        each = [state.images[name][i] for name in ("auc", "average_precision", "fpr95_nearest")]
        expected = golden[f"void_excluded/per_image/{i}"]
        np.testing.assert_allclose(each, expected, atol=1e-6)
    found = pixel_measures.evaluated(state)[0]
    names = ("auc", "average_precision", "fpr95_nearest")
    means = [100 * found[f"per_image/pixel_{name}"] for name in names]
    np.testing.assert_allclose(means, golden["void_excluded/mean_percent"], atol=1e-4)
    np.testing.assert_array_equal(state.confusion[:13, :13], golden["confusion"])
    assert state.confusion.sum() == golden["confusion"].sum()
    # The release adds 1e-6 pixels to the union.
    assert found["mean_iou"] == pytest.approx(float(golden["mean_iou"]), abs=1e-6)
    assert found["pixel_accuracy"] == pytest.approx(float(golden["overall_acc"]), abs=1e-6)
    for i, iou in enumerate(golden["class_iou"]):
        assert found.get(f"iou/{i}", np.nan) == pytest.approx(iou, abs=1e-6, nan_ok=True)


PEBAL = ("ties", "heavy_ties", "all_tied", "perfect", "inverted", "few_positives")


@pytest.mark.parametrize("case", [*PEBAL, "recall_exactly_95", "no_positives"])
def test_released_metrics_of_pebal(case):
    """Pooled over the pixels of two images; both rules for the false positive rate."""
    golden = vectors.load("pebal", "metrics")
    scores = golden[f"{case}/score"].reshape(2, 10, 10)
    labels = golden[f"{case}/label"].astype(np.uint8).reshape(2, 10, 10)
    state = pixels.zero(2, None)
    for i in range(2):
        state = pixels.add(state, i, case, {"pixel": scores[i]}, {"anomaly": labels[i]})
    found, bounds = pixel_measures.evaluated(state)[0], pixel_measures.bounds(state)
    expected = dict(
        zip(("auc", "average_precision", "fpr95_nearest"), golden[f"{case}/nearest"], strict=True)
    )
    if case == "no_positives":
        assert not {f"pixel_{name}" for name in expected} & found.keys()
        return
    expected["fpr95"] = golden[f"{case}/at_least"][2]
    for name, value in expected.items():
        low, high = bounds[f"pixel_{name}"]
        assert low - 1e-7 <= value <= high + 1e-7, name
        tolerance = 1e-7 if case != "few_positives" else 0.005  # Others have no two in a bin.
        assert found[f"pixel_{name}"] == pytest.approx(value, abs=tolerance)


def test_state_does_not_grow_with_the_images():
    """But for a few numbers per image."""

    def size(count):
        state = pixels.zero(count, pixel_scenes.CLASSES, threshold=0.5)
        for i in range(count):
            state = pixels.add(state, i, "", *pixel_scenes.SCENES[i % 9])
        return sum(array.nbytes for array in state.arrays().values())

    few, many = size(3), size(60)
    assert many - few == 57 * 8 * 7
    assert few < 3 * 2**20


@pytest.mark.parametrize("what", ["pixel", "confidence"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_name_the_record(what, bad):
    scenes = list(pixel_scenes.SCENES)
    maps = {**scenes[4][0], what: scenes[4][0][what].copy()}
    maps[what][5, 7] = bad
    scenes[4] = (maps, scenes[4][1])
    with pytest.raises(InputError, match=rf"scene/4: its {what} value is {bad} at row 5, column 7"):
        pixel_scenes.collected(scenes=scenes)


def test_truth_of_other_values_names_the_record():
    scenes = list(pixel_scenes.SCENES)
    truth = {**scenes[4][1], "segments": np.full_like(scenes[4][1]["segments"], 9)}
    scenes[4] = (scenes[4][0], truth)
    with pytest.raises(InputError, match=r"scene/4: its segments hold 9; expected 0 to 3, 254 and"):
        pixel_scenes.collected(scenes=scenes)
    truth = {**truth, "anomaly": np.full_like(truth["anomaly"], 254)}
    with pytest.raises(InputError, match=r"its anomaly hold 254; expected 0, 1 and 255"):
        pixels.add(pixels.zero(1, None), 0, "a", scenes[4][0], truth)


def test_maps_of_other_shapes_and_kinds_are_refused():
    maps, truth = pixel_scenes.SCENES[0]
    state = pixels.zero(2, pixel_scenes.CLASSES)
    with pytest.raises(ValueError, match=r"a: expected maps of one shape \[H, W\]"):
        pixels.add(state, 0, "a", {"pixel": maps["pixel"][1:]}, truth)
    state = pixels.add(state, 0, "a", maps, truth)
    with pytest.raises(ValueError, match=r"b: has .*images before had"):
        pixels.add(state, 1, "b", {"pixel": maps["pixel"]}, truth)
    wrong = {"anomaly": truth["anomaly"].astype(np.int32)}
    with pytest.raises(ValueError, match="its anomaly must be uint8, found int32"):
        pixels.add(pixels.zero(1, None), 0, "a", {"pixel": maps["pixel"]}, wrong)


def test_round_trip(tmp_path):
    scored = pixel_scenes.collected(keeping=KEEPING)
    scored.save(tmp_path / "test.npz")
    found = predictions.load(tmp_path / "test.npz")
    assert_same(found, scored)
    assert measured(found) == measured(scored)
    assert found.pixels.rule == KEEPING.rule
    for field in ("classes", "named", "predicted", "truth", "threshold"):
        assert getattr(found.pixels, field) == getattr(scored.pixels, field)


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "test.npz"
    scored = pixel_scenes.collected(keeping=KEEPING)
    scored.save(path)
    whole, expected, errors = path.read_bytes(), measured(scored), 0
    for place in range(100, len(whole), len(whole) // 40):
        torn = bytearray(whole)
        torn[place : place + 8] = bytes(b ^ 0x5A for b in torn[place : place + 8])
        path.write_bytes(bytes(torn))
        with contextlib.suppress(InputError):  # Any other error fails.
            found = predictions.load(path)
            # Only what is in no entry may be hurt unseen: a date, a flag.
            assert measured(found) == expected
            continue
        errors += 1
    assert errors > 30


def test_files_without_a_part_or_of_other_shapes_are_named(tmp_path):
    path = tmp_path / "test.npz"
    pixel_scenes.collected().save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    gone = {name: array for name, array in arrays.items() if name != "pixels/histogram/counts"}
    np.savez(path, **gone)
    with pytest.raises(InputError, match=r"test\.npz cannot be read.*histogram/counts"):
        predictions.load(path)
    np.savez(path, **{**arrays, "pixels/confusion": np.zeros((3, 3), np.int64)})
    with pytest.raises(InputError, match=r"pixels/confusion has shape \(3, 3\); expected \(4, 4\)"):
        predictions.load(path)
    short = {name: a[:4] for name, a in arrays.items() if name.startswith("pixels/images/")}
    np.savez(path, **{**arrays, **short})
    with pytest.raises(InputError, match="pixels has 4 entries for 9 records"):
        predictions.load(path)


def test_palette_is_kept(tmp_path):
    palette = np.arange(12, dtype=np.uint8).reshape(4, 3)
    state = pixels.zero(1, pixel_scenes.CLASSES, palette=palette)
    state = pixels.add(state, 0, "a", *pixel_scenes.SCENES[0])
    found = pixels.from_arrays(state.arrays())
    np.testing.assert_array_equal(found.palette, palette)
    assert dataclasses.replace(found, palette=None).palette is None
