"""Reads one scene: image, class codes and truth of anomalies."""

import dataclasses

import numpy as np

from jaxad.data import image_files
from jaxad.data.scene_classes import OUTLIER, UNKNOWN, VOID, Codes
from jaxad.data.scene_files import Scene
from jaxad.errors import InputError


@dataclasses.dataclass(frozen=True)
class SceneReader:
    """Reads a scene.

    Attributes:
        scenes: Files of each.
        codes: What stored ids mean.
        labels: int64 `[n]`.
        size: Height and width to resize to; None for its own.
        training: If so there is no `anomaly`, and outliers are errors.
    """

    scenes: tuple[Scene, ...]
    codes: Codes
    labels: np.ndarray
    size: tuple[int, int] | None
    training: bool

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        """The record of scene i."""
        scene = self.scenes[i]
        segments, anomaly = self.maps(i)
        image = image_files.read_image(scene.image, self.size)
        if image.shape[:2] != segments.shape:
            raise InputError(sizes_differ(scene, image.shape[:2], segments.shape))
        record = {"image": image, "segments": segments, "label": np.int32(self.labels[i])}
        return record if self.training else {**record, "anomaly": anomaly}

    def maps(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Segments and anomaly of scene i, uint8 `[H, W]`, without reading its image."""
        scene = self.scenes[i]
        segments, anomaly = read_maps(scene, self.codes)
        if self.training:
            check_normal(scene, segments)
        resized = (image_files.resize_nearest(codes, self.size) for codes in (segments, anomaly))
        return tuple(resized)


def read_maps(scene: Scene, codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a scene's label map.

    Args:
        scene: Its files.
        codes: What stored ids mean.

    Returns:
        Segments and anomaly, uint8 `[H, W]`; void outside the region of interest.

    Raises:
        InputError: If a file cannot be read, or the map holds ids outside the table: names them.
    """
    ids = image_files.read_ids(scene.label)
    low = ids.astype(np.uint8, copy=False)
    segments = _translated(low, codes.segments)
    unknown = segments == UNKNOWN
    if low is not ids:
        unknown |= low != ids
    if unknown.any():
        values, counts = np.unique(ids[unknown], return_counts=True)
        texts = [f"{v} ({c} pixels)" for v, c in zip(values[:8], counts[:8], strict=True)]
        more = f" and {len(values) - 8} more" if len(values) > 8 else ""
        raise InputError(
            f"The label map {scene.label} holds ids outside the class table: {', '.join(texts)}"
            f"{more}; known are {_ranges(np.flatnonzero(codes.segments != UNKNOWN))}."
        )
    anomaly = _translated(low, codes.anomaly)
    if scene.region:
        region = image_files.read_ids(scene.region)
        if region.shape != segments.shape:
            raise InputError(
                f"The region of interest {scene.region} has size {region.shape}, its label map "
                f"{segments.shape}."
            )
        segments[region == 0] = VOID
        anomaly[region == 0] = VOID
    return segments, anomaly


def check_normal(scene: Scene, segments: np.ndarray) -> None:
    """Raises an `InputError` if a training scene shows anomalies.

    Args:
        scene: Its files.
        segments: Its codes.
    """
    if (segments == OUTLIER).any():
        raise InputError(
            f"The label map {scene.label} holds ids of anomalies: training scenes must be normal."
        )


def sizes_differ(scene: Scene, image: tuple[int, ...], label: tuple[int, ...]) -> str:
    """The text of an error.

    Args:
        scene: Its files.
        image: Height and width of its image.
        label: Height and width of its label map.
    """
    return (
        f"The image {scene.image} has {image[0]} x {image[1]} pixels (height x width), its label "
        f"map {scene.label} {label[0]} x {label[1]}."
    )


def _translated(ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`table[ids]` of uint8, several times as fast."""
    codes = bytearray(np.ascontiguousarray(ids)).translate(table.tobytes())
    return np.frombuffer(codes, np.uint8).reshape(ids.shape)


def _ranges(ids: np.ndarray) -> str:
    """Ids in short: 0-18, 254-255."""
    runs = np.split(ids, np.flatnonzero(np.diff(ids) > 1) + 1)
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs if len(r))
