"""Slices of medical volumes as a network reads them: resampled, cropped, in [0, 1].

A slice is turned as it is usually shown, whatever the format: the patient's right at the left of
axial and coronal slices, the front at the left of sagittal ones; up (axial: the front) at the top.
Slices come in the order in which their coordinate grows: to the right, to the front, upwards. Those
of an oblique volume are cut along its own axes and named after the closest view.

Source: section 7 of the notes on document 000, whose resampling, padding and order of steps (crop,
then scale) are followed; intensities beside "slice_min_max" are ours.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxad.data import volume_geometry
from jaxad.data.slice_files import VOID
from jaxad.data.volume_geometry import Header, Volume
from jaxad.errors import InputError

VIEWS = ("acquisition", "axial", "coronal", "sagittal", "stored")
INTENSITIES = ("slice_min_max", "slice_percentiles", "volume_min_max")

_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
_TIE = 1e-2  # Spacings are equal up to this share.
_PERCENTILES = (0.5, 99.5)
_LARGEST = 1e38  # Differences of two such values are float32.


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What is done to every volume.

    Attributes:
        spacing: In-plane millimetres per pixel to resample to; the distance between slices stays.
        size: Height and width of the crop around the centre.
        view: "axial", "coronal", "sagittal"; "acquisition": across the axis of one voxel, else
            of the largest spacing (within 1 %: the last one of the file); or "stored": the third
            axis of the file, rows and columns as they lie in it, for headers not to be trusted.
        intensity: "slice_min_max": smallest and largest value of the cropped slice, its padding
            included, become 0 and 1, and a constant slice 0; "slice_percentiles": the same with
            its 0.5 and 99.5 % percentiles, values outside clipped; "volume_min_max": smallest and
            largest value of the whole volume (of its frame), so that slices keep their contrasts;
            padding is then 0.
        label_map: Class by stored label, or by name of segment for files that name them (upper
            and lower case alike; names go first if a file has some). None: no labels are read.
        background: Class of padding, and of voxels outside the named segments; None: the class of
            stored label 0, else one above the largest class.
        frames: Positions in time to take from volumes of four axes; () where all have three.
        small: What a slice smaller than the crop gets: "pad" (0 and background) or "error".
        empty: "keep" slices whose labels are all background, or "drop" them.
    """

    spacing: float
    size: tuple[int, int] = (224, 224)
    view: str = "acquisition"
    intensity: str = "slice_min_max"
    label_map: Mapping[int | str, int] | None = None
    background: int | None = None
    frames: tuple[int, ...] = ()
    small: str = "pad"
    empty: str = "keep"

    def __post_init__(self):
        """Raises an `InputError` that names the first option that is not valid."""
        classes = list((self.label_map or {}).values())
        whole = [*classes, *([] if self.background is None else [self.background])]
        length = isinstance(self.spacing, int | float) and 0 < self.spacing < np.inf
        rules = (
            ("spacing", length, "a length above 0, in mm"),
            ("size", len(self.size) == 2 and min(self.size) >= 1, "two lengths of at least 1"),
            ("view", self.view in VIEWS, f"one of {VIEWS}"),
            ("intensity", self.intensity in INTENSITIES, f"one of {INTENSITIES}"),
            ("label_map", self.label_map is None or bool(classes), "None, or hold a class"),
            ("label_map", all(0 <= c < VOID for c in whole), "classes from 0 to 254"),
            ("small", self.small in ("pad", "error"), "'pad' or 'error'"),
            ("empty", self.empty in ("keep", "drop"), "'keep' or 'drop'"),
        )
        for name, valid, expected in rules:
            if not valid:
                raise InputError(
                    f"Option {name} of medical volumes must be {expected}, got "
                    f"{getattr(self, name)!r}."
                )


def background_class(preparation: Preparation) -> int:
    """The class of padding; see `Preparation.background`.

    Raises:
        InputError: If there is no table of labels to take it from.
    """
    if preparation.background is not None:
        return preparation.background
    if not preparation.label_map:
        raise InputError("Labels need Preparation.label_map: the class of each stored label.")
    return preparation.label_map.get(0, max(preparation.label_map.values()) + 1)


def slices(
    volume: Volume,
    labels: Volume | None,
    preparation: Preparation,
    frames: tuple[int, ...] | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The slices of a volume.

    Args:
        volume: Image. With frames, the whole of it, or just these frames.
        labels: On the same grid, or None; of as many frames, or of one where one is taken.
        preparation: What to do.
        frames: Positions in time; None: those of the preparation.

    Returns:
        Images float32 `[n, H, W]` in [0, 1], and classes uint8 `[n, H, W]` or None; frame by frame,
        slices of each in the order of their coordinate.

    Raises:
        InputError: If voxels are not finite, grids differ, a label is outside the table, there are
            frames where none or others were expected, or a slice is smaller than the crop and may
            not be: names the file.
    """
    frames = preparation.frames if frames is None else frames
    check(volume.header, None if labels is None else labels.header, preparation, frames)
    array = _frames(volume, frames)
    usable = np.abs(array) <= _LARGEST  # False for NaN.
    if not usable.all():
        raise InputError(
            f"The volume {volume.path} has {usable.size - np.count_nonzero(usable)} voxels that "
            f"are NaN, infinite or beyond {_LARGEST:g}, of {usable.size}; expected numbers."
        )
    plane = _plane(volume.header, preparation)
    images = np.concatenate([_images(frame, plane, preparation) for frame in array])
    if labels is None:
        return images, None
    table = label_table(labels, preparation)
    classes = _classes(labels, _frames(labels, frames), table)
    background = background_class(preparation)
    return images, np.concatenate([_segments(c, plane, preparation, background) for c in classes])


def check(
    image: Header, labels: Header | None, preparation: Preparation, frames: tuple[int, ...]
) -> int:
    """Checks what headers tell, and counts slices.

    Args:
        image: Of the image.
        labels: Of its labels, or None.
        preparation: As for `slices`.
        frames: Positions in time; () for a volume of three axes.

    Returns:
        Slices, of all frames.

    Raises:
        InputError: Names all that is wrong.
    """
    faults = [_frame_fault(image, frames)]
    if labels is not None:
        differing = volume_geometry.differences(image, labels)
        if differing:
            faults.append(
                f"The labels {labels.path} are not on the grid of their image {image.path}: "
                f"{'; '.join(differing)}."
            )
        if labels.times or len(frames) > 1:
            faults.append(_frame_fault(labels, frames))
    plane = _plane(image, preparation)
    lengths = [length for length, _ in _outputs(plane, preparation)]
    if preparation.small == "error" and np.less(lengths, preparation.size).any():
        faults.append(
            f"The volume {image.path} has slices of {lengths[0]} x {lengths[1]} pixels (height x "
            f"width) at {preparation.spacing} mm; expected at least {preparation.size[0]} x "
            f"{preparation.size[1]}, as small='error'."
        )
    if any(faults):
        raise InputError(" ".join(filter(None, faults)))
    return image.shape[plane.axis] * max(len(frames), 1)


def kept(segments: np.ndarray | None, preparation: Preparation) -> np.ndarray | slice:
    """Which slices stay: an index into the arrays of `slices`.

    Args:
        segments: uint8 `[n, H, W]` or None.
        preparation: `empty` is heeded.

    Returns:
        bool `[n]`, or all.
    """
    if segments is None or preparation.empty == "keep":
        return slice(None)
    return (segments != background_class(preparation)).any(axis=(1, 2))


def label_table(labels: Volume, preparation: Preparation) -> dict[int, int]:
    """The class of each label that a file may hold.

    Args:
        labels: The file's names of segments count.
        preparation: Its table.

    Returns:
        Class by stored label.

    Raises:
        InputError: If the file has a segment of which the table says nothing.
    """
    background = background_class(preparation)
    entries = preparation.label_map or {}
    by_name = {key.casefold(): c for key, c in entries.items() if isinstance(key, str)}
    if not (by_name and labels.names):
        table = {int(key): c for key, c in entries.items() if not isinstance(key, str)}
        if not table:
            raise InputError(
                f"The labels {labels.path} do not name their segments; expected names, as the "
                f"table has: {', '.join(by_name)}."
            )
        return table
    unknown = [name for name in labels.names if name.strip().casefold() not in by_name]
    if unknown:
        raise InputError(
            f"The labels {labels.path} have segments outside the table: {', '.join(unknown)}; "
            f"known are {', '.join(by_name)}."
        )
    table = {value: by_name[name.strip().casefold()] for name, value in labels.names.items()}
    return {0: background, **table}


@dataclasses.dataclass(frozen=True)
class _Plane:
    """How to cut: canonical axis of slices, of rows and of columns, and which of them turn round.

    `lengths` and `spacing` are those of rows and columns.
    """

    axis: int
    rows: int
    columns: int
    flip: tuple[bool, bool, bool]
    lengths: tuple[int, int]
    spacing: tuple[float, float]


def _plane(header: Header, preparation: Preparation) -> _Plane:
    view = preparation.view
    if view == "stored":
        columns, rows, axis = header.file_axes
        signs = header.file_signs
        flip = (signs[2] < 0, signs[1] < 0, signs[0] < 0)
    else:
        axis = _acquisition_axis(header) if view == "acquisition" else _AXES[view]
        # Right to left, front to back and top to bottom is against all three coordinates.
        rows, columns, flip = {
            0: (2, 1, (False, True, True)),
            1: (2, 0, (False, True, True)),
            2: (1, 0, (False, True, True)),
        }[axis]
    lengths = (header.shape[rows], header.shape[columns])
    return _Plane(
        axis, rows, columns, flip, lengths, (header.spacing[rows], header.spacing[columns])
    )


def _acquisition_axis(header: Header) -> int:
    single = [axis for axis in range(3) if header.shape[axis] == 1]
    if len(single) == 1:
        return single[0]
    largest = max(header.spacing)
    tied = [axis for axis in header.file_axes if header.spacing[axis] >= largest * (1 - _TIE)]
    return tied[-1]


def _cut(array: np.ndarray, plane: _Plane) -> np.ndarray:
    """`[x, y, z]` to slices `[n, rows, columns]`."""
    turned = array.transpose(plane.axis, plane.rows, plane.columns)
    return turned[tuple(slice(None, None, -1 if flip else 1) for flip in plane.flip)]


def _outputs(plane: _Plane, preparation: Preparation) -> list[tuple[int, np.ndarray]]:
    """Resampled length and source coordinate of each resampled pixel, of rows and of columns."""
    found = []
    for n, spacing in zip(plane.lengths, plane.spacing, strict=True):
        outputs = max(round(n * spacing / preparation.spacing), 1)
        places = (np.arange(outputs) + 0.5) * preparation.spacing / spacing - 0.5
        found.append((outputs, places))
    return found


def _window(outputs: int, size: int) -> tuple[slice, slice]:
    """Which resampled pixels a crop around the centre takes, and where they go in it."""
    if outputs >= size:
        start = (outputs - size) // 2
        return slice(start, start + size), slice(0, size)
    start = (size - outputs) // 2
    return slice(0, outputs), slice(start, start + outputs)


def _images(array: np.ndarray, plane: _Plane, preparation: Preparation) -> np.ndarray:
    """Slices float32 `[n, H, W]` of one frame `[x, y, z]`."""
    resampled = _cut(array, plane).astype(np.float32)
    targets = []
    for axis, (outputs, places) in enumerate(_outputs(plane, preparation)):
        source, target = _window(outputs, preparation.size[axis])
        # Pixels outside the crop are never computed.
        resampled = _linear(resampled, places[source], axis + 1)
        targets.append(target)
    images = np.zeros((len(resampled), *preparation.size), np.float32)
    inside = images[:, targets[0], targets[1]]
    inside[...] = resampled
    if preparation.intensity == "volume_min_max":
        _scale(inside, np.float32(array.min()), np.float32(array.max()))
        return images
    if preparation.intensity == "slice_min_max":
        low, high = (f(images, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    else:
        low, high = np.percentile(images, _PERCENTILES, axis=(1, 2), keepdims=True)
    _scale(images, low.astype(np.float32), high.astype(np.float32))
    return images


def _scale(images: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """In place: low to 0, high to 1, clipped; 0 where both are the same. All are float32."""
    spread = high - low
    images -= low
    # Not times its inverse, which is infinite for the smallest spreads.
    images /= np.where(spread > 0, spread, 1)
    images *= spread > 0
    np.clip(images, 0, 1, out=images)


def _linear(array: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Values between neighbours along an axis; places beyond the ends take the end."""
    places = np.clip(places, 0, array.shape[axis] - 1)
    first = np.floor(places).astype(np.intp)
    second = np.minimum(first + 1, array.shape[axis] - 1)
    share = (places - first).astype(np.float32)
    share = share.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    before, after = (np.take(array, index, axis) for index in (first, second))
    return before + (after - before) * share  # In this form constants stay constant exactly.


def _segments(
    classes: np.ndarray, plane: _Plane, preparation: Preparation, background: int
) -> np.ndarray:
    """Classes uint8 `[n, H, W]` of one frame `[x, y, z]`, each of the nearest voxel."""
    cut = _cut(classes, plane)
    indices, targets = [], []
    for axis, (outputs, places) in enumerate(_outputs(plane, preparation)):
        source, target = _window(outputs, preparation.size[axis])
        nearest = np.floor(places[source] + 0.5).astype(np.intp)
        indices.append(np.clip(nearest, 0, plane.lengths[axis] - 1))
        targets.append(target)
    segments = np.full((len(cut), *preparation.size), background, np.uint8)
    segments[:, targets[0], targets[1]] = cut[:, indices[0][:, None], indices[1]]
    return segments


def _classes(labels: Volume, array: np.ndarray, table: Mapping[int, int]) -> np.ndarray:
    """Stored labels, whole numbers of any type, to classes uint8."""
    known = np.array(sorted(table), np.int64)
    classes = np.array([table[int(value)] for value in known], np.uint8)
    place = np.minimum(np.searchsorted(known, array), len(known) - 1)
    wrong = known[place] != array  # NaN as well.
    if wrong.any():
        values, counts = np.unique(array[wrong], return_counts=True)
        texts = [f"{v:g} ({c} voxels)" for v, c in zip(values[:8], counts[:8], strict=True)]
        more = f" and {len(values) - 8} more" if len(values) > 8 else ""
        raise InputError(
            f"The labels {labels.path} hold values outside the table: {', '.join(texts)}{more}; "
            f"known are {', '.join(map(str, known))}."
        )
    return classes[place]


def _frames(volume: Volume, frames: tuple[int, ...]) -> np.ndarray:
    """The chosen frames, `[frames, x, y, z]`."""
    if not volume.header.times:
        return volume.array[None]
    places = [volume.header.times.index(frame) for frame in frames]
    return np.moveaxis(volume.array, 3, 0)[places]


def _frame_fault(header: Header, frames: tuple[int, ...]) -> str:
    if header.times and not frames:
        return (
            f"The volume {header.path} has {len(header.shape)} axes {header.shape}; expected "
            "three, or frames to be chosen from the fourth."
        )
    times = header.times or (0,)
    if not set(frames) <= set(times):
        return (
            f"The volume {header.path} of shape {header.shape} has no frames {tuple(frames)}; "
            f"expected some of {times[0]} to {times[-1]}."
        )
    return ""
