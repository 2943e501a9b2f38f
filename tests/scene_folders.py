"""Small data sets of scenes in their published layouts, written to a folder."""

import json
import pathlib

import numpy as np
from PIL import Image

SIZE = (12, 16)


def write(path, array) -> str:
    """Writes an array as an image; makes its folder."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 90} if path.suffix == ".jpg" else {}
    Image.fromarray(np.asarray(array)).save(path, **options)
    return str(path)


def image(seed: int = 0, size=SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def label(ids, size=SIZE) -> np.ndarray:
    """A map with stripes of the ids, the first in the upper rows."""
    rows = np.arange(size[0]) * len(ids) // size[0]
    return np.repeat(np.asarray(ids, np.uint8)[rows][:, None], size[1], axis=1)


def write_plain(root, part: str, labels, sizes=None) -> None:
    """Scenes a, b, … of the layout "plain", one per list of ids."""
    for place, ids in enumerate(labels):
        name, size = chr(ord("a") + place), SIZE if sizes is None else sizes[place]
        write(root / part / "images" / f"{name}.png", image(place, size))
        write(root / part / "labels" / f"{name}.png", label(ids, size))


def write_table(root, rows=((0, "road", 0), (1, "car", 1), (2, "person", 2), (9, "thing", 254))):
    root.mkdir(parents=True, exist_ok=True)
    lines = ["id,name,train_id,r,g,b"] + [f"{i},{n},{t},{i},20,30" for i, n, t in rows]
    (root / "classes.csv").write_text("\n".join(lines) + "\n")


def plain(root, part: str = "", **fields) -> dict:
    """A section of the layout "plain"."""
    return dict(layout="plain", root=str(root), part=part, **fields)


COCO_NAMES = ("person", "dog", "cat", "train", "bicycle", "kite")
COCO_SIZE = (20, 30)


def box(left, top, right, bottom):
    """A polygon of COCO around pixels left … right - 1 and top … bottom - 1."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def write_coco(root, images, size=COCO_SIZE) -> None:
    """`images`: for each a list of (name of category, segmentation)."""
    annotations = []
    for number, things in enumerate(images, 1):
        write(root / "train2017" / f"{number:012d}.jpg", image(number, size))
        for name, segmentation in things:
            annotations.append(
                dict(
                    image_id=number,
                    category_id=COCO_NAMES.index(name) + 1,
                    segmentation=segmentation,
                    iscrowd=int(isinstance(segmentation, dict)),
                    area=1.0,
                )
            )
    content = dict(
        images=[
            dict(id=i, file_name=f"{i:012d}.jpg", height=size[0], width=size[1])
            for i in range(1, len(images) + 1)
        ],
        annotations=annotations,
        categories=[dict(id=i, name=name) for i, name in enumerate(COCO_NAMES, 1)],
    )
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "instances_train2017.json").write_text(json.dumps(content))
