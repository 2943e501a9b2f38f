"""Helpers of the contract: the same numbers on one device and on eight, each against a formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxad.methods import base

RATE = 0.5
X = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
BATCH = {"x": X, "valid": np.ones(16, bool)}
TX = optax.sgd(RATE)
KEY = jax.random.key(0)


def on_eight(function, *, by_rows=False):
    """`function(state, batch, key)` with the rows of the batch spread over eight devices."""
    mesh = Mesh(np.array(jax.devices()), (base.AXIS,))
    return jax.jit(
        jax.shard_map(
            function,
            mesh=mesh,
            in_specs=(P(), P(base.AXIS), P()),
            out_specs=P(base.AXIS) if by_rows else P(),
            check_vma=False,
        )
    )


def close(a, b, rtol=1e-5):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.shape(x) == np.shape(y)
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6)


# One player.


def squares(params, stats, batch, rng):
    """The mean over rows of |params - x|^2 / 2; its gradient is params - mean(x)."""
    value = jnp.mean(jnp.sum((params - batch["x"]) ** 2, axis=-1)) / 2
    return value, ({"seen": stats["seen"] + 1}, {"first": params[0]})


def squares_state():
    params = jnp.ones(3)
    return base.new_state(params, TX.init(params), {"seen": jnp.int32(0)})


def test_gradient_update_is_one_step_of_descent():
    update = base.gradient_update(squares, TX, axis_name=None)
    state, _ = update(squares_state(), BATCH, KEY)
    np.testing.assert_allclose(state.params, 1 - RATE * (1 - X.mean(0)), rtol=1e-5)


def test_gradient_update_counts_steps_and_keeps_the_stats_of_the_loss():
    update = base.gradient_update(squares, TX, axis_name=None)
    state, _ = update(squares_state(), BATCH, KEY)
    assert (int(state.step), int(state.stats["seen"])) == (1, 1)


def test_gradient_update_adds_loss_and_gradient_norm():
    _, metrics = base.gradient_update(squares, TX, axis_name=None)(squares_state(), BATCH, KEY)
    assert sorted(metrics) == ["first", "grad_norm", "loss"]
    np.testing.assert_allclose(metrics["loss"], ((1 - X) ** 2).sum(-1).mean() / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], np.linalg.norm(1 - X.mean(0)), rtol=1e-5)


def test_gradient_update_over_eight_devices_is_that_without_an_axis():
    alone = base.gradient_update(squares, TX, axis_name=None)(squares_state(), BATCH, KEY)
    spread = on_eight(base.gradient_update(squares, TX))(squares_state(), BATCH, KEY)
    close(spread, alone)


def test_loss_summed_over_the_axis_gives_the_same_step():
    """A loss that ends in a psum already is that of the global batch: its mean is itself."""

    def coupled(params, stats, batch, rng):
        value = jax.lax.pmean(jnp.mean(jnp.sum((params - batch["x"]) ** 2, -1)) / 2, base.AXIS)
        return value, ({"seen": stats["seen"] + 1}, {"first": params[0]})

    alone = base.gradient_update(squares, TX, axis_name=None)(squares_state(), BATCH, KEY)
    spread = on_eight(base.gradient_update(coupled, TX))(squares_state(), BATCH, KEY)
    close(spread, alone)


# Several players.


def towards(name, other):
    """Half the squared distance of a player to another; also records its key and what it saw."""

    def loss(params, stats, batch, rng):
        value = jnp.sum((params[name] - params[other]) ** 2) / 2
        metrics = {"drawn": jax.random.uniform(rng), "saw": params[other][0]}
        return value, ({"turns": stats["turns"] + 1}, metrics)

    return loss


def players(repeats=(1, 1)):
    return [
        base.Player("a", towards("a", "b"), TX, repeats[0]),
        base.Player("b", towards("b", "a"), optax.sgd(0.25), repeats[1]),
    ]


def players_state():
    params = {"a": jnp.zeros(1), "b": jnp.full(1, 8.0), "frozen": jnp.full(1, 5.0)}
    opt_state = {"a": TX.init(params["a"]), "b": optax.sgd(0.25).init(params["b"])}
    return base.new_state(params, opt_state, {"turns": jnp.int32(0)})


def play(order, rng=KEY):
    state, metrics = base.alternate(order, axis_name=None)(players_state(), BATCH, rng)
    return {name: float(value[0]) for name, value in state.params.items()}, metrics, state


def test_player_moves_its_own_parameters_only():
    params, _, _ = play(players()[:1])
    assert params == {"a": 4.0, "b": 8.0, "frozen": 5.0}  # Half of the way from 0 to 8.


def test_later_player_sees_what_the_earlier_did():
    params, metrics, _ = play(players())
    assert params["b"] == 8.0 - 0.25 * (8.0 - 4.0)
    assert float(metrics["b/saw"]) == 4.0


def test_order_is_that_of_the_list():
    params, _, _ = play(players()[::-1])
    assert params["b"] == 8.0 - 0.25 * 8.0
    assert params["a"] == 0.5 * params["b"]


def test_player_repeats_its_steps():
    params, _, state = play(players(repeats=(3, 1))[:1])
    assert params["a"] == 8.0 * (1 - 0.5**3)
    assert (int(state.stats["turns"]), int(state.step)) == (3, 1)


def test_metrics_are_those_of_the_last_repeat_by_player():
    _, metrics, _ = play(players(repeats=(2, 1)))
    both = [f"{name}/{metric}" for name in "ab" for metric in ("drawn", "grad_norm", "loss", "saw")]
    assert sorted(metrics) == both
    assert float(metrics["a/loss"]) == (8.0 - 4.0) ** 2 / 2


def test_every_repeat_of_every_player_has_a_key_of_its_own():
    drawn = []

    def loss(params, stats, batch, rng):
        drawn.append(tuple(np.asarray(jax.random.key_data(rng))))
        return jnp.sum(params["a"]), (stats, {})

    two = [base.Player("a", loss, TX, 3), base.Player("b", loss, optax.sgd(0.25), 2)]
    play(two)
    assert len(set(drawn)) == 5


def test_alternate_over_eight_devices_is_that_without_an_axis():
    def loss(name):
        def with_rows(params, stats, batch, rng):
            value = jnp.mean((params[name] - batch["x"][:, :1] * params["frozen"]) ** 2)
            return value, (stats, {})

        return with_rows

    pair = [base.Player("a", loss("a"), TX, 2), base.Player("b", loss("b"), optax.sgd(0.25))]
    alone = base.alternate(pair, axis_name=None)(players_state(), BATCH, KEY)
    close(on_eight(base.alternate(pair))(players_state(), BATCH, KEY), alone)


@pytest.mark.parametrize("names", [["a", "a"], []])
def test_players_need_names_of_their_own(names):
    with pytest.raises(ValueError, match=r"players need distinct names, at least one; got \["):
        base.alternate([base.Player(name, towards("a", "b"), TX) for name in names])


# Averages.


def counting(state, batch, rng):
    """A step after which the parameters are the number of steps."""
    return state.replace(step=state.step + 1, params=state.params + 1.0), {"m": jnp.ones(())}


def averaged(decay, steps=4, **options):
    update = base.with_ema(counting, "copy", decay, **options)
    state = base.new_state(jnp.zeros(2), (), {"copy": jnp.full(2, 10.0), "other": jnp.ones(1)})
    for _ in range(steps):
        state, metrics = update(state, BATCH, KEY)
    assert list(metrics) == ["m"]
    return state


def test_average_is_the_weighted_sum_of_the_parameters_on_the_way():
    decay, steps = 0.75, 4
    # 10 decay^n + (1 - decay) sum_i decay^(n - i) i, as the parameters are i after step i.
    way = sum(decay ** (steps - i) * i for i in range(1, steps + 1))
    expected = 10.0 * decay**steps + (1 - decay) * way
    np.testing.assert_allclose(averaged(decay).stats["copy"], [expected] * 2, rtol=1e-6)


@pytest.mark.parametrize("decay, expected", [(0.0, 4.0), (1.0, 10.0)])
def test_average_at_both_ends(decay, expected):
    np.testing.assert_allclose(averaged(decay).stats["copy"], [expected] * 2)


def test_schedule_of_decay_sees_the_steps_done_before():
    """A decay of n / (n + 1) at the n-th step from 0 gives the plain mean of 1, 2, 3, 4."""
    state = averaged(lambda step: step / (step + 1.0))
    np.testing.assert_allclose(state.stats["copy"], [2.5] * 2, rtol=1e-6)


def test_average_of_something_else_than_the_parameters():
    state = averaged(0.0, of=lambda state: 3.0 * state.params)
    np.testing.assert_allclose(state.stats["copy"], [12.0] * 2)


def test_average_leaves_other_stats_and_the_parameters_alone():
    state = averaged(0.5)
    np.testing.assert_array_equal(state.stats["other"], [1.0])
    np.testing.assert_array_equal(state.params, [4.0, 4.0])


# Fits.


def fitted(batches, *, dtype=jnp.float32):
    fit = base.mean_fit("mean", lambda state, batch: batch["x"], when="end", split="validation")
    state = base.new_state({}, (), {"mean": jnp.full(3, 7.0, dtype), "other": jnp.ones(1)})
    add = on_eight(lambda accumulator, batch, state: fit.add(accumulator, state, batch))
    accumulator = fit.zero(state)
    for batch in batches:
        accumulator = add(accumulator, batch, state)
    return fit.finish(accumulator, state).stats


def test_mean_over_batches_of_all_rows():
    halves = [{"x": X[:8], "valid": np.ones(8, bool)}, {"x": X[8:], "valid": np.ones(8, bool)}]
    np.testing.assert_allclose(fitted(halves)["mean"], X.mean(0), rtol=1e-5)


def test_padding_rows_do_not_count_whatever_they_hold():
    valid = np.arange(16) < 5
    x = np.where(valid[:, None], X, np.nan)
    np.testing.assert_allclose(fitted([{"x": x, "valid": valid}])["mean"], X[:5].mean(0), rtol=1e-5)


@pytest.mark.parametrize("batches", [[], [{"x": X, "valid": np.zeros(16, bool)}]])
def test_mean_of_nothing_is_zero(batches):
    np.testing.assert_array_equal(fitted(batches)["mean"], np.zeros(3))


def test_mean_keeps_its_type_and_the_other_stats():
    stats = fitted([BATCH], dtype=jnp.bfloat16)
    assert stats["mean"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(stats["other"], [1.0])


def test_values_of_bfloat16_are_summed_in_float32():
    """257 rows per device, and bfloat16 knows no 257; then 4096 + 8, which is 4096 there."""
    ones = lambda rows: {"x": jnp.ones((rows, 3), jnp.bfloat16), "valid": np.ones(rows, bool)}  # noqa: E731
    stats = fitted([ones(8 * 257), ones(4096 - 8 * 257)] + 64 * [ones(8)])
    np.testing.assert_array_equal(stats["mean"], np.ones(3))


def test_fit_says_when_and_on_what():
    fit = base.mean_fit("mean", lambda state, batch: batch["x"], when="epoch", split="train")
    assert (fit.when, fit.split) == ("epoch", "train")


# Keys.


def keys_of(kind):
    """Key data of 16 rows, taken without an axis or over eight devices."""
    keys = lambda rng, size, **o: jax.random.key_data(base.example_keys(rng, size, **o))  # noqa: E731
    if kind == "alone":
        return keys(KEY, 16, axis_name=None)
    if kind == "pmap":
        over = jax.pmap(lambda rng, x: keys(rng, len(x)), base.AXIS, in_axes=(None, 0))
        return over(KEY, X.reshape(8, 2, 3)).reshape(16, -1)
    function = lambda state, batch, rng: keys(rng, len(batch["x"]))  # noqa: E731
    return on_eight(function, by_rows=True)({}, BATCH, KEY)


def test_every_row_has_a_key_of_its_own():
    assert len(np.unique(keys_of("alone"), axis=0)) == 16


@pytest.mark.parametrize("kind", ["shard_map", "pmap"])
def test_keys_of_rows_are_the_same_on_eight_devices(kind):
    np.testing.assert_array_equal(keys_of(kind), keys_of("alone"))


def test_keys_of_a_larger_batch_begin_with_those_of_a_smaller_one():
    small, large = (base.example_keys(KEY, size, axis_name=None) for size in (4, 16))
    np.testing.assert_array_equal(jax.random.key_data(small), jax.random.key_data(large)[:4])
