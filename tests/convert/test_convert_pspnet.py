import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.convert import pspnet, torch_layout
from jaxad.errors import InputError
from jaxad.models.pspnet import PSPNet

IMAGES = jnp.zeros((1, 64, 88, 3))


def shapes_of(**options):
    network = PSPNet(**{"width": 1 / 16, "depths": (1, 1, 1, 1)} | options)
    return jax.eval_shape(network.init, jax.random.key(0), IMAGES)


def converted(state_dict, variables, **options):
    return pspnet.convert(state_dict, variables["params"], variables["batch_stats"], **options)


@pytest.fixture(scope="module")
def variables():
    return shapes_of()


@pytest.fixture
def state_dict():
    return vectors.part(vectors.load("pans", "pspnet"), "state/")


def test_every_array_finds_its_place(variables, state_dict):
    params, stats = converted(state_dict, variables, scales="plain")
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), {"params": params, "batch_stats": stats})
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), dict(variables))
    used = sum(x.size for x in jax.tree.leaves((params, stats)))
    assert used == sum(x.size for x in state_dict.values())
    np.testing.assert_array_equal(
        params["backbone"]["layer3_0"]["conv2"]["kernel"][1, 2, 3, 4],
        state_dict["body.mod4.block1.convs.conv2.weight"][4, 3, 1, 2],
    )
    np.testing.assert_array_equal(
        params["classify"]["prototypes"], state_dict["cls.cls.weight"][..., 0, 0]
    )
    np.testing.assert_array_equal(
        stats["pyramid"]["bins3"]["norm"]["var"], state_dict["head.ppm.2.2.running_var"]
    )


def test_a_converted_network_gives_the_released_maps(variables, state_dict):
    golden = vectors.load("pans", "pspnet")
    params, stats = converted(state_dict, variables, scales="plain")
    network = PSPNet(width=1 / 16, depths=(1, 1, 1, 1))
    images = jnp.asarray(np.moveaxis(golden["image"], 1, -1))
    maps = jax.jit(network.apply)({"params": params, "batch_stats": stats}, images)
    expected = np.moveaxis(golden["os8/logits_low"], 1, -1)
    vectors.assert_close(maps.logits, expected, rtol=0, atol=1e-5)


def test_in_place_norms_scale_by_absolute_weights(variables, state_dict):
    name = "body.mod2.block1.convs.bn1.weight"
    state_dict[name] = -state_dict[name]
    (params, stats), (plain, plain_stats) = (
        converted(state_dict, variables, scales=scales) for scales in torch_layout.SCALES[::-1]
    )
    scale = params["backbone"]["layer1_0"]["norm1"]["scale"]
    np.testing.assert_allclose(scale, np.abs(state_dict[name]) + 1e-5, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, stats, plain_stats)

    def compare(path, a, b):
        b = np.abs(np.asarray(b)) + np.float32(1e-5) if path[-1].key == "scale" else b
        np.testing.assert_allclose(a, b, rtol=1e-6)

    jax.tree_util.tree_map_with_path(compare, params, plain)


@pytest.mark.parametrize("classifier", ["linear", "linear_without_bias"])
def test_the_standard_classifier(classifier, state_dict):
    if classifier == "linear":
        state_dict |= {f"cls.{name}.bias": np.arange(13.0) for name in ("cls", "cls_deepsup")}
    params, _ = converted(state_dict, shapes_of(classifier=classifier), scales="plain")
    kernel = params["classify"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel[0, 0, 5], state_dict["cls.cls.weight"][:, 5, 0, 0])
    if classifier == "linear":
        np.testing.assert_array_equal(params["classify"]["conv"]["bias"], np.arange(13.0))


def test_an_imagenet_backbone_leaves_the_rest(state_dict):
    network = PSPNet(width=1 / 16, depths=(1, 1, 1, 1))
    variables = drawn.variables(network, IMAGES)
    arrays = vectors.part(state_dict, "body.")
    arrays = {name: a for name, a in arrays.items() if not name.startswith(("head", "cls"))}
    arrays |= {"classifier.fc.weight": np.ones((10, 128)), "classifier.fc.bias": np.ones(10)}
    params, stats = pspnet.convert_backbone(
        arrays, variables["params"], variables["batch_stats"], scales="plain"
    )
    whole = converted(state_dict, variables, scales="plain")
    for new, old, published in zip(
        (params, stats), (variables["params"], variables["batch_stats"]), whole, strict=True
    ):
        assert new.keys() == old.keys()
        for name in new:
            expected = published if name == "backbone" else old
            jax.tree.map(np.testing.assert_array_equal, new[name], expected[name])


def test_all_that_does_not_fit_is_reported_at_once(variables, state_dict):
    del state_dict["head.ppm.3.2.running_mean"]
    state_dict["cls.other.weight"] = np.ones((1, 1))
    state_dict["body.mod1.conv1.weight"] = np.ones((8, 3, 7, 7))
    state_dict["body.mod1.bn1.num_batches_tracked"] = np.ones(())
    with pytest.raises(InputError) as error:
        converted(state_dict, variables)
    text = str(error.value)
    assert "1 missing: head.ppm.3.2.running_mean" in text
    assert "1 unexpected: cls.other.weight" in text
    assert "body.mod1.conv1.weight (expected (4, 3, 7, 7), found (8, 3, 7, 7))" in text


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"width": 1 / 8},
            r"head\.cbr_deepsup\.0\.weight \(expected \(64, 128, 3, 3\), found \(32, 64, 3, 3\)",
        ),
        ({"depths": (1, 2, 1, 1)}, r"missing: .*body\.mod3\.block2\.convs\.conv1\.weight"),
        ({"num_classes": 19}, r"cls\.cls\.weight \(expected \(19, 32, 1, 1\), found \(13,"),
    ],
)
def test_a_checkpoint_of_another_network_is_an_error(options, message, state_dict):
    variables = shapes_of(**options)
    with pytest.raises(InputError, match=message):
        converted(state_dict, variables)


def test_unknown_scales_are_an_error(variables, state_dict):
    with pytest.raises(ValueError, match=r"scales: expected one of .*, got 'folded'"):
        converted(state_dict, variables, scales="folded")
