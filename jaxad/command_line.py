"""What our command lines share: exit statuses, errors without tracebacks, logging, flag errors."""

import contextlib
import logging
import shlex
import sys
from collections.abc import Iterator

from absl import flags
from absl import logging as absl_logging

from jaxad import config as configs
from jaxad.errors import CheckpointError, DivergedError, InputError

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
    from jaxad.training import signals

    try:
        yield
    except InputError as error:
        fail(f"{about}{error}", MISTAKE)
    except DivergedError as error:
        fail(f"{about}{error}", DIVERGED)
    except CheckpointError as error:
        fail(f"{about}{error}", CHECKPOINT)
    except signals.StopRequested:
        print(f"Stopped and saved in {workdir}; the same command continues.", file=sys.stderr)
        sys.exit(RESUMABLE)


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


def parse(argv: list[str]) -> list[str]:
    """Parses flags; a mistake in them, or in the config file they name, ends the process."""
    try:
        configs.check_overrides(argv)
        return flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        return fail(str(error))
