"""`jaxad.methods.pebal`: against the release, and what fine-tuning may change."""

import functools

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import vectors
from layouts import AXIS, mapped

from jaxad import scene_sections as sections
from jaxad.data import pipeline
from jaxad.errors import InputError
from jaxad.losses import energy
from jaxad.methods import pebal, scene_inference, scene_sampling, segmentation
from jaxad.training import finished, optimizers, planning, spmd

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])
RELEASED = dict(
    objective="pebal",
    form="released",
    margins={"margin_in": -12.0, "margin_out": -6.0},
    energy_weight=0.1,
    regularisers={"smoothness_weight": 3e-6, "sparsity_weight": 5e-4},
    outlier_weight=0.1,
    penalty=4.5,
    detach_penalty=False,
    penalty_blur=True,
)
PAPER = {
    **RELEASED,
    "form": "paper",
    "penalty_blur": False,
    "regularisers": {"smoothness_weight": 5e-4, "sparsity_weight": 3e-6},
}


# The loss.


def golden(case):
    arrays = vectors.part(vectors.load("pebal", "losses"), f"{case}/")
    return arrays, jnp.moveaxis(arrays["logits"], 1, -1), arrays["target"]


@functools.cache
def weigher(devices, options):
    """The loss, its terms and the gradient with respect to logits, rows over devices."""
    options = {key: dict(v) if isinstance(v, tuple) else v for key, v in options}

    def run(_, rows):
        logits, segments, valid = rows

        def value(logits):
            return pebal.total_loss(logits, segments, valid, **options)

        (total, terms), gradient = jax.value_and_grad(value, has_aux=True)(logits)
        # A device's gradient is that of the sum over devices of what all of them return.
        return total, terms, jax.lax.all_gather(gradient, AXIS, tiled=True) / devices

    return mapped("shard_map_unchecked", run, devices=devices)


def weigh(logits, segments, valid=None, *, devices=1, **options):
    valid = np.ones(len(segments), bool) if valid is None else valid
    flat = tuple((k, tuple(v.items()) if isinstance(v, dict) else v) for k, v in options.items())
    return weigher(devices, flat)(jnp.zeros(()), (logits, segments, valid))


@pytest.mark.parametrize("case", ["mixed", "no_outlier"])
def test_released_loss_and_its_gradient(case):
    arrays, logits, segments = golden(case)
    total, terms, gradient = weigh(logits, segments, **RELEASED)
    np.testing.assert_allclose(total, arrays["released/total"], rtol=1e-5)
    gradient = jnp.moveaxis(gradient, -1, 1)
    vectors.assert_close(gradient, arrays["released/grad_total"], rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(
        terms["clean_images"], arrays["released/gambler_inlier_images"], rtol=1e-5
    )


@pytest.mark.parametrize("case", ["mixed", "small_penalty"])
def test_loss_of_the_text_and_its_gradient(case):
    arrays, logits, segments = golden(case)
    total, _, gradient = weigh(logits, segments, **PAPER)
    np.testing.assert_allclose(total, arrays["paper/total_mean"], rtol=1e-5)
    gradient = jnp.moveaxis(gradient, -1, 1)
    vectors.assert_close(gradient, arrays["paper/grad_total_mean"], rtol=1e-5, atol=1e-5)


def test_outlier_class_is_cross_entropy_over_all_channels():
    arrays, logits, segments = golden("mixed")
    total, _, gradient = weigh(logits, segments, **{**RELEASED, "objective": "outlier_class"})
    np.testing.assert_allclose(total, arrays["baseline/outlier_class_ce"], rtol=1e-5)
    gradient = jnp.moveaxis(gradient, -1, 1)
    vectors.assert_close(gradient, arrays["baseline/grad_outlier_class_ce"], rtol=1e-5, atol=1e-5)


def test_deep_gambler_without_outliers_is_the_golden_mean_over_inliers():
    arrays, logits, segments = golden("no_outlier")
    total, _, gradient = weigh(logits, segments, **{**RELEASED, "objective": "deep_gambler"})
    np.testing.assert_allclose(total, arrays["baseline/deep_gambler_o4.5"], rtol=1e-5)
    gradient = jnp.moveaxis(gradient, -1, 1)
    vectors.assert_close(gradient, arrays["baseline/grad_deep_gambler_o4.5"], rtol=1e-5, atol=1e-5)


def test_deep_gambler_labels_outliers_as_abstention():
    """Section 5 of the sheet: -mean log(p_y + r / o), y = Y + 1 on outliers."""
    _, logits, segments = golden("mixed")
    p = np.asarray(jax.nn.softmax(logits.astype(jnp.float64)))
    labels = np.where(segments == 254, 19, segments)
    known = labels < 20
    own = np.take_along_axis(p, np.where(known, labels, 0)[..., None], -1)[..., 0]
    expected = -np.log(own + p[..., -1] / 4.5)[known].mean()
    total, _, _ = weigh(logits, segments, **{**RELEASED, "objective": "deep_gambler"})
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_energy_alone_is_cross_entropy_and_the_released_margins():
    _, logits, segments = golden("mixed")
    own = np.asarray(logits[..., :19], np.float64)
    normaliser = np.log(np.exp(own).sum(-1))
    inlier, outlier = segments < 19, segments == 254
    labels = np.where(inlier, segments, 0)[..., None]
    entropy = (normaliser - np.take_along_axis(own, labels, -1)[..., 0])[inlier].mean()
    inside = np.square(np.maximum(-normaliser + 12.0, 0.0))[inlier].mean()
    outside = np.square(np.maximum(-6.0 + normaliser, 0.0))[outlier].mean()
    total, terms, _ = weigh(logits, segments, **{**RELEASED, "objective": "energy"})
    np.testing.assert_allclose(terms["margins"], (inside + outside) / 2, rtol=1e-5)
    np.testing.assert_allclose(total, entropy + 0.1 * (inside + outside) / 2, rtol=1e-5)


OBJECTIVES = [*({**RELEASED, "objective": name} for name in pebal.OBJECTIVES), PAPER]


@pytest.mark.parametrize("options", OBJECTIVES, ids=lambda o: f"{o['objective']}-{o['form']}")
def test_rows_on_four_devices_and_padding_change_nothing(options):
    """Devices hold different numbers of inliers and outliers, and one only padding."""
    _, logits, segments = golden("mixed")
    alone, terms, gradient = weigh(logits, segments, **options)
    padded = jnp.concatenate([logits, jnp.full_like(logits[:1], 1e4)])
    ids = np.concatenate([segments, np.full_like(segments[:1], 254)])
    valid = np.arange(4) < 3
    total, found, slopes = weigh(padded, ids, valid, devices=4, **options)
    np.testing.assert_allclose(total, alone, rtol=1e-5)
    for name in terms:
        np.testing.assert_allclose(found[name], terms[name], rtol=1e-5)
    np.testing.assert_allclose(slopes[:3], gradient, rtol=1e-4, atol=1e-7)
    assert np.all(slopes[3] == 0.0)


@pytest.mark.parametrize("options", OBJECTIVES, ids=lambda o: f"{o['objective']}-{o['form']}")
@pytest.mark.parametrize("id_", [0, 100, 254, 255])
def test_batch_of_one_kind_is_finite(id_, options):
    _, logits, segments = golden("mixed")
    for scale in (0.0, 1.0, 1e3):
        total, terms, gradient = weigh(logits * scale, np.full_like(segments, id_), **options)
        assert np.isfinite([total, *terms.values()]).all()
        assert np.isfinite(gradient).all()


def test_unknown_ids_are_void():
    _, logits, segments = golden("mixed")
    other = np.where(segments == 255, 100, segments)
    for options in (RELEASED, PAPER):
        expected, found = (weigh(logits, ids, **options)[0] for ids in (segments, other))
        assert expected == found


def test_detached_penalty_changes_the_gradient_alone():
    _, logits, segments = golden("mixed")
    total, _, gradient = weigh(logits, segments, **RELEASED)
    same, _, other = weigh(logits, segments, **{**RELEASED, "detach_penalty": True})
    np.testing.assert_allclose(same, total, rtol=1e-6)
    assert np.abs(other - gradient).max() > 1e-4


def test_penalty_is_blurred_if_asked_for():
    arrays, logits, _ = golden("mixed")
    real = jnp.ones((3, 1, 1), bool)
    blurred = pebal._penalty(logits, real, False, True)
    np.testing.assert_allclose(blurred, arrays["released/penalty_blurred"], rtol=1e-5)
    plain = pebal._penalty(logits, real, False, False)
    np.testing.assert_allclose(plain, arrays["released/penalty"], rtol=1e-5)


# The score.


def test_score_of_a_converted_checkpoint_is_the_released_anomaly_map():
    arrays = vectors.load("pebal", "wide_resnet38")
    network = sections.deeplab_v3_plus_wide(width=1 / 16, structure=(1,) * 6)
    method = build(num_classes=19, network=network, inference=sections.inference(rows=16))
    sample = pipeline.example(tiny.splits("pebal")["train"])
    key, shapes = jax.eval_shape(lambda: jax.random.key(0)), {}
    for stage, definition in method.stages.items():
        shapes[stage] = jax.eval_shape(definition.init, key, sample, shapes)
    state = method.convert["finetune"](vectors.part(arrays, "state/"), shapes["finetune"])
    images = np.moveaxis(arrays["image"], 1, -1) * STD + MEAN  # The score normalises.
    state = state.replace(step=0, opt_state=())

    def score(state, image):
        return method.score({"finetune": state}, {"image": image})

    found = jax.jit(score)(state, jnp.asarray(images, jnp.float32))
    largest = np.abs(arrays["anomaly_map"]).max()
    np.testing.assert_allclose(found.pixel[0], arrays["anomaly_map"], atol=1e-4 * largest)
    logits = np.moveaxis(arrays["logits"], 1, -1)
    assert (found.classes == logits[..., :19].argmax(-1)).mean() > 0.999


def net_of(logits):
    """A network that gives these logits at the size of the image."""
    maps = segmentation.SceneMaps(jnp.asarray(logits, jnp.float32), None)
    return segmentation.Trained(lambda images, key: maps, 4, True, scene_inference.Inference())


def test_abstention_changes_neither_energy_nor_classes():
    logits = np.random.default_rng(0).normal(size=(2, 8, 9, 5))
    images = np.zeros((2, 8, 9, 3), np.uint8)
    found = pebal.score_scenes(net_of(logits), images, score="energy")
    expected = energy.gaussian_smoothing(energy.free_energy(jnp.asarray(logits[..., :4])))
    np.testing.assert_allclose(found.pixel, expected, rtol=1e-5)
    logits[..., 4] = 50.0
    other = pebal.score_scenes(net_of(logits), images, score="energy")
    np.testing.assert_array_equal(other.pixel, found.pixel)
    np.testing.assert_array_equal(other.classes, logits[..., :4].argmax(-1))


def test_score_may_be_the_probability_of_abstaining():
    logits = np.random.default_rng(0).normal(size=(2, 8, 9, 5))
    found = pebal.score_scenes(net_of(logits), np.zeros((2, 8, 9, 3), np.uint8), score="abstention")
    np.testing.assert_allclose(found.pixel, jax.nn.softmax(logits)[..., 4], rtol=1e-5)


# Fine-tuning.


@functools.cache
def method(frozen_norm="running"):
    config = tiny.config("pebal", method__frozen_norm=frozen_norm)
    with config.unlocked():
        for section in config.stages.values():
            section.optimizer = dict(name="sgd", learning_rate=1e-3)
    return planning.build(config, dict.fromkeys(config.stages, 100))


@functools.cache
def start():
    """States of both stages before fine-tuning."""
    sample = pipeline.example(tiny.splits("pebal")["train"])
    shapes = finished.templates(method(), sample, {})["train"]
    done = {"train": drawn.leaves(shapes.replace(opt_state=()))}
    finetune = method().stages["finetune"].init(jax.random.key(1), sample, done)
    return jax.device_get({**done, "finetune": finetune})


def rows(count=16):
    splits = tiny.splits("pebal")
    order = pipeline.Order(count, 0, outlier_share=1.0)
    training = pipeline.Training(splits["train"], splits["outliers"])
    reading = pipeline.Reading(threads=1, prefetch=1)
    return next(pipeline.training_batches(training, order, reading=reading))


@functools.cache
def finetuned(frozen_norm):
    mapper = spmd.Mapper("shard_map", jax.devices()[:1])
    update = mapper.update(method(frozen_norm).stages["finetune"].update)
    state = mapper.replicate(start()["finetune"])
    after, _ = update(state, mapper.put(rows()), mapper.replicate(jax.random.key(1)))
    return jax.device_get(after)


def changed(before, after):
    """Names of modules of which a leaf is not bitwise the same."""
    paths = jax.tree_util.tree_leaves_with_path(before)
    pairs = zip(paths, jax.tree.leaves(after), strict=True)
    return {path[0].key for (path, x), y in pairs if np.asarray(x).tobytes() != y.tobytes()}


@pytest.mark.parametrize("frozen_norm", ["running", "batch"])
def test_only_the_last_block_is_trained(frozen_norm):
    """Parameters and, with running statistics, those of batch norms are bitwise the same."""
    before, after = start()["finetune"], finetuned(frozen_norm)
    assert set(before.params) == {"final1", "final2"}
    assert changed(before.params, after.params) == {"final1", "final2"}
    assert changed(before.stats["frozen"], after.stats["frozen"]) == set()
    moved = changed(before.stats["batch_stats"], after.stats["batch_stats"])
    if frozen_norm == "running":
        assert moved == {"final1"}
    else:
        assert {"final1", "backbone", "aspp", "bot_fine", "bot_aspp"} <= moved


def test_optimiser_holds_the_last_block_alone():
    state = start()["finetune"]
    tx = optimizers.build(dict(name="adam", learning_rate=1e-5), 10)
    own = pebal.build(
        {"train": optax.identity(), "finetune": tx},
        **{k: v for k, v in tiny.config("pebal").method.to_dict().items() if k != "name"},
    )
    sample = pipeline.example(tiny.splits("pebal")["train"])
    adam = jax.eval_shape(
        own.stages["finetune"].init, jax.random.key(0), sample, {"train": start()["train"]}
    ).opt_state
    held = sum(leaf.size for leaf in jax.tree.leaves(adam))
    trained = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert 2 * trained <= held <= 2 * trained + 2  # Two moments, and counts of steps.


def test_fine_tuning_starts_from_the_closed_set_classes():
    train, finetune = start()["train"], start()["finetune"]
    kernel = finetune.params["final2"]["conv"]["kernel"]
    assert kernel.shape[-1] == 9
    np.testing.assert_array_equal(kernel[..., :8], train.params["final2"]["conv"]["kernel"])
    assert "bias" not in finetune.params["final2"]["conv"]
    frozen = {k: v for k, v in finetune.stats["frozen"].items() if k != "dsn"}
    assert all(
        np.array_equal(x, y)
        for x, y in zip(
            jax.tree.leaves(frozen),
            jax.tree.leaves({name: train.params[name] for name in frozen}),
            strict=True,
        )
    )


def test_head_and_rest_are_all():
    params = {"a": {"x": 1}, "final": {"y": 2}, "b": 3}
    assert pebal.split_head(params, ("final",)) == ({"final": {"y": 2}}, {"a": {"x": 1}, "b": 3})


def test_networks_of_both_stages_can_be_scored():
    networks, states = method().networks, start()
    closed = networks["train"]({"train": states["train"]})
    last = networks["finetune"]({"finetune": states["finetune"]})
    images = jnp.zeros((1, 32, 48, 3))
    channels = [jax.eval_shape(net.apply, images, None).logits.shape[-1] for net in (closed, last)]
    assert channels == [8, 9]
    assert closed.num_classes == last.num_classes == 8


# AnomalyMix in training.


def draw(batch):
    scenes = scene_sampling.parse(dict(crop=(32, 48), scales=(1.0, 1.0), flip=0.0))
    mixed = mapped(
        "shard_map_unchecked",
        lambda keys, batch: jax.lax.all_gather(
            pebal.draw_mixed(scenes, *keys, batch), AXIS, tiled=True
        ),
        devices=2,
    )
    return jax.device_get(mixed(tuple(jax.random.split(jax.random.key(0))), batch))


def test_objects_are_outliers_in_the_scenes_that_have_them():
    batch = rows()
    images, segments = draw(batch)
    has = batch["object_mask"].any(axis=(1, 2))
    assert 0 < has.sum() < 16
    pixels = (segments == 254).sum(axis=(1, 2))
    np.testing.assert_array_equal(pixels, (batch["object_mask"] != 0).sum(axis=(1, 2)))
    plain = ((batch["image"] / 255.0) - MEAN) / STD
    same = np.isclose(images, plain, atol=1e-4).all(axis=-1)
    assert same[segments != 254].all()
    assert not same[segments == 254].all()


def test_empty_masks_change_nothing():
    batch = rows()
    batch["object_mask"] = np.zeros_like(batch["object_mask"])
    _, segments = draw(batch)
    np.testing.assert_array_equal(segments, batch["segments"])


def test_batch_without_objects_is_drawn_as_it_is():
    batch = {key: value for key, value in rows().items() if not key.startswith("object")}
    _, segments = draw(batch)
    np.testing.assert_array_equal(segments, batch["segments"])


# Schedule and fields.


def test_released_schedule():
    """But for the floor of 1e-8 that the release has at the very end."""
    golden = vectors.load("pebal", "schedule")
    total, base = int(golden["total"]), float(golden["base"])
    fields = dict(name="sgd", learning_rate=base, schedule="polynomial", power=0.9)
    tx = optimizers.build(fields, total)
    state, rates = tx.init(jnp.zeros(())), []
    for _ in range(total + 1):
        update, state = tx.update(jnp.ones(()), state, jnp.zeros(()))
        rates.append(-float(update))
    np.testing.assert_allclose(rates, golden["lr"], rtol=2e-5, atol=1.1e-8)


def build(**fields):
    given = {k: v for k, v in tiny.config("pebal").method.to_dict().items() if k != "name"}
    txs = dict.fromkeys(("train", "finetune"), optax.sgd(0.1))
    return pebal.build(txs, **{**given, **fields})


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"objective": "all"}, r"method.objective: expected one of 'pebal'"),
        ({"form": "text"}, r"method.form: expected one of 'paper', 'released'"),
        ({"frozen_norm": "off"}, r"method.frozen_norm: expected one of 'running', 'batch'"),
        ({"score": "msp"}, r"method.score: expected one of 'energy', 'abstention'"),
        ({"energy_weight": -1.0}, r"method.energy_weight: expected a number of at least 0"),
        ({"penalty_blur": 1}, r"method.penalty_blur: expected True or False"),
        ({"network": sections.pspnet()}, r"network.name: expected one of 'deeplab_v3_plus_wide'"),
        (
            {"network": sections.small_resnet(classifier="cosine")},
            r"network.classifier: expected one of 'linear', .*found 'cosine'",
        ),
        ({"finetune_augment": {"crop": 3}}, r"method.augment.crop"),
    ],
)
def test_bad_field_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        build(**fields)


def test_crop_of_fine_tuning_is_checked_before_training():
    own = build(finetune_augment=sections.scenes((64, 96), scales=(0.8, 1.25)))
    sample = pipeline.example(tiny.splits("pebal")["train"])
    with pytest.raises(InputError, match=r"crop=\(64, 96\) is larger than the images: \(32, 48\)"):
        own.stages["finetune"].init(jax.random.key(0), sample, start())
