"""Small scenes of two sizes with scores, and the batches that a run would make of them."""

import numpy as np

from jaxad.data.split import Split
from jaxad.evaluation import collecting

CLASSES = ("road", "sky", "car", "tree")
SIZES = ((24, 40), (16, 30))
COUNT = 9


def scene(i):
    """Scores and record of one image; every third is without anomalies, void is at the top."""
    rng = np.random.default_rng(i)
    height, width = SIZES[i % 2]
    segments = np.broadcast_to(np.arange(width) // 12, (height, width)).astype(np.uint8)
    anomaly = np.zeros((height, width), np.uint8)
    if i % 3:
        top, left = rng.integers(3, height - 8), rng.integers(0, width - 10)
        anomaly[top : top + 6, left : left + 8] = 1
    segments = np.where(anomaly == 1, 254, segments).astype(np.uint8)
    anomaly[:2] = segments[:2] = 255
    right = rng.random((height, width)) < 0.8
    guesses = rng.integers(0, 4, (height, width))
    # Rounded scores, for many ties.
    scores = np.round(rng.normal(size=(height, width)) + 1.5 * (anomaly == 1), 1)
    maps = {
        "pixel": scores.astype(np.float32),
        "classes": np.where(right & (segments < 4), segments, guesses).astype(np.int32),
        "confidence": rng.random((height, width), np.float32),
    }
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return maps, {"image": image, "anomaly": anomaly, "segments": segments}


SCENES = [scene(i) for i in range(COUNT)]


def split(**changes):
    fields = {
        "names": [f"scene/{i}" for i in range(COUNT)],
        "labels": np.array([int(i % 3 > 0) for i in range(COUNT)]),
        "read": lambda i: SCENES[i][1],
        "fingerprint": {},
        "sizes": np.array([SIZES[i % 2] for i in range(COUNT)]),
        "segment_classes": CLASSES,
    }
    return Split(**{**fields, **changes})


def batches(order=range(COUNT), *, size=2, scenes=SCENES, maps=None, truth=None):
    """Scores and records by batch, images of one size together, padded with what must not be read.

    Args:
        order: Positions.
        size: Rows per batch.
        scenes: What to score.
        maps: Names of maps to give; all by default.
        truth: Names of arrays of the records to give; all by default.
    """
    for shape in SIZES:
        own = [i for i in order if scenes[i][0]["pixel"].shape == shape]
        for start in range(0, len(own), size):
            rows = own[start : start + size]
            rest = size - len(rows)

            def stacked(part, wanted, rows=rows, rest=rest):
                found = {}
                for name in scenes[rows[0]][part]:
                    if wanted is None or name in wanted:
                        arrays = [scenes[i][part][name] for i in rows]
                        bad = np.nan if arrays[0].dtype.kind == "f" else 77
                        arrays += [np.full_like(arrays[0], bad)] * rest
                        found[name] = np.stack(arrays)
                return found

            index = np.array([*rows, *[-1] * rest], np.int32)
            valid = np.arange(size) < len(rows)
            yield {**stacked(0, maps), "index": index, "valid": valid}, stacked(1, truth)


def collected(*arguments, keeping=None, **options):
    return collecting.collect(split(), batches(*arguments, **options), keeping=keeping)


def flat(scenes=SCENES):
    """Truth and scores of all pixels that are not void."""
    where = [s[1]["anomaly"] != 255 for s in scenes]
    truth = np.concatenate([s[1]["anomaly"][w] for s, w in zip(scenes, where, strict=True)])
    scores = np.concatenate([s[0]["pixel"][w] for s, w in zip(scenes, where, strict=True)])
    return truth, scores
