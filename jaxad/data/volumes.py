"""Reads medical volumes: NIfTI, MetaImage, NRRD, DICOM series and segmentations, plain `.npz`.

All come in canonical order (`volume_geometry`): axes along x to the right, y to the front and z up,
as closely as flips and swaps allow, so that an axial, coronal or sagittal slice is the same slice
from every format.

What the headers mean follows the libraries of the formats. NIfTI: directions and origin of the
sform if it is set, else of the qform, else the axes of ANALYZE (x to the left), as nibabel does;
spacing is `pixdim`, as for ITK. MetaImage, NRRD and DICOM store LPS, of which x and y are negated.
"""

import contextlib
import dataclasses
import gzip
import logging
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from jaxad.data import dicom_volumes, itk_volumes, volume_geometry
from jaxad.data.volume_geometry import Header, Stored, Volume
from jaxad.data.volume_libraries import require
from jaxad.errors import InputError

SUFFIXES = (".nii", ".nii.gz", *itk_volumes.SUFFIXES, ".dcm", ".npz")

log = logging.getLogger(__name__)


def read_header(path: str, *, series: str = "") -> Header:
    """Geometry and type of a volume, without decoding its voxels.

    Args:
        path: File of one of `SUFFIXES`, or a folder of DICOM files.
        series: Of a folder: see `read`.

    Returns:
        Its header, in canonical order.

    Raises:
        InputError: If the file is missing, unreadable, empty, of two or five axes, or without
            spacing; or a library is missing.
    """
    with _decoding(path):
        return volume_geometry.header(path, _stored(path, series))


def read(path: str, *, series: str = "", frames: tuple[int, ...] | None = None) -> Volume:
    """A volume in canonical order.

    Args:
        path: File of one of `SUFFIXES`, or a folder of DICOM files.
        series: Of a folder: UID of the series, or its description or a part of that, whatever the
            case of letters; "" if there is only one.
        frames: Positions in time to read, from 0, of a volume of four axes; None for all.

    Returns:
        The volume: stored integers stay integers, floats become float32. Rescaling that the header
        asks for is applied.

    Raises:
        InputError: As for `read_header`, and if the voxels cannot be read whole, are no real
            numbers, or a frame does not exist.
    """
    with _decoding(path):
        stored = _stored(path, series)
        header = volume_geometry.header(path, stored)
        _check_frames(path, header, frames)
        array = stored.voxels(frames if header.times else None)
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
        raise InputError(f"The volume {path} holds {array.dtype}; expected real numbers.")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # Infinite values are found and named by who uses them.
            array = array.astype(np.float32, copy=False)
    if header.times:
        times = header.times if frames is None else tuple(frames)
        header = dataclasses.replace(header, shape=(*header.shape[:3], len(times)), times=times)
    array = volume_geometry.canonical(array.reshape(*array.shape[:3], *header.shape[3:]), header)
    return Volume(array, header, stored.names)


def _check_frames(path: str, header: Header, frames: tuple[int, ...] | None) -> None:
    times = header.times or (0,)
    if frames is not None and not (frames and set(frames) <= set(times)):
        raise InputError(
            f"The volume {path} of shape {header.shape} has no frames {tuple(frames)}; expected "
            f"positions from 0 to {times[-1]}."
        )


def _stored(path: str, series: str) -> Stored:
    if os.path.isdir(path):
        return dicom_volumes.series(path, series)
    if not os.path.exists(path):
        raise InputError(f"The volume {path} does not exist.")
    name = os.path.basename(path).lower()
    if name.endswith((".nii", ".nii.gz")):
        return _nifti(path)
    if name.endswith(itk_volumes.SUFFIXES):
        return itk_volumes.image(path)
    if name.endswith(".dcm"):
        return dicom_volumes.segmentation(path)
    if name.endswith(".npz"):
        return _npz(path)
    raise InputError(f"The volume {path} is of no known format; expected {', '.join(SUFFIXES)}.")


def _nifti(path: str) -> Stored:
    nibabel = require("nibabel", path)
    _check_pixdim(path)
    image = nibabel.load(path)
    shape, zooms = image.shape, np.asarray(image.header.get_zooms()[:3], np.float64)
    if len(shape) < 3:
        return Stored(shape, np.eye(4), image.get_data_dtype(), lambda _: None, {})
    matrix = np.asarray(image.affine, np.float64)
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise InputError(
            f"The volume {path} has the affine {matrix[:3].tolist()}; expected three axes of some "
            "length."
        )
    if not np.allclose(lengths, zooms, rtol=1e-2):
        log.warning(
            "%s: pixdim gives a spacing of %s mm, its affine %s; pixdim is used, with the "
            "directions of the affine.",
            path,
            zooms.round(4).tolist(),
            lengths.round(4).tolist(),
        )
    matrix = volume_geometry.affine(zooms, matrix[:3, :3] / lengths, matrix[:3, 3])

    def voxels(frames):
        whole = image
        if path.lower().endswith(".gz"):
            # nibabel stops after the last voxel it needs, before the checksum at the end.
            with open(path, "rb") as file:
                whole = type(image).from_bytes(gzip.decompress(file.read()))
        if frames is None:
            return np.asanyarray(whole.dataobj)
        return np.stack([np.asanyarray(whole.dataobj[..., t]) for t in frames], axis=-1)

    return Stored(shape, matrix, image.get_data_dtype(), voxels, {})


def _check_pixdim(path: str) -> None:
    """Raises an `InputError` for a spacing that nibabel would replace by 1 without a word.

    The header is read as bytes: `sizeof_hdr` 348 (NIfTI-1) or 540 (NIfTI-2) tells byte order and
    where `dim` and `pixdim` are.
    """
    opened = gzip.open if path.lower().endswith(".gz") else open
    with opened(path, "rb") as file:
        raw = file.read(540)
    for order in "<>":
        size = struct.unpack_from(order + "i", raw)[0] if len(raw) >= 348 else 0
        if size == 348:
            rank = struct.unpack_from(order + "h", raw, 40)[0]
            lengths = struct.unpack_from(order + "3f", raw, 80)
        elif size == 540 and len(raw) == 540:
            rank = struct.unpack_from(order + "q", raw, 16)[0]
            lengths = struct.unpack_from(order + "3d", raw, 112)
        else:
            continue
        if rank >= 3 and not all(np.isfinite(x) and x != 0 for x in lengths):
            raise InputError(
                f"The volume {path} has no spacing: pixdim is {lengths}; expected three lengths "
                "above 0, in mm."
            )
        return
    raise InputError(f"The volume {path} is no NIfTI file: it does not start with its header.")


def _npz(path: str) -> Stored:
    with np.load(path, allow_pickle=False) as file:
        lacking = [name for name in ("array", "spacing") if name not in file.files]
        if lacking:
            raise InputError(
                f"The volume {path} holds {file.files} and lacks {lacking}; expected array "
                "[x, y, z] and spacing [3] in mm, and at will directions [3, 3] and origin [3] in "
                "RAS."
            )
        spacing = np.asarray(file["spacing"], np.float64)
        directions = file["directions"] if "directions" in file.files else np.eye(3)
        origin = file["origin"] if "origin" in file.files else np.zeros(3)
    wrong = {"spacing": spacing, "directions": directions, "origin": origin}
    shapes = {"spacing": (3,), "directions": (3, 3), "origin": (3,)}
    for name, values in wrong.items():
        if values.shape != shapes[name] or not np.isfinite(values).all():
            raise InputError(
                f"The volume {path} has {name} {values.tolist()}; expected finite numbers "
                f"{list(shapes[name])}."
            )
    if (spacing <= 0).any():
        raise InputError(
            f"The volume {path} has no spacing: it is {spacing.tolist()}; expected lengths above "
            "0, in mm."
        )
    shape, dtype = _npz_header(path)

    def voxels(frames):
        with np.load(path, allow_pickle=False) as file:
            array = file["array"]
        return array if frames is None else array[..., list(frames)]

    return Stored(shape, volume_geometry.affine(spacing, directions, origin), dtype, voxels, {})


def _npz_header(path: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of `array`, without inflating it."""
    with zipfile.ZipFile(path) as members, members.open("array.npy") as file:
        version = np.lib.format.read_magic(file)
        reader = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, _, dtype = reader[version[0]](file)
    return shape, dtype


@contextlib.contextmanager
def _decoding(path: str) -> Iterator[None]:
    """Whatever a library finds wrong with a file becomes an `InputError` that names it."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Five libraries, among them C++ ones, without a common error type.
        if not isinstance(error, _DAMAGE) and type(error).__module__.split(".")[0] not in _READERS:
            raise
        # The reason that ITK adds is the last error of the process, often an old one.
        text = " ".join(str(error).split("\nReason: ")[0].split())
        raise InputError(f"The volume {path} cannot be read whole ({text[-300:]}).") from error


_READERS = ("nibabel", "pydicom")
_DAMAGE = (
    *(OSError, EOFError, ValueError, KeyError, AttributeError, RuntimeError, NotImplementedError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)
