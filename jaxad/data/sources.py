"""Opens the source that `config.data` names."""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

import jaxad.data
from jaxad.data.split import Split
from jaxad.errors import InputError


class RecordShape(NamedTuple):
    """Shape and type of one array of a record."""

    shape: tuple[int, ...]
    dtype: np.dtype


def names() -> list[str]:
    """The modules of `jaxad.data` that define `splits(**options)`."""
    found = []
    for module in pkgutil.iter_modules(jaxad.data.__path__):
        if hasattr(importlib.import_module(f"jaxad.data.{module.name}"), "splits"):
            found.append(module.name)
    return sorted(found)


def open_splits(name: str, options: Mapping[str, Any]) -> dict[str, Split]:
    """The splits by name: "train", "validation" (if there is one) and "test".

    Raises:
        InputError: For an unknown source or option, or whatever the source finds wrong with its
            files.
    """
    if name not in names():
        raise InputError(f"config.data.source.name={name!r} is unknown; expected one of {names()}.")
    function = importlib.import_module(f"jaxad.data.{name}").splits
    known = list(inspect.signature(function).parameters)
    unknown = [option for option in options if option not in known]
    if unknown:
        raise InputError(
            f"config.data.source has no field {unknown} for {name!r}; expected {known}."
        )
    opened = function(**options)
    for split_name, split in opened.items():
        if len(split) == 0:
            raise InputError(f"The {split_name} split of source {name!r} holds no records.")
    return opened


def record_shapes(name: str, options: Mapping[str, Any]) -> dict[str, RecordShape]:
    """Shapes and types of a training record; from the options alone where the source can tell.

    Args:
        name: Of the source.
        options: As for `open_splits`.
    """
    module = importlib.import_module(f"jaxad.data.{name}") if name in names() else None
    if hasattr(module, "record_shapes"):
        shapes = module.record_shapes(**options)
        return {
            key: RecordShape(tuple(shape), np.dtype(dtype))
            for key, (shape, dtype) in shapes.items()
        }
    record = open_splits(name, options)["train"].read(0)
    return {
        key: RecordShape(np.shape(value), np.asarray(value).dtype) for key, value in record.items()
    }
