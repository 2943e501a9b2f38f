"""The system of document 000: its objective, its fits, its scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxad.data import pipeline
from jaxad.errors import InputError
from jaxad.losses import inclusion, weibull
from jaxad.methods import aux_prototypes, base, scan_sampling, scans
from jaxad.models.prototype_head import PrototypeHead
from jaxad.training import experiment, fitting, planning, signals, spmd

NAME = "aux_prototypes"


@functools.cache
def system(**fields):
    config = tiny.config(NAME, **fields)
    return planning.build(config, dict.fromkeys(config.stages, 10))


@functools.cache
def first_state():
    sample = pipeline.example(tiny.splits(NAME)["train"])
    stage = system().stages["train"]
    return jax.device_get(jax.jit(stage.init)(jax.random.key(0), sample, {}))


def fitted(when):
    """The first state with the fits of one time done."""
    mapper = spmd.Mapper("shard_map", jax.devices()[:1])
    reader = fitting.Reader(mapper, pipeline.Reading(threads=1), 8)
    fits = [fit for fit in system().stages["train"].fits if fit.when == when]
    assert len(fits) == 1
    state = mapper.replicate(first_state())
    with signals.listening() as stop:
        return jax.device_get(fitting.again(reader, fits, tiny.splits(NAME), state, stop))


def test_hand_example_of_the_objective():
    """N = 2, mu = (0, 0) and (2, 0), sigma = 1, r = (1, 0): D = 1 to both, P_I = exp(-1 / 2)."""
    head = PrototypeHead(2, 2, "identity")
    params = {
        "prototypes": jnp.array([[0.0, 0.0], [2.0, 0.0]]),
        "log_variances": jnp.zeros((2, 2)),
        "project": {"kernel": jnp.eye(2)[None, None], "bias": jnp.zeros(2)},
    }
    pixel = jnp.broadcast_to(jnp.array([1.0, 0.0]), (8, 1, 1, 2))
    seen = scans.Exposed(pixel, pixel, jnp.zeros((8, 1, 1), jnp.int32), jnp.ones(8, bool))
    at = functools.partial(scan_sampling.labels_at, rule="first", num_classes=2)

    def loss(seen):
        return aux_prototypes._objective(
            head,
            at,
            params,
            seen,
            exposure=aux_prototypes.EXPOSURES["log_mean"],
            posterior_weight=1.0,
        )

    value, metrics = jax.pmap(loss, base.AXIS, devices=jax.devices()[:8])(
        jax.tree.map(lambda leaf: leaf[:, None], seen)
    )
    np.testing.assert_allclose(metrics["outlier_exposure"], 0.5 + 0.93275, rtol=1e-5)
    np.testing.assert_allclose(value, 0.5 + 0.93275 + np.log(2.0), rtol=1e-5)
    np.testing.assert_array_equal(metrics["inclusion/0"], np.ones(8))


def test_first_variances_put_each_class_at_mean_distance_n():
    state = fitted("start")
    split = tiny.splits(NAME)["train"]
    method_head = state.params["head"]
    dimension = method_head["prototypes"].shape[1]
    assert np.ptp(method_head["log_variances"], axis=1).max() == 0.0
    # One batch holds the whole split, so that its statistics are those of the fit.
    assert len(split) == 24
    rates = np.exp(method_head["log_variances"][:, 0])
    assert (rates > 0).all()
    assert np.isfinite(inclusion.log_inclusion(jnp.float32(dimension), dimension))


def test_untrained_distances_start_near_n():
    state = fitted("start")
    scores = system().score({"train": state}, tiny.alone(tiny.splits(NAME)["train"].read(0)))
    cells = np.prod([side // 16 for side in tiny.SCENES["size"]])
    dimension = state.params["head"]["prototypes"].shape[1]
    assert 0.05 * dimension < float(scores.image[0]) / cells < 20 * dimension


def test_weibull_of_validation_scores():
    state, split = fitted("end"), tiny.splits(NAME)["validation"]
    score_map = jax.jit(
        lambda images: aux_prototypes._score_map(*looks_and_head(), first_state(), images)[1]
    )
    maps = np.concatenate([score_map(split.read(i)["image"][None]) for i in range(len(split))])
    expected = weibull.fit(maps)
    actual = state.stats["weibull"]
    np.testing.assert_allclose((actual["shape"], actual["scale"]), expected, rtol=5e-3)


def looks_and_head():
    config = tiny.config(NAME).method
    looks = scans.network(
        config.network.to_dict(),
        num_classes=config.num_classes,
        background=None,
        normalisation="none",
        dtype="float32",
    )
    return looks, PrototypeHead(config.num_classes, config.features)


def test_the_explanation_is_between_0_and_1_and_the_score_is_the_sum():
    state, record = fitted("end"), tiny.splits(NAME)["test"].read(0)
    scores = system().score({"train": state}, tiny.alone(record))
    assert scores.pixel.shape == (1, *tiny.SCENES["size"])
    assert 0.0 <= float(scores.pixel.min()) <= float(scores.pixel.max()) <= 1.0
    mean = system(method__reduce="mean").score({"train": state}, tiny.alone(record))
    cells = np.prod([side // 16 for side in tiny.SCENES["size"]])
    np.testing.assert_allclose(scores.image, mean.image * cells, rtol=1e-5)


def test_statistics_of_the_end_are_those_of_the_scored_checkpoint(tmp_path):
    """Best is the first checkpoint, saved before the fit at the end. Unfitted, all maps are 1."""
    config = tiny.config(NAME, stages__train__steps=4, eval__every_steps=2, eval__save_maps=True)
    with config.unlocked():
        config.eval.update(checkpoint="best", best_metric="pixel_accuracy", best_mode="min")
    experiment.run(config, tmp_path / "run", devices=jax.devices()[:1])
    maps = [np.load(path)["pixel"] for path in (tmp_path / "run" / "scores" / "test").glob("*.npz")]
    assert len(maps) == len(tiny.splits(NAME)["test"])
    assert np.mean(maps) < 0.99


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(method__features=0), "method.features: expected an integer"),
        (dict(method__exposure="log"), "method.exposure: expected one of 'log_mean'"),
        (dict(method__labels="last"), "method.labels: expected one of 'first'"),
        (dict(method__passes="three"), "method.passes: expected one of 'joint'"),
        (dict(method__first_variances="two"), "method.first_variances: expected one of 'data'"),
        (dict(method__tail_share=0.0), "method.tail_share: expected a number above 0"),
        (dict(method__background=9), "method.background: expected a class from 0 to 3"),
        (dict(method__normalisation="z"), "method.normalisation: expected one of 'none'"),
        (dict(method__network__levels=0), "config.method.network: levels"),
    ],
)
def test_wrong_fields_are_named(fields, message):
    config = tiny.config(NAME, **fields)
    with pytest.raises(InputError, match=message):
        planning.build(config, dict.fromkeys(config.stages, 10))


def test_a_network_without_encoder_output_is_refused():
    config = tiny.config(NAME)
    with config.unlocked():
        config.method.network = {"name": "pspnet", "width": 1 / 32, "depths": (1, 1, 1, 1)}
        config.method.normalisation = "imagenet"
    method = planning.build(config, dict.fromkeys(config.stages, 10))
    sample = pipeline.example(tiny.splits(NAME)["train"])
    with pytest.raises(InputError, match="offers its encoder's output"):
        jax.eval_shape(method.stages["train"].init, jax.random.key(0), sample, {})
