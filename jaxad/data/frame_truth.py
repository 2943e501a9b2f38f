"""Frame-level truth of videos, from each form in which it is published.

All functions that build truth return uint8 vectors of 0 (normal) and 1 (anomalous), one value per
frame. Features cover whole snippets, so most are 16 T long for a video of T snippets.
Source: specs of document 004, chapters 8 and 9, "Data".
"""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.io

from jaxad.errors import InputError

FRAMES_PER_SNIPPET = 16


class Annotation(NamedTuple):
    """Events of one video.

    Attributes:
        name: Video name without folder and extension.
        category: Anomaly class as written in the file, "Normal" for normal ones; "" if not given.
        events: int64 `[events, 2]`, start and end frame.
    """

    name: str
    category: str
    events: np.ndarray


def from_mask(
    mask: np.ndarray, snippets: int, *, frames_per_snippet: int = FRAMES_PER_SNIPPET
) -> np.ndarray:
    """ShanghaiTech: a mask of the true length, its last value repeated to whole snippets.

    Args:
        mask: `[frames]` of 0 and 1. A mask longer than the snippets is cut.
        snippets: Number of snippets T.
        frames_per_snippet: Frames per snippet.

    Returns:
        uint8 `[frames_per_snippet · T]`.

    Raises:
        ValueError: If the mask is not one non-empty vector of 0 and 1.
    """
    if mask.ndim != 1 or len(mask) == 0:
        raise ValueError(f"A frame mask is a non-empty vector, got shape {mask.shape}.")
    _check_binary(mask)
    positions = np.minimum(np.arange(snippets * frames_per_snippet), len(mask) - 1)
    return mask[positions].astype(np.uint8)


def from_inclusive_events(
    events: np.ndarray, snippets: int, *, frames_per_snippet: int = FRAMES_PER_SNIPPET
) -> np.ndarray:
    """UCF-Crime: frames start … end of each event, both included, clipped to whole snippets.

    Args:
        events: Integers `[events, 2]`, frames counted from 0.
        snippets: Number of snippets T.
        frames_per_snippet: Frames per snippet.

    Returns:
        uint8 `[frames_per_snippet · T]`.
    """
    return _from_ranges(events, snippets * frames_per_snippet, after_end=1)


def from_exclusive_events(
    events: np.ndarray, snippets: int, *, frames_per_snippet: int = FRAMES_PER_SNIPPET
) -> np.ndarray:
    """XD-Violence: frames start … end - 1 of each event, clipped to whole snippets.

    Args:
        events: Integers `[events, 2]`, frames counted from 0.
        snippets: Number of snippets T; of a video's frames, `xd_snippets` are kept.
        frames_per_snippet: Frames per snippet.

    Returns:
        uint8 `[frames_per_snippet · T]`.
    """
    return _from_ranges(events, snippets * frames_per_snippet, after_end=0)


def xd_snippets(frames: int, *, frames_per_snippet: int = FRAMES_PER_SNIPPET) -> int:
    """Snippets of an XD-Violence video: the last frame is dropped, then the incomplete snippet."""
    return max(frames - 1, 0) // frames_per_snippet


def cut_flat(
    flat: np.ndarray,
    names: Sequence[str],
    snippets: Sequence[int],
    *,
    path: str = "The ground truth",
    frame_counts: Mapping[str, int] | None = None,
    frames_per_snippet: int = FRAMES_PER_SNIPPET,
) -> list[np.ndarray]:
    """Cuts a vector over all videos, as in the published `gt-*.npy`, at 16 T frames per video.

    Args:
        flat: `[16 Σ T]` of 0 and 1, videos in the order of `names`.
        names: Video names, for the error.
        snippets: Snippets T of each video.
        path: What to call the vector in the error.
        frame_counts: True frames by video name, if known: the error then names the first video
            whose features do not fit.
        frames_per_snippet: Frames per snippet.

    Returns:
        One uint8 `[16 T]` per video.

    Raises:
        InputError: If the vector has another length, is not one vector, or holds other values.
    """
    if flat.ndim != 1:
        raise InputError(f"{path} must be one vector over all frames, found shape {flat.shape}.")
    ends = np.cumsum(np.asarray(snippets, np.int64)) * frames_per_snippet
    expected = int(ends[-1]) if len(ends) else 0
    if len(flat) != expected:
        hint = _first_difference(names, snippets, frame_counts or {}, frames_per_snippet)
        raise InputError(
            f"{path} has {len(flat)} frames, but the features of the {len(names)} videos have "
            f"{expected // frames_per_snippet} snippets of {frames_per_snippet}, that is "
            f"{expected} frames. {hint}"
        )
    try:
        _check_binary(flat)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    return np.split(flat.astype(np.uint8), ends[:-1])


def check_lengths(
    names: Sequence[str],
    frames: Sequence[int],
    snippets: Sequence[int],
    *,
    frames_per_snippet: int = FRAMES_PER_SNIPPET,
) -> None:
    """Checks that true frame counts and features agree to one snippet.

    One snippet is allowed because extractors differ in what they do with the last, short one.

    Args:
        names: Video names.
        frames: True number of frames of each video.
        snippets: Snippets of each video's features.
        frames_per_snippet: Frames per snippet.

    Raises:
        InputError: Names the first video that differs by more, with both counts.
    """
    needed = -(-np.asarray(frames, np.int64) // frames_per_snippet)
    differing = np.flatnonzero(np.abs(needed - np.asarray(snippets, np.int64)) > 1)
    if len(differing):
        i = differing[0]
        raise InputError(
            f"Video {names[i]} has {frames[i]} frames, that is {needed[i]} snippets of "
            f"{frames_per_snippet}, but its features have {snippets[i]} snippets"
            f"{_and_others(len(differing) - 1)}. Features and truth come from different versions "
            "of the video."
        )


def check_labels(names: Sequence[str], labels: np.ndarray, truth: Sequence[np.ndarray]) -> None:
    """Checks that exactly the anomalous videos have anomalous frames.

    Args:
        names: Video names.
        labels: `[n]`, 0 normal, 1 anomalous.
        truth: Frame truth of each video.

    Raises:
        InputError: Names the first anomalous video without an anomalous frame, or else the first
            normal video with one.
    """
    positive = np.array([int(frames.sum()) for frames in truth], np.int64)
    missing = np.flatnonzero((np.asarray(labels) == 1) & (positive == 0))
    if len(missing):
        i = missing[0]
        raise InputError(
            f"Video {names[i]} is labelled anomalous, but none of its {len(truth[i])} frames is "
            f"marked anomalous{_and_others(len(missing) - 1)}. Check that the ground truth "
            "belongs to this list and follows its order."
        )
    unexpected = np.flatnonzero((np.asarray(labels) == 0) & (positive > 0))
    if len(unexpected):
        i = unexpected[0]
        raise InputError(
            f"Video {names[i]} is labelled normal, but {positive[i]} of its {len(truth[i])} frames "
            f"are marked anomalous{_and_others(len(unexpected) - 1)}. Check that the ground truth "
            "belongs to this list and follows its order."
        )


def read_ucf_text(path: str) -> dict[str, Annotation]:
    """Reads UCF-Crime lines `name class start end start end`, -1 for no event.

    Args:
        path: Text file, such as `Temporal_Anomaly_Annotation.txt`.

    Returns:
        Annotations by video name.

    Raises:
        InputError: If the file is missing or a line is malformed: names the line.
    """
    found = {}
    for number, fields in _fields_of_lines(path):
        if len(fields) < 4 or len(fields) % 2:
            raise _bad_line(path, number, fields, "name class start end [start end …]")
        _add(
            found,
            path,
            number,
            Annotation(stem(fields[0]), fields[1], _events(path, number, fields[2:])),
        )
    return found


def read_xd_text(path: str) -> dict[str, Annotation]:
    """Reads XD-Violence lines `name start end [start end …]`.

    Args:
        path: Text file.

    Returns:
        Annotations by video name; `category` is "".

    Raises:
        InputError: If the file is missing or a line is malformed: names the line.
    """
    found = {}
    for number, fields in _fields_of_lines(path):
        if len(fields) < 3 or len(fields) % 2 == 0:
            raise _bad_line(path, number, fields, "name start end [start end …]")
        _add(
            found, path, number, Annotation(stem(fields[0]), "", _events(path, number, fields[1:]))
        )
    return found


def read_ucf_mat(path: str) -> Annotation:
    """Reads one UCF-Crime Matlab annotation, struct `Annotation_file`.

    Args:
        path: File `<video>.mat` with fields `VideoName`, `Anno` and `EventName`.

    Returns:
        The annotation; `[-1 -1]` rows are left out.

    Raises:
        InputError: If the file is missing, no Matlab file, or lacks the struct.
    """
    try:
        file = scipy.io.loadmat(path, appendmat=False, squeeze_me=True, struct_as_record=False)
        record = file["Annotation_file"]
        name, category = str(record.VideoName), str(record.EventName)
        pairs = np.asarray(record.Anno, np.int64).reshape(-1, 2)
    except FileNotFoundError:
        raise InputError(f"The annotation {path} does not exist.") from None
    except Exception as error:  # scipy's reader meets damaged bytes with errors of many kinds.
        raise InputError(
            f"{path} is not a UCF-Crime annotation: expected a Matlab struct Annotation_file with "
            f"VideoName, EventName and Anno (pairs of frames), found {error!r}."
        ) from None
    return Annotation(stem(name), category, _known(pairs, path))


def stem(name: str) -> str:
    """Base name after the last `/` or backslash, without a video or feature file's extension."""
    base = name.strip().replace("\\", "/").rsplit("/", 1)[-1]
    root, extension = os.path.splitext(base)
    # Names may contain dots themselves (film titles in XD-Violence).
    return root if extension.lower() in _EXTENSIONS else base


_EXTENSIONS = (".avi", ".mat", ".mkv", ".mov", ".mp4", ".npy", ".txt")


def _from_ranges(events: np.ndarray, frames: int, *, after_end: int) -> np.ndarray:
    truth = np.zeros(frames, np.uint8)
    for start, end in np.asarray(events, np.int64).reshape(-1, 2):
        truth[max(start, 0) : max(end + after_end, 0)] = 1
    return truth


def _fields_of_lines(path: str) -> list[tuple[int, list[str]]]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = [(number, line.split()) for number, line in enumerate(file, 1)]
    except OSError as error:
        raise InputError(f"The annotation file {path} cannot be read ({error.strerror}).") from None
    return [(number, fields) for number, fields in lines if fields]


def _events(path: str, number: int, fields: Sequence[str]) -> np.ndarray:
    try:
        pairs = np.array([int(field) for field in fields], np.int64).reshape(-1, 2)
    except ValueError:
        raise _bad_line(path, number, fields, "whole numbers for frames") from None
    return _known(pairs, f"{path}, line {number}")


def _known(pairs: np.ndarray, where: str) -> np.ndarray:
    """Leaves out the -1 -1 of absent events; the rest must run forward."""
    events = pairs[~np.all(pairs == -1, axis=1)]
    bad = events[(events[:, 0] < 0) | (events[:, 1] < events[:, 0])]
    if len(bad):
        raise InputError(
            f"{where}: an event is a start and a later end frame, or -1 -1 for none; "
            f"found {bad[0, 0]} {bad[0, 1]}."
        )
    return events


def _add(found: dict[str, Annotation], path: str, number: int, annotation: Annotation) -> None:
    if annotation.name in found:
        raise InputError(f"{path}, line {number}: {annotation.name} is annotated twice.")
    found[annotation.name] = annotation


def _bad_line(path: str, number: int, fields: Sequence[str], expected: str) -> InputError:
    return InputError(
        f"{path}, line {number}: expected {expected}, found {' '.join(fields)[:120]!r}."
    )


def _check_binary(values: np.ndarray) -> None:
    other = values[(values != 0) & (values != 1)]  # NaN differs from both.
    if len(other):
        raise ValueError(f"frame truth must be 0 or 1, found {other[0]}.")


def _first_difference(
    names: Sequence[str],
    snippets: Sequence[int],
    frame_counts: Mapping[str, int],
    frames_per_snippet: int,
) -> str:
    for name, count in zip(names, snippets, strict=True):
        frames = frame_counts.get(name)
        if frames is not None and -(-frames // frames_per_snippet) != count:
            return (
                f"The first video that differs is {name}: {frames} frames, features of {count} "
                "snippets."
            )
    return "The list, its features and the ground truth must belong to the same release."


def _and_others(count: int) -> str:
    return f" (and {count} other videos likewise)" if count else ""
