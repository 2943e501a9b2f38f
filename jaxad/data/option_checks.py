"""Options of sources: one form of them, one text of errors."""

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxad.errors import InputError


def frozen(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with tuples for lists.

    ConfigDicts turn tuples into lists and back; a fingerprint must not notice.

    Args:
        options: Values by name.
    """
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}


def is_range(pair: tuple, lowest: float) -> bool:
    """Whether a pair is an inclusive range whose lower end is at least `lowest`.

    Args:
        pair: Anything with a length.
        lowest: Inclusive.
    """
    return len(pair) == 2 and lowest <= pair[0] <= pair[1]


def check(source: str, options: Mapping[str, Any], rules: Iterable[tuple[str, bool, str]]) -> None:
    """Names the first option that breaks its rule.

    Args:
        source: Name of the source, for the message.
        options: Values by name.
        rules: Name of an option, whether its value is valid, and what is expected of it.

    Raises:
        InputError: If an option is not valid.
    """
    for name, valid, expected in rules:
        if not valid:
            raise InputError(
                f"Option {name} of {source} must be {expected}, got {options[name]!r}."
            )


def layout(
    section: Mapping[str, Any],
    layouts: Mapping[str, Callable],
    field: str,
    base: str,
    given: Iterable[str] = (),
) -> tuple[Callable, dict[str, Any]]:
    """The layout that a section names, and its options.

    Args:
        section: `layout`, and options of that layout, of which those that are None keep their
            defaults.
        layouts: Functions by name.
        field: Name of the section within `config.data.source`, for errors.
        base: Folder that an option `root` is relative to.
        given: Arguments that are no options: the caller knows them.

    Returns:
        The function and what to call it with, `root` absolute.

    Raises:
        InputError: For an unknown layout or option, or one that is missing.
    """
    options = {name: value for name, value in section.items() if value is not None}
    name = options.pop("layout", None)
    if name not in layouts:
        raise InputError(
            f"config.data.source.{field}.layout={name!r} is unknown; expected one of "
            f"{sorted(layouts)}."
        )
    parameters = inspect.signature(layouts[name]).parameters
    known = {n: p for n, p in parameters.items() if n not in given}
    missing = [n for n, p in known.items() if p.default is p.empty and n not in options]
    unknown = [n for n in options if n not in known]
    if unknown or missing:
        wrong = f"has no field {unknown}" if unknown else f"needs {missing}"
        raise InputError(
            f"config.data.source.{field} {wrong} for the layout {name!r}; its fields are "
            f"{list(known)}."
        )
    if "root" in options:
        options["root"] = absolute(base, options["root"])
    return layouts[name], options


def absolute(base: str, path: str) -> str:
    """The path in a folder, absolute, so that reader processes and a changed folder do not matter.

    Args:
        base: Folder; counts for a relative path.
        path: Path; "~" is the user's home in both.
    """
    return os.path.abspath(os.path.join(os.path.expanduser(base), os.path.expanduser(path)))
