"""PEBAL: pixel-wise energy-biased abstention learning (document 004, chapter 11 and appendix C).

A closed-set network gets one more channel, for abstaining, and its last block alone is fine-tuned
on scenes into which objects of another data set are pasted (AnomalyMix). The free energy of the
inlier logits is trained to be low on inliers and high on outliers; it is the price of abstaining
and, smoothed, the anomaly score. Where the released code (github.com/tianyu0207/PEBAL) differs from
the text, an option takes "paper" or "released". A batch is that of `segmentation`.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxad import fields
from jaxad.augment import anomaly_mix
from jaxad.losses import abstention, cross_entropy, energy, masked
from jaxad.losses import pebal as objectives
from jaxad.methods import base, scene_inference, scene_sampling, segmentation
from jaxad.models import deeplab_v3_plus

OUTLIER = 254
OBJECTIVES = ("pebal", "deep_gambler", "outlier_class", "energy")
SCORES = ("energy", "abstention")
NETWORKS = ("deeplab_v3_plus_wide", "deeplab_v3_plus_resnet")
CLASSIFIERS = ("linear", "linear_without_bias")  # Of the closed set; one channel is added.


def build(
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    dtype: Any = "float32",
    num_classes: int = 19,
    network: Mapping[str, Any],
    augment: Mapping[str, Any],
    finetune_augment: Mapping[str, Any],
    inference: Mapping[str, Any],
    auxiliary_weight: float = 0.4,
    objective: str = "pebal",
    form: str = "released",
    margin_in: float = -12.0,
    margin_out: float = -6.0,
    energy_weight: float = 0.1,
    smoothness_weight: float = 3e-6,
    sparsity_weight: float = 5e-4,
    outlier_weight: float = 0.1,
    penalty: float = 4.5,
    detach_penalty: bool = False,
    penalty_blur: bool = True,
    frozen_norm: str = "running",
    score: str = "energy",
) -> base.Method:
    """Builds PEBAL, or one of its ablations and baselines.

    Args:
        optimizers: For the stages "train" (closed set) and "finetune".
        dtype: Of the network's computation.
        num_classes: Y, inlier classes; `segments` has them, 254 for outliers, 255 for void.
        network: `name`, one of `NETWORKS`, and its options.
        augment: Of the stage "train", fields of `scene_sampling.Scenes`.
        finetune_augment: Of the stage "finetune".
        inference: Fields of `scene_inference.Inference`.
        auxiliary_weight: Of the auxiliary loss of the stage "train".
        objective: "pebal"; "deep_gambler": one `penalty` for all pixels, outliers labelled as
            abstention (no energy terms); "outlier_class": cross-entropy over Y + 1 classes;
            "energy": cross-entropy on inliers and the energy margins (tables 11.1 and 11.5).
        form: "paper": eqs. 11.2 to 11.8 with means over pixels; "released": what made the tables.
        margin_in: m_in, energy below which an inlier costs nothing.
        margin_out: m_out, energy above which an outlier costs nothing.
        energy_weight: lambda, of the margins ("released": of the regularisers as well).
        smoothness_weight: Of neighbours' differences [3e-6 on squares summed; text 5e-4].
        sparsity_weight: Of the energies' size [5e-4 on a norm; text 3e-6].
        outlier_weight: Of the outlier part of the abstention loss; of "released" alone.
        penalty: Of "deep_gambler".
        detach_penalty: Whether no gradient passes through the energy as a penalty (an ablation).
        penalty_blur: Whether the penalty is smoothed as the score is; as released.
        frozen_norm: How the frozen part normalises: "running" statistics, or "batch", as released:
            there it is in training mode, dropout included, and its running statistics drift.
        score: "energy": smoothed; "abstention": probability of the last channel.

    Raises:
        InputError: A value is not as it must be; names the field.
    """
    fields.check(_FIELDS, locals())
    fields.one_of("method.network.name", network.get("name"), NETWORKS)
    if "classifier" in network:
        fields.one_of("method.network.classifier", network["classifier"], CLASSIFIERS)
    closed = segmentation.network(network, num_classes, dtype)
    extended = {**network, "classifier": "linear_without_bias"}
    model = segmentation.network(extended, num_classes + 1, dtype)
    looks = scene_inference.parse(inference)
    finetune_scenes = scene_sampling.parse(finetune_augment)
    tx = optimizers["finetune"]
    train = segmentation.closed_set_stage(
        closed,
        optimizers["train"],
        scene_sampling.parse(augment),
        num_classes=num_classes,
        auxiliary_weight=auxiliary_weight,
    )
    weigh = functools.partial(
        total_loss,
        objective=objective,
        form=form,
        margins={"margin_in": margin_in, "margin_out": margin_out},
        energy_weight=energy_weight,
        regularisers={"smoothness_weight": smoothness_weight, "sparsity_weight": sparsity_weight},
        outlier_weight=outlier_weight,
        penalty=penalty,
        detach_penalty=detach_penalty,
        penalty_blur=penalty_blur,
    )

    def init(rng, batch, done):
        scene_sampling.check(finetune_scenes, batch)
        params = deeplab_v3_plus.with_abstention(done["train"].params, rng)
        head, frozen = split_head(params, model.head_modules)
        stats = {"batch_stats": done["train"].stats["batch_stats"], "frozen": frozen}
        return base.new_state(head, tx.init(head), stats)

    def loss(params, stats, batch, rng):
        mix_rng, scenes_rng, dropout_rng = jax.random.split(rng, 3)
        images, segments = draw_mixed(finetune_scenes, mix_rng, scenes_rng, batch)
        where, dropout = batch["valid"], {"dropout": dropout_rng}
        frozen = {"params": stats["frozen"], "batch_stats": stats["batch_stats"]}
        batch_norm = frozen_norm == "batch"
        trunk, new = model.apply(
            frozen,
            images,
            where,
            train=batch_norm,
            dropout=batch_norm,
            rngs=dropout,
            mutable=["batch_stats"],
            method="trunk",
        )
        # The auxiliary branch of the frozen part has no loss here.
        trunk = jax.lax.stop_gradient(trunk._replace(auxiliary=None))
        variables = {"params": params, "batch_stats": new["batch_stats"]}
        out, new = model.apply(
            variables,
            trunk,
            where,
            train=True,
            dropout=True,
            rngs=dropout,
            mutable=["batch_stats"],
            method="head",
        )
        logits = segmentation.enlarged(out.logits, segments.shape[1:], model)
        value, terms = weigh(logits, segments, where)
        return value, ({**stats, "batch_stats": new["batch_stats"]}, terms)

    def trained(states):
        if "finetune" not in states:  # Closed set alone.
            return segmentation.trained(
                closed, segmentation.variables(states["train"]), num_classes, looks
            )
        state = states["finetune"]
        params = {**state.params, **state.stats["frozen"]}
        variables = {"params": params, "batch_stats": state.stats["batch_stats"]}
        return segmentation.trained(model, variables, num_classes, looks)

    def convert_finetuned(arrays, state):
        whole = state.replace(params={**state.params, **state.stats["frozen"]})
        whole = segmentation.converter(network)(arrays, whole)
        head, frozen = split_head(whole.params, model.head_modules)
        return whole.replace(params=head, stats={**whole.stats, "frozen": frozen})

    def scores(states, batch):
        return score_scenes(trained(states), batch["image"], score=score)

    return base.Method(
        {"train": train, "finetune": base.Stage(init, base.gradient_update(loss, tx))},
        scores,
        convert={"train": segmentation.converter(network), "finetune": convert_finetuned},
        networks={
            "train": lambda states: trained({"train": states["train"]}),
            "finetune": trained,
        },
    )


def split_head(params: Mapping[str, Any], names: tuple[str, ...]) -> tuple[dict, dict]:
    """The parameters of the last block, and all others: what is trained, and what is frozen."""
    head = {name: params[name] for name in names}
    return head, {name: each for name, each in params.items() if name not in names}


def draw_mixed(
    scenes: scene_sampling.Scenes, mix_rng: jax.Array, scenes_rng: jax.Array, batch: base.Batch
) -> tuple[jax.Array, jax.Array]:
    """Pastes the objects of a batch, then draws scenes: images `[B, *crop, 3]`, ids `[B, *crop]`.

    Whether a scene holds an outlier is decided by what survives its crop.
    """
    rows = batch["image"].shape[0]
    images, segments = batch["image"], batch["segments"].astype(jnp.int32)
    if "object" in batch:
        images, segments, _, _ = anomaly_mix.random_anomaly_mix(
            base.example_keys(mix_rng, rows),
            images,
            segments,
            batch["object"],
            batch["object_mask"],
            outlier=OUTLIER,
        )
    keys = base.example_keys(scenes_rng, rows)
    return scene_sampling.draw(scenes, keys, images, segments, batch.get("centre"))


def total_loss(
    logits: jax.Array,
    segments: jax.Array,
    valid: jax.Array,
    *,
    objective: str,
    form: str,
    margins: Mapping[str, float],
    energy_weight: float,
    regularisers: Mapping[str, float],
    outlier_weight: float,
    penalty: float,
    detach_penalty: bool,
    penalty_blur: bool,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of the global batch and its terms; arguments as of `build`.

    Args:
        logits: `[B, H, W, Y + 1]`, the last channel for abstaining.
        segments: Ids `[B, H, W]`: a class, 254 for an outlier; all others are void.
        valid: Real rows `[B]`.
    """
    real = valid.astype(bool)[:, None, None]
    inlier = (segments < logits.shape[-1] - 1) & real
    outlier = (segments == OUTLIER) & real
    mean = functools.partial(masked.mean, axis_name=base.AXIS)
    if objective == "deep_gambler":
        labels = jnp.where(outlier, logits.shape[-1] - 1, segments)
        each = abstention.deep_gambler(logits, labels, inlier | outlier, penalty=penalty)
        value = mean(each, inlier | outlier)
        return value, {"abstention": value}
    if objective == "outlier_class":
        each = abstention.outlier_class_cross_entropy(logits, segments, inlier, outlier)
        value = mean(each, inlier | outlier)
        return value, {"cross_entropy": value}
    if objective == "energy":
        return _energy_loss(logits, segments, inlier, outlier, margins, energy_weight)
    options = {**margins, **regularisers, "energy_weight": energy_weight}
    options |= {"valid": valid, "axis_name": base.AXIS}
    options["penalty"] = _penalty(logits, real, detach_penalty, penalty_blur)
    if form == "released":
        options["outlier_weight"] = outlier_weight
        terms = objectives.pebal_released(logits, segments, inlier, outlier, **options)
    else:
        terms = objectives.pebal(logits, segments, inlier, outlier, **options)
    named = terms._asdict()
    return named.pop("total"), named


def score_scenes(net: segmentation.Trained, images: jax.Array, *, score: str) -> base.Scores:
    """Energy of the enlarged inlier logits, smoothed; or the probability of abstaining.

    Args:
        net: A network; without an abstention channel the score is "energy".
        images: `[B, H, W, 3]`, not normalised.
        score: One of `SCORES`.
    """

    def maps(images):
        return net.apply(images, None).logits

    def of_strip(views):
        inlier = [logits[..., : net.num_classes] for logits in views]
        if score == "energy":
            each = [energy.free_energy(logits) for logits in inlier]
        else:
            each = [abstention.abstention_probability(logits) for logits in views]
        return segmentation.decided(inlier).replace(pixel=sum(each) / len(each))

    found = segmentation.by_strips(net, maps, images, of_strip)
    smooth = found.pixel if score != "energy" else energy.gaussian_smoothing(found.pixel)
    return found.replace(pixel=smooth)


def _energy_loss(logits, segments, inlier, outlier, margins, weight):
    """Cross-entropy of the inlier classes beside the released energy margins."""
    own = logits[..., :-1]
    labels = cross_entropy.mean_cross_entropy(own, segments, inlier, axis_name=base.AXIS)
    apart = energy.margins_released(
        energy.free_energy(own), inlier, outlier, axis_name=base.AXIS, **margins
    )
    return labels + weight * apart, {"cross_entropy": labels, "margins": apart}


def _penalty(logits, real, detach, blur):
    own = jnp.where(real[..., None], logits[..., :-1], 0.0)
    energies = energy.free_energy(own)
    penalty = abstention.energy_penalty(jax.lax.stop_gradient(energies) if detach else energies)
    return energy.gaussian_smoothing(penalty) if blur else penalty


_FIELDS = {
    "num_classes": fields.positive_integer,
    "auxiliary_weight": fields.not_negative,
    "objective": functools.partial(fields.one_of, choices=OBJECTIVES),
    "form": functools.partial(fields.one_of, choices=("paper", "released")),
    "energy_weight": fields.not_negative,
    "smoothness_weight": fields.not_negative,
    "sparsity_weight": fields.not_negative,
    "outlier_weight": fields.not_negative,
    "penalty": fields.not_negative,
    "detach_penalty": fields.boolean,
    "penalty_blur": fields.boolean,
    "frozen_norm": functools.partial(fields.one_of, choices=("running", "batch")),
    "score": functools.partial(fields.one_of, choices=SCORES),
}
