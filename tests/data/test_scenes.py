"""Real scenes: records, held-out classes, sizes, and what is told about damaged files."""

import pathlib
import pickle
import tarfile

import ml_collections
import numpy as np
import pytest
from PIL import Image
from scene_folders import SIZE, image, label, plain, write, write_coco, write_plain, write_table

from jaxad import datasets
from jaxad.data import image_files, scene_check, scenes, sources
from jaxad.errors import InputError

CAMVID = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "camvid.tar"


@pytest.fixture
def root(tmp_path):
    """Training scenes of road, car and person; test scenes with and without things and void."""
    write_table(tmp_path)
    write_plain(tmp_path, "train", [[0, 1], [0, 2], [0, 1, 255]])
    write_plain(tmp_path, "test", [[0, 9, 255], [0, 1], [2, 0]])
    return tmp_path


def opened(root, **options):
    return scenes.splits(train=plain(root, "train"), test=plain(root, "test"), **options)


def test_training_records(root):
    split = opened(root)["train"]
    record = split.read(2)
    assert {k: (v.dtype.name, v.shape) for k, v in record.items()} == {
        "image": ("uint8", (*SIZE, 3)),
        "segments": ("uint8", SIZE),
        "label": ("int32", ()),
    }
    np.testing.assert_array_equal(record["image"], image(2))
    np.testing.assert_array_equal(record["segments"], label([0, 1, 255]))
    assert split.names == ["a", "b", "c"]


def test_test_records_have_the_truth(root):
    split = opened(root)["test"]
    record = split.read(0)
    np.testing.assert_array_equal(record["segments"], label([0, 254, 255]))
    np.testing.assert_array_equal(record["anomaly"], label([0, 1, 255]))
    assert split.labels.tolist() == [1, 0, 0]
    assert [int(split.read(i)["label"]) for i in range(3)] == [1, 0, 0]


def test_splits_tell_classes_and_colours(root):
    for split in opened(root).values():
        assert split.segment_classes == ("road", "car", "person")
        assert split.palette.tolist() == [[0, 20, 30], [1, 20, 30], [2, 20, 30]]


def test_a_test_set_without_anomalies_is_fine(root):
    write_plain(root, "test", [[0], [0], [0]])
    assert opened(root)["test"].labels.tolist() == [0, 0, 0]


def test_labels_of_anomalies_alone_go_with_any_classes(root):
    write_plain(root, "other", [[0, 1]])
    split = scenes.splits(
        train=plain(root, "train"),
        test=dict(layout="plain_anomaly", root=str(root), part="other"),
    )["test"]
    record = split.read(0)
    np.testing.assert_array_equal(record["segments"], label([255, 254]))
    np.testing.assert_array_equal(record["anomaly"], label([0, 1]))
    assert split.segment_classes == ("road", "car", "person")


def test_held_out_classes_drop_training_images(root):
    splits = opened(root, held_out=("person",))
    assert splits["train"].names == ["a", "c"]
    assert splits["train"].segment_classes == ("road", "car")
    assert splits["test"].labels.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(splits["test"].read(2)["segments"], label([254, 0]))
    np.testing.assert_array_equal(splits["test"].read(2)["anomaly"], label([1, 0]))


def test_held_out_classes_can_become_void_in_training(root):
    splits = opened(root, held_out=("car",), held_out_in_training="ignore")
    assert splits["train"].names == ["a", "b", "c"]
    np.testing.assert_array_equal(splits["train"].read(0)["segments"], label([0, 255]))
    np.testing.assert_array_equal(splits["train"].read(1)["segments"], label([0, 1]))  # Person.
    np.testing.assert_array_equal(splits["test"].read(1)["anomaly"], label([0, 1]))


def test_dropping_looks_at_labels_before_they_are_resized(root):
    ids = label([0])
    ids[5, 5] = 2
    write(root / "train/labels/a.png", ids)
    splits = opened(root, held_out=("person",), size=(3, 4))
    assert splits["train"].names == ["c"]


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(held_out=("horse",)), r"held_out names \['horse'\]; expected classes of road, car"),
        (dict(held_out=("road", "car", "person")), "names every class"),
        (dict(held_out=("road",)), "Each of the 3 training images has a pixel of"),
        (dict(held_out_in_training="keep"), "Unknown held_out_in_training 'keep'"),
        (dict(size=(0, 4)), r"config\.data\.source\.size: expected height and width"),
        (dict(test_size=(4,)), r"config\.data\.source\.test_size: expected height and width"),
        (dict(validation_fraction=1.0), r"validation_fraction must be in \[0, 1\)"),
        (dict(validation_fraction=0.9), "leaves none of the 3 training scenes"),
    ],
)
def test_wrong_options(root, options, message):
    with pytest.raises(InputError, match=message):
        opened(root, **options)


def test_validation_is_given_or_drawn_not_both(root):
    with pytest.raises(InputError, match="either validation or validation_fraction"):
        opened(root, validation=plain(root, "test"), validation_fraction=0.5)


def test_drawn_validation_is_disjoint_and_repeatable(root):
    splits = opened(root, validation_fraction=0.34)
    again = opened(root, validation_fraction=0.34)
    assert len(splits["validation"]) == 1
    assert set(splits["train"].names) | set(splits["validation"].names) == {"a", "b", "c"}
    assert splits["validation"].names == again["validation"].names
    assert "anomaly" in splits["validation"].read(0)


def test_validation_with_ignored_classes_shows_them_as_anomalies(root):
    options = dict(held_out=("car", "person"), held_out_in_training="ignore")
    split = opened(root, validation_fraction=0.34, **options)["validation"]
    assert split.labels.tolist() == [1]


def test_resizing_is_bilinear_for_images_and_nearest_for_labels(root):
    record = opened(root, size=(6, 8))["train"].read(1)
    expected = Image.fromarray(image(1)).resize((8, 6), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(record["image"], expected)
    np.testing.assert_array_equal(record["segments"], label([0, 2], (6, 8)))


def test_resizing_of_test_is_an_option_of_its_own(root):
    splits = opened(root, size=(6, 8))
    assert splits["test"].read(0)["segments"].shape == SIZE
    record = opened(root, test_size=(6, 8))["test"].read(0)
    assert {k: np.shape(v)[:2] for k, v in record.items() if k != "label"} == {
        "image": (6, 8),
        "segments": (6, 8),
        "anomaly": (6, 8),
    }


def test_labels_are_those_of_the_resized_truth(root):
    ids = label([0])
    ids[0, 0] = 9
    write(root / "test/labels/a.png", ids)
    for options in ({}, {"test_size": (3, 4)}):
        split = opened(root, **options)["test"]
        assert split.labels[0] == (split.read(0)["anomaly"] == 1).any()


def test_sizes_of_test_images_are_told_where_they_differ(root):
    assert opened(root)["test"].sizes is None
    write_plain(root, "test", [[0], [0], [9]], [(12, 16), (5, 7), (8, 16)])
    assert opened(root)["test"].sizes.tolist() == [[12, 16], [5, 7], [8, 16]]
    assert opened(root, test_size=(4, 4))["test"].sizes is None


def test_training_images_of_several_sizes_need_a_size(root):
    write_plain(root, "train", [[0], [0], [0]], [(12, 16), (5, 7), (8, 16)])
    with pytest.raises(InputError) as error:
        opened(root)
    text = str(error.value)
    assert "images/a.png has 12 x 16 pixels" in text
    assert "images/b.png 5 x 7 (2 of 3 differ from the first)" in text
    assert opened(root, size=(4, 4))["train"].read(1)["image"].shape == (4, 4, 3)


def test_regions_of_interest_make_void(root):
    for name in "abc":
        write(root / f"test/roi/{name}.png", label([1, 0, 0]))
    record = opened(root)["test"].read(0)
    np.testing.assert_array_equal(record["segments"], label([0, 255, 255]))
    np.testing.assert_array_equal(record["anomaly"], label([0, 255, 255]))
    assert opened(root)["test"].labels.tolist() == [0, 0, 0]


def test_images_and_labels_of_different_size_are_listed(root):
    for name in "ab":
        write(root / f"train/labels/{name}.png", label([0], (12, 15)))
    with pytest.raises(InputError) as error:
        opened(root)
    text = str(error.value)
    assert "2 of 3 training scenes cannot be used" in text
    assert "images/a.png has 12 x 16 pixels" in text
    assert "labels/b.png 12 x 15" in text


def test_unknown_ids_are_found_before_training(root):
    write(root / "train/labels/b.png", label([0, 77]))
    with pytest.raises(InputError, match=r"b\.png holds ids outside the class table: 77 \(96 pix"):
        opened(root)


def test_unknown_ids_of_test_are_found_before_training(root):
    write(root / "test/labels/c.png", label([0, 77]))
    with pytest.raises(InputError, match=r"c\.png holds ids outside .*known are 0-2, 9, 255"):
        opened(root)


def test_anomalies_in_training_are_errors(root):
    write(root / "train/labels/c.png", label([0, 9]))
    with pytest.raises(InputError, match=r"c\.png holds ids of anomalies"):
        opened(root)
    with pytest.raises(InputError, match=r"c\.png holds ids of anomalies"):
        opened(root, held_out=("person",))


def test_what_the_quick_check_skips_is_found_when_read(root):
    write_plain(root, "train", [[0]] * 20)
    write(root / "train/labels/d.png", label([9]))
    split = opened(root)["train"]
    with pytest.raises(InputError, match=r"d\.png holds ids of anomalies"):
        split.read(3)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_images_are_named(root, suffix):
    (root / "train/images/a.png").unlink()
    path = pathlib.Path(write(root / f"train/images/a.{suffix}", image(0)))
    split = opened(root)["train"]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=rf"The image .*a\.{suffix} cannot be decoded"):
        split.read(0)


def outcome(read, path):
    """Pixels, or the text of an error."""
    try:
        return read(str(path))
    except InputError as error:
        return str(error)


def test_a_truncated_label_map_is_an_input_error_or_whole(root, tmp_path):
    whole = (root / "train/labels/a.png").read_bytes()
    path, errors = tmp_path / "cut.png", []
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        found = outcome(image_files.read_ids, path)
        if isinstance(found, str):
            errors.append(found)
        else:
            np.testing.assert_array_equal(found, label([0, 1]))
    assert all("cut.png" in error for error in errors)
    assert len(errors) >= len(whole) - 20  # Checksums and the end mark may be missing.


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
def test_damaged_bytes_never_escape_as_other_errors(tmp_path, suffix):
    path = pathlib.Path(write(tmp_path / f"a.{suffix}", image(0)))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = whole[: rng.integers(1, len(whole) + 1)].copy()
        places = rng.integers(0, len(damaged), 4)
        damaged[places] = rng.integers(0, 256, 4)
        path.write_bytes(damaged.tobytes())
        found = outcome(image_files.read_image, path)
        assert f"a.{suffix}" in found if isinstance(found, str) else found.dtype == np.uint8


def test_files_that_are_no_images_are_listed(root):
    (root / "test/images/b.png").write_text("no image")
    with pytest.raises(InputError, match=r"1 of 3 test scenes .*\n.*b\.png is no image"):
        opened(root)


def test_label_maps_with_loss_are_refused(root):
    (root / "test/labels/b.png").unlink()
    write(root / "test/labels/b.jpg", label([0]))
    with pytest.raises(InputError, match=r"b\.jpg is JPEG of mode L; expected ids stored without"):
        opened(root)


def test_coloured_label_maps_are_refused_grey_ones_are_not(root):
    grey = np.repeat(label([0, 1])[..., None], 3, axis=-1)
    write(root / "test/labels/b.png", grey)
    np.testing.assert_array_equal(opened(root)["test"].read(1)["segments"], label([0, 1]))
    write(root / "test/labels/b.png", image(3))
    with pytest.raises(InputError, match=r"b\.png is coloured; expected one channel"):
        opened(root)


def test_palettes_and_wide_integers_are_ids(root):
    Image.fromarray(label([0, 1])).convert("P").save(root / "test/labels/b.png")
    wide = Image.fromarray(label([2]).astype(np.uint16))
    wide.save(root / "test/labels/c.png")
    split = opened(root)["test"]
    np.testing.assert_array_equal(split.read(2)["segments"], label([2]))
    Image.fromarray(label([2]).astype(np.uint16) + 256).save(root / "test/labels/c.png")
    with pytest.raises(InputError, match=r"c\.png holds ids outside the class table: 258"):
        opened(root)


def test_wide_images_are_refused(root):
    Image.fromarray(label([2]).astype(np.uint16)).save(root / "train/images/c.png")
    with pytest.raises(InputError, match=r"c\.png has mode I;16; expected 8 bits"):
        opened(root)


def test_grey_images_become_rgb(root):
    write(root / "train/images/a.png", image(0)[..., 0])
    record = opened(root)["train"].read(0)
    np.testing.assert_array_equal(record["image"], np.repeat(image(0)[..., :1], 3, axis=-1))


def test_test_classes_must_be_those_of_training(root, tmp_path):
    other = tmp_path / "other"
    write_table(other, [(0, "street", 0)])
    write_plain(other, "", [[0]])
    with pytest.raises(InputError, match="The test set has the classes street; expected those of"):
        scenes.splits(train=plain(root, "train"), test=plain(other))


def test_a_training_set_needs_classes(root):
    section = dict(layout="plain_anomaly", root=str(root), part="train")
    with pytest.raises(InputError, match="tells anomalies alone; a training set needs classes"):
        scenes.splits(train=section, test=plain(root, "test"))


def test_splits_travel_to_reader_processes(root):
    split = pickle.loads(pickle.dumps(opened(root)["test"]))
    np.testing.assert_array_equal(split.read(0)["anomaly"], label([0, 1, 255]))


def test_fingerprints_follow_files_codes_and_size(root):
    first = opened(root)["train"].fingerprint
    assert opened(root)["train"].fingerprint == first
    assert opened(root, size=(4, 4))["train"].fingerprint != first
    ignored = opened(root, held_out=("car",), held_out_in_training="ignore")["train"].fingerprint
    assert ignored != first
    write(root / "train/images/a.png", np.zeros_like(image()))
    assert opened(root)["train"].fingerprint != first


def test_record_shapes_are_those_of_records(root):
    for options in ({}, {"size": (6, 8)}):
        shapes = sources.record_shapes("scenes", dict(train=plain(root, "train"), **options))
        record = opened(root, **options)["train"].read(0)
        assert {k: (v.shape, v.dtype) for k, v in record.items()} == {
            name: tuple(shape) for name, shape in shapes.items()
        }


def test_record_shapes_of_known_data_sets_need_no_files():
    for section in (datasets.camvid(), datasets.cityscapes(), datasets.streethazards()):
        shapes = scenes.record_shapes(train=section["train"])
        assert shapes["image"][0][2] == 3


def test_outliers_come_along(root, tmp_path):
    write_coco(tmp_path / "coco", [[("dog", [[1, 1, 9, 1, 9, 9, 1, 9]])]])
    outliers = dict(layout="coco_proxy", root=str(tmp_path / "coco"), object_size=(16, 16))
    splits = opened(root, outliers=outliers)
    assert splits["outliers"].classes == ["dog"]
    assert splits["outliers"].read(0)["object"].shape == (16, 16, 3)


def test_outliers_must_differ_from_held_out_classes_too(root, tmp_path):
    write_table(root, [(0, "road", 0), (1, "dog", 1), (2, "person", 2), (9, "thing", 254)])
    write_coco(tmp_path / "coco", [[("dog", [[1, 1, 9, 1, 9, 9, 1, 9]])]])
    outliers = dict(layout="coco_proxy", root=str(tmp_path / "coco"))
    with pytest.raises(InputError, match="overlaps the inlier classes"):
        opened(root, outliers=outliers, held_out=("dog",))


@pytest.mark.parametrize(
    "name",
    [
        *("camvid", "cityscapes", "fishyscapes_lostandfound", "fishyscapes_static"),
        *("lostandfound", "own_scenes", "road_anomaly", "streethazards"),
    ],
)
def test_published_sections_name_known_options_and_missing_folders(name):
    config = ml_collections.ConfigDict(dict(source=getattr(datasets, name)()))
    options = config.source.to_dict()
    with pytest.raises(InputError, match=r"does not exist|exists|no list|cannot be read"):
        sources.open_splits(options.pop("name"), options)


def test_published_sections_share_no_fields():
    config = ml_collections.ConfigDict(dict(source=datasets.cityscapes()))
    config.source.test.root = "elsewhere"
    assert config.source.validation.root == config.source.train.root == "cityscapes"


def test_roots_are_relative_to_one_folder(root):
    sections = dict(train=plain("", "train"), test=plain(root, "test"))
    splits = scenes.splits(root=str(root), **sections)
    assert len(splits["train"]) == len(splits["test"]) == 3
    shapes = scenes.record_shapes(root=str(root), **sections)
    assert shapes["image"][0] == (*SIZE, 3)


def test_outliers_can_be_left_out():
    assert datasets.without_outliers(datasets.cityscapes())["outliers"] is None


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    """The real CamVid with Bicyclist held out, as its section says."""
    if not CAMVID.exists():
        pytest.skip(f"{CAMVID} is absent: the real CamVid data are not part of the repository")
    folder = tmp_path_factory.mktemp("camvid")
    with tarfile.open(CAMVID) as archive:
        archive.extractall(folder, filter="data")
    source = ml_collections.ConfigDict(dict(source=datasets.camvid())).source.to_dict()
    source.pop("name")
    return {**source, "root": str(folder)}


def test_camvid_protocol(camvid):
    splits = sources.open_splits("scenes", camvid)
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 166,  # Of 367: without a bicyclist.
        "validation": 101,
        "test": 233,
    }
    assert splits["test"].labels.sum() == 77
    assert len(splits["train"].segment_classes) == 10
    assert splits["train"].read(0)["image"].shape == (360, 480, 3)


def test_camvid_shares_of_pixels(camvid):
    split = scenes.splits(**{**camvid, "held_out": (), "size": (90, 120)})["train"]
    cells = scene_check.shares(split, scene_check.verify(split))
    void = cells.pop("void")
    assert cells.pop("anomalous") is None
    # Of all pixels, as the notes beside the archive give them, of full size.
    documented = [16.9, 23.3, 1.0, 31.7, 4.5, 9.7, 1.2, 1.1, 5.9, 0.6, 0.3]
    np.testing.assert_allclose(
        np.array([*cells.values()]) * (1 - void / 100), documented, atol=0.15
    )
