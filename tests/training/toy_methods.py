"""Small methods of each shape that the contract allows, and a source for them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxad.config import defaults, stage
from jaxad.data.split import Split
from jaxad.methods import base

WIDTH = 3


@dataclasses.dataclass(frozen=True)
class Read:
    values: np.ndarray
    labels: np.ndarray

    def __call__(self, position):
        return {"x": self.values[position], "label": np.int32(self.labels[position])}


def split(size, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(size) % 2
    values = rng.normal(size=(size, WIDTH)).astype(np.float32) + 2.0 * labels[:, None]
    values = values.astype(np.float32)
    names = [f"record{i}" for i in range(size)]
    return Split(names, labels, Read(values, labels), {"seed": seed, "size": size})


@functools.cache
def splits():
    return {"train": split(22, 0), "validation": split(10, 1), "test": split(13, 2)}


def score_by(vector):
    """Scores along a vector that `vector(states)` gives."""

    def score(states, batch):
        return base.Scores(image=batch["x"] @ vector(states))

    return score


def squared_error(weights, batch, target):
    error = (batch["x"] @ weights - target) ** 2
    valid = batch["valid"]
    total = jax.lax.psum(jnp.sum(jnp.where(valid, error, 0.0)), base.AXIS)
    return total / jnp.maximum(jax.lax.psum(jnp.sum(valid), base.AXIS), 1)


def regression(optimizers, *, dtype):
    """One stage of gradient steps."""
    tx = optimizers["train"]

    def init(rng, batch, done):
        params = 0.1 * jax.random.normal(rng, (batch["x"].shape[-1],))
        return base.new_state(params, tx.init(params), {"seen": jnp.zeros((), jnp.int32)})

    def loss(params, stats, batch, rng):
        noise = 0.1 * jax.random.normal(rng, ())
        value = squared_error(params, batch, batch["label"] + noise)
        return value, ({"seen": stats["seen"] + 1}, {"norm": optax.global_norm(params)})

    update = base.gradient_update(loss, tx)
    return base.Method({"train": base.Stage(init, update)}, score_by(lambda s: s["train"].params))


def two_players(optimizers, *, dtype):
    """Players that pull in opposite directions, the second twice per step."""
    tx = optimizers["train"]

    def init(rng, batch, done):
        params = {"up": jnp.ones(WIDTH), "down": jnp.ones(WIDTH)}
        return base.new_state(params, {k: tx.init(v) for k, v in params.items()}, {})

    def up(params, stats, batch, rng):
        value = squared_error(params["up"], batch, batch["label"])
        return value + 0.1 * jnp.sum(params["up"] * params["down"]), (stats, {})

    def down(params, stats, batch, rng):
        return jnp.sum((params["down"] - params["up"]) ** 2), (stats, {})

    players = [base.Player("up", up, tx), base.Player("down", down, tx, repeats=2)]
    update = base.alternate(players)
    vector = lambda s: s["train"].params["up"]  # noqa: E731
    return base.Method({"train": base.Stage(init, update)}, score_by(vector))


def fit_only(optimizers, *, dtype):
    """No gradient: the mean of the training features at the start, that of their squares at the
    end.
    """

    def init(rng, batch, done):
        stats = {"mean": jnp.zeros(WIDTH), "square": jnp.zeros(WIDTH)}
        return base.new_state({}, (), stats)

    fits = (
        base.mean_fit("mean", lambda state, batch: batch["x"], when="start", split="train"),
        base.mean_fit(
            "square",
            lambda state, batch: (batch["x"] - state.stats["mean"]) ** 2,
            when="end",
            split="train",
        ),
    )
    return base.Method(
        {"train": base.Stage(init, None, fits)}, score_by(lambda s: s["train"].stats["mean"])
    )


def expectation(optimizers, *, dtype):
    """EM-like: a fit at the start of each epoch gives the target of its gradient steps."""
    tx = optimizers["train"]

    def init(rng, batch, done):
        params = jnp.zeros(WIDTH)
        return base.new_state(params, tx.init(params), {"center": jnp.zeros(WIDTH)})

    def loss(params, stats, batch, rng):
        return jnp.sum((params - stats["center"] - 1.0) ** 2), (stats, {})

    def values(state, batch):
        return batch["x"] + state.params

    fit = base.mean_fit("center", values, when="epoch", split="train")
    update = base.gradient_update(loss, tx)
    return base.Method(
        {"train": base.Stage(init, update, (fit,))}, score_by(lambda s: s["train"].params)
    )


def averaged(optimizers, *, dtype):
    """An EMA copy of the parameters, which scores."""
    tx = optimizers["train"]
    inner = regression(optimizers, dtype=dtype).stages["train"]

    def init(rng, batch, done):
        state = inner.init(rng, batch, done)
        return state.replace(stats={**state.stats, "teacher": state.params})

    def loss(params, stats, batch, rng):
        return squared_error(params, batch, batch["label"]), (stats, {})

    update = base.with_ema(base.gradient_update(loss, tx), "teacher", 0.9)
    vector = lambda s: s["train"].stats["teacher"]  # noqa: E731
    return base.Method({"train": base.Stage(init, update)}, score_by(vector))


def two_stages(optimizers, *, dtype):
    """The second stage starts from the parameters of the first."""
    first = regression({"train": optimizers["first"]}, dtype=dtype).stages["train"]
    tx = optimizers["second"]

    def init(rng, batch, done):
        params = done["first"].params
        return base.new_state(params, tx.init(params), {"origin": params})

    def loss(params, stats, batch, rng):
        return jnp.sum((params - 2.0 * stats["origin"]) ** 2), (stats, {})

    second = base.Stage(init, base.gradient_update(loss, tx))
    vector = lambda s: s["second"].params  # noqa: E731
    return base.Method({"first": first, "second": second}, score_by(vector))


METHODS = {
    method.__name__: method
    for method in (regression, two_players, fit_only, expectation, averaged, two_stages)
}


def config(name, steps=12, batch_size=8):
    """A small run of one of `METHODS`."""
    made = defaults()
    made.method = dict(name=name)
    made.data.source = dict(name="toy")
    made.data.threads = 1
    optimizer = dict(name="sgd", learning_rate=0.02, momentum=0.5)
    for stage_name in ("first", "second") if name == "two_stages" else ("train",):
        steps_here = 0 if name == "fit_only" else steps
        made.stages[stage_name] = stage(
            batch_size=batch_size, steps=steps_here, optimizer=optimizer
        )
    made.eval.batch_size = 8
    made.eval.every_steps = 5
    made.checkpoint.every_steps = 4
    made.log.every_steps = 3
    return made.lock()
