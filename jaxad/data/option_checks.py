"""Options of the sources that make their own data: one form of them, one text of errors."""

from collections.abc import Iterable, Mapping
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
