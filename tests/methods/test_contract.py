"""What every system must do, over all of them: a new file in `jaxad/methods` is tested here at
once.
"""

import dataclasses
import functools
import inspect
import pathlib

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxad import config as configs
from jaxad import methods
from jaxad.data import pipeline
from jaxad.methods import scan_sampling, scene_inference, scene_sampling, segmentation
from jaxad.training import finished, optimizers, planning, spmd

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNTRAINED = ("feature_norm", "posthoc")  # They have no gradient steps.
LEARNING = [
    (name, stage)
    for name in methods.names()
    if name not in UNTRAINED
    for stage in tiny.config(name).stages
]
SCENES = [name for name in methods.names() if tiny.of_scenes(name)]
SGD, ADAM = (dict(name=name, learning_rate=1e-3) for name in ("sgd", "adam"))


def over(pairs):
    """Runs a test for each of some systems and stages."""
    pairs = [pytest.param(*pair, id="-".join(pair)) for pair in pairs]
    return pytest.mark.parametrize("name, stage", pairs)


STAGES = over(LEARNING)
NAMES = pytest.mark.parametrize("name", methods.names())


@pytest.fixture(scope="module", autouse=True)
def run(tmp_path_factory):
    """A finished run, for systems that score those of others."""
    tiny.finished(tmp_path_factory)


@functools.cache
def build(name, optimizer="sgd", dtype="float32"):
    config = tiny.config(name, dtype=dtype)
    with config.unlocked():
        for section in config.stages.values():
            section.optimizer = {"sgd": SGD, "adam": ADAM, "own": section.optimizer}[optimizer]
    return config, planning.build(config, dict.fromkeys(config.stages, 100))


@functools.cache
def first_states(name):
    """Of all stages, before their first step; without optimisers."""
    _, method = build(name)
    sample = pipeline.example(tiny.splits(name)["train"])
    given = tiny.given(method, sample)
    if name in SCENES and not given:  # Compiling their initialisation takes longer than a test.
        shapes = finished.templates(method, sample, {})
        states = {
            stage: drawn.leaves(shape.replace(opt_state=()), seed=place)
            for place, (stage, shape) in enumerate(shapes.items())
        }
        return jax.device_get(states)
    states = {}
    for place, (stage, definition) in enumerate(method.stages.items()):
        key = jax.random.key(place)
        states[stage] = jax.jit(definition.init)(key, sample, {**given, **states})
    return jax.device_get(states)


def first_state(name, stage, optimizer):
    state = first_states(name)[stage]
    opt_state = transformation(name, stage, optimizer).init(state.params)
    return state.replace(opt_state=jax.device_get(opt_state))


def transformation(name, stage, optimizer):
    config, _ = build(name, optimizer)
    return optimizers.build(config.stages[stage].optimizer.to_dict(), 100)


@functools.cache
def mapped(name, stage, kind, devices, optimizer, dtype):
    mapper = spmd.Mapper(kind, jax.devices()[:devices])
    _, method = build(name, optimizer, dtype)
    return mapper, mapper.update(method.stages[stage].update)


def batches(name, stage, size):
    section, splits = tiny.config(name).stages[stage], tiny.splits(name)
    outliers = splits["outliers"] if section.outlier_share else None
    order = pipeline.Order(size, 0, sampler=section.sampler, outlier_share=section.outlier_share)
    reading = pipeline.Reading(threads=1, prefetch=1)
    return pipeline.training_batches(
        pipeline.Training(splits["train"], outliers), order, reading=reading
    )


def train(
    name,
    stage,
    steps,
    *,
    kind="shard_map",
    devices=1,
    optimizer="sgd",
    dtype="float32",
    change=lambda batch: batch,
):
    mapper, update = mapped(name, stage, kind, devices, optimizer, dtype)
    state = mapper.replicate(first_state(name, stage, optimizer))
    key, history = mapper.replicate(jax.random.key(1)), []
    stream = batches(name, stage, 16)
    for _ in range(steps):
        state, metrics = update(state, mapper.put(change(next(stream))), key)
        history.append(jax.device_get(metrics))
    return jax.device_get(state), history


@functools.cache
def scorer(name, devices, dtype):
    mapper = spmd.Mapper("shard_map", jax.devices()[:devices])
    return mapper, mapper.score(build(name, "sgd", dtype)[1].score)


def score(name, states, batch, devices=1, dtype="float32"):
    mapper, scored = scorer(name, devices, dtype)
    sent = {key: value for key, value in batch.items() if key not in ("segments", "anomaly")}
    return jax.device_get(scored(mapper.replicate(states), mapper.put(sent)))


def close(a, b, **tolerance):
    paths = jax.tree_util.tree_leaves_with_path(a)
    for (path, x), y in zip(paths, jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, err_msg=jax.tree_util.keystr(path), **tolerance)


def finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


@NAMES
def test_config_names_every_hyper_parameter(name):
    """None is hidden in a default of the code, and none is silently ignored."""
    signature = inspect.signature(methods.load(name).build).parameters
    options = set(signature) - {"optimizers", "dtype"}
    module = configs.load_module(f"{ROOT}/configs/{name}.py")
    for preset in module.PRESETS:
        assert set(module.get_config(preset).method) - {"name"} == options, preset


@pytest.mark.parametrize("name", SCENES)
def test_sections_name_every_hyper_parameter(name):
    module = configs.load_module(f"{ROOT}/configs/{name}.py")
    for preset in module.PRESETS:
        method = module.get_config(preset).method
        if "inference" in method:
            assert set(method.inference) == set(scene_inference.Inference._fields), preset
        for section in {"augment", "finetune_augment"} & set(method):
            drawn_as = scene_sampling.Scenes if "crop" in method[section] else scan_sampling.Drawing
            assert set(method[section]) == set(drawn_as._fields), preset
        if "network" in method:
            given = {
                field.name
                for field in dataclasses.fields(segmentation.NETWORKS[method.network.name])
            }
            given -= {"parent", "num_classes", "axis_name", "dtype"}
            assert set(method.network) == given | {"name"}, preset


@NAMES
def test_every_preset_builds(name):
    module = configs.load_module(f"{ROOT}/configs/{name}.py")
    assert next(iter(module.PRESETS)) == "digits"
    for preset in module.PRESETS:
        config = module.get_config(preset)
        tiny.with_run(config)
        method = planning.build(config, dict.fromkeys(config.stages, 10))
        assert set(method.stages) == set(config.stages)


@STAGES
def test_loss_falls(name, stage):
    _, history = trained(name)[stage]
    losses = [metrics["loss"] for metrics in history]
    assert np.isfinite(losses).all()
    tenth = max(len(losses) // 8, 1)
    assert np.mean(losses[-tenth:]) < np.mean(losses[:tenth])


@functools.cache
def trained(name):
    """By stage: its last state and its metrics, each stage on top of the one before."""
    config, method = build(name)
    sample, optimizer = pipeline.example(tiny.splits(name)["train"]), "own"
    states = {}
    if name in SCENES and "anomaly" in tiny.splits(name)["test"].read(0):
        states, optimizer = dict(first_states(name)), "adam"
    done, found = {}, {}
    for stage, definition in method.stages.items():
        mapper, update = mapped(name, stage, "shard_map", 1, optimizer, "float32")
        state = states.get(stage)
        if state is None or done:
            state = jax.jit(definition.init)(jax.random.key(0), sample, done)
        opt_state = transformation(name, stage, optimizer).init(state.params)
        state = mapper.replicate(state.replace(opt_state=opt_state))
        stream, history = batches(name, stage, 16), []
        key = mapper.replicate(jax.random.key(1))
        for _ in range(config.stages[stage].steps):
            state, metrics = update(state, mapper.put(next(stream)), key)
            history.append(metrics)
        done[stage] = jax.device_get(state)
        found[stage] = done[stage], jax.device_get(history)
    return found


# The score of `foreground_entropy` needs a network that finds foreground, which none this narrow
# does; its own tests give it one.
@pytest.mark.parametrize("name", sorted({name for name, _ in LEARNING} - {"foreground_entropy"}))
def test_anomalies_score_higher(name):
    """Videos of the training split; pixels of the test split, whose objects were never seen; of
    systems that make outliers of training scans such outliers.
    """
    states = {stage: state for stage, (state, _) in trained(name).items()}
    exposed = "exposure_weight" in tiny.config(name).method
    split = tiny.splits(name)["test" if name in SCENES and not exposed else "train"]
    rows = [split.read(i) for i in range(len(split))]
    batch = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    batch |= {"valid": np.ones(len(rows), bool), "index": np.arange(len(rows), dtype=np.int32)}
    if "anomaly" in batch:
        pixel, truth = score(name, states, batch).pixel, batch["anomaly"]
        assert pixel[truth == 1].mean() > pixel[truth == 0].mean()
        return
    if exposed:
        drawing = scan_sampling.parse(tiny.config(name).method.augment)
        images = jnp.asarray(batch["image"])
        outliers = scan_sampling.draw_outliers(drawing, jax.random.key(5), images, axis_name=None)
        changed = score(name, states, batch | {"image": np.asarray(outliers)}).image
        assert changed.mean() > score(name, states, batch).image.mean()
        return
    batch["length"] = np.full(len(rows), batch["features"].shape[2], np.int32)
    image = score(name, states, batch).image
    assert image[split.labels == 1].mean() > image[split.labels == 0].mean()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@STAGES
def test_devices_and_mappings_agree(name, stage, optimizer):
    """Loss, gradient norm, parameters and statistics after three steps, dropout included."""
    reference, metrics = train(name, stage, 3, optimizer=optimizer)
    # Adam divides rounding noise by itself where a true gradient is zero (a bias before batch
    # norm): there two layouts differ by up to a step, and SGD is what tells right from wrong.
    tolerance = dict(rtol=2e-3, atol=2e-3) if optimizer == "adam" else dict(rtol=1e-4, atol=1e-5)
    layouts = [("shard_map", 8), ("pmap", 1), ("pmap", 8)]
    if name in SCENES:  # There a layout takes long to compile.
        layouts = [("shard_map", 8)] if optimizer == "sgd" else [("pmap", 8)]
    for kind, devices in layouts:
        state, found = train(name, stage, 3, kind=kind, devices=devices, optimizer=optimizer)
        close(found, metrics, rtol=2e-3, atol=1e-4)
        close(state.params, reference.params, **tolerance)
        close(state.stats, reference.stats, **tolerance)


@STAGES
def test_padding_rows_change_nothing_in_training(name, stage):
    def pad(filler):
        def change(batch):
            batch = {key: value.copy() for key, value in batch.items()}
            batch["valid"][-2:] = False
            for key in batch.keys() - {"valid", "index", "label", "length"}:
                batch[key][-2:] = filler
            if "length" in batch:
                batch["length"][-2:] = 0
            return batch

        return change

    large = 3 if name in SCENES else 1e3  # 3 is a class.
    zeros, _ = train(name, stage, 2, change=pad(0))
    others, _ = train(name, stage, 2, change=pad(large))
    close(others.params, zeros.params, rtol=1e-6, atol=1e-7)
    close(others.stats, zeros.stats, rtol=1e-6, atol=1e-7)


@NAMES
def test_padding_changes_no_score(name):
    states = first_states(name)
    split = tiny.splits(name)["test"]
    reading = pipeline.Reading(threads=1, prefetch=1)
    rows = list(pipeline.ordered_batches(split, batch_size=4, devices=4, reading=reading))
    if name not in SCENES:
        assert len({batch["features"].shape for batch in rows}) > 1
    seen = 0
    for batch in rows:
        scores = score(name, states, batch, devices=4)
        for place in np.flatnonzero(batch["valid"]):
            record = split.read(int(batch["index"][place]))
            alone = score(
                name,
                states,
                tiny.alone(record, rows=1 if "features" in record else 4),
                devices=1 if "features" in record else 4,
            )
            if scores.pixel is not None:
                np.testing.assert_allclose(
                    scores.pixel[place], alone.pixel[0], rtol=1e-4, atol=1e-5
                )
            if scores.image is not None:
                np.testing.assert_allclose(scores.image[place], alone.image[0], rtol=1e-4)
            if scores.snippet is not None:
                length = record["features"].shape[1]
                np.testing.assert_allclose(
                    scores.snippet[place, :length], alone.snippet[0], rtol=1e-4, atol=1e-6
                )
            seen += 1
            if seen == 5:
                return


@STAGES
def test_bfloat16_keeps_parameters_and_losses_in_float32(name, stage):
    state, history = train(name, stage, 2, dtype="bfloat16")
    for leaf in jax.tree.leaves((state.params, state.stats)):
        assert leaf.dtype == jnp.float32
    for metrics in history:
        for key, value in metrics.items():
            assert value.dtype == np.float32, key
            assert np.isfinite(value), key
    _, exact = train(name, stage, 2)
    np.testing.assert_allclose(history[0]["loss"], exact[0]["loss"], rtol=0.05)


@NAMES
def test_bfloat16_scores_are_float32(name):
    batch = next(batches(name, list(tiny.config(name).stages)[-1], 4))
    scores = score(name, first_states(name), batch, dtype="bfloat16")
    for leaf in jax.tree.leaves(scores.replace(classes=None)):
        assert leaf.dtype == np.float32
        assert np.isfinite(leaf).all()
    assert scores.classes is None or scores.classes.dtype == np.int32


@STAGES
def test_one_class_in_a_batch_stays_finite(name, stage):
    field = "segments" if name in SCENES else "label"
    for value in (0, 1):

        def change(batch, value=value):
            return {**batch, field: np.full_like(batch[field], value)}

        state, history = train(name, stage, 1, change=change)
        assert finite(history)
        assert finite(state)


@pytest.mark.parametrize("id_", [254, 255])
@over(each for each in LEARNING if each[0] in SCENES)
def test_only_void_or_only_outliers_stay_finite(name, stage, id_):
    def change(batch):
        batch = {**batch, "segments": np.full_like(batch["segments"], id_)}
        if "object_mask" in batch:
            batch["object_mask"] = np.zeros_like(batch["object_mask"])
        return batch

    state, history = train(name, stage, 1, change=change)
    assert finite(history)
    assert finite(state)
    cropped = "crop" in tiny.config(name).method.get("augment", ())
    # No pixel has a class; but around scans that were turned comes background.
    if "cross_entropy" in history[0] and cropped:
        assert history[0]["loss"] == 0.0
        assert history[0]["grad_norm"] == 0.0


@over(each for each in LEARNING if tiny.config(each[0]).stages[each[1]].outlier_share)
def test_batch_without_objects_is_that_of_a_step_without_outliers(name, stage):
    """All masks empty: finite, and whatever the objects' pixels hold changes nothing."""

    def change(filler):
        return lambda batch: {
            **batch,
            "object": np.full_like(batch["object"], filler),
            "object_mask": np.zeros_like(batch["object_mask"]),
        }

    state, history = train(name, stage, 1, change=change(0))
    other, _ = train(name, stage, 1, change=change(200))
    assert finite(history)
    close(other.params, state.params, rtol=0, atol=0)
