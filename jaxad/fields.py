"""Checks of config fields: each error names the field, what was expected, and what was found."""

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxad.errors import InputError


def check(
    checks: Mapping[str, Callable[[str, Any], None]],
    values: Mapping[str, Any],
    section: str = "method",
) -> None:
    """Applies to each value the check of its name; they are fields of `config.<section>`."""
    for name, check_one in checks.items():
        check_one(f"{section}.{name}", values[name])


def tuples(section: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a section, lists as tuples: a ConfigDict turns the latter into the former."""
    return {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in section.items()}


def one_of(field: str, value: Any, choices: Sequence[str]) -> None:
    """Raises an `InputError` unless `value` is one of the choices."""
    if value not in choices:
        _fail(field, f"one of {', '.join(map(repr, choices))}", value)


def boolean(field: str, value: Any) -> None:
    """Raises an `InputError` unless `value` is True or False."""
    if not isinstance(value, bool):
        _fail(field, "True or False", value)


def positive_integer(field: str, value: Any) -> None:
    """Raises an `InputError` unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        _fail(field, "an integer of at least 1", value)


def positive_integers(field: str, value: Any, *, count: int | None = None) -> None:
    """Raises an `InputError` unless `value` is a sequence of (`count`) integers of at least 1."""
    expected = f"{count or 'any number of'} integers of at least 1"
    if not isinstance(value, Sequence) or isinstance(value, str):
        _fail(field, expected, value)
    wrong = [
        v for v in value if isinstance(v, bool) or not isinstance(v, numbers.Integral) or v < 1
    ]
    if wrong or (count is not None and len(value) != count):
        _fail(field, expected, value)


def not_negative(field: str, value: Any) -> None:
    """Raises an `InputError` unless `value` is a finite number of at least 0."""
    if not _is_number(value) or value < 0:
        _fail(field, "a number of at least 0", value)


def positive(field: str, value: Any) -> None:
    """Raises an `InputError` unless `value` is a finite number above 0."""
    if not _is_number(value) or value <= 0:
        _fail(field, "a number above 0", value)


def rate(field: str, value: Any) -> None:
    """Raises an `InputError` unless `value` is a number in [0, 1)."""
    if not _is_number(value) or not 0 <= value < 1:
        _fail(field, "a number in [0, 1)", value)


def share(field: str, value: Any) -> None:
    """Raises an `InputError` unless `value` is a number in [0, 1]."""
    if not _is_number(value) or not 0 <= value <= 1:
        _fail(field, "a number in [0, 1]", value)


def _is_number(value):
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and math.isfinite(value)


def _fail(field, expected, value):
    raise InputError(f"config.{field}: expected {expected}, found {value!r}.")
