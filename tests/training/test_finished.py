"""`jaxad.training.finished`, on toy runs."""

import types

import jax
import numpy as np
import pytest
import toy_methods
import toy_runs

from jaxad import config as configs
from jaxad.data import pipeline
from jaxad.errors import CheckpointError, InputError
from jaxad.training import finished, planning


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    toy_runs.patch(monkeypatch)


def sample():
    return pipeline.example(toy_methods.splits()["train"])


def run(name, workdir, **fields):
    with toy_methods.config(name).unlocked() as config:
        config.update_from_flattened_dict(fields)
    toy_runs.run(config.lock(), workdir)
    return config


def leaves(states):
    return {
        f"{stage}/state.{jax.tree_util.keystr(path, simple=True, separator='.')}": np.asarray(leaf)
        for stage, state in states.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


@pytest.mark.parametrize("name", ["regression", "two_stages"])
def test_states_are_those_of_the_newest_checkpoints_without_optimisers(name, tmp_path):
    run(name, tmp_path)
    found = finished.states(tmp_path, sample())
    written = toy_runs.newest_leaves(tmp_path)
    assert all(state.opt_state == () for state in found.values())
    ours = leaves(found)
    assert {key.partition("/")[0] for key in ours} == {key.partition("/")[0] for key in written}
    for key, leaf in ours.items():
        np.testing.assert_array_equal(leaf, written[key], err_msg=key)


def test_optimiser_with_a_warm_up_does_not_matter(tmp_path):
    run(
        "regression",
        tmp_path,
        **{
            "stages.train.optimizer": dict(
                name="adam", learning_rate=0.1, schedule="cosine", warmup_steps=3
            )
        },
    )
    assert int(finished.states(tmp_path, sample())["train"].step) == 12


def test_run_that_was_scored_with_its_best_checkpoint_gives_that(tmp_path, monkeypatch):
    from jaxad.evaluation import measures

    measure, calls = measures.measure, []

    def falling(scored):
        calls.append(None)
        return {**measure(scored), "image_auc": 1.0 - 0.1 * len(calls)}

    monkeypatch.setattr(measures, "measure", falling)
    run("regression", tmp_path, **{"eval.checkpoint": "best"})
    assert int(finished.states(tmp_path, sample())["train"].step) == 5  # The first evaluation.


def test_nothing_in_the_other_run_is_changed(tmp_path):
    run("regression", tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    finished.states(tmp_path, sample())
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before
    assert not (tmp_path / "set_aside").exists()


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"config.json does not exist; expected the workdir"):
        finished.states(tmp_path / "nothing", sample())
    assert not (tmp_path / "nothing").exists()


def test_unfinished_run_is_an_error(tmp_path):
    run("regression", tmp_path)
    (tmp_path / "report" / "index.html").unlink()
    with pytest.raises(InputError, match=r"is not finished; run it to its end"):
        finished.states(tmp_path, sample())


def test_run_without_checkpoints_is_an_error(tmp_path):
    import shutil

    run("regression", tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "train")
    with pytest.raises(InputError, match=r"checkpoints/train holds no checkpoint"):
        finished.states(tmp_path, sample())


def test_damaged_checkpoint_is_named_and_stays(tmp_path):
    run("regression", tmp_path)
    newest = tmp_path / "checkpoints" / "train" / "12"
    for path in newest.rglob("*"):
        if path.is_file() and "leaves" in path.parts:
            path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"train/12 cannot be trusted"):
        finished.states(tmp_path, sample())
    assert newest.is_dir()


def test_templates_are_the_shapes_of_the_first_states():
    config = toy_methods.config("two_stages")
    method = planning.build(config, dict.fromkeys(config.stages, 3))
    shapes, states = finished.templates(method, sample(), {}), {}
    for name, stage in method.stages.items():
        states[name] = stage.init(jax.random.key(0), sample(), states)
    assert jax.tree.structure(shapes) == jax.tree.structure(states)
    for shape, leaf in zip(jax.tree.leaves(shapes), jax.tree.leaves(states), strict=True):
        assert (shape.shape, shape.dtype) == (leaf.shape, leaf.dtype)


def test_states_of_other_runs_are_found_by_name():
    """And do not become stages."""
    config = toy_methods.config("regression")
    method = planning.build(config, {"train": 3})
    stage = method.stages["train"]

    def init(rng, batch, done):
        return stage.init(rng, batch, {}).replace(stats=done["other"]["train"].params)

    method = method._replace(stages={"train": stage._replace(init=init)})
    other = {"train": stage.init(jax.random.key(0), sample(), {})}
    found = finished.templates(method, sample(), {"other": other})
    assert list(found) == ["train"]
    assert found["train"].stats.shape == other["train"].params.shape


def rows(*values, metric="image_auc", split="validation", stage="train"):
    return [
        {"split": split, "stage": stage, "step": step, metric: value}
        for step, value in enumerate(values)
    ]


def settings(mode="max"):
    return types.SimpleNamespace(best_metric="image_auc", best_mode=mode)


@pytest.mark.parametrize(
    "mode, values, best",
    [("max", (0.1, 0.9, 0.5), 1), ("min", (0.1, 0.9, 0.5), 0), ("max", (0.9, 0.1, 0.9), 2)],
)
def test_best_row_is_that_of_the_best_value_and_of_equal_ones_the_latest(mode, values, best):
    assert finished.best_row(rows(*values), "train", settings(mode))["step"] == best


@pytest.mark.parametrize(
    "known",
    [
        rows(),
        rows(0.5, split="test"),
        rows(0.5, stage="other"),
        rows(0.5, metric="loss"),
        rows(None),
    ],
)
def test_no_best_row_where_nothing_was_measured(known):
    assert finished.best_row(known, "train", settings()) is None


def test_config_of_a_run_is_read_from_its_folder(tmp_path):
    config = run("regression", tmp_path)
    assert configs.difference(configs.of_run(tmp_path).to_dict(), config.to_dict()) == []
