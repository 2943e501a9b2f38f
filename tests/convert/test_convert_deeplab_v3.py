import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.convert import deeplab_v3
from jaxad.errors import InputError
from jaxad.models.deeplab_v3 import DeepLabV3

NETWORK = DeepLabV3(21, width=1 / 32, depths=(1, 2, 1, 1))


@pytest.fixture(scope="module")
def variables():
    return drawn.variables(NETWORK, jnp.zeros((1, 16, 16, 3)))


def state_dict_of(depths):
    """A state dict with the names and shapes of torchvision's, width 1/32."""
    rng, arrays = np.random.default_rng(0), {}

    def conv(name, outputs, inputs, kernel, bias=False):
        arrays[f"{name}.weight"] = rng.normal(size=(outputs, inputs, kernel, kernel))
        if bias:
            arrays[f"{name}.bias"] = rng.normal(size=outputs)

    def norm(name, features):
        for kind in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{name}.{kind}"] = rng.uniform(0.5, 1.0, features)
        arrays[f"{name}.num_batches_tracked"] = np.ones((), np.int64)

    conv("backbone.conv1", 2, 3, 7)
    norm("backbone.bn1", 2)
    inputs = 2
    for stage, (depth, outputs) in enumerate(zip(depths, (8, 16, 32, 64), strict=True), start=1):
        for index in range(depth):
            block, inner = f"backbone.layer{stage}.{index}", outputs // 4
            plan = ((1, inner, inputs, 1), (2, inner, inner, 3), (3, outputs, inner, 1))
            for number, *sizes in plan:
                conv(f"{block}.conv{number}", *sizes)
                norm(f"{block}.bn{number}", sizes[0])
            if index == 0:
                conv(f"{block}.downsample.0", outputs, inputs, 1)
                norm(f"{block}.downsample.1", outputs)
            inputs = outputs
    for index, kernel in enumerate((1, 3, 3, 3)):
        conv(f"classifier.0.convs.{index}.0", 8, 64, kernel)
        norm(f"classifier.0.convs.{index}.1", 8)
    conv("classifier.0.convs.4.1", 8, 64, 1)
    norm("classifier.0.convs.4.2", 8)
    conv("classifier.0.project.0", 8, 40, 1)
    norm("classifier.0.project.1", 8)
    for name, inputs, place in (("classifier", 8, 1), ("aux_classifier", 32, 0)):
        conv(f"{name}.{place}", 8, inputs, 3)
        norm(f"{name}.{place + 1}", 8)
        conv(f"{name}.4", 21, 8, 1, bias=True)
    return arrays


@pytest.fixture
def state_dict():
    return state_dict_of(NETWORK.depths)


def test_every_array_finds_its_place(variables, state_dict):
    params, stats = deeplab_v3.convert(state_dict, variables["params"], variables["batch_stats"])
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), {"params": params, "batch_stats": stats})
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), variables)
    given = [a for name, a in state_dict.items() if not name.endswith("num_batches_tracked")]
    total = sum(np.sum(np.asarray(x)) for x in jax.tree.leaves((params, stats)))
    np.testing.assert_allclose(total, sum(np.sum(a) for a in given), rtol=1e-3)
    np.testing.assert_allclose(
        params["backbone"]["layer2_1"]["conv2"]["kernel"][0, 2, 1, 3],
        state_dict["backbone.layer2.1.conv2.weight"][3, 1, 0, 2],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        params["aspp"]["dilated3"]["conv"]["kernel"][0, 2, 1, 3],
        state_dict["classifier.0.convs.3.0.weight"][3, 1, 0, 2],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        params["auxiliary_classify"]["conv"]["bias"], state_dict["aux_classifier.4.bias"], rtol=1e-6
    )


def test_an_imagenet_backbone_leaves_the_rest(variables, state_dict):
    prefix = "backbone."
    arrays = {k.removeprefix(prefix): a for k, a in state_dict.items() if k.startswith(prefix)}
    arrays |= {"fc.weight": np.ones((10, 64)), "fc.bias": np.ones(10)}
    own = variables["params"], variables["batch_stats"]
    new = deeplab_v3.convert_backbone(arrays, *own)
    whole = deeplab_v3.convert(state_dict, *own)
    for actual, old, published in zip(new, own, whole, strict=True):
        expected = {**old, "backbone": published["backbone"]}
        jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("whole", [True, False])
def test_summed_kernels_see_grey_images_as_the_published_ones_do(whole, variables, state_dict):
    """One input channel against grey images repeated to three."""
    arrays, convert = state_dict, deeplab_v3.convert
    if not whole:
        prefix, convert = "backbone.", deeplab_v3.convert_backbone
        arrays = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
    grey = jnp.asarray(np.random.default_rng(1).normal(size=(2, 16, 24, 1)), jnp.float32)
    maps = []
    for channels in (1, 3):
        network = NETWORK.clone(input_channels=channels)
        shapes = drawn.variables(network, grey)
        params, stats = convert(arrays, shapes["params"], shapes["batch_stats"])
        assert params["backbone"]["stem_conv1"]["kernel"].shape[2] == channels
        given = {"params": params, "batch_stats": stats}
        maps.append(jax.jit(network.apply)(given, grey).encoder)
    np.testing.assert_allclose(*maps, rtol=1e-4, atol=1e-4 * np.abs(maps[1]).max())


def test_a_checkpoint_of_another_network_is_an_error(variables, state_dict):
    del state_dict["classifier.4.bias"]
    state_dict["backbone.layer3.1.conv1.weight"] = np.ones((8, 32, 1, 1))
    with pytest.raises(InputError) as error:
        deeplab_v3.convert(state_dict, variables["params"], variables["batch_stats"])
    assert "1 missing: classifier.4.bias" in str(error.value)
    assert "1 unexpected: backbone.layer3.1.conv1.weight" in str(error.value)
