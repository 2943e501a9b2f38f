"""Medical slices: patients apart, OoD sets after the in-distribution slices of the test split."""

import inspect
import json
import logging
import pathlib
import pickle
import tarfile

import ml_collections
import numpy as np
import pytest
import volume_files
from PIL import Image

from jaxad import medical_datasets
from jaxad.data import medical_layouts, medical_options, medical_slices, sources
from jaxad.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parents[2]
HIPPOCAMPUS = ROOT.parent / "shared" / "data" / "msd_hippocampus.tar"
PATIENTS = [f"p{i}" for i in range(10)]
SHAPE = (16, 12, 3)  # Three axial slices of 12 rows (y) and 16 columns (x).
CLASSES = ("left", "right", "background")
LABELS = dict(background=0, right=1, left=2)
SETS = ("pictures", "side", "odd", "bare")


def volume(folder, name, array, spacing=(1.0, 1.0, 4.0)):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{name}.npz", array=array, spacing=np.array(spacing))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Ten labelled patients; three unlabelled ones of another data set; four pictures."""
    root = tmp_path_factory.mktemp("medical")
    rng = np.random.default_rng(0)
    for patient in PATIENTS:
        labels = np.zeros(SHAPE, np.uint8)
        labels[2:6, 3:8, :2] = 1  # The last slice is empty.
        labels[9:13, 3:8, :2] = 2
        image = labels * 100 + rng.integers(1, 50, SHAPE)
        volume(root / "own" / "images", patient, image.astype(np.int16))
        volume(root / "own" / "labels", patient, labels)
    for patient in ("q0", "q1", "q2"):
        image = rng.integers(0, 900, (24, 20, 2)).astype(np.float32)
        volume(root / "others" / "images", patient, image, (0.5, 0.5, 5.0))
    (root / "photos" / "images").mkdir(parents=True)
    for i in range(4):
        picture = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / "photos" / "images" / f"{i}.png")
    return root


def options_of(root, cache, **fields):
    own = dict(layout="folder", root="own", spacing=1.0, labels=LABELS)
    source = dict(
        root=str(root),
        cache=str(cache),
        classes=CLASSES,
        size=(16, 16),
        in_distribution=own,
        ood=dict(
            pictures=dict(layout="pictures", root="photos", group="C1"),
            side=dict(**own, view="sagittal", group="C2", subjects="test", every=5),
            odd=dict(**own, group="C3", subjects="test", shift="inverted"),
            bare=dict(layout="folder", root="others", labels_folder="", spacing=0.5, group="C3"),
        ),
    )
    return {**source, **fields}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def splits(root, cache):
    return medical_slices.splits(**options_of(root, cache))


def of_set(split, name):
    return [split.read(i) for i in range(len(split)) if split.classes[i] == name]


def test_records_have_the_agreed_arrays(splits):
    assert {part: len(split) for part, split in splits.items()} == {
        "train": 18,
        "validation": 6,
        "test": 6 + 4 + 8 + 6 + 6,  # Sagittal: of 16 per patient every fifth.
    }
    for split in splits.values():
        assert len(set(split.names)) == len(split.subjects) == len(split)
        assert (split.segment_classes, split.background) == (CLASSES, 2)
        for i in (0, len(split) - 1):
            record = split.read(i)
            shapes = {name: (value.shape, value.dtype.name) for name, value in record.items()}
            assert shapes == {
                "image": ((16, 16, 1), "float32"),
                "segments": ((16, 16), "uint8"),
                "label": ((), "int32"),
            }
            assert (record["image"].min(), record["image"].max()) == (0, 1)
            assert record["label"] == split.labels[i]


def test_in_distribution_comes_first_then_the_sets_in_order(splits):
    test = splits["test"]
    assert list(dict.fromkeys(test.classes)) == ["", *SETS]
    np.testing.assert_array_equal(test.labels, [name != "" for name in test.classes])
    assert test.class_groups == {"pictures": "C1", "side": "C2", "odd": "C3", "bare": "C3"}
    assert not splits["train"].labels.any()
    assert set(splits["validation"].classes) == {""}


def test_names_and_patients(splits):
    test = splits["test"]
    first = test.subjects[0]
    assert list(test.names[:3]) == [f"{first}/z{z:03d}" for z in range(3)]
    chosen = dict(zip(test.classes, zip(test.names, test.subjects, strict=True), strict=True))
    assert chosen["bare"] == ("bare/q2/z001", "q2")
    assert chosen["pictures"] == ("pictures/3", "3")


def test_patients_are_in_one_part(splits):
    parts = medical_slices.subject_split(splits)
    assert [len(parts[part]) for part in ("train", "validation", "test")] == [6, 2, 2]
    assert sorted(name for names in parts.values() for name in names) == PATIENTS


def test_test_patients_alone_where_asked(splits):
    test = splits["test"]
    own = set(medical_slices.subject_split(splits)["test"])
    for name in ("side", "odd"):
        found = {s for s, c in zip(test.subjects, test.classes, strict=True) if c == name}
        assert found <= own


def test_patients_in_training_too_are_counted_in_the_log(root, cache, caplog):
    source = options_of(root, cache)
    source["ood"] = dict(side=dict(source["ood"]["side"], subjects="all"))
    with caplog.at_level(logging.INFO):
        test = medical_slices.splits(**source)["test"]
    assert "6 patients of the OoD set side are in training too." in caplog.text
    assert test.labels.sum() == 32  # Every fifth of 160.


def test_labels_go_by_name(splits):
    record = splits["train"].read(0)
    segments, image = record["segments"], record["image"][..., 0]
    assert set(np.unique(segments)) == {0, 1, 2}
    # Stored 2, the brighter one, is "left": class 0.
    assert image[segments == 0].min() > image[segments == 1].max()
    assert (segments == 0).sum() == (segments == 1).sum() == 20


def test_slices_without_structure_are_kept_or_dropped(root, cache, splits):
    empty = [(splits["train"].read(i)["segments"] == 2).all() for i in range(3)]
    assert empty == [False, False, True]
    source = options_of(root, cache, ood={})
    source["in_distribution"] = dict(source["in_distribution"], empty="drop")
    assert len(medical_slices.splits(**source)["train"]) == 12


def test_sets_without_labels_are_void(splits):
    for name in ("pictures", "bare"):
        assert all((record["segments"] == 255).all() for record in of_set(splits["test"], name))


def test_a_shift_changes_images_alone(splits):
    for plain, shifted in zip(
        of_set(splits["test"], ""), of_set(splits["test"], "odd"), strict=True
    ):
        np.testing.assert_array_equal(shifted["segments"], plain["segments"])
        inside = shifted["image"] > 0.05
        np.testing.assert_allclose(shifted["image"][inside] + plain["image"][inside], 1, atol=0.06)


def test_spacing_is_that_of_the_set(splits):
    record = of_set(splits["test"], "bare")[0]  # 20 rows of 0.5 mm: the crop is full.
    assert (record["image"][..., 0] > 0).mean() > 0.95


def test_split_file_repeats_a_split(root, cache, splits, tmp_path):
    parts = medical_slices.subject_split(splits)
    (tmp_path / "splits.json").write_text(json.dumps(parts))
    again = medical_slices.splits(
        **options_of(root, cache, split_file=str(tmp_path / "splits.json"), split_seed=99)
    )
    for part, split in splits.items():
        assert list(again[part].names) == list(split.names)
        assert again[part].fingerprint == split.fingerprint
    other = medical_slices.splits(**options_of(root, cache, split_seed=1))
    assert medical_slices.subject_split(other) != parts


def test_a_patient_in_two_parts_is_an_error(root, cache, tmp_path):
    parts = {"train": PATIENTS[:6], "validation": PATIENTS[5:8], "test": PATIENTS[8:]}
    (tmp_path / "splits.json").write_text(json.dumps(parts))
    with pytest.raises(InputError, match=r"(?s)1 patients are in two parts.*p5: train and valid"):
        medical_slices.splits(**options_of(root, cache, split_file=str(tmp_path / "splits.json")))


def test_volumes_are_read_once(root, cache, splits, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a volume was opened")

    monkeypatch.setattr("jaxad.data.volumes.read", refuse)
    again = medical_slices.splits(**options_of(root, cache))
    assert again["test"].fingerprint == splits["test"].fingerprint
    assert json.loads(json.dumps(again["test"].fingerprint)) == again["test"].fingerprint


def test_sets_of_the_same_slices_share_a_cache(root, tmp_path):
    source = options_of(root, tmp_path / "c")
    source["ood"] = {"odd": source["ood"]["odd"]}
    medical_slices.splits(**source)
    assert len(list((tmp_path / "c").iterdir())) == 1


def test_splits_travel_to_reader_processes(splits):
    split = splits["test"]
    copy = pickle.loads(pickle.dumps(split))
    for i in (0, 8, len(split) - 1):
        np.testing.assert_array_equal(copy.read(i)["image"], split.read(i)["image"])


def test_classes_from_a_table(root, cache, tmp_path):
    table = root / "own" / "classes.csv"
    table.write_text("id,name\n0,background\n1,right\n2,left\n")
    source = options_of(root, cache, classes=None, ood={})
    source["in_distribution"] = dict(source["in_distribution"], labels=None)
    split = medical_slices.splits(**source)["train"]
    table.unlink()
    assert (split.segment_classes, split.background) == (("right", "left", "background"), 2)


def changed(source, field, **fields):
    """The section with other options of one set."""
    if field == "in_distribution":
        return {**source, field: {**source[field], **fields}}
    return {**source, "ood": {**source["ood"], field: {**source["ood"][field], **fields}}}


@pytest.mark.parametrize(
    "field, fields, message",
    [
        ("in_distribution", {"labels_folder": ""}, r"(?s)10 of 10 volumes have no label map.*p0"),
        ("in_distribution", {"spacing": None}, r"in_distribution\.spacing must be millimetres"),
        ("in_distribution", {"labels": None}, r"in_distribution needs labels: .*classes\.csv"),
        ("in_distribution", {"labels": {"top": 1}}, r"labels names \['top'\]"),
        ("in_distribution", {"labels": {"left": 1, "right": 2}}, "values outside the table"),
        ("in_distribution", {"view": "front"}, "view of medical volumes must be one of"),
        ("side", {"every": 0}, r"ood\.side\.every must be a whole number"),
        ("side", {"subjects": "train"}, r"ood\.side\.subjects must be one of"),
        ("side", {"shift": "gamma"}, r"ood\.side\.shift must be None or one of .*inverted"),
        ("side", {"colour": 1}, r"ood\.side has no field \['colour'\]"),
        ("bare", {"subjects": "test"}, r"(?s)none of the 2 patients .*; it has 'q0'"),
        ("bare", {"empty": "drop"}, r"ood\.bare needs labels"),
        ("pictures", {"pattern": "*.gif"}, r"holds no pictures named \*\.gif"),
        ("pictures", {"fit": "stretch"}, "Unknown fit 'stretch'"),
        ("pictures", {"spacing": 1.0}, r"ood\.pictures has no field \['spacing'\]"),
        ("in_distribution", {"group": "C1"}, r"in_distribution has no field \['group'\]"),
        ("in_distribution", {"labels": {"left": 1}}, r"says nothing of \['right'\]"),
        ("pictures", {"root": "none"}, "none/images does not exist"),
    ],
)
def test_faults_name_the_set_and_the_option(root, tmp_path, field, fields, message):
    with pytest.raises(InputError, match=message):
        medical_slices.splits(**changed(options_of(root, tmp_path), field, **fields))


@pytest.mark.parametrize("name", ["mnms_a", "mnms_b", "prostatex", "hippocampus", "own_volumes"])
def test_sections_list_every_option(name):
    config = ml_collections.ConfigDict(dict(source=getattr(medical_datasets, name)()))
    options = config.source.to_dict()
    assert options.pop("name") in sources.names()
    parameters = inspect.signature(medical_slices.splits).parameters
    assert set(options) == set(parameters)
    defaults = {n: p.default for n, p in parameters.items() if p.default is not p.empty}
    given = {"root", "classes", "size"}  # Of each data set.
    assert {n: options[n] for n in defaults if n not in given} == {
        n: default for n, default in defaults.items() if n not in given
    }
    sections = [medical_options.in_distribution(options["in_distribution"])]
    sections += [medical_options.ood(entry, key) for key, entry in options["ood"].items()]
    for section in sections:
        if not section.is_pictures:
            layout = medical_layouts.LAYOUTS[section.layout["layout"]]
            assert set(section.layout) - {"layout"} <= set(inspect.signature(layout).parameters)
        if section.labels:
            assert set(section.labels) <= set(options["classes"])
    with pytest.raises(InputError, match=r"is missing|no table"):
        sources.open_splits("medical_slices", options)


def test_sections_share_no_fields():
    config = ml_collections.ConfigDict(dict(source=medical_datasets.mnms_a()))
    config.source.ood.mnms_b.labels.LV = 7
    config.source.in_distribution.root = "elsewhere"
    assert config.source.in_distribution.labels.LV == 1
    assert config.source.ood.mnms_cd.root == "MnMs"


def test_frames_of_vendors(tmp_path):
    """M&Ms: labels in the frames ED and ES alone, other vendors as OoD sets."""
    rng = np.random.default_rng(0)
    rows = ["External code,Vendor,ED,ES"]
    for i, vendor in enumerate("AAABCD"):
        code = f"{vendor}{i}"
        rows.append(f"{code},{vendor},3,1")
        labels = np.full((10, 12, 2, 5), 9, np.uint8)  # No label; 9 is outside the table.
        labels[..., [1, 3]] = rng.integers(0, 4, (10, 12, 2, 2))
        volume(tmp_path / "MnMs" / code, f"{code}_sa", 40.0 * labels + 5)
        volume(tmp_path / "MnMs" / code, f"{code}_sa_gt", labels)
    table = "\n".join(rows)
    (tmp_path / "MnMs" / "201014_M&Ms_Dataset_Information_-_opendataset.csv").write_text(table)
    source = ml_collections.ConfigDict(medical_datasets.mnms_a()).to_dict()
    source |= {"root": str(tmp_path), "cache": str(tmp_path / "cache"), "size": (16, 16)}
    del source["name"], source["ood"]["prostatex"], source["ood"]["mnms2_long_axis"]
    opened = medical_slices.splits(**source)
    assert list(opened["train"].names) == [
        f"{opened['train'].subjects[0]}/t{t:02d}/z{z:03d}" for t in (1, 3) for z in (0, 1)
    ]
    assert {name: opened["test"].classes.count(name) for name in ("", "mnms_b", "mnms_cd")} == {
        "": 4,
        "mnms_b": 4,
        "mnms_cd": 8,
    }
    assert opened["test"].class_groups == {"mnms_b": "C3", "mnms_cd": "C3"}
    record = opened["train"].read(0)
    image, segments = record["image"][..., 0], record["segments"]
    # Brightness is the stored label: 1 LV, 2 myocardium, 3 RV; classes are LV, RV, myocardium.
    means = [np.median(image[segments == own]) for own in range(3)]
    assert means[0] < means[2] < means[1]


def stripes(order):
    """Bands of columns of a phantom, `[x, y, z]`, numbered in this order; 0 elsewhere."""
    labels = np.zeros((16, 12, 3), np.uint8)
    for place, value in enumerate(order):
        labels[4 * place : 4 * place + 3] = value
    return labels


# Rows of four zones merged to three, from the patient's left to the right; right is at the left.
ZONES = np.repeat([0, 0, 0, 3, 1, 1, 1, 3, 1, 1, 1, 3, 2, 2, 2, 3], 2)[::-1]


def test_zones_go_by_the_names_in_each_file(tmp_path):
    """Files of 3D Slicer number the same zones differently."""
    pytest.importorskip("SimpleITK")
    names = [name for zone in medical_datasets._ZONE_LABELS.values() for name in zone]
    for patient, order in (("p0", (1, 2, 3, 4)), ("p1", (4, 3, 2, 1)), ("p2", (2, 1, 4, 3))):
        labels, grid = stripes(order), dict(spacing=(2.0, 2.0, 5.0))
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
        volume_files.write_itk(tmp_path / "images" / f"{patient}.nrrd", 10 * labels, **grid)
        numbers = dict(zip(names, order, strict=True))
        path = tmp_path / "labels" / f"{patient}.seg.nrrd"
        volume_files.write_itk(path, labels, names=numbers, **grid)
    zones = medical_datasets.medical_set(
        "folder", "", 1.0, label_ending=".seg", labels=medical_datasets._ZONE_LABELS
    )
    source = medical_datasets.medical(
        zones, {}, classes=medical_datasets._ZONES, size=(16, 32), root=str(tmp_path)
    )
    options = ml_collections.ConfigDict({**source, "cache": str(tmp_path / "cache")}).to_dict()
    del options["name"]
    for split in medical_slices.splits(**options).values():
        np.testing.assert_array_equal(split.read(0)["segments"][8], ZONES)


def test_prostatex_from_dicom_files_to_records(tmp_path):
    """Series and segmentation objects as published, the section as it is but for the crop."""
    for library in ("pydicom", "SimpleITK"):
        pytest.importorskip(library)
    names = [name for zone in medical_datasets._ZONE_LABELS.values() for name in zone]
    labels = stripes((1, 2, 3, 4))
    for i in range(3):
        patient = f"ProstateX-{i:04d}"
        folder = tmp_path / "PROSTATEx" / patient / "2011"
        for number, kind in ((3, "t2_tse_tra"), (4, "t2_tse_sag")):
            volume = labels.astype(np.int16) * 10 + i
            volume_files.write_series(folder / f"{number}", volume, f"1.{i}.{number}", kind, number)
        masks = tmp_path / "PROSTATEx_Seg_Zones" / patient / "2011" / "seg"
        masks.mkdir(parents=True)
        parts = np.stack([labels[..., 1:] == n for n in (1, 2, 3, 4)])  # Not on the first slice.
        volume_files.write_segmentation(masks / "1-1.dcm", parts, names, [1, 2])
    source = ml_collections.ConfigDict(medical_datasets.prostatex()).to_dict()
    source |= {"root": str(tmp_path), "cache": str(tmp_path / "cache"), "size": (48, 64)}
    source["ood"] = {"sagittal": source["ood"]["prostatex_sagittal"]}
    del source["name"]
    opened = medical_slices.splits(**source)
    assert [len(split) for split in opened.values()] == [3, 3, 3 + 9]
    first, second = (opened["train"].read(i)["segments"] for i in (0, 1))
    assert (first == 3).all()
    # 16 columns of 1.5 mm at 0.4 mm: 60, in the middle of 64.
    row = second[24, 2:62]
    np.testing.assert_array_equal(row[[8, 20, 35, 50]], [2, 1, 1, 0])
    assert set(np.unique(second)) == {0, 1, 2, 3}
    assert (opened["test"].read(11)["segments"] == 255).all()


def test_record_shapes_need_no_files():
    told = sources.record_shapes("medical_slices", {"size": (32, 48), "in_distribution": {}})
    assert {name: tuple(shape) for name, shape in told.items()} == {
        "image": ((32, 48, 1), np.dtype("float32")),
        "segments": ((32, 48), np.dtype("uint8")),
        "label": ((), np.dtype("int32")),
    }


def test_real_hippocampus(tmp_path):
    pytest.importorskip("nibabel")
    if not HIPPOCAMPUS.exists():
        pytest.skip(f"{HIPPOCAMPUS} is absent: real volumes are not part of the repository")
    with tarfile.open(HIPPOCAMPUS) as archive:
        members = [m for m in archive.getmembers() if m.name.endswith(".nii.gz")]
        few = [
            m
            for m in members
            if m.name.split("_")[-1] in {f"{i:03d}.nii.gz" for i in (1, 3, 4, 6, 7)}
        ]
        archive.extractall(tmp_path, few, filter="data")
    source = medical_datasets.hippocampus(root=str(tmp_path), cache=str(tmp_path / "cache"))
    del source["ood"]["nuclei"]
    options = ml_collections.ConfigDict(source).to_dict()
    options.pop("name")
    splits = medical_slices.splits(**options)
    assert len(medical_slices.subject_split(splits)["train"]) == 3
    test = splits["test"]
    assert set(test.classes) == {"", "sagittal", "bias_field", "inverted"}
    for split in splits.values():
        maps = np.stack([record["segments"] for record in of_set(split, "")])
        assert set(np.unique(maps)) == {0, 1, 2}
        assert 0.85 < np.mean(maps == 2) < 0.99
    # Coronal slices cut the hippocampus across, sagittal ones along: anterior beside posterior.
    both = {
        name: np.mean([{0, 1} <= set(np.unique(r["segments"])) for r in of_set(test, name)])
        for name in ("", "sagittal")
    }
    assert both["sagittal"] > 0.2 > both[""]
