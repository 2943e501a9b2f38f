"""`benchmarks`: random records and the cells of tables; the commands run in `test_readme`."""

import pathlib

import numpy as np
import pytest

from benchmarks import pixel_metrics, profile, random_records
from jaxad import config as configs
from jaxad.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parents[1]


def load(name):
    return configs.load(f"{ROOT}/configs/{name}")


def test_random_scenes_hold_inlier_classes_and_void():
    record = random_records.shapes(load("closed_set.py"), "train")
    batch = random_records.batch(record, 4, classes=8)
    assert batch["image"].shape == (4, 64, 96, 3)
    assert batch["segments"].shape == (4, 64, 96)
    assert batch["image"].dtype == batch["segments"].dtype == np.uint8
    assert set(np.unique(batch["segments"])) == {*range(8), 255}
    assert 0.02 < np.mean(batch["segments"] == 255) < 0.3
    assert not batch["label"].any()
    assert batch["valid"].all()


def test_rows_of_a_stage_with_outliers_have_objects_in_half_of_them():
    config = load("pebal.py")
    batch = random_records.batch(random_records.shapes(config, "finetune"), 4, classes=8)
    side = max(config.data.source.object_size)
    assert batch["object"].shape == (4, side, side, 3)
    assert set(np.unique(batch["object_mask"])) == {0, 1}
    np.testing.assert_array_equal(batch["object_mask"].any((1, 2)), [True, False] * 2)
    assert not batch["object"][batch["object_mask"] == 0].any()
    assert "object" not in random_records.shapes(config, "train")


def test_published_preset_needs_no_data():
    config = load("pebal.py:fishyscapes_static_wide")
    train = random_records.shapes(config, "train")
    assert train["image"].shape == (1024, 2048, 3)
    assert train["centre"].shape == (2,)
    assert random_records.shapes(config, "finetune")["object"].shape == (640, 640, 3)


def test_scenes_grow_with_the_crops_of_their_stage():
    config = load("pebal.py:fishyscapes_static_wide")
    grown, record = random_records.with_crop(config, "finetune", (450, 300))
    assert record["image"].shape == (512, 683, 3)
    assert record["segments"].shape == (512, 683)
    assert tuple(grown.method.finetune_augment.crop) == (450, 300)
    assert tuple(grown.method.augment.crop) == (450, 300)
    assert tuple(config.method.finetune_augment.crop) == (900, 900)


def test_scans_are_not_cropped():
    config = load("aux_prototypes.py:mnms_a")
    grown, record = random_records.with_crop(config, "train", (64, 96))
    assert record["image"].shape == (64, 96, 1)
    assert random_records.crop_of(grown, "train") == (64, 96)
    assert random_records.crop_of(config, "train") == (224, 224)
    images = random_records.batch(record, 2, classes=4)["image"]
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize("preset, canvas", [("camvid", (180, 240)), ("camvid_cpu", (72, 72))])
def test_canvas_of_each_layout_of_objects(preset, canvas):
    record = random_records.shapes(load(f"pebal.py:{preset}"), "finetune")
    assert record["object"].shape == (*canvas, 3)


def test_random_videos_are_half_anomalous():
    record = random_records.with_length(random_records.shapes(load("rtfm.py:ucf_crime")), 5)
    batch = random_records.batch(record, 2)
    assert batch["features"].shape == (2, 10, 5, 2048)
    np.testing.assert_array_equal(batch["label"], [1, 0])
    np.testing.assert_array_equal(batch["length"], [5, 5])


def test_sizes_are_for_scenes_and_lengths_for_videos():
    videos, scenes = (random_records.shapes(load(name)) for name in ("rtfm.py", "closed_set.py"))
    with pytest.raises(InputError, match="--sizes"):
        random_records.with_size(videos, (8, 8))
    with pytest.raises(InputError, match="--lengths"):
        random_records.with_length(scenes, 8)
    with pytest.raises(InputError, match="--sizes"):
        random_records.with_crop(load("rtfm.py"), "train", (8, 8))


def test_table_shows_what_rows_have(capsys):
    rows = [
        {"size": "8x8", "batch_size": 2, "step_s": None, "flops": 2.5e9},
        {"size": "16x16", "batch_size": 2, "step_s": 0.5, "flops": 10e9},
    ]
    profile.show(rows, {"dtype": "float32"})
    out = capsys.readouterr().out.splitlines()
    assert out[:4] == [
        "dtype=float32",
        " size  batch  step s  GFLOP",
        "  8x8      2       -    2.5",
        "16x16      2  0.5000   10.0",
    ]
    assert [line[0] for line in out[4:]] == ["{", "{"]


def test_evaluation_of_more_images_takes_no_more_memory():
    # From twelve on: that many small images are kept for the report.
    few, many = (pixel_metrics.measured(count, (128, 192)) for count in (12, 36))
    assert many["array_peak_bytes"] < 1.1 * few["array_peak_bytes"]
    assert many["images"] == 36
