"""DeepMIL [211]: the ranking of bags by their highest snippet scores, the baseline of RTFM.

Sultani et al., Real-world Anomaly Detection in Surveillance Videos,
https://arxiv.org/abs/1801.04264; reductions, weights and penalty of its code
(github.com/WaqasSultani/AnomalyDetectionCVPR2018). A batch is that of `rtfm`.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxad import fields
from jaxad.errors import InputError
from jaxad.losses import masked, mil, temporal_penalties
from jaxad.methods import base
from jaxad.methods.rtfm import real_snippets
from jaxad.models.deepmil import DeepMIL


def build(
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    dtype: Any = "float32",
    network: str = "original",
    pairing: str = "all",
    reduction: str = "mean",
    k: int = 1,
    margin: float = 1.0,
    penalty: float = 0.001,
    smoothness_weight: float = 8e-5,
    sparsity_weight: float = 8e-5,
    dropout: float = 0.6,
    hidden: Sequence[int] = (512, 32),
) -> base.Method:
    """Builds DeepMIL.

    Args:
        optimizers: One for the stage "train".
        dtype: Of the network's computation.
        network: "original", or "linear": with a 1 x 1 convolution in front, the first row of
            document 004, table 8.5.
        pairing: "all" pairs of an anomalous and a normal video, or "index": i-th with i-th.
        reduction: "mean" over pairs and, for smoothness and sparsity, over anomalous videos;
            "released": mean over normal videos and sum over anomalous ones, needs all pairs.
        k: The bag score is the mean of the k highest snippet scores; 1 is the maximum of [211].
        margin: Difference of bag scores from which a pair costs nothing.
        penalty: Weight of the squared Frobenius norm of each weight matrix.
        smoothness_weight: Weight of smoothness.
        sparsity_weight: Weight of sparsity.
        dropout: Rate behind the two hidden layers.
        hidden: Their widths.

    Raises:
        InputError: A value is not as it must be; names the field.
    """
    fields.check(_FIELDS, locals())
    if reduction == "released" and pairing == "index":
        raise InputError(
            "config.method.reduction: expected 'mean' with pairing='index'; found 'released', a "
            "sum over all pairs."
        )

    model = DeepMIL(network == "linear", tuple(hidden), dropout, base.AXIS, jnp.dtype(dtype))
    tx = optimizers["train"]
    hinge = {
        ("all", "mean"): mil.ranking_hinge_all_pairs,
        ("index", "mean"): mil.ranking_hinge_index_pairs,
        ("all", "released"): mil.ranking_hinge_released,
    }[pairing, reduction]
    over_videos = masked.mean if reduction == "mean" else masked.total

    def init(rng, batch, _done):
        params = model.init(rng, batch["features"], train=False)["params"]
        return base.new_state(params, tx.init(params))

    def loss(params, stats, batch, rng):
        features, where = _clean(batch)
        out = model.apply({"params": params}, features, train=True, rngs={"dropout": rng})
        label, valid = batch["label"], batch["valid"].astype(bool)
        anomalous = valid & (label == 1)
        smooth, sparse = (
            over_videos(term(out["scores"], where), anomalous, axis_name=base.AXIS)
            for term in (temporal_penalties.smoothness, temporal_penalties.sparsity)
        )
        bags = mil.top_k_mean(out["scores"], k, where)
        terms = {
            "ranking": hinge(bags, label, valid, margin=margin, axis_name=base.AXIS),
            "smoothness": smoothness_weight * smooth,
            "sparsity": sparsity_weight * sparse,
            "penalty": penalty * squared_weights(params),
        }
        return sum(terms.values()), (stats, terms)

    def score(states, batch):
        features, where = _clean(batch)
        out = model.apply({"params": states["train"].params}, features, train=False)
        scores = jnp.where(where, out["scores"], 0.0)
        return base.Scores(image=jnp.max(scores, axis=-1), snippet=scores)

    return base.Method({"train": base.Stage(init, base.gradient_update(loss, tx))}, score)


def squared_weights(params: base.Params) -> jax.Array:
    """Sum of the squared entries of all weight matrices; biases are left out."""
    return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params) if leaf.ndim > 1)


def _clean(batch):
    """Features with zeros for padding, whatever stood there, and the real snippets `[B, T]`."""
    where = real_snippets(batch)
    return jnp.where(where[:, None, :, None], batch["features"], 0.0), where


_FIELDS = {
    "network": functools.partial(fields.one_of, choices=("original", "linear")),
    "pairing": functools.partial(fields.one_of, choices=("all", "index")),
    "reduction": functools.partial(fields.one_of, choices=("mean", "released")),
    "k": fields.positive_integer,
    "margin": fields.not_negative,
    "penalty": fields.not_negative,
    "smoothness_weight": fields.not_negative,
    "sparsity_weight": fields.not_negative,
    "dropout": fields.rate,
    "hidden": functools.partial(fields.positive_integers, count=2),
}
