"""Real scenes with a class per pixel, for anomaly segmentation, from their files.

Each split names a data set in one of its published layouts (`scene_layouts`); any training set goes
with any test set whose labels tell the same classes, or anomalies alone. Classes can be held out to
serve as anomalies. Objects to paste for outlier exposure come from COCO, or from two photographs
(`outlier_objects`).

Everything that folders, lists and headers tell is checked when a source is opened, before training,
and the label maps of a few training scenes are decoded. All label maps are decoded, once, in
threads, only where a split depends on what they hold: of the training set if images with held-out
classes are dropped, of validation and test if they can hold anomalies. That costs about 6 ms per
megapixel of PNG on one core (1,200 label maps of 1024 × 2048: about 7 s on two).

Source: sections 6 and 7 of the notes on documents 001, 004 and 002; see `scene_layouts`.
"""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxad.data import (
    image_files,
    option_checks,
    outlier_objects,
    scene_classes,
    scene_layouts,
    scene_reader,
)
from jaxad.data.image_files import Header
from jaxad.data.scene_classes import OUTLIER, VOID, ClassTable, Codes
from jaxad.data.scene_files import Scene
from jaxad.data.scene_layouts import Found
from jaxad.data.split import Split
from jaxad.errors import InputError

HELD_OUT_IN_TRAINING = ("drop", "ignore")

_QUICK = 8  # Training scenes whose label maps are checked when a source is opened.


def splits(
    *,
    train: Mapping[str, Any],
    test: Mapping[str, Any],
    validation: Mapping[str, Any] | None = None,
    outliers: Mapping[str, Any] | None = None,
    root: str = "",
    size: tuple[int, int] | None = None,
    test_size: tuple[int, int] | None = None,
    held_out: Sequence[str] = (),
    held_out_in_training: str = "drop",
    validation_fraction: float = 0.0,
    validation_seed: int = 0,
) -> dict[str, Split]:
    """Training, validation and test scenes, and outliers.

    Records of scenes are `image` uint8 `[H, W, 3]`, `segments` uint8 `[H, W]` (class; 254 outlier,
    255 void), `label` int32 (1 if any pixel is anomalous), and but for training `anomaly` uint8
    `[H, W]` (0, 1; 255 void). Those of outliers: see `outlier_objects`.

    Args:
        train: `layout` and `root` of the training set, and the options of that layout, each a
            function of `scene_layouts`; those that are None keep their defaults.
        test: The same of the test set.
        validation: The same of the validation set; None for none, or for `validation_fraction`.
        outliers: `layout` and options of that layout, see `outlier_objects.LAYOUTS`; None for no
            split "outliers".
        root: Folder that the roots of these four are relative to.
        size: Height and width to which training images are resized when they are read, bilinear
            with antialiasing, labels by nearest pixel; None as they are, which must be one size.
        test_size: The same of validation and test scenes, whose truth is then of that size too.
        held_out: Classes of the training set that count as anomalies, in validation and test as
            anomaly 1 and segments 254. They are taken out of the K classes.
        held_out_in_training: "drop" training images that have a pixel of them; or "ignore" these
            pixels, which become void.
        validation_fraction: Share of the training scenes held out for validation, if `validation`
            is None; at least one scene. With "ignore", held-out classes in them are anomalies.
        validation_seed: Seed of that choice.

    Returns:
        Splits "train", "validation" (if there is one), "test" and "outliers" (if asked for).

    Raises:
        InputError: If an option, folder, list, image, label map or class table is not as it must
            be; names the files.
    """
    size, test_size = _checked_size("size", size), _checked_size("test_size", test_size)
    _check_options(held_out_in_training, validation, validation_fraction)
    found = scene_layouts.find(train, "train", root)
    if found.classes is None:
        raise InputError(
            f"config.data.source.train.layout={train['layout']!r} tells anomalies alone; a "
            "training set needs classes."
        )
    code = OUTLIER if held_out_in_training == "drop" else VOID
    table, codes = scene_classes.hold_out(found.classes, found.codes, held_out, code=code)
    truth = scene_classes.hold_out(found.classes, found.codes, held_out, code=OUTLIER)[1]
    headers = _headers(found.scenes, "training")
    scenes = _trainable(found, codes, held_out if held_out_in_training == "drop" else ())
    drawn = _drawn(len(scenes), 0.0 if validation else validation_fraction, validation_seed)
    kept = [scene for scene, is_drawn in zip(scenes, drawn, strict=True) if not is_drawn]
    if size is None:
        _check_one_size(kept, headers)
    opened = {"train": _training_split(kept, codes, table, size, headers)}
    for part, section in (("validation", validation), ("test", test)):
        if section is not None:
            own = scene_layouts.find(section, part, root)
            own = own._replace(codes=_truth_codes(part, own, found.classes, held_out))
            opened[part] = _truth_split(part, own, table, test_size)
        elif drawn.any():
            own = (scene for scene, is_drawn in zip(scenes, drawn, strict=True) if is_drawn)
            own = Found(tuple(own), truth, table)
            opened[part] = _truth_split(part, own, table, test_size)
    if outliers is not None:
        opened["outliers"] = outlier_objects.open_objects(outliers, found.classes.names, root)
    return opened


def record_shapes(
    *, train: Mapping[str, Any], root: str = "", size: tuple[int, int] | None = None, **_: object
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and types of a training record by name.

    From `size`, else from the header of one image; where the data set is not there, from what is
    known of it.
    """
    size = _checked_size("size", size)
    if size is None and not os.path.isdir(option_checks.absolute(root, train["root"])):
        size = scene_layouts.KNOWN_SIZES.get(train["layout"])
    if size is None:
        first = scene_layouts.find(train, "train", root).scenes[0]
        size = image_files.image_header(first.image).size
    return {"image": ((*size, 3), "uint8"), "segments": (size, "uint8"), "label": ((), "int32")}


def _trainable(found: Found, codes: Codes, dropped: Sequence[str]) -> list[Scene]:
    """The scenes without any pixel of a class in `dropped`; checks all or, without, a few."""
    scenes = list(found.scenes)
    if not dropped:
        _holding(scenes[:: max(len(scenes) // _QUICK, 1)], codes, ())
        return scenes
    # Before resizing, which could make a small object vanish from the labels alone.
    classes = [found.classes.names.index(name) for name in dropped]
    holding = _holding(scenes, found.codes, classes)
    kept = [scene for scene, holds in zip(scenes, holding, strict=True) if not holds]
    if not kept:
        raise InputError(
            f"Each of the {len(scenes)} training images has a pixel of {list(dropped)}; none is "
            "left. Use held_out_in_training='ignore'."
        )
    return kept


def _holding(scenes: Sequence[Scene], codes: Codes, classes: Sequence[int]) -> list[bool]:
    """Whether each training scene has a pixel of one of the classes; none may have an anomaly."""

    def one(scene: Scene) -> bool:
        segments = scene_reader.read_maps(scene, codes)[0]
        scene_reader.check_normal(scene, segments)
        return any((segments == name).any() for name in classes)

    holding, faults = image_files.collect(one, scenes)
    image_files.raise_faults(faults, len(scenes), "training label maps read")
    return holding


def _training_split(
    scenes: Sequence[Scene],
    codes: Codes,
    table: ClassTable,
    size: tuple[int, int] | None,
    headers: Mapping[str, "_Headers"],
) -> Split:
    labels = np.zeros(len(scenes), np.int64)
    return Split(
        names=[scene.name for scene in scenes],
        labels=labels,
        read=scene_reader.SceneReader(tuple(scenes), codes, labels, size, True),
        fingerprint=_fingerprint("train", scenes, headers, codes, size),
        segment_classes=table.names,
        palette=table.palette,
    )


def _truth_codes(part: str, found: Found, classes: ClassTable, held_out: Sequence[str]) -> Codes:
    """Codes of a set with truth, whose classes, if it has any, must be those of training."""
    if found.classes is None:
        return found.codes
    if found.classes.names != classes.names:
        raise InputError(
            f"The {part} set has the classes {', '.join(found.classes.names)}; expected those of "
            f"the training set: {', '.join(classes.names)}."
        )
    return scene_classes.hold_out(classes, found.codes, held_out, code=OUTLIER)[1]


def _truth_split(part: str, found: Found, table: ClassTable, size: tuple[int, int] | None) -> Split:
    """A split with the truth of anomalies, under the table of the training split."""
    codes = found.codes
    headers = _headers(found.scenes, part)
    unlabelled = scene_reader.SceneReader(
        found.scenes, codes, np.zeros(len(found.scenes)), size, False
    )
    labels = np.zeros(len(found.scenes), np.int64)
    if (codes.anomaly == 1).any():
        holds, faults = image_files.collect(
            lambda i: bool((unlabelled.maps(i)[1] == 1).any()), range(len(labels))
        )
        image_files.raise_faults(faults, len(labels), f"{part} label maps")
        labels = np.array(holds, np.int64)
    sizes = np.array([headers[scene.image].image.size for scene in found.scenes], np.int64)
    varying = size is None and (sizes != sizes[0]).any()
    return Split(
        names=[scene.name for scene in found.scenes],
        labels=labels,
        read=dataclasses.replace(unlabelled, labels=labels),
        fingerprint=_fingerprint(part, found.scenes, headers, codes, size),
        sizes=sizes if varying else None,
        segment_classes=table.names,
        palette=table.palette,
    )


class _Headers(NamedTuple):
    image: Header
    label: Header


def _headers(scenes: Sequence[Scene], part: str) -> dict[str, _Headers]:
    """Headers of each scene's files by path of the image; sizes must agree."""

    def one(scene: Scene) -> _Headers:
        own = _Headers(image_files.image_header(scene.image), image_files.label_header(scene.label))
        if own.image.size != own.label.size:
            raise InputError(scene_reader.sizes_differ(scene, own.image.size, own.label.size))
        if scene.region and image_files.label_header(scene.region).size != own.image.size:
            raise InputError(
                f"The region of interest {scene.region} differs in size from {scene.image}."
            )
        return own

    headers, faults = image_files.collect(one, scenes)
    image_files.raise_faults(faults, len(scenes), f"{part} scenes")
    return {scene.image: own for scene, own in zip(scenes, headers, strict=True)}


def _check_one_size(scenes: Sequence[Scene], headers: Mapping[str, _Headers]) -> None:
    first = scenes[0].image
    own = headers[first].image.size
    others = [s.image for s in scenes if headers[s.image].image.size != own]
    if others:
        other = headers[others[0]].image.size
        raise InputError(
            f"Training images must have one size unless config.data.source.size is given: {first} "
            f"has {own[0]} x {own[1]} pixels (height x width), {others[0]} {other[0]} x {other[1]} "
            f"({len(others)} of {len(scenes)} differ from the first)."
        )


def _drawn(count: int, fraction: float, seed: int) -> np.ndarray:
    """Training scenes held out for validation, bool `[n]`."""
    chosen = np.zeros(count, bool)
    if fraction:
        number = max(round(fraction * count), 1)
        if number >= count:
            raise InputError(
                f"validation_fraction={fraction} leaves none of the {count} training scenes."
            )
        chosen[np.random.default_rng([seed, 0]).permutation(count)[:number]] = True
    return chosen


def _fingerprint(
    part: str,
    scenes: Sequence[Scene],
    headers: Mapping[str, _Headers],
    codes: Codes,
    size: tuple[int, int] | None,
) -> dict[str, Any]:
    files = hashlib.sha256()
    for scene in scenes:
        # File sizes rather than times: a copied data set is the same data set.
        files.update(repr((scene.name, *headers[scene.image], bool(scene.region))).encode())
    return {
        "source": "scenes",
        "part": part,
        "size": size,
        "codes": hashlib.sha256(b"".join(code.tobytes() for code in codes)).hexdigest()[:16],
        "files": files.hexdigest(),
    }


def _checked_size(name: str, size: Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise InputError(
            f"config.data.source.{name}: expected height and width in pixels, found {size!r}."
        )
    return tuple(size)


def _check_options(
    held_out_in_training: str, validation: Mapping[str, Any] | None, validation_fraction: float
) -> None:
    if held_out_in_training not in HELD_OUT_IN_TRAINING:
        raise InputError(
            f"Unknown held_out_in_training {held_out_in_training!r}; expected one of "
            f"{', '.join(HELD_OUT_IN_TRAINING)}."
        )
    if not 0 <= validation_fraction < 1:
        raise InputError(f"validation_fraction must be in [0, 1), got {validation_fraction}.")
    if validation is not None and validation_fraction:
        raise InputError(
            "Give either validation or validation_fraction: both name validation scenes."
        )
