"""Verification of every record of scenes and objects, and what the command line says of them."""

import dataclasses
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from scene_folders import image, label, plain, write, write_coco, write_plain, write_table

from jaxad import check_data
from jaxad.data import coco_objects, digit_scenes, scene_check, scenes
from jaxad.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path):
    write_table(tmp_path)
    write_plain(tmp_path, "train", [[0]] * 20)
    write_plain(tmp_path, "test", [[0, 1, 255], [0, 0, 0, 9]])
    return tmp_path


def opened(root, **options):
    return scenes.splits(train=plain(root, "train"), test=plain(root, "test"), **options)


def changed(split, i, **arrays):
    """The split with other arrays in record i."""

    def read(place):
        record = split.read(place)
        return {**record, **arrays} if place == i else record

    return dataclasses.replace(split, read=read)


def test_pixels_are_counted(root):
    split = opened(root)["test"]
    contents = scene_check.verify(split)
    assert contents.records == 2
    assert contents.codes.sum() == 2 * 12 * 16
    cells = scene_check.shares(split, contents)
    # 64 pixels each of road, car and void; 144 of road, 48 of the thing.
    assert cells["road"] == pytest.approx(100 * 208 / 272, abs=1e-3)
    assert cells["car"] == pytest.approx(100 * 64 / 272, abs=1e-3)
    assert cells["person"] == 0
    assert cells["void"] == pytest.approx(100 * 64 / 384, abs=1e-3)
    assert cells["anomalous"] == pytest.approx(100 * 48 / 320, abs=1e-3)


def test_training_tells_no_anomalies(root):
    split = opened(root)["train"]
    assert scene_check.shares(split, scene_check.verify(split))["anomalous"] is None


def test_faulty_records_are_listed_with_their_files(root):
    write(root / "train/labels/d.png", label([0, 77]))
    write(root / "train/labels/f.png", label([9]))
    split = opened(root)["train"]
    (root / "train/images/r.png").write_bytes(b"gone")
    with pytest.raises(InputError) as error:
        scene_check.verify(split)
    text = str(error.value)
    assert "3 of 20 records are faulty" in text
    for name in ("d: The label map", "f: The label map", "r: The image"):
        assert name in text


@pytest.mark.parametrize(
    "arrays, message",
    [
        (dict(segments=label([7])), r"expected classes below 3, 254 or 255 in segments, found \[7"),
        (dict(segments=label([0], (3, 4))), r"expected segments uint8 \(12, 16\), found uint8 \(3"),
        (dict(image=image().astype(np.float32)), "expected image uint8 .*, found float32"),
        (dict(label=np.int32(1)), "expected label 0, found 1"),
        (dict(segments=label([254])), "segments and anomaly disagree"),
        (dict(segments=label([254]), anomaly=label([1])), "expected label 1 by its pixels"),
    ],
)
def test_faults_of_records(root, arrays, message):
    split = changed(opened(root)["test"], 0, **arrays)
    with pytest.raises(InputError, match=message):
        scene_check.verify(split)


def test_outliers_in_training_records_are_faults(root):
    split = changed(opened(root)["train"], 3, segments=label([254]))
    assert scene_check.faults(split) == ["d: holds outliers, in a training split."]


def test_sizes_of_test_scenes_are_checked_one_by_one(root):
    write_plain(root, "test", [[0], [9]], [(12, 16), (5, 7)])
    split = opened(root)["test"]
    assert scene_check.verify(split).records == 2
    assert scene_check.summary("test", split)["height x width"] == "5 x 7 to 12 x 16"
    swapped = dataclasses.replace(split, sizes=split.sizes[::-1])
    assert len(scene_check.faults(swapped)) == 2


def test_objects_are_checked(tmp_path):
    write_coco(tmp_path, [[("dog", [[0, 0, 8, 0, 8, 4, 0, 4]])]])
    split = coco_objects.objects(str(tmp_path), object_size=(8, 8))
    assert scene_check.verify(split).covered == pytest.approx(0.5)
    broken = changed(split, 0, object_mask=np.full((8, 8), 2, np.uint8))
    assert scene_check.faults(broken)[0].endswith(r"expected object_mask of 0 and 1, found [2].")


def test_embedded_scenes_pass():
    splits = digit_scenes.splits(
        train_scenes=3, validation_scenes=2, test_scenes=2, outliers=12, size=(64, 96)
    )
    for split in splits.values():
        assert scene_check.faults(split) == []


def test_summary_of_splits(root):
    row = check_data.summary("test", opened(root)["test"])
    assert row == {
        "split": "test",
        "records": 2,
        "anomalous": 1,
        "normal": 1,
        "height x width": "12 x 16",
        "classes": "road, car, person",
    }


CONFIG = """
import ml_collections
from jaxad import datasets

def get_config():
    root = {root!r}
    part = datasets.scene_part
    source = datasets.scenes(part("plain", root, "train"), part("plain", root, "test"))
    return ml_collections.ConfigDict(dict(data=dict(source=source)))
"""


def run(root, *flags):
    path = root / "config.py"
    path.write_text(CONFIG.format(root=str(root)))
    return subprocess.run(
        [sys.executable, "-m", "jaxad.check_data", f"--config={path}", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_the_command_line_tells_shares(root):
    done = run(root, "--config.data.source.held_out=('car',)")
    assert done.returncode == 0, done.stderr
    assert "train: 20 records read, all good" in done.stdout
    assert "| % of pixels |" in done.stdout
    assert "road, person" in done.stdout


def test_the_command_line_fails_for_faulty_files(root):
    write(root / "train/labels/d.png", label([0, 77]))
    done = run(root)
    assert done.returncode == 2
    assert "d.png holds ids outside the class table" in done.stderr
