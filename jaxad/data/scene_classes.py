"""Class tables of scenes, and what a stored label id means under them.

Records hold codes: 0 … K-1 for the classes, 254 for outliers, 255 for void. Besides them, "anomaly"
is 0 where nothing is anomalous, 1 on anomalies, 255 where that is unknown. The two differ for test
sets that mark anomalies alone: their normal pixels are anomaly 0, but void as classes.
"""

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxad.errors import InputError

OUTLIER, VOID = 254, 255
UNKNOWN = 253  # Marks ids outside the table; in no record.
MAX_CLASSES = 200

_COLOURS = (("r", "g", "b"), ("red", "green", "blue"))


class ClassTable(NamedTuple):
    """The K classes that a network learns.

    Attributes:
        names: Their names.
        palette: uint8 `[K, 3]`, RGB to draw them with; None to let the report choose.
    """

    names: tuple[str, ...]
    palette: np.ndarray | None


class Codes(NamedTuple):
    """What the stored ids 0 … 255 mean.

    Attributes:
        segments: uint8 `[256]`: class, `OUTLIER`, `VOID`, or `UNKNOWN` for ids outside the table.
        anomaly: uint8 `[256]`: 0, 1 or `VOID` (`UNKNOWN` where `segments` has it).
    """

    segments: np.ndarray
    anomaly: np.ndarray


def _table(rows: Sequence[tuple[str, int, int, int]]) -> ClassTable:
    return ClassTable(tuple(row[0] for row in rows), np.array([row[1:] for row in rows], np.uint8))


CITYSCAPES = _table(
    [
        ("road", 128, 64, 128),
        ("sidewalk", 244, 35, 232),
        ("building", 70, 70, 70),
        ("wall", 102, 102, 156),
        ("fence", 190, 153, 153),
        ("pole", 153, 153, 153),
        ("traffic light", 250, 170, 30),
        ("traffic sign", 220, 220, 0),
        ("vegetation", 107, 142, 35),
        ("terrain", 152, 251, 152),
        ("sky", 70, 130, 180),
        ("person", 220, 20, 60),
        ("rider", 255, 0, 0),
        ("car", 0, 0, 142),
        ("truck", 0, 0, 70),
        ("bus", 0, 60, 100),
        ("train", 0, 80, 100),
        ("motorcycle", 0, 0, 230),
        ("bicycle", 119, 11, 32),
    ]
)
# Label ids of the 19 classes, in their order; all other ids of the data set are void.
CITYSCAPES_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_HIGHEST_ID = 33

STREETHAZARDS = _table(
    [
        ("unlabeled and sky", 70, 130, 180),
        ("building", 70, 70, 70),
        ("fence", 190, 153, 153),
        ("other", 250, 170, 160),
        ("pedestrian", 220, 20, 60),
        ("pole", 153, 153, 153),
        ("road line", 157, 234, 50),
        ("road", 128, 64, 128),
        ("sidewalk", 244, 35, 232),
        ("vegetation", 107, 142, 35),
        ("car", 0, 0, 142),
        ("wall", 102, 102, 156),
        ("traffic sign", 220, 220, 0),
    ]
)

CAMVID = _table(
    [
        ("Sky", 128, 128, 128),
        ("Building", 128, 0, 0),
        ("Pole", 192, 192, 128),
        ("Road", 128, 64, 128),
        ("Pavement", 60, 40, 222),
        ("Tree", 128, 128, 0),
        ("SignSymbol", 192, 128, 128),
        ("Fence", 64, 64, 128),
        ("Car", 64, 0, 128),
        ("Pedestrian", 64, 64, 0),
        ("Bicyclist", 0, 128, 192),
    ]
)

PUBLISHED = {"cityscapes": CITYSCAPES, "streethazards": STREETHAZARDS, "camvid": CAMVID}


def codes_of(
    classes: Mapping[int, int], *, outlier: Iterable[int] = (), void: Iterable[int] = ()
) -> Codes:
    """Codes of labels that tell classes.

    Args:
        classes: Class by stored id.
        outlier: Stored ids of anomalies.
        void: Stored ids to ignore.

    Returns:
        The codes; ids named nowhere are `UNKNOWN`.
    """
    segments = np.full(256, UNKNOWN, np.uint8)
    for stored, own in classes.items():
        segments[stored] = own
    segments[list(outlier)] = OUTLIER
    segments[list(void)] = VOID
    return Codes(segments, _anomaly_of(segments))


def anomaly_codes(
    *, normal: Iterable[int], anomalous: Iterable[int], void: Iterable[int] = (VOID,)
) -> Codes:
    """Codes of labels that tell anomalies alone: normal pixels have no known class.

    Args:
        normal: Stored ids of normal pixels.
        anomalous: Stored ids of anomalies.
        void: Stored ids to ignore.

    Returns:
        The codes; ids named nowhere are `UNKNOWN`.
    """
    segments = np.full(256, UNKNOWN, np.uint8)
    anomaly = segments.copy()
    for ids, code, truth in ((normal, VOID, 0), (anomalous, OUTLIER, 1), (void, VOID, VOID)):
        segments[list(ids)] = code
        anomaly[list(ids)] = truth
    return Codes(segments, anomaly)


def hold_out(
    table: ClassTable, codes: Codes, held_out: Sequence[str], *, code: int
) -> tuple[ClassTable, Codes]:
    """Takes classes out of the table; those that stay are numbered anew, without gaps.

    Args:
        table: All classes.
        codes: Codes under that table.
        held_out: Names of classes to take out.
        code: What their pixels become: `OUTLIER` or `VOID`.

    Returns:
        The smaller table, and the codes under it.

    Raises:
        InputError: If a name is unknown, or no class is left.
    """
    unknown = [name for name in held_out if name not in table.names]
    if unknown:
        raise InputError(f"held_out names {unknown}; expected classes of {', '.join(table.names)}.")
    kept = [i for i, name in enumerate(table.names) if name not in held_out]
    if not kept:
        raise InputError("held_out names every class; at least one must be left to learn.")
    numbers = np.arange(256, dtype=np.uint8)
    numbers[: len(table.names)] = code
    numbers[kept] = np.arange(len(kept))
    segments = numbers[codes.segments]
    anomaly = codes.anomaly.copy()
    changed = (segments != codes.segments) & (segments == code)
    anomaly[changed] = _anomaly_of(segments)[changed]
    palette = None if table.palette is None else table.palette[kept]
    return ClassTable(tuple(table.names[i] for i in kept), palette), Codes(segments, anomaly)


def read_table(path: str) -> tuple[ClassTable, Codes]:
    """Reads a class table.

    A CSV file with a header, or a JSON list of objects, of fields `id` (stored, 0 … 255), `name`,
    `train_id` (0 … K-1; 254 outlier; 255 or -1 void) and, if colours are given, `r`, `g`, `b` (or
    `red`, `green`, `blue`). Several ids may have one train id: the class has the name and colour of
    the first. Without `train_id`, rows are classes in their order, those whose `ignore` is 1 void.

    Args:
        path: The file; or "cityscapes", "streethazards" or "camvid" for these classes, stored as
            train ids.

    Returns:
        The classes and the codes of the stored ids. An id 255 that the table does not name is void.

    Raises:
        InputError: If the file is missing or not as described; names the row.
    """
    if path in PUBLISHED:
        table = PUBLISHED[path]
        own = {i: i for i in range(len(table.names))}
        return table, codes_of(own, outlier=(OUTLIER,), void=(VOID,))
    rows = _rows(path)
    train_ids = _train_ids(path, rows)
    names: dict[int, str] = {}
    colours: dict[int, tuple[int, ...] | None] = {}
    meaning: dict[int, int] = {}
    for place, (row, own) in enumerate(zip(rows, train_ids, strict=True), 1):
        stored = _integer(path, place, row, "id", 0, 255)
        if stored in meaning:
            raise InputError(f"{path}, row {place}: id {stored} is named twice.")
        meaning[stored] = own
        if own < MAX_CLASSES and own not in names:
            names[own] = str(row.get("name", "")).strip() or f"class {own}"
            colours[own] = _colour(path, place, row)
    if not names or sorted(names) != list(range(len(names))):
        raise InputError(
            f"{path}: expected train ids 0 … K-1 without gaps, found {sorted(names)} "
            "(254 is outlier, 255 void)."
        )
    ordered = [colours[i] for i in range(len(names))]
    palette = None if None in ordered else np.array(ordered, np.uint8)
    table = ClassTable(tuple(names[i] for i in range(len(names))), palette)
    doubled = {name for name in table.names if table.names.count(name) > 1}
    if doubled:
        raise InputError(f"{path}: several classes have the name {sorted(doubled)[0]!r}.")
    inlier = {stored: own for stored, own in meaning.items() if own < MAX_CLASSES}
    return table, codes_of(
        inlier,
        outlier=[stored for stored, own in meaning.items() if own == OUTLIER],
        void=[stored for stored, own in {VOID: VOID, **meaning}.items() if own == VOID],
    )


def _anomaly_of(segments: np.ndarray) -> np.ndarray:
    anomaly = np.where(segments >= UNKNOWN, segments, 0).astype(np.uint8)
    anomaly[segments == OUTLIER] = 1
    return anomaly


def _rows(path: str) -> list[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if os.path.splitext(path)[1].lower() == ".json":
                rows = json.load(file)
            else:
                rows = list(csv.DictReader(file, skipinitialspace=True))
    except OSError as error:
        raise InputError(
            f"The class table {path} cannot be read ({error.strerror}); expected a CSV or JSON "
            "file of id, name, train_id and, if known, r, g, b."
        ) from None
    except (ValueError, csv.Error) as error:
        raise InputError(f"The class table {path} cannot be read ({error}).") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"The class table {path} holds no rows of id, name, train_id.")
    if "id" not in rows[0]:
        raise InputError(
            f"The class table {path} has the columns {', '.join(map(str, rows[0]))}; expected id, "
            "name, train_id and, if known, r, g, b."
        )
    return rows


def _train_ids(path: str, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Class, `OUTLIER` or `VOID` of each row."""
    own, following = [], 0
    for place, row in enumerate(rows, 1):
        if "train_id" in row:
            value = _integer(path, place, row, "train_id", -1, 255)
            if MAX_CLASSES <= value < OUTLIER:
                raise InputError(
                    f"{path}, row {place}: expected a train id below {MAX_CLASSES}, 254 or 255, "
                    f"found {value}."
                )
            own.append(VOID if value == -1 else value)
        elif str(row.get("ignore", "0")).strip() in ("1", "True", "true"):
            own.append(VOID)
        else:
            own.append(following)
            following += 1
    return own


def _colour(path: str, place: int, row: Mapping[str, Any]) -> tuple[int, ...] | None:
    for fields in _COLOURS:
        if all(row.get(field) not in (None, "") for field in fields):
            return tuple(_integer(path, place, row, field, 0, 255) for field in fields)
    return None


def _integer(path: str, place: int, row: Mapping[str, Any], field: str, low: int, high: int) -> int:
    value = row.get(field)
    try:
        number = int(str(value).strip())
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        raise InputError(
            f"{path}, row {place}: expected an integer from {low} to {high} as {field}, "
            f"found {value!r}."
        )
    return number
