"""How published scenes lie on disk: which label map belongs to which image, what its ids mean.

Each layout is a function of the folder `root` and the part of the data set that returns `Found`.
Nothing is opened here but folders, `.odgt` and `.json` lists and class tables.

Source: sections 6 and 7 of the notes on documents 001, 004 and 002, from the released code of each
(`DarioFontanel/PAnS`, `hendrycks/anomaly-seg`, `tianyu0207/PEBAL`, `robin-chan/meta-ood`).
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxad.data import option_checks, scene_classes, scene_files
from jaxad.data.feature_files import listed
from jaxad.data.scene_classes import ClassTable, Codes
from jaxad.data.scene_files import Scene
from jaxad.errors import InputError

# Height and width of every image of a data set to train on.
KNOWN_SIZES = {
    "camvid": (360, 480),
    "cityscapes": (1024, 2048),
    "streethazards": (720, 1280),
}
LOST_NOT_HAZARDOUS = (31, 33, 34, 36, 37, 38, 39)  # Label ids of LostAndFound.
LOST_HIGHEST_ID = 43


class Found(NamedTuple):
    """One part of a data set.

    Attributes:
        scenes: Its scenes, sorted by name or in the order of its list.
        codes: What the ids in its label maps mean.
        classes: The class table; None where labels tell anomalies alone.
    """

    scenes: tuple[Scene, ...]
    codes: Codes
    classes: ClassTable | None


def find(section: Mapping[str, Any], field: str, base: str = "") -> Found:
    """The scenes of one split.

    Args:
        section: `layout`, one of `LAYOUTS`; `root`, a folder; and options of that layout, of which
            those that are None keep their defaults.
        field: Name of the split's option, for errors.
        base: Folder that `root` is relative to.

    Returns:
        Its scenes, at least one.

    Raises:
        InputError: For an unknown layout or option, missing folders, or, listed by file, images and
            label maps that do not pair up.
    """
    function, options = option_checks.layout(section, LAYOUTS, field, base)
    found = function(**options)
    if not found.scenes:
        raise InputError(f"config.data.source.{field}: {options['root']} holds no images.")
    return found


def plain(
    root: str,
    part: str = "",
    table: str | None = None,
    images: str = "images",
    labels: str = "labels",
    regions: str = "roi",
) -> Found:
    """`<root>/<part>/images/NAME.png` with `labels/NAME.png` and, if that folder exists,
    `roi/NAME.png`; folders within them are kept.

    Args:
        root: Folder of the data set.
        part: Folder of the part within it; "" for none.
        table: Class table within `root`, see `scene_classes.read_table`; None for `classes.csv` or
            `classes.json`.
        images: Name of the folder of the images.
        labels: Of the label maps.
        regions: Of the regions of interest.

    Returns:
        The part.
    """
    if table is None:
        table = _own_table(root)
    elif table not in scene_classes.PUBLISHED:
        table = os.path.join(root, os.path.expanduser(table))
    classes, codes = scene_classes.read_table(table)
    return Found(_plain_scenes(root, part, images, labels, regions), codes, classes)


def plain_anomaly(
    root: str,
    part: str = "",
    images: str = "images",
    labels: str = "labels",
    regions: str = "roi",
) -> Found:
    """The folders of `plain` with labels 0 normal, 1 anomalous, 255 void, and no classes.

    Args:
        root: Folder of the data set.
        part: Folder of the part within it; "" for none.
        images: Name of the folder of the images.
        labels: Of the label maps.
        regions: Of the regions of interest.

    Returns:
        The part.
    """
    codes = scene_classes.anomaly_codes(normal=(0,), anomalous=(1,))
    return Found(_plain_scenes(root, part, images, labels, regions), codes, None)


def camvid(root: str, part: str) -> Found:
    """`<root>/<part>/NAME.{png,jpg}` and `<root>/<part>annot/NAME.png`: 11 classes, 11 is void.

    Args:
        root: Folder of the data set.
        part: "train", "val" or "test".

    Returns:
        The part.
    """
    scenes = scene_files.pair(os.path.join(root, part), os.path.join(root, f"{part}annot"))
    inlier = {i: i for i in range(11)}
    return Found(scenes, scene_classes.codes_of(inlier, void=(11, 255)), scene_classes.CAMVID)


def cityscapes(root: str, part: str, labels: str | None = None) -> Found:
    """Cityscapes as published, or flattened by PEBAL's authors.

    `leftImg8bit/<part>/<city>/X_leftImg8bit.png` with `gtFine/<part>/<city>/X_gtFine_<labels>.png`;
    or `images/city_gt_fine/<part>/X_leftImg8bit.png` with `annotation/city_gt_fine/<part>/
    X_gtFine.png`, which holds train ids.

    Args:
        root: Folder that holds `leftImg8bit` or `images`.
        part: "train" or "val"; the labels of "test" are not published.
        labels: "labelTrainIds" or "labelIds"; None for the first of them that is there.

    Returns:
        The part.
    """
    kinds = _choice("labels", labels, ("labelTrainIds", "labelIds"))
    official, flat = (
        os.path.join(root, *p) for p in (("leftImg8bit",), ("images", "city_gt_fine"))
    )
    if os.path.isdir(official):
        folder = os.path.join(root, "gtFine", part)
        scenes, kind = scene_files.pair_first_kind(
            os.path.join(official, part), folder, "_leftImg8bit", [f"_gtFine_{k}" for k in kinds]
        )
        by_label_id = kind == "_gtFine_labelIds"
    elif os.path.isdir(flat):
        folder = os.path.join(root, "annotation", "city_gt_fine", part)
        scenes = scene_files.pair(os.path.join(flat, part), folder, ("_leftImg8bit", "_gtFine"))
        by_label_id = False
    else:
        raise InputError(f"Neither {official} nor {flat} exists; expected Cityscapes in {root}.")
    ids = scene_classes.CITYSCAPES_LABEL_IDS if by_label_id else range(19)
    others = set(range(scene_classes.CITYSCAPES_HIGHEST_ID + 1)) - set(ids) if by_label_id else ()
    inlier = {stored: own for own, stored in enumerate(ids)}
    codes = scene_classes.codes_of(inlier, void=(*others, 255))
    return Found(scenes, codes, scene_classes.CITYSCAPES)


def streethazards(root: str, part: str) -> Found:
    """StreetHazards as its authors or those of PAnS arrange it; a list names images and labels.

    The list of a part is `<root>/<part>/<part>.odgt`, `<root>/<part>.odgt` or (CAOS)
    `<root>/training.odgt`, `<root>/train/validation.odgt`; its paths are relative to its own folder
    or to `root`. Stored ids: 0 void, 1 … 13 classes, 14 anomaly.

    Args:
        root: Folder of the data set.
        part: "train", "validation" or "test".

    Returns:
        The part, in the order of the list.
    """
    names = ("train", "training") if part in ("train", "training") else (part,)
    folders = [os.path.join(root, name) for name in (*names, "train")] + [root]
    tried = [os.path.join(folder, f"{name}.odgt") for folder in folders for name in names]
    path = next((p for p in tried if os.path.isfile(p)), None)
    if path is None:
        raise InputError(f"StreetHazards has no list of its part {part!r}; tried:{listed(tried)}")
    inlier = {stored: stored - 1 for stored in range(1, 14)}
    codes = scene_classes.codes_of(inlier, outlier=(14,), void=(0, 255))
    return Found(scene_files.from_odgt(path, root), codes, scene_classes.STREETHAZARDS)


def lostandfound(
    root: str, part: str = "test", labels: str | None = None, not_hazardous: str = "void"
) -> Found:
    """LostAndFound: `leftImg8bit/<part>/<sequence>/X_leftImg8bit.png` with
    `gtCoarse/<part>/<sequence>/X_gtCoarse_<labels>.png`.

    Obstacles are anomalies, the free road is normal, all else is void.

    Args:
        root: Folder of the data set.
        part: "train" or "test".
        labels: "labelTrainIds" or "labelIds"; None for the first of them that is there.
        not_hazardous: "void", or "normal": objects that are no hazard count as normal (a component
            on one is then a false alarm).

    Returns:
        The part.
    """
    kinds = _choice("labels", labels, ("labelTrainIds", "labelIds"))
    _choice("not_hazardous", not_hazardous, ("void", "normal"))
    folder = os.path.join(root, "gtCoarse", part)
    scenes, kind = scene_files.pair_first_kind(
        os.path.join(root, "leftImg8bit", part),
        folder,
        "_leftImg8bit",
        [f"_gtCoarse_{k}" for k in kinds],
    )
    if kind == "_gtCoarse_labelIds":
        harmless, road, void = LOST_NOT_HAZARDOUS, (1,), (0, 255)
        obstacles = sorted(set(range(2, LOST_HIGHEST_ID + 1)) - set(harmless))
    else:
        harmless, road, void, obstacles = (0,), (1,), (255,), (2,)
    normal = (*road, *harmless) if not_hazardous == "normal" else road
    ignored = void if not_hazardous == "normal" else (*void, *harmless)
    codes = scene_classes.anomaly_codes(normal=normal, anomalous=obstacles, void=ignored)
    return Found(scenes, codes, None)


def fishyscapes(root: str, part: str, labels: str = "labels") -> Found:
    """Fishyscapes' public validation sets: `<root>/<part>/original/N.png` with
    `<root>/<part>/<labels>/N.png`, 0 normal, 1 anomalous, 255 void.

    Args:
        root: Folder of the data set.
        part: "Static" (30 images) or "LostAndFound" (100).
        labels: "labels" or "labels_with_ROI".

    Returns:
        The part.
    """
    scenes = scene_files.pair(
        os.path.join(root, part, "original"), os.path.join(root, part, labels)
    )
    return Found(scenes, scene_classes.anomaly_codes(normal=(0,), anomalous=(1,)), None)


def road_anomaly(root: str) -> Found:
    """Road Anomaly, 60 images, no void: `original/N.jpg` with `labels/N.png` (0, 1) as PEBAL's
    authors arrange it; or `frame_list.json`, `frames/N.{webp,jpg}` with
    `frames/N.labels/labels_semantic.png` (0 background, 1 road, 2 and more anomalies).

    Args:
        root: Folder of the data set.

    Returns:
        All of it.
    """
    original, frames = os.path.join(root, "original"), os.path.join(root, "frame_list.json")
    if os.path.isdir(original):
        scenes = scene_files.pair(original, os.path.join(root, "labels"))
        codes = scene_classes.anomaly_codes(normal=(0,), anomalous=(1,), void=())
    elif os.path.isfile(frames):
        scenes = scene_files.from_frame_list(frames)
        codes = scene_classes.anomaly_codes(normal=(0, 1), anomalous=range(2, 255))
    else:
        raise InputError(
            f"Neither {original} nor {frames} exists; expected Road Anomaly in {root}."
        )
    return Found(scenes, codes, None)


LAYOUTS: Mapping[str, Callable[..., Found]] = {
    "camvid": camvid,
    "cityscapes": cityscapes,
    "fishyscapes": fishyscapes,
    "lostandfound": lostandfound,
    "plain": plain,
    "plain_anomaly": plain_anomaly,
    "road_anomaly": road_anomaly,
    "streethazards": streethazards,
}


def _plain_scenes(root: str, part: str, images: str, labels: str, regions: str) -> tuple:
    folder = os.path.join(root, part)
    region = os.path.join(folder, regions)
    return scene_files.pair(
        os.path.join(folder, images),
        os.path.join(folder, labels),
        regions=region if os.path.isdir(region) else None,
    )


def _own_table(root: str) -> str:
    tried = [os.path.join(root, f"classes.{ending}") for ending in ("csv", "json")]
    for path in tried:
        if os.path.isfile(path):
            return path
    raise InputError(f"There is no class table: neither {tried[0]} nor {tried[1]} exists.")


def _choice(field: str, value: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """The chosen value alone, or all that are known for None."""
    if value is not None and value not in known:
        raise InputError(f"Unknown {field} {value!r}; expected one of {', '.join(known)}.")
    return known if value is None else (value,)
