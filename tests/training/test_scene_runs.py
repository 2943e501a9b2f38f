"""Runs of segmentation systems through `experiment.run`: resuming, and runs that score others."""

import json

import jax
import numpy as np
import pytest
import tiny
import toy_runs

from jaxad.errors import InputError
from jaxad.training import experiment, signals

SMALL = dict(
    stages__train__steps=2,
    stages__train__batch_size=8,
    stages__finetune__steps=3,
    stages__finetune__batch_size=8,
    log__every_steps=1,
)
DEVICES = jax.devices()[:2]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pebal") / "run"
    experiment.run(tiny.config("pebal", **SMALL), workdir, devices=DEVICES)
    return workdir


def logged(workdir):
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["stage"], row["step"]) for row in rows if row["split"] == "train"]


def test_pebal_stopped_in_both_stages_equals_the_straight_run(straight, tmp_path, monkeypatch):
    """The order of outlier objects, and where they are pasted, is continued too."""
    stops = [("train", 1), ("finetune", 1)]

    def requested(self):
        if stops and stops[0] in logged(tmp_path / "run"):
            stops.pop(0)
            return True
        return False

    monkeypatch.setattr(signals.Stop, "requested", requested)
    config = tiny.config("pebal", **SMALL)
    for _ in range(2):
        with pytest.raises(signals.StopRequested):
            experiment.run(config, tmp_path / "run", devices=DEVICES)
    experiment.run(config, tmp_path / "run", devices=DEVICES)
    ours, theirs = toy_runs.newest_leaves(tmp_path / "run"), toy_runs.newest_leaves(straight)
    assert ours.keys() == theirs.keys()
    for name, leaf in theirs.items():
        np.testing.assert_array_equal(ours[name], leaf, err_msg=name)
    metrics = [(folder / "metrics.jsonl").read_bytes() for folder in (tmp_path / "run", straight)]
    assert metrics[0] == metrics[1]


def test_stage_of_a_run_of_two_is_scored(straight, tmp_path):
    """Post-hoc scores of what PEBAL starts from, and of what it ends with."""
    for stage, step in (("train", "train"), ("", "finetune")):
        config = tiny.config("posthoc", method__stage=stage)
        with config.unlocked():
            config.method.runs, config.method.num_classes = (str(straight),), 8
        found = experiment.run(config.lock(), tmp_path / step, devices=DEVICES)["test"]
        assert 0 <= found["pixel_auc"] <= 1
        kept = toy_runs.newest_leaves(tmp_path / step)
        written = toy_runs.newest_leaves(straight)
        names = [name for name in kept if f".networks.0.{step}.params." in name]
        assert names
        for name in names:
            original = f"{step}/state." + name.partition(f".networks.0.{step}.")[2]
            np.testing.assert_array_equal(kept[name], written[original])


def test_run_that_is_missing_leaves_no_workdir(tmp_path):
    config = tiny.config("posthoc")
    with config.unlocked():
        config.method.runs = (str(tmp_path / "nothing"),)
    with pytest.raises(InputError, match=r"nothing/config.json does not exist"):
        experiment.run(config.lock(), tmp_path / "run", devices=DEVICES)
    assert not (tmp_path / "run").exists()
