"""`jaxad.methods.segmentation`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from layouts import mapped

from jaxad import resampling
from jaxad import scene_sections as sections
from jaxad.augment import color
from jaxad.errors import InputError
from jaxad.methods import base, scene_inference, scene_sampling, segmentation
from jaxad.models.scene_maps import SceneMaps

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 20, 30, 3)).astype(np.uint8)
SEGMENTS = RNG.integers(0, 5, (6, 20, 30)).astype(np.uint8)
KEYS = jax.random.split(jax.random.key(0), 6)
MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


def scenes(**fields):
    plain = dict(crop=(20, 30), scales=(1.0, 1.0), flip=0.0)
    return scene_sampling.parse({**plain, **fields})


@functools.partial(jax.jit, static_argnums=0)
def draw(how, keys, images, segments, centre=None):
    return scene_sampling.draw(how, keys, images, segments, centre)


# Normalising and drawing.


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "bfloat16"])
def test_normalised_is_imagenets_whatever_the_type(dtype):
    given = IMAGES if "int" in dtype else IMAGES / 255.0
    found = scene_sampling.normalised(jnp.asarray(given, dtype))
    assert found.dtype == jnp.float32
    tolerance = 0.02 if dtype == "bfloat16" else 1e-5
    np.testing.assert_allclose(found, (IMAGES / 255.0 - MEAN) / STD, atol=tolerance)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("fill", ["black", "mean"])
def test_scene_that_is_not_changed_is_normalised(fill, smooth):
    images, segments = draw(scenes(fill=fill, smooth=smooth), KEYS, IMAGES, SEGMENTS)
    np.testing.assert_allclose(images, (IMAGES / 255.0 - MEAN) / STD, atol=1e-5)
    np.testing.assert_array_equal(segments, SEGMENTS)
    assert segments.dtype == jnp.int32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_floats_are_taken_as_they_are(dtype):
    expected, _ = draw(scenes(), KEYS, IMAGES, SEGMENTS)
    found, _ = draw(scenes(), KEYS, jnp.asarray(IMAGES / 255.0, dtype), SEGMENTS)
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize("fill, value", [("black", -MEAN / STD), ("mean", np.zeros(3))])
@pytest.mark.parametrize("padding", ["centred", "surrounded"])
def test_padding_is_void_and_of_the_colour_asked_for(fill, value, padding):
    how = scenes(scales=(0.5, 1.0), draw="choice", fill=fill, padding=padding)
    images, segments = draw(how, KEYS, IMAGES, SEGMENTS)
    outside = np.asarray(segments) == 255
    assert 0 < outside.mean() < 1  # Scenes of half the size are among them.
    expected = np.broadcast_to(value, images.shape)
    np.testing.assert_allclose(images[outside], expected[outside], atol=1e-5)


@pytest.mark.parametrize("padding", ["centred", "surrounded"])
def test_short_scene_is_padded_as_its_rule_says(padding):
    """10 x 15 in 20 x 30. Centred: 5 rows above, 7 columns left of it. Surrounded: the width is
    short by 15, so that 8 are added on all sides; the height fits then, with six rows to spare.
    """
    how = scenes(scales=(0.5, 1.0), draw="choice", padding=padding)
    keys = jax.random.split(jax.random.key(1), 32)
    _, segments = draw(how, keys, np.repeat(IMAGES[:1], 32, 0), np.repeat(SEGMENTS[:1], 32, 0))
    inside = np.asarray(segments) != 255
    small = inside[inside.sum(axis=(1, 2)) == 10 * 15]
    assert len(small) > 8
    tops, lefts = small.any(axis=2).argmax(axis=1), small.any(axis=1).argmax(axis=1)
    if padding == "centred":
        assert (set(tops), set(lefts)) == ({5}, {7})
    else:
        assert set(tops) <= set(range(2, 9))
        assert len(set(tops)) > 3
        assert set(lefts) == {7, 8}


def test_scales_of_a_choice_are_those_given():
    how = scenes(scales=(0.5, 1.0), draw="choice")
    keys = jax.random.split(jax.random.key(3), 64)
    _, segments = draw(how, keys, np.repeat(IMAGES[:1], 64, 0), np.repeat(SEGMENTS[:1], 64, 0))
    sizes = (np.asarray(segments) != 255).sum(axis=(1, 2))
    assert set(sizes) == {10 * 15, 20 * 30}
    assert 12 < (sizes == 150).sum() < 52


def test_flip_happens_as_often_as_asked_for():
    keys = jax.random.split(jax.random.key(4), 64)
    images, segments = np.repeat(IMAGES[:1], 64, 0), np.repeat(SEGMENTS[:1], 64, 0)
    _, found = draw(scenes(flip=0.8), keys, images, segments)
    flipped = (np.asarray(found) == SEGMENTS[:1, :, ::-1]).all(axis=(1, 2))
    same = (np.asarray(found) == SEGMENTS[:1]).all(axis=(1, 2))
    assert (flipped ^ same).all()
    assert 40 < flipped.sum() < 62


@pytest.mark.parametrize("smooth", [False, True])
def test_images_and_labels_move_together(smooth):
    """Every class has a colour: it is under its label wherever the scene is smooth."""
    blocks = np.kron(RNG.integers(0, 5, (6, 4, 6)), np.ones((8, 8), int)).astype(np.uint8)
    images = np.stack([blocks * 50] * 3, axis=-1)
    how = scenes(crop=(16, 24), scales=(0.8, 1.6), draw="range", flip=0.5, smooth=smooth)
    found, segments = draw(how, KEYS, images, blocks)
    shown = np.round((np.asarray(found) * STD + MEAN)[..., 0] * 255.0 / 50.0)
    segments = np.asarray(segments)
    inner = np.ones_like(segments, bool)  # Not beside another label.
    for axis in (1, 2):
        for shift in (-1, 1, -2, 2):
            inner &= np.roll(segments, shift, axis) == segments
    inner[:, [0, 1, -2, -1]], inner[:, :, [0, 1, -2, -1]] = False, False
    inner &= segments != 255
    assert inner.mean() > 0.1
    assert (shown[inner] == segments[inner]).mean() > 0.99


@pytest.mark.parametrize("scales", [(0.6, 0.6), (1.0, 1.0), (1.7, 1.7)])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_crop_holds_the_centre(scales, flip):
    """A pixel of its own class, wherever it is, is in the crop; a small one may vanish in scaling,
    so it is a square of three.
    """
    rng = np.random.default_rng(1)
    centre = np.stack([rng.integers(0, 20, 64), rng.integers(0, 30, 64)], axis=1)
    centre[:4] = [(0, 0), (19, 29), (0, 29), (19, 0)]
    segments = np.zeros((64, 20, 30), np.uint8)
    for one, (row, column) in zip(segments, centre, strict=True):
        one[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = 3
    how = scenes(crop=(8, 9), scales=scales, flip=flip)
    keys = jax.random.split(jax.random.key(2), 64)
    _, found = draw(how, keys, np.zeros((64, 20, 30, 3), np.uint8), segments, centre)
    assert (np.asarray(found) == 3).any(axis=(1, 2)).all()
    assert (np.asarray(found) != 255).all()
    _, free = draw(how, keys, np.zeros((64, 20, 30, 3), np.uint8), segments, centre * 0 - 1)
    assert not (np.asarray(free) == 3).any(axis=(1, 2)).all()


def test_negative_centre_is_no_centre():
    how = scenes(crop=(8, 9), scales=(0.8, 1.2))
    _, expected = draw(how, KEYS, IMAGES, SEGMENTS)
    _, found = draw(how, KEYS, IMAGES, SEGMENTS, np.full((6, 2), -1))
    np.testing.assert_array_equal(found, expected)


def test_row_depends_on_its_key_alone():
    how = scenes(crop=(8, 9), scales=(0.8, 1.2), flip=0.5, color_jitter=0.5, blur=0.5)
    images, segments = draw(how, KEYS, IMAGES, SEGMENTS)
    order = np.array([3, 0, 5, 1, 2, 4])
    moved, ids = draw(how, KEYS[order], IMAGES[order], SEGMENTS[order])
    np.testing.assert_allclose(moved, images[order], atol=1e-5)
    np.testing.assert_array_equal(ids, segments[order])


@pytest.mark.parametrize("fields", [{"color_jitter": 0.5}, {"blur": 1.0}])
def test_colours_change_and_labels_do_not(fields):
    plain, _ = draw(scenes(), KEYS, IMAGES, SEGMENTS)
    images, segments = draw(scenes(**fields), KEYS, IMAGES, SEGMENTS)
    assert np.abs(images - plain).max() > 0.05
    assert np.isfinite(images).all()
    np.testing.assert_array_equal(segments, SEGMENTS)


@pytest.mark.parametrize("crop", [(21, 30), (20, 31)])
def test_crop_larger_than_the_largest_scene_is_refused(crop):
    with pytest.raises(InputError, match=r"augment.crop=.*larger than the images: \(20, 30\)"):
        scene_sampling.draw(scenes(crop=crop), KEYS, IMAGES, SEGMENTS)
    enlarged = scenes(crop=crop, scales=(0.5, 1.1))
    jax.eval_shape(functools.partial(scene_sampling.draw, enlarged), KEYS, IMAGES, SEGMENTS)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"crops": (8, 8)}, r"config.method.augment has no field 'crops'"),
        ({"crop": (8,)}, r"augment.crop: expected 2 integers"),
        ({"scales": (2.0, 0.5)}, r"augment.scales: .* the lowest and the highest"),
        ({"scales": (1.0,)}, r"augment.scales: .* the lowest and the highest"),
        ({"scales": (0.0, 1.0)}, r"augment.scales: expected a number above 0, found 0.0"),
        ({"scales": ("a", "b")}, r"augment.scales: expected a number above 0, found 'a'"),
        ({"scales": 1.0}, r"augment.scales: expected several numbers, found 1.0"),
        ({"scales": (), "draw": "choice"}, r"augment.scales: expected"),
        ({"draw": "uniform"}, r"augment.draw: expected one of 'range', 'choice'"),
        ({"padding": "left"}, r"augment.padding: expected one of"),
        ({"fill": "white"}, r"augment.fill: expected one of 'black', 'mean'"),
        ({"flip": 1.5}, r"augment.flip: expected a number in \[0, 1\]"),
        ({"blur": -1}, r"augment.blur"),
        ({"smooth": "yes"}, r"augment.smooth: expected True or False"),
        ({"color_jitter": -0.1}, r"augment.color_jitter: expected a number of at least 0"),
        ({"fill": "mean", "blur": 0.5}, r"augment.fill='mean'.*expected fill='black'"),
    ],
)
def test_bad_augmentation_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        scenes(**fields)


def test_crop_is_asked_for():
    with pytest.raises(InputError, match=r"augment lacks the field 'crop'"):
        scene_sampling.parse({"flip": 0.5})


# Networks.


def small(**fields):
    return sections.small_resnet(**{"width": 1 / 32, **fields})


def test_network_has_the_options_of_its_section():
    found = segmentation.network(small(tau=3.0), 7, "bfloat16")
    assert (found.num_classes, found.tau, found.depths) == (7, 3.0, (1, 1, 1, 1))
    assert found.dtype == jnp.bfloat16
    assert found.axis_name == base.AXIS


@pytest.mark.parametrize(
    "section, message",
    [
        ({}, r"method.network.name: expected one of 'pspnet'.*found None"),
        ({"name": "unit"}, r"method.network.name: expected one of 'pspnet'.*found 'unit'"),
        (
            small(bins=(1, 2)),
            r"network of 'deeplab_v3_plus_resnet' has no field 'bins'; .*'depths'",
        ),
        (small(dtype="float32"), r"has no field 'dtype'"),
        (small(num_classes=3), r"has no field 'num_classes'"),
        (small(classifier="cubic"), r"config.method.network: classifier: expected one of"),
        (small(output_stride=7), r"config.method.network: .*stride"),
        (small(depths=(1, 1)), r"config.method.network: "),
    ],
)
def test_bad_network_is_named(section, message):
    with pytest.raises(InputError, match=message):
        segmentation.network(section, 3, "float32")


def state_of(model):
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    stats = {"batch_stats": variables["batch_stats"], "other": 1}
    return base.new_state(variables["params"], (), stats)


@pytest.mark.parametrize(
    "section, message",
    [
        (small(), r"missing"),
        (sections.pspnet(width=1 / 32), r"missing"),
        (dict(name="deeplab_v3", width=1 / 32), r"missing"),
        (dict(name="none"), r"network.name='none': no published checkpoints of it are known"),
    ],
)
def test_checkpoint_of_another_network_is_refused(section, message):
    arrays = {"head.nothing": np.zeros(3), "classifier.nothing": np.zeros(3)}
    known = section["name"] in segmentation.NETWORKS
    state = state_of(segmentation.network(section, 3, "float32")) if known else None
    with pytest.raises(InputError, match=message):
        segmentation.converter(section)(arrays, state)


def test_every_network_has_a_converter_but_those_without_published_weights():
    assert set(segmentation._CONVERTERS) == set(segmentation.NETWORKS) - {"unet"}


# The closed-set stage.


class Linear:
    """A network of one matrix at stride 1, with an auxiliary branch of twice its logits."""

    align_corners = False

    def init(self, rng, images):
        params = {"matrix": jax.random.normal(rng, (3, 4))}
        return {"params": params, "batch_stats": {"seen": jnp.zeros(())}}

    def apply(
        self, variables, images, where=None, *, train=False, dropout=False, rngs=(), mutable=()
    ):
        logits = images @ variables["params"]["matrix"]
        out = SceneMaps(logits, images, 2.0 * logits if train else None)
        return (out, {"batch_stats": {"seen": jnp.ones(())}}) if mutable else out


BATCH = {
    "image": IMAGES[:4],
    "segments": np.where(RNG.random((4, 20, 30)) < 0.2, 255, SEGMENTS[:4]),
    "valid": np.array([True, True, True, False]),
}


def closed_set(weight=0.4):
    return segmentation.closed_set_stage(
        Linear(), optax.sgd(0.1), scenes(), num_classes=4, auxiliary_weight=weight
    )


def stepped(stage, batch, devices=1):
    state = stage.init(jax.random.key(0), batch, {})
    step = mapped("pmap", lambda kept, rows: stage.update(kept[0], rows, kept[1]), devices=devices)
    return state, *step((state, jax.random.key(1)), batch)


@pytest.mark.parametrize("weight", [0.4, 0.0])
def test_closed_set_loss_is_the_mean_over_real_pixels(weight):
    state, after, metrics = stepped(closed_set(weight), BATCH)
    logits = ((IMAGES[:4] / 255.0 - MEAN) / STD) @ np.asarray(state.params["matrix"], np.float64)
    real = (BATCH["segments"] < 4) & BATCH["valid"][:, None, None]
    labels = np.where(real, BATCH["segments"], 0)[..., None].astype(int)

    def entropy(z):
        log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
        return -np.take_along_axis(log_p, labels, -1)[..., 0][real].mean()

    np.testing.assert_allclose(metrics["cross_entropy"], entropy(logits), rtol=1e-5)
    expected = entropy(logits)
    if weight:
        np.testing.assert_allclose(metrics["auxiliary"], 0.4 * entropy(2 * logits), rtol=1e-5)
        expected += 0.4 * entropy(2 * logits)
    else:
        assert "auxiliary" not in metrics
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    assert after.step == 1
    assert after.stats["batch_stats"]["seen"] == 1


def test_closed_set_step_is_that_of_four_devices():
    """Devices hold different numbers of real pixels, and one none."""
    _, after, metrics = stepped(closed_set(), BATCH)
    _, other, found = stepped(closed_set(), BATCH, devices=4)
    np.testing.assert_allclose(other.params["matrix"], after.params["matrix"], rtol=1e-5, atol=1e-6)
    for name in metrics:
        np.testing.assert_allclose(found[name], metrics[name], rtol=1e-5)


@pytest.mark.parametrize("missing", ["image", "segments"])
def test_source_without_scenes_is_refused(missing):
    batch = {name: value for name, value in BATCH.items() if name != missing}
    with pytest.raises(InputError, match=rf"config.data.source .* without \['{missing}'\]"):
        closed_set().init(jax.random.key(0), {**batch, "features": np.zeros(3)}, {})


# Scores.


def looked(flip=False, scales=(1.0,)):
    def apply(images, key=None):
        weights = jnp.asarray(np.random.default_rng(5).normal(size=(3, 5)), jnp.float32)
        columns = jnp.arange(images.shape[2], dtype=jnp.float32)[:, None] / 10.0
        return SceneMaps((images @ weights + columns)[:, ::2, ::2], images)

    how = scene_inference.Inference(scales=scales, flip=flip, rows=6)
    return segmentation.Trained(apply, 4, True, how)


@pytest.mark.parametrize("name", segmentation.LOGIT_SCORES)
def test_scores_are_those_of_the_enlarged_inlier_logits(name):
    """The fifth channel is for outliers: it is no class."""
    net, score = looked(), segmentation.LOGIT_SCORES[name]
    found = segmentation.score_logits(net, IMAGES, score)
    logits = net.apply(scene_sampling.normalised(IMAGES)).logits[..., :4]
    logits = resampling.bilinear(logits, (20, 30), align_corners=True)
    np.testing.assert_allclose(found.pixel, score([logits]), rtol=1e-4, atol=1e-5)
    assert (np.asarray(found.classes) == np.argmax(logits, -1)).mean() > 0.999
    confidence = np.max(jax.nn.softmax(logits), -1)
    np.testing.assert_allclose(found.extra["confidence"], confidence, rtol=1e-4)
    assert found.classes.dtype == jnp.int32
    assert found.pixel.shape == (6, 20, 30)


def test_looks_are_averaged():
    net = looked(flip=True)
    found = segmentation.score_logits(net, IMAGES, segmentation.LOGIT_SCORES["energy"])
    images = scene_sampling.normalised(IMAGES)
    views = [
        resampling.bilinear(logits[..., :4], (20, 30), align_corners=True)
        for logits in (
            net.apply(images).logits,
            net.apply(images[:, :, ::-1]).logits[:, :, ::-1],
        )
    ]
    energies = [-jax.nn.logsumexp(view, axis=-1) for view in views]
    np.testing.assert_allclose(found.pixel, (energies[0] + energies[1]) / 2, rtol=1e-4)
    msp = segmentation.score_logits(net, IMAGES, segmentation.LOGIT_SCORES["msp"])
    np.testing.assert_allclose(msp.pixel, 1.0 - found.extra["confidence"], atol=1e-6)
    probabilities = (jax.nn.softmax(views[0]) + jax.nn.softmax(views[1])) / 2
    np.testing.assert_allclose(found.extra["confidence"], probabilities.max(-1), rtol=1e-4)


def test_normalising_is_that_of_augment():
    images = IMAGES[:1] / 255.0
    np.testing.assert_allclose(
        scene_sampling.normalised(IMAGES[:1]), color.normalize(jnp.asarray(images)), atol=1e-5
    )
