"""`jaxad.methods.posthoc`: each score against NumPy, on a finished run of two steps."""

import functools
import pathlib
import shutil

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import tiny

from jaxad import config as configs
from jaxad import resampling
from jaxad.data import pipeline
from jaxad.errors import InputError
from jaxad.losses import standardised_logit
from jaxad.methods import posthoc, scene_sampling, segmentation
from jaxad.training import spmd

READING = pipeline.Reading(threads=1, prefetch=1)
CLASSES = 8


@pytest.fixture(scope="module", autouse=True)
def run(tmp_path_factory):
    return pathlib.Path(tiny.finished(tmp_path_factory))


def options(run, **fields):
    given = tiny.config("posthoc").method.to_dict()
    given = {key: value for key, value in given.items() if key != "name"}
    return {**given, "runs": (str(run),), **fields}


def build(run, **fields):
    return posthoc.build({}, **options(run, **fields))


def scenes(split="test"):
    own = tiny.splits("posthoc")[split]
    return next(pipeline.ordered_batches(own, batch_size=8, devices=1, reading=READING))


def start(method, change=lambda given: given):
    sample = pipeline.example(tiny.splits("posthoc")["train"])
    given = change(tiny.given(method, sample))
    return method.stages["statistics"].init(jax.random.key(0), sample, given)


def fitted(method, devices=2):
    """The state after the pass over the training split."""
    mapper = spmd.Mapper("shard_map", jax.devices()[:devices])
    state, split = mapper.replicate(start(method)), tiny.splits("posthoc")["train"]
    (fit,) = method.stages["statistics"].fits
    assert (fit.when, fit.split) == ("start", "train")
    add, sums = mapper.add(fit.add), mapper.replicate(fit.zero(state))
    for batch in pipeline.ordered_batches(split, batch_size=10, devices=devices, reading=READING):
        sums = add(sums, state, mapper.put(batch))
    return fit.finish(sums, state)


def score(method, state, batch=None, devices=1):
    mapper = spmd.Mapper("shard_map", jax.devices()[:devices])
    batch = scenes() if batch is None else batch
    sent = {"image": batch["image"], "valid": batch["valid"]}
    found = mapper.score(method.score)(mapper.replicate({"statistics": state}), mapper.put(sent))
    return jax.device_get(found)


@functools.cache
def maps(split):
    """Enlarged logits `[B, H, W, K]` and features at the stride, of the run itself."""
    run = tiny._RUN["folder"]
    method = build(run, score="msp")
    sample = pipeline.example(tiny.splits("posthoc")["train"])
    states = tiny.given(method, sample)["run0"]
    net = posthoc._source(run, "", "float32", CLASSES).network(states)
    apply = jax.jit(lambda images: net.apply(images, None))
    logits, features = [], []
    own = tiny.splits("posthoc")[split]
    for batch in pipeline.ordered_batches(own, batch_size=8, devices=1, reading=READING):
        out = apply(scene_sampling.normalised(batch["image"]))
        wide = resampling.bilinear(out.logits, (32, 48), align_corners=net.align_corners)
        logits.append(np.asarray(wide, np.float64)[batch["valid"]])
        features.append(np.asarray(out.features, np.float64)[batch["valid"]])
    return np.concatenate(logits), np.concatenate(features)


def softmax(logits):
    return scipy.special.softmax(logits, axis=-1)


def entropy(p):
    return -np.sum(scipy.special.xlogy(p, p), axis=-1)


LOGITS = {
    "msp": lambda z: 1 - softmax(z).max(-1),
    "max_logit": lambda z: -z.max(-1),
    "entropy": lambda z: entropy(softmax(z)),
    "energy": lambda z: -scipy.special.logsumexp(z, axis=-1),
}


@pytest.mark.parametrize("name", LOGITS)
def test_scores_of_logits(name, run):
    method = build(run, score=name)
    found = score(method, start(method))
    logits, _ = maps("test")
    np.testing.assert_allclose(found.pixel[:6], LOGITS[name](logits), rtol=1e-4, atol=1e-5)
    assert (found.classes[:6] == logits.argmax(-1)).mean() > 0.999
    confidence = softmax(logits).max(-1)
    np.testing.assert_allclose(found.extra["confidence"][:6], confidence, rtol=1e-4)


def test_energy_has_a_temperature(run):
    method = build(run, score="energy", temperature=2.5)
    found = score(method, start(method))
    expected = -2.5 * scipy.special.logsumexp(maps("test")[0] / 2.5, axis=-1)
    np.testing.assert_allclose(found.pixel[:6], expected, rtol=1e-4)


def test_standardised_max_logit(run):
    """Statistics of all training pixels by predicted class, unbiased; then the refinement."""
    method = build(
        run,
        score="standardised_max_logit",
        suppression_width=2,
        suppression_iterations=2,
        smoothing_dilation=2,
    )
    state = fitted(method)
    train = maps("train")[0].reshape(-1, CLASSES)
    predicted, largest = train.argmax(-1), train.max(-1)
    statistics = state.stats["statistics"]
    mean, variance = np.zeros(CLASSES), np.ones(CLASSES)
    for label in range(CLASSES):
        own = largest[predicted == label]
        if len(own) > 1:
            mean[label], variance[label] = own.mean(), own.var(ddof=1)
    assert len(set(predicted)) > 1
    assert statistics.count.sum() == len(train)
    # A pixel with two nearly equal logits may count for either class.
    np.testing.assert_allclose(statistics.mean, mean, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(statistics.variance, variance, rtol=2e-2, atol=1e-6)
    logits = maps("test")[0]
    plain = np.asarray(statistics.mean)[logits.argmax(-1)] - logits.max(-1)
    plain /= np.sqrt(np.asarray(statistics.variance)[logits.argmax(-1)])
    expected = standardised_logit.refine(
        jnp.asarray(plain, jnp.float32),
        jnp.asarray(logits.argmax(-1), jnp.int32),
        width=2,
        iterations=2,
        dilation=2,
    )
    found = score(method, state)
    close = np.isclose(found.pixel[:6], expected, rtol=1e-3, atol=1e-3)
    assert close.mean() > 0.99  # But near pixels whose class is a matter of rounding.


def test_mahalanobis(run):
    """Class means and one covariance of features under their labels, in float64."""
    method = build(run, score="mahalanobis", ridge=1e-3)
    state = fitted(method)
    features = maps("train")[1]
    segments = np.stack(
        [
            tiny.splits("posthoc")["train"].read(i)["segments"]
            for i in range(len(tiny.splits("posthoc")["train"]))
        ]
    )
    height, width = features.shape[1:3]
    rows = ((2 * np.arange(height) + 1) * 32) // (2 * height)
    columns = ((2 * np.arange(width) + 1) * 48) // (2 * width)
    labels = segments[:, rows][:, :, columns].reshape(-1)
    flat = features.reshape(-1, features.shape[-1])[labels < CLASSES]
    labels = labels[labels < CLASSES]
    means = np.stack([flat[labels == c].mean(0) for c in range(CLASSES)])
    apart = flat - means[labels]
    covariance = apart.T @ apart / len(flat)
    covariance += 1e-3 * np.diagonal(covariance).mean() * np.eye(len(covariance))
    statistics = state.stats["statistics"]
    np.testing.assert_allclose(statistics.means, means, rtol=1e-3, atol=1e-4)
    scale = np.abs(covariance).max()
    np.testing.assert_allclose(statistics.covariance, covariance, atol=1e-4 * scale)
    test = maps("test")[1]
    steps = test[..., None, :] - means
    distances = np.einsum("bhwcd,de,bhwce->bhwc", steps, np.linalg.inv(covariance), steps)
    net = posthoc._source(str(run), "", "float32", CLASSES).network(state.stats["networks"][0])
    expected = resampling.bilinear(
        jnp.asarray(distances.min(-1, keepdims=True), jnp.float32),
        (32, 48),
        align_corners=net.align_corners,
    )[..., 0]
    found = score(method, state)
    np.testing.assert_allclose(found.pixel[:6], expected, rtol=1e-2)


@pytest.mark.parametrize("name", ["standardised_max_logit", "mahalanobis"])
def test_statistics_are_the_same_on_any_number_of_devices(name, run):
    """Padding rows at the end of the split count for nothing."""
    method = build(run, score=name)
    one, eight = (fitted(method, devices=count).stats["sums"] for count in (1, 8))
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        largest = np.abs(np.asarray(x)).max()
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4 * largest)


def test_crf_is_the_mean_field_of_the_softmax(run):
    """Against dense sums over all pixels, of one image."""
    sigma, weight = 2.0, 3.0
    method = build(run, score="crf", crf_sigma=sigma, crf_weight=weight, crf_iterations=3)
    found = score(method, start(method))
    p = softmax(maps("test")[0][0]).reshape(-1, CLASSES)
    places = np.stack(np.mgrid[:32, :48], -1).reshape(-1, 2) / sigma
    kernel = np.exp(-0.5 * ((places[:, None] - places) ** 2).sum(-1))
    kernel /= np.sqrt(kernel.sum(1, keepdims=True) * kernel.sum(0))
    q = p
    for _ in range(3):
        q = softmax(np.log(np.clip(p, 1e-5, 1)) + weight * kernel @ q)
    np.testing.assert_allclose(found.pixel[0].ravel(), 1 - q.max(-1), atol=1e-4)
    assert (found.classes[0].ravel() == q.argmax(-1)).mean() > 0.999


STATISTICS = {
    "entropy": lambda p: entropy(p.mean(0)),
    "mutual_information": lambda p: entropy(p.mean(0)) - entropy(p).mean(0),
    "variance": lambda p: np.take_along_axis(p, p.mean(0).argmax(-1)[None, ..., None], -1)[
        ..., 0
    ].var(0),
}


def scaled(given):
    """Two different networks from one checkpoint: the second's classifier is doubled."""
    double = jax.tree.map(lambda x: x, given["run1"]["train"])
    params = {**double.params}
    params["final2"] = jax.tree.map(lambda x: 2.0 * x, params["final2"])
    return {**given, "run1": {"train": double.replace(params=params)}}


@pytest.mark.parametrize("name", STATISTICS)
def test_ensemble_is_a_statistic_of_its_members(name, run):
    method = build(run, score="ensemble", passes_statistic=name, runs=(str(run), str(run)))
    found = score(method, start(method, scaled))
    logits, _ = maps("test")
    p = softmax(np.stack([logits, 2 * logits]))
    np.testing.assert_allclose(found.pixel[:6], STATISTICS[name](p), rtol=1e-3, atol=1e-6)
    assert (found.classes[:6] == p.mean(0).argmax(-1)).mean() > 0.999


def dropping(rate):
    """A network with nothing but dropout of its three channels."""

    def apply(images, key=None):
        if key is not None:
            kept = jax.random.bernoulli(key, 1 - rate, (images.shape[0], 1, 1, 3))
            images = jnp.where(kept, images / (1 - rate), 0.0)
        return segmentation.SceneMaps(images, images)

    how = segmentation.scene_inference.Inference()
    return segmentation.Trained(apply, 3, False, how)


@pytest.mark.parametrize("name", STATISTICS)
def test_dropout_is_a_statistic_of_its_passes(name):
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 7, 3)).astype(np.uint8)
    keys = jax.random.split(jax.random.key(5), 4)
    net = dropping(0.4)
    found = posthoc.disagreement(net, posthoc._dropped(net, keys), images, posthoc._PASSES[name])
    passes = [net.apply(scene_sampling.normalised(images), key).logits for key in keys]
    expected = STATISTICS[name](softmax(np.asarray(passes, np.float64)))
    np.testing.assert_allclose(found.pixel, expected, rtol=1e-4, atol=1e-6)


def test_dropout_depends_on_its_seed_alone():
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 7, 3)).astype(np.uint8)
    net = dropping(0.4)

    def found(seed):
        several = posthoc._dropped(net, jax.random.split(jax.random.key(seed), 4))
        return np.asarray(
            posthoc.disagreement(net, several, images, posthoc._PASSES["entropy"]).pixel
        )

    np.testing.assert_array_equal(found(0), found(0))
    assert np.abs(found(0) - found(1)).max() > 1e-3


def test_network_that_drops_is_told_from_one_that_does_not():
    assert posthoc._drops(dropping(0.4), (1, 8, 9, 3))
    without = dropping(0.4)
    apply = lambda images, key: without.apply(images, None)  # noqa: E731
    assert not posthoc._drops(without._replace(apply=apply), (1, 8, 9, 3))


@pytest.mark.parametrize("name, drops", [("pspnet", True), ("deeplab_v3_plus_resnet", False)])
def test_dropout_of_a_real_network_is_seen_without_its_mapped_axis(name, drops):
    section = {"name": name, "width": 1 / 32, "depths": (1, 1, 1, 1)}
    model = segmentation.network(section, CLASSES, "float32")
    variables = drawn.variables(model, jnp.zeros((1, 32, 48, 3)))
    net = segmentation.trained(model, variables, CLASSES, None)
    assert posthoc._drops(net, (1, 32, 48, 3)) is drops


def test_dropout_of_a_network_without_is_refused(run):
    with pytest.raises(InputError, match=r"score='dropout': the network of the run .*no dropout"):
        start(build(run, score="dropout"))


def test_networks_are_kept_in_the_state(run):
    """What is scored does not change when the run does."""
    method = build(run)
    state = start(method)
    (kept,) = state.stats["networks"]
    assert list(kept) == ["train"]
    assert kept["train"].opt_state == ()
    assert state.params == {}


def test_state_can_be_scored_before_its_statistics(run):
    for name in ("standardised_max_logit", "mahalanobis"):
        state = start(build(run, score=name))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


# What is refused.


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"runs": ()}, r"method.runs: expected one workdir of finished .*'energy', found \(\)"),
        ({"runs": "runs/one"}, r"method.runs: expected one workdir"),
        ({"runs": ("a", "b")}, r"method.runs: expected one workdir"),
        ({"score": "ensemble"}, r"method.runs: expected at least two workdirs"),
        ({"runs": ("/nowhere",)}, r"/nowhere/config.json does not exist; expected the workdir"),
        ({"stage": "finetune"}, r"method.stage='finetune': the run in .* has \['train'\]"),
        ({"num_classes": 7}, r"method.num_classes=7: the run in .* has 8"),
        ({"score": "odin"}, r"method.score: expected one of 'msp'"),
        ({"temperature": 0.0}, r"method.temperature: expected a number above 0"),
        ({"passes": 0}, r"method.passes: expected an integer of at least 1"),
        ({"passes_statistic": "mean"}, r"method.passes_statistic: expected one of"),
        (
            {"suppression_width": 5, "suppression_iterations": 4},
            r"suppression_width=5; expected a multiple of .*=4",
        ),
        ({"suppression_width": 1.5}, r"suppression_width: expected an integer"),
        ({"crf_sigma": 0}, r"method.crf_sigma: expected a number above 0"),
    ],
)
def test_bad_field_is_named(fields, message, run):
    with pytest.raises(InputError, match=message):
        build(run, **fields)


def test_run_of_another_kind_is_refused(tmp_path):
    config = configs.load(f"{tiny.ROOT}/configs/rtfm.py:digits")
    (tmp_path / "config.json").write_text(config.to_json())
    with pytest.raises(InputError, match=r"is a run of jaxad.methods.rtfm, no network"):
        build(tmp_path)


def test_unfinished_run_is_refused(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "report" / "index.html").unlink()
    with pytest.raises(InputError, match=r"run in .* is not finished"):
        start(build(copy))


def test_source_without_images_is_refused(run):
    method = build(run)
    sample = pipeline.example(tiny.splits("posthoc")["train"])
    given = tiny.given(method, sample)
    with pytest.raises(InputError, match=r"config.data.source .*no 'image'"):
        method.stages["statistics"].init(jax.random.key(0), {"features": np.zeros(3)}, given)


def test_nothing_is_trained(run):
    stage = build(run).stages["statistics"]
    assert stage.update is None
    assert stage.fits == ()
    assert build(run).runs == {"run0": str(run)}
