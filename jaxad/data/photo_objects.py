"""Irregular, altered patches of scikit-learn's photographs as outliers to paste into scenes.

A stand-in for COCO where it is not at hand: nothing is downloaded, and no class of street scenes is
among them. Twelve kinds, a photograph and a treatment each (`photographs.KINDS`).
"""

import dataclasses
import hashlib

import numpy as np

from jaxad.data import option_checks, photographs
from jaxad.data.split import Split

_STREAM = 3  # Of random numbers, apart from those that make scenes from the same seed.


def objects(
    *,
    count: int = 240,
    kinds_share: float = 1.0,
    object_size: tuple[int, int] = (16, 36),
    noise: float = 0.0,
    seed: int = 0,
) -> Split:
    """Outlier objects, all made when the source is opened.

    Records are `object` uint8 `[h, h, 3]`, `object_mask` uint8 `[h, h]` (1 on the object) and
    `label` 1, with h the upper end of `object_size`: the mask's bounding box in the upper left
    corner, zeros elsewhere. A larger count begins with the objects of a smaller one.

    Args:
        count: Number of objects.
        kinds_share: Share of the kinds in use, at least one kind; those of a smaller share are
            among those of a larger one.
        object_size: Smallest and largest side of the square that holds an object, in pixels.
        noise: Standard deviation of the noise on every pixel of an object; white is 1.
        seed: Of everything drawn.

    Returns:
        A split whose `classes` are the objects' kinds.

    Raises:
        InputError: If an option is out of range.
    """
    options = option_checks.frozen(locals())
    rules = (
        ("count", count >= 1, "at least 1"),
        ("kinds_share", 0 < kinds_share <= 1, "above 0 and at most 1"),
        (
            "object_size",
            option_checks.is_range(object_size, 8),
            "two whole numbers in order, the first at least 8",
        ),
        ("noise", noise >= 0, "at least 0"),
        ("seed", seed >= 0, "at least 0"),
    )
    option_checks.check("photo_objects", options, rules)
    order = np.random.default_rng([seed, _STREAM]).permutation(photographs.KINDS)
    kinds = order[: max(round(kinds_share * len(order)), 1)].tolist()
    photos, drawn = photographs.remainders(), []
    for i in range(count):
        rng = np.random.default_rng([seed, _STREAM, i])
        side = int(rng.integers(*object_size, endpoint=True))
        cutting, mask = photographs.patch(rng, photos, kinds[i % len(kinds)], side, object_size[1])
        # As noisy as a scene: a pasted object is not to be found by its lack of noise.
        drawn.append((photographs.exposed(rng, cutting / 255, noise) * mask[..., None], mask))
    pixels, masks = map(np.stack, zip(*drawn, strict=True))
    content = hashlib.sha256(pixels.tobytes() + masks.tobytes()).hexdigest()
    return Split(
        names=[f"outliers_{i:04d}" for i in range(count)],
        labels=np.ones(count, np.int64),
        read=_Reader(pixels, masks),
        # Of the content alone: random streams and resampling may change with libraries' versions.
        fingerprint={"source": "photo_objects", "seed": seed, "content": content},
        classes=[kinds[i % len(kinds)] for i in range(count)],
    )


@dataclasses.dataclass(frozen=True)
class _Reader:
    objects: np.ndarray
    masks: np.ndarray

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        return {"object": self.objects[i], "object_mask": self.masks[i], "label": np.int32(1)}
