import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import vectors

from jaxad.losses import filtering

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(2, 9, 14))
KERNEL = np.array([0.1, -0.3, 0.5, 0.2, 0.7])  # Not symmetric: shows which way it is applied.
SCIPY_MODES = {"reflect": "mirror", "edge": "nearest", "zero": "constant"}


def dilated(kernel, dilation):
    taps = np.zeros(dilation * (len(kernel) - 1) + 1)
    taps[::dilation] = kernel
    return taps


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", SCIPY_MODES)
def test_padded_filter_is_that_of_scipy(padding, dilation):
    expected = VALUES
    for axis in (1, 2):
        taps = dilated(KERNEL, dilation)
        expected = scipy.ndimage.correlate1d(expected, taps, axis, mode=SCIPY_MODES[padding])
    with jax.enable_x64(True):
        actual = filtering.separable_filter(VALUES, KERNEL, padding=padding, dilation=dilation)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dilation", [1, 20])
@pytest.mark.parametrize("padding", [*SCIPY_MODES, "valid"])
def test_long_sides_are_filtered_in_blocks_to_the_same(padding, dilation):
    image = np.random.default_rng(0).normal(size=(321, 330))  # 80 entries a block at dilation 20.
    expected, taps = image, dilated(KERNEL, dilation)
    for axis in (0, 1):
        mode = SCIPY_MODES.get(padding, "constant")
        expected = scipy.ndimage.correlate1d(expected, taps, axis, mode=mode)
    if padding == "valid":
        border = len(taps) // 2
        expected = expected[border:-border, border:-border]
    with jax.enable_x64(True):
        actual = filtering.separable_filter(image, KERNEL, padding=padding, dilation=dilation)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dilation", [1, 2])
def test_valid_filter_is_a_convolution_with_the_outer_product(dilation):
    expected = jax.lax.conv_general_dilated(
        jnp.asarray(VALUES, jnp.float32)[:, None],
        jnp.asarray(np.outer(KERNEL, KERNEL), jnp.float32)[None, None],
        window_strides=(1, 1),
        padding="VALID",
        rhs_dilation=(dilation, dilation),
    )[:, 0]
    actual = filtering.separable_filter(VALUES, KERNEL, dilation=dilation)
    assert actual.shape == (2, 9 - 4 * dilation, 14 - 4 * dilation)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6)


def test_outputs_by_hand():
    # One row of ones, so the vertical filter is the tap in the middle: 3 at "zero".
    row = jnp.array([[1.0, 2.0, 4.0]])
    # [1, 3, 0] at places -1, 0, 1: 1 · left + 3 · own value, then times 3.
    actual = filtering.separable_filter(row, [1.0, 3.0, 0.0], padding="zero")
    np.testing.assert_allclose(actual, [[9.0, 21.0, 42.0]])


@pytest.mark.parametrize("case", ["0", "1"])
def test_released_blur_of_pebal_and_its_gradient(case):
    given = vectors.load("pebal", "gaussian_blur")
    kernel = filtering.gaussian_kernel(7, 1.0)
    np.testing.assert_allclose(kernel, given["kernel_1d"], rtol=0, atol=3e-8)
    blur, pull = jax.vjp(
        lambda x: filtering.separable_filter(x, kernel, padding="reflect"), given[f"x/{case}"]
    )
    np.testing.assert_allclose(blur, given[f"y/{case}"], rtol=0, atol=1e-6)
    (gradient,) = pull(jnp.asarray(given[f"cotangent/{case}"]))
    np.testing.assert_allclose(gradient, given[f"grad_x/{case}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("padding", ["valid", "reflect", "edge"])
def test_weights_of_sum_one_keep_a_constant(padding):
    kernel = filtering.gaussian_kernel(5, 0.8)
    actual = filtering.separable_filter(jnp.full((6, 7), 3.0), kernel, padding=padding)
    np.testing.assert_allclose(actual, 3.0, rtol=1e-6)


def test_axes_may_be_any_two():
    images = np.moveaxis(VALUES[..., None] * [1.0, 2.0], 1, 2)  # [2, 14, 9, 2]
    actual = filtering.separable_filter(images, KERNEL, axes=(1, -2))
    expected = filtering.separable_filter(VALUES, KERNEL)
    np.testing.assert_allclose(actual[..., 1], 2 * np.swapaxes(expected, 1, 2), atol=2e-6)


def test_gaussian_kernel_of_three_taps():
    # e = exp(-1 / 4.5) = 0.800737; 1 / (1 + 2 e) = 0.384397 in the middle.
    expected = [0.30780134, 0.38439736, 0.30780134]
    np.testing.assert_allclose(filtering.gaussian_kernel(3, 1.5), expected, atol=1e-7)


@pytest.mark.parametrize(("size", "sigma"), [(1, 0.5), (2, 1e-3), (7, 1.0), (8, 2.5), (11, 1e6)])
def test_gaussian_kernel_is_symmetric_and_sums_to_one(size, sigma):
    kernel = filtering.gaussian_kernel(size, sigma)
    np.testing.assert_array_equal(kernel, kernel[::-1])
    np.testing.assert_allclose(kernel.sum(), 1.0, rtol=1e-15)


@pytest.mark.parametrize(("size", "sigma", "name"), [(0, 1.0, "size"), (3, 0.0, "sigma")])
def test_gaussian_kernel_needs_a_size_and_a_width(size, sigma, name):
    with pytest.raises(ValueError, match=f"{name}: expected"):
        filtering.gaussian_kernel(size, sigma)
