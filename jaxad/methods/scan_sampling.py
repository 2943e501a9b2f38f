"""Training scans of the systems for medical segmentation, turned and moved, and outliers made of
them, on the device (document 000, section 4.1).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxad import fields
from jaxad.augment import affine, outliers
from jaxad.errors import InputError
from jaxad.methods import base, scene_sampling

# In the order of `outliers.medical_operations`.
OPERATIONS = ("half_turn", "vertical_flip", "permutation", "swap", "gamma", "elastic")
LABEL_RULES = ("first", "middle", "majority")


class Drawing(NamedTuple):
    """How training scans and outliers are drawn; the fields of `config.method.augment`.

    Never add a flip for scans: an upside-down scan is an outlier here.

    Attributes:
        degrees: Scans are turned by up to as many.
        pixels: And moved by up to as many along each axis.
        operations: Of which each outlier undergoes some, see `OPERATIONS`.
        probabilities: Of the operations; empty: all alike.
        count: Operations per outlier, all different.
        grid: Patches per side of the permutation.
        patch: Side of swapped patches in pixels.
        swaps: Pairs of patches that are swapped.
        log_gamma: Smallest and largest logarithm of gamma.
        displacement: Largest shift of a control point of the elastic deformation in pixels.
    """

    degrees: float = 15.0
    pixels: float = 10.0
    operations: tuple[str, ...] = OPERATIONS
    probabilities: tuple[float, ...] = ()
    count: int = 1
    grid: int = 2
    patch: int = 15
    swaps: int = 100
    log_gamma: tuple[float, float] = (-0.3, 0.3)
    displacement: float = 7.5


def parse(section: Mapping[str, Any]) -> Drawing:
    """Reads `config.method.augment`.

    Raises:
        InputError: A field is unknown or not as it must be: names it.
    """
    given = fields.tuples(section)
    unknown = sorted(given.keys() - set(Drawing._fields))
    if unknown:
        raise InputError(
            f"config.method.augment has no field {unknown[0]!r}; expected some of "
            f"{list(Drawing._fields)}."
        )
    drawing = Drawing(**given)
    fields.check(_DRAWING_FIELDS, drawing._asdict(), "method.augment")
    for name in drawing.operations:
        fields.one_of("method.augment.operations", name, OPERATIONS)
    for value in drawing.probabilities:
        fields.not_negative("method.augment.probabilities", value)
    likely = sum(p > 0 for p in drawing.probabilities or [1.0] * len(drawing.operations))
    if drawing.probabilities and len(drawing.probabilities) != len(drawing.operations):
        raise InputError(
            f"config.method.augment.probabilities: expected one for each of the "
            f"{len(drawing.operations)} operations, found {len(drawing.probabilities)}."
        )
    if drawing.count > likely:
        raise InputError(
            f"config.method.augment.count: expected at most the {likely} operations that can be "
            f"drawn, found {drawing.count}."
        )
    low, high = drawing.log_gamma
    if not low <= high:
        raise InputError(
            f"config.method.augment.log_gamma: expected the lowest and the highest, found "
            f"{drawing.log_gamma}."
        )
    return drawing


def draw_scans(
    drawing: Drawing, rng: jax.Array, batch: base.Batch, *, background: int
) -> tuple[jax.Array, jax.Array]:
    """Turned and moved scans.

    Args:
        drawing: How.
        rng: The same on all devices.
        batch: Of training.
        background: Class of what comes in at the border.

    Returns:
        Scans `[B, H, W, C]`, float32 in [0, 1], and int32 classes `[B, H, W]`.
    """
    images = scene_sampling.in_unit_range(batch["image"])
    images, segments, _ = affine.random_rigid(
        base.example_keys(rng, images.shape[0]),
        images,
        batch["segments"].astype(jnp.int32),
        degrees=drawing.degrees,
        pixels=drawing.pixels,
        background=background,
    )
    return images, segments


def draw_outliers(
    drawing: Drawing, rng: jax.Array, images: jax.Array, *, axis_name: str | None = base.AXIS
) -> jax.Array:
    """An outlier made of each scan.

    Args:
        drawing: How.
        rng: The same on all devices.
        images: Of `draw_scans`.
        axis_name: Named axis of devices; None: there is one.

    Returns:
        As the images.
    """
    known = outliers.medical_operations(
        grid=drawing.grid,
        patch=drawing.patch,
        swaps=drawing.swaps,
        logs=drawing.log_gamma,
        displacement=drawing.displacement,
    )
    changed, _ = outliers.random_operations(
        base.example_keys(rng, images.shape[0], axis_name=axis_name),
        images,
        operations=[known[OPERATIONS.index(name)] for name in drawing.operations],
        probabilities=drawing.probabilities or None,
        count=drawing.count,
    )
    return changed


def labels_at(
    segments: jax.Array, size: tuple[int, int], *, rule: str, num_classes: int
) -> jax.Array:
    """y': classes at the size of a feature map.

    Args:
        segments: Classes `[B, H, W]`, int32; from `num_classes` on void.
        size: Height and width of the map.
        rule: "first": the pixel in the upper left of a cell; "middle": that in its middle;
            "majority": the commonest class of its pixels that are not void, the lowest of equal
            ones, for cells of whole pixels.
        num_classes: K.

    Returns:
        int32 `[B, *size]`; 255 where a cell is void.

    Raises:
        ValueError: The rule is unknown, or "majority" and a cell is no whole number of pixels.
    """
    shape = segments.shape[1:]
    if rule == "majority":
        if any(long % short for long, short in zip(shape, size, strict=True)):
            raise ValueError(f"rule 'majority': {shape} pixels are no multiple of {size} cells.")
        high, wide = shape[0] // size[0], shape[1] // size[1]
        cells = segments.reshape(-1, size[0], high, size[1], wide)
        counts = jnp.sum(cells[..., None] == jnp.arange(num_classes), axis=(2, 4))
        commonest = jnp.argmax(counts, axis=-1).astype(jnp.int32)
        return jnp.where(jnp.any(counts > 0, axis=-1), commonest, 255)
    if rule not in LABEL_RULES:
        raise ValueError(f"rule: expected one of {LABEL_RULES}, got {rule!r}.")
    inside = 0.5 if rule == "middle" else 0.0
    rows, columns = (
        jnp.asarray([int((i + inside) * long / short) for i in range(short)])
        for long, short in zip(shape, size, strict=True)
    )
    return segments[:, rows][:, :, columns]


_DRAWING_FIELDS = {
    "degrees": fields.not_negative,
    "pixels": fields.not_negative,
    "count": fields.positive_integer,
    "grid": fields.positive_integer,
    "patch": fields.positive_integer,
    "swaps": fields.positive_integer,
    "displacement": fields.not_negative,
}
