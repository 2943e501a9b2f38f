"""Reads every record of a split once, to find what headers cannot tell."""

from collections.abc import Iterator

import numpy as np

from jaxad.data import feature_files
from jaxad.data.split import Split
from jaxad.errors import InputError


def faults(split: Split) -> Iterator[str]:
    """What is wrong with each faulty record, one text per record.

    Args:
        split: Any split of snippet features.

    Yields:
        A text that names the record and, where the source tells it, the file.
    """
    for i, name in enumerate(split.names):
        try:
            record = split.read(i)
        except InputError as error:
            yield f"{name}: {error}"
            continue
        length = None if split.lengths is None else int(split.lengths[i])
        fault = _fault(record, int(split.labels[i]), length)
        if fault:
            yield f"{name}: {fault}"


def verify(split: Split) -> int:
    """Reads and checks every record.

    Args:
        split: Any split of snippet features.

    Returns:
        The number of records, all of them good.

    Raises:
        InputError: Lists the faulty records.
    """
    found = list(faults(split))
    if found:
        raise InputError(
            f"{len(found)} of {len(split)} records are faulty:{feature_files.listed(found)}"
        )
    return len(split)


def _fault(record: dict[str, np.ndarray], label: int, length: int | None) -> str | None:
    features = record["features"]
    if features.ndim != 3 or features.dtype != np.float32:
        return f"expected float32 [N, T, D], found {features.dtype} {features.shape}."
    if length is not None and features.shape[1] != length:
        return f"expected {length} snippets, found {features.shape[1]}."
    if not np.isfinite(features).all():
        return "holds NaN or infinite features."
    if int(record["label"]) != label:
        return f"expected label {label}, found {int(record['label'])}."
    return None
