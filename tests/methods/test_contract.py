"""What every system must do, over all of them: a new file in `jaxad/methods` is tested here at
once.
"""

import functools
import inspect
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad import config as configs
from jaxad import methods
from jaxad.data import pipeline, sources
from jaxad.training import planning, spmd

ROOT = pathlib.Path(__file__).resolve().parents[2]
LEARNING = [name for name in methods.names() if name != "feature_norm"]


def digits(name, **fields):
    """The `digits` preset of a system on fewer and smaller records."""
    config = configs.load(f"{ROOT}/configs/{name}.py:digits")
    with config.unlocked():
        config.data.threads = 1
        small = dict(train_reels=24, validation_reels=4, test_reels=8, crops=2)
        for key, value in small.items():
            if key in config.data.source:
                config.data.source[key] = value
        config.update_from_flattened_dict(fields)
    return config.lock()


@functools.cache
def splits(name):
    options = dict(digits(name).data.source.to_dict())
    return sources.open_splits(options.pop("name"), options)


def first_state(config, stage="train", seed=0):
    method = planning.build(config, dict.fromkeys(config.stages, 10))
    sample = pipeline.example(splits(config.method.name)["train"])
    return method, jax.jit(method.stages[stage].init)(jax.random.key(seed), sample, {})


def batches(name, size):
    reading = pipeline.Reading(threads=1, prefetch=1)
    return pipeline.training_batches(
        pipeline.Training(splits(name)["train"]),
        pipeline.Order(size, 0, "balanced"),
        reading=reading,
    )


def train(config, steps, *, kind="shard_map", devices=1, size=16, change=lambda batch: batch):
    mapper = spmd.Mapper(kind, jax.devices()[:devices])
    method, state = first_state(config)
    update = mapper.update(method.stages["train"].update)
    state, key = mapper.replicate(state), mapper.replicate(jax.random.key(1))
    stream, history = batches(config.method.name, size), []
    for _ in range(steps):
        state, metrics = update(state, mapper.put(change(next(stream))), key)
        history.append(jax.device_get(metrics))
    return method, jax.device_get(state), history


def score(method, states, batch, devices=1):
    mapper = spmd.Mapper("shard_map", jax.devices()[:devices])
    scores = mapper.score(method.score)(mapper.replicate(states), mapper.put(batch))
    return jax.device_get(scores)


def close(a, b, **tolerance):
    paths = jax.tree_util.tree_leaves_with_path(a)
    for (path, x), y in zip(paths, jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, err_msg=jax.tree_util.keystr(path), **tolerance)


@pytest.mark.parametrize("name", methods.names())
def test_config_names_every_hyper_parameter(name):
    """None is hidden in a default of the code, and none is silently ignored."""
    signature = inspect.signature(methods.load(name).build).parameters
    options = set(signature) - {"optimizers", "dtype"}
    module = configs.load_module(f"{ROOT}/configs/{name}.py")
    for preset in module.PRESETS:
        assert set(module.get_config(preset).method) - {"name"} == options, preset


@pytest.mark.parametrize("name", methods.names())
def test_every_preset_builds(name):
    module = configs.load_module(f"{ROOT}/configs/{name}.py")
    assert next(iter(module.PRESETS)) == "digits"
    for preset in module.PRESETS:
        config = module.get_config(preset)
        method = planning.build(config, dict.fromkeys(config.stages, 10))
        assert list(method.stages) == list(config.stages)


@pytest.mark.parametrize("name", LEARNING)
def test_loss_falls_and_anomalies_score_higher(name):
    config = digits(name)
    method, state, history = train(config, 150)
    losses = [metrics["loss"] for metrics in history]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-20:]) < np.mean(losses[:20])
    split = splits(name)["train"]
    rows = [split.read(i) for i in range(len(split))]
    batch = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    batch |= {"valid": np.ones(len(rows), bool), "index": np.arange(len(rows), dtype=np.int32)}
    batch["length"] = np.full(len(rows), batch["features"].shape[2], np.int32)
    image = score(method, {"train": state}, batch).image
    assert image[split.labels == 1].mean() > image[split.labels == 0].mean()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", LEARNING)
def test_devices_and_mappings_agree(name, optimizer):
    """Loss, gradient norm and parameters after three steps, dropout included."""
    fields = {"stages.train.optimizer": dict(name=optimizer, learning_rate=1e-3)}
    config = digits(name, **fields)
    _, reference, metrics = train(config, 3)
    # Adam divides rounding noise by itself where a true gradient is zero (a bias before batch
    # norm): there two layouts differ by up to a step, and SGD is what tells right from wrong.
    tolerance = dict(rtol=2e-3, atol=2e-3) if optimizer == "adam" else dict(rtol=1e-4, atol=1e-5)
    for kind, devices in (("shard_map", 8), ("pmap", 1), ("pmap", 8)):
        _, state, found = train(config, 3, kind=kind, devices=devices)
        close(found, metrics, rtol=2e-3, atol=1e-4)
        close(state.params, reference.params, **tolerance)
        close(state.stats, reference.stats, **tolerance)


@pytest.mark.parametrize("name", LEARNING)
def test_padding_rows_change_nothing_in_training(name):
    config = digits(name)

    def pad(filler):
        def change(batch):
            batch = {key: value.copy() for key, value in batch.items()}
            batch["valid"][-2:] = False
            batch["features"][-2:] = filler
            batch["length"][-2:] = 0
            return batch

        return change

    _, zeros, _ = train(config, 2, change=pad(0.0))
    _, large, _ = train(config, 2, change=pad(1e3))
    close(large.params, zeros.params, rtol=1e-6, atol=1e-7)
    close(large.stats, zeros.stats, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", methods.names())
def test_padding_changes_no_score(name):
    config = digits(name)
    method, state = first_state(config)
    split = splits(name)["test"]
    rows = list(
        pipeline.ordered_batches(
            split, batch_size=4, devices=4, reading=pipeline.Reading(threads=1, prefetch=1)
        )
    )
    assert len({batch["features"].shape for batch in rows}) > 1
    seen = 0
    for batch in rows:
        scores = score(method, {"train": state}, batch, devices=4)
        for place in np.flatnonzero(batch["valid"]):
            record = split.read(int(batch["index"][place]))
            alone = {key: value[None] for key, value in record.items()}
            length = record["features"].shape[1]
            alone |= {"valid": np.ones(1, bool), "length": np.array([length], np.int32)}
            alone |= {"index": np.zeros(1, np.int32)}
            expected = score(method, {"train": state}, alone)
            np.testing.assert_allclose(scores.image[place], expected.image[0], rtol=1e-4)
            if scores.snippet is not None:
                np.testing.assert_allclose(
                    scores.snippet[place, :length], expected.snippet[0], rtol=1e-4, atol=1e-6
                )
            seen += 1
            if seen == 5:
                return


@pytest.mark.parametrize("name", LEARNING)
def test_bfloat16_keeps_parameters_and_losses_in_float32(name):
    config = digits(name, dtype="bfloat16")
    method, state, history = train(config, 2)
    for leaf in jax.tree.leaves((state.params, state.stats)):
        assert leaf.dtype == jnp.float32
    for metrics in history:
        for key, value in metrics.items():
            assert value.dtype == np.float32, key
            assert np.isfinite(value), key
    _, _, exact = train(digits(name), 2)
    np.testing.assert_allclose(history[0]["loss"], exact[0]["loss"], rtol=0.05)
    batch = next(batches(name, 4))
    for leaf in jax.tree.leaves(score(method, {"train": state}, batch)):
        assert leaf.dtype == np.float32
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("name", LEARNING)
def test_one_class_in_a_batch_stays_finite(name):
    config = digits(name)
    for label in (0, 1):

        def change(batch, label=label):
            return {**batch, "label": np.full_like(batch["label"], label)}

        _, state, history = train(config, 1, change=change)
        assert all(np.isfinite(v) for v in history[0].values())
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
