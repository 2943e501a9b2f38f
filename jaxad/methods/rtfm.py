"""RTFM: robust temporal feature magnitude learning (document 004, chapter 8 and appendix B).

Weakly supervised video anomaly detection. A temporal network is trained so that the k largest
feature norms of an anomalous video exceed those of a normal one by a margin, and a classifier of
snippets on exactly those k snippets. Where the released code (github.com/tianyu0207/RTFM) differs
from the text, an option takes "paper" or "released".

A batch holds `features [B, N, T, D]` (crops N, snippets T), `length [B]` (real snippets, the rest
is padding), `label [B]` (0 normal, 1 anomalous) and `valid [B]`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxad.convert import rtfm as published
from jaxad.errors import InputError
from jaxad.losses import masked, mil
from jaxad.methods import base, fields
from jaxad.models import rtfm as networks
from jaxad.models.example_dropout import example_dropout

FORMS = ("paper", "released")


class Chosen(NamedTuple):
    """What the network says of the k snippets that stand for each video.

    Attributes:
        scores: `[B, k]`.
        magnitudes: `[B, k]`.
        features: `[B, N, k, D]`.
        real: `[B, k]`, False for those that fill up a video with fewer than k snippets.
    """

    scores: jax.Array
    magnitudes: jax.Array
    features: jax.Array
    real: jax.Array


def build(
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    dtype: Any = "float32",
    k: int = 3,
    margin: float = 100.0,
    mtn: str = "paper",
    attention_scale: str = "length",
    pdc: bool = True,
    tsa: bool = True,
    feature_magnitude: bool = True,
    magnitude: str = "paper",
    magnitude_weight: float = 1.0,
    classification: str = "paper",
    regularisers: str = "paper",
    smoothness_weight: float = 8e-5,
    sparsity_weight: float = 8e-5,
    feature_dropout: float = 0.7,
    selection_dropout: float = 0.7,
    classifier_dropout: float = 0.7,
    hidden: Sequence[int] = (512, 128),
) -> base.Method:
    """Builds RTFM. The defaults are the document's; the released values are given in brackets.

    Args:
        optimizers: One for the stage "train": Adam on gradients with weight decay added to them.
        dtype: Of the network's computation.
        k: Snippets that stand for a video.
        margin: m of eq. 8.7.
        mtn: Form of the temporal network, see `MultiScaleTemporalNetwork`.
        attention_scale: "length" (as released) or "none" (the text, whose map grows with the
            video).
        pdc: Whether the pyramid of convolutions sees neighbours (ablation, table 8.5).
        tsa: Whether there is attention (ablation, table 8.5).
        feature_magnitude: If False, the k snippets are those of the largest scores, and the loss is
            the ranking loss of [211] (ablation, table 8.5); `selection_dropout`, `magnitude`,
            `magnitude_weight` and `classification` are then unused.
        magnitude: "paper": hinge over all pairs (eq. 8.7); "released": squared, two-sided, by
            index.
        magnitude_weight: Weight of the magnitude loss [1e-4].
        classification: "paper": cross-entropies of the k scores summed (eq. 8.8); "released": one
            of their mean.
        regularisers: "paper": smoothness and sparsity per anomalous video, averaged; "released": of
            all anomalous videos laid end to end, summed.
        smoothness_weight: Weight of smoothness [8e-4]; the chapter gives none, this is that of
            [211].
        sparsity_weight: Weight of sparsity [8e-3]; likewise.
        feature_dropout: Rate of dropout on X, in front of both losses. The margin is one for
            magnitudes of dropped-out features: about 1.8 times those without dropout.
        selection_dropout: Rate of dropout on the magnitudes that compete in the selection.
        classifier_dropout: Rate of dropout in the classifier.
        hidden: Widths of the classifier's hidden layers.

    Raises:
        InputError: A value is not as it must be; names the field.
    """
    fields.positive_integer("k", k)
    fields.one_of("mtn", mtn, networks.FORMS)
    fields.one_of("attention_scale", attention_scale, networks.ATTENTION_SCALES)
    fields.positive_integers("hidden", hidden)
    for field, form in _named(magnitude=magnitude, classification=classification):
        fields.one_of(field, form, FORMS)
    fields.one_of("regularisers", regularisers, FORMS)
    for field, switch in _named(pdc=pdc, tsa=tsa, feature_magnitude=feature_magnitude):
        fields.boolean(field, switch)
    for field, weight in _named(
        margin=margin,
        magnitude_weight=magnitude_weight,
        smoothness_weight=smoothness_weight,
        sparsity_weight=sparsity_weight,
    ):
        fields.not_negative(field, weight)
    for field, rate in _named(
        feature_dropout=feature_dropout,
        selection_dropout=selection_dropout,
        classifier_dropout=classifier_dropout,
    ):
        fields.rate(field, rate)

    model = networks.RTFM(
        form=mtn,
        attention_scale=attention_scale,
        pdc=pdc,
        tsa=tsa,
        hidden=tuple(hidden),
        feature_dropout=feature_dropout,
        classifier_dropout=classifier_dropout,
        axis_name=base.AXIS,
        dtype=jnp.dtype(dtype),
    )
    tx = optimizers["train"]

    def init(rng, batch, _done):
        variables = model.init(rng, batch["features"], train=False)
        stats = {"batch_stats": variables["batch_stats"]}
        return base.new_state(variables["params"], tx.init(variables["params"]), stats)

    def loss(params, stats, batch, rng):
        dropout_rng, selection_rng = jax.random.split(rng)
        where = real_snippets(batch)
        out, stats = model.apply(
            {"params": params, **stats},
            batch["features"],
            where,
            train=True,
            rngs={"dropout": dropout_rng},
            mutable=["batch_stats"],
        )
        ranks = out["magnitudes"] if feature_magnitude else out["scores"]
        if feature_magnitude:
            keep = jnp.ones_like(ranks)
            keep = example_dropout(selection_rng, keep, selection_dropout, axis_name=base.AXIS)
            ranks = ranks * keep
        chosen = choose(out, ranks, k, where)
        label, valid = batch["label"], batch["valid"]
        terms = regularise(out["scores"], label, valid, where)
        if feature_magnitude:
            terms |= {
                "magnitude": magnitude_weight * magnitude_loss(chosen, label, valid),
                "classification": classify(chosen, label, valid),
            }
        else:
            bags = masked.mean(chosen.scores, chosen.real, axis=-1)
            terms["ranking"] = mil.ranking_hinge_all_pairs(bags, label, valid, axis_name=base.AXIS)
        return sum(terms.values()), (stats, {**terms, **_means(chosen, label, valid)})

    def magnitude_loss(chosen, label, valid):
        options = {"margin": margin, "axis_name": base.AXIS}
        if magnitude == "released":
            options["where"] = chosen.real
            return mil.magnitude_released(chosen.features, label, valid, **options)
        means = masked.mean(chosen.magnitudes, chosen.real, axis=-1)
        return mil.magnitude_hinge(means, label, valid, **options)

    def classify(chosen, label, valid):
        each = {"paper": mil.snippet_bce, "released": mil.bag_bce}[classification]
        return _mean(each(chosen.scores, label, chosen.real), valid)

    def regularise(scores, label, valid, where):
        if regularisers == "released":
            of_all = (scores, label, valid, where)
            smooth = mil.smoothness_released(*of_all, axis_name=base.AXIS)
            sparse = mil.sparsity_released(*of_all, axis_name=base.AXIS)
        else:
            anomalous = valid.astype(bool) & (label == 1)
            smooth = _mean(mil.smoothness(scores, where), anomalous)
            sparse = _mean(mil.sparsity(scores, where), anomalous)
        return {"smoothness": smoothness_weight * smooth, "sparsity": sparsity_weight * sparse}

    def score(states, batch):
        state, where = states["train"], real_snippets(batch)
        variables = {"params": state.params, **state.stats}
        out = model.apply(variables, batch["features"], where, train=False)
        ranks = out["magnitudes"] if feature_magnitude else out["scores"]
        chosen = choose(out, ranks, k, where)
        return base.Scores(
            image=masked.mean(chosen.scores, chosen.real, axis=-1),
            snippet=out["scores"],
            extra={
                "magnitude": out["magnitudes"],
                "top_k_magnitude": masked.mean(chosen.magnitudes, chosen.real, axis=-1),
            },
        )

    def convert(arrays, state):
        if mtn != "released" or not (pdc and tsa):
            raise InputError(
                "config.method.mtn: expected 'released' with pdc and tsa, the network of the "
                f"published checkpoints; found {mtn!r} with pdc={pdc}, tsa={tsa}."
            )
        params, batch_stats = published.convert(arrays, state.params, state.stats["batch_stats"])
        return state.replace(params=params, stats={**state.stats, "batch_stats": batch_stats})

    train = base.Stage(init, base.gradient_update(loss, tx))
    return base.Method({"train": train}, score, {"train": convert})


def real_snippets(batch: base.Batch) -> jax.Array:
    """Which snippets `[B, T]` are neither padding of a video nor of the batch."""
    places = jnp.arange(batch["features"].shape[2])
    return (places < batch["length"][:, None]) & batch["valid"].astype(bool)[:, None]


def choose(out: Mapping[str, jax.Array], ranks: jax.Array, k: int, where: jax.Array) -> Chosen:
    """Takes the k snippets of the highest rank from each video, all crops alike.

    Args:
        out: `scores [B, T]`, `magnitudes [B, T]` and `features [B, N, T, D]`.
        ranks: `[B, T]`; no gradient flows through the choice.
        k: Number of snippets; a video with fewer real ones is filled up.
        where: Real snippets `[B, T]`.
    """
    indices, real = mil.top_k_indices(ranks, k, where)
    return Chosen(
        scores=mil.take_snippets(out["scores"], indices),
        magnitudes=mil.take_snippets(out["magnitudes"], indices),
        features=jnp.take_along_axis(out["features"], indices[:, None, :, None], axis=2),
        real=real,
    )


def _mean(values, where):
    return masked.mean(values, where, axis_name=base.AXIS)


def _means(chosen, label, valid):
    """Mean top-k magnitude and score of each half of the batch: what training drives apart."""
    valid = valid.astype(bool)
    magnitudes = masked.mean(chosen.magnitudes, chosen.real, axis=-1)
    scores = masked.mean(chosen.scores, chosen.real, axis=-1)
    return {
        f"top_k_{name}_{half}": _mean(values, valid & (label == value))
        for name, values in (("magnitude", magnitudes), ("score", scores))
        for half, value in (("normal", 0), ("anomalous", 1))
    }


def _named(**values):
    return values.items()
