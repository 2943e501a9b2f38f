import dataclasses
import json

import numpy as np
import pytest
import toy_methods
import toy_runs

from jaxad.errors import InputError
from jaxad.training import signals, workdir

SUBJECTS = {"train": "PA", "validation": "PV", "test": "PT"}


def splits(**changes):
    """The toy splits, two records per subject; `changes` are subjects by split."""
    opened = toy_methods.splits()
    return {
        name: dataclasses.replace(
            split,
            subjects=changes.get(name, [f"{SUBJECTS[name]}{i // 2}" for i in range(len(split))]),
        )
        for name, split in opened.items()
    }


def read(folder):
    return json.loads((folder / "splits.json").read_text())


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    toy_runs.patch(monkeypatch, splits())


@pytest.fixture
def config():
    return toy_methods.config("regression", steps=3)


@pytest.fixture
def begun(tmp_path, config):
    toy_runs.run(config, tmp_path / "run")
    return tmp_path / "run"


def test_subjects_are_unique_and_in_order():
    split = toy_methods.splits()["train"]
    names = np.array([f"P{9 - i // 2}" for i in range(len(split))])
    known = {"train": dataclasses.replace(split, subjects=names), "test": split}
    found = workdir.subjects(known)
    assert found == {"train": list(dict.fromkeys(names.tolist()))}
    assert json.dumps(found)


def test_subjects_are_kept_with_the_run(begun):
    expected = {
        name: [f"{SUBJECTS[name]}{i}" for i in range((len(split) + 1) // 2)]
        for name, split in toy_methods.splits().items()
    }
    assert read(begun) == expected


def test_subjects_are_on_record_before_training(tmp_path, config, monkeypatch):
    def requested(self):
        return (tmp_path / "run" / "splits.json").exists()

    monkeypatch.setattr(signals.Stop, "requested", requested)
    with pytest.raises(signals.StopRequested):
        toy_runs.run(config, tmp_path / "run")
    rows = toy_runs.rows(tmp_path / "run") if (tmp_path / "run/metrics.jsonl").exists() else []
    assert not rows
    assert read(tmp_path / "run")["train"][0] == "PA0"


def test_runs_without_subjects_have_no_such_file(tmp_path, config, monkeypatch):
    toy_runs.patch(monkeypatch, toy_methods.splits())
    toy_runs.run(config, tmp_path)
    assert not (tmp_path / "splits.json").exists()


@pytest.mark.parametrize("name", ["train", "validation"])
def test_other_subjects_are_refused_and_the_record_stays(name, begun, config, monkeypatch):
    before = read(begun)
    others = [f"other{i // 2}" for i in range(len(splits()[name]))]
    toy_runs.patch(monkeypatch, splits(**{name: others}))
    with pytest.raises(InputError, match=rf"subjects of the {name} split .*splits\.json.*P.0 is g"):
        toy_runs.run(config, begun, mode="eval")
    assert read(begun) == before


def normal(subjects, name):
    """Those of records that are not anomalous: OoD sets are no part of a split by patients."""
    labels = splits()[name].labels
    assert 0 < labels.sum() < len(labels)
    return [subject for subject, label in zip(subjects, labels, strict=True) if label == 0]


def test_other_test_subjects_are_scored(begun, config, monkeypatch):
    others = [f"new{i}" for i in range(len(splits()["test"]))]
    toy_runs.patch(monkeypatch, splits(test=others))
    toy_runs.run(config, begun, mode="eval")
    assert read(begun)["test"] == normal(others, "test")


def test_fresh_runs_have_their_own_subjects(begun, config, monkeypatch):
    others = [f"other{i}" for i in range(len(splits()["train"]))]
    toy_runs.patch(monkeypatch, splits(train=others))
    toy_runs.run(config, begun, fresh=True)
    assert read(begun)["train"] == normal(others, "train")


def test_damaged_record_is_named(begun, config):
    (begun / "splits.json").write_text("{")
    with pytest.raises(InputError, match=r"splits\.json is not valid JSON .*subjects by split"):
        toy_runs.run(config, begun, mode="eval")
