"""Batches as the pipeline makes them, of random records: no data set is needed."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxad import config as configs
from jaxad.data import sources
from jaxad.data.sources import RecordShape
from jaxad.errors import InputError

Shapes = Mapping[str, RecordShape]

_BLOCK = 8  # Side of a patch of one class in random scenes, in pixels.


def shapes(config: Any, stage: str | None = None) -> dict[str, RecordShape]:
    """Shapes and types of one record, from the config alone where the source can tell.

    Args:
        config: Of a run.
        stage: Whose training rows are meant, outlier objects included; None: those of a test.
    """
    options = dict(config.data.source.to_dict())
    found = sources.record_shapes(options.pop("name"), options)
    if stage is None:
        return found
    if config.stages[stage].outlier_share:
        canvas = canvas_of(options)
        found["object"] = RecordShape((*canvas, 3), np.dtype(np.uint8))
        found["object_mask"] = RecordShape(canvas, np.dtype(np.uint8))
    if config.stages[stage].class_uniform_share:
        found["centre"] = RecordShape((2,), np.dtype(np.int32))
    return found


def canvas_of(options: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the outlier objects of a source of scenes."""
    outliers = options.get("outliers")
    section = outliers if isinstance(outliers, Mapping) else options
    if "object_size" not in section:
        raise InputError(f"config.data.source has no outlier objects; it has {sorted(options)}.")
    if section.get("layout") == "coco_proxy":
        return tuple(section["object_size"])
    return (max(section["object_size"]),) * 2  # Lowest and highest side of a square.


def with_length(record: Shapes, length: int) -> dict[str, RecordShape]:
    """The same with that many snippets.

    Raises:
        InputError: The records are no videos.
    """
    crops, _, *rest = _shape(record, "features", "lengths")
    return {**record, "features": record["features"]._replace(shape=(crops, length, *rest))}


def with_size(record: Shapes, size: Sequence[int]) -> dict[str, RecordShape]:
    """The same with scenes of that height and width.

    Raises:
        InputError: The records are no scenes.
    """
    channels = _shape(record, "image", "sizes")[2]
    image = record["image"]._replace(shape=(*size, channels))
    return {**record, "image": image, "segments": record["segments"]._replace(shape=tuple(size))}


def crop_of(config: Any, stage: str) -> tuple[int, int]:
    """Height and width of the crops that a stage of a segmentation system trains on, or those of
    its images where it crops none.
    """
    own = f"{stage}_augment"
    section = config.method.get(own) or config.method.get("augment") or {}
    return tuple(section.get("crop", config.data.source.get("size")))


def with_crop(config: Any, stage: str, size: Sequence[int]) -> tuple[Any, dict[str, RecordShape]]:
    """A config whose training crops have that height and width, and records that grow with them.

    Args:
        config: Of a segmentation system; left as it is.
        stage: Whose crop is the measure of the records.
        size: Height and width of the crops of all stages.

    Returns:
        The config, and the shapes of records with as many crops per side as before; where nothing
        is cropped, records of that size.

    Raises:
        InputError: The records are no scenes.
    """
    record = shapes(config, stage)
    old = _shape(record, "image", "sizes")[:2]
    sides = zip(old, size, crop_of(config, stage), strict=True)
    drawn = [name for name in config.method if name.endswith("augment")]
    sections = [name for name in drawn if "crop" in config.method[name]]
    grown = [-(-side * new // crop) for side, new, crop in sides]
    changed = copy.deepcopy(config)
    fields = [f"method.{name}.crop" for name in sections] or ["data.source.size"]
    configs.override(changed, dict.fromkeys(fields, tuple(size)))
    return changed, with_size(record, grown)


def batch(record: Shapes, rows: int, *, classes: int = 0) -> dict[str, Any]:
    """A batch of random records.

    Args:
        record: Shapes and types of one record.
        rows: Of videos half are anomalous; of scenes half go with an object, if any do.
        classes: Of `segments`; about a tenth of their pixels are void.
    """
    rng = np.random.default_rng(0)
    found = {name: _random(rng, name, rows, shape, classes) for name, shape in record.items()}
    odd = np.arange(rows) % 2 == 0
    if "object_mask" in found:
        found["object_mask"] *= odd[:, None, None].astype(np.uint8)
        found["object"] *= found["object_mask"][..., None]
    found["label"] = np.where("features" in found, odd, 0).astype(np.int32)
    found["valid"] = np.ones(rows, bool)
    found["index"] = np.arange(rows, dtype=np.int32)
    if "features" in found:
        found["length"] = np.full(rows, found["features"].shape[2], np.int32)
    return found


def _random(rng, name: str, rows: int, shape: RecordShape, classes: int) -> np.ndarray:
    size = (rows, *shape.shape)
    if name == "segments":
        patches = rng.integers(0, 255, [-(-side // _BLOCK) for side in size[1:]], np.uint8)
        ids = np.where(patches < 25, 255, patches % max(classes, 1)).astype(np.uint8)
        scene = ids.repeat(_BLOCK, 0).repeat(_BLOCK, 1)[: size[1], : size[2]]
        return np.stack([np.roll(scene, row * _BLOCK, axis=1) for row in range(rows)])
    if name == "object_mask":  # A box in the upper left corner, half the canvas high and wide.
        mask = np.zeros(size, np.uint8)
        mask[:, : -(-size[1] // 2), : -(-size[2] // 2)] = 1
        return mask
    if name == "centre":
        return np.full(size, -1, shape.dtype)
    if shape.dtype == np.uint8:
        return rng.integers(0, 256, size, np.uint8)
    if np.issubdtype(shape.dtype, np.floating):
        return rng.random(size, np.float32).astype(shape.dtype)
    return np.zeros(size, shape.dtype)


def _shape(record: Shapes, name: str, flag: str) -> tuple[int, ...]:
    if name not in record:
        raise InputError(
            f"--{flag} is for records with {name!r}; those of this config have {sorted(record)}."
        )
    return record[name].shape
