"""The command line: its errors, its exit statuses, and runs that are killed and continued."""

import json
import os
import random
import signal
import time

import command_line
import numpy as np
import pytest
import toy_runs

CONFIG = "--config=configs/rtfm.py"


def lines(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="session")
def straight(tmp_path_factory):
    """A tiny run without interruption."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    status, out, err = command_line.run(CONFIG, *command_line.TINY, f"--workdir={workdir}")
    assert status == 0, err
    return workdir, out


def same(workdir, reference):
    ours, theirs = toy_runs.newest_leaves(workdir), toy_runs.newest_leaves(reference)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert (workdir / "metrics.jsonl").read_bytes() == (reference / "metrics.jsonl").read_bytes()
    with np.load(workdir / "scores/test.npz") as a, np.load(reference / "scores/test.npz") as b:
        assert sorted(a.files) == sorted(b.files)
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_run_leaves_what_the_readme_lists(straight):
    workdir, out = straight
    assert "frame_auc" in out
    assert str(workdir / "report/index.html") in out
    for name in ("config.json", "metrics.jsonl", "scores/test.npz", "report/index.html"):
        assert (workdir / name).stat().st_size > 0
    assert list((workdir / "tensorboard").iterdir())
    assert not (workdir / "lock").exists()
    rows = toy_runs.rows(workdir)
    assert [row["step"] for row in rows if row["split"] == "train"] == [2, 4, 6, 8, 10, 12]
    assert rows[-1]["split"] == "test"


def test_second_run_only_reports(straight):
    workdir, out = straight
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}
    start = time.monotonic()
    status, again, err = command_line.run(CONFIG, *command_line.TINY, f"--workdir={workdir}")
    assert status == 0, err
    assert again == out
    assert "is finished" in err
    after = {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}
    assert before == after
    print(f"second run: {time.monotonic() - start:.1f} s")


def test_killed_three_times_at_random_equals_the_straight_run(straight, tmp_path):
    """SIGKILL between two lines, SIGTERM at a random moment, SIGKILL during a save."""
    reference, _ = straight
    workdir = tmp_path / "killed"
    arguments = (CONFIG, *command_line.TINY, f"--workdir={workdir}")
    rng = random.Random(0)
    folder = workdir / "checkpoints" / "train"

    process = command_line.start(*arguments)
    after = rng.randint(1, 3)
    assert command_line.wait_for(lambda: lines(workdir) >= after, process)
    process.kill()
    process.communicate()

    process = command_line.start(*arguments)
    command_line.wait_for(lambda: (workdir / "lock").exists(), process)
    time.sleep(rng.uniform(0.0, 2.0))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert "the same command continues" in err

    process = command_line.start(*arguments)
    saving = lambda: any(".orbax-checkpoint-tmp" in p.name for p in folder.glob("*"))  # noqa: E731
    assert command_line.wait_for(saving, process), "the run ended before it wrote a checkpoint"
    process.kill()
    process.communicate()

    status, _, err = command_line.run(*arguments)
    assert status == 0, err
    same(workdir, reference)


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signal_saves_and_says_resumable(which, straight, tmp_path):
    reference, _ = straight
    workdir = tmp_path / "run"
    arguments = (CONFIG, *command_line.TINY, f"--workdir={workdir}")
    process = command_line.start(*arguments)
    rows = {signal.SIGTERM: 0, signal.SIGINT: 2, signal.SIGUSR1: 5}[which]
    command_line.wait_for(lambda: (workdir / "config.json").exists(), process)
    command_line.wait_for(lambda: lines(workdir) >= rows, process)
    process.send_signal(which)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert f"Stopped and saved in {workdir}" in err
    assert "Traceback" not in err
    status, _, err = command_line.run(*arguments)
    assert status == 0, err
    same(workdir, reference)


def test_interrupt_of_the_whole_process_group_spares_the_readers(straight, tmp_path):
    """What Ctrl-C in a terminal does: reader processes get the signal too."""
    reference, _ = straight
    workdir = tmp_path / "run"
    arguments = (CONFIG, *command_line.TINY, f"--workdir={workdir}")
    process = command_line.start(*arguments, "--config.data.workers=1", session=True)
    assert command_line.wait_for(lambda: lines(workdir) >= 1, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    status, _, err = command_line.run(*arguments)  # With threads: the order is the same.
    assert status == 0, err
    same(workdir, reference)


def test_second_signal_quits_at_once(tmp_path):
    """While the first step is compiled, where Python's own handlers would have to wait."""
    process = command_line.start(CONFIG, f"--workdir={tmp_path / 'run'}", cache=False)
    for line in process.stderr:
        if "compiling" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - start < 2.0


def test_signal_in_an_evaluation_repeats_it(straight, tmp_path):
    reference, _ = straight
    workdir = tmp_path / "run"
    arguments = (CONFIG, *command_line.TINY, f"--workdir={workdir}")
    process = command_line.start(*arguments)
    folder = workdir / "checkpoints" / "train"
    # Checkpoint 6 is written right before the evaluation after step 6.
    assert command_line.wait_for(lambda: any(p.name[:1] == "6" for p in folder.glob("*")), process)
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert [row["split"] for row in toy_runs.rows(workdir)].count("test") == 0
    status, _, err = command_line.run(*arguments)
    assert status == 0, err
    same(workdir, reference)


def test_second_run_on_the_same_workdir_is_refused(tmp_path):
    workdir = tmp_path / "run"
    arguments = (CONFIG, *command_line.TINY, f"--workdir={workdir}")
    # However fast it is, it writes nothing before it is killed.
    late = [f"--config.{name}.every_steps=1000" for name in ("log", "eval", "checkpoint")]
    process = command_line.start(CONFIG, *late, f"--workdir={workdir}")
    command_line.wait_for(lambda: (workdir / "lock").exists(), process)
    status, _, err = command_line.run(CONFIG, f"--workdir={workdir}")
    process.kill()
    process.communicate()
    assert status == 2
    assert f"Another run owns {workdir}: process {process.pid}" in err
    # Its lock is stale now, and is taken over; nothing was written that binds to its config.
    assert lines(workdir) == 0
    status, _, err = command_line.run(*arguments)
    assert status == 0, err
    assert "Taking over the lock" in err


def test_mistake_does_not_bind_the_workdir(tmp_path):
    workdir = tmp_path / "run"
    arguments = (*command_line.TINY, f"--workdir={workdir}")
    status, _, err = command_line.run(CONFIG, *arguments, "--config.method.k=0")
    assert status == 2, err
    status, _, err = command_line.run(CONFIG, *arguments, "--config.method.k=2")
    assert status == 0, err


def test_eval_scores_again(straight):
    workdir, out = straight
    arguments = (CONFIG, *command_line.TINY, f"--workdir={workdir}", "--mode=eval")
    status, again, err = command_line.run(*arguments, "--checkpoint=last")
    assert status == 0, err
    assert again == out


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--config is missing"),
        (["--config=configs/rtfm.py:digit"], "Unknown preset 'digit'; expected one of ['digits',"),
        (["--config=configs/nothing.py"], "configs/nothing.py"),
        ([CONFIG, "--config.method.kk=3"], "kk"),
        ([CONFIG, "--config.method.k=three"], "three"),
        (
            [CONFIG, "--config.method.name=rtfn"],
            "'rtfn' is unknown; expected one of ['aux_prototypes', 'closed_set', 'deepmil',",
        ),
        ([CONFIG, "--config.method.k=0"], "config.method.k"),
        ([CONFIG, "--config.data.source.segments=0"], "segments"),
        ([CONFIG, "--config.stages.train.batch_size=7"], "batch_size=7"),
        ([CONFIG, "--mode=train", "extra"], "Unexpected arguments ['extra']"),
        (["--config=configs/rtfm.py:ucf_crime"], "data/ucf_crime/train.list"),
        ([CONFIG, "--workdir=/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_mistake_is_one_paragraph(arguments, message, tmp_path):
    if not any("--workdir" in argument for argument in arguments):
        arguments = [*arguments, f"--workdir={tmp_path / 'run'}"]
    status, _, err = command_line.run(*arguments)
    assert status == 2, err
    assert message in err
    assert "Traceback" not in err


def test_help_names_flags_and_statuses():
    status, out, _ = command_line.run("--help")
    assert status in (0, 1)
    for word in ("--config", "--workdir", "--mode", "--[no]fresh", "75"):
        assert word in out


def test_config_json_is_the_config(straight):
    config = json.loads((straight[0] / "config.json").read_text())
    assert config["method"]["name"] == "rtfm"
    assert config["stages"]["train"]["steps"] == 12
