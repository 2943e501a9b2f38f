"""Shared defaults of every config file, and the checks that hold for all of them.

Config files import this module only; it needs nothing but ml_collections.
"""

import importlib.util
import json
import pathlib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ml_collections

from jaxad.errors import InputError

placeholder = ml_collections.config_dict.placeholder


def preset(presets: Mapping[str, Callable[[], Any]], name: str) -> Any:
    """Calls the preset of that name; an unknown one is an `InputError` that lists those known."""
    if name not in presets:
        raise InputError(f"Unknown preset {name!r}; expected one of {sorted(presets)}.")
    return presets[name]()


def defaults() -> ml_collections.ConfigDict:
    """The sections of a run, with the values that hold unless a config says otherwise."""
    config = ml_collections.ConfigDict()
    config.seed = 0  # Of initialisation, data order and dropout.
    config.spmd = "shard_map"  # Or "pmap": the same update, mapped by the other transformation.
    config.dtype = "float32"  # Of model compute; "bfloat16" keeps parameters and losses in float32.
    config.data = dict(
        threads=2,  # Reader threads; each prepares whole batches.
        workers=0,  # Reader processes instead of threads, where decoding is heavy.
        prefetch=4,  # Batches prepared ahead; no more threads than this are put to work.
        on_error="raise",  # Or "skip": a corrupt training record becomes a masked row.
        max_skips=100,  # With "skip": more corrupt records than this end the run.
    )
    config.eval = dict(
        batch_size=8,  # Of scoring and fits: records of the shortest length; fewer longer ones.
        every_steps=placeholder(int),  # Validation interval; None: use every_epochs.
        every_epochs=placeholder(int),  # None for both: once, at the end of a stage.
        checkpoint="last",  # Or "best", by `best_metric` on the validation split: scored on test.
        best_metric="image_auc",
        best_mode="max",
        save_maps=False,  # Also write the score map of each test image, scores/test/<place>.npz.
        # How scores per pixel become components: see jaxad.evaluation.components.Rule.
        components=dict(threshold="validation", fpr=0.01, min_truth=10, min_predicted=50),
    )
    config.checkpoint = dict(
        every_steps=placeholder(int),  # None for both: at evaluations and at the end of a stage.
        every_epochs=placeholder(int),
        keep=3,  # The newest this many, and the best besides.
    )
    config.log = dict(every_steps=50)
    config.stages = dict()
    return config


def stage(
    *,
    batch_size: int,
    optimizer: Mapping[str, Any],
    steps: int | None = None,
    epochs: int | None = None,
    sampler: str = "shuffle",
    outlier_share: float = 0.0,
    class_uniform_share: float = 0.0,
) -> dict[str, Any]:
    """A `config.stages.<name>` section.

    Args:
        batch_size: Records per step over all devices and processes.
        optimizer: Fields of `jaxad.training.optimizers.build`.
        steps: Length in steps.
        epochs: Or in epochs; one of the two is None.
        sampler: "shuffle", or "balanced": every second record is anomalous, the smaller class
            resampled.
        outlier_share: Outlier objects per training record, see `jaxad.data.pipeline.Order`.
        class_uniform_share: Probability of a row drawn by its classes, see there.
    """
    section = dict(batch_size=batch_size, sampler=sampler, optimizer=dict(optimizer))
    section.update(outlier_share=outlier_share, class_uniform_share=class_uniform_share)
    section["steps"] = ml_collections.FieldReference(steps, field_type=int)
    section["epochs"] = ml_collections.FieldReference(epochs, field_type=int)
    section["weights"] = ""  # A published checkpoint (.npz, .safetensors, .pth) to start from.
    return section


def load(filename: str) -> ml_collections.ConfigDict:
    """The config of `<file>`, or of `<file>:<preset>`.

    Raises:
        InputError: If there is no such file or preset, or the file cannot be run.
    """
    path, _, name = filename.partition(":")
    module = load_module(path)
    if not hasattr(module, "get_config"):
        raise InputError(f"{path} has no function get_config; expected a config file.")
    return module.get_config(name) if name else module.get_config()


def load_module(path: str) -> types.ModuleType:
    """Runs a config file; one that is not there or fails is an `InputError`."""
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    if spec is None or spec.loader is None or not pathlib.Path(path).is_file():
        raise InputError(f"{path} does not exist, or is not a Python file; expected a config file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    return module


def of_run(workdir: str | pathlib.Path) -> ml_collections.ConfigDict:
    """The config of a run, from its workdir.

    Raises:
        InputError: If there is no run, or its config cannot be read.
    """
    path = pathlib.Path(workdir).expanduser() / "config.json"
    try:
        return ml_collections.ConfigDict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; expected the workdir of a run.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a config: {error}.") from error


def check_overrides(arguments: Sequence[str]) -> list[str]:
    """Checks `--config=<file>:<preset>` and the names of `--config.<field>=value` among flags.

    Returns:
        Names of the fields that are changed.

    Raises:
        InputError: For a file, preset or field that does not exist; lists those that do.
    """
    filename = None
    for place, argument in enumerate(arguments):
        if argument == "--config" and place + 1 < len(arguments):
            filename = arguments[place + 1]
        elif argument.startswith("--config="):
            filename = argument.partition("=")[2]
    changed: list[str] = []
    if filename is None:
        return changed
    config = load(filename)
    for argument in arguments:
        if not argument.startswith("--config."):
            continue
        section: Any = config
        names = argument.partition("=")[0].removeprefix("--config.").split(".")
        for depth, name in enumerate(names):
            if not isinstance(section, ml_collections.ConfigDict) or name not in section:
                known = sorted(section) if isinstance(section, ml_collections.ConfigDict) else []
                above = ".".join(["config", *names[:depth]])
                raise InputError(f"{above} has no field {name!r}; expected one of {known}.")
            section = section[name]
        changed.append(".".join(names))
    return changed


def override(config: ml_collections.ConfigDict, fields: Mapping[str, Any]) -> None:
    """Sets fields by dotted name; a length or interval given in one unit clears the other unit.

    Raises:
        InputError: For a field that does not exist, or a value of another type.
    """
    with config.unlocked():
        for name, value in fields.items():
            section, _, last = name.rpartition(".")
            parent = _section(config, section)
            if last not in parent:
                above = f"config.{section}" if section else "config"
                raise InputError(
                    f"{above} has no field {last!r}; expected one of {sorted(parent)}."
                )
            try:
                parent[last] = value
            except (TypeError, ValueError) as error:
                raise InputError(f"config.{name}={value!r}: {error}") from error
        settle(config, fields)


def settle(config: ml_collections.ConfigDict, changed: Iterable[str]) -> None:
    """Clears `epochs` where `steps` was changed, and the reverse; `every_…` likewise."""
    changed = set(changed)
    for name in changed:
        section, _, last = name.rpartition(".")
        other = _OTHER_UNIT.get(last)
        if other is not None and f"{section}.{other}" not in changed:
            parent = _section(config, section)
            if other in parent:
                with config.unlocked():
                    parent[other] = None


_OTHER_UNIT = {
    "steps": "epochs",
    "epochs": "steps",
    "every_steps": "every_epochs",
    "every_epochs": "every_steps",
}


def _section(config: ml_collections.ConfigDict, name: str) -> Any:
    for part in name.split(".") if name else ():
        if not isinstance(config, ml_collections.ConfigDict) or part not in config:
            raise InputError(f"config has no section {name!r}.")
        config = config[part]
    return config


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields by dotted name, in order."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = _plain(value)
    return flat


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines `field: old -> new` for each field that two configs do not share."""
    old, new = flatten(old), flatten(new)

    def text(fields: Mapping[str, Any], name: str) -> str:
        return repr(fields[name]) if name in fields else "absent"

    return [
        f"{name}: {text(old, name)} -> {text(new, name)}"
        for name in sorted(old.keys() | new.keys())
        if (name in old, old.get(name)) != (name in new, new.get(name))
    ]


def _plain(value: Any) -> Any:
    """Tuples as the lists that JSON makes of them, at any depth."""
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
