"""`jaxad.methods.scene_autoencoder`."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxad import config as configs
from jaxad.errors import InputError
from jaxad.methods import scene_autoencoder, scene_sampling, segmentation
from jaxad.training import spmd

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEY = jax.random.key(3)
AUGMENT = {"crop": (16, 24), "scales": (0.8, 1.25), "padding": "surrounded"}


def build(**fields):
    fields = {"width": 1 / 4, "augment": AUGMENT, **fields}
    return scene_autoencoder.build({"train": optax.sgd(0.1, momentum=0.9)}, **fields)


def make_batch(rows=8, size=(20, 32), seed=0):
    """Smooth scenes: waves of one frequency, of any colour and place."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[: size[0], : size[1]]
    phase = rng.uniform(0.0, 6.0, (rows, 1, 1, 3))
    waves = np.sin(0.3 * row[None, ..., None] + 0.2 * column[None, ..., None] + phase)
    return {
        "image": jnp.asarray(np.round(127.5 + 100.0 * waves), jnp.uint8),
        "segments": jnp.asarray(rng.integers(0, 4, (rows, *size)), jnp.uint8),
        "label": jnp.zeros(rows, jnp.int32),
        "valid": jnp.ones(rows, bool),
        "index": jnp.arange(rows, dtype=jnp.int32),
    }


@functools.cache
def first_state():
    return jax.device_get(jax.jit(build().stages["train"].init)(KEY, make_batch(), {}))


@functools.cache
def stepper(devices=1):
    """`(state on the host, batch) -> (state, metrics)`, as a run makes a step."""
    mapper = spmd.Mapper("shard_map", jax.devices()[:devices])
    update, key = mapper.update(build().stages["train"].update), mapper.replicate(KEY)

    def step(state, batch):
        host = {name: np.asarray(x) for name, x in batch.items()}
        return jax.device_get(update(mapper.replicate(state), mapper.put(host), key))

    return step


@functools.cache
def trained():
    """A state after 150 steps on one batch, and the loss before each."""
    state, losses = first_state(), []
    for _ in range(150):
        state, metrics = stepper()(state, make_batch())
        losses.append(float(metrics["loss"]))
    return state, losses


def assert_close(actual, expected, **tolerance):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


def test_loss_falls_below_half_the_variance_of_the_pixels():
    state, losses = trained()
    variance = float(jnp.var(scene_sampling.normalised(make_batch()["image"])))
    assert np.mean(losses[-10:]) < 0.5 * variance < losses[0]
    assert int(state.step) == 150


def test_what_was_not_seen_in_training_scores_higher():
    image = np.array(make_batch(rows=2, seed=5)["image"])
    image[:, 8:14, 10:18] = np.random.default_rng(0).integers(0, 2, (2, 6, 8, 3)) * 255
    states = {"train": trained()[0]}
    score = jax.jit(build().score)(states, {"image": jnp.asarray(image)}).pixel
    strange = np.zeros((20, 32), bool)
    strange[8:14, 10:18] = True
    assert np.mean(score[:, strange]) > 2.0 * np.mean(score[:, ~strange])


def test_padding_rows_change_neither_parameters_nor_statistics():
    """Global means: six rows on one device are six of eight on two, unevenly shared."""
    whole, padded = make_batch(rows=6), make_batch(rows=8)
    padded = {name: x.at[:6].set(whole[name]) for name, x in padded.items()}
    valid = jnp.arange(8) < 6
    states = []
    for filler in (0, 255):
        image = padded["image"].at[6:].set(filler)
        batch = {**padded, "image": image, "valid": valid}
        states.append(stepper(2)(first_state(), batch))
    alone = stepper()(first_state(), whole)
    assert_close(states[0], states[1], rtol=0, atol=0)
    assert_close(states[0], alone, rtol=1e-4, atol=1e-5)


def test_batch_without_real_rows_has_no_loss_and_no_gradient():
    batch = {**make_batch(), "valid": jnp.zeros(8, bool)}
    _, metrics = stepper()(first_state(), batch)
    assert float(metrics["loss"]) == 0.0
    assert float(metrics["grad_norm"]) == 0.0


def test_labels_do_not_matter():
    batch = make_batch()
    void = {**batch, "segments": jnp.full_like(batch["segments"], 255)}
    results = [stepper()(first_state(), each) for each in (batch, void)]
    assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (17, 16), (1, 5)])
def test_scores_have_the_size_of_the_image(size):
    method, state = build(), first_state()
    batch = make_batch(rows=2, size=size)
    scores = jax.jit(method.score)({"train": state}, {"image": batch["image"]})
    assert scores.pixel.shape == (2, *size)
    assert scores.pixel.dtype == jnp.float32
    assert scores.image is scores.classes is None
    assert np.isfinite(scores.pixel).all()
    assert (scores.pixel >= 0).all()


def test_score_of_a_pixel_by_hand():
    images = jnp.array([[[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]]])
    reconstructed = jnp.array([[[[0.0, 2.0, 5.0], [0.0, -1.0, 0.0]]]])
    score = scene_autoencoder.pixel_score(images, reconstructed)
    np.testing.assert_allclose(score, [[[5.0, 1.0]]], rtol=1e-6)


def test_first_loss_is_the_mean_of_the_scores_over_channels():
    """In evaluation mode, of whole images: the same formula twice."""
    batch, method, state = make_batch(), build(), first_state()
    pixel = jax.jit(method.score)({"train": state}, {"image": batch["image"]}).pixel
    images = scene_sampling.normalised(batch["image"])
    model = scene_autoencoder.SceneAutoencoder(width=1 / 4)
    variables = segmentation.variables(state)
    expected = np.mean(np.square(images - jax.jit(model.apply)(variables, images)))
    np.testing.assert_allclose(np.mean(pixel) / 3, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"width": 0.0}, "config.method.width"),
        ({"augment": {"crop": (16,)}}, "config.method.augment.crop"),
        ({"augment": {"scales": (1.0, 2.0)}}, "lacks the field 'crop'"),
    ],
)
def test_mistakes_name_the_field(fields, message):
    with pytest.raises(InputError, match=message):
        build(**fields)


def test_crop_larger_than_the_scenes_is_refused_before_training():
    batch = make_batch(size=(8, 8))
    with pytest.raises(InputError, match=r"config\.method\.augment\.crop"):
        jax.eval_shape(build().stages["train"].init, KEY, batch, {})


def test_document_scale_preset_is_not_shrunk():
    config = configs.load(f"{ROOT}/configs/scene_autoencoder.py:streethazards")
    assert config.method.width == 1.0
    assert tuple(config.method.augment.crop) == (450, 450)
    assert (config.stages.train.batch_size, config.stages.train.epochs) == (2, 40)
