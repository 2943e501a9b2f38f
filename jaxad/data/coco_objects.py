"""COCO's objects as outliers to paste into training scenes.

The proxy of documents 004 and 002: images of train2017 without any object that Cityscapes has a
class for. One record per image: what its annotations cover, together, cut to its bounding box. The
masks come from `instances_train2017.json` (all of its kinds, crowds included), or ready-made as
8-bit PNG (254 on objects, 0 elsewhere).

The file of annotations is read whole when the source is opened (450 MB: about 16 s and 2.7 GiB, of
which 0.2 GiB stay); masks are decoded when a record is read. A range of `outlier_share` decodes
those masks at opening that bounding boxes do not decide.

Source: document 004, chapter 11 and tables 11.6 and 11.7; document 002, chapter 3 (exclusions,
subsets); `tianyu0207/PEBAL` and `robin-chan/meta-ood` for the layout.
"""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxad.data import coco_annotations, image_files
from jaxad.data.coco_annotations import Proxy
from jaxad.data.option_checks import absolute
from jaxad.data.split import Split
from jaxad.errors import InputError

# Classes of street scenes that a COCO category belongs to, besides that of its own name.
_ALSO = {
    "person": ("pedestrian", "rider", "bicyclist"),
    "bicycle": ("bicyclist",),
    "motorcycle": ("motorbike", "motorcyclist"),
    "stop sign": ("traffic sign", "signsymbol", "sign"),
}


def objects(
    root: str,
    *,
    images: str = "train2017",
    annotations: str = "annotations/instances_train2017.json",
    masks: str | None = None,
    excluded: Sequence[str] = coco_annotations.EXCLUDED,
    overlap: Sequence[str] = (),
    min_side: int = 0,
    outlier_share: tuple[float, float] = (0.0, 1.0),
    classes_share: float = 1.0,
    images_share: float = 1.0,
    seed: int = 0,
    object_size: tuple[int, int] = (640, 640),
    inlier_classes: Sequence[str] = (),
) -> Split:
    """Outlier objects, one per image.

    Records are `object` uint8 `[h, w, 3]`, `object_mask` uint8 `[h, w]` (1 on the object) and
    `label` 1, on a canvas of `object_size`: the mask's bounding box in its upper left corner, zeros
    elsewhere. An object larger than the canvas is shrunk to fit it (bilinear, mask nearest); with
    the default size, none of COCO's images is. Images without annotations are left out.

    Args:
        root: Folder of the data set.
        images: Folder of the images within it.
        annotations: Annotation file within it; not read if `masks` is given.
        masks: Folder of ready-made masks within it, `<image name>.png`, such as
            "annotations/ood_seg_train2017"; None to make them from the annotations.
        excluded: Categories whose images are dropped; not for `masks`, which were made without.
        overlap: Categories to keep although the training scenes have a class for them. The
            documents' list leaves COCO's "train" in, which Cityscapes has as a class.
        min_side: Images with a shorter side are dropped (480 in one release of document 002).
        outlier_share: Range, inclusive, of the share of outlier pixels of an image: (0, 0.2) is
            document 002's "L-20%", (0.8, 1) its "M-80%".
        classes_share: Share of the remaining categories to use (table 11.6), at least one; pixels
            of the others are no outliers. A larger share contains a smaller one.
        images_share: Share of the remaining images to use (table 11.7), at least one; likewise.
        seed: Seed of both choices.
        object_size: Height and width of the canvas.
        inlier_classes: Names of the classes of the training scenes.

    Returns:
        A split whose `classes` are the objects' categories (where annotations tell them).

    Raises:
        InputError: If a file is missing or not as described, a category has the name or meaning of
            an inlier class, or nothing is left.
    """
    _check_options(outlier_share, classes_share, images_share, object_size)
    root = absolute("", root)
    folder = os.path.join(root, images)
    if masks is None:
        path = os.path.join(root, annotations)
        proxies = coco_annotations.annotated(path, folder, excluded, classes_share, seed)
        categories = {name for proxy in proxies for name in proxy.categories}
        _check_overlap(categories, inlier_classes, overlap, excluded)
    elif classes_share < 1:
        raise InputError(
            "classes_share needs the categories of the annotation file: ready-made masks do not "
            "tell them; set outliers.masks to None."
        )
    else:
        proxies = coco_annotations.ready_made(os.path.join(root, masks), folder)
    if min_side:
        proxies = _large_enough(proxies, min_side)
    if tuple(outlier_share) != (0.0, 1.0):
        proxies = _within_share(proxies, *outlier_share)
    if not proxies:
        raise InputError(f"No outlier object is left of {root} after all exclusions.")
    chosen = np.random.default_rng([seed, 1]).permutation(len(proxies))
    chosen = np.sort(chosen[: coco_annotations.share_of(len(proxies), images_share)])
    proxies = [proxies[i] for i in chosen]
    return Split(
        names=[proxy.name for proxy in proxies],
        labels=np.ones(len(proxies), np.int64),
        read=ObjectReader(tuple(proxies), tuple(object_size)),
        fingerprint=_fingerprint(proxies, object_size),
        classes=[proxy.categories[0] for proxy in proxies] if masks is None else None,
    )


@dataclasses.dataclass(frozen=True)
class ObjectReader:
    """Reads an object.

    Attributes:
        proxies: Its image and mask.
        canvas: Height and width of all records.
    """

    proxies: tuple[Proxy, ...]
    canvas: tuple[int, int]

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        """The record of object i."""
        proxy = self.proxies[i]
        image, mask = image_files.read_image(proxy.image), coco_annotations.read_mask(proxy)
        if image.shape[:2] != mask.shape:
            raise InputError(
                f"The image {proxy.image} has {image.shape[0]} x {image.shape[1]} pixels, its mask "
                f"{mask.shape[0]} x {mask.shape[1]}."
            )
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        record = {
            "object": np.zeros((*self.canvas, 3), np.uint8),
            "object_mask": np.zeros(self.canvas, np.uint8),
            "label": np.int32(1),
        }
        if len(rows):
            box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            thing, shape = _fitted(image[box], mask[box].astype(np.uint8), self.canvas)
            height, width = shape.shape
            record["object"][:height, :width] = thing
            record["object_mask"][:height, :width] = shape
        return record


def _fitted(
    image: np.ndarray, mask: np.ndarray, canvas: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The object, shrunk where it is larger than the canvas."""
    scale = min(1.0, *(room / side for room, side in zip(canvas, mask.shape, strict=True)))
    if scale == 1.0:
        return image, mask
    height, width = (
        min(max(round(side * scale), 1), room)
        for side, room in zip(mask.shape, canvas, strict=True)
    )
    smaller = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(smaller), image_files.resize_nearest(mask, (height, width))


def _large_enough(proxies: Sequence[Proxy], min_side: int) -> list[Proxy]:
    def sides(proxy: Proxy) -> tuple[int, int]:
        return proxy.size or image_files.image_header(proxy.image).size

    sizes, faults = image_files.collect(sides, proxies)
    image_files.raise_faults(faults, len(proxies), "outlier images")
    return [p for p, size in zip(proxies, sizes, strict=True) if min(size) >= min_side]


def _within_share(proxies: Sequence[Proxy], low: float, high: float) -> list[Proxy]:
    """Those whose share of outlier pixels is in a range; most need not be decoded to tell."""

    def within(proxy: Proxy) -> bool:
        most = _largest_share(proxy)
        if most < low:
            return False
        if low == 0 and most <= high:
            return True
        return bool(low <= coco_annotations.read_mask(proxy).mean() <= high)

    kept, faults = image_files.collect(within, proxies)
    image_files.raise_faults(faults, len(proxies), "outlier masks")
    return [proxy for proxy, is_within in zip(proxies, kept, strict=True) if is_within]


def _largest_share(proxy: Proxy) -> float:
    """The share of outlier pixels if polygons filled their bounding boxes; 1 if not known."""
    pixels = 0.0
    for segmentation in proxy.segmentations:
        if isinstance(segmentation, Mapping):
            return 1.0
        for polygon in segmentation:
            if len(polygon) < 6:
                return 1.0  # Damaged, as decoding will tell.
            sides = [np.ptp(polygon[axis::2]) + 2 for axis in (0, 1)]  # A pixel more at each end.
            pixels += sides[0] * sides[1]
    return pixels / np.prod(proxy.size) if proxy.segmentations else 1.0


def _check_overlap(
    categories: set[str],
    inlier_classes: Sequence[str],
    overlap: Sequence[str],
    excluded: Sequence[str],
) -> None:
    inlier = {name.lower() for name in inlier_classes}
    shared = {
        name: sorted(inlier & {name.lower(), *_ALSO.get(name.lower(), ())})
        for name in sorted(categories - set(overlap))
    }
    shared = {name: own for name, own in shared.items() if own}
    if shared:
        texts = [f"{name} ({', '.join(own)})" for name, own in shared.items()]
        raise InputError(
            "An outlier set that overlaps the inlier classes: COCO's categories "
            f"{', '.join(texts)} are classes of the training scenes. Add them to "
            f"outliers.excluded, now {', '.join(excluded) or 'empty'}; or to outliers.overlap to "
            "keep them."
        )


def _check_options(
    outlier_share: Sequence[float],
    classes_share: float,
    images_share: float,
    object_size: Sequence[int],
) -> None:
    if len(outlier_share) != 2 or not 0 <= outlier_share[0] <= outlier_share[1] <= 1:
        raise InputError(
            f"outliers.outlier_share: expected a range within [0, 1], found {outlier_share!r}."
        )
    for name, share in (("classes_share", classes_share), ("images_share", images_share)):
        if not 0 < share <= 1:
            raise InputError(f"outliers.{name}: expected a number in (0, 1], found {share!r}.")
    if len(object_size) != 2 or not all(isinstance(side, int) and side > 0 for side in object_size):
        raise InputError(
            f"outliers.object_size: expected height and width in pixels, found {object_size!r}."
        )


def _fingerprint(proxies: Sequence[Proxy], object_size: Sequence[int]) -> dict[str, Any]:
    files = hashlib.sha256()
    for proxy in proxies:
        # Of annotations their extent; of files their sizes: a copied data set is the same one.
        mask = os.path.getsize(proxy.mask) if proxy.mask else _extent(proxy.segmentations)
        files.update(repr((proxy.name, os.path.getsize(proxy.image), mask)).encode())
    return {
        "source": "scenes",
        "part": "outliers",
        "object_size": list(object_size),
        "files": files.hexdigest(),
    }


def _extent(segmentations: Sequence[Any]) -> list[int]:
    return [
        len(own["counts"]) if isinstance(own, Mapping) else sum(map(len, own))
        for own in segmentations
    ]
