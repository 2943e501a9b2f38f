"""Masks of COCO annotations: polygons and both kinds of run lengths, to arrays.

Polygons cover the same pixels as with COCO's own tools: their outline is drawn on a grid five times
as fine, and a pixel is inside if an odd number of crossings of its column lies at or above it.

Source: format of `instances_*.json`, cocodataset.org/#format-data; `pycocotools` 2.0.11 as the
reference of the tests' vectors.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxad.errors import InputError

_FINE = 5  # Grid lines per pixel.


def decode(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The mask of one annotation.

    Args:
        segmentation: A list of polygons `[x1, y1, x2, y2, …]`, in pixels, whose union counts; or
            `{"size": [height, width], "counts": …}` with a list of run lengths or COCO's text.
        height: Of the image, pixels.
        width: Of the image, pixels.

    Returns:
        bool `[height, width]`.

    Raises:
        InputError: If the annotation is none of these, or of another size.
    """
    if not isinstance(segmentation, Mapping):
        mask = np.zeros((height, width), bool)
        for polygon in segmentation:
            mask |= decode_polygon(polygon, height, width)
        return mask
    if list(segmentation.get("size", ())) != [height, width]:
        raise InputError(
            f"run lengths are of size {segmentation.get('size')}, the image of {[height, width]}."
        )
    counts = segmentation.get("counts")
    runs = text_to_runs(counts) if isinstance(counts, str | bytes) else counts
    return decode_runs(runs, height, width)


def decode_runs(runs: Sequence[int], height: int, width: int) -> np.ndarray:
    """Uncompressed run lengths, column by column, that begin with the number of zeros.

    Args:
        runs: Run lengths whose sum is the number of pixels.
        height: Of the image.
        width: Of the image.

    Returns:
        bool `[height, width]`.

    Raises:
        InputError: If the runs do not fill the image.
    """
    runs = np.asarray(runs if runs is not None else [], np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        raise InputError(
            f"run lengths cover {int(runs.sum())} pixels; expected {height} x {width}."
        )
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def text_to_runs(text: str | bytes) -> list[int]:
    """Run lengths from COCO's text: five bits per character, from the third run on as differences
    to the run before the previous one.

    Args:
        text: ASCII characters from 48 on.

    Returns:
        The run lengths.

    Raises:
        InputError: If the text has other characters or ends within a number.
    """
    data = text.encode("latin-1", "replace") if isinstance(text, str) else text
    runs: list[int] = []
    value = shift = 0
    for character in data:
        bits = character - 48
        if not 0 <= bits < 64:
            raise InputError(f"run lengths hold the character {chr(character)!r}.")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue  # More of this number follows.
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise InputError("run lengths end within a number.")
    return runs


def decode_polygon(polygon: Sequence[float], height: int, width: int) -> np.ndarray:
    """The pixels inside one polygon, by the rule of COCO's tools.

    Args:
        polygon: `[x1, y1, x2, y2, …]`, in pixels.
        height: Of the image.
        width: Of the image.

    Returns:
        bool `[height, width]`.

    Raises:
        InputError: If the numbers are no points.
    """
    points = np.asarray(polygon, np.float64)
    if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
        raise InputError(
            f"a polygon of {np.size(points)} numbers; expected at least 3 points x, y."
        )
    corners = np.trunc(points.reshape(-1, 2) * _FINE + 0.5).astype(np.int64)
    x, y = _outline(corners, np.roll(corners, -1, axis=0))
    # Where the outline enters another fine column; of the two, the middle one of a pixel counts.
    moved = np.flatnonzero(np.diff(x))
    column = (np.minimum(x[moved], x[moved + 1]) + 0.5) / _FINE - 0.5
    row = (np.minimum(y[moved], y[moved + 1]) + 0.5) / _FINE - 0.5
    inside = (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    mask = np.zeros((height, width), bool)
    if not inside.any():
        return mask
    row = np.ceil(np.clip(row[inside], 0, height)).astype(np.int64)
    column = column[inside].astype(np.int64)
    first, last = column.min(), column.max() + 1  # Nothing is inside the other columns.
    size = height * int(last - first)
    counts = np.bincount((column - first) * height + row, minlength=size + 1)[:size]
    mask[:, first:last] = (np.cumsum(counts) % 2 == 1).reshape(-1, height).T
    return mask


def _outline(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of the fine grid along all edges: each edge stepped along its longer side."""
    change = np.abs(end - start)
    steep = change[:, 1] > change[:, 0]
    length = change.max(axis=1)
    main = steep.astype(np.int64)  # Axis of the steps.
    rows = np.arange(len(start))
    # Stepped from the smaller to the larger coordinate, so that an edge does not depend on its
    # direction; listed in the direction of the polygon.
    flipped = start[rows, main] > end[rows, main]
    low = np.where(flipped[:, None], end, start)
    high = np.where(flipped[:, None], start, end)
    rise = (high - low)[rows, 1 - main]
    slope = rise / np.maximum(length, 1)
    edge = np.repeat(rows, length + 1)
    place = np.arange(len(edge)) - np.repeat(np.cumsum(length + 1) - (length + 1), length + 1)
    step = np.where(flipped[edge], length[edge] - place, place)
    along = low[edge, main[edge]] + step
    across = np.trunc(low[edge, 1 - main[edge]] + slope[edge] * step + 0.5).astype(np.int64)
    return np.where(steep[edge], across, along), np.where(steep[edge], along, across)
