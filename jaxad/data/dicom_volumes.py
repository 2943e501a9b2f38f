"""DICOM series (a folder of single-frame files) and segmentation objects (DICOM-SEG).

Geometry comes from the tags by pydicom: position and orientation of each slice, so that the spacing
between slices is their distance and not the slice thickness. pydicom reads plain and run-length
coded pixels, as it notices when some are missing, and SimpleITK decodes JPEG; both rescale.

Source: DICOM PS3.3, C.7.6.2 (image plane), C.8.20 (segmentation).
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxad.data import volume_geometry
from jaxad.data.feature_files import listed
from jaxad.data.itk_volumes import LPS
from jaxad.data.volume_geometry import Stored
from jaxad.data.volume_libraries import require
from jaxad.errors import InputError

_STEP_TOLERANCE = 0.02  # Of the distance between slices.
_TAGS = [
    *("SeriesInstanceUID", "SeriesDescription", "SeriesNumber", "InstanceNumber"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"),
    *("SliceThickness", "SpacingBetweenSlices", "NumberOfFrames", "SOPClassUID"),
    *("BitsAllocated", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
    *("SamplesPerPixel", "Modality"),
]
_IMAGES = ("CT", "MR", "PT")


class Series(NamedTuple):
    """One series of a folder.

    Attributes:
        uid: Series instance UID.
        description: As the scanner's protocol names it; "" if absent.
        number: Series number; 0 if absent.
        headers: Tags of each file, without pixels.
        files: Path of each.
    """

    uid: str
    description: str
    number: int
    headers: tuple[Any, ...]
    files: tuple[str, ...]


def list_series(folder: str) -> list[Series]:
    """The series of images in a folder and those below it, by number.

    Args:
        folder: Folder; files that are no DICOM images are passed over.

    Returns:
        The series; empty if there are none.

    Raises:
        InputError: If a file ends before its image.
    """
    pydicom = require("pydicom", folder)
    found = defaultdict(list)
    for here, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(here, name)
            try:
                tags = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            except pydicom.errors.InvalidDicomError:
                continue
            if "Rows" not in tags and tags.get("Modality") in _IMAGES:
                raise InputError(f"The DICOM file {path} is cut off: it has no image.")
            if "SeriesInstanceUID" in tags and "Rows" in tags:
                found[str(tags.SeriesInstanceUID)].append((path, tags))
    series = [
        Series(
            uid,
            str(pairs[0][1].get("SeriesDescription") or ""),
            int(pairs[0][1].get("SeriesNumber") or 0),
            tuple(tags for _, tags in pairs),
            tuple(path for path, _ in pairs),
        )
        for uid, pairs in found.items()
    ]
    return sorted(series, key=lambda s: (s.number, s.uid))


def series(folder: str, choice: str = "") -> Stored:
    """One series as a volume; slices that share their positions are frames, by instance number.

    Args:
        folder: Folder of DICOM files.
        choice: UID, or description or a part of it, whatever the case of letters; an equal
            description goes before one that contains it. "" if there is only one series.

    Returns:
        Its geometry, and a function that reads its voxels. Axes of the file: columns, rows, slices.

    Raises:
        InputError: If no series or several fit; tags of geometry are absent; slices differ in
            size or orientation, or are not evenly spaced.
    """
    chosen = _chosen(folder, choice)
    where = f"{folder} (series {chosen.description!r}, {chosen.uid})"
    first = chosen.headers[0]
    for path, tags in zip(chosen.files, chosen.headers, strict=True):
        _check_tags(path, tags, first)
    plane = _plane(first.ImageOrientationPatient)
    normal = np.cross(*plane)
    depths = np.array([np.dot(tags.ImagePositionPatient, normal) for tags in chosen.headers])
    numbers = [int(tags.get("InstanceNumber") or 0) for tags in chosen.headers]
    order = sorted(range(len(numbers)), key=lambda i: (round(depths[i], 3), numbers[i]))
    slices, frames = _grid(where, depths[order])
    step = _step(where, depths[order][::frames], first)
    spacing = np.array([first.PixelSpacing[1], first.PixelSpacing[0], step], np.float64)
    start = np.asarray(chosen.headers[order[0]].ImagePositionPatient, np.float64)
    files = [[chosen.files[i] for i in order[t::frames]] for t in range(frames)]
    shape = (int(first.Columns), int(first.Rows), slices)

    def voxels(asked):
        wanted = range(frames) if asked is None else asked
        arrays = [np.stack([_pixels(path) for path in files[t]], axis=-1) for t in wanted]
        return arrays[0] if frames == 1 else np.stack(arrays, axis=-1)

    directions = LPS @ np.stack([*plane, normal], axis=1)
    matrix = volume_geometry.affine(spacing, directions, LPS @ start)
    return Stored(shape + ((frames,) if frames > 1 else ()), matrix, _dtype(first), voxels, {})


def segmentation(path: str) -> Stored:
    """A binary or label map segmentation: the number of a segment where it is, 0 elsewhere.

    It covers the slices that the file stores; `volume_geometry.pasted` puts it on the grid of an
    image.

    Args:
        path: DICOM-SEG file.

    Returns:
        Its geometry, a function that reads it, and segment numbers by label.

    Raises:
        InputError: If it is another kind of segmentation or object, its frames are not evenly
            spaced, or two segments share a voxel.
    """
    pydicom = require("pydicom", path)
    data = pydicom.dcmread(path, defer_size="1 MB")
    kind = str(data.get("SegmentationType", "none"))
    if kind not in ("BINARY", "LABELMAP"):
        raise InputError(
            f"The file {path} has modality {data.get('Modality', 'unknown')} and segmentation type "
            f"{kind}; expected a DICOM segmentation, BINARY or LABELMAP. Images are read as a "
            "folder."
        )
    shared = data.SharedFunctionalGroupsSequence[0]
    frames = [_SegFrame.of(group, shared) for group in data.PerFrameFunctionalGroupsSequence]
    plane = frames[0].plane
    if any(np.abs(frame.plane - plane).max() > 1e-3 for frame in frames):
        raise InputError(f"The segmentation {path} has frames of different orientation.")
    normal = np.cross(*plane)
    depths = np.array([frame.position @ normal for frame in frames])
    levels = np.unique(np.round(depths, 3))
    measures = _group("PixelMeasuresSequence", data.PerFrameFunctionalGroupsSequence[0], shared)
    step = _step(path, levels, measures, gaps=True)
    places = np.round((depths - levels[0]) / step).astype(int)
    spacing = np.array([measures.PixelSpacing[1], measures.PixelSpacing[0], step], np.float64)
    shape = (int(data.Columns), int(data.Rows), int(places.max()) + 1)
    segments = {str(s.SegmentLabel).strip(): int(s.SegmentNumber) for s in data.SegmentSequence}
    names = {name: number for name, number in segments.items() if number}  # 0: background.

    def voxels(_):
        pixels = data.pixel_array.reshape(len(frames), shape[1], shape[0])
        values = np.zeros(shape[::-1], np.uint16)
        for place, frame, own in zip(places, frames, pixels, strict=True):
            _fill(path, values[place], own if kind == "LABELMAP" else (own != 0) * frame.segment)
        return values.T

    directions = LPS @ np.stack([*plane, normal], axis=1)
    matrix = volume_geometry.affine(
        spacing, directions, LPS @ frames[int(np.argmin(depths))].position
    )
    return Stored(shape, matrix, np.dtype(np.uint16), voxels, names)


def _pixels(path: str) -> np.ndarray:
    """Values of one file, `[columns, rows]`."""
    pydicom = require("pydicom", path)
    data = pydicom.dcmread(path)
    syntax = data.file_meta.TransferSyntaxUID
    if syntax.is_compressed and syntax != pydicom.uid.RLELossless:
        itk = require("SimpleITK", path)
        return itk.GetArrayFromImage(itk.ReadImage(path))[0].T
    return pydicom.pixels.apply_rescale(data.pixel_array, data).T


def _fill(path: str, values: np.ndarray, segments: np.ndarray) -> None:
    """Adds a frame's segments to the slice that it shows, in place."""
    both = (segments != 0) & (values != 0) & (values != segments)
    if both.any():
        raise InputError(
            f"The segmentation {path} has {both.sum()} voxels of one slice in the segments "
            f"{values[both][0]} and {segments[both][0]}; expected one segment per voxel."
        )
    np.copyto(values, segments, where=segments != 0, casting="unsafe")


class _SegFrame(NamedTuple):
    position: np.ndarray
    plane: np.ndarray
    segment: int

    @classmethod
    def of(cls, group, shared):
        position = _group("PlanePositionSequence", group, shared).ImagePositionPatient
        plane = _group("PlaneOrientationSequence", group, shared).ImageOrientationPatient
        segment = 0  # Label maps have the numbers in their pixels.
        if "SegmentIdentificationSequence" in group or "SegmentIdentificationSequence" in shared:
            segment = _group("SegmentIdentificationSequence", group, shared).ReferencedSegmentNumber
        return cls(
            np.asarray(position, np.float64),
            _plane(plane),
            int(segment),
        )


def _plane(cosines: Sequence[float]) -> np.ndarray:
    """Unit vectors along a row and along a column, `[2, 3]`; files hold them with few decimals."""
    plane = np.asarray(cosines, np.float64).reshape(2, 3)
    return plane / np.linalg.norm(plane, axis=1, keepdims=True)


def _group(name, own, shared):
    """A functional group, of the frame itself or shared by all."""
    return (own if name in own else shared)[name].value[0]


def _chosen(folder: str, choice: str) -> Series:
    found = list_series(folder)
    if not found:
        raise InputError(f"The folder {folder} holds no DICOM images.")
    wanted = choice.casefold()
    ways = (
        lambda s: not choice or s.uid == choice,
        lambda s: s.description.casefold() == wanted,
        lambda s: wanted in s.description.casefold(),
    )
    fitting = next(filter(None, ([s for s in found if way(s)] for way in ways)), [])
    if len(fitting) == 1:
        return fitting[0]
    asked = f"{choice!r} fits {len(fitting)} of them" if choice else "none was chosen"
    texts = [f"{s.number}: {s.description!r}, {len(s.files)} files, {s.uid}" for s in found]
    raise InputError(
        f"The folder {folder} holds {len(found)} series and {asked}; expected the description or "
        f"UID of one of:{listed(texts)}"
    )


def _check_tags(path: str, tags: Any, first: Any) -> None:
    if int(tags.get("NumberOfFrames") or 1) > 1:
        raise InputError(
            f"The DICOM file {path} holds {tags.NumberOfFrames} frames; expected one slice per "
            "file. Convert enhanced objects to NIfTI, for example with dcm2niix."
        )
    if int(tags.get("SamplesPerPixel") or 1) > 1:
        raise InputError(f"The DICOM file {path} is in colour; expected grey values.")
    needed = ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
    lacking = [name for name in needed if tags.get(name) is None]
    if lacking:
        raise InputError(f"The DICOM file {path} has no spacing or place: it lacks {lacking}.")
    for name, tolerance in (("Rows", 0), ("Columns", 0), ("PixelSpacing", 1e-4)):
        if np.abs(np.subtract(tags.get(name), first.get(name))).max() > tolerance:
            raise InputError(
                f"The DICOM file {path} has {name} {tags.get(name)}, another slice of its series "
                f"{first.get(name)}."
            )
    turned = np.subtract(tags.ImageOrientationPatient, first.ImageOrientationPatient)
    if np.abs(turned).max() > 1e-3:
        raise InputError(
            f"The DICOM file {path} has another orientation than the first slice of its series; "
            "a localiser? Choose a series of parallel slices."
        )


def _grid(where: str, depths: np.ndarray) -> tuple[int, int]:
    """Slices, and frames of each, from sorted depths."""
    counts = np.unique(np.round(depths, 3), return_counts=True)[1]
    if (counts != counts[0]).any():
        raise InputError(
            f"{where} has between {counts.min()} and {counts.max()} images per slice; expected the "
            "same number for each."
        )
    return len(counts), int(counts[0])


def _step(where: str, depths: Sequence[float], tags: Any, gaps: bool = False) -> float:
    """Distance between slices; of a single one, what its tags say."""
    if len(depths) == 1:
        told = float(tags.get("SpacingBetweenSlices") or tags.get("SliceThickness") or 0)
        if not told > 0:
            raise InputError(
                f"{where} has one slice and no spacing: it lacks SpacingBetweenSlices and "
                "SliceThickness."
            )
        return told
    steps = np.diff(depths)
    step = float(steps.min())
    multiples = np.round(steps / step) if gaps else np.ones(len(steps))
    if np.abs(steps - multiples * step).max() > _STEP_TOLERANCE * step:
        raise InputError(
            f"{where} has slices {steps.min():.4g} to {steps.max():.4g} mm apart; expected one "
            "distance. Is a slice missing?"
        )
    return float(np.sum(steps) / np.sum(multiples))


def _dtype(tags: Any) -> np.dtype:
    """Type of the stored values; rescaled ones may come out as floats."""
    sign = "i" if int(tags.get("PixelRepresentation") or 0) else "u"
    return np.dtype(f"{sign}{int(tags.get('BitsAllocated') or 16) // 8}")
