"""Files of medical volumes by name, and which of them belong together.

Nothing is opened but folders.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from jaxad.data import volumes
from jaxad.data.feature_files import listed
from jaxad.errors import InputError

SUFFIXES = tuple(suffix for suffix in volumes.SUFFIXES if suffix != ".dcm")


class Study(NamedTuple):
    """A volume, or some frames of one.

    Attributes:
        subject: The patient.
        name: Unique within its data set; begins with the patient.
        image: Path of a file, or of the folder of a series of DICOM files.
        label: Path of the label map; None without one.
        frames: Which frames of a volume in time, from 0; () if it has none.
        series: UID of the series if the folder holds several; else "".
    """

    subject: str
    name: str
    image: str
    label: str | None
    frames: tuple[int, ...] = ()
    series: str = ""


def volumes_in(folder: str, ending: str = "") -> dict[str, str]:
    """Volumes of a folder and of those below it: files, and folders with DICOM files.

    Args:
        folder: Folder.
        ending: End of names that is no part of them; volumes without it are left out.

    Returns:
        Path by name: the path inside the folder without suffix and ending, with "/"; sorted. Hidden
        files are left out.

    Raises:
        InputError: If the folder is missing, or two files differ in nothing but their suffix.
    """
    if not os.path.isdir(folder):
        raise InputError(f"The folder {folder} does not exist.")
    found: dict[str, str] = {}
    for here, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        paths = [os.path.join(here, name) for name in sorted(names) if not name.startswith(".")]
        if here != folder and any(path.lower().endswith(".dcm") for path in paths):
            paths = [here]
        for path in paths:
            suffix = "" if path == here else _suffix(path)
            stem = os.path.relpath(path, folder).replace(os.sep, "/")
            if suffix is None or not stem.removesuffix(suffix).endswith(ending):
                continue
            name = stem.removesuffix(suffix).removesuffix(ending)
            if name in found:
                raise InputError(f"{found[name]} and {path} have the same name; keep one of them.")
            found[name] = path
    return dict(sorted(found.items()))


def by_last_part(files: Mapping[str, str]) -> dict[str, str]:
    """Files by the last part of their names.

    Args:
        files: Path by name.

    Raises:
        InputError: If two have the same last part.
    """
    found: dict[str, str] = {}
    for name, path in files.items():
        last = name.rsplit("/", 1)[-1]
        if last in found:
            raise InputError(f"{found[last]} and {path} have the same name; keep one of them.")
        found[last] = path
    return found


def check_pairs(
    images: Mapping[str, str], labels: Mapping[str, str], image_folder: str, label_folder: str
) -> None:
    """Raises an `InputError` that lists the files without partner.

    Args:
        images: Path by name.
        labels: Path by the same names.
        image_folder: Where they are, for the message.
        label_folder: The same.
    """
    faults = [f"{path} has no label map" for name, path in images.items() if name not in labels]
    faults += [f"{path} has no image" for name, path in labels.items() if name not in images]
    if faults:
        raise InputError(
            f"The volumes in {image_folder} and the label maps in {label_folder} do not pair up: "
            f"{len(faults)} files have no partner:{listed(faults)}"
        )


def patients(names: Iterable[str], pattern: str | None) -> list[str]:
    """The patient of each volume.

    Args:
        names: Of volumes.
        pattern: Regular expression whose first group, or all it matches, is the patient; None: the
            first folder of a name, or all of it.

    Raises:
        InputError: If the expression is none, or does not match a name.
    """
    names = list(names)
    if pattern is None:
        return [name.split("/", 1)[0] for name in names]
    try:
        matches = {name: re.search(pattern, name) for name in names}
    except re.error as error:
        raise InputError(f"subject={pattern!r} is no regular expression ({error}).") from None
    faults = [name for name, match in matches.items() if match is None]
    if faults:
        raise InputError(
            f"subject={pattern!r} matches nothing in the names of these volumes:{listed(faults)}"
        )
    return [match[min(match.re.groups, 1)] or match[0] for match in matches.values()]


def by_patient(folder: str) -> dict[str, str]:
    """The mask of each patient.

    Args:
        folder: `<patient>/**/` with one file each, DICOM or of a volume; or files `<patient>*`. A
            name that begins like "ProstateX-0004" is that patient, else its part up to the first
            dot.

    Returns:
        Path by patient, sorted.

    Raises:
        InputError: If the folder is missing or a patient has several masks.
    """
    if not os.path.isdir(folder):
        raise InputError(f"The folder of masks {folder} does not exist.")
    found: dict[str, list[str]] = {}
    for here, _, names in os.walk(folder, followlinks=True):
        for name in sorted(names):
            path = os.path.join(here, name)
            if name.startswith(".") or not (_suffix(path) or name.lower().endswith(".dcm")):
                continue
            first = os.path.relpath(path, folder).split(os.sep)[0]
            patient = re.match(r"ProstateX-\d+", first, re.IGNORECASE)
            found.setdefault(patient[0] if patient else first.split(".")[0], []).append(path)
    doubled = [f"{patient}: {', '.join(paths)}" for patient, paths in found.items() if paths[1:]]
    if doubled:
        raise InputError(f"{len(doubled)} patients have several masks:{listed(doubled)}")
    return {patient: paths[0] for patient, paths in sorted(found.items())}


def _suffix(path: str) -> str | None:
    return next((path[-len(s) :] for s in SUFFIXES if path.lower().endswith(s)), None)
