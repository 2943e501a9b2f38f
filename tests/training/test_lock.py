"""One run owns a workdir: live locks are respected, those of the dead are taken over."""

import contextlib
import json
import multiprocessing
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

from jaxad.errors import InputError
from jaxad.training import lock

ROOT = pathlib.Path(__file__).resolve().parents[2]


def write(workdir, age=0.0, **fields):
    """A lock as this process makes it, last refreshed `age` seconds ago, but for the fields."""
    with lock.owned(workdir):
        owner = json.loads((workdir / "lock").read_text())
    return write_text(workdir, json.dumps({**owner, **fields}), age)


def write_text(workdir, text, age):
    path = workdir / "lock"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, (time.time() - age,) * 2)
    return path


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def assert_taken_over(workdir):
    with lock.owned(workdir):
        assert json.loads((workdir / "lock").read_text())["pid"] == os.getpid()
    assert list(workdir.iterdir()) == []


def test_live_lock_is_refused_with_process_host_and_age(tmp_path):
    write(tmp_path, age=40)
    process = f"process {os.getpid()} on {socket.gethostname()}"
    message = f"Another run owns {tmp_path}: {process}, last seen 40 s ago"
    with pytest.raises(InputError, match=message), lock.owned(tmp_path):
        pass


def test_refusal_leaves_the_lock_of_the_other_as_it_is(tmp_path):
    path = write(tmp_path, age=40)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(InputError), lock.owned(tmp_path):
        pass
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_same_process_cannot_own_a_workdir_twice(tmp_path):
    with lock.owned(tmp_path), pytest.raises(InputError), lock.owned(tmp_path):
        pass


def test_dead_process_is_taken_over_and_logged(tmp_path, caplog):
    pid = dead_pid()
    write(tmp_path, pid=pid, boot=1.0)
    assert_taken_over(tmp_path)
    assert f"Taking over the lock of process {pid} on {socket.gethostname()}" in caplog.text


def test_zombie_is_taken_over(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    boot = lock._process_start(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # It has ended, and stays listed.
    write(tmp_path, pid=process.pid, boot=boot)
    assert_taken_over(tmp_path)
    process.wait()


def test_number_of_another_process_by_now_is_taken_over(tmp_path):
    write(tmp_path, boot=lock._process_start(os.getpid()) - 1.0)
    assert_taken_over(tmp_path)


def test_fresh_lock_of_another_host_is_refused(tmp_path):
    write(tmp_path, age=lock.STALE_S - 10, host="elsewhere", pid=1234)
    with pytest.raises(InputError, match=r"process 1234 on elsewhere"), lock.owned(tmp_path):
        pass


def test_process_number_of_another_container_says_nothing(tmp_path):
    """Containers may share a host name: a number that is free here may be alive there."""
    write(tmp_path, age=lock.STALE_S - 10, pid=dead_pid(), namespace="pid:[1]")
    with pytest.raises(InputError, match="Another run owns"), lock.owned(tmp_path):
        pass


def test_old_lock_of_another_host_is_taken_over(tmp_path):
    write(tmp_path, age=lock.STALE_S + 10, host="elsewhere", pid=1234)
    assert_taken_over(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"pid": 1}', '{"host": 3, "pid": [1]}', b"\xff\xfe\x00\x01"]
)
def test_old_garbage_is_taken_over(text, tmp_path):
    write_text(tmp_path, text, age=lock.STALE_S + 10)
    assert_taken_over(tmp_path)


def test_lock_that_is_being_filled_is_waited_for(tmp_path):
    """An empty file may be a lock whose owner is about to write into it."""
    path = write_text(tmp_path, "", age=1.7)
    start = time.monotonic()
    assert_taken_over(tmp_path)
    assert time.monotonic() - start > 0.2
    assert not path.exists()


def test_lock_is_gone_after_the_block(tmp_path):
    with lock.owned(tmp_path):
        assert (tmp_path / "lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_lock_is_gone_after_an_exception(tmp_path):
    with pytest.raises(ZeroDivisionError), lock.owned(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_lock_that_another_has_taken_over_stays(tmp_path):
    """This host was suspended for long, and a run on another one took it for dead."""
    with lock.owned(tmp_path):
        path = write_text(tmp_path, '{"host": "elsewhere", "pid": 1234}', age=0)
    assert json.loads(path.read_text())["host"] == "elsewhere"


def test_lock_is_refreshed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "REFRESH_S", 0.02)
    with lock.owned(tmp_path):
        os.utime(tmp_path / "lock", (0, 0))
        deadline = time.monotonic() + 5
        while (tmp_path / "lock").stat().st_mtime < time.time() - 60:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_vanished_lock_is_no_error(tmp_path):
    with lock.owned(tmp_path):
        (tmp_path / "lock").unlink()


# Races. Each round, processes try at once; whoever wins holds the lock until all have tried.

RACERS, ROUNDS = 4, 60


def race(folder, make_lock):
    """How many own the workdir at once, for each round."""
    for place in range(ROUNDS):
        workdir = folder / str(place)
        workdir.mkdir()
        make_lock(workdir)
    fork = multiprocessing.get_context("fork")
    ready, tried = fork.Barrier(RACERS), fork.Barrier(RACERS)
    owners = fork.Array("i", ROUNDS)
    arguments = (folder, ready, tried, owners)
    racers = [fork.Process(target=_try_all, args=arguments) for _ in range(RACERS)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(30)
        assert racer.exitcode == 0
    return list(owners)


def _try_all(folder, ready, tried, owners):
    for place in range(ROUNDS):
        ready.wait(20)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(lock.owned(folder / str(place)))
                with owners.get_lock():
                    owners[place] += 1
            except InputError:
                pass
            tried.wait(20)


if __name__ == "__main__":  # A process that forks must not have JAX's threads.
    folder = pathlib.Path(sys.argv[1])
    stale = sys.argv[2] == "stale"
    dead = dead_pid()
    make_lock = (lambda w: write(w, pid=dead, boot=1.0)) if stale else (lambda w: None)
    print(json.dumps(race(folder, make_lock)))


@pytest.mark.parametrize("kind", ["absent", "stale"])
def test_of_several_processes_exactly_one_wins(kind, tmp_path):
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), kind],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [1] * ROUNDS
