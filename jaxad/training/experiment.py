"""A run: from a config and a workdir to trained states, scores, metrics and a report."""

import contextlib
import dataclasses
import logging
import pathlib
import platform
import time
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

import jaxad
from jaxad import config as configs
from jaxad import fields
from jaxad.convert import foreign
from jaxad.data import pipeline
from jaxad.errors import CheckpointError, InputError
from jaxad.evaluation import components, measures, report
from jaxad.methods import base
from jaxad.training import checkpoint, finished, fitting, logs, loop, planning, scoring, signals
from jaxad.training import workdir as workdirs

log = logging.getLogger(__name__)

# An initialisation runs once: compiling its random draws well takes a hundred times as long as
# drawing them (a DeepLabV3+ on two cores: 37 s of processor time, 10 s so).
_QUICK = {"cpu": {"xla_backend_optimization_level": "0"}}


def run(
    config: ml_collections.ConfigDict,
    workdir: str | pathlib.Path,
    *,
    mode: str = "train",
    fresh: bool = False,
    which: str = "",
    devices: list[jax.Device] | None = None,
    command: str = "",
    stop: signals.Stop | None = None,
) -> dict[str, dict[str, float]]:
    """Trains what is not trained yet, evaluates what is not evaluated yet.

    Args:
        config: As `get_config` of a config file gives it.
        workdir: Where everything is written, and continued from.
        mode: "train", or "eval": scores the trained states again, and trains nothing.
        fresh: Moves an existing workdir aside first.
        which: "best" or "last" checkpoint to score; `config.eval.checkpoint` if empty.
        devices: All, by default.
        command: Shown in the report as the way to reproduce it.
        stop: Of a caller who listens to signals already; else they are handled while this runs.

    Returns:
        Metrics of the test split by name, under "test".

    Raises:
        InputError: For a mistake in config, files or workdir.
        StopRequested: When a signal asked for it; the same call continues.
        DivergedError: For a non-finite loss, gradient or metric.
        CheckpointError: If a checkpoint cannot be written, or none can be trusted.
    """
    if mode not in ("train", "eval"):
        raise InputError(f"mode={mode!r}; expected 'train' or 'eval'.")
    if fresh and mode == "eval":
        raise InputError("--fresh starts over, and --mode=eval scores what is trained; not both.")
    which = which or config.eval.checkpoint
    fields.one_of("eval.checkpoint", which, ("best", "last"))
    fields.boolean("eval.save_maps", config.eval.save_maps)
    components.Rule(**config.eval.components)
    folder = pathlib.Path(workdir).expanduser().absolute()
    with contextlib.nullcontext(stop) if stop else signals.listening() as stop:
        if not fresh:
            workdirs.check(folder, config, mode=mode)
            row = workdirs.result(folder, which) if mode == "train" else None
            if row is not None:
                log.info("%s is finished; --mode=eval scores it again.", folder)
                return {"test": _metrics(row)}
        # All that can be wrong with config and data is found before the workdir is touched.
        planned = planning.plan(config, devices)
        sample = pipeline.example(planned.splits["train"])
        runs = planned.method.runs.items()
        given = {name: finished.states(run, sample) for name, run in runs}
        given = planned.mapper.replicate(given)  # Where the states of this run's stages are.
        templates = finished.templates(planned.method, sample, given)
        start = _Start(sample, given, templates)
        if which == "best":
            planning.check_best(planned)
        if stop.requested():
            raise signals.StopRequested
        with workdirs.owned(folder, config, planned.splits, mode=mode, fresh=fresh) as history:
            progress = logs.Progress(folder / "tensorboard" if jax.process_index() == 0 else None)
            try:
                going = _Run(planned, start, folder, history, progress, stop)
                return going.execute(mode, which, command)
            finally:
                progress.close()


@dataclasses.dataclass(frozen=True)
class _Start:
    """What stages begin from.

    Attributes:
        sample: A batch of two records, for its shapes.
        given: States of other runs by name, for `Stage.init` alone.
        templates: Shapes and types of the state of each stage.
    """

    sample: pipeline.Batch
    given: Mapping[str, Mapping[str, base.State]]
    templates: Mapping[str, base.State]


# State of a stage, accumulator of the fit under way, and place in the walk.
_Begun = tuple[base.State, Any, loop.Position]


class _Run:
    """One execution of a plan in a workdir."""

    def __init__(self, planned: planning.Plan, start: _Start, workdir, history, progress, stop):
        self.plan, self.start, self.workdir, self.history = planned, start, workdir, history
        self.progress, self.stop = progress, stop
        self.scorer = scoring.Scorer(planned, progress, stop)
        self.versions = _versions()
        self.seconds = 0.0  # Of all stages, over all runs in this workdir.

    def execute(self, mode: str, which: str, command: str) -> dict[str, dict[str, float]]:
        states: dict[str, base.State] = {}
        for name in self.plan.method.stages:
            states[name] = self._stage(name, states, train=mode == "train")
        last = list(states)[-1]
        if which == "best":
            states[last] = self._best(last, states)
        step = int(states[last].step)
        log.info("Scoring the test split with the %s checkpoint (step %d).", which, step)
        scored = self.scorer.test(states, self.workdir / "scores" / "test")
        metrics = measures.measure(scored)
        row = {"step": step, "stage": last, "split": "test", "checkpoint": which, **metrics}
        if jax.process_index() == 0:
            self.progress.open("test", step)
            # The report is what says "finished": an old one must not stand beside new numbers.
            (self.workdir / "report" / "index.html").unlink(missing_ok=True)
            (self.workdir / "scores").mkdir(exist_ok=True)
            scored.save(self.workdir / "scores" / "test.npz")
            self.history.replace_tests([row], "test")
            self.progress.log(step, metrics, "test")
            self._report(scored, metrics, command, which, step)
        return {"test": metrics}

    def _stage(self, name: str, done: Mapping[str, base.State], *, train: bool) -> base.State:
        """The state that a stage ends with: trained from where it stands, or read if it is
        finished.
        """
        mapper, config = self.plan.mapper, self.plan.config
        definition, schedule = self.plan.method.stages[name], self.plan.schedules[name]
        seed = _derive(config.seed, list(self.plan.method.stages).index(name))
        done = {**self.start.given, **done}
        facts = {
            "config": config.to_dict(),
            "versions": self.versions,
            "data": self._fingerprint(schedule, seed),
            # The batches of a fit under way depend on these two.
            "fit_plan": [mapper.size, config.eval.batch_size],
        }
        checkpoints = self._checkpoints(name)
        try:
            begun = self._restored(name, checkpoints, facts, train=train)
            if begun is None and not train:
                raise InputError(
                    f"--mode=eval needs a trained {name} stage, and {checkpoints.folder} holds no "
                    "checkpoint; run with --mode=train first."
                )
            restored = begun is not None
            state, accumulator, position = begun or self._initial(name, seed, done)
            state, accumulator = mapper.replicate((state, accumulator))
            if not train:
                self.seconds += facts.get("seconds", 0.0)
                return state
            self.progress.open(name, position.step + 1 if restored else 0)
            context = loop.Context(
                mapper=mapper,
                reading=self.plan.reading,
                max_skips=config.data.max_skips,
                fit_batch_size=config.eval.batch_size,
                history=self.history,
                progress=self.progress,
                stop=self.stop,
                workdir=self.workdir,
            )
            stage = loop.Stage(
                name,
                definition,
                schedule,
                self.plan.splits,
                self.plan.training[name],
                seed,
                self._evaluator(name, done),
            )
            began = time.monotonic()
            state = loop.run(context, stage, state, position, accumulator, checkpoints, facts)
            self.seconds += facts.get("seconds", 0.0) + time.monotonic() - began
            return state
        finally:
            checkpoints.close()

    def _initial(self, name: str, seed: int, done: Mapping[str, base.State]) -> _Begun:
        """The state of a stage before its first step; metrics of an earlier attempt are dropped."""
        quick = _QUICK.get(jax.default_backend())
        initialise = jax.jit(self.plan.method.stages[name].init, compiler_options=quick)
        state = initialise(jax.random.key(_derive(seed, 1)), self.start.sample, done)
        weights = self.plan.config.stages[name].weights
        if weights:
            state = self._converted(name, weights, state)
        self.history.cut(self._rows_before(name))
        return state, {}, loop.Position()

    def _restored(self, name: str, checkpoints, facts: dict, *, train: bool) -> _Begun | None:
        """The newest good checkpoint of a stage, checked against `facts`; None: there is none."""
        definition, schedule = self.plan.method.stages[name], self.plan.schedules[name]
        template = self.start.templates[name]

        def wanted(meta):
            accumulator = {}
            if meta["position"]["batch"]:
                now = [fit for fit in definition.fits if fit.when == meta["position"]["phase"]]
                accumulator = jax.eval_shape(now[meta["position"]["fit"]].zero, template)
            return {"state": template, "accumulator": accumulator}

        restored = checkpoints.restore_newest(wanted)
        if restored is None:
            return None
        if train:
            self._check_restored(name, restored, facts)
        state, accumulator = restored.tree["state"], restored.tree["accumulator"]
        position = loop.Position(**restored.meta["position"])
        if position.batch and restored.meta["fit_plan"] != facts["fit_plan"]:
            log.warning("Another number of devices: the fit under way starts again.")
            position, accumulator = dataclasses.replace(position, batch=0), {}
        facts["seconds"] = restored.meta["seconds"]
        at = f"{position.phase}, step {position.step} of {schedule.steps}"
        log.info("Stage %s: checkpoint %d restored (%s).", name, restored.number, at)
        if not train and not _finished(position, definition, schedule):
            raise InputError(
                f"--mode=eval needs a finished {name} stage; its newest checkpoint stands "
                f"at {at}. Run with --mode=train first."
            )
        if train:
            self._cut(name, restored.meta["rows"])
        return state, accumulator, position

    def _checkpoints(self, name: str) -> checkpoint.Checkpoints:
        config = self.plan.config
        return checkpoint.Checkpoints(
            self.workdir / "checkpoints" / name,
            self.workdir / "set_aside",
            keep=config.checkpoint.keep,
            best=lambda: self._best_number(name),
        )

    def _best_number(self, name: str) -> int | None:
        row = finished.best_row(self.history.rows, name, self.plan.config.eval)
        return None if row is None else row["checkpoint"]

    def _best(self, name: str, states: Mapping[str, base.State]) -> base.State:
        row = finished.best_row(self.history.rows, name, self.plan.config.eval)
        if row is None:
            raise InputError(
                f"The best checkpoint was asked for, and no validation metric "
                f"{self.plan.config.eval.best_metric!r} was measured in stage {name}; expected "
                "config.eval.best_metric to be one that metrics.jsonl has for the validation split."
            )
        checkpoints = self._checkpoints(name)
        try:
            like = {"state": states[name], "accumulator": {}}
            restored = checkpoints.restore(row["checkpoint"], lambda meta: like)
        except CheckpointError as error:
            raise CheckpointError(
                f"The best checkpoint, {checkpoints.folder / str(row['checkpoint'])}, cannot be "
                f"trusted: {error}. --checkpoint=last scores the newest."
            ) from error
        finally:
            checkpoints.close()
        state = self.plan.mapper.replicate(restored.tree["state"])
        # Statistics of the stage's end are those of the last checkpoint's parameters.
        fits = [fit for fit in self.plan.method.stages[name].fits if fit.when == "end"]
        size = self.plan.config.eval.batch_size
        reader = fitting.Reader(self.plan.mapper, self.plan.reading, size)
        return fitting.again(reader, fits, self.plan.splits, state, self.stop)

    def _rows_before(self, name: str) -> int:
        """How many rows the stages before `name` have written."""
        stages = list(self.plan.method.stages)
        earlier = stages[: stages.index(name)]
        return sum(
            1 for row in self.history.rows if row["stage"] in earlier and row["split"] != "test"
        )

    def _cut(self, name: str, rows: int) -> None:
        """Drops rows of this stage after the checkpoint, unless later stages have begun."""
        stages = list(self.plan.method.stages)
        later = stages[stages.index(name) + 1 :]
        if not any(row["stage"] in later for row in self.history.rows):
            self.history.cut(rows)

    def _fingerprint(self, schedule: loop.Schedule, seed: int) -> dict[str, Any]:
        """Of the training data and their order, and of the validation data, which fits may read."""
        order = dataclasses.asdict(dataclasses.replace(schedule.order, seed=seed))
        found = {"train": pipeline.fingerprint(self.plan.splits["train"], **order)}
        others = ["validation"] + ["outliers"] * (schedule.order.outlier_share > 0)
        for name in others:
            if name in self.plan.splits:
                found[name] = pipeline.fingerprint(self.plan.splits[name])
        return found

    def _check_restored(self, name, restored: checkpoint.Restored, facts) -> None:
        """The data must be what they were; other versions are worth a warning."""
        where = f"checkpoint {restored.number} of stage {name} in {self.workdir}"
        lines = configs.difference(restored.meta["data"], facts["data"])
        if lines:
            raise InputError(
                f"The data are not those that {where} was trained on: {'; '.join(lines)}. Put them "
                "back, or start over with --fresh."
            )
        for line in configs.difference(restored.meta["versions"], self.versions):
            log.warning("Continuing with other versions than %s: %s", where, line)

    def _converted(self, name: str, path: str, state: base.State) -> base.State:
        if name not in self.plan.method.convert:
            raise InputError(
                f"config.stages.{name}.weights={path!r}: no published checkpoints of this stage "
                "are known."
            )
        state = self.plan.method.convert[name](foreign.read(path), state)
        log.info("Stage %s starts from %s.", name, path)
        return state

    def _evaluator(self, name: str, done: Mapping[str, base.State]):
        """Validation with the states so far; only the last stage's make a whole method."""
        if "validation" not in self.plan.splits or name != list(self.plan.method.stages)[-1]:
            return None

        def evaluate(state: base.State) -> dict[str, float]:
            metrics = measures.measure(self.scorer.validation({**done, name: state}))
            settings = self.plan.config.eval
            if settings.checkpoint == "best" and settings.best_metric not in metrics:
                raise InputError(
                    f"config.eval.best_metric={settings.best_metric!r} is not measured on the "
                    f"validation split; expected one of {sorted(metrics)}."
                )
            return metrics

        return evaluate

    def _report(self, scored, metrics, command: str, which: str, step: int) -> None:
        report.write(
            self.workdir / "report",
            title=f"{self.plan.config.method.name} on {self.plan.config.data.source.name}",
            config=self.plan.config.to_dict(),
            versions=self.versions,
            measures={"test": metrics},
            predictions=scored,
            history=self.history.rows,
            command=command,
            notes=[
                f"Scored with the {which} checkpoint, at step {step}.",
                f"Trained for {self.seconds:,.0f} s in all.",
            ],
        )


def _finished(position: loop.Position, definition: base.Stage, schedule: loop.Schedule) -> bool:
    """Whether a checkpoint holds the final state: what may be left is its evaluation."""
    if position.phase == "done":
        return True
    ends = any(fit.when == "end" for fit in definition.fits)
    return position.phase in ("evaluate", "end") and position.step == schedule.steps and not ends


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    about = ("step", "stage", "split", "checkpoint")
    return {name: value for name, value in row.items() if name not in about}


def _derive(seed: int, place: int) -> int:
    """Another seed for each place, far from those of neighbouring seeds."""
    return int(np.random.SeedSequence([seed, place]).generate_state(1)[0] >> 1)


def _versions() -> dict[str, str]:
    import importlib.metadata

    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    device = jax.devices()[0]
    return {
        "jaxad": jaxad.__version__,
        "python": platform.python_version(),
        **found,
        "device": f"{device.device_kind} ({device.platform})",
    }
