"""`jaxad.methods.pans`: against the release, and its ablations against one another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import vectors

from jaxad import scene_sections as sections
from jaxad.convert import pspnet as published
from jaxad.errors import InputError
from jaxad.methods import pans, scene_inference
from jaxad.models.pspnet import PSPNet
from jaxad.training import optimizers

SIZE = (45, 60)
MODES = {  # Of the release: which of its images, and the score.
    "pans": (3, "pans"),
    "cosine_softmax": (3, "cosine_softmax"),
    "single_scale": (1, "pans"),
}


@functools.cache
def views():
    """Maps of the golden network on the golden images, one view each."""
    golden, images = vectors.load("pans", "pspnet"), vectors.load("pans", "multiscale")
    network = PSPNet(13, width=1 / 16, depths=(1, 1, 1, 1))
    like = jax.ShapeDtypeStruct((1, 40, 56, 3), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), like)
    params, stats = published.convert(
        vectors.part(golden, "state/"), shapes["params"], shapes["batch_stats"], scales="plain"
    )
    apply = jax.jit(network.apply)
    found = []
    for i in range(3):
        image = jnp.moveaxis(images[f"image/{i}"], 1, -1)
        logits = apply({"params": params, "batch_stats": stats}, image).logits
        maps = {"logits": logits, "best": jnp.max(logits, axis=-1, keepdims=True)}
        found.append(scene_inference.whole(maps, SIZE))
    return tuple(found)


def scored(count, score, max_first=True, rows=16):
    return pans.score_views(
        views()[-count:], SIZE, score=score, scale=10.0, max_first=max_first, rows=rows
    )


@pytest.mark.parametrize("mode", MODES)
def test_released_scores_and_predictions(mode):
    golden = vectors.part(vectors.load("pans", "multiscale"), f"{mode}/")
    found = scored(*MODES[mode])
    np.testing.assert_allclose(found.pixel[0], golden["anomaly"], atol=1e-5)
    assert (np.asarray(found.classes[0]) == golden["prediction"]).mean() > 0.999


def test_order_of_maximum_and_enlarging_matters():
    first, last = (scored(3, "pans", max_first=order).pixel for order in (True, False))
    assert np.abs(np.asarray(first) - np.asarray(last)).max() > 1e-3
    # The enlarged maximum is at least the maximum of what is enlarged.
    assert (np.asarray(first) <= np.asarray(last) + 1e-6).all()


@pytest.mark.parametrize("max_first", [True, False])
def test_pans_ranks_pixels_as_the_largest_class_score(max_first):
    """Section 11.7 of the sheet: eq. 5 is a rising line of -max z."""
    found = scored(1, "pans", max_first).pixel
    other = scored(1, "class_scores", max_first).pixel
    np.testing.assert_allclose(found, (np.asarray(other) / 10.0 + 1.0) / 2.0, atol=1e-6)


def test_scores_are_in_their_ranges():
    for score, highest in (("pans", 1.0), ("cosine_softmax", 12 / 13), ("msp", 12 / 13)):
        pixel = np.asarray(scored(3, score).pixel)
        assert pixel.min() >= 0.0
        assert pixel.max() <= highest


def test_softmax_of_a_cosine_network_is_its_msp():
    softmax, msp = scored(3, "cosine_softmax"), scored(3, "msp")
    np.testing.assert_allclose(softmax.pixel, msp.pixel, atol=1e-6)


def test_tau_is_not_in_the_score():
    """Logits of twice the scale are of the same cosines."""
    doubled = jax.tree.map(lambda x: 2 * x if hasattr(x, "dtype") else x, views()[-1:])
    found = pans.score_views(doubled, SIZE, score="pans", scale=20.0, max_first=True)
    np.testing.assert_allclose(found.pixel, scored(1, "pans").pixel, atol=1e-6)


@pytest.mark.parametrize("score", pans.SCORES)
def test_strips_do_not_show(score):
    np.testing.assert_allclose(
        scored(3, score, rows=7).pixel, scored(3, score, rows=45).pixel, atol=1e-6
    )


def test_released_schedule():
    golden = vectors.load("pans", "schedule")
    total = int(golden["total"])
    rates = []
    fields = sections.sgd(float(golden["base"]), weight_decay=0.0)
    tx = optimizers.build({**fields, "momentum": 0.0, "power": float(golden["power"])}, total)
    state = tx.init(jnp.zeros(()))
    for _ in range(total):
        update, state = tx.update(jnp.ones(()), state, jnp.zeros(()))
        rates.append(-float(update))
    np.testing.assert_allclose(rates, golden["lr"], rtol=1e-5)


def test_released_optimiser():
    """Nesterov momentum, with L2 added to the gradient before it."""
    golden = vectors.load("pans", "schedule")
    fields = sections.sgd(
        float(golden["sgd_lr"]), weight_decay=float(golden["sgd_weight_decay"]), nesterov=True
    )
    constant = {k: v for k, v in fields.items() if k not in ("schedule", "power")}
    tx = optimizers.build(constant, 50)
    params = jnp.asarray(golden["sgd_param0"])
    state = tx.init(params)
    for gradient, expected in zip(golden["sgd_grads"], golden["sgd_params"], strict=True):
        updates, state = tx.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params, expected, rtol=1e-5)


def build(**fields):
    given = dict(
        num_classes=3,
        network=sections.pspnet(width=1 / 32, depths=(1, 1, 1, 1)),
        augment=sections.digit_scenes(),
        inference=sections.inference(),
    )
    return pans.build({"train": optax.sgd(0.1)}, **{**given, **fields})


LINEAR = sections.pspnet(width=1 / 32, depths=(1, 1, 1, 1), classifier="linear")


@pytest.mark.parametrize("score", ["class_scores", "msp"])
def test_baselines_take_a_linear_classifier(score):
    assert list(build(network=LINEAR, score=score).stages) == ["train"]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"num_classes": 0}, r"method.num_classes: expected an integer of at least 1"),
        ({"score": "energy"}, r"method.score: expected one of 'pans'.*found 'energy'"),
        ({"network": LINEAR}, r"network.classifier: expected one of 'cosine', found 'linear'"),
        (
            {"network": LINEAR, "score": "cosine_softmax"},
            r"network.classifier: expected one of 'cosine', found 'linear'",
        ),
        ({"max_first": 1}, r"method.max_first: expected True or False"),
        ({"auxiliary_weight": -1}, r"method.auxiliary_weight: expected a number of at least 0"),
        ({"inference": {"window": (8,)}}, r"method.inference.window"),
        ({"augment": {"crop": (8,)}}, r"method.augment.crop"),
    ],
)
def test_bad_field_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        build(**fields)
