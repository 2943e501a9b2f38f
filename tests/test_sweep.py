"""`jaxad.sweep`: rows that score the runs of other rows."""

import json
import signal

import command_line
import pytest

from jaxad import sweep
from jaxad.training import experiment, signals

CONFIG = f"""
import sys

sys.path.insert(0, "{command_line.ROOT}/tests")

import tiny


def get_config(preset="net"):
    if preset == "net":
        small = dict(stages__train__steps=2, stages__train__batch_size=8)
        return tiny.config("closed_set", **small)
    return tiny.config("posthoc", method__score=preset)


PRESETS = {{"net": get_config}}


def get_tables():
    rows = {{
        "unused": ("table.py:net", {{"method.num_classes": 3}}),
        "the net": ("table.py:net", {{}}),
        "largest logit": ("table.py:max_logit", {{}}, "the net"),
    }}
    return {{"scores": {{"rows": rows, "metrics": ("pixel_auc", "mean_iou")}}}}
"""


def test_rows_bring_the_rows_whose_runs_they_score():
    rows = {"a": ("f", {}), "b": ("f", {}, "a"), "c": ("f", {}), "d": ("f", {}, "a", "c")}
    assert sweep._with_their_runs(rows, ["c"]) == {"c"}
    assert sweep._with_their_runs(rows, ["b"]) == {"a", "b"}
    assert sweep._with_their_runs(rows, ["d"]) == {"a", "c", "d"}
    assert sweep._with_their_runs(rows, list(rows)) == set(rows)


def test_a_signal_behind_the_last_step_of_a_run_stops_the_next(monkeypatch, tmp_path, capsys):
    begun = []

    def run(config, place, *, stop):
        begun.append(config)
        stop.receive(signal.SIGTERM)  # Too late for this run.
        return {"test": {"dice": 1.0}}

    monkeypatch.setattr(experiment, "run", run)
    runs = [sweep.Run("row", seed, f"config {seed}", tmp_path) for seed in (0, 1)]
    with pytest.raises(SystemExit) as error:
        sweep.finished(runs, signals.Stop())
    assert (error.value.code, begun) == (75, ["config 0"])
    assert "the same command continues" in capsys.readouterr().err


def test_changes_are_kept_where_a_row_has_the_field():
    class Config(dict):
        def to_dict(self):
            return self

    config = Config(method={"score": "msp", "network": {"width": 1.0}}, seed=0)
    changes = {"method.score": "x", "method.network": {}, "stages.train.steps": 3, "method.sco": 1}
    assert set(sweep._known(changes, config)) == {"method.score", "method.network"}


def test_row_scores_the_run_of_another_row_of_the_same_seed(tmp_path):
    (tmp_path / "table.py").write_text(CONFIG)
    work = tmp_path / "work"
    status, out, err = command_line.run(
        f"--config={tmp_path}/table.py",
        "--rows=largest logit",
        "--seeds=3",
        f"--workdir={work}",
        module="jaxad.sweep",
    )
    assert status == 0, err
    results = json.loads((work / "scores.json").read_text())
    assert list(results) == ["the net", "largest logit"]
    (net,), (scored,) = results.values()
    assert net["mean_iou"] == scored["mean_iou"]  # The same network.
    assert "largest logit" in out
    config = json.loads((work / "largest-logit" / "seed3" / "config.json").read_text())
    assert config["method"]["runs"] == [str(work / "the-net" / "seed3")]
    assert config["seed"] == 3
    assert not (work / "unused").exists()
