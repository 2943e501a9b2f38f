"""FCDD on a segmentation network's encoder: the baseline of document 000, section 4.

One linear channel on the encoder's output, whose pseudo-Huber map is the score, trained beside the
segmentation as the prototypes of `aux_prototypes` are. A batch is that of `scans`.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax

from jaxad import fields
from jaxad.losses import fcdd, prototypes
from jaxad.methods import base, scan_sampling, scans
from jaxad.models.prototype_head import OneChannel

OBJECTIVES = {"fcdd": fcdd.fcdd, "batch_mean": fcdd.batch_mean_released}


def build(
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    dtype: Any = "float32",
    num_classes: int = 4,
    background: int | None = None,
    network: Mapping[str, Any],
    normalisation: str = "none",
    augment: Mapping[str, Any],
    objective: str = "fcdd",
    exposure_weight: float = 0.1,
    auxiliary_weight: float = 0.0,
    passes: str = "joint",
) -> base.Method:
    """Builds the system.

    Args:
        optimizers: One for the stage "train".
        dtype: Of the network's computation; losses and scores are float32.
        num_classes: K, the background included; ids of `segments` from K on are void.
        background: Its class; None: K - 1.
        network: `name`, "unet" or "deeplab_v3", and its options.
        normalisation: Of images, see `scans.NORMALISATIONS`.
        augment: Fields of `scan_sampling.Drawing`.
        objective: "fcdd", eq. 3, or "batch_mean", one mean over scans and outliers, as released.
        exposure_weight: Of the objective beside the cross-entropy.
        auxiliary_weight: Of the cross-entropy of the network's auxiliary logits.
        passes: Scans and outliers in one forward pass or two, see `scans.exposed_stage`.

    Raises:
        InputError: A value is not as it must be; names the field.
    """
    fields.one_of("method.objective", objective, tuple(OBJECTIVES))
    fields.one_of("method.passes", passes, scans.PASSES)
    fields.not_negative("method.exposure_weight", exposure_weight)
    fields.not_negative("method.auxiliary_weight", auxiliary_weight)
    looks = scans.network(
        network,
        num_classes=num_classes,
        background=background,
        normalisation=normalisation,
        dtype=dtype,
    )
    head = OneChannel(jnp.dtype(dtype))
    stage = scans.exposed_stage(
        looks,
        head,
        optimizers["train"],
        scan_sampling.parse(augment),
        functools.partial(_objective, head, OBJECTIVES[objective]),
        weight=exposure_weight,
        passes=passes,
        auxiliary_weight=auxiliary_weight,
        stats={},
    )

    def scores(states, batch):
        state, images = states["train"], batch["image"]
        maps = scans.apply(looks, scans.variables(state), images)
        outputs = head.apply({"params": state.params["head"]}, maps.encoder)
        score_map = fcdd.pseudo_huber(outputs)
        found = scans.shown(looks, maps, score_map, images.shape[1:3])
        return found.replace(image=prototypes.image_sum(score_map))

    return base.Method({"train": stage}, scores, convert={"train": scans.converter(network)})


def _objective(head, objective, params, seen):
    outputs = head.apply({"params": params}, scans.paired(seen.normal, seen.outliers))
    rows = jnp.zeros(seen.valid.shape, jnp.int32)
    valid = scans.paired(seen.valid, seen.valid)
    loss = objective(outputs, scans.paired(rows, rows + 1), valid, axis_name=base.AXIS)
    return loss, {"outlier_exposure": loss}
