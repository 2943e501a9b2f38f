"""The states of a finished run, for systems that score with the networks of others."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxad import config as configs
from jaxad.errors import CheckpointError, InputError
from jaxad.methods import base
from jaxad.training import checkpoint, logs, planning

_LONG = 10**9  # Steps: the shapes of an optimiser's state do not depend on them; any warm-up fits.


def templates(
    method: base.Method, sample: base.Batch, given: Mapping[str, Any]
) -> dict[str, base.State]:
    """Shapes and types of the state of each stage; nothing is computed.

    Args:
        method: A system.
        sample: A batch, for its shapes.
        given: What the first stage sees: states of other runs, by name.

    Raises:
        InputError: A stage does not fit the data.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    states: dict[str, base.State] = {}
    for name, stage in method.stages.items():
        states[name] = jax.eval_shape(stage.init, key, sample, {**given, **states})
    return states


def states(workdir: str | pathlib.Path, sample: base.Batch) -> dict[str, base.State]:
    """The states that a finished run was scored with, by stage, without their optimisers.

    Args:
        workdir: Of the run.
        sample: A batch whose records have the names that the run was trained on.

    Raises:
        InputError: There is no run, or it is not finished.
        CheckpointError: Its checkpoint cannot be trusted.
    """
    folder = pathlib.Path(workdir).expanduser().absolute()
    config = configs.of_run(folder)
    if not (folder / "report" / "index.html").exists():
        raise InputError(f"The run in {folder} is not finished; run it to its end first.")
    method = planning.build(config, dict.fromkeys(config.stages, _LONG))
    given = {name: states(other, sample) for name, other in method.runs.items()}
    found = {}
    last = list(method.stages)[-1]
    for name, template in templates(method, sample, given).items():
        place = folder / "checkpoints" / name
        store = checkpoint.Checkpoints(place, folder / "set_aside", keep=10**9, best=lambda: None)
        try:
            number = max(store.numbers(), default=None)
            if name == last and config.eval.checkpoint == "best":
                row = best_row(logs.read_rows(folder / "metrics.jsonl"), name, config.eval)
                number = number if row is None else row["checkpoint"]
            if number is None:
                raise InputError(f"{place} holds no checkpoint; expected those of a finished run.")
            like = {"state": template, "accumulator": {}}
            restored = store.restore(number, lambda _meta, like=like: like)
        except CheckpointError as error:
            raise CheckpointError(f"{place / str(number)} cannot be trusted: {error}") from error
        finally:
            store.close()
        found[name] = restored.tree["state"].replace(opt_state=())
    return found


def best_row(
    rows: Sequence[Mapping[str, Any]], stage: str, settings: Any
) -> Mapping[str, Any] | None:
    """The validation row of the best value in a stage; of equal ones the latest.

    Args:
        rows: Of `metrics.jsonl`.
        stage: Its name.
        settings: `config.eval`: `best_metric` and `best_mode`.
    """
    sign = -1.0 if settings.best_mode == "min" else 1.0
    known = [
        row
        for row in rows
        if row["split"] == "validation"
        and row["stage"] == stage
        and row.get(settings.best_metric) is not None
    ]
    order = lambda row: (sign * row[settings.best_metric], row["step"])  # noqa: E731
    return max(known, key=order) if known else None
