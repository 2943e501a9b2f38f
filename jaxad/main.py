"""Trains and evaluates a system.

    python -m jaxad.main --config=configs/rtfm.py
    python -m jaxad.main --config=configs/rtfm.py:ucf_crime --config.data.source.root=/data/ucf
    python -m jaxad.main --config=configs/rtfm.py --mode=eval --checkpoint=best

A config is a Python file; what follows the colon chooses one of its presets, and
`--config.<field>=value` changes a field. Running the same command again continues where it stopped.
Exit status: 0 finished, 1 an error of ours (with traceback), 2 a mistake in config, data or
workdir, 3 a non-finite loss, 4 a checkpoint that could not be written or trusted, 75 stopped by a
signal and resumable.
"""

import logging
import os
import pathlib
import shlex
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from jaxad import config as configs
from jaxad.errors import CheckpointError, DivergedError, InputError

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, and preset after a colon.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where everything is written; runs/<config>-<preset> if absent."
)
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval"],
    "train: what is not trained and evaluated yet; eval: score again.",
)
_CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    None,
    ["best", "last"],
    "Which checkpoint to score; config.eval.checkpoint if absent.",
)
_FRESH = flags.DEFINE_bool("fresh", False, "Start over; the old workdir is moved aside.")

DIVERGED, CHECKPOINT = 3, 4


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        fail(f"Unexpected arguments {argv[1:]}; expected flags only.")
    if _CONFIG.value is None:
        fail("--config is missing; for example --config=configs/rtfm.py.")
    talk(logging.INFO)
    # Heavy imports come after the flags were found right.
    from jaxad.evaluation import table
    from jaxad.training import experiment, signals

    workdir = _WORKDIR.value or default_workdir(flags.FLAGS["config"].config_filename)
    try:
        metrics = experiment.run(
            _CONFIG.value,
            workdir,
            mode=_MODE.value,
            fresh=_FRESH.value,
            which=_CHECKPOINT.value or "",
            command=command(),
        )
    except InputError as error:
        fail(str(error))
    except DivergedError as error:
        fail(str(error), DIVERGED)
    except CheckpointError as error:
        fail(str(error), CHECKPOINT)
    except signals.StopRequested:
        print(f"Stopped and saved in {workdir}; the same command continues.", file=sys.stderr)
        sys.exit(signals.RESUMABLE)
    rows = [{"metric": name, "test": value} for name, value in metrics["test"].items()]
    print(table.render(rows, ["metric", "test"]))
    folder = pathlib.Path(workdir)
    for name in ("report/index.html", "metrics.jsonl", "scores/test.npz", "checkpoints"):
        print(folder / name)


def talk(level: int) -> None:
    """Our log goes to standard error from `level` on, that of libraries from warnings on."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    ours = logging.getLogger("jaxad")
    ours.setLevel(level)
    ours.handlers, ours.propagate = [handler], False


def default_workdir(filename: str) -> str:
    """`runs/<config>-<preset>` below the current folder."""
    path, _, preset = str(filename).partition(":")
    return os.path.join("runs", f"{pathlib.Path(path).stem}-{preset or 'digits'}")


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


def run() -> None:
    """The entry point."""
    app.run(main, flags_parser=parse)


if __name__ == "__main__":
    run()
