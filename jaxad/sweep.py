"""Runs the rows of a table over several seeds and prints mean and spread.

    python -m jaxad.sweep --config=configs/rtfm.py --table=ablation --seeds=0,1,2

Changes such as --config.stages.train.steps=500 hold for every row. A config file offers tables as
`get_tables() -> {table: {"rows": {row: ("<file>:<preset>", {field: value})}, "metrics": columns}}`,
files relative to its own folder. A row may name further rows behind that: their runs of the same
seed become `config.method.runs`. Each run has a workdir of its own below --workdir, resumes there,
and is only read once it is finished.
"""

import json
import logging
import pathlib
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from absl import app, flags
from ml_collections import config_flags

from jaxad import command_line
from jaxad import config as configs
from jaxad.files import write_atomically
from jaxad.training import signals


def define_flags() -> None:
    """At the start of the command, so that importing this module defines none."""
    config_flags.DEFINE_config_file("config", None, "Config file with get_tables().")
    flags.DEFINE_string("table", None, "Which of its tables; the first if absent.")
    flags.DEFINE_list("rows", None, "Only these rows.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Values of config.seed.")
    flags.DEFINE_list("metrics", None, "Columns; by default those that the table names.")
    flags.DEFINE_string("workdir", None, "runs/<config>-<table> if absent.")


def main(_) -> None:
    command_line.config()
    asked = flags.FLAGS
    command_line.talk(logging.WARNING)
    from jaxad.evaluation import table

    path = pathlib.Path(str(asked["config"].config_filename).partition(":")[0])
    tables = getattr(configs.load_module(str(path)), "get_tables", dict)()
    name = asked.table or next(iter(tables), None)
    if name not in tables:
        command_line.fail(f"{path} has no table {name!r}; expected one of {sorted(tables)}.")
    if not all(seed.isdigit() for seed in asked.seeds):
        command_line.fail(f"--seeds={','.join(asked.seeds)}; expected whole numbers.")
    chosen, seeds = tables[name]["rows"], [int(seed) for seed in asked.seeds]
    metrics = asked.metrics or list(tables[name]["metrics"])
    unknown = [row for row in asked.rows or [] if row not in chosen]
    if unknown:
        command_line.fail(
            f"Table {name!r} has no rows {unknown}; expected some of {sorted(chosen)}."
        )
    workdir = pathlib.Path(asked.workdir or pathlib.Path("runs") / f"{path.stem}-{name}")
    changes = config_flags.get_override_values(asked["config"])
    wanted = _with_their_runs(chosen, asked.rows or list(chosen))
    runs = []
    for row, (preset, fields, *others) in chosen.items():
        if row not in wanted:
            continue
        for seed in seeds:
            config = configs.load(str(path.parent / preset))
            with command_line.failures(workdir, f"{row}: "):
                if others:
                    scored = tuple(str(_place(workdir, other, seed)) for other in others)
                    fields = {**fields, "method.runs": scored}
                configs.override(config, {**fields, **_known(changes, config), "seed": seed})
            runs.append(Run(row, seed, config.lock(), _place(workdir, row, seed)))
    with signals.listening() as stop:
        results = finished(runs, stop)
    rows = [
        {"row": row, **{metric: [one.get(metric) for one in found] for metric in metrics}}
        for row, found in results.items()
    ]
    text = table.render(rows, ["row", *metrics])
    print(text)
    write_atomically(workdir / f"{name}.md", (text + "\n").encode())
    write_atomically(workdir / f"{name}.json", json.dumps(results, indent=1).encode())
    print(workdir / f"{name}.json")


class Run(NamedTuple):
    """One row with one seed.

    Attributes:
        row: Its name.
        seed: Of the run.
        config: Locked.
        place: Its workdir.
    """

    row: str
    seed: int
    config: Any
    place: pathlib.Path


def finished(runs: Iterable[Run], stop: signals.Stop) -> dict[str, list[dict[str, float]]]:
    """Test metrics by row, of one seed after the other, as far as runs are not finished already.

    Args:
        runs: In this order.
        stop: Asked before each, as a signal may come when one is past its last step.
    """
    from jaxad.training import experiment

    results: dict[str, list[dict[str, float]]] = {}
    for run in runs:
        print(f"{run.row}, seed {run.seed}: {run.place}", file=sys.stderr)
        with command_line.failures(run.place, f"{run.place}: "):
            if stop.requested():
                raise signals.StopRequested
            found = experiment.run(run.config, run.place, stop=stop)["test"]
        results.setdefault(run.row, []).append(found)
    return results


def _place(workdir: pathlib.Path, row: str, seed: int) -> pathlib.Path:
    return workdir / "".join(c if c.isalnum() else "-" for c in row) / f"seed{seed}"


def _with_their_runs(chosen, rows) -> set[str]:
    """The rows asked for, and those whose runs they score."""
    wanted = set(rows)
    for row in rows:
        wanted |= set(chosen[row][2:])
    return wanted


def _known(changes, config) -> dict:
    """The changes of fields that a row's config has; its table may mix systems."""
    known = configs.flatten(config.to_dict())
    return {
        name: value
        for name, value in changes.items()
        if any(field == name or field.startswith(f"{name}.") for field in known)
    }


if __name__ == "__main__":
    define_flags()
    app.run(main, flags_parser=command_line.parse)
