"""Methods of every shape through the one loop: devices, resuming, retracing, the workdir."""

import json

import jax
import numpy as np
import pytest
import toy_methods
import toy_runs

from jaxad.errors import CheckpointError, DivergedError, InputError
from jaxad.methods import base
from jaxad.training import loop, planning, signals

ALL = sorted(toy_methods.METHODS)


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    toy_runs.patch(monkeypatch)


def equal(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name in a:
        if tolerance:
            np.testing.assert_allclose(a[name], b[name], err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("name", ALL)
def test_devices_and_mappings_agree(name, tmp_path):
    leaves = {}
    for spmd in ("shard_map", "pmap"):
        for count in (1, 8):
            with toy_methods.config(name).unlocked() as config:
                config.spmd = spmd
            workdir = tmp_path / f"{spmd}{count}"
            toy_runs.run(config.lock(), workdir, devices=jax.devices()[:count])
            leaves[spmd, count] = toy_runs.newest_leaves(workdir)
    for key, found in leaves.items():
        equal(found, leaves["shard_map", 1], rtol=2e-5, atol=1e-6)
        if key[1] == 1:
            equal(found, leaves["shard_map", 1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ALL)
def test_run_stopped_at_every_poll_equals_the_straight_run(name, tmp_path, monkeypatch):
    devices = jax.devices()[:2]
    toy_runs.run(toy_methods.config(name), tmp_path / "straight", devices=devices)
    polls = {"left": None}

    def requested(self):
        polls["left"] -= 1
        return polls["left"] == 0

    monkeypatch.setattr(signals.Stop, "requested", requested)
    stops = 0
    for every in (1, 4):
        workdir = tmp_path / f"stopped{every}"
        while True:
            polls["left"] = every
            try:
                toy_runs.run(toy_methods.config(name), workdir, devices=devices)
                break
            except signals.StopRequested:
                stops += 1
                # With every=1 an evaluation could never pass its first batch: let it, at times.
                if stops % 2 == 0:
                    polls["left"] = 0
                every = every + 1 if every < 40 and stops % 3 == 0 else every
        equal(toy_runs.newest_leaves(workdir), toy_runs.newest_leaves(tmp_path / "straight"))
        straight = (tmp_path / "straight" / "metrics.jsonl").read_bytes()
        assert (workdir / "metrics.jsonl").read_bytes() == straight
    assert stops >= 5


def test_fit_only_gives_mean_and_spread(tmp_path):
    toy_runs.run(toy_methods.config("fit_only"), tmp_path)
    values = toy_methods.splits()["train"].read.values
    leaves = toy_runs.newest_leaves(tmp_path)
    mean = leaves["train/state.stats.mean"]
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-5)
    spread = leaves["train/state.stats.square"]
    np.testing.assert_allclose(spread, values.var(0), rtol=1e-5)


def test_ema_is_the_weighted_sum_of_the_parameters_on_the_way(tmp_path):
    """Against a NumPy recursion over checkpoints of every step."""
    with toy_methods.config("averaged", steps=6).unlocked() as config:
        config.checkpoint.every_steps = 1
        config.checkpoint.keep = 100
    toy_runs.run(config.lock(), tmp_path)
    import shutil

    per_step = {}
    folder = tmp_path / "checkpoints" / "train"
    for step in range(6, 0, -1):
        per_step[step] = toy_runs.newest_leaves(tmp_path)
        shutil.rmtree(folder / str(step))
    teacher = None
    for step in range(1, 7):
        params = per_step[step]["train/state.params"]
        if teacher is not None:
            teacher = 0.9 * teacher + 0.1 * params
            found = per_step[step]["train/state.stats.teacher"]
            np.testing.assert_allclose(found, teacher, rtol=1e-5)
        else:
            teacher = per_step[step]["train/state.stats.teacher"]


def test_second_stage_sees_the_first(tmp_path):
    toy_runs.run(toy_methods.config("two_stages"), tmp_path)
    leaves = toy_runs.newest_leaves(tmp_path)
    np.testing.assert_array_equal(leaves["first/state.params"], leaves["second/state.stats.origin"])
    distance = np.abs(leaves["second/state.params"] - 2 * leaves["first/state.params"]).sum()
    assert distance < 0.6 * np.abs(leaves["first/state.params"]).sum()


@pytest.mark.parametrize("spmd", ["shard_map", "pmap"])
@pytest.mark.parametrize("name", ALL)
def test_nothing_is_traced_again_after_the_first_step(name, spmd, tmp_path, monkeypatch):
    traces = {}
    build = toy_methods.METHODS[name]

    def counted(function, label):
        if function is None:
            return None

        def wrapper(*arguments):
            traces[label] = traces.get(label, 0) + 1
            return function(*arguments)

        return wrapper

    def counting_build(optimizers, *, dtype):
        method = build(optimizers, dtype=dtype)
        stages = {
            stage_name: stage._replace(
                update=counted(stage.update, f"update {stage_name}"),
                fits=tuple(
                    fit._replace(add=counted(fit.add, f"add {stage_name} {i}"))
                    for i, fit in enumerate(stage.fits)
                ),
            )
            for stage_name, stage in method.stages.items()
        }
        return base.Method(stages, counted(method.score, "score"))

    monkeypatch.setitem(toy_methods.METHODS, name, counting_build)
    with toy_methods.config(name).unlocked() as config:
        config.spmd = spmd
    toy_runs.run(config.lock(), tmp_path)
    assert traces
    # pmap takes the output shapes in a pass of its own.
    assert max(traces.values()) == 1, traces


def test_checkpoints_fall_on_epochs_that_begin_with_a_fit(tmp_path):
    with toy_methods.config("expectation", steps=9).unlocked() as config:
        config.checkpoint.every_steps, config.eval.every_steps = 3, None  # An epoch has 3 steps.
    toy_runs.run(config.lock(), tmp_path)
    leaves, folder = toy_runs.newest_leaves(tmp_path), tmp_path / "checkpoints" / "train"
    # Each epoch is 3 batches of its fit, then 3 steps.
    assert sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) == [6, 12, 18]
    assert leaves["train/state.step"] == 9


def test_fit_continued_on_other_devices_starts_again(tmp_path, monkeypatch, caplog):
    with toy_methods.config("fit_only").unlocked() as config:
        config.eval.batch_size = 12
    polls = iter([False, True])
    with monkeypatch.context() as patched:
        patched.setattr(signals.Stop, "requested", lambda self: next(polls))
        with pytest.raises(signals.StopRequested):
            toy_runs.run(config.lock(), tmp_path, devices=jax.devices())
    toy_runs.run(config, tmp_path, devices=jax.devices()[:1])
    assert "starts again" in caplog.text
    values = toy_methods.splits()["train"].read.values
    mean = toy_runs.newest_leaves(tmp_path)["train/state.stats.mean"]
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-5)


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("fit_only", {}, "stage train has no steps"),
        ("regression", {"drop": "validation"}, "no validation split"),
    ],
)
def test_best_that_cannot_be_is_refused_before_training(
    name, change, message, tmp_path, monkeypatch
):
    splits = {k: v for k, v in toy_methods.splits().items() if k != change.get("drop")}
    toy_runs.patch(monkeypatch, splits)
    with pytest.raises(InputError, match=message):
        toy_runs.run(toy_methods.config(name), tmp_path / "run", which="best")
    assert not (tmp_path / "run").exists()


def test_unknown_best_metric_is_an_error_at_the_first_evaluation(tmp_path):
    with toy_methods.config("regression").unlocked() as config:
        config.eval.checkpoint, config.eval.best_metric = "best", "image_acu"
    with pytest.raises(InputError, match=r"'image_acu' is not measured.*'image_auc'"):
        toy_runs.run(config.lock(), tmp_path)


def test_finished_run_scored_with_another_checkpoint_is_scored_again(tmp_path):
    config = toy_methods.config("regression")
    toy_runs.run(config, tmp_path)
    toy_runs.run(config, tmp_path, which="best")
    rows = [row for row in toy_runs.rows(tmp_path) if row["split"] == "test"]
    assert [row["checkpoint"] for row in rows] == ["best"]


def test_harmless_fields_may_change_between_runs(tmp_path):
    config = toy_methods.config("regression")
    toy_runs.run(config, tmp_path)
    with config.unlocked():
        config.data.threads, config.checkpoint.keep = 2, 5
    toy_runs.run(config.lock(), tmp_path, mode="eval")
    assert json.loads((tmp_path / "config.json").read_text())["data"]["threads"] == 2


def test_states_are_equal_on_all_devices(tmp_path, monkeypatch):
    seen = []
    run = loop.run

    def spy(*arguments):
        state = run(*arguments)
        seen.append(state)
        return state

    monkeypatch.setattr(loop, "run", spy)
    for name in ALL:
        toy_runs.run(toy_methods.config(name), tmp_path / name)
    for leaf in jax.tree.leaves(seen):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(shards) == 8
        for shard in shards[1:]:
            np.testing.assert_array_equal(shard, shards[0])


def test_metrics_lines_are_complete_and_in_order(tmp_path):
    toy_runs.run(toy_methods.config("regression"), tmp_path)
    rows = toy_runs.rows(tmp_path)
    train = [row["step"] for row in rows if row["split"] == "train"]
    assert train == [3, 6, 9, 12]
    assert [row["step"] for row in rows if row["split"] == "validation"] == [5, 10, 12]
    assert [row["step"] for row in rows if row["split"] == "test"] == [12]
    losses = [row["loss"] for row in rows if row["split"] == "train"]
    assert losses[-1] < 0.7 * losses[0]


def test_finished_run_only_reports(tmp_path, monkeypatch):
    config = toy_methods.config("regression")
    first = toy_runs.run(config, tmp_path)
    monkeypatch.setattr(planning, "plan", None)
    assert toy_runs.run(config, tmp_path) == first


def test_eval_scores_best_and_last_again(tmp_path):
    config = toy_methods.config("regression")
    trained = toy_runs.run(config, tmp_path)
    before = toy_runs.newest_leaves(tmp_path)
    assert toy_runs.run(config, tmp_path, mode="eval", which="last") == trained
    toy_runs.run(config, tmp_path, mode="eval", which="best")
    rows = [row for row in toy_runs.rows(tmp_path) if row["split"] == "test"]
    assert [row["checkpoint"] for row in rows] == ["best"]
    equal(toy_runs.newest_leaves(tmp_path), before)


def test_best_checkpoint_outlives_newer_ones(tmp_path, monkeypatch):
    from jaxad.evaluation import measures

    measure, calls = measures.measure, []

    def falling(scored):
        calls.append(None)
        return {**measure(scored), "image_auc": 1.0 - 0.1 * len(calls)}

    monkeypatch.setattr(measures, "measure", falling)
    with toy_methods.config("regression", steps=40).unlocked() as config:
        config.checkpoint.keep = 2
    toy_runs.run(config.lock(), tmp_path)
    folder = tmp_path / "checkpoints" / "train"
    assert sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) == [5, 36, 40]


def test_non_finite_loss_names_step_and_metric_and_keeps_good_checkpoints(tmp_path, monkeypatch):
    build = toy_methods.regression

    def exploding(optimizers, *, dtype):
        method = build(optimizers, dtype=dtype)
        stage = method.stages["train"]

        def update(state, batch, rng):
            state, metrics = stage.update(state, batch, rng)
            loss = jax.numpy.where(state.step == 8, jax.numpy.nan, metrics["loss"])
            return state, {**metrics, "loss": loss}

        return method._replace(stages={"train": stage._replace(update=update)})

    monkeypatch.setitem(toy_methods.METHODS, "regression", exploding)
    with pytest.raises(DivergedError, match=r"step 8: loss is nan"):
        toy_runs.run(toy_methods.config("regression"), tmp_path)
    report = json.loads((tmp_path / "diverged" / "report.json").read_text())
    assert (report["step"], report["metric"]) == (8, "loss")
    assert len(report["records"]) == 8
    assert (tmp_path / "diverged" / "state.npz").exists()
    assert report["checkpoints"][-1] == 5  # Evaluated at 5; the one due at 8 was not written.


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "no_meta"])
def test_damaged_newest_checkpoint_is_set_aside(damage, tmp_path, caplog):
    config = toy_methods.config("regression")
    toy_runs.run(config, tmp_path / "straight")
    toy_runs.run(config, tmp_path / "hurt")
    hurt(tmp_path / "hurt" / "checkpoints" / "train" / "12", damage)
    (tmp_path / "hurt" / "report" / "index.html").unlink()
    with caplog.at_level("WARNING", logger="absl"):
        toy_runs.run(config, tmp_path / "hurt")
    text = caplog.text
    assert "train/12 is damaged" in text
    assert "continuing from checkpoint 10" in text
    assert (tmp_path / "hurt" / "set_aside" / "train-12").is_dir()
    equal(toy_runs.newest_leaves(tmp_path / "hurt"), toy_runs.newest_leaves(tmp_path / "straight"))
    assert toy_runs.rows(tmp_path / "hurt") == toy_runs.rows(tmp_path / "straight")


def test_no_good_checkpoint_is_an_error_and_changes_nothing(tmp_path):
    config = toy_methods.config("regression")
    toy_runs.run(config, tmp_path)
    folder = tmp_path / "checkpoints" / "train"
    before = sorted(p.name for p in folder.iterdir())
    for name in before:
        hurt(folder / name, "empty")
    (tmp_path / "report" / "index.html").unlink()
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"can be trusted.*--fresh"):
            toy_runs.run(config, tmp_path)
    assert sorted(p.name for p in folder.iterdir()) == before


def hurt(folder, damage):
    """Does to a checkpoint what disks and interrupted copies do."""
    import shutil

    # Arrays as small as these are stored among the index; real ones in files of their own. Hurt
    # all.
    arrays = [
        p for p in folder.rglob("*") if p.is_file() and "leaves" in p.parts and "/d/" in str(p)
    ]
    assert damage not in ("flip", "truncate") or arrays
    if damage == "flip":
        for path in arrays:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0x10
            path.write_bytes(bytes(data))
    elif damage == "truncate":
        for path in arrays:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "no_meta":
        shutil.rmtree(folder / "meta")
    else:
        shutil.rmtree(folder)
        folder.mkdir()


def test_another_config_is_refused_with_the_differing_fields(tmp_path):
    toy_runs.run(toy_methods.config("regression"), tmp_path)
    with pytest.raises(InputError, match=r"stages.train.batch_size: 8 -> 16.*--fresh"):
        toy_runs.run(toy_methods.config("regression", batch_size=16), tmp_path)


def test_fresh_moves_the_old_workdir_aside(tmp_path):
    workdir = tmp_path / "run"
    toy_runs.run(toy_methods.config("regression"), workdir)
    old = (workdir / "metrics.jsonl").read_bytes()
    toy_runs.run(toy_methods.config("regression", batch_size=16), workdir, fresh=True)
    (aside,) = [p for p in tmp_path.iterdir() if p != workdir]
    assert (aside / "metrics.jsonl").read_bytes() == old
    assert (workdir / "metrics.jsonl").read_bytes() != old


def test_changed_data_is_refused(tmp_path, monkeypatch):
    config = toy_methods.config("regression")
    toy_runs.run(config, tmp_path)
    (tmp_path / "report" / "index.html").unlink()
    toy_runs.patch(monkeypatch, {**toy_methods.splits(), "train": toy_methods.split(24, 0)})
    with pytest.raises(InputError, match=r"data are not those.*train.records: 22 -> 24"):
        toy_runs.run(config, tmp_path)


def test_eval_without_training_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"--mode=eval needs a trained run"):
        toy_runs.run(toy_methods.config("regression"), tmp_path / "new", mode="eval")


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("stages.train.batch_size", 12, r"batch_size=12.*8 devices.*multiple of 8"),
        ("stages.train.sampler", "random", r"train.sampler: expected .*balanced.*random"),
        ("spmd", "xmap", r"config.spmd: expected .*shard_map"),
        ("dtype", "float16", r"config.dtype: expected .*found 'float16'"),
        ("checkpoint.keep", 0, r"checkpoint.keep: expected .*at least 1, found 0"),
        ("seed", -1, r"config.seed=-1"),
        ("stages.train.optimizer.name", "adamm", r"'adamm' is unknown.*adam"),
        ("stages.train.steps", -2, r"stages.train.steps=-2"),
    ],
)
def test_bad_field_is_named(field, value, message, tmp_path):
    with toy_methods.config("regression").unlocked() as config:
        config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=message):
        toy_runs.run(config.lock(), tmp_path)


def test_corrupt_record_raises_or_is_skipped_within_bounds(tmp_path, monkeypatch):
    import dataclasses

    good = toy_methods.splits()["train"]
    bad = dataclasses.replace(good, read=_Torn(good.read))
    toy_runs.patch(monkeypatch, {**toy_methods.splits(), "train": bad})
    with pytest.raises(InputError, match="record 3 is torn"):
        toy_runs.run(toy_methods.config("regression"), tmp_path / "raise")
    with toy_methods.config("regression").unlocked() as config:
        config.data.on_error = "skip"
    toy_runs.run(config.lock(), tmp_path / "skip")
    skipped = [row.get("skipped_records") for row in toy_runs.rows(tmp_path / "skip")]
    assert skipped[-3] == 4  # 12 steps of 8 among 22 records pass record 3 about four times.
    with config.unlocked():
        config.data.max_skips = 2
    with pytest.raises(InputError, match=r"more than config.data.max_skips=2"):
        toy_runs.run(config.lock(), tmp_path / "bounded")


class _Torn:
    def __init__(self, read):
        self.read = read

    def __call__(self, position):
        if position == 3:
            raise InputError("record 3 is torn")
        return self.read(position)


def test_unwritable_workdir_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match=r"Workdir .*file/run cannot be written"):
        toy_runs.run(toy_methods.config("regression"), file / "run")


def test_full_disk_during_a_save_keeps_earlier_checkpoints(tmp_path, monkeypatch):
    from jaxad.training import checkpoint

    class FullAtTen(checkpoint.Checkpoints):
        def save(self, number, tree, meta):
            if number == 10:
                with self._failures("writing checkpoint 10"):
                    raise OSError(28, "No space left on device")
            super().save(number, tree, meta)

    config = toy_methods.config("regression")
    toy_runs.run(config, tmp_path / "straight")
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "Checkpoints", FullAtTen)
        with pytest.raises(CheckpointError, match=r"No space left.*bytes free"):
            toy_runs.run(config, tmp_path / "full")
    toy_runs.run(config, tmp_path / "full")
    equal(toy_runs.newest_leaves(tmp_path / "full"), toy_runs.newest_leaves(tmp_path / "straight"))
    assert toy_runs.rows(tmp_path / "full") == toy_runs.rows(tmp_path / "straight")
