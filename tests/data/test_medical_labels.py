"""Classes of medical labels go by name, the background last."""

import numpy as np
import pytest

from jaxad.data import medical_labels
from jaxad.errors import InputError

CLASSES = ("left", "right", "background")


def table(folder, text):
    (folder / "classes.csv").write_text(text)
    return str(folder)


def test_numbers_of_files_become_numbers_of_classes():
    stored = {"background": 0, "right": 1, "left": [2, 3]}
    found = medical_labels.label_map(stored, CLASSES, "", "labels")
    assert found == {0: 2, 1: 1, 2: 0, 3: 0}


def test_segments_by_name():
    stored = {"left": ("Left one", "Left two"), "right": "Right"}
    found = medical_labels.label_map(stored, CLASSES, "", "labels")
    assert found == {"Left one": 0, "Left two": 0, "Right": 1}


def test_the_background_of_a_table_is_last(tmp_path):
    root = table(tmp_path, "id,name,r,g,b\n0,background,0,0,0\n4,right,1,2,3\n2,left,4,5,6\n")
    names, palette = medical_labels.class_names(None, root)
    assert names == ("right", "left", "background")
    np.testing.assert_array_equal(palette, [[1, 2, 3], [4, 5, 6], [0, 0, 0]])
    assert medical_labels.label_map(None, names, root, "labels") == {0: 2, 4: 0, 2: 1}


def test_several_ids_of_a_table_may_be_one_class(tmp_path):
    root = table(tmp_path, "id,name,train_id\n0,background,1\n1,zone,0\n2,zone too,0\n")
    names, palette = medical_labels.class_names(None, root)
    assert (names, palette) == (("zone", "background"), None)
    assert medical_labels.label_map(None, names, root, "labels") == {0: 1, 1: 0, 2: 0}


def test_without_table_there_are_no_labels(tmp_path):
    assert medical_labels.label_map(None, CLASSES, str(tmp_path), "labels") is None
    with pytest.raises(InputError, match=r"classes is None, and there is no table .*classes\.csv"):
        medical_labels.class_names(None, str(tmp_path))


@pytest.mark.parametrize(
    "stored, message",
    [
        ({"middle": 1}, r"labels names \['middle'\]; expected classes of left, right, background"),
        ({"left": 1, "right": [2, 1]}, "1 is both 'left' and 'right'"),
        ({"left": 1.5}, "whole numbers or names of segments, found 1.5"),
        ({"left": True}, "found True"),
        ({}, "expected classes of"),
    ],
)
def test_wrong_labels(stored, message):
    with pytest.raises(InputError, match=message):
        medical_labels.label_map(stored, CLASSES, "", "labels")


@pytest.mark.parametrize("names", [("one",), ("a", "a", "background"), ()])
def test_wrong_classes(names):
    with pytest.raises(InputError, match="different names, the background last"):
        medical_labels.class_names(names, "")


def test_wrong_tables(tmp_path):
    root = table(tmp_path, "id,name\n0,nothing\n1,left\n")
    with pytest.raises(InputError, match=r"names nothing, left; expected .*'background'"):
        medical_labels.class_names(None, root)
    root = table(tmp_path, "id,name,ignore\n0,background,0\n1,left,0\n7,other,1\n")
    with pytest.raises(InputError, match=r"ignores the labels \[7\]"):
        medical_labels.label_map(None, ("left", "background"), root, "labels")
