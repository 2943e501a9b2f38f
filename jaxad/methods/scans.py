"""What the systems for medical segmentation share: how networks see scans, and a stage.

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

from jaxad import fields, resampling
from jaxad.augment import color
from jaxad.errors import InputError
from jaxad.losses import cross_entropy, masked
from jaxad.methods import base, scan_sampling, scene_sampling, segmentation
from jaxad.models.scene_maps import SceneMaps

PASSES = ("joint", "separate")
NORMALISATIONS = ("none", "imagenet")


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


def segmentation_terms(
    looks: Looks, maps: SceneMaps, segments: jax.Array, valid: jax.Array, auxiliary_weight: float
) -> dict[str, jax.Array]:
    """`segmentation_loss` of a network's logits, and of its auxiliary ones where it has some.

    Args:
        looks: The network.
        maps: What it returned in training.
        segments: As for `segmentation_loss`.
        valid: As for `segmentation_loss`.
        auxiliary_weight: Of the second term; 0 leaves it out.

    Returns:
        Terms to sum, by name.
    """
    terms = {"cross_entropy": segmentation_loss(looks, maps.logits, segments, valid)}
    if maps.auxiliary is not None and auxiliary_weight:
        auxiliary = segmentation_loss(looks, maps.auxiliary, segments, valid)
        terms["auxiliary"] = auxiliary_weight * auxiliary
    return terms


def shown(
    looks: Looks, maps: SceneMaps, score_map: jax.Array, size: tuple[int, int]
) -> base.Scores:
    """Predicted classes, and a score map at the size of the scans.

    Args:
        looks: The network.
        maps: What it returned.
        score_map: At the size of the encoder's output, `[B, h, w]`.
        size: Height and width of the scans.
    """
    pixel = resampling.bilinear(score_map[..., None], size, align_corners=False)[..., 0]
    decided = segmentation.decided([segmentation.enlarged(maps.logits, size, looks.model)])
    return decided.replace(pixel=pixel)


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
    drawing: scan_sampling.Drawing,
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
        images, segments = scan_sampling.draw_scans(
            drawing, for_images, batch, background=looks.background
        )
        changed = scan_sampling.draw_outliers(drawing, for_outliers, images)
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
        terms = segmentation_terms(looks, normal, segments, valid, auxiliary_weight)
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
