"""Which class a stored label of a medical data set is: by class name, not by number.

Data sets number their structures differently, and files of segments may number them anew in each
file; names are what a run's classes are held together by. The background is always the last class.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxad.data import scene_classes
from jaxad.errors import InputError

BACKGROUND = "background"
_MOST = 255  # Ids of classes are below it: 255 is void.


def class_names(
    names: Sequence[str] | None, root: str
) -> tuple[tuple[str, ...], np.ndarray | None]:
    """The classes of a run.

    Args:
        names: As given, the background last; None to read them from `classes.csv`.
        root: Folder of that table.

    Returns:
        Names, the background last, and their colours uint8 `[K, 3]` if the table has some.

    Raises:
        InputError: If there are fewer than two, a name comes twice, or the table is missing or
            names no background.
    """
    if names is not None:
        names = tuple(names)
        if len(names) < 2 or len(set(names)) < len(names) or len(names) > _MOST:
            raise InputError(
                f"config.data.source.classes: expected 2 to {_MOST} different names, the "
                f"background last, found {list(names)}."
            )
        return names, None
    path = os.path.join(root, "classes.csv")
    if not os.path.isfile(path):
        raise InputError(
            f"config.data.source.classes is None, and there is no table {path}; expected one of "
            "them."
        )
    table, _ = scene_classes.read_table(path)
    if BACKGROUND not in table.names or len(table.names) < 2:
        raise InputError(
            f"{path} names {', '.join(table.names)}; expected foreground classes and "
            f"{BACKGROUND!r}."
        )
    last = table.names.index(BACKGROUND)
    order = [i for i in range(len(table.names)) if i != last] + [last]
    palette = None if table.palette is None else table.palette[order]
    return tuple(table.names[i] for i in order), palette


def label_map(
    labels: Mapping[str, Any] | None, classes: Sequence[str], root: str, field: str
) -> dict[int | str, int] | None:
    """Class by stored label or by name of a segment.

    Args:
        labels: Stored number, name of a segment in the file, or several of them, by class; None to
            read `classes.csv`.
        classes: Names of the run's classes.
        root: Folder of that table.
        field: Name of the option, for errors.

    Returns:
        The class of each; None if neither is there.

    Raises:
        InputError: If a name is no class of the run, an entry is neither number nor name, or two
            classes claim one.
    """
    path = os.path.join(root, "classes.csv")
    if labels is None:
        if not os.path.isfile(path):
            return None
        labels, field = _from_table(path), path
    unknown = [name for name in labels if name not in classes]
    if unknown or not labels:
        raise InputError(f"{field} names {unknown}; expected classes of {', '.join(classes)}.")
    found: dict[int | str, int] = {}
    for name, stored in labels.items():
        for key in stored if isinstance(stored, (list, tuple)) else (stored,):
            if isinstance(key, bool) or not isinstance(key, (int, str)):
                raise InputError(
                    f"{field}[{name!r}]: expected whole numbers or names of segments, found "
                    f"{key!r}."
                )
            if key in found:
                raise InputError(f"{field}: {key!r} is both {classes[found[key]]!r} and {name!r}.")
            found[key] = classes.index(name)
    return found


def _from_table(path: str) -> dict[str, list[int]]:
    table, codes = scene_classes.read_table(path)
    stored = {
        name: [int(i) for i in np.flatnonzero(codes.segments == own)]
        for own, name in enumerate(table.names)
    }
    ignored = np.flatnonzero(codes.segments[:_MOST] == scene_classes.VOID)
    if len(ignored):
        raise InputError(
            f"{path} ignores the labels {ignored.tolist()}; expected a class for each label of a "
            "volume."
        )
    return stored
