"""Published layouts, truth forms and label rules, on small generated files; every named error."""

import json
import pathlib
import pickle
import re
import time

import numpy as np
import pytest
import scipy.io

from jaxad.data import feature_files, segments, snippet_features
from jaxad.errors import InputError

SHANGHAITECH = pathlib.Path(__file__).resolve().parents[3] / "shared/data/shanghaitech_frame_gt.npz"
# ShanghaiTech names: four digits of the clip are anomalous.
TRAIN = {"01_0014": 40, "01_0016": 9, "05_0019": 33, "01_001": 12, "02_004": 70, "03_011": 32}
TEST = {"01_0015": 3, "01_0025": 5, "04_001": 4}
EVENTS = {"01_0015": (5, 20), "01_0025": (70, 79)}  # Both ends included.


def features(length, crops=2, size=6, seed=0):
    return np.random.default_rng(seed).standard_normal((length, crops, size)).astype(np.float32)


class Folder:
    """A small copy of the ShanghaiTech layout with all forms of frame truth."""

    def __init__(self, path):
        self.path = path
        (path / "features").mkdir()
        for i, (name, length) in enumerate({**TRAIN, **TEST}.items()):
            np.save(self.file(name), features(length, seed=i))
        self.write_list("train.list", [f"/home/author/data/{n}_i3d.npy" for n in TRAIN])
        self.write_list("test.list", [f"D:\\data\\test\\{n}_i3d.npy" for n in TEST])
        np.save(path / "gt.npy", np.concatenate(list(self.truth().values())).astype(np.float64))

    def file(self, name):
        return self.path / "features" / f"{name}_i3d.npy"

    def write_list(self, name, lines):
        (self.path / name).write_text("\n".join(lines) + "\n")

    def truth(self):
        truth = {name: np.zeros(16 * length, np.uint8) for name, length in TEST.items()}
        for name, (start, end) in EVENTS.items():
            truth[name][start : end + 1] = 1
        return truth

    def options(self, **changes):
        defaults = {
            "root": str(self.path / "features"),
            "train_list": str(self.path / "train.list"),
            "test_list": str(self.path / "test.list"),
            "ground_truth": str(self.path / "gt.npy"),
            "segments": 8,
            "validation_fraction": 0.0,
        }
        return {**defaults, **changes}

    def open(self, **changes):
        return snippet_features.splits(**self.options(**changes))

    def refused(self, pattern, **changes):
        with pytest.raises(InputError, match=pattern) as caught:
            self.open(**changes)
        return str(caught.value)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def assert_truth(split, expected):
    assert [frames.dtype for frames in split.frames] == [np.uint8] * len(split)
    for name, frames in zip(split.names, split.frames, strict=True):
        np.testing.assert_array_equal(frames, expected[name], err_msg=name)


def test_records_labels_and_truth(folder):
    opened = folder.open()
    train, test = opened["train"], opened["test"]
    assert list(opened) == ["train", "test"]
    assert (train.names, test.names) == (list(TRAIN), list(TEST))
    assert (train.labels.tolist(), test.labels.tolist()) == ([1, 1, 1, 0, 0, 0], [1, 1, 0])
    record = train.read(1)
    expected = segments.uniform(np.load(folder.file("01_0016")), 8).swapaxes(0, 1)
    np.testing.assert_array_equal(record["features"], expected)
    assert (record["features"].shape, record["features"].dtype) == ((2, 8, 6), np.float32)
    assert (record["label"], record["label"].dtype, record["label"].shape) == (1, np.int32, ())
    assert (train.lengths, train.frames) == (None, None)
    np.testing.assert_array_equal(
        test.read(2)["features"], np.load(folder.file("04_001")).swapaxes(0, 1)
    )
    assert test.lengths.tolist() == list(TEST.values())
    assert test.time_axes == {"features": 1}
    assert_truth(test, folder.truth())
    for split in opened.values():
        json.dumps(split.fingerprint)
        copy = pickle.loads(pickle.dumps(split))
        np.testing.assert_array_equal(copy.read(0)["features"], split.read(0)["features"])


@pytest.mark.parametrize(
    "change",
    [{"segments": 9}, {"crops": "first"}, {"segmentation": "deepmil"}, {"label_rule": "first_n"}],
)
def test_fingerprint_changes_with_the_records(folder, change):
    counts = {"train_anomalous": 2, "test_anomalous": 2}
    fingerprints = [folder.open(**counts, **c)["train"].fingerprint for c in ({}, change)]
    assert fingerprints[0] != fingerprints[1]
    assert fingerprints[0] == folder.open(**counts)["train"].fingerprint


# Layouts of features.


def test_other_array_layouts_hold_the_same_records(folder):
    expected = {part: split.read(0)["features"] for part, split in folder.open().items()}
    for name in (*TRAIN, *TEST):
        array = np.load(folder.file(name))
        np.save(folder.file(name), np.asfortranarray(array.swapaxes(0, 1).astype(np.float64)))
    for part, split in folder.open(axes="NTD").items():
        np.testing.assert_array_equal(split.read(0)["features"], expected[part])


def test_missing_crop_axis_is_added(folder):
    for name in (*TRAIN, *TEST):
        np.save(folder.file(name), np.load(folder.file(name))[:, 0])
    assert folder.open()["test"].read(0)["features"].shape == (1, 3, 6)


@pytest.mark.parametrize("crops, position", [("first", 0), ("center", 4)])
def test_one_of_ten_crops(folder, crops, position):
    for i, (name, length) in enumerate({**TRAIN, **TEST}.items()):
        np.save(folder.file(name), features(length, crops=10, seed=i))
    actual = folder.open(crops=crops)["test"].read(1)["features"]
    np.testing.assert_array_equal(actual[0], np.load(folder.file("01_0025"))[:, position])
    assert len(actual) == 1


def test_unknown_center_is_refused(folder):
    folder.refused(r"crops='center' is known for 1, 5 or 10.*found 2", crops="center")


def xd_folder(path, lengths):
    """One file per crop, lists of five lines per video."""
    path.mkdir(exist_ok=True)
    for i, (name, length) in enumerate(lengths.items()):
        for crop in range(5):
            np.save(path / f"{name}__{crop}.npy", features(length, seed=i)[:, 0] + crop)
    return [f"/x/{name}__{crop}.npy" for name in lengths for crop in range(5)]


@pytest.fixture
def xd(tmp_path):
    train = {"a__#1_label_B1-0-0": 5, "Some.Film__#2_label_A": 6}
    test = {"b__#1_label_G-B1-0": 3, "c__#2_label_A": 2}
    for name, lengths in (("train", train), ("test", test)):
        (tmp_path / f"{name}.list").write_text("\n".join(xd_folder(tmp_path / "f", lengths)))
    (tmp_path / "annotations.txt").write_text("b__#1_label_G-B1-0 3 20 40 47\n")
    return {
        "root": str(tmp_path / "f"),
        "train_list": str(tmp_path / "train.list"),
        "test_list": str(tmp_path / "test.list"),
        "ground_truth": str(tmp_path / "annotations.txt"),
        "truth": "xd_text",
        "layout": "per_crop",
        "label_rule": "xd_violence",
        "segments": 4,
        "validation_fraction": 0.0,
    }


def test_one_file_per_crop(xd):
    opened = snippet_features.splits(**xd)
    test = opened["test"]
    assert opened["train"].names == ["a__#1_label_B1-0-0", "Some.Film__#2_label_A"]
    assert test.classes == ["G", ""]
    assert opened["train"].read(0)["features"].shape == (5, 4, 6)
    record = test.read(0)["features"]
    assert record.shape == (5, 3, 6)
    np.testing.assert_allclose(record[4] - record[0], 4, rtol=1e-6)
    expected = np.zeros(48)
    expected[3:20] = expected[40:47] = 1  # Ends are excluded.
    assert_truth(test, {"b__#1_label_G-B1-0": expected, "c__#2_label_A": np.zeros(32)})
    center = snippet_features.splits(**{**xd, "crops": "center"})["test"].read(0)["features"]
    np.testing.assert_array_equal(center, record[:1])


def test_crops_of_other_length_are_named(xd):
    path = pathlib.Path(xd["root"]) / "b__#1_label_G-B1-0__3.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(InputError, match=r"__2\.npy 3, .*__3\.npy 2, .*Flow"):
        snippet_features.splits(**xd)


def test_crop_lines_must_be_in_order(xd):
    path = pathlib.Path(xd["test_list"])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(InputError, match=r"test\.list, line 1: expected 5 lines"):
        snippet_features.splits(**xd)
    path.write_text("\n".join(lines[:-1]))
    with pytest.raises(InputError, match=r"9 files; .* multiple of 5"):
        snippet_features.splits(**xd)


@pytest.fixture
def c3d(tmp_path):
    lists = {
        "train": ["Abuse001_x264", "Normal_Videos001_x264"],
        "test": ["Arson011_x264", "Normal_Videos_003_x264"],
    }
    (tmp_path / "f").mkdir()
    for part, names in lists.items():
        (tmp_path / f"{part}.list").write_text("\n".join(f"C:\\x\\{n}_C.txt" for n in names))
        for i, name in enumerate(names):
            np.savetxt(tmp_path / "f" / f"{name}_C.txt", features(32, 1, 7, seed=i)[:, 0])
    (tmp_path / "frames.txt").write_text("Arson011_x264.mp4 1000\nNormal_Videos_003_x264.mp4 100\n")
    (tmp_path / "annotation.txt").write_text(
        "Arson011_x264.mp4  Arson  150  420  680  1267\n"
        "Normal_Videos_003_x264.mp4  Normal  -1  -1  -1  -1\n"
    )
    return {
        "root": str(tmp_path / "f"),
        "train_list": str(tmp_path / "train.list"),
        "test_list": str(tmp_path / "test.list"),
        "ground_truth": str(tmp_path / "annotation.txt"),
        "truth": "ucf_text",
        "frame_counts": str(tmp_path / "frames.txt"),
        "layout": "c3d_text",
        "label_rule": "ucf_crime",
        "feature_size": 7,
        "validation_fraction": 0.0,
    }


def test_c3d_text_segments_cover_their_snippets(c3d):
    opened = snippet_features.splits(**c3d)
    train, test = opened["train"], opened["test"]
    np.testing.assert_allclose(train.read(0)["features"][0], features(32, 1, 7)[:, 0], atol=1e-6)
    assert test.lengths.tolist() == [63, 7]
    assert [len(frames) for frames in test.frames] == [63 * 16, 7 * 16]
    assert test.classes == ["Arson", ""]
    record = test.read(0)["features"][0]
    np.testing.assert_allclose(
        record, features(32, 1, 7)[segments.deepmil_segment_of_row(63), 0], atol=1e-6
    )


def test_c3d_text_faults(c3d):
    with pytest.raises(InputError, match="needs frame_counts"):
        snippet_features.splits(**{**c3d, "frame_counts": None})
    with pytest.raises(InputError, match=r"hold 32 segments.*got 16"):
        snippet_features.splits(**{**c3d, "segments": 16})
    path = pathlib.Path(c3d["root"]) / "Abuse001_x264_C.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    with pytest.raises(InputError, match=r"Abuse001_x264_C\.txt holds 31 lines of 7.*32 lines"):
        snippet_features.splits(**c3d)["train"].read(0)
    path.write_text("")
    with pytest.raises(InputError, match=r"Abuse001_x264_C\.txt is empty"):
        snippet_features.splits(**c3d)


def test_deepmil_evaluation_repeats_each_segment(folder):
    opened = folder.open(segmentation="deepmil", segments=2)
    rows = np.load(folder.file("01_0025"))
    means = segments.deepmil(rows, 2)
    actual = opened["test"].read(1)["features"].swapaxes(0, 1)
    np.testing.assert_array_equal(actual, means[segments.deepmil_segment_of_row(5, 2)])
    assert opened["train"].read(0)["features"].shape == (2, 2, 6)


def test_folders_are_searched_in_order(folder):
    other = folder.path / "more"
    other.mkdir()
    np.save(other / "01_0015_i3d.npy", features(3) + 100)
    roots = [str(other), str(folder.path / "features")]
    assert folder.open(root=roots)["test"].read(0)["features"].mean() > 90
    assert folder.open(root=roots[::-1])["test"].read(0)["features"].mean() < 10


# Forms of the frame truth.


def test_masks(folder):
    masks = folder.path / "masks"
    masks.mkdir()
    truth = folder.truth()
    np.save(masks / "01_0015.npy", truth["01_0015"][:40])  # True length; the rest repeats.
    np.save(masks / "01_0025.npy", truth["01_0025"])
    assert_truth(folder.open(truth="masks", ground_truth=str(masks))["test"], truth)

    np.save(masks / "01_0025.npy", truth["01_0025"][:40])
    folder.refused(
        "Video 01_0025 has 40 frames, that is 3 snippets.*have 5 snippets",
        truth="masks",
        ground_truth=str(masks),
    )
    (masks / "01_0025.npy").unlink()
    folder.refused(
        r"1 of the 3 test videos have no mask.*\n  01_0025", truth="masks", ground_truth=str(masks)
    )


@pytest.fixture
def ucf(folder):
    """The same features under UCF-Crime names."""
    new = {"01_0015": "Arson011_x264", "01_0025": "Abuse028_x264", "04_001": "Normal_33_x264"}
    for old, name in new.items():
        folder.file(old).rename(folder.file(name))
    train = {name: f"Abuse{i}_x264" for i, name in enumerate(TRAIN) if len(name) == 7}
    train |= {name: f"Normal_{i}_x264" for i, name in enumerate(TRAIN) if len(name) == 6}
    for old, name in train.items():
        folder.file(old).rename(folder.file(name))
    folder.write_list("train.list", [f"{train[name]}_i3d.npy" for name in TRAIN])
    folder.write_list("test.list", [f"{name}_i3d.npy" for name in new.values()])
    folder.names = new
    return folder


@pytest.mark.parametrize("form", ["ucf_text", "ucf_mat"])
def test_ucf_annotations(ucf, form):
    expected = {ucf.names[name]: frames for name, frames in ucf.truth().items()}
    path = ucf.path / form
    if form == "ucf_text":
        lines = [
            f"{ucf.names[name]}.mp4  Anything  {start}  {end}  -1  -1"
            for name, (start, end) in EVENTS.items()
        ]
        path.write_text("\n".join([*lines, "Normal_33_x264.mp4  Normal  -1  -1  -1  -1"]))
    else:
        path.mkdir()
        for name in TEST:
            pair = EVENTS.get(name, (-1, -1))
            record = {"VideoName": ucf.names[name], "Anno": np.array([pair]), "EventName": "x"}
            scipy.io.savemat(path / f"{ucf.names[name]}.mat", {"Annotation_file": record})
    options = {"truth": form, "ground_truth": str(path), "label_rule": "ucf_crime"}
    test = ucf.open(**options)["test"]
    assert_truth(test, expected)
    assert test.classes == ["Arson", "Abuse", ""]
    if form == "ucf_text":
        path.write_text("\n".join(lines))
        ucf.refused(r"no line in .*\n  Normal_33_x264", **options)
    else:
        (path / "Normal_33_x264.mat").unlink()
        ucf.refused(r"no annotation <video>\.mat.*\n  Normal_33_x264", **options)


def test_flat_truth_of_another_length(folder):
    np.save(folder.path / "gt.npy", np.zeros(16 * 11))
    folder.refused(r"gt\.npy has 176 frames.*12 snippets of 16, that is 192 frames")
    (folder.path / "frames.txt").write_text("01_0015 48\n01_0025 65\n04_001 64\n")
    counts = str(folder.path / "frames.txt")
    assert len(folder.refused("must belong to the same release", frame_counts=counts)) < 600
    (folder.path / "frames.txt").write_text("01_0015 48\n01_0025 64\n04_001 64\n")
    folder.refused("first video that differs is 01_0025: 64 frames", frame_counts=counts)
    (folder.path / "frames.txt").write_text("01_0015 48\n01_0025 33\n04_001 64\n")
    folder.refused("01_0025 has 33 frames, that is 3 snippets.*5 snippets", frame_counts=counts)
    (folder.path / "frames.txt").write_text("01_0015 48\n")
    folder.refused("no line for 2 of the 3", frame_counts=counts)
    (folder.path / "frames.txt").write_text("01_0015 many\n")
    folder.refused(r"frames\.txt, line 1.*'01_0015 many'", frame_counts=counts)


def test_truth_in_another_order_is_noticed(folder):
    truth = folder.truth()
    flat = np.concatenate([truth["04_001"], truth["01_0015"], truth["01_0025"]])
    np.save(folder.path / "gt.npy", flat)
    folder.refused("Video 01_0015 is labelled anomalous, but none of its 48 frames")


def test_unreadable_truth(folder):
    folder.refused(r"ground truth .*absent\.npy does not exist", ground_truth="absent.npy")
    folder.refused(r"ground truth .*train\.list is not a readable", ground_truth=str(
        folder.path / "train.list"
    ))  # fmt: skip
    np.save(folder.path / "gt.npy", np.array([{}]), allow_pickle=True)
    folder.refused("is not a readable .npy array")
    folder.refused("folder .*absent cannot be read", ground_truth="absent", truth="masks")
    folder.refused("folder .*absent cannot be read", ground_truth="absent", truth="ucf_mat")
    folder.refused("file .*absent cannot be read", ground_truth="absent", truth="ucf_text")


# Labels and splits.


def test_label_rules(folder):
    names = ["first_n", "file"]
    path = folder.path / "labels.txt"
    path.write_text("\n".join(f"/x/{n}_i3d.npy {int(len(n) == 7)}" for n in (*TRAIN, *TEST)))
    for rule in names:
        opened = folder.open(label_rule=rule, train_anomalous=3, test_anomalous=2, labels=str(path))
        assert opened["train"].labels.tolist() == [1, 1, 1, 0, 0, 0]
        assert opened["train"].classes is None
    folder.refused("needs train_anomalous between 0 and the 6", label_rule="first_n")
    folder.refused("needs labels", label_rule="file")
    path.write_text("01_0014 2")
    folder.refused(r"labels\.txt, line 1", label_rule="file", labels=str(path))
    path.write_text("01_0014 1")
    folder.refused("no label for 5 of 6 videos, the first is 01_0016", label_rule="file",
                   labels=str(path))  # fmt: skip
    path.write_text("01_0014 1\n01_0014 0")
    folder.refused("line 2.*two different", label_rule="file", labels=str(path))
    folder.refused("label_rule='ucf_crime' cannot place video '01_0014'", label_rule="ucf_crime")
    folder.refused("Unknown label_rule 'x'; expected one of shanghaitech", label_rule="x")


def many(folder, anomalous=20, normal=30):
    names = [f"01_{i:04d}" for i in range(anomalous)] + [f"01_{i:03d}" for i in range(normal)]
    for name in names:
        np.save(folder.file(name), features(2))
    folder.write_list("many.list", [f"{name}_i3d.npy" for name in names])
    return str(folder.path / "many.list")


def test_validation_is_held_out_per_class(folder):
    many_list = many(folder)
    folder.write_list("test.list", ["09_0001_i3d.npy", "09_001_i3d.npy"])
    for name in ("09_0001", "09_001"):
        np.save(folder.file(name), features(2))
    options = {"train_list": many_list, "ground_truth": None, "validation_fraction": 0.2}
    opened = folder.open(**options)
    train, validation = opened["train"], opened["validation"]
    assert np.bincount(train.labels).tolist() == [24, 16]
    assert np.bincount(validation.labels).tolist() == [6, 4]
    assert not set(train.names) & set(validation.names)
    assert validation.lengths.tolist() == [2] * 10
    assert (validation.frames, opened["test"].frames) == (None, None)
    assert folder.open(**options)["validation"].names == validation.names
    other = folder.open(**options, validation_seed=1)["validation"]
    assert other.names != validation.names

    few, more = (
        set(folder.open(**options, anomalous_train_videos=n)["train"].names) for n in (5, 9)
    )
    assert (len(few), len(more)) == (24 + 5, 24 + 9)
    assert few < more < set(train.names)
    folder.refused("between 1 and the 16 .* got 17", **options, anomalous_train_videos=17)


def test_training_videos_are_drawn(folder):
    names = [f"Train{i:03d}" for i in range(1, 17)] + [f"Test{i:03d}" for i in range(1, 13)]
    truth = []
    for name in names:
        np.save(folder.file(name), features(2))
        truth.append(np.full(32, int(name.startswith("Test")) * (int(name[-2:]) % 2 + 1) > 0))
    np.save(folder.path / "gt.npy", np.concatenate(truth))
    folder.write_list("all.list", [f"{name}_i3d.npy" for name in names])
    options = {
        "train_list": str(folder.path / "all.list"),
        "test_list": None,
        "label_rule": "ucsd_ped2",
    }
    draws = [folder.open(**options, draw_seed=seed) for seed in range(3)]
    for opened in draws:
        train, test = opened["train"], opened["test"]
        assert np.bincount(train.labels).tolist() == [4, 6]
        assert np.bincount(test.labels).tolist() == [12, 6]
        assert sorted(train.names + test.names) == sorted(names)
        for frames, label in zip(test.frames, test.labels, strict=True):
            assert frames.tolist() == [label] * 32
    assert len({tuple(opened["train"].names) for opened in draws}) == 3
    folder.refused("Cannot draw 12 anomalous training videos from 12", **options, draw_seed=0,
                   draw_anomalous=12)  # fmt: skip
    folder.refused("either test_list, or draw_seed", **options)
    folder.refused("either test_list, or draw_seed", draw_seed=0)


def test_lists_must_be_consistent(folder):
    folder.refused(r"The list .*absent\.list cannot be read", train_list="absent.list")
    folder.write_list("train.list", ["  ", ""])
    folder.refused(r"train\.list is empty")
    folder.write_list("train.list", ["01_0014_i3d.npy", "01_001_i3d.npy", "/y/01_0014_i3d.npy"])
    folder.refused(r"more than once:\n  01_0014")
    folder.write_list("train.list", ["01_0014_i3d.npy", "01_001_i3d.npy", "01_0015_i3d.npy"])
    folder.refused(r"1 videos are both in .*train\.list and in .*\n  01_0015")
    folder.write_list("train.list", ["01_0014_i3d.npy"])
    folder.refused("no normal training videos")
    folder.write_list("train.list", ["01_001_i3d.npy"])
    folder.refused("no anomalous training videos")
    folder.write_list("train.list", ["01_0014_i3d.npy", "01_001_i3d.npy"])
    folder.write_list("test.list", ["04_001_i3d.npy"])
    folder.refused("no anomalous test videos", ground_truth=None)


@pytest.mark.parametrize(
    "option",
    [
        {"layout": "x"},
        {"axes": "DTN"},
        {"crops": "last"},
        {"segmentation": "x"},
        {"truth": "x"},
        {"segments": 0},
        {"crop_files": 0},
        {"validation_fraction": 1.0},
    ],
)
def test_options_out_of_range_are_named(folder, option):
    folder.refused(next(iter(option)), **option)


# Faults of feature files.


def test_all_missing_files_are_listed(folder):
    for name in ("01_0014", "02_004"):
        folder.file(name).unlink()
    text = folder.refused("2 of the 6 feature files named in .*train.list do not exist")
    assert "01_0014_i3d.npy" in text
    assert "02_004_i3d.npy" in text
    folder.write_list("train.list", [f"01_{i:04d}_i3d.npy" for i in range(100, 150)])
    text = folder.refused("50 of the 50 feature files")
    assert text.count(".npy") == 20
    assert text.endswith("… and 30 more")
    folder.refused("feature folder .*absent cannot be read", root="absent")


@pytest.mark.parametrize(
    "array, found",
    [
        (features(5)[..., :5], r"width 5 \(shape \(5, 2, 5\)\); expected 6, that of 01_0014"),
        (features(0), r"shape \(0, 2, 6\): it holds no snippets"),
        (features(5)[None], r"shape \(1, 5, 2, 6\); expected \[T, N, D\] or \[T, D\]"),
        (np.float32(1), r"shape \(\); expected"),
        (features(5).astype(complex), "holds complex128; expected real"),
        (np.array([features(2), None], object), "holds pickled Python objects.*convert it once"),
    ],
)
def test_malformed_arrays_are_named(folder, array, found):
    np.save(folder.file("01_0016"), array, allow_pickle=True)
    folder.refused(rf"1 of 6 feature files cannot be used:\n  .*01_0016_i3d\.npy.*{found}")


def test_width_is_checked_against_the_option(folder):
    text = folder.refused("6 of 6 feature files cannot be used", feature_size=2048)
    assert text.count("width 6") == text.count("expected 2048.") == 6


def test_test_features_must_be_as_wide_as_training_features(folder):
    np.save(folder.file("01_0015"), features(3, size=7))
    folder.refused("1 of 3 feature files.*\n.*01_0015.*width 7.*expected 6")


@pytest.mark.parametrize(
    "damage, found",
    [
        (lambda data: data[:-4], r"has \d+ bytes, but its header .* needs \d+: .*truncated"),
        (lambda data: data + b"more", r"has \d+ bytes, but its header .* needs"),
        (lambda data: data[:20], r"is not a readable \.npy"),
        (lambda data: b"", r"is not a readable \.npy"),
        (lambda data: b"PK" + data, r"is not a readable \.npy"),
    ],
)
def test_damaged_files_are_named(folder, damage, found):
    path = folder.file("01_0016")
    path.write_bytes(damage(path.read_bytes()))
    folder.refused(rf"\n  .*01_0016_i3d\.npy {found}")


def test_different_numbers_of_crops_are_named(folder):
    np.save(folder.file("01_0016"), features(9, crops=10))
    text = folder.refused("differ in their number of crops.*1 files with 10, such as 01_0016")
    assert "axes='NTD'" in text
    assert folder.open(crops="first")["train"].read(1)["features"].shape == (1, 8, 6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_values_are_found_on_reading(folder, value):
    array = np.load(folder.file("01_0025"))
    array[3, 1, 4] = array[4, 0, 0] = value
    np.save(folder.file("01_0025"), array)
    test = folder.open()["test"]
    test.read(0)
    with pytest.raises(
        InputError, match=rf"01_0025_i3d\.npy hold {value} at snippet 3, crop 1, feature 4 \(2 in"
    ):
        test.read(1)


def test_values_beyond_float32_are_found_on_reading(folder):
    array = np.load(folder.file("01_0014")).astype(np.float64)
    array[7, 0, 2] = 1e300
    np.save(folder.file("01_0014"), array)
    with pytest.raises(InputError, match=r"hold 1e\+300 at snippet 7, crop 0, feature 2 \(1 in"):
        folder.open()["train"].read(0)


def test_files_that_change_during_a_run_are_named(folder):
    train = folder.open()["train"]
    np.save(folder.file("01_0014"), features(41))
    with pytest.raises(InputError, match=r"01_0014_i3d\.npy has changed.*\(40, 2, 6\).*\(41, 2"):
        train.read(0)
    folder.file("01_0014").unlink()
    with pytest.raises(InputError, match=r"01_0014_i3d\.npy cannot be read any more"):
        train.read(0)


def test_opening_reads_headers_only(tmp_path):
    """1,900 sparse files of UCF-Crime size: 190 GB of features that are never touched."""
    (tmp_path / "f").mkdir()
    names = [f"Abuse{i}_x264_i3d.npy" for i in range(950)]
    names += [f"Normal_{i}_x264_i3d.npy" for i in range(950)]
    for i, name in enumerate(names):
        shape = (1000 + i, 10, 2048)
        with open(tmp_path / "f" / name, "wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + 4 * int(np.prod(shape)))
    (tmp_path / "train.list").write_text("\n".join(names[100:-100]))
    (tmp_path / "test.list").write_text("\n".join(names[:100] + names[-100:]))
    started = time.perf_counter()
    opened = snippet_features.splits(
        root=str(tmp_path / "f"),
        train_list=str(tmp_path / "train.list"),
        test_list=str(tmp_path / "test.list"),
        label_rule="ucf_crime",
    )
    seconds = time.perf_counter() - started
    print(f"1,900 feature files indexed in {seconds:.2f} s")  # A time is no test: see pytest -s.
    assert sum(map(len, opened.values())) == 1900


def test_shanghaitech_truth_from_masks(tmp_path):
    """The real masks and the weak split's names, with empty features of the right length."""
    if not SHANGHAITECH.is_file():
        pytest.skip(f"{SHANGHAITECH} is not there")
    with np.load(SHANGHAITECH) as file:
        lengths, names = file["lengths"], file["anomalous_videos"].tolist()
        masks = np.split(file["masks"], np.cumsum(lengths)[:-1])
        lists = {part: file[f"weak_{part}"].tolist() for part in ("train", "test")}
    masks = dict(zip(names, masks, strict=True))
    for sub in ("features", "masks"):
        (tmp_path / sub).mkdir()
    normal = [name for name in lists["test"] if name not in masks]
    # Only the sum of the normal videos' lengths is known: 124,944 frames.
    share = dict.fromkeys(normal, 124_944 // 16 // len(normal))
    share[normal[0]] += 124_944 // 16 - sum(share.values())
    for part, own in lists.items():
        (tmp_path / f"{part}.list").write_text("\n".join(f"/x/{n}_i3d.npy" for n in own))
        for name in own:
            length = -(-len(masks[name]) // 16) if name in masks else share.get(name, 5)
            np.save(tmp_path / "features" / f"{name}_i3d.npy", np.zeros((length, 2), np.float16))
            if name in masks:
                np.save(tmp_path / "masks" / f"{name}.npy", masks[name])
    opened = snippet_features.splits(
        root=str(tmp_path / "features"),
        train_list=str(tmp_path / "train.list"),
        test_list=str(tmp_path / "test.list"),
        ground_truth=str(tmp_path / "masks"),
        truth="masks",
        validation_fraction=0.0,
    )
    assert np.bincount(opened["train"].labels).tolist() == [175, 63]
    test = opened["test"]
    assert np.bincount(test.labels).tolist() == [155, 44]
    flat = np.concatenate(test.frames)
    assert (len(flat), int(flat.sum())) == (142_912, 8_028)
    assert int(test.lengths.sum()) == 8_932
    assert np.count_nonzero(np.diff(flat, prepend=0) == 1) == 75
    assert flat[17_968:].sum() == 0
    # The published vector is this one, so it must be accepted and cut to the same truth.
    np.save(tmp_path / "gt-sh.npy", flat.astype(np.float64))
    again = snippet_features.splits(
        root=str(tmp_path / "features"),
        train_list=str(tmp_path / "train.list"),
        test_list=str(tmp_path / "test.list"),
        ground_truth=str(tmp_path / "gt-sh.npy"),
        validation_fraction=0.0,
    )["test"]
    assert_truth(again, dict(zip(test.names, test.frames, strict=True)))


@pytest.mark.parametrize(
    "line, kind, name",
    [
        ("/home/a/01_0014_i3d.npy", "per_video", "01_0014"),
        ("01_0014.npy", "per_video", "01_0014"),
        ("Some.Film.2003__#0_label_A__12.npy", "per_crop", "Some.Film.2003__#0_label_A"),
        ("D:\\x y\\Abuse001_x264_C.txt", "c3d_text", "Abuse001_x264"),
    ],
)
def test_video_names(line, kind, name):
    base = re.split(r"[\\/]", line)[-1]
    assert feature_files.video_name(base, feature_files.Layout(kind)) == name
