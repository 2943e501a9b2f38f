"""MetaImage and NRRD files, through SimpleITK."""

import os
import re

import numpy as np

from jaxad.data import volume_geometry
from jaxad.data.volume_geometry import Stored
from jaxad.data.volume_libraries import require
from jaxad.errors import InputError

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")

LPS = np.diag([-1.0, -1.0, 1.0])  # From LPS to RAS and back.

_HEADER_BYTES = 1 << 16
_SPACING_KEYS = {
    "mha": ("ElementSpacing", "ElementSize"),
    "nrrd": ("spacings", "space directions"),
}


def image(path: str) -> Stored:
    """A MetaImage (`.mha`, `.mhd`) or NRRD (`.nrrd`, `.nhdr`) file.

    Segment names and values that 3D Slicer writes into a `.seg.nrrd` become `names`.

    Args:
        path: The file.

    Returns:
        Its geometry, and a function that reads its voxels.

    Raises:
        InputError: If it has no spacing, or several values per voxel.
    """
    itk = require("SimpleITK", path)
    _check_spacing(path)
    reader = itk.ImageFileReader()
    reader.SetFileName(path)
    reader.ReadImageInformation()
    if reader.GetNumberOfComponents() != 1:
        raise InputError(
            f"The volume {path} has {reader.GetNumberOfComponents()} values per voxel; expected "
            "one. Overlapping segments of 3D Slicer: export them as one label map."
        )
    shape, rank = reader.GetSize(), reader.GetDimension()
    matrix = np.eye(4)
    if rank >= 3:
        directions = np.reshape(reader.GetDirection(), (rank, rank))[:3, :3]
        matrix = volume_geometry.affine(
            np.asarray(reader.GetSpacing()[:3]),
            LPS @ directions,
            LPS @ np.asarray(reader.GetOrigin()[:3]),
        )
    keys = set(reader.GetMetaDataKeys())
    names = {
        reader.GetMetaData(key): int(reader.GetMetaData(key.replace("_Name", "_LabelValue")))
        for key in keys
        if re.fullmatch(r"Segment\d+_Name", key) and key.replace("_Name", "_LabelValue") in keys
    }

    def voxels(frames):
        array = itk.GetArrayFromImage(reader.Execute()).T  # Fastest axis first.
        return array if frames is None else array[..., list(frames)]

    dtype = itk.GetArrayViewFromImage(itk.Image([1] * min(rank, 3), reader.GetPixelID())).dtype
    return Stored(shape, matrix, dtype, voxels, names)


def data_files(path: str) -> list[str]:
    """The files that hold the voxels of a header file (`.mhd`, `.nhdr`).

    Args:
        path: A volume of any format.

    Returns:
        Paths; empty where voxels follow the header, or lie in a list of files.
    """
    if not path.lower().endswith((".mhd", ".nhdr")):
        return []
    fields = _fields(path)
    name = fields.get("ElementDataFile") or fields.get("data file") or fields.get("datafile") or ""
    listed = name in ("LOCAL", "") or name.startswith("LIST") or "%" in name
    return [] if listed else [os.path.join(os.path.dirname(path), name)]


def _check_spacing(path: str) -> None:
    """Raises an `InputError` for a spacing that ITK would replace by 1, or refuse for no reason."""
    kind = _kind(path)
    fields = _fields(path)
    for key in _SPACING_KEYS[kind]:
        if key in fields:
            _check_lengths(path, key, fields[key])
            return
    raise InputError(
        f"The volume {path} has no spacing: its header lacks {' and '.join(_SPACING_KEYS[kind])}."
    )


def _check_lengths(path: str, key: str, text: str) -> None:
    """Lengths, or vectors in brackets; axes that are not in space are "none"."""
    vectors = re.findall(r"\(([^)]*)\)", text) or text.split()
    try:
        found = [np.array(v.split(","), np.float64) for v in vectors if v != "none"]
    except ValueError:
        found = [np.zeros(1)]
    lengths = [float(np.linalg.norm(v)) for v in found][:3]
    if not all(np.isfinite(length) and length > 0 for length in lengths):
        raise InputError(
            f"The volume {path} has no spacing: {key} is {text.strip()!r}; expected lengths above "
            "0, in mm."
        )


def _kind(path: str) -> str:
    return "nrrd" if path.lower().endswith(("nrrd", "nhdr")) else "mha"


def _fields(path: str) -> dict[str, str]:
    """Fields of a text header."""
    with open(path, "rb") as file:
        text = file.read(_HEADER_BYTES)
    if _kind(path) == "nrrd":
        if not text.startswith(b"NRRD"):
            raise InputError(f"The volume {path} is no NRRD file.")
        text = re.split(rb"\r?\n\r?\n", text, maxsplit=1)[0]
    else:
        found = re.match(rb".*?ElementDataFile[^\n]*", text, re.DOTALL)
        if not found:
            raise InputError(f"The volume {path} is no MetaImage file.")
        text = found[0]
    pairs = (
        re.split(r"\s*[:=]\s*", line, maxsplit=1)
        for line in text.decode("latin-1").splitlines()
        if re.match(r"[\w ]+[:=]", line)
    )
    return {key.strip(): value.strip() for key, value in pairs}
