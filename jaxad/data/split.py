"""What every source gives: named, labelled records of one split, read one at a time."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Split:
    """Random-access records of one split.

    Attributes:
        names: One name per record, unique within the split.
        labels: int `[n]`, 0 normal, 1 anomalous.
        read: Record by position, a dict of arrays without batch axis. Picklable, free of JAX.
        fingerprint: JSON values that change when the records or their order do.
        lengths: int `[n]`, where the first axis that varies (time) has that many entries; None if
            all records have one shape.
        time_axes: By array name, the axis of time, varying or not: batches then have `length`.
        classes: Name of the anomaly class per record ("" for normal ones), if the source knows it.
        frames: Frame truth per record, uint8 `[frames]` of 0 and 1, if the source knows it.
        frames_per_snippet: Frames that one snippet stands for.
        sizes: int `[n, 2]`, height and width, where images differ in size; None if all are alike.
        segment_classes: Names of the inlier classes of `segments`, by class id.
        palette: Their colours, uint8 `[K, 3]`, if the data set has some.
        class_groups: Group of each of `classes` that has one, such as "C1" for the OoD sets of
            another domain: the evaluation then gives means by group too.
        background: Which of `segment_classes` is no structure but all the rest; None if none is.
            Where it is given, the Dice of the others is measured.
        subjects: Patient per record, if the source knows it: means over patients are measured, and
            the subjects of the splits are kept with the run.
    """

    names: Sequence[str]
    labels: np.ndarray
    read: Callable[[int], dict[str, np.ndarray]]
    fingerprint: Mapping[str, Any]
    lengths: np.ndarray | None = None
    time_axes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    classes: Sequence[str] | None = None
    frames: Sequence[np.ndarray] | None = None
    frames_per_snippet: int = 16
    sizes: np.ndarray | None = None
    segment_classes: tuple[str, ...] | None = None
    palette: np.ndarray | None = None
    class_groups: Mapping[str, str] | None = None
    background: int | None = None
    subjects: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.names)
