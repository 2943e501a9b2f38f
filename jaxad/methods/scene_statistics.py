"""Statistics of training pixels that post-hoc scores of segmentation networks need."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxad.augment import resize
from jaxad.losses import class_gaussians, standardised_logit
from jaxad.methods import base, scene_inference, scene_sampling, segmentation

_VOID = 255


class Statistics(NamedTuple):
    """How statistics of training pixels are gathered.

    Attributes:
        zero: `(network, batch) -> sums` of no pixels.
        add: `(sums, network, batch) -> sums`, those of all devices.
        finish: `(sums, ridge) -> statistics`; the ridge is that of `class_gaussians.finish`.
    """

    zero: Callable[[segmentation.Trained, base.Batch], Any]
    add: Callable[[Any, segmentation.Trained, base.Batch], Any]
    finish: Callable[[Any, float], Any]


def fit(
    statistics: Statistics, net_of: Callable[[base.State], segmentation.Trained], ridge: float
) -> base.Fit:
    """A pass over the training split at the start of the stage, into `stats` of its state.

    Args:
        statistics: Which; `stats["sums"]` has their shapes.
        net_of: The network of a state.
        ridge: As for `Statistics.finish`.
    """

    def zero(state):
        return jax.tree.map(jnp.zeros_like, state.stats["sums"])

    def add(sums, state, batch):
        return statistics.add(sums, net_of(state), batch)

    def finish(sums, state):
        found = {"sums": sums, "statistics": statistics.finish(sums, ridge)}
        return state.replace(stats={**state.stats, **found})

    return base.Fit("start", "train", zero, add, finish)


def _max_logit_zero(net, _batch):
    return standardised_logit.zero(net.num_classes)


def _max_logit_add(sums, net, batch):
    """Max logits of all pixels, by their predicted class, looked at as when they are scored."""

    def add(sums, logits, inside):
        where = inside[None, :, None] & batch["valid"][:, None, None]
        return standardised_logit.add(sums, logits, where, axis_name=base.AXIS)

    maps = functools.partial(segmentation.inlier_logits, net)
    images = scene_sampling.normalised(batch["image"])
    for view in scene_inference.look(maps, images, net.inference):
        sums = scene_inference.fold_strips(
            view,
            images.shape[1:3],
            sums,
            add,
            align_corners=net.align_corners,
            rows=net.inference.rows,
        )
    return sums


def _gaussians_zero(net, batch):
    shape = (1, *batch["image"].shape[1:])
    features = jax.eval_shape(lambda: net.apply(jnp.zeros(shape, jnp.float32), None).features)
    return class_gaussians.zero(net.num_classes, features.shape[-1])


def _gaussians_add(sums, net, batch):
    """Features at the network's stride, by the true class under their centre, looked at as when
    they are scored.
    """

    def features(images):
        return net.apply(images, None).features.astype(jnp.float32)

    images = scene_sampling.normalised(batch["image"])
    for view in scene_inference.look(features, images, net.inference):
        for maps, (top, left), (height, width) in view:
            labels = batch["segments"][:, top : top + height, left : left + width]
            short = ((0, 0), (0, height - labels.shape[1]), (0, width - labels.shape[2]))
            labels = jnp.pad(labels.astype(jnp.int32), short, constant_values=_VOID)
            labels = resize.resize_labels_centre(labels, size=maps.shape[1:3])
            where = batch["valid"][:, None, None]
            sums = class_gaussians.add(sums, maps, labels, where, axis_name=base.AXIS)
    return sums


BY_SCORE: Mapping[str, Statistics] = {
    "standardised_max_logit": Statistics(
        _max_logit_zero, _max_logit_add, lambda sums, _ridge: standardised_logit.finish(sums)
    ),
    "mahalanobis": Statistics(
        _gaussians_zero,
        _gaussians_add,
        lambda sums, ridge: class_gaussians.finish(sums, ridge=ridge),
    ),
}
