"""Closed-set segmentation: a network trained on inlier classes alone, scored by its own logits.

What PEBAL fine-tunes and `posthoc` scores in other ways (document 004, section 11.4; document 001,
section 4). A batch is that of `segmentation`.
"""

from collections.abc import Mapping
from typing import Any

import optax

from jaxad import fields
from jaxad.methods import base, scene_inference, scene_sampling, segmentation


def build(
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    dtype: Any = "float32",
    num_classes: int = 19,
    network: Mapping[str, Any],
    augment: Mapping[str, Any],
    inference: Mapping[str, Any],
    auxiliary_weight: float = 0.4,
    score: str = "msp",
) -> base.Method:
    """Builds a closed-set network and its score.

    Args:
        optimizers: One for the stage "train".
        dtype: Of the network's computation.
        num_classes: K; ids of `segments` from K on are void.
        network: `name`, one of `segmentation.NETWORKS`, and its options.
        augment: Fields of `scene_sampling.Scenes`.
        inference: Fields of `scene_inference.Inference`.
        auxiliary_weight: Of the loss on the network's auxiliary logits.
        score: One of `segmentation.LOGIT_SCORES`.

    Raises:
        InputError: A value is not as it must be; names the field.
    """
    fields.positive_integer("method.num_classes", num_classes)
    fields.not_negative("method.auxiliary_weight", auxiliary_weight)
    fields.one_of("method.score", score, tuple(segmentation.LOGIT_SCORES))
    model = segmentation.network(network, num_classes, dtype)
    looks = scene_inference.parse(inference)
    train = segmentation.closed_set_stage(
        model,
        optimizers["train"],
        scene_sampling.parse(augment),
        num_classes=num_classes,
        auxiliary_weight=auxiliary_weight,
    )

    def trained(states):
        return segmentation.trained(
            model, segmentation.variables(states["train"]), num_classes, looks
        )

    def scores(states, batch):
        return segmentation.score_logits(
            trained(states), batch["image"], segmentation.LOGIT_SCORES[score]
        )

    return base.Method(
        {"train": train},
        scores,
        convert={"train": segmentation.converter(network)},
        networks={"train": trained},
    )
