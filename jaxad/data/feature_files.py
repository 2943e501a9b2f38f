"""Snippet features on disk: which files a list names, what they hold, and one video's array.

Three layouts are in use:

- "per_video": one `.npy` per video, `[T, N, D]`, `[N, T, D]` or `[T, D]`;
- "per_crop": one `.npy` `[T, D]` per video and crop, `<video>__0.npy` … `<video>__4.npy`, in
  consecutive lines of the list;
- "c3d_text": one text file per video, already averaged to 32 lines of D numbers.

Indexing reads nothing but the headers of `.npy` files; arrays are memory-mapped when a video is
read. Pickled arrays are refused: loading them can run code.
"""

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxad.data import frame_truth
from jaxad.errors import InputError

LAYOUTS = ("per_video", "per_crop", "c3d_text")
AXES = ("TND", "NTD")
CROPS = ("all", "first", "center")
C3D_SEGMENTS = 32

_SUFFIXES = {"per_video": "_i3d", "per_crop": "", "c3d_text": "_C"}
_C3D_SIZE = 4096
_LISTED = 20  # Most files that one error names.


class Layout(NamedTuple):
    """How features lie on disk.

    Attributes:
        kind: One of `LAYOUTS`.
        axes: Axis order of three-dimensional "per_video" arrays, one of `AXES`.
        suffix: End of file names that is no part of the video's name; None for the usual one.
        crop_files: Files per video of "per_crop".
        crops: Which crops to read, one of `CROPS`.
        feature_size: D; None to take that of the first file for all.
    """

    kind: str = "per_video"
    axes: str = "TND"
    suffix: str | None = None
    crop_files: int = 5
    crops: str = "all"
    feature_size: int | None = None


class Video(NamedTuple):
    """One video's features on disk.

    Attributes:
        name: Video name.
        paths: Its file, or its files in the order of crops.
        snippets: T as stored.
        crops: N as stored.
        size: D.
        shape: Shape of each of its arrays as stored.
        file_bytes: Bytes of all its files.
    """

    name: str
    paths: tuple[str, ...]
    snippets: int
    crops: int
    size: int
    shape: tuple[int, ...]
    file_bytes: int


def read_list(path: str) -> list[str]:
    """The file names of a list, one per line.

    Published lists hold absolute paths of their authors' machines, POSIX or with a drive letter and
    backslashes: only the base name counts.

    Args:
        path: Text file.

    Returns:
        Base names in order; empty lines are left out.

    Raises:
        InputError: If the list is missing or empty.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise InputError(
            f"The list {path} cannot be read ({error.strerror}); expected a text file that names "
            "one feature file per line."
        ) from None
    names = [re.split(r"[\\/]", line)[-1] for line in lines if line]
    if not names:
        raise InputError(f"The list {path} is empty; expected one feature file per line.")
    return names


def video_name(base_name: str, layout: Layout) -> str:
    """The video that a feature file belongs to.

    Args:
        base_name: File name without folder.
        layout: Its layout.

    Returns:
        The name without extension, suffix and, for "per_crop", crop number.
    """
    name = frame_truth.stem(base_name)
    if layout.kind == "per_crop":
        name = re.sub(r"__\d+$", "", name)
    suffix = _SUFFIXES[layout.kind] if layout.suffix is None else layout.suffix
    return name.removesuffix(suffix) or name


def index(list_path: str, roots: Sequence[str], layout: Layout) -> list[Video]:
    """Finds the files that a list names and reads their headers.

    Args:
        list_path: The list.
        roots: Folders to look the base names up in, the first that has one counts.
        layout: Layout of the files.

    Returns:
        Videos in the order of the list.

    Raises:
        InputError: If the list or a folder is missing, or, with all files at fault listed, if files
            are missing, unreadable, pickled, truncated, empty or of another shape or width, or a
            video is named twice.
    """
    groups = _groups(list_path, layout)
    paths = _find([base for _, bases in groups for base in bases], list_path, roots)
    if layout.kind == "c3d_text":
        return [_text_video(name, paths[bases[0]], layout) for name, bases in groups]
    headers = _headers(paths, layout)
    _check_widths(headers, layout)
    videos = [_video(name, [headers[base] for base in bases], layout) for name, bases in groups]
    _check_crops(videos, list_path, layout)
    return videos


def load(video: Video, layout: Layout) -> np.ndarray:
    """One video's features with the wanted crops, memory-mapped where that is possible.

    Args:
        video: The video.
        layout: Its layout.

    Returns:
        `[T, N, D]` in the dtype on disk; text as float32.

    Raises:
        InputError: If a file has vanished or changed since it was indexed, or a text file does not
            hold 32 lines of D numbers.
    """
    if layout.kind == "c3d_text":
        return _load_text(video)[:, None]
    crop = chosen_crop(video.crops, layout)
    if layout.kind == "per_crop":
        paths = video.paths if crop is None else video.paths[crop : crop + 1]
        return np.stack([_load_array(path, video.shape) for path in paths], axis=1)
    array = _load_array(video.paths[0], video.shape)
    array = array[:, None] if array.ndim == 2 else array
    array = array.swapaxes(0, 1) if _crops_first(video.shape, layout) else array
    return array if crop is None else array[:, crop : crop + 1]


def chosen_crop(stored: int, layout: Layout) -> int | None:
    """Position of the one crop to read, None for all.

    The centre is crop 0 in the files of XD-Violence, and the fifth of torchvision's five or ten.

    Args:
        stored: Crops N on disk.
        layout: The layout.

    Returns:
        A position below `stored`, or None.

    Raises:
        InputError: If the centre is wanted and its place among so many crops is not known.
    """
    if layout.crops == "all":
        return None
    if layout.crops == "first" or stored == 1 or (layout.kind, stored) == ("per_crop", 5):
        return 0
    if layout.kind == "per_video" and stored in (5, 10):
        return 4
    raise InputError(
        f"crops='center' is known for 1, 5 or 10 crops in one file or 5 crop files, found {stored} "
        f"crops in layout {layout.kind!r}; use crops='all' or crops='first'."
    )


def first_non_finite(rows: np.ndarray) -> str | None:
    """Where features are NaN, infinite or beyond float32.

    Args:
        rows: `[T, N, D]`.

    Returns:
        Value and place of the first such entry, None if there is none.
    """
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(np.asarray(rows, np.float32))
    if not bad.any():
        return None
    t, n, d = np.unravel_index(int(bad.argmax()), bad.shape)
    return f"{rows[t, n, d]} at snippet {t}, crop {n}, feature {d} ({int(bad.sum())} in all)"


def listed(items: Iterable[str], separator: str = "\n  ") -> str:
    """All items, or the first 20 and how many there are besides."""
    items = list(items)
    more = [f"… and {len(items) - _LISTED} more"] if len(items) > _LISTED else []
    return separator + separator.join(items[:_LISTED] + more)


class _Header(NamedTuple):
    path: str
    shape: tuple[int, ...]
    file_bytes: int


def _groups(list_path: str, layout: Layout) -> list[tuple[str, list[str]]]:
    """Videos in order, each with its files in the order of crops."""
    bases = [
        base if os.path.splitext(base)[1] == _extension(layout) else base + _extension(layout)
        for base in read_list(list_path)
    ]
    count = layout.crop_files if layout.kind == "per_crop" else 1
    if len(bases) % count:
        raise InputError(
            f"{list_path} names {len(bases)} files; with {count} crop files per video the number "
            f"must be a multiple of {count}."
        )
    groups = []
    for start in range(0, len(bases), count):
        own = bases[start : start + count]
        name = video_name(own[0], layout)
        if layout.kind == "per_crop" and [_crop_key(base, layout) for base in own] != [
            (name, crop) for crop in range(count)
        ]:
            raise InputError(
                f"{list_path}, line {start + 1}: expected {count} lines {name}__0.npy … "
                f"{name}__{count - 1}.npy in order, found {', '.join(own)}."
            )
        groups.append((name, own))
    seen: set[str] = set()
    twice = [name for name, _ in groups if name in seen or seen.add(name)]
    if twice:
        raise InputError(f"{list_path} names videos more than once:{listed(twice)}")
    return groups


def _crop_key(base: str, layout: Layout) -> tuple[str, int]:
    number = re.search(r"__(\d+)$", frame_truth.stem(base))
    return video_name(base, layout), int(number[1]) if number else -1


def _extension(layout: Layout) -> str:
    return ".txt" if layout.kind == "c3d_text" else ".npy"


def _find(bases: Sequence[str], list_path: str, roots: Sequence[str]) -> dict[str, str]:
    paths: dict[str, str] = {}
    for root in reversed(roots):
        try:
            present = os.listdir(root)
        except OSError as error:
            raise InputError(
                f"The feature folder {root} cannot be read ({error.strerror})."
            ) from None
        paths.update((base, os.path.join(root, base)) for base in present)
    missing = [base for base in bases if base not in paths]
    if missing:
        raise InputError(
            f"{len(missing)} of the {len(bases)} feature files named in {list_path} do not exist "
            f"in {' or '.join(roots)}:{listed(missing)}"
        )
    return {base: paths[base] for base in bases}


def _headers(paths: dict[str, str], layout: Layout) -> dict[str, _Header]:
    headers, faults = {}, []
    for base, path in paths.items():
        try:
            headers[base] = _header(path, layout)
        except InputError as error:
            faults.append(str(error))
    _raise_faults(faults, len(paths))
    return headers


def _header(path: str, layout: Layout) -> _Header:
    """Shape of a `.npy` array, checked as far as header and file size tell."""
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            reader = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, dtype = reader(file)
            start, file_bytes = file.tell(), os.fstat(file.fileno()).st_size
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"{path} is not a readable .npy array ({error}).") from None
    if dtype.hasobject:
        raise InputError(
            f"{path} holds pickled Python objects, which are not loaded because they can run code. "
            "If you trust its origin, convert it once: numpy.save(path, numpy.stack("
            "[numpy.asarray(row, 'float32') for row in numpy.load(path, allow_pickle=True)]))."
        )
    if dtype.kind not in "fiu":
        raise InputError(f"{path} holds {dtype}; expected real numbers.")
    needed = start + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if file_bytes != needed:
        raise InputError(
            f"{path} has {file_bytes} bytes, but its header (shape {shape}, {dtype}) needs "
            f"{needed}: the file is truncated or damaged."
        )
    expected = {
        "per_crop": "[T, D]",
        "per_video": "[N, T, D]" if layout.axes == "NTD" else "[T, N, D] or [T, D]",
    }[layout.kind]
    ranks = (2,) if layout.kind == "per_crop" else (2, 3)
    if len(shape) not in ranks:
        raise InputError(f"{path} has shape {shape}; expected {expected}.")
    if 0 in shape:
        raise InputError(f"{path} has shape {shape}: it holds no snippets.")
    return _Header(path, shape, file_bytes)


def _check_widths(headers: dict[str, _Header], layout: Layout) -> None:
    first = next(iter(headers.values()))
    size = layout.feature_size or first.shape[-1]
    origin = "" if layout.feature_size else f", that of {os.path.basename(first.path)}"
    faults = [
        f"{header.path} has features of width {header.shape[-1]} (shape {header.shape}); expected "
        f"{size}{origin}."
        for header in headers.values()
        if header.shape[-1] != size
    ]
    _raise_faults(faults, len(headers))


def _video(name: str, headers: Sequence[_Header], layout: Layout) -> Video:
    shape = headers[0].shape
    if layout.kind == "per_crop":
        if len({header.shape[0] for header in headers}) > 1:
            counts = ", ".join(f"{os.path.basename(h.path)} {h.shape[0]}" for h in headers)
            raise InputError(
                f"The crops of video {name} differ in their number of snippets: {counts}. Flow "
                "features are one snippet shorter than RGB: do not mix the two in one folder."
            )
        snippets, crops = shape[0], len(headers)
    elif len(shape) == 2:
        snippets, crops = shape[0], 1
    else:
        snippets, crops = (shape[1], shape[0]) if _crops_first(shape, layout) else shape[:2]
    size_on_disk = sum(header.file_bytes for header in headers)
    paths = tuple(header.path for header in headers)
    return Video(name, paths, snippets, crops, shape[-1], shape, size_on_disk)


def _crops_first(shape: tuple[int, ...], layout: Layout) -> bool:
    return layout.axes == "NTD" and len(shape) == 3


def _check_crops(videos: Sequence[Video], list_path: str, layout: Layout) -> None:
    for count in {video.crops for video in videos}:
        chosen_crop(count, layout)
    if layout.crops != "all":
        return
    counts = {count: list(group) for count, group in _by_crops(videos)}
    if len(counts) > 1:
        examples = "; ".join(
            f"{len(group)} files with {count}, such as {os.path.basename(group[0].paths[0])}"
            for count, group in list(counts.items())[:4]
        )
        raise InputError(
            f"The videos of {list_path} differ in their number of crops: {examples}. If the arrays "
            f"are stored as [{'T, N, D' if layout.axes == 'NTD' else 'N, T, D'}], set "
            f"axes={'TND' if layout.axes == 'NTD' else 'NTD'!r}; else crops='first' reads one crop."
        )


def _by_crops(videos: Sequence[Video]) -> Iterable[tuple[int, Iterable[Video]]]:
    return itertools.groupby(sorted(videos, key=lambda v: v.crops), key=lambda v: v.crops)


def _text_video(name: str, path: str, layout: Layout) -> Video:
    file_bytes = os.path.getsize(path)
    if file_bytes == 0:
        raise InputError(f"{path} is empty; expected {C3D_SEGMENTS} lines of numbers.")
    size = layout.feature_size or _C3D_SIZE
    return Video(name, (path,), C3D_SEGMENTS, 1, size, (C3D_SEGMENTS, size), file_bytes)


def _load_text(video: Video) -> np.ndarray:
    path = video.paths[0]
    try:
        rows = np.loadtxt(path, np.float32, ndmin=2)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not a readable table of numbers ({error}).") from None
    if rows.shape != video.shape:
        raise InputError(
            f"{path} holds {rows.shape[0]} lines of {rows.shape[1]} numbers; expected "
            f"{C3D_SEGMENTS} lines of {video.size}."
        )
    return rows


def _load_array(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Memory-maps an array that was indexed with this shape."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read any more ({error}).") from None
    if array.shape != shape:
        raise InputError(
            f"{path} has changed since the run started: its shape was {shape}, now {array.shape}."
        )
    return array


def _raise_faults(faults: Sequence[str], total: int) -> None:
    if faults:
        raise InputError(f"{len(faults)} of {total} feature files cannot be used:{listed(faults)}")
