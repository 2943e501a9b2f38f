"""What the systems for medical segmentation share: training scans, outliers made of them, a stage.

A batch holds `image [B, H, W, C]` in [0, 1] (or uint8), `segments [B, H, W]` (class ids; from the
number of classes on: void) and `valid [B]`. Training and validation scans are in-distribution;
outliers are made of training scans, on the device, at each step (document 000, section 4.1).
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxad import fields
from jaxad.augment import affine, color, outliers
from jaxad.errors import InputError
from jaxad.losses import cross_entropy, masked
from jaxad.methods import base, scene_sampling, segmentation
from jaxad.models.scene_maps import SceneMaps

# In the order of `outliers.medical_operations`.
OPERATIONS = ("half_turn", "vertical_flip", "permutation", "swap", "gamma", "elastic")
LABEL_RULES = ("first", "middle", "majority")
PASSES = ("joint", "separate")
NORMALISATIONS = ("none", "imagenet")


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


class Looks(NamedTuple):
    """How a network sees scans.

    Attributes:
        model: The network.
        num_classes: K.
        background: The class that is no foreground.
        normalisation: "none", or "imagenet" for a backbone that was trained so.
    """

    model: nn.Module
    num_classes: int
    background: int
    normalisation: str


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


def network(
    section: Mapping[str, Any],
    *,
    num_classes: int,
    background: int | None,
    normalisation: str,
    dtype: Any,
) -> Looks:
    """The network of `config.method.network`, and how it sees scans.

    Args:
        section: `name`, one of `segmentation.NETWORKS` that offer their encoder, and its options.
        num_classes: K.
        background: A class; None: the last one.
        normalisation: One of `NORMALISATIONS`.
        dtype: Of the computation.

    Raises:
        InputError: A value is not as it must be; names the field.
    """
    fields.positive_integer("method.num_classes", num_classes)
    fields.one_of("method.normalisation", normalisation, NORMALISATIONS)
    background = num_classes - 1 if background is None else background
    if not 0 <= background < num_classes:
        raise InputError(
            f"config.method.background: expected a class from 0 to {num_classes - 1}, found "
            f"{background!r}."
        )
    model = segmentation.network(section, num_classes, dtype)
    return Looks(model, num_classes, background, normalisation)


def draw_scans(
    drawing: Drawing, looks: Looks, rng: jax.Array, batch: base.Batch
) -> tuple[jax.Array, jax.Array]:
    """Turned and moved scans.

    Args:
        drawing: How.
        looks: For the class of what comes in at the border.
        rng: The same on all devices.
        batch: Of training.

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
        background=looks.background,
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


def paired(first: jax.Array, second: jax.Array) -> jax.Array:
    """Rows of both in turn, `[2 B, ...]`: an example's place does not depend on the devices."""
    return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


def unpaired(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The inverse of `paired`."""
    return rows[0::2], rows[1::2]


def apply(
    looks: Looks, variables: Mapping[str, Any], images: jax.Array, **options: Any
) -> SceneMaps:
    """The network on scans in [0, 1], for scores.

    Args:
        looks: The network.
        variables: `params` and `batch_stats`.
        images: `[B, H, W, C]`.
        options: Of `flax.linen.Module.apply`, and of the network.
    """
    return looks.model.apply(variables, prepared(looks, images), **options)


def train_apply(
    looks: Looks,
    variables: Mapping[str, Any],
    images: jax.Array,
    valid: jax.Array,
    rng: jax.Array | None = None,
) -> tuple[SceneMaps, dict[str, Any]]:
    """The network in training, and the batch statistics that it keeps.

    Args:
        looks: The network.
        variables: `params` and `batch_stats`.
        images: `[B, H, W, C]` in [0, 1].
        valid: Real rows `[B]`.
        rng: For dropout; None: nothing is dropped.
    """
    return apply(
        looks,
        variables,
        images,
        where=valid,
        train=True,
        dropout=rng is not None,
        rngs={} if rng is None else {"dropout": rng},
        mutable=["batch_stats"],
    )


def prepared(looks: Looks, images: jax.Array) -> jax.Array:
    """Scans as the network takes them: grey ones as three channels where ImageNet's are needed."""
    images = scene_sampling.in_unit_range(images)
    if looks.normalisation == "none":
        return images
    rgb = jnp.broadcast_to(images, (*images.shape[:-1], 3)) if images.shape[-1] == 1 else images
    return color.normalize(rgb)


def segmentation_loss(
    looks: Looks, logits: jax.Array, segments: jax.Array, valid: jax.Array
) -> jax.Array:
    """L_seg: mean cross-entropy over the pixels of the global batch (document 000, section 3).

    Args:
        looks: The network.
        logits: `[B, h, w, K]`, enlarged where needed.
        segments: Classes `[B, H, W]`; from K on void.
        valid: Real rows `[B]`.
    """
    where = (segments < looks.num_classes) & valid[:, None, None]
    logits = segmentation.enlarged(logits, segments.shape[1:], looks.model)
    return cross_entropy.mean_cross_entropy(logits, segments, where, axis_name=base.AXIS)


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


class Exposed(NamedTuple):
    """What an objective of outlier exposure sees of a batch.

    Attributes:
        normal: Encoder output of the scans, `[B, h, w, c]`.
        outliers: Encoder output of the outliers.
        segments: Classes of the scans, `[B, H, W]`.
        valid: Real rows `[B]`.
    """

    normal: jax.Array
    outliers: jax.Array
    segments: jax.Array
    valid: jax.Array


Objective = Callable[[Any, Exposed], tuple[jax.Array, base.Metrics]]


def exposed_stage(
    looks: Looks,
    head: nn.Module,
    tx: optax.GradientTransformation,
    drawing: Drawing,
    objective: Objective,
    *,
    weight: float,
    passes: str,
    auxiliary_weight: float,
    stats: Mapping[str, Any],
) -> base.Stage:
    """Segmentation with a head that is trained by outlier exposure: L_seg + weight · objective.

    The state has `network` and `head` in `params`; in `stats` the network's own and those given.

    Args:
        looks: The network.
        head: What reads the encoder's output.
        tx: Optimiser of both.
        drawing: How scans and outliers are drawn.
        objective: From the head's parameters and what the encoder gives to the loss of the global
            batch, and metrics.
        weight: lambda of document 000, eq. 4.
        passes: "joint": scans and outliers in one batch, as batch norm sees it; "separate": each
            normalised by its own, and only those of scans are kept.
        auxiliary_weight: Of L_seg on the network's auxiliary logits, where it has some.
        stats: Further entries of `state.stats` to begin with.
    """

    def loss(params, stats, batch, rng):
        for_images, for_outliers, for_dropout = jax.random.split(rng, 3)
        images, segments = draw_scans(drawing, looks, for_images, batch)
        changed = draw_outliers(drawing, for_outliers, images)
        valid = batch["valid"]
        variables = {"params": params["network"], "batch_stats": stats["batch_stats"]}
        if passes == "joint":
            both, kept = train_apply(
                looks, variables, paired(images, changed), paired(valid, valid), for_dropout
            )
            normal, out = (SceneMaps(*each) for each in zip(*map(_halves, both), strict=True))
        else:
            normal, kept = train_apply(looks, variables, images, valid, for_dropout)
            for_others = jax.random.fold_in(for_dropout, 1)
            out, _ = train_apply(looks, variables, changed, valid, for_others)
        terms = {"cross_entropy": segmentation_loss(looks, normal.logits, segments, valid)}
        if normal.auxiliary is not None and auxiliary_weight:
            auxiliary = segmentation_loss(looks, normal.auxiliary, segments, valid)
            terms["auxiliary"] = auxiliary_weight * auxiliary
        seen = Exposed(normal.encoder, out.encoder, segments, valid)
        exposure, metrics = objective(params["head"], seen)
        same = jnp.max(jnp.abs(changed - images), axis=(1, 2, 3)) < _UNCHANGED
        unchanged = masked.mean(same.astype(jnp.float32), valid, axis_name=base.AXIS)
        metrics = {**terms, **metrics, "unchanged_outliers": unchanged}
        return sum(terms.values()) + weight * exposure, ({**stats, **kept}, metrics)

    def init(rng, batch, _done):
        check(batch)
        for_network, for_head = jax.random.split(rng)
        variables = initial(looks, for_network, batch)
        maps = jax.eval_shape(functools.partial(apply, looks), variables, batch["image"])
        if maps.encoder is None:
            raise InputError(
                "config.method.network.name: expected a network that offers its encoder's output, "
                f"such as 'unet' or 'deeplab_v3', found {type(looks.model).__name__}."
            )
        own = head.init(for_head, jnp.zeros(maps.encoder.shape, maps.encoder.dtype))
        params = {"network": variables["params"], "head": own["params"]}
        own_stats = {"batch_stats": variables["batch_stats"], **stats}
        return base.new_state(params, tx.init(params), own_stats)

    return base.Stage(init, base.gradient_update(loss, tx))


def initial(looks: Looks, rng: jax.Array, batch: base.Batch) -> dict[str, Any]:
    """The network's variables before training: `params` and `batch_stats`, which may be empty.

    Raises:
        InputError: The network does not take images of that size.
    """
    try:
        image = jnp.zeros((1, *batch["image"].shape[1:]), jnp.float32)
        return {"batch_stats": {}, **looks.model.init(rng, prepared(looks, image))}
    except ValueError as error:
        raise InputError(f"config.method.network: {error}") from error


def variables(state: base.State) -> dict[str, Any]:
    """What the network of `exposed_stage` is applied with."""
    return {"params": state.params["network"], "batch_stats": state.stats["batch_stats"]}


def converter(section: Mapping[str, Any]):
    """`segmentation.converter` for states with a head beside the network."""
    convert = segmentation.converter(section)

    def with_head(arrays, state):
        read = convert(arrays, state.replace(params=state.params["network"]))
        return read.replace(params={**state.params, "network": read.params})

    return with_head


def check(batch: base.Batch) -> None:
    """Raises an `InputError` unless a batch has what these systems need."""
    missing = [name for name in ("image", "segments") if name not in batch]
    if missing:
        raise InputError(
            f"config.data.source gives records with {sorted(batch)} and without {missing}; "
            "segmentation needs images with class maps."
        )


_UNCHANGED = 1.0 / 255.0  # An outlier with no larger change looks like a scan.


def _halves(maps: jax.Array | None) -> tuple[jax.Array | None, jax.Array | None]:
    return (None, None) if maps is None else unpaired(maps)


_DRAWING_FIELDS = {
    "degrees": fields.not_negative,
    "pixels": fields.not_negative,
    "count": fields.positive_integer,
    "grid": fields.positive_integer,
    "patch": fields.positive_integer,
    "swaps": fields.positive_integer,
    "displacement": fields.not_negative,
}
