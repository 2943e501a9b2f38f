"""RTFM: robust temporal feature magnitude learning (document 004, chapter 8 and appendix B).

Weakly supervised video anomaly detection. A temporal network is trained so that the k largest
feature norms of an anomalous video exceed those of a normal one by a margin, and a classifier of
snippets on exactly those k snippets. Where the released code (github.com/tianyu0207/RTFM) differs
from the text, an option takes "paper" or "released".

A batch holds `features [B, N, T, D]` (crops N, snippets T), `length [B]` (real snippets, the rest
is padding), `label [B]` (0 normal, 1 anomalous) and `valid [B]`.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxad import fields
from jaxad.convert import rtfm as published
from jaxad.errors import InputError
from jaxad.losses import masked, mil, temporal_penalties
from jaxad.methods import base
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
    fields.check(_FIELDS, locals())
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
    rank_by = "magnitudes" if feature_magnitude else "scores"

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
        ranks = out[rank_by]
        if feature_magnitude:  # Only a random part of the snippets competes.
            ranks = example_dropout(selection_rng, ranks, selection_dropout, axis_name=base.AXIS)
        chosen = choose(out, ranks, k, where)
        of = {"label": batch["label"], "valid": batch["valid"], "axis_name": base.AXIS}
        smooth, sparse = temporal_losses(out["scores"], where, form=regularisers, **of)
        terms = {"smoothness": smoothness_weight * smooth, "sparsity": sparsity_weight * sparse}
        if feature_magnitude:
            separation = magnitude_loss(chosen, form=magnitude, margin=margin, **of)
            terms["magnitude"] = magnitude_weight * separation
            terms["classification"] = classification_loss(chosen, form=classification, **of)
        else:
            terms["ranking"] = ranking_loss(chosen, **of)
        return sum(terms.values()), (stats, {**terms, **_means(chosen, **of)})

    def score(states, batch):
        state, where = states["train"], real_snippets(batch)
        variables = {"params": state.params, **state.stats}
        out = model.apply(variables, batch["features"], where, train=False)
        chosen = choose(out, out[rank_by], k, where)
        return base.Scores(
            image=_per_video(chosen.scores, chosen),
            snippet=out["scores"],
            extra={
                "magnitude": out["magnitudes"],
                "top_k_magnitude": _per_video(chosen.magnitudes, chosen),
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


def magnitude_loss(
    chosen: Chosen,
    label: jax.Array,
    valid: jax.Array,
    *,
    form: str,
    margin: float,
    axis_name: str | None = None,
) -> jax.Array:
    """Separation of the magnitudes of anomalous and normal videos (eq. 8.7), a scalar."""
    options = {"margin": margin, "axis_name": axis_name}
    if form == "released":
        return mil.magnitude_released(chosen.features, label, valid, where=chosen.real, **options)
    return mil.magnitude_hinge(_per_video(chosen.magnitudes, chosen), label, valid, **options)


def classification_loss(
    chosen: Chosen,
    label: jax.Array,
    valid: jax.Array,
    *,
    form: str,
    axis_name: str | None = None,
) -> jax.Array:
    """Cross-entropy of the chosen snippets (eq. 8.8), averaged over all videos, a scalar."""
    loss = mil.bag_bce if form == "released" else mil.snippet_bce
    return masked.mean(loss(chosen.scores, label, chosen.real), valid, axis_name=axis_name)


def temporal_losses(
    scores: jax.Array,
    where: jax.Array,
    label: jax.Array,
    valid: jax.Array,
    *,
    form: str,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Smoothness and sparsity of the scores `[B, T]` of the anomalous videos, before weighing."""
    if form == "released":
        given = (scores, label, valid, where)
        smooth = temporal_penalties.smoothness_released(*given, axis_name=axis_name)
        return smooth, temporal_penalties.sparsity_released(*given, axis_name=axis_name)
    anomalous = valid.astype(bool) & (label == 1)
    smooth = masked.mean(
        temporal_penalties.smoothness(scores, where), anomalous, axis_name=axis_name
    )
    return smooth, masked.mean(
        temporal_penalties.sparsity(scores, where), anomalous, axis_name=axis_name
    )


def ranking_loss(
    chosen: Chosen, label: jax.Array, valid: jax.Array, *, axis_name: str | None = None
) -> jax.Array:
    """The loss of [211] on the mean score of the chosen snippets, over all pairs, a scalar."""
    bags = _per_video(chosen.scores, chosen)
    return mil.ranking_hinge_all_pairs(bags, label, valid, axis_name=axis_name)


def _per_video(values, chosen):
    return masked.mean(values, chosen.real, axis=-1)


def _means(chosen, label, valid, axis_name):
    """Mean top-k magnitude and score of each half of the batch: what training drives apart."""
    halves = {
        name: valid.astype(bool) & (label == i) for i, name in enumerate(("normal", "anomalous"))
    }
    values = {"magnitude": chosen.magnitudes, "score": chosen.scores}
    return {
        f"top_k_{name}_{half}": masked.mean(_per_video(each, chosen), where, axis_name=axis_name)
        for name, each in values.items()
        for half, where in halves.items()
    }


_FORM = functools.partial(fields.one_of, choices=FORMS)
_FIELDS = {
    "k": fields.positive_integer,
    "margin": fields.not_negative,
    "mtn": functools.partial(fields.one_of, choices=networks.FORMS),
    "attention_scale": functools.partial(fields.one_of, choices=networks.ATTENTION_SCALES),
    "pdc": fields.boolean,
    "tsa": fields.boolean,
    "feature_magnitude": fields.boolean,
    "magnitude": _FORM,
    "magnitude_weight": fields.not_negative,
    "classification": _FORM,
    "regularisers": _FORM,
    "smoothness_weight": fields.not_negative,
    "sparsity_weight": fields.not_negative,
    "feature_dropout": fields.rate,
    "selection_dropout": fields.rate,
    "classifier_dropout": fields.rate,
    "hidden": fields.positive_integers,
}
