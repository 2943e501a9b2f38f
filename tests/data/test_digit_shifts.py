"""Digit shifts: three shifted sets that intensity statistics alone do not tell from scenes."""

import inspect
import json
import pickle

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jaxad import datasets
from jaxad.data import digit_scenes, digit_shifts, sources
from jaxad.errors import InputError

SMALL = {
    "train_scenes": 3,
    "validation_scenes": 2,
    "test_scenes": 4,
    "shifted_scenes": 5,
}
SETS = ("photographs", "turned", "defocused")


@pytest.fixture(scope="module")
def splits():
    return digit_shifts.splits()


@pytest.fixture(scope="module")
def images(splits):
    """All test images by set, float64 `[n, H, W]`."""
    test = splits["test"]
    stacked = np.stack([test.read(i)["image"][..., 0] for i in range(len(test))]).astype(float)
    return {name: stacked[np.array(test.classes) == name] for name in ("", *SETS)}


def test_records_have_the_agreed_arrays(splits):
    sizes = {"train": 400, "validation": 60, "test": 400}
    assert {part: len(split) for part, split in splits.items()} == sizes
    for split in splits.values():
        assert len(set(split.names)) == len(split)
        assert split.segment_classes == ("ring", "stroke", "curve", "background")
        assert (split.background, split.palette.shape) == (3, (4, 3))
        assert split.segment_classes[split.background] == "background"
        for i in (0, len(split) - 1):
            record = split.read(i)
            shapes = {name: (value.shape, value.dtype.name) for name, value in record.items()}
            assert shapes == {
                "image": ((64, 96, 1), "float32"),
                "segments": ((64, 96), "uint8"),
                "label": ((), "int32"),
            }
            assert (record["image"].min(), record["image"].max()) == (0, 1)
            assert record["label"] == split.labels[i]


def test_in_distribution_comes_first_then_one_set_per_kind(splits):
    test = splits["test"]
    assert list(test.classes) == [""] * 100 + [name for name in SETS for _ in range(100)]
    np.testing.assert_array_equal(test.labels, [name != "" for name in test.classes])
    assert test.class_groups == {"photographs": "C1", "turned": "C2", "defocused": "C3"}
    for part in ("train", "validation"):
        assert not splits[part].labels.any()
        assert set(splits[part].classes) == {""}


def test_classes_are_forms_of_digits_and_background(splits):
    for split in splits.values():
        maps = np.stack([split.read(i)["segments"] for i in range(len(split))])
        ordinary = maps[np.array(split.classes) == ""]
        assert set(np.unique(ordinary)) == {*range(4), 255}
        assert 0.5 < np.mean(ordinary == 3) < 0.9
        shares = [np.mean(ordinary == form) for form in range(3)]
        assert min(shares) == shares[1]  # A class rarer than the others.
        photographs = maps[np.array(split.classes) == "photographs"]
        assert (photographs == 255).all()


def test_scenes_are_those_of_digit_scenes_without_unseen_digits(splits):
    own = digit_scenes.scenes_of(digit_scenes.splits(outliers=0, test_scenes=4)["test"])
    forms = np.array([0, 1, 2, 2, 2, 0])  # Of 0, 1, 2, 3, 5, 8.
    for i, scene in enumerate(np.flatnonzero(own.digits < 0)):
        segments = splits["test"].read(i)["segments"]
        digits = (own.segments[scene] >= 2) & (own.segments[scene] < 255)
        np.testing.assert_array_equal(segments[digits], forms[own.segments[scene][digits] - 2])
        np.testing.assert_array_equal(segments == 255, own.segments[scene] == 255)


def test_turned_digits_lie_on_their_sides(splits):
    test = splits["test"]
    chosen = {
        name: np.stack(
            [test.read(i)["segments"] for i in range(len(test)) if test.classes[i] == name]
        )
        for name in ("", "turned")
    }

    def tall(maps):  # A one, id 1, is upright: its pixels spread more along rows.
        rows, columns = zip(*(np.nonzero(m == 1) for m in maps if (m == 1).any()), strict=True)
        return np.mean([np.std(r) > np.std(c) for r, c in zip(rows, columns, strict=True)])

    assert tall(chosen[""]) > 0.6
    assert tall(chosen["turned"]) < tall(chosen[""]) - 0.2


@pytest.mark.parametrize("shifted", SETS)
def test_intensity_alone_does_not_tell_a_set(images, shifted, record_property):
    def total_variation(stack):
        return sum(np.abs(np.diff(stack, axis=axis)).mean((1, 2)) for axis in (1, 2))

    statistics = {
        "mean": lambda stack: stack.mean((1, 2)),
        "standard deviation": lambda stack: stack.std((1, 2)),
        "total variation": total_variation,
    }
    truth = np.repeat([0, 1], 100)
    for name, statistic in statistics.items():
        scores = np.concatenate([statistic(images[""]), statistic(images[shifted])])
        area = roc_auc_score(truth, scores)
        record_property(f"AUROC of the {name}, {shifted}", area)
        assert 0.1 < area < 0.9, name


def test_blur_is_measured_by_what_it_removes(images):
    def coarse_share(stack):  # Of the spectral power, below a quarter of the Nyquist frequency.
        power = np.abs(np.fft.rfft2(stack - stack.mean((1, 2), keepdims=True))) ** 2
        low = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.rfftfreq(96), indexing="ij"))
        return power[:, (low > 0.06) & (low < 0.2)].sum(1) / power.sum((1, 2))

    assert np.median(coarse_share(images["defocused"])) < np.median(coarse_share(images[""]))


def test_same_seed_same_data_and_fingerprint():
    one, two, other = (digit_shifts.splits(**SMALL, seed=seed) for seed in (1, 1, 2))
    for part in one:
        assert one[part].fingerprint == two[part].fingerprint
        assert json.loads(json.dumps(one[part].fingerprint)) == one[part].fingerprint
        assert one[part].fingerprint["content"] != other[part].fingerprint["content"]
        last = len(one[part]) - 1
        np.testing.assert_array_equal(one[part].read(last)["image"], two[part].read(last)["image"])


def test_splits_travel_to_reader_processes():
    split = digit_shifts.splits(**SMALL)["test"]
    copy = pickle.loads(pickle.dumps(split))
    np.testing.assert_array_equal(copy.read(17)["image"], split.read(17)["image"])


def test_section_lists_every_option_with_its_default():
    section = datasets.digit_shifts()
    assert section.pop("name") in sources.names()
    parameters = inspect.signature(digit_shifts.splits).parameters
    assert section == {name: p.default for name, p in parameters.items()}


def test_record_shapes_agree_with_records():
    options = {**SMALL, "size": (48, 64)}
    told = sources.record_shapes("digit_shifts", options)
    record = digit_shifts.splits(**options)["train"].read(0)
    assert told == {
        name: (np.shape(value), np.asarray(value).dtype) for name, value in record.items()
    }


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": (60, 96)}, r"size of digit_shifts must be .* multiples of 16, got \(60, 96\)"),
        ({"defocus": (2.0, 1.0)}, "defocus of digit_shifts"),
        ({"shifted_scenes": 0}, "shifted_scenes"),
        ({"test_scenes": 0}, "test_scenes of digit_shifts"),
        ({"digit_size": (30, 90)}, "digit_size"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        digit_shifts.splits(**options)
