"""Where the voxels of a volume lie in the patient, whatever order its file keeps them in.

World coordinates are millimetres along RAS: x to the patient's right, y to the front, z up. A
volume in canonical order has its axes along x, y and z, each in the direction in which the
coordinate grows: file axes are swapped and flipped, never interpolated. The axes of an oblique
volume go to the world axes they are closest to (all three at once: the assignment with the largest
sum of cosines), and `directions` keeps the rest of the turn.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import scipy.optimize

from jaxad.errors import InputError

_SPACING_TOLERANCE = 1e-3  # Of a spacing: headers store float32 or a few decimals.
_DIRECTION_TOLERANCE = 1e-2  # Of a cosine: half a degree turned, 1e-4 short.
_ORIGIN_TOLERANCE = 0.1  # Of a voxel.


@dataclasses.dataclass(frozen=True, eq=False)
class Header:
    """What is known of a volume without its voxels, in canonical order.

    Attributes:
        path: File or folder, for messages.
        shape: Voxels along x, y and z, and frames in time if there are several.
        spacing: Millimetres between voxels along x, y and z.
        directions: float64 `[3, 3]`; column i is the unit vector along array axis i, in RAS.
        origin: float64 `[3]`; position of the first voxel, millimetres in RAS.
        dtype: Of the voxels as stored.
        file_axes: Canonical axis of each axis of the file: (0, 1, 2) if nothing was swapped.
        file_signs: -1 for each axis of the file that was flipped, else 1.
        times: Positions in time of the frames; () if there are three axes.
    """

    path: str
    shape: tuple[int, ...]
    spacing: tuple[float, float, float]
    directions: np.ndarray
    origin: np.ndarray
    dtype: np.dtype
    file_axes: tuple[int, int, int] = (0, 1, 2)
    file_signs: tuple[int, int, int] = (1, 1, 1)
    times: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Volume:
    """A volume in canonical order.

    Attributes:
        array: Voxels `[x, y, z]`, or `[x, y, z, frames]` of a file with several frames, even if
            one was read.
        header: Of this array.
        names: Stored value by name of segment, where the file names its segments.
    """

    array: np.ndarray
    header: Header
    names: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxels along x, y and z."""
        return self.header.spacing

    @property
    def path(self) -> str:
        """File or folder it came from."""
        return self.header.path


class Stored(NamedTuple):
    """A volume as a reader of one format finds it: geometry now, voxels when they are asked for.

    Attributes:
        shape: Voxels along the three axes of the file, and frames if there are several.
        affine: float64 `[4, 4]` from indices of the file to millimetres in RAS.
        dtype: Of the voxels as stored.
        voxels: Gives `[i, j, k]`, or with frames `[i, j, k, len(frames)]`, in the file's order.
            Takes the frames to read, positions in time, or None for all.
        names: As for `Volume`.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    dtype: np.dtype
    voxels: Callable[[tuple[int, ...] | None], np.ndarray]
    names: Mapping[str, int]


def affine(spacing: np.ndarray, directions: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """From voxel indices to world coordinates.

    Args:
        spacing: `[3]`, millimetres.
        directions: `[3, 3]`, unit vectors in columns.
        origin: `[3]`, position of the first voxel.

    Returns:
        float64 `[4, 4]`.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(directions, np.float64) * np.asarray(spacing, np.float64)
    matrix[:3, 3] = origin
    return matrix


def header(path: str, stored: Stored) -> Header:
    """The header in canonical order.

    Args:
        path: Of the file, for messages.
        stored: As a reader found it.

    Returns:
        Its header; spacing to six decimals, which drops the tail of float32.

    Raises:
        InputError: If the volume has no voxels, not three or four axes, or no usable spacing.
    """
    shape = tuple(int(n) for n in stored.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4):
        raise InputError(
            f"The volume {path} has {len(shape)} axes {shape}; expected three in space, and at "
            "most one more in time."
        )
    if 0 in shape:
        raise InputError(f"The volume {path} has shape {shape}: it holds no voxels.")
    columns = np.asarray(stored.affine, np.float64)[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    if not np.isfinite(stored.affine).all() or (spacing <= 0).any():
        raise InputError(
            f"The volume {path} has spacing {_numbers(spacing)} mm; expected three lengths above 0."
        )
    directions = columns / spacing
    if abs(np.linalg.det(directions)) < 0.1:
        raise InputError(
            f"The volume {path} has axes that lie in one plane: directions "
            f"{np.round(directions, 3).tolist()}."
        )
    axes, signs = _closest(directions)
    order = np.argsort(axes)  # File axis of each canonical axis.
    flipped = np.where(np.asarray(signs) < 0, np.asarray(shape[:3]) - 1, 0)
    origin = stored.affine[:3, 3] + columns @ flipped
    return Header(
        path=path,
        shape=tuple(shape[i] for i in order) + shape[3:],
        spacing=tuple(round(float(spacing[i]), 6) for i in order),
        directions=(directions * signs)[:, order],
        origin=origin,
        dtype=np.dtype(stored.dtype),
        file_axes=axes,
        file_signs=signs,
        times=tuple(range(shape[3])) if len(shape) > 3 else (),
    )


def canonical(array: np.ndarray, header: Header) -> np.ndarray:
    """Voxels in canonical order.

    Args:
        array: In the order of the file, `[i, j, k]` or `[i, j, k, frames]`.
        header: Of the same volume.

    Returns:
        A view `[x, y, z]` or `[x, y, z, frames]`.
    """
    flips = tuple(slice(None, None, sign) for sign in header.file_signs)
    order = [int(i) for i in np.argsort(header.file_axes)]
    return array[flips].transpose(*order, *range(3, array.ndim))


def differences(one: Header, other: Header) -> list[str]:
    """In what the grids of an image and its labels differ, in words; frames are not compared.

    Args:
        one: Of the image.
        other: Of the labels.

    Returns:
        One text per property that differs by more than rounding: spacing by 0.1 %, directions by
        0.01 of a cosine, the origin by a tenth of a voxel.
    """
    found = []
    if one.shape[:3] != other.shape[:3]:
        found.append(f"shape {one.shape[:3]} against {other.shape[:3]}")
    if not np.allclose(one.spacing, other.spacing, rtol=_SPACING_TOLERANCE, atol=0):
        found.append(f"spacing {_numbers(one.spacing)} against {_numbers(other.spacing)} mm")
    if np.abs(one.directions - other.directions).max() > _DIRECTION_TOLERANCE:
        turned = (np.round(h.directions, 3).tolist() for h in (one, other))
        found.append("directions {} against {}".format(*turned))
    elif np.abs(_steps(one, other)).max() > _ORIGIN_TOLERANCE:
        found.append(f"origin {_numbers(one.origin)} against {_numbers(other.origin)} mm")
    return found


def pasted(labels: Volume, image: Header) -> Volume:
    """Labels of a part of an image's grid, on the whole of it.

    Some formats of segmentations store only the slices or the box that holds something.

    Args:
        labels: On a grid of the same spacing and directions, shifted by whole voxels.
        image: Of the image.

    Returns:
        Labels on the grid of the image, 0 where the file says nothing; the same volume if its grid
        is that of the image already, or does not fit into it.
    """
    own = labels.header
    like = dataclasses.replace(own, shape=image.shape[:3], origin=image.origin)
    if not differences(image, own) or differences(image, like):
        return labels
    steps = _steps(image, own)
    start = np.round(steps).astype(int)
    stop = start + own.shape[:3]
    outside = (start < 0).any() or (stop > image.shape[:3]).any()
    if outside or np.abs(steps - start).max() > _ORIGIN_TOLERANCE:
        return labels
    array = np.zeros(image.shape[:3], labels.array.dtype)
    array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = labels.array
    return dataclasses.replace(labels, array=array, header=like)


def _steps(one: Header, other: Header) -> np.ndarray:
    """From the origin of one grid to that of the other, in voxels of the first."""
    matrix = one.directions * np.asarray(one.spacing)
    return np.linalg.solve(matrix, other.origin - one.origin)


def _closest(directions: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """World axis and sign of each array axis."""
    # Rounded, so that an image and its labels at 45 degrees do not part over the last bit.
    world, array = scipy.optimize.linear_sum_assignment(-np.abs(np.round(directions, 4)))
    axes = tuple(int(world[np.flatnonzero(array == i)[0]]) for i in range(3))
    signs = tuple(1 if directions[axes[i], i] >= 0 else -1 for i in range(3))
    return axes, signs


def _numbers(values) -> str:
    return "(" + ", ".join(f"{float(v):.6g}" for v in values) + ")"
