"""COCO's images without objects of street scenes: their annotations, and masks of the rest.

The file of annotations (450 MB for train2017) is read whole, and what is needed of it kept.

Source: format of `instances_*.json`, cocodataset.org/#format-data; exclusions of document 002,
chapter 3; `robin-chan/meta-ood` for ready-made masks.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxad.data import coco_masks, image_files
from jaxad.data.feature_files import listed
from jaxad.errors import InputError

# Images with an object of these are no outliers to Cityscapes.
EXCLUDED = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "bus",
    "truck",
    "traffic light",
    "stop sign",
)
OBJECT, NOTHING = 254, 0  # In ready-made masks.


class Proxy(NamedTuple):
    """One image with outliers.

    Attributes:
        name: Of the image, without ending.
        image: Path of the image.
        categories: Its categories, that of the largest area first; empty if unknown.
        mask: Path of its ready-made mask; "" if the annotations are here.
        segmentations: COCO annotations, see `coco_masks.decode`; polygons as arrays.
        size: Height and width of the image as annotated; None if unknown.
    """

    name: str
    image: str
    categories: tuple[str, ...]
    mask: str
    segmentations: tuple[Any, ...]
    size: tuple[int, int] | None


def share_of(count: int, share: float) -> int:
    """A share of a number of things, rounded, at least one of them."""
    return min(max(math.floor(share * count + 0.5), 1), count)


def annotated(
    path: str, folder: str, excluded: Sequence[str], classes_share: float, seed: int
) -> list[Proxy]:
    """The images without an excluded object, with their annotations of the chosen categories.

    Args:
        path: Annotation file.
        folder: Of the images.
        excluded: Categories whose images are dropped.
        classes_share: Share of the other categories to choose, at least one.
        seed: Of that choice.

    Returns:
        Images with at least one annotation left, in the order of their ids.

    Raises:
        InputError: If the file is not as described, a name in `excluded` that is not among
            `EXCLUDED` is no category of it, or images do not exist.
    """
    content = _read_annotations(path)
    try:
        names = {entry["id"]: entry["name"] for entry in content["categories"]}
        sizes = {entry["id"]: entry for entry in content["images"]}
        by_image: dict[int, list[Mapping[str, Any]]] = {}
        for entry in content["annotations"]:
            by_image.setdefault(entry["image_id"], []).append(entry)
        _check_excluded(path, names.values(), excluded)
        proper = {
            image: own
            for image, own in by_image.items()
            if not any(names[entry["category_id"]] in excluded for entry in own)
        }
        chosen = _chosen_categories(
            {entry["category_id"] for own in proper.values() for entry in own}, classes_share, seed
        )
        proxies = [
            _proxy(sizes[image], [e for e in proper[image] if e["category_id"] in chosen], names)
            for image in sorted(proper)
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path} is not as COCO's instances: {type(error).__name__} {error}; expected images, "
            "annotations and categories with their fields."
        ) from None
    return _with_images([proxy for proxy in proxies if proxy.segmentations], folder, path)


def ready_made(masks: str, folder: str) -> list[Proxy]:
    """The images that have a mask.

    Args:
        masks: Folder of the masks.
        folder: Of the images.

    Returns:
        Images sorted by name, without categories.

    Raises:
        InputError: If a folder does not exist, or a mask has no image.
    """
    files = image_files.files_of(masks)
    proxies = [Proxy(name, name, (), path, (), None) for name, path in files.items()]
    return _with_images(proxies, folder, masks)


def read_mask(proxy: Proxy) -> np.ndarray:
    """Where an image shows outliers.

    Args:
        proxy: The image.

    Returns:
        bool `[H, W]`.

    Raises:
        InputError: If its mask cannot be read or its annotations are damaged.
    """
    if proxy.mask:
        ids = image_files.read_ids(proxy.mask)
        others = np.setdiff1d(ids, (NOTHING, OBJECT))
        if len(others):
            raise InputError(
                f"The mask {proxy.mask} holds {others[:8].tolist()}; expected {OBJECT} on objects "
                f"and {NOTHING} elsewhere."
            )
        return ids == OBJECT
    mask = np.zeros(proxy.size, bool)
    for segmentation in proxy.segmentations:
        try:
            mask |= coco_masks.decode(segmentation, *proxy.size)
        except InputError as error:
            raise InputError(f"The annotations of {proxy.image} are damaged: {error}") from None
    return mask


def _proxy(
    image: Mapping[str, Any], own: Sequence[Mapping[str, Any]], names: Mapping[int, str]
) -> Proxy:
    areas: dict[str, float] = {}
    for entry in own:
        name = names[entry["category_id"]]
        areas[name] = areas.get(name, 0.0) + float(entry.get("area", 0.0))
    return Proxy(
        name=os.path.splitext(image["file_name"])[0],
        image=image["file_name"],
        categories=tuple(sorted(areas, key=areas.get, reverse=True)),
        mask="",
        segmentations=tuple(_compact(entry["segmentation"]) for entry in own),
        size=(int(image["height"]), int(image["width"])),
    )


def _compact(segmentation: Any) -> Any:
    """Polygons and runs as arrays, which take a fraction of the memory of lists."""
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        packed = counts if isinstance(counts, str) else np.asarray(counts, np.int32)
        return {"size": segmentation["size"], "counts": packed}
    return tuple(np.asarray(polygon, np.float64) for polygon in segmentation)


def _read_annotations(path: str) -> Mapping[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise InputError(
            f"The annotations {path} cannot be read ({error.strerror}); expected COCO's instances, "
            "or ready-made masks in outliers.masks."
        ) from None
    except ValueError as error:
        raise InputError(f"The annotations {path} are no JSON ({error}).") from None
    if not isinstance(content, Mapping):
        raise InputError(f"The annotations {path} are not as COCO's instances: no JSON object.")
    return content


def _with_images(proxies: Sequence[Proxy], folder: str, origin: str) -> list[Proxy]:
    """Proxies with the paths of their images."""
    present = image_files.files_of(folder)
    keys = [os.path.splitext(proxy.image)[0] for proxy in proxies]
    missing = [proxy.image for proxy, key in zip(proxies, keys, strict=True) if key not in present]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(proxies)} images of {origin} do not exist in {folder}:"
            f"{listed(missing)}"
        )
    return [proxy._replace(image=present[key]) for proxy, key in zip(proxies, keys, strict=True)]


def _chosen_categories(present: set[int], share: float, seed: int) -> set[int]:
    order = np.random.default_rng([seed, 0]).permutation(sorted(present))
    return set(order[: share_of(len(order), share)].tolist())


def _check_excluded(path: str, names: Iterable[str], excluded: Sequence[str]) -> None:
    unknown = sorted(set(excluded) - set(EXCLUDED) - set(names))
    if unknown:
        raise InputError(
            f"outliers.excluded names {unknown}, which {path} has no category for; it has "
            f"{', '.join(sorted(names))}."
        )
