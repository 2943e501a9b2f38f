"""One run owns a workdir: a lock file names host and process, and is refreshed while it runs."""

import contextlib
import fcntl
import json
import logging
import os
import pathlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator

from jaxad.errors import InputError

log = logging.getLogger(__name__)

REFRESH_S = 20.0
STALE_S = 120.0  # Of a lock of another host; on this host the process is looked up.


@contextlib.contextmanager
def owned(workdir: pathlib.Path) -> Iterator[None]:
    """Holds `<workdir>/lock` inside the block.

    Raises:
        InputError: If a live run holds it: names host, process, start and last sign of life.
    """
    path = workdir / "lock"
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
    mine |= {"boot": _process_start(os.getpid()), "namespace": _namespace()}
    text = json.dumps(mine)
    with _one_at_a_time(workdir):
        _remove_if_stale(path)
        _create(path, text)
    done = threading.Event()

    def refresh():
        while not done.wait(REFRESH_S):
            with contextlib.suppress(OSError):
                if path.read_text() == text:
                    os.utime(path)

    thread = threading.Thread(target=refresh, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(OSError):
            if path.read_text() == text:
                path.unlink()


def _create(path: pathlib.Path, text: str) -> None:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:  # Only where folders cannot be locked.
        raise InputError(f"Another run has just taken {path.parent}.") from None
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        free = shutil.disk_usage(path.parent).free
        raise InputError(
            f"Cannot write {path}: {error.strerror}; {free:,} bytes are free there."
        ) from error


@contextlib.contextmanager
def _one_at_a_time(folder: pathlib.Path) -> Iterator[None]:
    """Of several runs that look at a lock, each acts on what it saw before the next looks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # Some network file systems do not offer it.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _namespace() -> str | None:
    """Containers may share a host name, and yet have process numbers of their own."""
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return None


def _remove_if_stale(path: pathlib.Path) -> None:
    try:
        age = max(time.time() - path.stat().st_mtime, 0.0)
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None
    try:
        owner = json.loads(text)
        host, pid = owner["host"], owner["pid"]
    except (ValueError, KeyError, TypeError):
        if age < 2.0:  # Its owner may be about to fill it.
            time.sleep(0.1)
            return _remove_if_stale(path)
        owner, host, pid = {}, "unknown host", "unknown"
        alive = False
    else:
        here = (host, owner.get("namespace")) == (socket.gethostname(), _namespace())
        if here:
            alive = _process_start(pid) is not None and _process_start(pid) == owner.get("boot")
        else:
            alive = age < STALE_S
    if alive:
        raise InputError(
            f"Another run owns {path.parent}: process {pid} on {host}, last seen {age:.0f} s ago. "
            f"Wait for it, use another --workdir, or, if it is gone for good, delete {path}."
        )
    log.warning("Taking over the lock of process %s on %s, which is gone.", pid, host)
    return path.unlink(missing_ok=True)


def _process_start(pid: int) -> float | None:
    """When the process started, so that a reused number is not taken for it; None if it is gone."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if os.path.isdir("/proc/self"):
            return None
        try:
            os.kill(pid, 0)  # No /proc on this system: the number alone must do.
        except ProcessLookupError:
            return None
        except PermissionError:
            return 0.0
        return 0.0
    return None if fields[0] == "Z" else float(fields[19])
