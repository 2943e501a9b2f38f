"""Monte Carlo dropout and deep ensembles for medical segmentation; document 000, section 4.

Plain segmentation networks, scored by the entropy of their mean prediction over the pixels that it
calls foreground. One member and one pass is the network alone, several passes with dropout are
Monte Carlo dropout, several members an ensemble, trained as one program.

A batch is that of `scans`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxad import fields
from jaxad.errors import InputError
from jaxad.losses import entropy
from jaxad.methods import base, scan_sampling, scans, segmentation


def build(
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    dtype: Any = "float32",
    num_classes: int = 4,
    background: int | None = None,
    network: Mapping[str, Any],
    normalisation: str = "none",
    augment: Mapping[str, Any],
    members: int = 1,
    members_at_once: int = 0,
    passes: int = 1,
    auxiliary_weight: float = 0.0,
    dropout_seed: int = 0,
) -> base.Method:
    """Builds the system.

    Args:
        optimizers: One for the stage "train".
        dtype: Of the network's computation; losses and scores are float32.
        num_classes: K, the background included; ids of `segments` from K on are void.
        background: Its class; None: K - 1.
        network: `name`, one of `segmentation.NETWORKS`, and its options.
        normalisation: Of images, see `scans.NORMALISATIONS`.
        augment: Fields of `scan_sampling.Drawing`; no outliers are made.
        members: Networks of the ensemble: other initial parameters, augmentation and dropout; the
            same batches, so that they are one program.
        members_at_once: How many are computed side by side, by convolutions in groups; 0: all. XLA
            on CPU is faster with 1. What is kept for the gradient is that of all members either
            way; `network.remat` keeps less.
        passes: Of each member at test; more than one drop channels, with other keys each.
        auxiliary_weight: Of the cross-entropy of the network's auxiliary logits.
        dropout_seed: Of the passes at test.

    Raises:
        InputError: A value is not as it must be; names the field.
    """
    for name, value in (("members", members), ("passes", passes)):
        fields.positive_integer(f"method.{name}", value)
    fields.not_negative("method.members_at_once", members_at_once)
    fields.not_negative("method.auxiliary_weight", auxiliary_weight)
    looks = scans.network(
        network,
        num_classes=num_classes,
        background=background,
        normalisation=normalisation,
        dtype=dtype,
    )
    if passes > 1 and not any("dropout" in key and value for key, value in network.items()):
        raise InputError(
            f"config.method.passes={passes} are all alike without dropout; expected 1, or a "
            "dropout rate above 0 in config.method.network."
        )
    stage = _stage(
        looks,
        optimizers["train"],
        scan_sampling.parse(augment),
        members=members,
        at_once=members_at_once or members,
        auxiliary_weight=auxiliary_weight,
    )

    def scores(states, batch):
        state, size = states["train"], batch["image"].shape[1:3]
        rng = jax.random.key(dropout_seed)

        def log_probabilities(variables, key):
            drop = {} if key is None else {"dropout": True, "rngs": {"dropout": key}}
            maps = scans.apply(looks, variables, batch["image"], **drop)
            logits = segmentation.enlarged(maps.logits, size, looks.model)
            return jax.nn.log_softmax(logits.astype(jnp.float32))

        def add(total, place):
            """One after the other: ten maps of all classes need not lie in memory together."""
            member, turn = place // passes, place % passes
            variables = jax.tree.map(lambda leaf: leaf[member], _variables(state))
            key = jax.random.fold_in(rng, turn) if passes > 1 else None
            return jnp.logaddexp(total, log_probabilities(variables, key)), None

        shape = (*batch["image"].shape[:3], num_classes)
        total = jnp.full(shape, -jnp.inf, jnp.float32)
        total, _ = jax.lax.scan(add, total, jnp.arange(members * passes))
        mean = total - jnp.log(float(members * passes))
        decided = segmentation.decided([mean])
        return decided.replace(
            image=entropy.foreground_entropy(mean, background=looks.background),
            pixel=entropy.normalised_entropy(mean),
        )

    return base.Method({"train": stage}, scores, convert={"train": _converter(network)})


def _stage(
    looks: scans.Looks,
    tx: optax.GradientTransformation,
    drawing: scan_sampling.Drawing,
    *,
    members: int,
    at_once: int,
    auxiliary_weight: float,
) -> base.Stage:
    """Segmentation alone; every leaf of the state's parameters and statistics is `[members, …]`."""

    def member_loss(batch, own):
        variables, rng = own
        for_images, for_dropout = jax.random.split(rng)
        images, segments = scan_sampling.draw_scans(
            drawing, for_images, batch, background=looks.background
        )
        out, kept = scans.train_apply(looks, variables, images, batch["valid"], for_dropout)
        terms = scans.segmentation_terms(looks, out, segments, batch["valid"], auxiliary_weight)
        return sum(terms.values()), kept

    def loss(params, stats, batch, rng):
        rngs = jax.vmap(lambda place: jax.random.fold_in(rng, place))(jnp.arange(members))
        own = ({"params": params, **stats}, rngs)
        side_by_side = jax.vmap(functools.partial(member_loss, batch))
        # Not a loop of XLA: on CPU the gradients of convolutions in it take twenty times as long.
        cuts = list(range(at_once, members, at_once))
        leaves, tree = jax.tree.flatten(own)
        groups = zip(*(jnp.split(leaf, cuts) for leaf in leaves), strict=True)
        found = [side_by_side(jax.tree.unflatten(tree, group)) for group in groups]
        values, kept = jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)
        # The sum: members share nothing, and each gets the gradient of its own loss.
        return jnp.sum(values), ({**stats, **kept}, {"cross_entropy": jnp.mean(values)})

    def init(rng, batch, _done):
        scans.check(batch)
        states = jax.vmap(lambda key: scans.initial(looks, key, batch))(
            jax.random.split(rng, members)
        )
        params = states.pop("params")
        return base.new_state(params, tx.init(params), states)

    return base.Stage(init, base.gradient_update(loss, tx))


def _variables(state: base.State) -> dict[str, Any]:
    return {"params": state.params, **state.stats}


def _converter(section: Mapping[str, Any]) -> Callable[..., base.State]:
    """All members begin with the published weights, and differ by augmentation and dropout alone
    where these are of the whole network.
    """
    convert = segmentation.converter(section)

    def each(arrays, state):
        members = jax.tree.leaves(state.params)[0].shape[0]
        learnt = (state.params, state.stats)
        one = []
        for i in range(members):
            params, stats = jax.tree.map(lambda leaf, i=i: leaf[i], learnt)
            one.append(convert(arrays, base.new_state(params, stats=stats)))
        params, stats = (
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *(getattr(s, name) for s in one))
            for name in ("params", "stats")
        )
        return state.replace(params=params, stats=stats)

    return each
