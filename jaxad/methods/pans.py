"""PAnS: anomaly segmentation with cosine prototypes (document 001).

A segmentation network whose last layer compares the feature of a pixel with one learnt prototype
per class, by their cosine. A pixel unlike every prototype is anomalous; no outliers are needed.
Trained with deep supervision as released (github.com/DarioFontanel/PAnS). A batch is that of
`segmentation`.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax

from jaxad import fields
from jaxad.losses import prototypes
from jaxad.methods import base, scene_inference, scene_sampling, segmentation

SCORES = ("pans", "cosine_softmax", "class_scores", "msp")


def build(
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    dtype: Any = "float32",
    num_classes: int = 13,
    network: Mapping[str, Any],
    augment: Mapping[str, Any],
    inference: Mapping[str, Any],
    auxiliary_weight: float = 0.4,
    score: str = "pans",
    max_first: bool = True,
) -> base.Method:
    """Builds PAnS, or one of the ablations of its figure 5.

    Args:
        optimizers: One for the stage "train".
        dtype: Of the network's computation; cosines and losses are float32.
        num_classes: K; ids of `segments` from K on are void.
        network: `name` and options of the network; its `classifier` is "cosine", or "linear" for
            the baselines.
        augment: Fields of `scene_sampling.Scenes`.
        inference: Fields of `scene_inference.Inference`.
        auxiliary_weight: Of the loss on the auxiliary logits; the text has none, the release 0.4.
        score: "pans": 1 - max (s + 1) / 2 (eqs. 4, 5); "cosine_softmax": 1 - max softmax(tau s)
            (eq. 1 on cosines); "class_scores": -max z; "msp": 1 - max softmax(z) (eq. 1).
        max_first: Whether the largest class is taken at the network's stride and then enlarged, as
            released for several scales, or after enlarging. Of "pans" and "class_scores".

    Raises:
        InputError: A value is not as it must be; names the field.
    """
    fields.positive_integer("method.num_classes", num_classes)
    fields.not_negative("method.auxiliary_weight", auxiliary_weight)
    fields.one_of("method.score", score, SCORES)
    fields.boolean("method.max_first", max_first)
    cosine = network.get("classifier") == "cosine"
    if score in ("pans", "cosine_softmax") and not cosine:
        fields.one_of("method.network.classifier", network.get("classifier"), ("cosine",))
    model = segmentation.network(network, num_classes, dtype)
    looks = scene_inference.parse(inference)
    train = segmentation.closed_set_stage(
        model,
        optimizers["train"],
        scene_sampling.parse(augment),
        num_classes=num_classes,
        auxiliary_weight=auxiliary_weight,
    )
    scale = model.tau if cosine else 1.0

    def trained(states):
        return segmentation.trained(
            model, segmentation.variables(states["train"]), num_classes, looks
        )

    def scores(states, batch):
        net = trained(states)

        def maps(images):
            logits = net.apply(images, None).logits
            return {"logits": logits, "best": jnp.max(logits, axis=-1, keepdims=True)}

        views = scene_inference.look(maps, scene_sampling.normalised(batch["image"]), looks)
        return score_views(
            views,
            batch["image"].shape[1:3],
            score=score,
            scale=scale,
            max_first=max_first,
            align_corners=net.align_corners,
            rows=looks.rows,
        )

    return base.Method(
        {"train": train},
        scores,
        convert={"train": segmentation.converter(network)},
        networks={"train": trained},
    )


def score_views(
    views: tuple[scene_inference.View, ...],
    size: tuple[int, int],
    *,
    score: str,
    scale: float,
    max_first: bool,
    align_corners: bool = False,
    rows: int = 64,
) -> base.Scores:
    """Scores of several looks at images, and the class of the largest mean softmax.

    "pans" and "class_scores" are means over the looks; of the softmax the mean comes first, as
    released.

    Args:
        views: Their maps are `logits [B, h, w, K]` and `best [B, h, w, 1]`, the largest of them.
        size: Height and width of the images.
        score: One of `SCORES`.
        scale: tau, by which cosines were multiplied.
        max_first: Whether `best` is enlarged, or taken from the enlarged logits.
        align_corners: How maps are enlarged.
        rows: Rows of a strip.
    """

    def largest(maps):
        return maps["best"] if max_first else jnp.max(maps["logits"], axis=-1, keepdims=True)

    def of_strip(looks):
        logits, best = [maps["logits"] for maps in looks], [largest(maps) for maps in looks]
        if score == "pans":
            pixel = sum(prototypes.cosine_anomaly(each / scale) for each in best) / len(best)
        elif score == "class_scores":
            pixel = -sum(best)[..., 0] / len(best)
        else:
            pixel = segmentation.max_softmax(logits)
        return segmentation.decided(logits).replace(pixel=pixel)

    return scene_inference.by_strips(views, size, of_strip, align_corners=align_corners, rows=rows)
