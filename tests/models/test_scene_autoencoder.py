"""`jaxad.models.scene_autoencoder`."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxad.losses import reconstruction
from jaxad.models.scene_autoencoder import SceneAutoencoder, transposed_convolution

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("size", [(4, 6), (1, 3)])
def test_transposed_convolution_is_the_transpose_of_the_convolution(size):
    inputs, kernel = draw(2, *size, 5), draw(3, 3, 5, 4, seed=1)

    def forward(x):  # [B, 2 H, 2 W, F] to [B, H, W, C], with the same kernel the other way.
        swapped = jnp.swapaxes(kernel, 2, 3)
        padding = ((1, 1), (1, 1))
        return jax.lax.conv_general_dilated(
            x, swapped, (2, 2), padding, dimension_numbers=DIMENSIONS
        )

    zeros = jnp.zeros((2, 2 * size[0], 2 * size[1], 4))
    (expected,) = jax.vjp(forward, zeros)[1](inputs)
    actual = transposed_convolution(inputs, kernel)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_transposed_convolution_is_that_of_inputs_spread_out():
    inputs, kernel = draw(2, 4, 3, 5), draw(3, 3, 5, 4, seed=1)
    expected = jax.lax.conv_general_dilated(
        inputs,
        kernel[::-1, ::-1],
        window_strides=(1, 1),
        padding=((1, 2), (1, 2)),
        lhs_dilation=(2, 2),
        dimension_numbers=DIMENSIONS,
    )
    actual = transposed_convolution(inputs, kernel)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_transposed_convolution_by_hand():
    # One row of inputs 1, 10; of the kernel only its middle row: 2, 3, 5.
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, :, 0, 0].set(jnp.array([2.0, 3.0, 5.0]))
    outputs = transposed_convolution(jnp.array([[[[1.0], [10.0]]]]), kernel)[0, :, :, 0]
    # 1 · 3, 1 · 5 + 10 · 2, 10 · 3, 10 · 5; the second row reads the kernel's other rows.
    np.testing.assert_allclose(outputs, [[3.0, 25.0, 30.0, 50.0], [0.0] * 4])


def test_channels_of_the_document():
    shapes = jax.eval_shape(SceneAutoencoder().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    params = shapes["params"]
    layers = [f"{kind}{i}" for kind in ("encode", "decode") for i in range(4)]
    kernels = {name: params[name]["kernel"].shape for name in layers}
    widths = (3, 32, 64, 128, 256)
    for i in range(4):
        assert kernels[f"encode{i}"] == (3, 3, widths[i], widths[i + 1])
        assert kernels[f"decode{i}"] == (3, 3, widths[i + 1], widths[i])
    convolutions = 2 * 9 * sum(a * b for a, b in itertools.pairwise(widths))
    norms = 2 * (sum(widths[1:]) + sum(widths[1:-1]))
    assert sum(np.prod(x.shape) for x in jax.tree.leaves(params)) == convolutions + norms + 3


def test_width_scales_the_channels():
    model = SceneAutoencoder(width=1 / 16)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
    assert [params[f"encode{i}"]["kernel"].shape[-1] for i in range(4)] == [2, 4, 8, 16]


MODEL = SceneAutoencoder(width=1 / 16)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(MODEL.init)(jax.random.key(0), draw(1, 16, 16, 3))


@pytest.mark.parametrize("size", [(32, 48), (17, 31), (1, 1), (5, 16)])
def test_images_of_any_size_come_back_at_their_size(size, variables):
    outputs = jax.jit(MODEL.apply)(variables, draw(2, *size, 3))
    assert outputs.shape == (2, *size, 3)
    assert outputs.dtype == jnp.float32
    assert np.isfinite(outputs).all()


def test_an_odd_side_is_transposed_as_well(variables):
    # The encoder's convolution of 7 has 4 outputs; the transpose of that very convolution gives 7.
    kernel = variables["params"]["encode0"]["kernel"]

    def forward(x):
        padding = ((1, 1), (1, 1))
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), padding, dimension_numbers=DIMENSIONS
        )

    inputs = draw(1, 4, 4, kernel.shape[-1])
    (expected,) = jax.vjp(forward, jnp.zeros((1, 7, 7, 3)))[1](inputs)
    actual = transposed_convolution(inputs, jnp.swapaxes(kernel, 2, 3))[:, :7, :7]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_16_bit_computation_gives_float32_reconstructions(variables):
    model, images = MODEL.clone(dtype=jnp.bfloat16), draw(2, 16, 16, 3)
    outputs = jax.jit(model.apply)(variables, images)
    assert outputs.dtype == jnp.float32
    expected = MODEL.apply(variables, images)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=0.05 * np.abs(expected).max())


def test_rows_that_are_not_real_change_nothing(variables):
    images = draw(3, 16, 16, 3)
    where = jnp.array([True, True, False])
    run = jax.jit(lambda x, w: MODEL.apply(variables, x, w, train=True, mutable=["batch_stats"]))
    outputs, state = run(images, where)
    changed, other = run(images.at[2].set(100.0), where)
    np.testing.assert_allclose(changed[:2], outputs[:2], rtol=0, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state, other)


def test_training_lowers_the_error_of_a_texture_and_leaves_another_high():
    columns = jnp.sin(jnp.arange(32) * 0.8)
    seen = jnp.broadcast_to(columns[None, None, :, None], (4, 32, 32, 3))
    model, optimizer = SceneAutoencoder(width=1 / 8), optax.sgd(0.05, momentum=0.9, nesterov=True)
    variables = jax.jit(model.init)(jax.random.key(0), seen)

    @jax.jit
    def step(variables, state):
        def loss(params):
            given = {**variables, "params": params}
            outputs, new = model.apply(given, seen, train=True, mutable=["batch_stats"])
            return jnp.mean(reconstruction.squared_error_mean(seen, outputs)), new

        (value, new), slope = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        updates, state = optimizer.update(slope, state)
        return {"params": optax.apply_updates(variables["params"], updates), **new}, state, value

    state = optimizer.init(variables["params"])
    values = []
    for _ in range(40):
        variables, state, value = step(variables, state)
        values.append(float(value))
    assert values[-1] < 0.1 * values[0]
    strange = seen.at[:, 8:24, 8:24].set(jnp.swapaxes(seen, 1, 2)[:, 8:24, 8:24])
    scores = 3 * reconstruction.squared_error_map(strange, model.apply(variables, strange))
    inside = jnp.mean(scores[:, 8:24, 8:24])
    assert inside > 2 * jnp.mean(scores[:, :, :4])


def test_shape_error():
    with pytest.raises(ValueError, match=r"images: expected \[B, H, W, C\], got \(16, 16, 3\)"):
        MODEL.init(jax.random.key(0), draw(16, 16, 3))
