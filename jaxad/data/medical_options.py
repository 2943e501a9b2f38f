"""Options of one data set of medical slices, told from those of its layout, and checked."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxad.data import slice_shifts
from jaxad.errors import InputError

SUBJECTS = ("all", "test")

_COMMON = ("spacing", "view", "empty", "labels", "every")
_OOD = (*_COMMON, "group", "subjects", "shift")
_PICTURES = ("every", "group", "shift")


class Section(NamedTuple):
    """A data set's own options.

    Attributes:
        field: Name of the section, for errors.
        layout: Options of its layout, and the layout's name as `layout`.
        spacing: In-plane millimetres per pixel to resample to; None for pictures.
        view: As in `volume_slices.Preparation`.
        empty: The same.
        labels: Stored labels by class name; None: those of a table, if there is one.
        every: Every n-th slice is taken.
        group: Kind of shift, "" for none.
        subjects: One of `SUBJECTS`.
        shift: One of `slice_shifts.SHIFTS`, "" for none.
    """

    field: str
    layout: Mapping[str, Any]
    spacing: float | None = None
    view: str = "acquisition"
    empty: str = "keep"
    labels: Mapping[str, Any] | None = None
    every: int = 1
    group: str = ""
    subjects: str = "all"
    shift: str = ""

    @property
    def is_pictures(self) -> bool:
        """Whether the set consists of image files instead of volumes."""
        return self.layout.get("layout") == "pictures"


def in_distribution(entry: Mapping[str, Any]) -> Section:
    """The section of the data set to learn.

    Args:
        entry: As configured; options that are None keep their defaults.

    Raises:
        InputError: Names the option.
    """
    return _section(entry, "in_distribution", _COMMON)


def ood(entry: Mapping[str, Any], name: str) -> Section:
    """The section of an OoD set.

    Args:
        entry: As configured; options that are None keep their defaults.
        name: Of the set.

    Raises:
        InputError: Names the option.
    """
    own = _PICTURES if entry.get("layout") == "pictures" else _OOD
    return _section(entry, f"ood.{name}", own)


def _section(entry: Mapping[str, Any], field: str, names: Sequence[str]) -> Section:
    """A section, of which the options in `names` are not its layout's."""
    given = {name: value for name, value in entry.items() if value is not None}
    own = {name: given.pop(name) for name in names if name in given}
    section = Section(field, given, **own)
    shifts = tuple(slice_shifts.SHIFTS)
    counts = isinstance(section.every, int) and section.every >= 1
    rules = (
        ("subjects", section.subjects in SUBJECTS, f"one of {SUBJECTS}"),
        ("shift", section.shift in ("", *shifts), f"None or one of {shifts}"),
        ("every", counts, "a whole number, at least 1"),
        (
            "spacing",
            section.spacing is not None or section.is_pictures,
            "millimetres per pixel",
        ),
    )
    for name, valid, expected in rules:
        if not valid:
            raise InputError(
                f"config.data.source.{field}.{name} must be {expected}, got "
                f"{getattr(section, name)!r}."
            )
    return section
