"""Digit scenes: known and unseen digits differ in shape alone, and splits share no handwriting."""

import inspect
import json
import pickle

import numpy as np
import pytest
from scipy import ndimage
from sklearn.datasets import load_sample_image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from jaxad import datasets
from jaxad.data import digit_scenes, photographs, sources
from jaxad.errors import InputError

SMALL = {"train_scenes": 4, "validation_scenes": 3, "test_scenes": 6, "outliers": 14}
SCENES = ("train", "validation", "test")


@pytest.fixture(scope="module")
def splits():
    return digit_scenes.splits()


@pytest.fixture(scope="module")
def scenes(splits):
    return {part: digit_scenes.scenes_of(splits[part]) for part in SCENES}


def test_records_have_the_agreed_arrays(splits):
    sizes = {"train": 400, "validation": 60, "test": 100, "outliers": 240}
    assert {part: len(split) for part, split in splits.items()} == sizes
    for part in SCENES:
        split = splits[part]
        assert len(set(split.names)) == len(split)
        assert split.sizes is None
        assert len(split.segment_classes) == 8
        assert (split.palette.shape, split.palette.dtype) == ((8, 3), np.uint8)
        for i in (0, len(split) - 1):
            record = split.read(i)
            shapes = {name: (value.shape, value.dtype.name) for name, value in record.items()}
            expected = {
                "image": ((64, 96, 3), "uint8"),
                "segments": ((64, 96), "uint8"),
                "label": ((), "int32"),
            }
            truth = {} if part == "train" else {"anomaly": ((64, 96), "uint8")}
            assert shapes == {**expected, **truth}
            assert record["label"] == split.labels[i]


def test_class_ids(scenes):
    known = {*range(8), digit_scenes.VOID}
    assert set(np.unique(scenes["train"].segments)) == known
    for part in ("validation", "test"):
        assert set(np.unique(scenes[part].segments)) == {*known, digit_scenes.OUTLIER}
        assert set(np.unique(scenes[part].anomaly)) == {0, 1, 255}


def test_truth_agrees_with_segments_and_labels(splits, scenes):
    for part in SCENES:
        own, split = scenes[part], splits[part]
        np.testing.assert_array_equal(own.anomaly == 1, own.segments == digit_scenes.OUTLIER)
        np.testing.assert_array_equal(own.anomaly == 255, own.segments == digit_scenes.VOID)
        np.testing.assert_array_equal((own.anomaly == 1).any((1, 2)), split.labels == 1)
        np.testing.assert_array_equal([c != "" for c in split.classes], split.labels == 1)
        assert np.mean(split.labels) == (0 if part == "train" else 0.5)
    assert set(splits["test"].classes) == {"", "digit 4", "digit 7", "digit 9"}


def test_objects_are_surrounded_by_void(scenes):
    for own in scenes.values():
        things = (own.segments >= 2) & (own.segments != digit_scenes.VOID)
        around = ndimage.binary_dilation(things, np.ones((1, 3, 3))) & ~things
        assert (own.segments[around] == digit_scenes.VOID).all()


def test_handwriting_of_splits_is_disjoint(scenes):
    used = [set(own.stickers[:, 2].tolist()) for own in scenes.values()]
    assert sum(map(len, used)) == len(set.union(*used))


def test_digits_keep_to_their_splits(scenes):
    known = set(digit_scenes.KNOWN_DIGITS)
    shown = {part: set(own.stickers[:, 1].tolist()) for part, own in scenes.items()}
    assert shown == {"train": known, "validation": known | {6}, "test": known | {4, 7, 9}}


def test_every_anomalous_scene_shows_its_one_unseen_digit(scenes):
    own = scenes["test"]
    for i, digit in enumerate(own.digits):
        there = own.stickers[own.stickers[:, 0] == i, 1]
        unseen = there[~np.isin(there, digit_scenes.KNOWN_DIGITS)]
        assert len(unseen) in ((1, 2) if digit >= 0 else (0,))
        assert set(unseen.tolist()) <= {digit}


@pytest.mark.parametrize("seed", [1, 2])
def test_colour_does_not_tell_unseen_digits(seed, record_property):
    own = digit_scenes.scenes_of(digit_scenes.splits(seed=seed, train_scenes=1, outliers=0)["test"])
    things = (own.segments >= 2) & (own.segments != digit_scenes.VOID)
    pixels, unseen = own.images[things] / 255.0, own.segments[things] == digit_scenes.OUTLIER
    scene = np.nonzero(things)[0]
    fitted = scene < 50
    features = np.concatenate([pixels, pixels**2], axis=1)
    probe = LogisticRegression().fit(features[fitted], unseen[fitted])
    area = roc_auc_score(unseen[~fitted], probe.decision_function(features[~fitted]))
    record_property("AUROC of colour", area)
    assert 0.4 < area < 0.6


def test_outliers_lie_in_the_corner_of_one_canvas(splits):
    split = splits["outliers"]
    assert len(set(split.names)) == len(split)
    assert set(split.classes) == set(photographs.KINDS)
    assert (split.labels == 1).all()
    for i in range(len(split)):
        record = split.read(i)
        mask = record["object_mask"]
        assert (record["object"].shape, record["object"].dtype) == ((36, 36, 3), np.uint8)
        assert (mask.shape, mask.dtype) == ((36, 36), np.uint8)
        assert set(np.unique(mask)) == {0, 1}
        assert mask.sum() > 20
        assert mask[0].any()
        assert mask[:, 0].any()
        assert ndimage.label(mask)[1] == 1
        assert not record["object"][mask == 0].any()
        assert record["label"] == 1


def test_fewer_outliers_kinds_and_scenes_are_among_more(splits):
    few = digit_scenes.splits(**SMALL)
    for part, own in few.items():
        name = "object" if part == "outliers" else "image"
        last = len(own) - 1
        np.testing.assert_array_equal(own.read(last)[name], splits[part].read(last)[name])
    kinds = [
        set(digit_scenes.splits(**SMALL, outlier_kinds_share=share)["outliers"].classes)
        for share in (0.01, 0.25, 0.5)
    ]
    assert list(map(len, kinds)) == [1, 3, 6]
    assert kinds[0] < kinds[1] < kinds[2]
    assert "outliers" not in digit_scenes.splits(**{**SMALL, "outliers": 0})


def test_patches_and_backgrounds_come_from_apart():
    parts = zip(photographs.backgrounds(), photographs.remainders(), strict=True)
    for name, halves in zip(photographs.NAMES, parts, strict=True):
        whole = np.concatenate([np.asarray(half) for half in halves], axis=1)
        np.testing.assert_array_equal(whole, load_sample_image(f"{name}.jpg"))


def test_seed_determines_everything():
    first, again = (digit_scenes.splits(**SMALL, seed=3) for _ in range(2))
    other = digit_scenes.splits(**SMALL, seed=4)
    for part in first:
        assert first[part].fingerprint == again[part].fingerprint
        assert first[part].fingerprint["content"] != other[part].fingerprint["content"]
        json.dumps(first[part].fingerprint)
        for name, value in first[part].read(1).items():
            np.testing.assert_array_equal(value, again[part].read(1)[name])
    lists = digit_scenes.splits(**SMALL, size=[64, 96], seed=3)
    assert lists["test"].fingerprint == first["test"].fingerprint


def test_fingerprint_of_training_ignores_options_of_outliers():
    more = digit_scenes.splits(**{**SMALL, "outliers": 20})
    fewer = digit_scenes.splits(**SMALL)
    assert more["train"].fingerprint == fewer["train"].fingerprint
    assert more["outliers"].fingerprint != fewer["outliers"].fingerprint


def test_reading_is_picklable():
    for split in digit_scenes.splits(**SMALL).values():
        copy = pickle.loads(pickle.dumps(split))
        for name, value in split.read(2).items():
            np.testing.assert_array_equal(copy.read(2)[name], value)


def test_other_sizes():
    options = {"size": (96, 80), "digit_size": (16, 80), "margin": 0, "object_size": (8, 9)}
    opened = digit_scenes.splits(**SMALL, **options)
    assert opened["test"].read(0)["image"].shape == (96, 80, 3)
    assert opened["test"].read(0)["label"] == 1
    assert (digit_scenes.scenes_of(opened["test"]).anomaly == 1).any((1, 2))[::2].all()
    assert all(opened["outliers"].read(i)["object_mask"].any() for i in range(14))
    shapes = sources.record_shapes("digit_scenes", {**SMALL, **options})
    assert shapes == {
        name: (value.shape, value.dtype) for name, value in opened["train"].read(0).items()
    }


def test_config_section_states_the_defaults():
    section = datasets.digit_scenes()
    defaults = inspect.signature(digit_scenes.splits).parameters
    assert section.pop("name") == "digit_scenes"
    assert section == {name: option.default for name, option in defaults.items()}


def test_config_section_opens():
    section = {**datasets.digit_scenes(), **SMALL}
    opened = sources.open_splits(section.pop("name"), section)
    assert set(opened) == {*SCENES, "outliers"}


@pytest.mark.parametrize(
    "option",
    [
        {"size": (64,)},
        {"size": (8, 96)},
        {"train_scenes": 0},
        {"validation_scenes": 0},
        {"test_scenes": 0},
        {"digits": (4, 3)},
        {"unseen_digits": (0, 1)},
        {"digit_size": (4, 30)},
        {"digit_size": (30, 65)},
        {"margin": -1},
        {"noise": -0.1},
        {"outliers": -1},
        {"outlier_kinds_share": 0.0},
        {"outlier_kinds_share": 1.5},
        {"object_size": (16, 65)},
        {"seed": -1},
    ],
)
def test_options_out_of_range_are_named(option):
    with pytest.raises(InputError, match=f"Option {next(iter(option))} of digit_scenes"):
        digit_scenes.splits(**option)
