"""From a config to checked objects: all that can be known to be wrong is found here, before
training.
"""

import dataclasses
import inspect
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import ml_collections

from jaxad import config as configs
from jaxad import fields, methods
from jaxad.data import pipeline, segment_places, sources
from jaxad.data.split import Split
from jaxad.errors import InputError
from jaxad.methods import base
from jaxad.training import loop, optimizers, spmd


@dataclasses.dataclass(frozen=True)
class Plan:
    """A checked config as objects: what can be known to be wrong is wrong here, before training."""

    config: ml_collections.ConfigDict
    mapper: spmd.Mapper
    splits: Mapping[str, Split]
    method: base.Method
    schedules: Mapping[str, loop.Schedule]
    training: Mapping[str, pipeline.Training]
    reading: pipeline.Reading


def plan(config: ml_collections.ConfigDict, devices: list[jax.Device] | None = None) -> Plan:
    """Checks a config and builds what it names.

    Raises:
        InputError: For whatever in config or data can be known to be wrong before training.
    """
    _check_sections(config)
    mapper = spmd.Mapper(config.spmd, devices)
    data_options = dict(config.data.source.to_dict())
    splits = sources.open_splits(data_options.pop("name", None), data_options)
    if "train" not in splits or "test" not in splits:
        raise InputError(f"The source gives the splits {sorted(splits)}; expected train and test.")
    schedules = {name: _schedule(config, name, splits["train"], mapper) for name in config.stages}
    training = {name: _training(name, each.order, splits) for name, each in schedules.items()}
    _check_classes(config, splits)
    method = build(config, {name: schedule.steps for name, schedule in schedules.items()})
    reading = pipeline.Reading(
        threads=config.data.threads,
        workers=config.data.workers,
        prefetch=config.data.prefetch,
        on_error=config.data.on_error,
        process=(jax.process_index(), jax.process_count()),
    )
    return Plan(config, mapper, splits, method, schedules, training, reading)


def build(config: ml_collections.ConfigDict, steps: Mapping[str, int]) -> base.Method:
    """The method of a config, with optimisers whose schedules end after `steps` (by stage)."""
    options = dict(config.method.to_dict())
    module = methods.load(options.pop("name", None))
    txs = {}
    for name in config.stages:
        try:
            txs[name] = optimizers.build(config.stages[name].optimizer.to_dict(), steps[name])
        except InputError as error:
            raise InputError(f"config.stages.{name}.{error}") from error
    try:
        inspect.signature(module.build).bind(txs, dtype=config.dtype, **options)
    except TypeError as error:
        raise InputError(f"config.method does not fit {module.__name__}: {error}.") from error
    method = module.build(txs, dtype=jnp.dtype(config.dtype), **options)
    if set(method.stages) != set(config.stages):  # A ConfigDict sorts its names.
        raise InputError(
            f"config.stages has {list(config.stages)}; {config.method.name} needs "
            f"{list(method.stages)}."
        )
    return method


def check_best(planned: Plan) -> None:
    """Raises an `InputError` if no checkpoint can turn out best."""
    name = list(planned.method.stages)[-1]
    if "validation" not in planned.splits:
        why = "the source gives no validation split"
    elif planned.schedules[name].steps == 0:
        why = f"stage {name} has no steps"
    else:
        return
    raise InputError(f"The best checkpoint was asked for, and {why}; expected 'last'.")


def _training(name: str, order: pipeline.Order, splits: Mapping[str, Split]) -> pipeline.Training:
    """What the training rows of a stage are made of; reads all label maps if classes decide."""
    outliers, places = None, ()
    if order.outlier_share:
        if "outliers" not in splits:
            raise InputError(
                f"config.stages.{name}.outlier_share={order.outlier_share}, and the source gives "
                f"no outlier objects; it gives {sorted(splits)}."
            )
        outliers = splits["outliers"]
    if order.class_uniform_share:
        places = segment_places.by_class(splits["train"])
    return pipeline.Training(splits["train"], outliers, places)


def _check_classes(config: ml_collections.ConfigDict, splits: Mapping[str, Split]) -> None:
    """A segmentation network must have as many classes as the data."""
    for name, split in splits.items():
        names, count = split.segment_classes, config.method.get("num_classes")
        if None not in (names, count) and len(names) != count:
            raise InputError(
                f"config.method.num_classes={count}, and the {name} split has {len(names)} "
                f"classes: {', '.join(names)}."
            )


def _check_sections(config: ml_collections.ConfigDict) -> None:
    fields.one_of("spmd", config.spmd, spmd.KINDS)
    fields.one_of("dtype", config.dtype, ("float32", "bfloat16"))
    fields.one_of("data.on_error", config.data.on_error, ("raise", "skip"))
    fields.one_of("eval.best_mode", config.eval.best_mode, ("max", "min"))
    for field in ("data.threads", "data.prefetch", "eval.batch_size", "checkpoint.keep"):
        fields.positive_integer(field, configs.flatten(config.to_dict())[field])
    fields.positive_integer("log.every_steps", config.log.every_steps)
    for name in ("workers", "max_skips"):
        fields.not_negative(f"data.{name}", config.data[name])
    if not isinstance(config.seed, int) or not 0 <= config.seed < 2**31:
        raise InputError(f"config.seed={config.seed!r}; expected a whole number in [0, 2**31).")


def _schedule(
    config: ml_collections.ConfigDict, name: str, train: Split, mapper: spmd.Mapper
) -> loop.Schedule:
    section, field = config.stages[name], f"stages.{name}"
    fields.one_of(f"{field}.sampler", section.sampler, ("shuffle", "balanced"))
    balanced = section.sampler == "balanced"
    if section.steps != 0:
        mapper.check_batch(f"{field}.batch_size", section.batch_size, balanced=balanced)
    order = pipeline.Order(
        batch_size=section.batch_size,
        sampler=section.sampler,
        outlier_share=section.outlier_share,
        class_uniform_share=section.class_uniform_share,
    )
    fields.not_negative(f"{field}.outlier_share", order.outlier_share)
    fields.share(f"{field}.class_uniform_share", order.class_uniform_share)
    if balanced and (order.outlier_share or order.class_uniform_share):
        raise InputError(
            f"config.{field}.sampler='balanced' goes with neither outlier_share nor "
            "class_uniform_share; expected 'shuffle'."
        )
    per_epoch = pipeline.steps_per_epoch(train, order)
    steps = loop.resolve_steps(f"config.{field}", section.steps, section.epochs, per_epoch)
    if steps is None:
        raise InputError(f"config.{field} needs steps or epochs; both are None.")
    interval = lambda part: loop.resolve_steps(  # noqa: E731
        f"config.{part}", config[part].every_steps, config[part].every_epochs, per_epoch, "every_"
    )
    intervals = {part: interval(part) for part in ("eval", "checkpoint")}
    for part, value in intervals.items():
        if value == 0:
            raise InputError(
                f"config.{part}: an interval of 0 steps; expected at least 1, or None."
            )
    return loop.Schedule(
        steps=steps,
        steps_per_epoch=per_epoch,
        order=order,
        log_every=config.log.every_steps,
        evaluate_every=intervals["eval"],
        save_every=intervals["checkpoint"],
    )
