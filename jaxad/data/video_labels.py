"""Video labels (0 normal, 1 anomalous) and classes from the names of the published data sets."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxad.errors import InputError

UCF_CLASSES = (
    "Abuse",
    "Arrest",
    "Arson",
    "Assault",
    "Burglary",
    "Explosion",
    "Fighting",
    "RoadAccidents",
    "Robbery",
    "Shooting",
    "Shoplifting",
    "Stealing",
    "Vandalism",
)


class Labels(NamedTuple):
    """Labels of some videos.

    Attributes:
        labels: int64 `[n]`, 0 normal, 1 anomalous.
        classes: Anomaly class of each video, "" for normal ones; None if the rule knows none.
    """

    labels: np.ndarray
    classes: list[str] | None


def shanghaitech(name: str) -> tuple[int, None]:
    """`scene_clip`: four digits of the clip if anomalous (01_0015), three if normal."""
    match = re.fullmatch(r"\d{2}_(\d{3,4})", name)
    if not match:
        raise _unmatched(name, "shanghaitech", "01_0015 (anomalous) or 01_001 (normal)")
    return int(len(match[1]) == 4), None


def ucf_crime(name: str) -> tuple[int, str]:
    """`Normal_…`, or one of the 13 classes followed by a number."""
    if name.startswith("Normal_"):
        return 0, ""
    match = re.match(r"[A-Za-z]+", name)
    if not match or match[0] not in UCF_CLASSES:
        raise _unmatched(name, "ucf_crime", f"Normal_… or one of {', '.join(UCF_CLASSES)}")
    return 1, match[0]


def xd_violence(name: str) -> tuple[int, str]:
    """`…_label_A` for normal videos, `…_label_B1-0-0` and so on for violent ones.

    A video of several classes counts under its first.
    """
    match = re.search(r"_label_([A-Z]\d?)", name)
    if not match:
        raise _unmatched(name, "xd_violence", "…_label_A (normal) or …_label_B1-0-0 and the like")
    return (0, "") if match[1] == "A" else (1, match[1])


def ucsd_ped2(name: str) -> tuple[int, None]:
    """`Test001` … for the clips with anomalies, `Train001` … for those without."""
    match = re.fullmatch(r"(Train|Test)_?\d+", name)
    if not match:
        raise _unmatched(name, "ucsd_ped2", "Test001 (anomalous) or Train001 (normal)")
    return int(match[1] == "Test"), None


BY_NAME: dict[str, Callable[[str], tuple[int, str | None]]] = {
    "shanghaitech": shanghaitech,
    "ucf_crime": ucf_crime,
    "xd_violence": xd_violence,
    "ucsd_ped2": ucsd_ped2,
}
RULES = (*BY_NAME, "first_n", "file")


def from_names(rule: str, names: Sequence[str]) -> Labels:
    """Labels by the naming rule of a data set.

    Args:
        rule: A key of `BY_NAME`.
        names: Video names.

    Returns:
        Labels, and classes where the names tell them.

    Raises:
        InputError: Names the first video that the rule cannot place.
    """
    found = [BY_NAME[rule](name) for name in names]
    classes = [c for _, c in found]
    return Labels(
        np.array([label for label, _ in found], np.int64), None if None in classes else classes
    )


def first_anomalous(count: int | None, names: Sequence[str], option: str) -> Labels:
    """The first `count` videos of a list are anomalous, as in the published lists of RTFM.

    Args:
        count: Anomalous videos.
        names: Video names in the order of the list.
        option: Name of the option, for the error.

    Returns:
        Labels without classes.

    Raises:
        InputError: If `count` is missing or beyond the list.
    """
    if count is None or not 0 <= count <= len(names):
        raise InputError(
            f"label_rule='first_n' needs {option} between 0 and the {len(names)} videos of the "
            f"list, got {count}."
        )
    return Labels((np.arange(len(names)) < count).astype(np.int64), None)


def from_file(path: str, names: Sequence[str], name_of: Callable[[str], str]) -> Labels:
    """Labels from a text file of lines `name label [class]`.

    Args:
        path: The text file; it may name other videos too.
        names: Video names.
        name_of: From a base name in the file to a video name.

    Returns:
        Labels; classes if each anomalous video has one.

    Raises:
        InputError: If the file is missing, a line malformed or ambiguous, or a video absent.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            rows = [(number, line.split()) for number, line in enumerate(file, 1) if line.strip()]
    except OSError as error:
        raise InputError(f"The label file {path} cannot be read ({error.strerror}).") from None
    found: dict[str, tuple[int, str]] = {}
    for number, fields in rows:
        if len(fields) not in (2, 3) or fields[1] not in ("0", "1"):
            raise InputError(
                f"{path}, line {number}: expected name, 0 or 1, and perhaps a class, found "
                f"{' '.join(fields)[:120]!r}."
            )
        value = (int(fields[1]), fields[2] if len(fields) == 3 and fields[1] == "1" else "")
        if found.setdefault(name_of(fields[0]), value) != value:
            raise InputError(f"{path}, line {number}: {fields[0]} has two different labels.")
    absent = [name for name in names if name not in found]
    if absent:
        raise InputError(
            f"{path} has no label for {len(absent)} of {len(names)} videos, the first is "
            f"{absent[0]}."
        )
    labels = np.array([found[name][0] for name in names], np.int64)
    classes = [found[name][1] for name in names]
    complete = all(c for c, label in zip(classes, labels, strict=True) if label)
    return Labels(labels, classes if complete and any(classes) else None)


def _unmatched(name: str, rule: str, expected: str) -> InputError:
    return InputError(
        f"label_rule={rule!r} cannot place video {name!r}; expected names like {expected}. Use "
        "label_rule='file' with a file of lines `name label`, or set `suffix` to the end of the "
        "file names that is no part of the video's name."
    )
