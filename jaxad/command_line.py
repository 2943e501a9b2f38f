"""What our command lines share: exit statuses, errors without tracebacks, logging, flag errors."""

import contextlib
import errno
import logging
import pathlib
import shlex
import shutil
import sys
from collections.abc import Iterator

from absl import flags
from absl import logging as absl_logging

from jaxad import config as configs
from jaxad.errors import CheckpointError, DivergedError, InputError
from jaxad.training import signals

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG)

MISTAKE = 2  # In config, data or workdir.
DIVERGED = 3
CHECKPOINT = 4
RESUMABLE = 75  # EX_TEMPFAIL: stopped on request and saved; the same command continues.


@contextlib.contextmanager
def failures(workdir: object, about: str = "") -> Iterator[None]:
    """Ends the process, with the status of the error, for errors that a user can mend.

    Args:
        workdir: Of the run.
        about: Put before the message of an error.
    """
    try:
        yield
    except InputError as error:
        fail(f"{about}{error}", MISTAKE)
    except DivergedError as error:
        fail(f"{about}{error}", DIVERGED)
    except CheckpointError as error:
        fail(f"{about}{error}", CHECKPOINT)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = error.filename or workdir
        fail(f"{about}{where}: {error.strerror}; {_free(workdir)}.", MISTAKE)
    except signals.StopRequested:
        print(f"Stopped and saved in {workdir}; the same command continues.", file=sys.stderr)
        sys.exit(RESUMABLE)


def _free(place: object) -> str:
    """Free space of the nearest folder that exists."""
    folder = pathlib.Path(str(place)).absolute()
    while not folder.exists():
        folder = folder.parent
    return f"{shutil.disk_usage(folder).free:,} bytes are free in {folder}"


def talk(level: int) -> None:
    """Our log goes to standard error from `level` on, that of libraries from warnings on."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    ours = logging.getLogger("jaxad")
    ours.setLevel(level)
    ours.handlers, ours.propagate = [handler], False


def command() -> str:
    """The command line, as a user would type it."""
    return "python -m jaxad.main " + " ".join(shlex.quote(arg) for arg in sys.argv[1:])


def fail(message: str, status: int = 2) -> None:
    """Ends the process with one paragraph instead of a traceback."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)


def config():
    """The config that --config names; ends the process if the flag is missing."""
    if flags.FLAGS.config is None:
        fail("--config is missing; for example --config=configs/rtfm.py.")
    return flags.FLAGS.config


def parse(argv: list[str]) -> list[str]:
    """Parses flags; a mistake in them, or in the config file they name, ends the process."""
    try:
        changed = configs.check_overrides(argv)
        rest = flags.FLAGS(argv)
        if changed:
            configs.settle(flags.FLAGS.config, changed)
        return rest
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        return fail(str(error))
