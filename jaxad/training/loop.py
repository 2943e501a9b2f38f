"""The one loop: fits, gradient steps, evaluations and checkpoints of a stage, from any position.

A stage is a walk through positions: "start" fits, then for each epoch its "epoch" fits and "train"
steps, with an "evaluate" in between where one is due, then "end" fits, then "done". A checkpoint
holds the position beside the state (and the accumulator of a fit under way), and the walk goes on
from there as if it had not been broken.
"""

import dataclasses
import json
import logging
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxad.data import pipeline
from jaxad.data.split import Split
from jaxad.errors import CheckpointError, DivergedError, InputError
from jaxad.files import write_atomically
from jaxad.methods import base
from jaxad.training import checkpoint, fitting, logs, signals, spmd

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Position:
    """What comes next in a stage.

    Attributes:
        phase: "start", "epoch", "train", "evaluate", "end" or "done".
        step: Gradient steps done.
        fit: Which of the fits of this phase.
        batch: Batches of that fit done.
        batches: Batches of all kinds done in the stage; numbers its checkpoints.
        skipped: Records that could not be read so far.
    """

    phase: str = "start"
    step: int = 0
    fit: int = 0
    batch: int = 0
    batches: int = 0
    skipped: int = 0


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Lengths and intervals of a stage, in steps. An interval of None means: only at the end."""

    steps: int
    steps_per_epoch: int
    order: pipeline.Order
    log_every: int
    evaluate_every: int | None
    save_every: int | None


@dataclasses.dataclass
class Stage:
    """What `run` needs to know of a stage.

    Attributes:
        name: As in `config.stages`.
        definition: The method's.
        schedule: Lengths and intervals.
        splits: By name; "train" is needed.
        training: What training rows are made of.
        seed: Of data order and of the steps' keys.
        evaluate: `(state) -> metrics` on the validation split, or None. May raise `StopRequested`.
    """

    name: str
    definition: base.Stage
    schedule: Schedule
    splits: Mapping[str, Split]
    training: pipeline.Training
    seed: int
    evaluate: Callable[[base.State], Mapping[str, float]] | None


class Context:
    """What is the same for all stages of a run."""

    def __init__(
        self,
        *,
        mapper: spmd.Mapper,
        reading: pipeline.Reading,
        max_skips: int,
        fit_batch_size: int,
        history: logs.History,
        progress: logs.Progress,
        stop: signals.Stop,
        workdir: pathlib.Path,
    ):
        self.mapper, self.reading, self.max_skips = mapper, reading, max_skips
        self.fit_batch_size = fit_batch_size
        self.history, self.progress, self.stop, self.workdir = history, progress, stop, workdir


def run(
    context: Context,
    stage: Stage,
    state: base.State,
    position: Position,
    accumulator: Any,
    checkpoints: checkpoint.Checkpoints,
    facts: Mapping[str, Any],
) -> base.State:
    """Walks a stage from `position` to its end.

    Args:
        context: Of the run.
        stage: Which stage.
        state: Replicated, on the mesh; donated.
        position: Where it stands.
        accumulator: Of the fit under way, if `position.batch` is not 0.
        checkpoints: Where it is saved.
        facts: Written into the `meta` of each checkpoint.

    Raises:
        StopRequested: After saving, when a signal asked for it.
        DivergedError: At the first non-finite metric; nothing is saved over the last good
            checkpoint.
        CheckpointError: When a save failed.
    """
    walk = _Walk(context, stage, state, position, accumulator, checkpoints, facts)
    while walk.position.phase != "done":
        walk.advance()
    walk.save()
    checkpoints.wait()
    return walk.state


class _Walk:
    """The mutable part of `run`: state, position, and metrics not yet fetched from the device."""

    def __init__(self, context, stage, state, position, accumulator, checkpoints, facts):
        self.context, self.stage, self.state, self.position = context, stage, state, position
        self.accumulator, self.checkpoints, self.facts = accumulator, checkpoints, facts
        self.pending: list[tuple[int, dict[str, jax.Array], np.ndarray]] = []
        self.saved = position.batches if position != Position() else -1
        self.began = time.monotonic()
        self.seconds = facts.get("seconds", 0.0)
        mapper, update = context.mapper, stage.definition.update
        self.update = mapper.update(update) if update is not None else None
        self.key = mapper.replicate(jax.random.key(stage.seed))
        self.batches: Iterator[pipeline.Batch] | None = None
        self.waiting: _Sent | None = None
        self.passes: dict[base.Fit, fitting.Programs] = {}

    def advance(self) -> None:
        """Does what the position says comes next, and moves it on."""
        phase, schedule = self.position.phase, self.stage.schedule
        if phase == "train":
            return self._train()
        if phase == "evaluate":
            return self._evaluate()
        fits = [fit for fit in self.stage.definition.fits if fit.when == phase]
        if self.position.fit < len(fits):
            return self._fit(fits[self.position.fit])
        if phase == "epoch":
            following = "train"
        elif phase == "start":
            following = "epoch" if schedule.steps > 0 else "end"
        else:
            following = "done"
        self._move(phase=following, fit=0, batch=0)
        return None

    def save(self) -> None:
        """Starts saving state and position, unless this position's state is saved already."""
        self._flush()
        if self.position.batches == self.saved:
            return
        tree = {"state": self.state, "accumulator": self.accumulator}
        seconds = self.seconds + time.monotonic() - self.began
        meta = {
            **self.facts,
            "stage": self.stage.name,
            "position": dataclasses.asdict(self.position),
            "rows": len(self.context.history),
            "seconds": seconds,
        }
        self.checkpoints.save(self.position.batches, tree, meta)
        self.saved = self.position.batches

    def _move(self, **changes) -> None:
        self.position = dataclasses.replace(self.position, **changes)

    def _stop_if_asked(self) -> None:
        self.checkpoints.check()
        if self.context.stop.requested():
            self.save()
            self.checkpoints.wait()
            raise signals.StopRequested

    def _train(self) -> None:
        """Steps up to the next evaluation, epoch fit or end."""
        schedule, position, context = self.stage.schedule, self.position, self.context
        if self.batches is None:  # Else an evaluation or a fit came between: go on reading.
            self.batches = pipeline.training_batches(
                self.stage.training,
                dataclasses.replace(schedule.order, seed=self.stage.seed),
                reading=context.reading,
                start=position.step,
            )
            self.waiting = self._send(self.batches)
        if position.step == 0:
            log.info("%s: compiling the first step…", self.stage.name)
        context.progress.start(self.stage.name, schedule.steps, position.step)
        while self.position.phase == "train":
            sent = self.waiting
            self.state, metrics = self.update(self.state, sent.batch, self.key)
            step = self.position.step + 1
            self.pending.append((step, metrics, sent.index))
            self._count(sent, step=step)
            context.progress.advance()
            last = step == schedule.steps
            if last or step % schedule.log_every == 0:
                self._flush()
            if not last:
                self.waiting = self._send(self.batches)  # While the devices are busy.
            if self.stage.evaluate is not None and _due(step, schedule.evaluate_every, last):
                self._move(phase="evaluate")
                self.save()
            else:
                self._move(phase=self._phase_after(step))
            at_epoch = self.position.phase in ("train", "epoch")
            if at_epoch and _due(step, schedule.save_every, False):
                self.save()
            self._stop_if_asked()

    def _evaluate(self) -> None:
        step = self.position.step
        try:
            metrics = self.stage.evaluate(self.state)
        except signals.StopRequested:
            self.save()
            self.checkpoints.wait()
            raise
        row = {"step": step, "stage": self.stage.name, "split": "validation"}
        self.context.history.append({**row, "checkpoint": self.position.batches, **metrics})
        self.context.progress.log(step, metrics, f"{self.stage.name}/validation")
        self._move(phase=self._phase_after(step))

    def _phase_after(self, step: int) -> str:
        """What follows a step, once its evaluation (if one is due) is done."""
        schedule = self.stage.schedule
        if step == schedule.steps:
            return "end"
        epoch_fits = any(fit.when == "epoch" for fit in self.stage.definition.fits)
        return "epoch" if epoch_fits and step % schedule.steps_per_epoch == 0 else "train"

    def _fit(self, fit: base.Fit) -> None:
        """One pass over a split, from the batch where it stands."""
        context, mapper = self.context, self.context.mapper
        reader = fitting.Reader(mapper, context.reading, context.fit_batch_size)
        start = self.position.batch
        total, batches = fitting.batches(reader, fit, self.stage.splits, start=start)
        if fit not in self.passes:
            self.passes[fit] = fitting.programs(mapper, fit)
        zero, add, finish = self.passes[fit]
        if start == 0:
            self.accumulator = mapper.replicate(zero(self.state))
        context.progress.start(f"{self.stage.name} {fit.when} fit", total, self.position.batch)
        while self.position.batch < total:
            sent = self._send(batches)
            self.accumulator = add(self.accumulator, self.state, sent.batch)
            self._count(sent, batch=self.position.batch + 1)
            context.progress.advance()
            if self.position.batch < total:
                self._stop_if_asked()
        self.state = mapper.replicate(finish(self.accumulator, self.state))
        self.accumulator = {}
        self._move(fit=self.position.fit + 1, batch=0)
        if fit.when != "epoch":  # Those of an epoch are as far apart as the user wants saves to be.
            self.save()
        self._stop_if_asked()

    def _send(self, batches: Iterator[pipeline.Batch]) -> "_Sent":
        host = next(batches)
        unread = int(np.sum(~host["valid"] & (host["index"] >= 0)))
        return _Sent(self.context.mapper.put(host), host["index"], unread)

    def _count(self, sent: "_Sent", **changes) -> None:
        """Moves on by one batch; too many unreadable records end the run."""
        skipped = self.position.skipped + sent.unread
        self._move(batches=self.position.batches + 1, skipped=skipped, **changes)
        if skipped > self.context.max_skips:
            raise InputError(
                f"{skipped} records could not be read, more than config.data.max_skips="
                f"{self.context.max_skips}; config.data.on_error=raise names the first of them."
            )

    def _flush(self) -> None:
        """Fetches the metrics of the steps since the last time, checks all, logs the last."""
        if not self.pending:
            return
        fetched = jax.device_get([metrics for _, metrics, _ in self.pending])
        for (step, _, index), metrics in zip(self.pending, fetched, strict=True):
            bad = [name for name, value in metrics.items() if not np.isfinite(value)]
            if bad:
                raise self._diverged(step, bad[0], index, fetched)
        step = self.pending[-1][0]
        schedule = self.stage.schedule
        self.pending = []
        if step % schedule.log_every and step != schedule.steps:
            return
        metrics = {name: float(value) for name, value in fetched[-1].items()}
        if self.position.skipped:
            metrics["skipped_records"] = self.position.skipped
        row = {"step": step, "stage": self.stage.name, "split": "train", **metrics}
        self.context.history.append(row)
        self.context.progress.log(
            step, metrics, f"{self.stage.name}/train", examples=schedule.order.batch_size
        )

    def _diverged(self, step, name, index, fetched) -> DivergedError:
        """Writes down what is needed to look into it; the last good checkpoint stays as it is."""
        try:
            self.checkpoints.wait()  # What is being written counts among those that are good.
        except CheckpointError as error:
            log.warning("%s", error)
        folder = self.context.workdir / "diverged"
        split = self.stage.splits["train"]
        first = self.pending[0][0]
        report = {
            "stage": self.stage.name,
            "step": step,
            "metric": name,
            "records": [split.names[i] for i in index if i >= 0],
            "metrics": {
                str(first + i): {k: repr(float(v)) for k, v in row.items()}
                for i, row in enumerate(fetched)
            },
            "checkpoints": self.checkpoints.numbers(),
        }
        if jax.process_index() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / "report.json", json.dumps(report, indent=1).encode())
            leaves = checkpoint.named_leaves(jax.device_get(self.state))
            write_atomically(folder / "state.npz", lambda file: np.savez(file, **leaves))
        return DivergedError(
            f"Stage {self.stage.name}, step {step}: {name} is "
            f"{float(fetched[step - first][name])}. The records of that batch, the metrics since "
            f"the last log and the state {self.pending[-1][0] - step} steps later are in {folder}; "
            f"the checkpoints {self.checkpoints.numbers()} are good, and the same command "
            "continues from the newest."
        )


@dataclasses.dataclass(frozen=True)
class _Sent:
    """A batch on its way to the devices, the records it holds, and how many could not be read."""

    batch: dict[str, jax.Array]
    index: np.ndarray
    unread: int


def _due(step: int, every: int | None, last: bool) -> bool:
    return last or (every is not None and step % every == 0)


def resolve_steps(
    field: str, steps: int | None, epochs: float | None, steps_per_epoch: int, prefix: str = ""
) -> int | None:
    """A duration in steps from its two fields, `<prefix>steps` and `<prefix>epochs`.

    Raises:
        InputError: If a value is negative, or both are set.
    """
    for name, value in ((f"{prefix}steps", steps), (f"{prefix}epochs", epochs)):
        if value is not None and (value < 0 or not math.isfinite(value)):
            raise InputError(f"{field}.{name}={value}; expected a number of at least 0.")
    if steps is not None and epochs is not None:
        raise InputError(
            f"{field}.{prefix}steps={steps} and {field}.{prefix}epochs={epochs} are both set; "
            "expected one of them, and None for the other."
        )
    if steps is not None:
        return steps
    return None if epochs is None else math.ceil(epochs * steps_per_epoch)
