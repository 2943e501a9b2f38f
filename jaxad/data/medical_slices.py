"""Slices of labelled medical volumes, and slices and pictures of other data sets to reject.

One data set is in-distribution: its patients are shared out to training, validation and test. The
test split goes on with any number of out-of-distribution (OoD) sets, each with a layout on disk
(`medical_layouts`), folder, view and in-plane spacing of its own, and with a group such as "C1".
Volumes are read once, into a cache of slices (`slice_cache`); an epoch reads that alone.

Layouts, class tables, patients and the headers of all volumes are checked when a source is opened,
before training.

Source: section 4.1 of the document as its notes give it (section 7): subjects 6:2:2, OoD sets used
whole, and an OoD set resampled to the spacing of its own kind.
"""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxad.data import (
    medical_labels,
    medical_layouts,
    medical_options,
    pictures,
    slice_cache,
    slice_shifts,
    subject_splits,
)
from jaxad.data.feature_files import listed
from jaxad.data.medical_files import Study
from jaxad.data.medical_options import Section
from jaxad.data.option_checks import absolute
from jaxad.data.split import Split
from jaxad.data.volume_slices import VOID, Preparation
from jaxad.errors import InputError

log = logging.getLogger(__name__)


def splits(
    *,
    in_distribution: Mapping[str, Any],
    ood: Mapping[str, Mapping[str, Any]],
    root: str = "",
    cache: str = "cache/medical",
    classes: Sequence[str] | None = None,
    size: tuple[int, int] = (224, 224),
    intensity: str = "slice_min_max",
    small: str = "pad",
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    split_seed: int = 0,
    split_file: str | None = None,
) -> dict[str, Split]:
    """Training and validation slices, and test slices followed by those of every OoD set.

    Records are `image` float32 `[H, W, 1]` in [0, 1], `segments` uint8 `[H, W]` (class, 255 void)
    and `label` int32, 1 for slices of OoD sets. Names are "SUBJECT/.../z012", those of OoD sets
    with the name of the set before it.

    A data set is a section of `layout` and `root` with the options of that layout, each a function
    of `medical_layouts`, and of these:

    - `spacing`: in-plane millimetres per pixel to resample to;
    - `view`, `empty`: as in `volume_slices.Preparation`; `empty` needs labels;
    - `labels`: stored label, or name of a segment in the file, or several, by class name; None for
      `classes.csv` in the folder of the data set. An OoD set needs no labels;
    - `every`: 1 takes all slices, n every n-th.

    An OoD set further has:

    - `group`: "C1" for another domain, "C2" another view, "C3" another condition, or any name;
    - `subjects`: "all", or "test": only patients of the in-distribution test split, for sets made
      of the same volumes. Patients who are in training too are counted in the log;
    - `shift`: one of `slice_shifts.SHIFTS`, or None;
    - or the layout "pictures": `root`, `images` (a folder within it), `pattern` of file names and
      `fit` (`pictures.Pictures`), for images without millimetres.

    Options that are None keep their defaults.

    Args:
        in_distribution: The data set to learn.
        ood: Sections by name; names are those of the metrics.
        root: Folder that the roots of all sets are relative to.
        cache: Folder of the cached slices, relative to the working directory; may be deleted.
        classes: Names, the background last; None for those of `classes.csv`, where one is named
            "background".
        size: Height and width of the crop around the centre, of all sets.
        intensity: As in `volume_slices.Preparation`.
        small: The same.
        shares: Of the patients, for training, validation and test.
        split_seed: Seed of that draw.
        split_file: JSON of {"train": [patients], "validation": [...], "test": [...]} to use
            instead, such as one that an earlier run wrote.

    Returns:
        Splits "train", "validation" and "test".

    Raises:
        InputError: If an option, folder, table, volume or the split file is not as it must be;
            names files and patients.
    """
    size = tuple(size)
    common = {"size": size, "intensity": intensity, "small": small}
    where = absolute(root, in_distribution.get("root") or "")
    classes, palette = medical_labels.class_names(classes, where)
    settings = _Settings(root, cache, tuple(classes), common)
    section = medical_options.in_distribution(in_distribution)
    studies = medical_layouts.find(section.layout, "in_distribution", root)
    _check_labelled(studies, section)
    patients = [study.subject for study in studies]
    if split_file:
        parts = subject_splits.read(split_file, patients)
    else:
        parts = subject_splits.draw(patients, shares=shares, seed=split_seed)
    own = _open(section, studies, "", settings)
    sets = {part: [_of_patients(own, parts[part])] for part in subject_splits.PARTS}
    for name, entry in ood.items():
        sets["test"].append(_open_ood(name, entry, parts, settings))
    groups = {name: str(entry["group"]) for name, entry in ood.items() if entry.get("group")}
    shared = {
        "segment_classes": tuple(classes),
        "palette": palette,
        "class_groups": groups,
        "background": len(classes) - 1,
    }
    return {part: _split(part, tuple(opened), size, shared) for part, opened in sets.items()}


def record_shapes(
    *, size: tuple[int, int] = (224, 224), **_: object
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and types of a record by name, from the options of `splits` alone."""
    return {
        "image": ((*size, 1), "float32"),
        "segments": (tuple(size), "uint8"),
        "label": ((), "int32"),
    }


def subject_split(opened: Mapping[str, Split]) -> dict[str, list[str]]:
    """The in-distribution patients of each split, as `split_file` reads them.

    Args:
        opened: What `splits` returned.

    Returns:
        Sorted names by part, JSON values.
    """
    return {
        part: sorted({s for s, c in zip(own.subjects, own.classes, strict=True) if c == ""})
        for part, own in opened.items()
    }


class _Settings(NamedTuple):
    """What all sets share."""

    root: str
    cache: str
    classes: tuple[str, ...]
    common: Mapping[str, Any]


class _Slices(NamedTuple):
    """An opened set.

    Attributes:
        name: Of the OoD set, "" for the in-distribution one.
        read: Image float32 `[H, W, 1]` and segments uint8 `[H, W]` or None, by position.
        rows: int64 `[n]`, positions in use.
        names: Of every position.
        subjects: Of every position.
        fingerprint: JSON values.
    """

    name: str
    read: Callable[[int], tuple[np.ndarray, np.ndarray | None]]
    rows: np.ndarray
    names: Sequence[str]
    subjects: Sequence[str]
    fingerprint: Mapping[str, Any]


def _check_labelled(studies: Sequence[Study], section: Section) -> None:
    lacking = [study.image for study in studies if study.label is None]
    if lacking:
        raise InputError(
            f"config.data.source.{section.field}: {len(lacking)} of {len(studies)} volumes have no "
            f"label map; expected one for each:{listed(lacking)}"
        )


def _check_complete(
    label_map: Mapping[int | str, int], classes: Sequence[str], section: Section
) -> None:
    """Each class to learn must have a label; the background may be what no segment covers."""
    lacking = [c for i, c in enumerate(classes[:-1]) if i not in label_map.values()]
    if lacking:
        raise InputError(
            f"config.data.source.{section.field}.labels says nothing of {lacking}; expected a "
            f"label for each of {', '.join(classes[:-1])}."
        )


def _open(section: Section, studies: Sequence[Study], name: str, settings: _Settings) -> _Slices:
    """Slices of volumes, from the cache, which is made where it does not exist."""
    folder = absolute(settings.root, section.layout["root"])
    label_map = medical_labels.label_map(
        section.labels, settings.classes, folder, f"config.data.source.{section.field}.labels"
    )
    if label_map is None and (name == "" or section.empty != "keep"):
        raise InputError(
            f"config.data.source.{section.field} needs labels: expected the option `labels`, or "
            f"{os.path.join(folder, 'classes.csv')}."
        )
    if name == "":
        _check_complete(label_map, settings.classes, section)
    preparation = Preparation(
        spacing=section.spacing,
        view=section.view,
        empty=section.empty,
        label_map=label_map,
        background=None if label_map is None else len(settings.classes) - 1,
        **settings.common,
    )
    jobs = [
        slice_cache.Job(
            image=study.image,
            label=None if label_map is None else study.label,
            name=study.name,
            subject=study.subject,
            frames=study.frames,
            series=study.series,
        )
        for study in studies
    ]
    cached = slice_cache.open_slices(jobs, preparation, settings.cache)
    return _Slices(
        name=name,
        read=_Scans(cached, section.shift),
        rows=np.arange(len(cached.names))[:: section.every],
        names=cached.names,
        subjects=cached.subjects,
        fingerprint={"slices": cached.fingerprint, "shift": section.shift},
    )


def _open_ood(
    name: str,
    entry: Mapping[str, Any],
    parts: Mapping[str, Sequence[str]],
    settings: _Settings,
) -> _Slices:
    section = medical_options.ood(entry, name)
    if section.is_pictures:
        return _open_pictures(section, name, settings)
    studies = medical_layouts.find(section.layout, section.field, settings.root)
    seen = {study.subject for study in studies}
    own = _open(section, studies, name, settings)
    if section.subjects == "test":
        if not seen & set(parts["test"]):
            raise InputError(
                f"config.data.source.{section.field}.subjects='test': none of the "
                f"{len(parts['test'])} patients of the test split, such as {parts['test'][0]!r}, "
                f"is in this set; it has {sorted(seen)[0]!r}."
            )
        # All are in the cache, which other splits and sets of the same slices then share.
        return _of_patients(own, parts["test"])
    both = seen & set(parts["train"])
    if both:
        log.info("%d patients of the OoD set %s are in training too.", len(both), name)
    return own


def _open_pictures(section: Section, name: str, settings: _Settings) -> _Slices:
    found = pictures.find(section.layout, section.field, settings.root, settings.common["size"])
    return _Slices(
        name=name,
        read=_Shown(found, section.shift),
        rows=np.arange(len(found.names))[:: section.every],
        names=found.names,
        subjects=found.names,
        fingerprint={
            "files": found.fingerprint,
            "size": list(found.size),
            "fit": found.fit,
            "shift": section.shift,
        },
    )


def _of_patients(own: _Slices, patients: Sequence[str]) -> _Slices:
    chosen = set(patients)
    return own._replace(rows=own.rows[[own.subjects[row] in chosen for row in own.rows]])


@dataclasses.dataclass(frozen=True)
class _Scans:
    """Reads cached slices."""

    cached: slice_cache.Cached
    shift: str

    def __call__(self, row: int) -> tuple[np.ndarray, np.ndarray | None]:
        image, segments = self.cached.read(row)
        return _shifted(image, self.shift, row), segments


@dataclasses.dataclass(frozen=True)
class _Shown:
    """Reads pictures, which have no labels."""

    pictures: pictures.Pictures
    shift: str

    def __call__(self, row: int) -> tuple[np.ndarray, None]:
        return _shifted(self.pictures(row)[..., None], self.shift, row), None


def _shifted(image: np.ndarray, shift: str, row: int) -> np.ndarray:
    return slice_shifts.SHIFTS[shift](image[..., 0], (row,))[..., None] if shift else image


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads records of several sets, one after the other.

    Attributes:
        sets: In their order.
        places: int64 `[n, 2]`: set and position in it.
        size: Of images.
    """

    sets: tuple[Callable[[int], tuple[np.ndarray, np.ndarray | None]], ...]
    places: np.ndarray
    labels: np.ndarray
    size: tuple[int, int]

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        which, row = self.places[i]
        image, segments = self.sets[which](int(row))
        if segments is None:
            segments = np.full(self.size, VOID, np.uint8)
        return {
            "image": image,
            "segments": segments,
            "label": np.int32(self.labels[i]),
        }


def _split(
    part: str, sets: tuple[_Slices, ...], size: tuple[int, int], shared: Mapping[str, Any]
) -> Split:
    places = np.concatenate(
        [np.stack([np.full(len(own.rows), i), own.rows], axis=1) for i, own in enumerate(sets)]
    )
    rows = [(own, int(row)) for own in sets for row in own.rows]
    names = [f"{own.name}/{own.names[row]}".lstrip("/") for own, row in rows]
    classes = [own.name for own, _ in rows]
    labels = np.array([name != "" for name in classes], np.int64)
    return Split(
        names=names,
        labels=labels,
        read=_Reader(tuple(own.read for own in sets), places, labels, size),
        fingerprint=_fingerprint(part, sets, names),
        classes=classes,
        subjects=[own.subjects[row] for own, row in rows],
        **shared,
    )


def _fingerprint(part: str, sets: Sequence[_Slices], names: Sequence[str]) -> dict[str, Any]:
    return {
        "source": "medical_slices",
        "part": part,
        "names": hashlib.sha256("\n".join(names).encode()).hexdigest()[:16],
        "sets": json.loads(json.dumps({own.name: own.fingerprint for own in sets})),
    }
