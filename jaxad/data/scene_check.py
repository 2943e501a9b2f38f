"""Reads every record of a split of scenes or objects once: what is wrong, and what there is."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxad.data import image_files
from jaxad.data.feature_files import listed
from jaxad.data.scene_classes import OUTLIER, VOID
from jaxad.data.split import Split
from jaxad.errors import InputError

_MOST_NAMED = 20  # Classes that a line of a table names.


class Contents(NamedTuple):
    """What the records of a split hold.

    Attributes:
        records: Their number.
        codes: int64 `[256]`, pixels of each code of `segments`; all zero for objects.
        anomaly: int64 `[256]`, pixels of each value of `anomaly`; all zero for training and
            objects.
        covered: Share of the canvas that an object covers, on average; NaN for scenes.
    """

    records: int
    codes: np.ndarray
    anomaly: np.ndarray
    covered: float


def faults(split: Split) -> list[str]:
    """What is wrong with each faulty record.

    Args:
        split: Any split of scenes or outlier objects.

    Returns:
        Texts that name the record and, where the source tells it, the file.
    """
    return _survey(split)[1]


def verify(split: Split) -> Contents:
    """Reads and checks every record, in threads.

    Args:
        split: Any split of scenes or outlier objects.

    Returns:
        What they hold, all of them good.

    Raises:
        InputError: Lists the faulty records.
    """
    found, wrong = _survey(split)
    if wrong:
        raise InputError(f"{len(wrong)} of {len(split)} records are faulty:{listed(wrong)}")
    return Contents(
        records=len(split),
        codes=sum(own.codes for own in found),
        anomaly=sum(own.anomaly for own in found),
        covered=float(np.mean([own.covered for own in found])),
    )


def summary(name: str, split: Split) -> dict[str, object]:
    """One line of a table: number and sizes of the scenes or objects, from what is known unread.

    Args:
        name: Of the split.
        split: Any split of scenes or outlier objects.

    Returns:
        Cells by column.
    """
    anomalous = int(split.labels.sum())
    classes = split.segment_classes or sorted({name for name in split.classes or () if name})
    listing = f"{len(classes)} kinds" if len(classes) > _MOST_NAMED else ", ".join(classes)
    return {
        "split": name,
        "records": len(split),
        "anomalous": anomalous,
        "normal": len(split) - anomalous,
        "height x width": _sizes(split),
        "classes": listing or "unknown",
    }


def shares(split: Split, contents: Contents) -> dict[str, object]:
    """Share of each class among the pixels that have one, of void and of anomalous pixels.

    Args:
        split: A split of scenes.
        contents: Of its records.

    Returns:
        Percent by name, None where the split does not tell: "void" of all pixels, "anomalous" of
        those whose truth is known.
    """
    number = len(split.segment_classes)
    inlier, total = contents.codes[:number].sum(), contents.codes.sum()
    known = contents.anomaly[:2].sum()
    cells: dict[str, object] = {
        name: _percent(contents.codes[i], inlier) for i, name in enumerate(split.segment_classes)
    }
    cells["void"] = _percent(contents.codes[VOID], total)
    cells["anomalous"] = _percent(contents.anomaly[1], known)
    return cells


def _survey(split: Split) -> tuple[list[Contents], list[str]]:
    shapes = _shapes(split)

    def one(i: int) -> Contents:
        try:
            record = split.read(i)
        except InputError as error:
            raise InputError(f"{split.names[i]}: {error}") from None
        fault = _fault(split, i, record, shapes[i])
        if fault:
            raise InputError(f"{split.names[i]}: {fault}")
        return _contents(record)

    return image_files.collect(one, range(len(split)))


def _shapes(split: Split) -> list[tuple[int, ...] | None]:
    """Height and width to expect of each record; of records of one size, that of the first good."""
    if split.sizes is not None:
        return [tuple(map(int, size)) for size in split.sizes]
    for i in range(len(split)):
        try:
            record = split.read(i)
        except InputError:
            continue
        pixels = record.get("image", record.get("object"))
        return [np.shape(pixels)[:2]] * len(split)
    return [None] * len(split)


def _fault(
    split: Split, i: int, record: Mapping[str, Any], shape: tuple[int, ...] | None
) -> str | None:
    kinds = {"object", "object_mask"} if "object" in record else {"image", "segments", "anomaly"}
    for name in kinds & record.keys():
        array = record[name]
        scan = name == "image" and split.background is not None
        dtype, channels = ("float32", 1) if scan else ("uint8", 3)
        expected = (*shape, channels) if name in ("image", "object") else shape
        if array.dtype != dtype or array.shape != expected:
            return f"expected {name} {dtype} {expected}, found {array.dtype} {array.shape}."
        if scan and not (array.min() >= 0 and array.max() <= 1):  # False for NaN.
            return f"expected an image in [0, 1], found {array.min()} to {array.max()}."
    if int(record["label"]) != int(split.labels[i]):
        return f"expected label {int(split.labels[i])}, found {int(record['label'])}."
    if "object" in record:
        others = np.setdiff1d(record["object_mask"], (0, 1))
        return f"expected object_mask of 0 and 1, found {others.tolist()}." if len(others) else None
    return _fault_of_codes(len(split.segment_classes), record)


def _fault_of_codes(number: int, record: Mapping[str, Any]) -> str | None:
    codes = np.bincount(record["segments"].ravel(), minlength=256)
    others = number + np.flatnonzero(codes[number:OUTLIER])
    if len(others):
        return f"expected classes below {number}, 254 or 255 in segments, found {others.tolist()}."
    if "anomaly" not in record:
        return "holds outliers, in a training split." if codes[OUTLIER] else None
    if ((record["segments"] == OUTLIER) != (record["anomaly"] == 1)).any():
        return "segments and anomaly disagree about where anomalies are."
    if int(record["label"]) != int(codes[OUTLIER] > 0):
        return f"expected label {int(codes[OUTLIER] > 0)} by its pixels."
    return None


def _contents(record: Mapping[str, Any]) -> Contents:
    none = np.zeros(256, np.int64)
    if "object" in record:
        return Contents(1, none, none, float(record["object_mask"].mean()))
    codes = np.bincount(record["segments"].ravel(), minlength=256)
    if "anomaly" not in record:
        return Contents(1, codes, none, np.nan)
    return Contents(1, codes, np.bincount(record["anomaly"].ravel(), minlength=256), np.nan)


def _sizes(split: Split) -> str:
    if split.sizes is not None:
        low, high = np.min(split.sizes, axis=0), np.max(split.sizes, axis=0)
        return f"{low[0]} x {low[1]} to {high[0]} x {high[1]}"
    shape = next((shape for shape in _shapes(split)[:1] if shape), None)
    return "unknown" if shape is None else f"{shape[0]} x {shape[1]}"


def _percent(part: int, whole: int) -> float | None:
    return None if whole == 0 else round(100 * float(part) / float(whole), 3)
