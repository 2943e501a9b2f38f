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

from absl import app, flags
from ml_collections import config_flags

from jaxad import command_line
from jaxad.training import signals


def define_flags() -> None:
    """At the start of the command, so that importing this module defines none."""
    config_flags.DEFINE_config_file("config", None, "Config file, and preset after a colon.")
    flags.DEFINE_string(
        "workdir", None, "Where everything is written; runs/<config>-<preset> if absent."
    )
    flags.DEFINE_enum(
        "mode",
        "train",
        ["train", "eval"],
        "train: what is not trained and evaluated yet; eval: score again.",
    )
    flags.DEFINE_enum(
        "checkpoint",
        None,
        ["best", "last"],
        "Which checkpoint to score; config.eval.checkpoint if absent.",
    )
    flags.DEFINE_bool("fresh", False, "Start over; the old workdir is moved aside.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        command_line.fail(f"Unexpected arguments {argv[1:]}; expected flags only.")
    config, asked = command_line.config(), flags.FLAGS
    command_line.talk(logging.INFO)
    workdir = asked.workdir or default_workdir(asked["config"].config_filename)
    # Signals count from here on; the heavy imports come after.
    with command_line.failures(workdir), signals.listening() as stop:
        from jaxad.training import experiment

        metrics = experiment.run(
            config,
            workdir,
            mode=asked.mode,
            fresh=asked.fresh,
            which=asked.checkpoint or "",
            command=command_line.command(),
            stop=stop,
        )
    from jaxad.evaluation import table

    rows = [{"metric": name, "test": value} for name, value in metrics["test"].items()]
    print(table.render(rows, ["metric", "test"]))
    folder = pathlib.Path(workdir)
    for name in ("report/index.html", "metrics.jsonl", "scores/test.npz", "checkpoints"):
        print(folder / name)


def default_workdir(filename: str) -> str:
    """`runs/<config>-<preset>` below the current folder."""
    path, _, preset = str(filename).partition(":")
    return os.path.join("runs", f"{pathlib.Path(path).stem}-{preset or 'digits'}")


if __name__ == "__main__":
    define_flags()
    app.run(main, flags_parser=command_line.parse)
