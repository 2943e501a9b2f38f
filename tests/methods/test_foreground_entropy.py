"""Entropy over the predicted foreground, of one network, of passes with dropout, of an ensemble."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import tiny

from jaxad.data import pipeline
from jaxad.errors import InputError
from jaxad.methods import foreground_entropy, segmentation
from jaxad.models.scene_maps import SceneMaps
from jaxad.training import planning, spmd

NAME = "foreground_entropy"
CLASSES = 3


class Channels(nn.Module):
    """Logits are the image's channels, each times its own parameter; dropout drops whole logits."""

    num_classes: int = CLASSES
    dropout_rate: float = 0.0
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    align_corners = False

    @nn.compact
    def __call__(self, images, where=None, *, train=False, dropout=False):
        scale = self.param("scale", nn.initializers.uniform(1.0), (self.num_classes,))
        logits = images * (1.0 + scale)
        logits = nn.Dropout(self.dropout_rate, deterministic=not dropout)(logits)
        return SceneMaps(logits.astype(jnp.float32), logits)


@pytest.fixture
def build(monkeypatch):
    monkeypatch.setitem(segmentation.NETWORKS, "channels", Channels)

    def make(dropout_rate=0.0, **fields):
        fields = {"normalisation": "none", "augment": {}, "num_classes": CLASSES} | fields
        network = {"name": "channels", "dropout_rate": dropout_rate}
        return foreground_entropy.build({"train": optax.sgd(0.1)}, network=network, **fields)

    return make


def batch(seed=0):
    images = np.random.default_rng(seed).uniform(0, 4, (4, 3, 5, CLASSES)).astype(np.float32)
    images[1, ..., :2], images[1, ..., 2] = 0.0, 3.0  # All background.
    return {
        "image": images,
        "segments": np.zeros((4, 3, 5), np.uint8),
        "valid": np.ones(4, bool),
        "index": np.arange(4, dtype=np.int32),
    }


def state(method, rows):
    stage = method.stages["train"]
    return stage.init(jax.random.key(0), rows, {})


def scored(method, rows, own):
    mapper = spmd.Mapper("shard_map", jax.devices()[:2])
    score = mapper.score(method.score)
    return mapper.fetch(score(mapper.replicate({"train": own}), mapper.put(rows)))


def expected(probabilities):
    entropies = -np.sum(scipy.special.xlogy(probabilities, probabilities), axis=-1)
    foreground = probabilities.argmax(-1) != CLASSES - 1
    means = [
        e[f].mean() if f.any() else np.log(CLASSES)
        for e, f in zip(entropies, foreground, strict=True)
    ]
    return np.array(means), entropies / np.log(CLASSES)


@pytest.mark.parametrize("members", [1, 3])
def test_entropy_of_the_mean_prediction_over_its_foreground(build, members):
    rows = batch()
    method = build(members=members)
    own = state(method, rows)
    scales = np.asarray(own.params["scale"])
    assert scales.shape == (members, CLASSES)
    assert members == 1 or np.ptp(scales, axis=0).min() > 0  # Each begins elsewhere.
    each = [scipy.special.softmax(rows["image"] * (1 + scale), axis=-1) for scale in scales]
    image, pixel = expected(np.mean(each, axis=0))
    scores = scored(method, rows, own)
    np.testing.assert_allclose(scores.image, image, rtol=1e-4)
    np.testing.assert_allclose(scores.pixel, pixel, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(scores.classes, np.mean(each, axis=0).argmax(-1))
    np.testing.assert_allclose(scores.image[1], np.log(CLASSES), rtol=1e-6)


def test_passes_with_dropout_differ_and_are_averaged(build):
    rows = batch()
    alone, several = build(dropout_rate=0.5), build(dropout_rate=0.5, passes=8)
    own = state(alone, rows)
    once, eight = scored(alone, rows, own), scored(several, rows, own)
    again = scored(several, rows, own)
    np.testing.assert_array_equal(eight.pixel, again.pixel)
    assert np.abs(eight.pixel - once.pixel).max() > 0.01
    assert eight.pixel.mean() > once.pixel.mean()  # Of a mean of predictions that differ.
    other = scored(build(dropout_rate=0.5, passes=8, dropout_seed=1), rows, own)
    assert np.abs(other.pixel - eight.pixel).max() > 1e-3


def test_passes_without_dropout_are_refused(build):
    with pytest.raises(InputError, match=r"passes=2 are all alike without dropout"):
        build(passes=2)


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(members=0), "method.members: expected an integer"),
        (dict(passes=0), "method.passes: expected an integer"),
        (dict(members_at_once=-1), "method.members_at_once: expected a number of at least 0"),
    ],
)
def test_wrong_fields_are_named(build, fields, message):
    with pytest.raises(InputError, match=message):
        build(**fields)


def test_members_one_after_the_other_learn_the_same():
    """Memory changes, the step does not."""
    results = []
    for at_once in (0, 1):
        config = tiny.config(NAME, method__members_at_once=at_once)
        with config.unlocked():
            config.stages.train.optimizer = dict(name="sgd", learning_rate=0.1)
        method = planning.build(config, {"train": 4})
        sample = pipeline.example(tiny.splits(NAME)["train"], rows=4)
        mapper = spmd.Mapper("shard_map", jax.devices()[:2])
        own = jax.jit(method.stages["train"].init)(jax.random.key(0), sample, {})
        update = mapper.update(method.stages["train"].update)
        own, metrics = update(
            mapper.replicate(own), mapper.put(sample), mapper.replicate(jax.random.key(1))
        )
        results.append((jax.device_get(own.params), float(metrics["loss"])))
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        results[0][0],
        results[1][0],
    )
