from functools import partial

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.convert import deeplab_v3_plus, foreign
from jaxad.errors import InputError
from jaxad.losses import energy
from jaxad.models.deeplab_v3_plus import DeepLabV3PlusResNet, DeepLabV3PlusWide, with_abstention
from jaxad.models.layers import Mode
from jaxad.resampling import bilinear

NETWORKS = {
    "wide_resnet38": DeepLabV3PlusWide(20, 1 / 16, (1,) * 6),
    "resnet101": DeepLabV3PlusResNet(19, 1 / 16, (1,) * 4),
}
BOTH = pytest.mark.parametrize("file", NETWORKS)


def like(network):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    return variables["params"], variables["batch_stats"]


def loaded(file):
    """Golden arrays, and variables of the network from its published names."""
    arrays = vectors.load("pebal", file)
    params, stats = deeplab_v3_plus.convert(vectors.part(arrays, "state/"), *like(NETWORKS[file]))
    return arrays, {"params": params, "batch_stats": stats}


def channels_first(maps):
    return np.moveaxis(np.asarray(maps), -1, 1)


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.max(np.abs(expected)))


def intermediates(file):
    """Golden arrays, enlarged logits, and the output of every module by name."""
    arrays, variables = loaded(file)
    images = jnp.moveaxis(arrays["image"], 1, -1)
    apply = partial(NETWORKS[file].apply, capture_intermediates=True, mutable=["intermediates"])
    maps, inner = jax.jit(apply)(variables, images)
    logits = bilinear(maps.logits, images.shape[1:3], align_corners=NETWORKS[file].align_corners)
    inner = {
        path[0]: values[0]
        for path, values in flax.traverse_util.flatten_dict(inner["intermediates"]).items()
        if len(path) == 2
    }
    return arrays, logits, inner


def test_wide_resnet_gives_the_released_maps():
    arrays, logits, inner = intermediates("wide_resnet38")
    assert_close(channels_first(logits), arrays["logits"])
    for name in ("mod2", "mod5", "mod7"):
        assert_close(channels_first(inner["backbone"][name]), arrays[name])
    for name in ("aspp", "bot_aspp", "bot_fine"):
        assert_close(channels_first(inner[name]), arrays[name])
    score = energy.gaussian_smoothing(energy.free_energy(logits[0, :, :, :19]))
    assert_close(score, arrays["anomaly_map"])


def test_resnet_gives_the_released_maps():
    arrays, logits, inner = intermediates("resnet101")
    assert_close(channels_first(logits), arrays["logits"])
    assert_close(jnp.max(logits, axis=-1), arrays["max_logit"])
    for stage in (0, 1, 3, 4):
        assert_close(channels_first(inner["backbone"][stage]), arrays[f"layer{stage}"])
    assert_close(channels_first(inner["aspp"]), arrays["aspp"])


def test_deep_supervision_gives_the_released_logits():
    arrays, variables = loaded("resnet101")
    inner = jnp.moveaxis(arrays["layer3"], 1, -1)
    apply = partial(NETWORKS["resnet101"].apply, method=lambda network, x: network.dsn(x, Mode()))
    actual = jax.jit(apply)(variables, inner)
    assert_close(channels_first(actual), arrays["aux_logits_low"])


@BOTH
def test_every_array_is_used_once(file):
    arrays, variables = loaded(file)
    state = vectors.part(arrays, "state/")
    given = [a for name, a in state.items() if not name.endswith("num_batches_tracked")]
    used = jax.tree.leaves(variables)
    assert sum(x.size for x in used) == sum(a.size for a in given)
    total = sum(float(np.sum(np.abs(a), dtype=np.float64)) for a in given)
    assert total == pytest.approx(sum(float(np.sum(np.abs(x), dtype=np.float64)) for x in used))


@BOTH
def test_files_of_all_releases_are_read(file, tmp_path):
    arrays, expected = loaded(file)
    state = vectors.part(arrays, "state/")
    bare = {name.partition(".")[2]: array for name, array in state.items()}
    loss = {"criterion.nll_loss.weight": np.ones(19)}
    for i, (prefix, extra) in enumerate(
        [("", {}), ("module.", loss), ("branch1.", {}), ("module.branch1.", {})]
    ):
        np.savez(tmp_path / f"{i}.npz", **{prefix + k: a for k, a in {**bare, **extra}.items()})
        read = foreign.read(tmp_path / f"{i}.npz")
        params, stats = deeplab_v3_plus.convert(read, *like(NETWORKS[file]))
        actual = {"params": params, "batch_stats": stats}
        jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_all_that_does_not_fit_is_reported_at_once():
    state = vectors.part(vectors.load("pebal", "wide_resnet38"), "state/")
    del state["branch1.aspp.img_conv.0.weight"]
    state["branch1.mod8.conv.weight"] = np.ones((1, 1, 1, 1))
    network = NETWORKS["wide_resnet38"].clone(num_classes=19)
    with pytest.raises(InputError) as error:
        deeplab_v3_plus.convert(state, *like(network))
    text = str(error.value)
    assert "1 missing: aspp.img_conv.0.weight" in text
    assert "1 unexpected: mod8.conv.weight" in text
    assert "final.6.weight (expected (19, 16, 1, 1), found (20, 16, 1, 1))" in text


def test_a_checkpoint_of_the_other_backbone_is_an_error():
    state = vectors.part(vectors.load("pebal", "resnet101"), "state/")
    with pytest.raises(InputError, match=r"missing: .*mod2\.block1.* unexpected: .*layer0\.0"):
        deeplab_v3_plus.convert(state, *like(NETWORKS["wide_resnet38"]))


def test_a_cosine_classifier_has_no_published_name():
    network = NETWORKS["wide_resnet38"].clone(classifier="cosine")
    with pytest.raises(ValueError, match=r"linear classifier has a layer 'final/classify'"):
        deeplab_v3_plus.convert({}, *like(network))


def test_an_import_of_pebal_is_a_network_with_abstention_and_no_bias():
    _, variables = loaded("resnet101")
    network = NETWORKS["resnet101"].clone(num_classes=20, classifier="linear_without_bias")
    params = with_abstention(variables["params"], jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, like(network)[0])
