import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad import resampling
from jaxad.models import layers

CASES = range(5)
BILINEAR = jax.jit(resampling.bilinear, static_argnames=("size", "align_corners"))
MEANS = jax.jit(resampling.adaptive_average_pool, static_argnames="size")
CONVENTIONS = {False: "align_false", True: "align_true"}
both = pytest.mark.parametrize("align_corners", CONVENTIONS)


def golden(case):
    """The arrays of a case, channels last."""
    arrays = vectors.load("pans", "resize")
    arrays = {k.split("/")[0]: v for k, v in arrays.items() if k.endswith(f"/{case}")}
    size = tuple(int(n) for n in arrays.pop("size"))
    return size, {k: np.moveaxis(v, 1, -1) for k, v in arrays.items()}


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@both
@pytest.mark.parametrize("case", CASES)
def test_golden_bilinear(case, align_corners):
    size, arrays = golden(case)
    actual = BILINEAR(jnp.asarray(arrays["x"]), size, align_corners=align_corners)
    # PyTorch's places are float32: up to 1.5e-6 off ours.
    vectors.assert_close(actual, arrays[CONVENTIONS[align_corners]], rtol=0, atol=3e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_golden_adaptive_pooling(case, bins):
    _, arrays = golden(case)
    actual = MEANS(jnp.asarray(arrays["x"]), (bins, bins))
    vectors.assert_close(actual, arrays[f"adaptive_avg_{bins}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", [0, 1, 3, 4])  # Case 2 is a single pixel.
def test_golden_max_pool(case):
    _, arrays = golden(case)
    actual = layers.max_pool(jnp.asarray(arrays["x"]))
    np.testing.assert_array_equal(actual, arrays["maxpool_3_2_1"])


def test_max_pool_pads_with_minus_infinity():
    np.testing.assert_array_equal(layers.max_pool(-jnp.ones((1, 4, 5, 1))), -jnp.ones((1, 2, 3, 1)))


@both
@pytest.mark.parametrize("size", [(11, 13), (4, 3), (7, 5), (1, 1)])
def test_rows_are_those_of_the_whole(size, align_corners):
    values = draw(2, 7, 5, 3)
    whole = BILINEAR(values, size, align_corners=align_corners)
    rows = jax.jit(
        lambda start: resampling.bilinear_rows(values, size, start, 3, align_corners=align_corners)
    )
    for start in range(0, size[0], 3):
        wanted = whole[:, np.minimum(start + np.arange(3), size[0] - 1)]
        np.testing.assert_allclose(rows(start), wanted, atol=1e-6)


def test_hand_examples():
    line = jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1)
    half_pixel = BILINEAR(line, (1, 4), align_corners=False)[0, 0, :, 0]
    np.testing.assert_allclose(half_pixel, [0, 1, 3, 4], atol=1e-6)  # -1/4, 1/4, 3/4, 5/4: held.
    corners = BILINEAR(line, (1, 5), align_corners=True)[0, 0, :, 0]
    np.testing.assert_allclose(corners, [0, 1, 2, 3, 4], atol=1e-6)
    five = jnp.arange(5.0).reshape(1, 1, 5, 1)
    means = MEANS(five, (1, 2))[0, 0, :, 0]
    np.testing.assert_allclose(means, [1, 3])  # Pixel 2 is in both.


@both
def test_constants_and_extremes_stay(align_corners):
    constant = BILINEAR(jnp.full((1, 5, 3, 1), 7.0), (9, 8), align_corners=align_corners)
    np.testing.assert_allclose(constant, 7.0, rtol=1e-6)
    values = draw(1, 6, 6, 2)
    enlarged = BILINEAR(values, (17, 23), align_corners=align_corners)
    assert jnp.max(enlarged) <= jnp.max(values) + 1e-6
    assert jnp.min(enlarged) >= jnp.min(values) - 1e-6


@both
def test_corners_stay_where_they_are_aligned(align_corners):
    values = draw(1, 4, 5, 1)
    enlarged = BILINEAR(values, (9, 9), align_corners=align_corners)
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        np.testing.assert_allclose(enlarged[0, row, column], values[0, row, column], rtol=1e-5)


@both
@pytest.mark.parametrize("size", [(9, 4), (2, 11)])
def test_gradients_are_finite_and_those_of_the_transposed_map(size, align_corners):
    values, cotangent = draw(1, 4, 6, 2), draw(1, *size, 2, seed=1)

    def resize(x):
        return BILINEAR(x, size, align_corners=align_corners)

    gradient = jax.jit(jax.grad(lambda x: jnp.sum(resize(x) * cotangent)))(values)
    assert jnp.all(jnp.isfinite(gradient))
    np.testing.assert_allclose(
        jnp.sum(gradient * values), jnp.sum(resize(values) * cotangent), rtol=1e-4
    )


def test_gradient_of_means_shares_each_bin_among_its_pixels():
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(MEANS(x, (1, 2)))))
    shares = gradient(jnp.zeros((1, 1, 5, 1)))[0, 0, :, 0]
    np.testing.assert_allclose(shares, np.array([1, 1, 2, 1, 1]) / 3, rtol=1e-6)


@pytest.mark.parametrize("bins", [(1, 1), (3, 2)])
def test_16_bit_maps_are_averaged_in_float32(bins):
    values = jnp.ones((1, 60, 60, 1), jnp.bfloat16)
    pooled = MEANS(values, bins)
    assert pooled.dtype == jnp.bfloat16
    np.testing.assert_array_equal(pooled.astype(jnp.float32), 1.0)


@pytest.mark.parametrize("inputs, outputs", [(0, 3), (3, 0)])
def test_empty_lines_are_errors(inputs, outputs):
    with pytest.raises(ValueError, match=f"at least 1, got {inputs} and {outputs}"):
        resampling.taps(inputs, outputs, align_corners=True)
