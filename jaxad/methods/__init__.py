"""One file per system. Each defines `build(optimizers, *, dtype, <hyper-parameters>) ->
base.Method`.
"""

import importlib
import pkgutil
from types import ModuleType

from jaxad.errors import InputError


def names() -> list[str]:
    """The systems that can be named in `config.method.name`."""
    shared = (
        "base",
        "scan_sampling",
        "scans",
        "scene_inference",
        "scene_sampling",
        "scene_statistics",
        "segmentation",
    )
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in shared)


def load(name: str) -> ModuleType:
    """Imports the file of a system; an unknown name is an `InputError` that lists those known."""
    if name not in names():
        raise InputError(f"config.method.name={name!r} is unknown; expected one of {names()}.")
    return importlib.import_module(f"jaxad.methods.{name}")
