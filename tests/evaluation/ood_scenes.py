"""Small grey images with scores and classes, in-distribution or of three named sets.

Whole images have truth: there are no true anomaly maps, and some sets have no classes either.
"""

import numpy as np

from jaxad.data.split import Split
from jaxad.evaluation import collecting

CLASSES = ("left", "middle", "right", "background")
SETS = ("", "", "", "", "", "", "scanner", "scanner", "scanner", "view", "view", "organ", "organ")
COUNT = len(SETS)
GROUPS = {"scanner": "C3", "view": "C1", "organ": "C1", "unused": "C2"}
SUBJECTS = tuple(f"P{i // 2}" for i in range(COUNT))
SHAPE = (12, 20)


def scene(i):
    """Scores and record of one image; only the set "scanner" has classes beside normal images."""
    rng = np.random.default_rng(i)
    columns = np.broadcast_to(np.arange(SHAPE[1]) // 5, SHAPE)
    right = rng.random(SHAPE) < 0.8
    known = SETS[i] in ("", "scanner")
    maps = {
        "pixel": (rng.random(SHAPE) * (0.5 if SETS[i] == "" else 1)).astype(np.float32),
        "classes": np.where(right, columns, rng.integers(0, 4, SHAPE)).astype(np.int32),
    }
    segments = (columns if known else np.full(SHAPE, 255)).astype(np.uint8)
    image = rng.random((*SHAPE, 1), np.float32)
    return maps, {"image": image, "segments": segments}


SCENES = [scene(i) for i in range(COUNT)]
# Ties, and sets of other difficulty.
IMAGE = np.round([1, 3, 2, 5, 4, 2, *(4, 5, 1), *(9, 8), *(5, 7)], 0).astype(np.float32)


def split(**changes):
    fields = {
        "names": [f"{SUBJECTS[i]}/z{i:03d}" for i in range(COUNT)],
        "labels": np.array([int(bool(name)) for name in SETS]),
        "read": lambda i: SCENES[i][1],
        "fingerprint": {},
        "classes": list(SETS),
        "segment_classes": CLASSES,
        "class_groups": GROUPS,
        "background": 3,
        "subjects": list(SUBJECTS),
    }
    return Split(**{**fields, **changes})


def batches(order=range(COUNT), *, size=2, scenes=SCENES, image=IMAGE):
    """Scores and records by batch, the last one padded with what must not be read."""
    for start in range(0, len(order), size):
        rows = list(order[start : start + size])
        padded = rows + rows[:1] * (size - len(rows))
        scores, records = (
            {name: np.stack([scenes[i][part][name] for i in padded]) for name in scenes[0][part]}
            for part in (0, 1)
        )
        valid = np.arange(size) < len(rows)
        index = np.where(valid, padded, -1).astype(np.int32)
        yield {**scores, "image": image[padded], "index": index, "valid": valid}, records


def collected(*arguments, overlays=0, of=None, **options):
    keeping = collecting.Keeping(overlays=overlays)
    return collecting.collect(of or split(), batches(*arguments, **options), keeping=keeping)
