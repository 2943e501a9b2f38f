"""Finds the series of a patient that has a certain description, among folders of DICOM files.

A download has one folder per series, so one header of each folder is read, not thousands; only
where all files of a patient lie in one folder is each of them looked at.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from jaxad.data import dicom_volumes, volume_geometry, volumes
from jaxad.data.volume_libraries import require
from jaxad.errors import InputError


class Series(NamedTuple):
    """Where a series is.

    Attributes:
        folder: Its folder.
        uid: Its UID if the folder holds others too, else "".
    """

    folder: str
    uid: str


def find(folder: str, description: str) -> list[Series]:
    """The series whose description begins so, in the order in which they were taken.

    Args:
        folder: Of one patient.
        description: Start of the series description; case does not matter.

    Returns:
        The series by their numbers.

    Raises:
        InputError: If the folder holds no DICOM images.
    """
    wanted = description.casefold()
    leaves = _leaves(folder)
    if not leaves:
        raise InputError(f"The folder {folder} holds no DICOM images.")
    found = []
    for leaf, path in leaves:
        if len(leaves) == 1:
            inside = dicom_volumes.list_series(leaf)
            own = [(s.number, s.uid if len(inside) > 1 else "", s.description) for s in inside]
        else:
            tags = _header(path)
            own = [
                (int(tags.get("SeriesNumber") or 0), "", str(tags.get("SeriesDescription") or ""))
            ]
        found += [
            (number, leaf, uid) for number, uid, text in own if text.casefold().startswith(wanted)
        ]
    return [Series(leaf, uid) for _, leaf, uid in sorted(found)]


def of_mask(candidates: Sequence[Series], label: str) -> Series | None:
    """The series that a mask was drawn on.

    Args:
        candidates: Of one patient, in the order in which they were taken.
        label: File of the mask.

    Returns:
        The last one with the mask's own grid, else the last one of which that is a part; None if
        there is none.
    """
    mask = volumes.read(label)
    headers = [volumes.read_header(own.folder, series=own.uid) for own in candidates]
    pairs = list(zip(candidates, headers, strict=True))
    same = [own for own, image in pairs if not _differ(image, mask)]
    part = [own for own, image in pairs if not _differ(image, volume_geometry.pasted(mask, image))]
    return next(reversed(same or part), None)


def _differ(image: volume_geometry.Header, mask: volume_geometry.Volume) -> bool:
    return bool(volume_geometry.differences(image, mask.header))


def _leaves(folder: str) -> list[tuple[str, str]]:
    """Folders with files that may be DICOM images, each with its first one."""
    found = []
    for here, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        # Archives also hold DICOM files without any ending.
        own = [n for n in sorted(names) if n.lower().endswith(".dcm") or "." not in n]
        if own:
            found.append((here, os.path.join(here, own[0])))
    return found


def _header(path: str):
    """Number and description of the series that a file belongs to; nothing if it is no DICOM."""
    pydicom = require("pydicom", path)
    try:
        return pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=["SeriesNumber", "SeriesDescription"]
        )
    except pydicom.errors.InvalidDicomError:
        return {}
    except OSError as error:
        raise InputError(f"The DICOM file {path} cannot be read ({error}).") from None
