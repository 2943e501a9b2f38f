"""Patients shared out to training, validation and test: drawn by a seed, or read from a file."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxad.data.feature_files import listed
from jaxad.errors import InputError

PARTS = ("train", "validation", "test")


def draw(
    subjects: Iterable[str], *, shares: Sequence[float] = (0.6, 0.2, 0.2), seed: int = 0
) -> dict[str, list[str]]:
    """Shares out patients at random.

    Args:
        subjects: Their names; repeated ones count once.
        shares: Of training, validation and test, above 0, in any unit: (6, 2, 2) is (0.6, 0.2,
            0.2). Numbers of patients are rounded, and at least 1.
        seed: Of the order in which they are dealt, which does not depend on that of `subjects`.

    Returns:
        Sorted names by part.

    Raises:
        InputError: If a share is not above 0, or there are fewer than three patients.
    """
    if len(shares) != len(PARTS) or not all(np.isfinite(s) and s > 0 for s in shares):
        raise InputError(
            f"config.data.source.shares: expected three numbers above 0, found {shares!r}."
        )
    names = sorted(set(subjects))
    if len(names) < len(PARTS):
        raise InputError(
            f"Found {len(names)} patients ({', '.join(names)}); expected at least one for each of "
            f"{', '.join(PARTS)}."
        )
    order = np.random.default_rng([seed, len(PARTS)]).permutation(len(names))
    cuts = np.round(np.cumsum(shares)[:-1] / np.sum(shares) * len(names)).astype(int)
    first = int(np.clip(cuts[0], 1, len(names) - 2))
    second = int(np.clip(cuts[1], first + 1, len(names) - 1))
    parts = np.split(order, (first, second))
    return {part: sorted(names[i] for i in own) for part, own in zip(PARTS, parts, strict=True)}


def read(path: str, subjects: Iterable[str]) -> dict[str, list[str]]:
    """Reads the parts from a JSON file {"train": [names], "validation": [...], "test": [...]}.

    Args:
        path: The file.
        subjects: The patients that there are, each of whom must be in one part.

    Returns:
        Sorted names by part.

    Raises:
        InputError: If the file is not as described, a patient is in two parts, is missing from the
            file or from the data set; lists these patients.
    """
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            parts = json.load(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}).") from None
    expected = 'expected {"train": [names], "validation": [names], "test": [names]}'
    if not isinstance(parts, Mapping) or set(parts) != set(PARTS):
        found = sorted(parts) if isinstance(parts, Mapping) else type(parts).__name__
        raise InputError(f"{path} holds {found}; {expected}.")
    for part, names in parts.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{path}, {part!r}: {expected}.")
        if not names:
            raise InputError(f"{path} names no patient for {part!r}; expected at least one.")
    parts = {part: sorted(set(parts[part])) for part in PARTS}
    check_disjoint(parts, path)
    there, named = set(subjects), {name for names in parts.values() for name in names}
    if there != named:
        texts = [f"{name} is in no part of the file" for name in sorted(there - named)]
        texts += [f"{name} is not in the data set" for name in sorted(named - there)]
        raise InputError(f"{path} does not go with the data set:{listed(texts)}")
    return parts


def check_disjoint(parts: Mapping[str, Iterable[str]], where: str) -> None:
    """Raises an `InputError` that lists the patients who are in two parts.

    Args:
        parts: Names by part.
        where: What gave the parts, for the message.
    """
    places: dict[str, list[str]] = {}
    for part, names in parts.items():
        for name in sorted(set(names)):
            places.setdefault(name, []).append(part)
    doubled = [f"{name}: {' and '.join(own)}" for name, own in places.items() if own[1:]]
    if doubled:
        raise InputError(
            f"{where}: {len(doubled)} patients are in two parts; expected each in one:"
            f"{listed(doubled)}"
        )
