"""Batches are shared out by rows, states kept once, for both mappings and any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.errors import InputError
from jaxad.methods import base
from jaxad.training import spmd

ROWS = 16


@pytest.fixture(params=[(kind, devices) for kind in spmd.KINDS for devices in (1, 8)], ids=str)
def mapper(request):
    kind, devices = request.param
    return spmd.Mapper(kind, jax.devices()[:devices])


def batch():
    x = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)
    return {"x": x, "index": np.arange(ROWS, dtype=np.int32), "valid": np.arange(ROWS) % 3 > 0}


def drawn(state, batch, rng):
    """An update that tells its key."""
    total = jax.lax.psum(jnp.sum(batch["x"]), base.AXIS)
    metrics = {"total": total, "drawn": jax.random.uniform(rng)}
    return state.replace(step=state.step + 1, params=state.params - 1.0), metrics


def start(mapper, step=0):
    return mapper.replicate(base.new_state(jnp.zeros(4)).replace(step=jnp.int32(step)))


def test_fetch_undoes_put(mapper):
    found = mapper.fetch(mapper.put(batch()))
    for name, array in batch().items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(found[name], array)


def test_each_device_has_its_contiguous_rows(mapper):
    """The first row's position on each device is its place among the devices times its share."""
    first = mapper.score(lambda states, batch: batch["index"] - batch["index"][0])
    found = mapper.fetch(first(start(mapper), mapper.put(batch())))
    np.testing.assert_array_equal(found, np.arange(ROWS) % (ROWS // mapper.size))


def test_score_rows_keep_their_order(mapper):
    def score(states, batch):
        return base.Scores(image=states.params[0] + 2 * batch["x"][:, 0], snippet=batch["x"])

    found = mapper.fetch(mapper.score(score)(start(mapper), mapper.put(batch())))
    np.testing.assert_array_equal(found.image, 2 * batch()["x"][:, 0])
    np.testing.assert_array_equal(found.snippet, batch()["x"])


def test_update_sees_the_global_batch(mapper):
    _, metrics = mapper.update(drawn)(start(mapper), mapper.put(batch()), key(mapper))
    np.testing.assert_allclose(metrics["total"], batch()["x"].sum())


def key(mapper, seed=0):
    return mapper.replicate(jax.random.key(seed))


def test_two_steps_draw_differently(mapper):
    update = mapper.update(drawn)
    state, first = update(start(mapper), mapper.put(batch()), key(mapper))
    _, second = update(state, mapper.put(batch()), key(mapper))
    assert float(first["drawn"]) != float(second["drawn"])


def test_one_step_draws_the_same_whenever_it_is_taken(mapper):
    update = mapper.update(drawn)
    state, _ = update(start(mapper), mapper.put(batch()), key(mapper))
    _, walked = update(state, mapper.put(batch()), key(mapper))
    _, resumed = update(start(mapper, step=1), mapper.put(batch()), key(mapper))
    assert float(walked["drawn"]) == float(resumed["drawn"])


def test_draw_is_that_of_the_key_folded_with_the_step(mapper):
    _, metrics = mapper.update(drawn)(start(mapper, step=5), mapper.put(batch()), key(mapper, 3))
    expected = jax.random.uniform(jax.random.fold_in(jax.random.key(3), 5))
    assert float(metrics["drawn"]) == float(expected)


def test_state_is_donated(mapper):
    state = start(mapper)
    after, _ = mapper.update(drawn)(state, mapper.put(batch()), key(mapper))
    jax.block_until_ready(after)
    assert state.params.is_deleted()
    np.testing.assert_array_equal(after.params, -np.ones(4))


def test_accumulator_is_donated_and_the_state_is_not(mapper):
    def add(accumulator, state, batch):
        return accumulator + jax.lax.psum(jnp.sum(batch["x"]), base.AXIS) + state.params[0]

    accumulator, state = mapper.replicate(jnp.ones(())), start(mapper)
    after = jax.block_until_ready(mapper.add(add)(accumulator, state, mapper.put(batch())))
    assert accumulator.is_deleted()
    assert not state.params.is_deleted()
    np.testing.assert_allclose(after, 1 + batch()["x"].sum())


def test_second_step_is_not_traced_again(mapper):
    traces = []

    def counted(*arguments):
        traces.append(1)
        return drawn(*arguments)

    update, state = mapper.update(counted), start(mapper)
    for _ in range(3):
        state, _ = update(state, mapper.put(batch()), key(mapper))
    assert len(traces) == 1


def test_replicated_state_is_on_every_device(mapper):
    state = start(mapper)
    assert state.params.sharding.device_set == set(mapper.mesh.devices.flat)
    assert state.params.is_fully_replicated


def test_pmap_refuses_a_state_without_arrays():
    mapper = spmd.Mapper("pmap")
    with pytest.raises(ValueError, match=r"pmap cannot take a state .* without arrays"):
        mapper.score(lambda states, batch: batch["x"])({}, mapper.put(batch()))


# Batch sizes.


@pytest.mark.parametrize("size", [8, 16, 64])
def test_multiple_of_the_devices_is_accepted(size):
    spmd.Mapper().check_batch("f", size)


@pytest.mark.parametrize(
    "size, balanced, message",
    [
        (0, False, r"config.stages.a.batch_size=0 .*8 devices.* multiple of 8, for example 8\."),
        (12, False, r"batch_size=12 .*8 devices; expected a positive multiple of 8, for example"),
        (20, False, r"for example (16|24)\."),
        (30, False, r"for example 32\."),
        (-8, False, r"batch_size=-8 .*for example 8\."),
        (8, True, r"multiple of 16 \(each device needs as many normal as anomalous.*example 16\."),
        (24, True, r"multiple of 16"),
    ],
)
def test_other_batch_is_refused_with_one_that_fits(size, balanced, message):
    with pytest.raises(InputError, match=message):
        spmd.Mapper().check_batch("stages.a.batch_size", size, balanced=balanced)


def test_one_device_takes_any_batch_but_a_balanced_one_must_be_even():
    mapper = spmd.Mapper("shard_map", jax.devices()[:1])
    mapper.check_batch("f", 7)
    with pytest.raises(InputError, match=r"f=7 .*multiple of 2"):
        mapper.check_batch("f", 7, balanced=True)


def test_unknown_mapping_lists_both():
    with pytest.raises(InputError, match=r"config.spmd='xmap'; expected .*'shard_map', 'pmap'"):
        spmd.Mapper("xmap")
