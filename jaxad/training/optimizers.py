"""`config.stages.<name>.optimizer` to optax."""

import functools
import inspect
import math
from collections.abc import Mapping
from typing import Any

import jax
import optax

from jaxad.errors import InputError


def build(fields: Mapping[str, Any], total_steps: int) -> optax.GradientTransformation:
    """An optimiser with its schedule.

    Args:
        fields: `name` is one of `OPTIMIZERS`, `learning_rate` its peak; `schedule` one of
            `SCHEDULES` ("constant" if absent), `warmup_steps` linear steps from zero before it,
            `clip_norm` a bound on the global gradient norm; the others are arguments of the
            optimiser. `weight_decay` is decoupled for "adamw", part of "lars", elsewhere L2 added
            to the gradient, as in PyTorch's Adam; parameters named in `undecayed` (the last part of
            their path) have none. "cosine_restarts" has `cycles`, each `cycle_factor` times as long
            as the one before; together they fill the stage.
        total_steps: Length of the stage, where the schedule ends.

    Raises:
        InputError: For an unknown name or field.
    """
    fields = dict(fields)
    name = fields.pop("name", None)
    if name not in OPTIMIZERS:
        raise InputError(
            f"optimizer.name={name!r} is unknown; expected one of {sorted(OPTIMIZERS)}."
        )
    peak = fields.pop("learning_rate", None)
    if not isinstance(peak, (int, float)) or not 0 <= peak < math.inf:
        raise InputError(f"optimizer.learning_rate={peak!r}; expected a number of at least 0.")
    rate = _schedule(fields, peak, total_steps)
    clip_norm = fields.pop("clip_norm", None)
    weight_decay = fields.pop("weight_decay", 0.0)
    if clip_norm is not None and not clip_norm > 0:
        raise InputError(f"optimizer.clip_norm={clip_norm}; expected a number above 0, or None.")
    if not weight_decay >= 0:
        raise InputError(f"optimizer.weight_decay={weight_decay}; expected a number of at least 0.")
    undecayed = tuple(fields.pop("undecayed", ()))
    own = name in ("adamw", "lars")
    if own:
        fields["weight_decay"] = weight_decay
    if own and undecayed:
        mask = "mask" if name == "adamw" else "weight_decay_mask"
        fields[mask] = functools.partial(_decayed, undecayed)
    known = list(inspect.signature(OPTIMIZERS[name]).parameters)
    unknown = [field for field in fields if field not in known]
    if unknown:
        known = sorted({*known, *_COMMON})
        raise InputError(f"optimizer {name!r} has no field {unknown}; expected {known}.")
    parts = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    if weight_decay and not own:
        mask = functools.partial(_decayed, undecayed) if undecayed else None
        parts.append(optax.add_decayed_weights(weight_decay, mask))
    return optax.chain(*parts, OPTIMIZERS[name](rate, **fields))


def _decayed(undecayed: tuple[str, ...], params: Any) -> Any:
    """Which parameters decay, as a tree of booleans."""
    paths, tree = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path[-1:], simple=True) for path, _ in paths]
    missing = sorted(set(undecayed) - set(names))
    if missing:
        raise InputError(
            f"optimizer.undecayed: no parameter is named {missing[0]!r}; expected some of "
            f"{sorted(set(names))}."
        )
    return jax.tree.unflatten(tree, [name not in undecayed for name in names])


def _cosine_restarts(peak: float, steps: int, *, cycles: int, cycle_factor: float):
    shares = [cycle_factor**i for i in range(cycles)]
    ends = [round(steps * sum(shares[: i + 1]) / sum(shares)) for i in range(cycles)]
    lengths = [max(end - start, 1) for start, end in zip([0, *ends], ends, strict=False)]
    return optax.join_schedules(
        [optax.cosine_decay_schedule(peak, length) for length in lengths], ends[:-1]
    )


_COMMON = (
    "clip_norm",
    "cycle_factor",
    "cycles",
    "learning_rate",
    "power",
    "schedule",
    "undecayed",
    "warmup_steps",
    "weight_decay",
)
# Fields of a schedule alone, with their defaults.
_SCHEDULE_FIELDS = {
    "polynomial": {"power": 0.9},
    "cosine_restarts": {"cycles": 4, "cycle_factor": 2.0},
}

OPTIMIZERS = {
    "adagrad": optax.adagrad,
    "adam": optax.adam,
    "adamw": optax.adamw,
    "lars": optax.lars,
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
}

SCHEDULES = {
    "constant": lambda peak, steps: optax.constant_schedule(peak),
    "cosine_restarts": _cosine_restarts,
    "cosine": lambda peak, steps: optax.cosine_decay_schedule(peak, max(steps, 1)),
    "linear": lambda peak, steps: optax.linear_schedule(peak, 0.0, max(steps, 1)),
    "polynomial": lambda peak, steps, power: optax.polynomial_schedule(
        peak, 0.0, power, max(steps, 1)
    ),
}


def _schedule(fields: dict[str, Any], peak: float, total_steps: int) -> optax.Schedule:
    name = fields.pop("schedule", "constant")
    if name not in SCHEDULES:
        raise InputError(
            f"optimizer.schedule={name!r} is unknown; expected one of {sorted(SCHEDULES)}."
        )
    warmup = fields.pop("warmup_steps", 0)
    if warmup < 0 or (total_steps and warmup > total_steps):
        raise InputError(
            f"optimizer.warmup_steps={warmup}; expected 0 to {total_steps}, the stage's length."
        )
    defaults = _SCHEDULE_FIELDS.get(name, {})
    extra = {field: fields.pop(field, default) for field, default in defaults.items()}
    if name == "cosine_restarts" and not (extra["cycles"] >= 1 and extra["cycle_factor"] > 0):
        raise InputError(
            f"optimizer.cycles={extra['cycles']} and cycle_factor={extra['cycle_factor']}; "
            "expected at least one cycle and a factor above 0."
        )
    schedule = SCHEDULES[name](peak, total_steps - warmup, **extra)
    if not warmup:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), schedule], [warmup])
