"""Patients by part: disjoint, complete, the same again from a seed or a file."""

import json

import pytest

from jaxad.data import subject_splits
from jaxad.errors import InputError

NAMES = [f"p{i:02d}" for i in range(20)]


def write(path, parts):
    path.write_text(json.dumps(parts))
    return str(path)


@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.2), (6, 2, 2)])
def test_shares(shares):
    parts = subject_splits.draw(NAMES, shares=shares)
    assert [len(parts[part]) for part in subject_splits.PARTS] == [12, 4, 4]
    assert sorted(name for names in parts.values() for name in names) == NAMES


def test_draw_depends_on_the_seed_alone():
    first = subject_splits.draw(NAMES, seed=3)
    assert subject_splits.draw(reversed(NAMES * 2), seed=3) == first
    assert subject_splits.draw(NAMES, seed=4) != first


@pytest.mark.parametrize("count", [3, 4, 5])
@pytest.mark.parametrize("shares", [(0.98, 0.01, 0.01), (0.01, 0.98, 0.01), (0.01, 0.01, 0.98)])
def test_every_part_has_a_patient(count, shares):
    parts = subject_splits.draw(NAMES[:count], shares=shares)
    assert min(map(len, parts.values())) == 1
    assert sum(map(len, parts.values())) == count


@pytest.mark.parametrize("shares", [(0.6, 0.4), (0.8, 0.2, 0.0), (1, 1, float("nan"))])
def test_wrong_shares(shares):
    with pytest.raises(InputError, match="shares: expected three numbers above 0"):
        subject_splits.draw(NAMES, shares=shares)


def test_too_few_patients():
    with pytest.raises(InputError, match=r"Found 2 patients \(a, b\)"):
        subject_splits.draw(["a", "b", "a"])


def test_what_was_drawn_can_be_read(tmp_path):
    parts = subject_splits.draw(NAMES)
    assert subject_splits.read(write(tmp_path / "s.json", parts), NAMES) == parts


def test_a_patient_in_two_parts_is_named(tmp_path):
    parts = {"train": ["a", "b"], "validation": ["b", "c"], "test": ["d", "a"]}
    with pytest.raises(InputError, match=r"(?s)2 patients .*a: train and test.*b: train and valid"):
        subject_splits.read(write(tmp_path / "s.json", parts), "abcd")


def test_patients_of_another_data_set_are_named(tmp_path):
    parts = {"train": ["a"], "validation": ["b"], "test": ["x"]}
    with pytest.raises(InputError, match=r"(?s)c is in no part of the file.*x is not in the data"):
        subject_splits.read(write(tmp_path / "s.json", parts), "abc")


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"train": ["a"], "test": ["b"]}, r"holds \['test', 'train'\]; expected"),
        (["a"], "holds list; expected"),
        ({"train": "a", "validation": ["b"], "test": ["c"]}, "'train': expected"),
        ({"train": ["a"], "validation": [], "test": ["c"]}, "names no patient for 'validation'"),
    ],
)
def test_files_of_another_form(tmp_path, parts, message):
    with pytest.raises(InputError, match=message):
        subject_splits.read(write(tmp_path / "s.json", parts), "abc")


def test_a_missing_file():
    with pytest.raises(InputError, match=r"none\.json cannot be read"):
        subject_splits.read("none.json", "abc")
