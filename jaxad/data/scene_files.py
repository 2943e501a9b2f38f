"""Pairs of image and label files: by name in two folders, or from a list that names both.

Nothing is opened but folders and lists. What does not pair up is an `InputError` that lists files.
"""

import collections
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxad.data import image_files
from jaxad.data.feature_files import listed
from jaxad.errors import InputError

_FRAME_SUFFIXES = (".webp", ".jpg", ".png")


class Scene(NamedTuple):
    """The files of one scene.

    Attributes:
        name: Unique within its part.
        image: Path of the image.
        label: Path of the label map.
        region: Path of the region of interest (0 is outside), "" for the whole image.
    """

    name: str
    image: str
    label: str
    region: str = ""


def pair(
    images: str, labels: str, endings: tuple[str, str] = ("", ""), regions: str | None = None
) -> tuple[Scene, ...]:
    """Pairs the images of a folder with label maps of the same name.

    Args:
        images: Folder of the images; folders below it are kept as part of the name.
        labels: Folder of the label maps.
        endings: Ends of the two kinds of names (before `.png`) that are no part of the name they
            share; files without that end are left out.
        regions: Folder of the regions of interest, named like the images; None for none.

    Returns:
        Scenes sorted by name.

    Raises:
        InputError: If a folder is missing, or an image, label map or region has no partner.
    """
    for folder, other, kind in ((images, labels, "image"), (labels, images, "label")):
        if not os.path.isdir(folder):
            there = "exists" if os.path.isdir(other) else "is missing too"
            raise InputError(f"The {kind} folder {folder} does not exist; {other} {there}.")
    own = _ending_in(endings[0], image_files.files_of(images))
    partners = [("label map", labels, endings[1])]
    partners += [] if regions is None else [("region of interest", regions, "")]
    found, faults = [], []
    for kind, folder, ending in partners:
        files = _ending_in(ending, image_files.files_of(folder))
        faults += [
            f"{own[name]} has no {kind} {os.path.join(folder, name + ending)}.png"
            for name in own
            if name not in files
        ]
        faults += [
            f"{path} has no image {os.path.join(images, name + endings[0])}.png"
            for name, path in files.items()
            if name not in own
        ]
        found.append(files)
    if faults:
        raise InputError(
            f"The images in {images} and the label maps in {labels} do not pair up: "
            f"{len(faults)} files have no partner:{listed(faults)}"
        )
    return tuple(Scene(name, own[name], *(files[name] for files in found)) for name in own)


def pair_first_kind(
    images: str, labels: str, image_ending: str, label_endings: Sequence[str]
) -> tuple[tuple[Scene, ...], str]:
    """Pairs images with the first kind of label map of which there is any.

    Args:
        images: As for `pair`.
        labels: As for `pair`.
        image_ending: End of the images' names.
        label_endings: Ends of the label maps' names, one per kind.

    Returns:
        The scenes, and the end of the kind that was found.

    Raises:
        InputError: As for `pair`.
    """
    present = image_files.files_of(labels) if os.path.isdir(labels) else {}
    kinds = [e for e in label_endings if any(name.endswith(e) for name in present)]
    chosen = (kinds or label_endings)[0]
    return pair(images, labels, (image_ending, chosen)), chosen


def from_odgt(path: str, root: str) -> tuple[Scene, ...]:
    """The scenes of an `.odgt` list: one JSON list of objects, or one object per line.

    Args:
        path: The list; its objects have `fpath_img` and `fpath_segm`.
        root: Where to look for these paths if they are not below the folder of the list.

    Returns:
        Scenes in the order of the list.

    Raises:
        InputError: If the list is not as described, names a scene twice, or files that do not
            exist; says where it looked for them.
    """
    folders = list(dict.fromkeys([os.path.dirname(path), root]))
    scenes, faults = [], []
    for number, entry in enumerate(_odgt_entries(path), 1):
        files = []
        for field in ("fpath_img", "fpath_segm"):
            if not isinstance(entry, dict) or not isinstance(entry.get(field), str):
                raise InputError(f"{path}, entry {number}: expected a path as {field!r}.")
            tried = [os.path.join(folder, entry[field]) for folder in folders]
            there = next((p for p in tried if os.path.isfile(p)), None)
            if there is None:
                faults.append(f"entry {number}: {' and '.join(tried)} not found")
            files.append(there)
        scenes.append(Scene(os.path.splitext(entry["fpath_img"])[0], *files))
    if faults:
        raise InputError(f"{len(faults)} files that {path} names do not exist:{listed(faults)}")
    counts = collections.Counter(scene.name for scene in scenes)
    doubled = [name for name, count in counts.items() if count > 1]
    if doubled:
        raise InputError(f"{path} names images more than once:{listed(doubled)}")
    return tuple(scenes)


def from_frame_list(path: str) -> tuple[Scene, ...]:
    """The scenes of Road Anomaly's `frame_list.json`, a list of names.

    Args:
        path: The list; beside it `frames/NAME.webp` or `.jpg` and
            `frames/NAME.labels/labels_semantic.png`.

    Returns:
        Scenes in the order of the list.

    Raises:
        InputError: If the list is not as described, or names files that do not exist.
    """
    try:
        names = json.loads(_text(path))
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}).") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: expected a JSON list of file names.")
    scenes, faults = [], []
    for name in dict.fromkeys(os.path.splitext(os.path.basename(name))[0] for name in names):
        frame = os.path.join(os.path.dirname(path), "frames", name)
        image = next((frame + s for s in _FRAME_SUFFIXES if os.path.isfile(frame + s)), "")
        label = os.path.join(f"{frame}.labels", "labels_semantic.png")
        faults += [] if image else [f"{frame}.webp or .jpg"]
        faults += [] if os.path.isfile(label) else [label]
        scenes.append(Scene(name, image, label))
    if faults:
        raise InputError(f"{len(faults)} files that {path} needs do not exist:{listed(faults)}")
    return tuple(scenes)


def _ending_in(ending: str, files: Mapping[str, str]) -> dict[str, str]:
    """The files with that end of the name, by name without it."""
    return {
        name.removesuffix(ending): path for name, path in files.items() if name.endswith(ending)
    }


def _odgt_entries(path: str) -> list[Any]:
    text = _text(path)
    try:
        whole = json.loads(text)
        return whole if isinstance(whole, list) else [whole]
    except ValueError:
        pass  # More than one line.
    entries: list[Any] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}, line {number}: no JSON ({error}).") from None
            entries += entry if isinstance(entry, list) else [entry]
    return entries


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from None
