"""Out-of-distribution detection for medical segmentation by auxiliary prototypes; document 000.

A segmentation network keeps its form. Beside it, a head maps its encoder's output to embeddings of
pixels, whose Mahalanobis distance to the nearest class prototype is the score. Head, prototypes and
network are trained together: cross-entropy, and outlier exposure on transformed training scans.
A batch is that of `scans`.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxad import fields
from jaxad.losses import (
    cross_entropy,
    inclusion,
    inclusion_exposure,
    prototypes,
    weibull,
)
from jaxad.methods import base, scan_sampling, scans
from jaxad.models.prototype_head import ACTIVATIONS, PrototypeHead

EXPOSURES = {
    "log_mean": inclusion_exposure.outlier_exposure,
    "mean_log": inclusion_exposure.outlier_exposure_mean_log,
}
IMAGE_SCORES = {"sum": prototypes.image_sum, "mean": prototypes.image_mean}
FIRST_VARIANCES = ("data", "ones")


def build(
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    dtype: Any = "float32",
    num_classes: int = 4,
    background: int | None = None,
    network: Mapping[str, Any],
    normalisation: str = "none",
    augment: Mapping[str, Any],
    features: int = 256,
    activation: str = "relu",
    first_variances: str = "data",
    exposure: str = "log_mean",
    exposure_weight: float = 0.1,
    posterior_weight: float = 0.0,
    auxiliary_weight: float = 0.0,
    labels: str = "first",
    passes: str = "joint",
    reduce: str = "sum",
    tail_share: float = 1.0,
) -> base.Method:
    """Builds the system.

    Args:
        optimizers: One for the stage "train".
        dtype: Of the network's computation; distances, losses and scores are float32.
        num_classes: K, the background included; ids of `segments` from K on are void.
        background: Its class; None: K - 1.
        network: `name`, "unet" or "deeplab_v3", and its options.
        normalisation: Of images, see `scans.NORMALISATIONS`.
        augment: Fields of `scan_sampling.Drawing`.
        features: N, of an embedding.
        activation: Of the head, one of `prototype_head.ACTIVATIONS`.
        first_variances: "data": per class the mean squared difference of its training pixels from
            its prototype, so that their mean distance is N, where the probability of inclusion is a
            half. "ones": far outside, where a class with few pixels gets no gradient by eq. 8 and
            stays, unseen in the loss.
        exposure: "log_mean", eq. 8, or "mean_log", which pulls at every pixel alike.
        exposure_weight: lambda of eq. 4.
        posterior_weight: Of the cross-entropy of the classes by eq. 5, part of no loss of the
            document.
        auxiliary_weight: Of the cross-entropy of the network's auxiliary logits.
        labels: How classes come to the size of embeddings, see `scan_sampling.labels_at`.
        passes: Scans and outliers in one forward pass or two, see `scans.exposed_stage`.
        reduce: Of the score map to the image's score: "sum", or "mean" for images of several sizes.
        tail_share: Share of the largest validation scores that the Weibull distribution is fitted
            to; 1 is the document's.

    Raises:
        InputError: A value is not as it must be; names the field.
    """
    fields.positive_integer("method.features", features)
    for name, value, choices in (
        ("activation", activation, ACTIVATIONS),
        ("first_variances", first_variances, FIRST_VARIANCES),
        ("exposure", exposure, tuple(EXPOSURES)),
        ("labels", labels, scan_sampling.LABEL_RULES),
        ("passes", passes, scans.PASSES),
        ("reduce", reduce, tuple(IMAGE_SCORES)),
    ):
        fields.one_of(f"method.{name}", value, choices)
    for name, value in (
        ("exposure_weight", exposure_weight),
        ("posterior_weight", posterior_weight),
        ("auxiliary_weight", auxiliary_weight),
    ):
        fields.not_negative(f"method.{name}", value)
    fields.share("method.tail_share", tail_share)
    fields.positive("method.tail_share", tail_share)
    looks = scans.network(
        network,
        num_classes=num_classes,
        background=background,
        normalisation=normalisation,
        dtype=dtype,
    )
    head = PrototypeHead(num_classes, features, activation, jnp.dtype(dtype))
    at = functools.partial(scan_sampling.labels_at, rule=labels, num_classes=num_classes)
    objective = functools.partial(
        _objective,
        head,
        at,
        exposure=EXPOSURES[exposure],
        posterior_weight=posterior_weight,
    )
    stage = scans.exposed_stage(
        looks,
        head,
        optimizers["train"],
        scan_sampling.parse(augment),
        objective,
        weight=exposure_weight,
        passes=passes,
        auxiliary_weight=auxiliary_weight,
        stats={"weibull": {"shape": jnp.ones(()), "scale": jnp.ones(())}},
    )
    fits = (_weibull_fit(looks, head, tail_share),)
    if first_variances == "data":
        fits = (_variance_fit(looks, head, at), *fits)

    def scores(states, batch):
        return _scores(looks, head, states["train"], batch["image"], IMAGE_SCORES[reduce])

    return base.Method(
        {"train": stage._replace(fits=fits)},
        scores,
        convert={"train": scans.converter(network)},
    )


def _objective(head, at, params, seen, *, exposure, posterior_weight):
    """Outlier exposure, eq. 8, over the global batch, and what shows whether it works."""
    normal, own = _distances(head, params, seen.normal)
    others, _ = _distances(head, params, seen.outliers)
    segments = at(seen.segments, normal.shape[1:3])
    where = (segments < normal.shape[-1]) & seen.valid[:, None, None]
    to_labels = prototypes.label_distances(normal, segments, where)
    to_nearest, _ = prototypes.nearest_prototype(others)
    dimension = own.prototypes.shape[-1]
    rows = jnp.zeros(seen.valid.shape, jnp.int32)
    loss = exposure(
        scans.paired(to_labels, to_nearest),
        scans.paired(rows, rows + 1),
        scans.paired(seen.valid, seen.valid),
        dimension,
        where=scans.paired(where, jnp.ones_like(where)),
        axis_name=base.AXIS,
    )
    metrics = {"outlier_exposure": loss}
    if posterior_weight:
        posterior = cross_entropy.mean_cross_entropy(-normal, segments, where, axis_name=base.AXIS)
        loss, metrics = loss + posterior_weight * posterior, {**metrics, "posterior": posterior}
    rates, counts = inclusion.inclusion_rate(
        normal, segments, dimension, where, axis_name=base.AXIS
    )
    # Of a class without pixels in this batch nothing is known; 1 alarms nobody.
    rates = jnp.where(counts > 0, rates, 1.0)
    metrics |= {f"inclusion/{k}": rate for k, rate in enumerate(rates)}
    return loss, {**metrics, "log_variance": jnp.mean(own.log_variances)}


def _distances(head, params, maps):
    """Squared distances `[B, h, w, K]` in float32, and what the head gives.

    From differences in float32: bfloat16 embeddings are precise enough (gradients within 1 %), but
    distances in bfloat16 make them three times too large.
    """
    own = head.apply({"params": params}, maps)
    features = own.features.astype(jnp.float32)
    return prototypes.squared_mahalanobis(features, own.prototypes, own.log_variances), own


def _variance_fit(looks, head, at) -> base.Fit:
    """The first variances, over the training split, each batch normalised by its own statistics."""

    def zero(state):
        shape = state.params["head"]["prototypes"].shape[:1]
        return {name: (jnp.zeros(shape), jnp.zeros(shape)) for name in ("own", "all")}

    def add(accumulator, state, batch):
        maps, _ = scans.train_apply(looks, scans.variables(state), batch["image"], batch["valid"])
        own = head.apply({"params": state.params["head"]}, maps.encoder)
        features = own.features.astype(jnp.float32)
        squares = prototypes.squared_euclidean(features, own.prototypes) / features.shape[-1]
        segments = at(batch["segments"].astype(jnp.int32), squares.shape[1:3])
        classes = jnp.arange(squares.shape[-1])
        real = (segments < classes.size) & batch["valid"][:, None, None]
        masks = {"own": segments[..., None] == classes, "all": jnp.ones(classes.shape, bool)}

        def sums(mask):
            counted = jnp.broadcast_to(mask & real[..., None], squares.shape)
            return (
                jnp.sum(jnp.where(counted, squares, 0.0), axis=(0, 1, 2)),
                jnp.sum(counted, axis=(0, 1, 2), dtype=jnp.float32),
            )

        new = jax.lax.psum({name: sums(mask) for name, mask in masks.items()}, base.AXIS)
        return jax.tree.map(jnp.add, accumulator, new)

    def finish(accumulator, state):
        own, of_all = (
            total / jnp.maximum(count, 1.0) for total, count in map(accumulator.get, ("own", "all"))
        )
        present = accumulator["own"][1] > 0
        variances = jnp.where(present, own, of_all)
        logs = jnp.log(jnp.maximum(jnp.where(variances > 0, variances, 1.0), _LEAST_VARIANCE))
        head_params = state.params["head"]
        logs = jnp.broadcast_to(logs[:, None], head_params["log_variances"].shape)
        return state.replace(
            params={**state.params, "head": {**head_params, "log_variances": logs}}
        )

    return base.Fit("start", "train", zero, add, finish)


def _weibull_fit(looks, head, tail_share: float) -> base.Fit:
    """A_xi of eq. 9: the distribution of all pixel scores of the validation scans."""

    def add(accumulator, state, batch):
        score_map = _score_map(looks, head, state, batch["image"])[1]
        where = jnp.broadcast_to(batch["valid"][:, None, None], score_map.shape)
        new = weibull.histogram(score_map, where, axis_name=base.AXIS)
        return jax.tree.map(jnp.add, accumulator, new)

    def finish(accumulator, state):
        fitted = weibull.fit_histogram(accumulator, tail_fraction=tail_share)
        return state.replace(stats={**state.stats, "weibull": fitted._asdict()})

    return base.Fit("end", "validation", lambda _: weibull.histogram(jnp.zeros(1)), add, finish)


def _score_map(looks, head, state, images):
    """The network's maps, and A(x) `[B, h, w]` (eq. 6)."""
    maps = scans.apply(looks, scans.variables(state), images)
    distances, _ = _distances(head, state.params["head"], maps.encoder)
    return maps, prototypes.nearest_prototype(distances)[0]


def _scores(looks, head, state, images, of_image) -> base.Scores:
    maps, score_map = _score_map(looks, head, state, images)
    explained = weibull.cdf(score_map, **state.stats["weibull"])
    found = scans.shown(looks, maps, explained, images.shape[1:3])
    return found.replace(image=of_image(score_map))


_LEAST_VARIANCE = 1e-12  # Of pixels that all lie on their prototype.
