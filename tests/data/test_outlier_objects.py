"""Outlier sets by layout, and the embedded one."""

import inspect
import pickle

import numpy as np
import pytest

from jaxad import datasets
from jaxad.data import outlier_objects, photo_objects, photographs
from jaxad.errors import InputError

SMALL = dict(count=6, object_size=(8, 12))


@pytest.mark.parametrize(
    "section, message",
    [
        (dict(root="."), r"outliers.layout=None .*\['coco_proxy', 'photo_objects'\]"),
        (dict(layout="coco", root="."), "outliers.layout='coco' is unknown"),
        (dict(layout="coco_proxy"), r"outliers needs \['root'\]"),
        (dict(layout="coco_proxy", root=".", objects=3), r"has no field \['objects'\]"),
        (dict(layout="coco_proxy", root=".", inlier_classes=()), r"has no field \['inlier_cl"),
        (dict(layout="photo_objects", root="."), r"has no field \['root'\].*'count'"),
    ],
)
def test_wrong_sections(section, message):
    with pytest.raises(InputError, match=message):
        outlier_objects.open_objects(section, ())


@pytest.mark.parametrize(
    "option",
    [
        dict(count=0),
        dict(kinds_share=0.0),
        dict(object_size=(4, 9)),
        dict(noise=-1.0),
        {"seed": -1},
    ],
)
def test_options_out_of_range_are_named(option):
    with pytest.raises(InputError, match=f"Option {next(iter(option))} of photo_objects"):
        photo_objects.objects(**option)


def test_a_section_with_lists_and_none_opens():
    section = dict(layout="photo_objects", **SMALL, kinds_share=None)
    section["object_size"] = list(section["object_size"])
    split = outlier_objects.open_objects(section, ("road",))
    assert split.fingerprint == photo_objects.objects(**SMALL).fingerprint
    assert split.classes == photo_objects.objects(**SMALL).classes
    assert set(split.classes) <= set(photographs.KINDS)


def test_objects_keep_to_their_masks():
    split = photo_objects.objects(**SMALL, noise=0.1)
    for i in range(len(split)):
        record = pickle.loads(pickle.dumps(split.read))(i)
        assert record["object"].shape == (12, 12, 3)
        assert set(np.unique(record["object_mask"])) == {0, 1}
        assert not record["object"][record["object_mask"] == 0].any()


def test_noise_and_seed_change_the_fingerprint():
    found = [photo_objects.objects(**SMALL, **o) for o in ({}, dict(noise=0.1), dict(seed=1))]
    assert len({split.fingerprint["content"] for split in found}) == 3


def test_config_section_states_the_defaults():
    section = datasets.photo_objects()
    defaults = inspect.signature(photo_objects.objects).parameters
    assert section.pop("layout") == "photo_objects"
    assert section == {name: option.default for name, option in defaults.items()}
