"""The contract of every system: Method, Stage, Fit, Scores, State, and helpers that build them.

An update, a fit and a score are written for one device that holds its share of the global batch,
with the named axis `AXIS` across devices. What they return as state, accumulator or metric must be
the same on all devices; what `score` returns has one row per example. A loss that couples examples
takes `axis_name=AXIS`, ends in a `psum` or `pmean` over it, and returns the value of the global
batch. Gradients are averaged over the axis in `gradient_update` and `alternate`, once, and nowhere
else.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

AXIS = "data"

Batch = Mapping[str, jax.Array]
Params = Any
Metrics = dict[str, jax.Array]
Loss = Callable[[Params, Any, Batch, jax.Array], tuple[jax.Array, tuple[Any, Metrics]]]


@flax.struct.dataclass
class State:
    """Everything a stage carries from step to step.

    Attributes:
        step: int32 scalar, gradient steps done.
        params: What gradients change.
        opt_state: The state of the optimiser (of each player, where there are several).
        stats: What is not learnt by gradient: batch statistics, EMA copies, centres, Gaussians,
            banks.
    """

    step: jax.Array
    params: Params
    opt_state: Any
    stats: Any


@flax.struct.dataclass
class Scores:
    """What a method says of each example of a batch. Higher is always more anomalous.

    Attributes:
        image: `[B]`, one score per image or video.
        pixel: `[B, H, W]`.
        snippet: `[B, T]`.
        classes: `[B, H, W]` int32, predicted segmentation.
        extra: Further values by name, `[B]`, `[B, T]` or `[B, H, W]`, which reports show beside the
            scores.
    """

    image: jax.Array | None = None
    pixel: jax.Array | None = None
    snippet: jax.Array | None = None
    classes: jax.Array | None = None
    extra: Mapping[str, jax.Array] = flax.struct.field(default_factory=dict)


class Fit(NamedTuple):
    """A streaming pass over a split, outside gradient descent.

    Attributes:
        when: "start" (before the first step), "epoch" (before each epoch) or "end" of the stage.
        split: "train" or "validation"; read in order, each record once, padding rows marked.
        zero: `(state) -> accumulator`.
        add: `(accumulator, state, batch) -> accumulator`; sums its share over `AXIS` itself.
        finish: `(accumulator, state) -> state`; runs once, outside the named axis.
    """

    when: str
    split: str
    zero: Callable[[State], Any]
    add: Callable[[Any, State, Batch], Any]
    finish: Callable[[Any, State], State]


class Stage(NamedTuple):
    """A part of training with its own state.

    Attributes:
        init: `(rng, batch, done) -> state`; `batch` shows shapes and types of the stage's batches
            (two records), `done` maps each finished stage to its state.
        update: `(state, batch, rng) -> (state, metrics)`, or None for a stage of fits alone. `rng`
            is the same on all devices and differs from step to step.
        fits: Passes at the start, at each epoch and at the end.
    """

    init: Callable[[jax.Array, Batch, Mapping[str, State]], State]
    update: Callable[[State, Batch, jax.Array], tuple[State, Metrics]] | None
    fits: tuple[Fit, ...] = ()


class Method(NamedTuple):
    """A system: its stages in order, and the score that their states give.

    Attributes:
        stages: By name, run in this order; each sees the finished states of those before it.
        score: `({stage name: state}, batch) -> Scores`.
        convert: By stage, `(foreign arrays by name, state) -> state`: reads a published checkpoint.
        networks: Of a segmentation system, by stage, the network that a stage ends with, for
            post-hoc scores: `({stage name: state}) -> methods.segmentation.Trained`.
        runs: Workdirs of finished runs by name. The `init` of each stage finds their states, by
            stage name, as `done[name]`, and keeps what it needs.
    """

    stages: Mapping[str, Stage]
    score: Callable[[Mapping[str, State], Batch], Scores]
    convert: Mapping[str, Callable[[Mapping[str, Any], State], State]] = {}
    networks: Mapping[str, Callable[[Mapping[str, State]], Any]] = {}
    runs: Mapping[str, str] = {}


def new_state(params: Params, opt_state: Any = (), stats: Any = ()) -> State:
    """A state before its first step."""
    return State(step=jnp.zeros((), jnp.int32), params=params, opt_state=opt_state, stats=stats)


def gradient_update(
    loss: Loss, tx: optax.GradientTransformation, *, axis_name: str | None = AXIS
) -> Callable[[State, Batch, jax.Array], tuple[State, Metrics]]:
    """One step of gradient descent on `loss(params, stats, batch, rng) -> (value, (stats,
    metrics))`.

    The value is the loss of the global batch (or its mean over devices is). Metrics gain `loss` and
    `grad_norm`, so that a non-finite gradient is seen at the step that made it.
    """

    def update(state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        gradients, value, stats, metrics = _gradients(
            loss, state.params, state.stats, batch, rng, axis_name
        )
        updates, opt_state = tx.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "grad_norm": optax.global_norm(gradients), **metrics}
        return State(state.step + 1, params, opt_state, stats), metrics

    return update


class Player(NamedTuple):
    """One of several networks that take turns.

    Attributes:
        name: Key of its parameters in `state.params` and of its optimiser in `state.opt_state`.
        loss: Sees the parameters of all players; only its own are changed.
        tx: Its optimiser.
        repeats: Its steps per turn, each with a key of its own.
    """

    name: str
    loss: Loss
    tx: optax.GradientTransformation
    repeats: int = 1


def alternate(
    players: Sequence[Player], *, axis_name: str | None = AXIS
) -> Callable[[State, Batch, jax.Array], tuple[State, Metrics]]:
    """An update in which the players move in this order on one batch; metrics are `<name>/…`."""
    names = [player.name for player in players]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"players need distinct names, at least one; got {names}.")

    def turn(player: Player, params, opt_state, stats, batch, rng):
        def own_loss(own, stats, batch, rng):
            return player.loss({**params, player.name: own}, stats, batch, rng)

        own = params[player.name]
        gradients, value, stats, metrics = _gradients(own_loss, own, stats, batch, rng, axis_name)
        updates, own_opt_state = player.tx.update(gradients, opt_state[player.name], own)
        params = {**params, player.name: optax.apply_updates(own, updates)}
        opt_state = {**opt_state, player.name: own_opt_state}
        metrics = {"loss": value, "grad_norm": optax.global_norm(gradients), **metrics}
        return params, opt_state, stats, {f"{player.name}/{k}": v for k, v in metrics.items()}

    def update(state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        params, opt_state, stats = dict(state.params), dict(state.opt_state), state.stats
        metrics: Metrics = {}
        for place, player in enumerate(players):
            for repeat in range(player.repeats):
                key = jax.random.fold_in(jax.random.fold_in(rng, place), repeat)
                params, opt_state, stats, new = turn(player, params, opt_state, stats, batch, key)
                metrics.update(new)
        return State(state.step + 1, params, opt_state, stats), metrics

    return update


def with_ema(
    update: Callable[[State, Batch, jax.Array], tuple[State, Metrics]],
    name: str,
    decay: float | Callable[[jax.Array], jax.Array],
    *,
    of: Callable[[State], Any] = lambda state: state.params,
) -> Callable[[State, Batch, jax.Array], tuple[State, Metrics]]:
    """Adds `stats[name] <- decay * stats[name] + (1 - decay) * of(state)` after each step.

    Args:
        update: The step to extend.
        name: Key of the averaged copy in `state.stats`; `init` puts the first copy there.
        decay: In [0, 1], or a schedule of the number of steps done before this one.
        of: What is averaged; the parameters by default.
    """

    def averaged(state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        rate = decay(state.step) if callable(decay) else decay
        state, metrics = update(state, batch, rng)
        copy = optax.incremental_update(of(state), state.stats[name], 1.0 - rate)
        return state.replace(stats={**state.stats, name: copy}), metrics

    return averaged


def mean_fit(
    name: str, values: Callable[[State, Batch], jax.Array], *, when: str, split: str
) -> Fit:
    """A fit that puts the mean of `values(state, batch) [B, …]` over the valid rows in
    `stats[name]`.

    `stats[name]` must exist and have the shape of one value; a split without valid rows leaves
    zeros.
    """

    def zero(state):
        return jnp.zeros_like(state.stats[name], jnp.float32), jnp.zeros((), jnp.float32)

    def add(accumulator, state, batch):
        total, count = accumulator
        each = values(state, batch).astype(jnp.float32)
        valid = batch["valid"].reshape((-1,) + (1,) * (each.ndim - 1))
        new = (
            jnp.sum(jnp.where(valid, each, 0.0), axis=0),
            jnp.sum(batch["valid"], dtype=jnp.float32),
        )
        new = jax.lax.psum(new, AXIS)
        return total + new[0], count + new[1]

    def finish(accumulator, state):
        total, count = accumulator
        mean = (total / jnp.maximum(count, 1.0)).astype(state.stats[name].dtype)
        return state.replace(stats={**state.stats, name: mean})

    return Fit(when, split, zero, add, finish)


def example_keys(rng: jax.Array, batch_size: int, *, axis_name: str | None = AXIS) -> jax.Array:
    """One key per local row, from its place in the global batch: the same for any number of
    devices.
    """
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * batch_size
    return jax.vmap(lambda place: jax.random.fold_in(rng, place))(first + jnp.arange(batch_size))


def _gradients(loss, params, stats, batch, rng, axis_name):
    (value, (stats, metrics)), gradients = jax.value_and_grad(loss, has_aux=True)(
        params, stats, batch, rng
    )
    if axis_name is not None:
        # Right under pmap and under shard_map, whether or not it tracks replication: there the mean
        # of already averaged gradients is the same mean.
        gradients, value, metrics = jax.lax.pmean((gradients, value, metrics), axis_name)
    return gradients, value, stats, metrics
