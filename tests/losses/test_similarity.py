import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxad.losses import filtering, similarity

RANGE = similarity.NORMALIZED_RANGE
LOCAL = {"window": similarity.LOCAL_WINDOW, "weights": similarity.LOCAL_WEIGHTS}
SMALL = {"window": 3, "weights": (0.4, 0.6), "data_range": 4.0}
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 9, 12, 2)).astype(np.float32)
OTHERS = (IMAGES + 0.7 * RNG.normal(size=IMAGES.shape)).astype(np.float32)

small_ssim = jax.jit(lambda x, y: similarity.ssim(x, y, data_range=4.0, window=3))
small_ms_ssim = jax.jit(lambda x, y: similarity.ms_ssim(x, y, **SMALL))
local_ms_ssim = jax.jit(lambda x, y: similarity.ms_ssim(x, y, data_range=RANGE, **LOCAL))


def flat(value, side=32):
    return jnp.full((1, side, side, 1), value)


def gradient_of_mean_loss(function, images, reconstructions):
    loss = jax.jit(jax.grad(lambda y: jnp.mean(1.0 - function(images, y))))
    return loss(jnp.asarray(reconstructions))


@pytest.mark.parametrize("case", ["win11_size32", "win3_size32", "win7_size20"])
def test_ssim_as_released(case):
    expected = vectors.part(vectors.load("igd", "ssim"), case + "/")
    x, y, window = expected["x"], expected["y"], len(expected["window"])
    options = {"data_range": RANGE, "window": window}
    np.testing.assert_allclose(
        filtering.gaussian_kernel(window, 1.5), expected["window"], atol=5e-8
    )
    value = jax.jit(lambda x, y: similarity.ssim(x, y, **options))(x, y)
    assert value.shape == (2,)
    np.testing.assert_allclose(value, expected["ssim"], rtol=0, atol=1e-6)
    maps = jax.jit(lambda x, y: similarity.ssim_map(x, y, **options))(x, y)
    assert maps.shape == expected["map"].shape
    np.testing.assert_allclose(maps, expected["map"], rtol=0, atol=5e-5)
    gradient = gradient_of_mean_loss(lambda a, b: similarity.ssim(a, b, **options), x, y)
    np.testing.assert_allclose(gradient, expected["grad_y_of_mean_loss"], rtol=0, atol=1e-8)


MS_SSIM_CASES = [
    ("msssim_local", "local32", similarity.LOCAL_WEIGHTS),
    ("msssim_local", "local32_anticorrelated", similarity.LOCAL_WEIGHTS),
    ("msssim_local", "local32_constant", similarity.LOCAL_WEIGHTS),
    ("msssim_local", "local32_identical", similarity.LOCAL_WEIGHTS),
    ("msssim_local", "odd_37x45_win3", similarity.LOCAL_WEIGHTS),
    ("msssim_global", "global176", similarity.GLOBAL_WEIGHTS),
    ("msssim_global", "global_odd_163x175", similarity.GLOBAL_WEIGHTS),
]


@pytest.mark.parametrize(("file", "case", "weights"), MS_SSIM_CASES, ids=lambda x: str(x)[:20])
def test_ms_ssim_as_released(file, case, weights):
    expected = vectors.part(vectors.load("igd", file), case + "/")
    x, y = expected["x"], expected["y"]
    options = {"data_range": RANGE, "window": int(expected["win_size"]), "weights": weights}

    @jax.jit
    def run(x, y):
        value, pull = jax.vjp(lambda y: similarity.ms_ssim(x, y, **options), y)
        (gradient,) = pull(jnp.full(value.shape, -1.0 / value.size, value.dtype))
        return value, gradient, similarity.ms_ssim_levels(x, y, **options)

    value, gradient, levels = run(x, y)
    np.testing.assert_allclose(value, expected["msssim"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(gradient, expected["grad_y_of_mean_loss"], rtol=0, atol=1e-8)
    assert len(levels) == len(weights)
    for m, level in enumerate(levels):
        if f"map{m}" in expected:
            # Their float32 maps of the anticorrelated case are off by 4e-5 themselves.
            np.testing.assert_allclose(level, expected[f"map{m}"], rtol=0, atol=1.5e-4)
    with jax.enable_x64(True):
        exact_ms_ssim = jax.jit(lambda x, y: similarity.ms_ssim(x, y, floor=0.0, **options))
        exact = exact_ms_ssim(x.astype(float), y.astype(float))
        np.testing.assert_allclose(exact, expected["msssim_float64"], rtol=0, atol=1e-14)


def textbook_map(x, y, data_range, window):
    """l · cs from means, variances and the covariance, filtered by SciPy, in float64."""
    kernel, margin = filtering.gaussian_kernel(window, 1.5), window // 2

    def blur(values):
        for axis in (1, 2):
            values = scipy.ndimage.correlate1d(values, kernel, axis)
        return values[:, margin:-margin, margin:-margin]

    x, y = x.astype(np.float64), y.astype(np.float64)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    a, b = blur(x), blur(y)
    cov, var_x, var_y = blur(x * y) - a * b, blur(x * x) - a * a, blur(y * y) - b * b
    luminance = (2 * a * b + c1) / (a * a + b * b + c1)
    return luminance * (2 * cov + c2) / (var_x + var_y + c2)


@pytest.mark.parametrize("window", [3, 7])
def test_the_form_in_differences_is_the_textbook_form(window):
    with jax.enable_x64(True):
        actual = similarity.ssim_map(
            IMAGES.astype(float), OTHERS.astype(float), data_range=4.0, window=window
        )
        expected = textbook_map(IMAGES, OTHERS, 4.0, window)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-13)


def test_ssim_is_that_of_dm_pix():
    x = RNG.uniform(size=(2, 16, 14, 3)).astype(np.float32)
    y = np.clip(x + 0.2 * RNG.normal(size=x.shape), 0, 1).astype(np.float32)
    np.testing.assert_allclose(
        similarity.ssim(x, y, data_range=1.0), dm_pix.ssim(x, y, max_val=1.0), atol=1e-5
    )


def test_ssim_is_the_mean_of_its_map():
    maps = similarity.ssim_map(IMAGES, OTHERS, data_range=4.0, window=3)
    assert maps.shape == (3, 7, 10, 2)
    expected = np.mean(maps, axis=(1, 2, 3))
    np.testing.assert_allclose(small_ssim(IMAGES, OTHERS), expected, rtol=2e-6)


def test_one_level_is_ssim_cut_off_at_zero():
    # About a mean of 5, luminance is near 1 and the negated structure makes cs negative.
    x = 5 + IMAGES[..., :1]
    y = np.concatenate([5 + OTHERS[:2, ..., :1], 5 - IMAGES[2:, ..., :1]])
    single = small_ssim(x, y)
    assert single[2] < 0.0
    actual = similarity.ms_ssim(x, y, data_range=4.0, window=3, weights=(1.0,), floor=0.0)
    np.testing.assert_allclose(actual, np.maximum(single, 0.0), atol=1e-6)


@pytest.mark.parametrize("image", ["noise", "flat", "bright"])
def test_identical_images_give_exactly_one_and_no_gradient(image):
    x = {"noise": IMAGES, "flat": np.full_like(IMAGES, 0.7), "bright": IMAGES + 100}[image]
    for function in (small_ssim, small_ms_ssim):
        np.testing.assert_array_equal(function(x, x), np.ones(3))
        np.testing.assert_array_equal(gradient_of_mean_loss(function, x, x), np.zeros_like(x))


@pytest.mark.parametrize(("a", "b"), [(0.7, 0.4), (0.02, -0.02), (0.0, 1.5)])
def test_flat_images_differ_in_luminance_alone(a, b):
    # cs = C2 / C2 = 1 at all levels; l = (2 a b + C1) / (a^2 + b^2 + C1), to the last exponent.
    c1 = (0.01 * RANGE) ** 2
    luminance = (2 * a * b + c1) / (a * a + b * b + c1)
    assert luminance > 0.0
    expected = luminance ** similarity.LOCAL_WEIGHTS[-1]
    np.testing.assert_allclose(local_ms_ssim(flat(a), flat(b)), [expected], rtol=2e-5)


def test_flat_images_of_opposite_sign_meet_the_floor():
    value = local_ms_ssim(flat(0.7), flat(-0.4))
    np.testing.assert_allclose(value, [1e-12 ** similarity.LOCAL_WEIGHTS[-1]], rtol=1e-5)
    options = {"data_range": RANGE, "floor": 0.0, **LOCAL}
    exact = jax.jit(lambda x, y: similarity.ms_ssim(x, y, **options))(flat(0.7), flat(-0.4))
    np.testing.assert_array_equal(exact, [0.0])


@pytest.mark.parametrize("floor", [1e-12, 0.0])
def test_a_negative_level_has_no_gradient(floor):
    options = {**SMALL, "floor": floor}
    x = IMAGES - IMAGES.mean(axis=(1, 2), keepdims=True)
    gradient = gradient_of_mean_loss(lambda a, b: similarity.ms_ssim(a, b, **options), x, -x)
    # Of two levels, the first is floored: what is left of the second is below 1e-12^0.4 = 2e-5.
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() < 1e-5


def test_a_flat_reconstruction_can_learn():
    # cs = C2 / (var x + C2) is above 0 at all levels, so no level is floored.
    x = 0.5 + 0.1 * IMAGES
    gradient = gradient_of_mean_loss(small_ms_ssim, x, np.full_like(x, 0.5))
    assert np.abs(gradient).max() > 1e-4


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 1.0, 50.0]), mix=st.floats(-1, 1))
def test_values_are_bounded_and_symmetric(seed, scale, mix):
    rng = np.random.default_rng(seed)
    x, noise = (rng.normal(size=IMAGES.shape) * scale for _ in range(2))
    x, y = x.astype(np.float32), (mix * x + (1 - abs(mix)) * noise).astype(np.float32)
    single, multiple = small_ssim(x, y), small_ms_ssim(x, y)
    assert single.shape == multiple.shape == (3,)
    assert (np.abs(single) <= 1.0).all()
    assert (multiple >= 0.0).all()
    assert (multiple <= 1.0).all()
    np.testing.assert_array_equal(single, small_ssim(y, x))
    np.testing.assert_array_equal(multiple, small_ms_ssim(y, x))


def test_scaling_images_and_range_together_changes_nothing():
    actual = similarity.ms_ssim(8 * IMAGES, 8 * OTHERS, **{**SMALL, "data_range": 32.0})
    np.testing.assert_allclose(actual, small_ms_ssim(IMAGES, OTHERS), rtol=1e-6)


def test_a_common_flip_and_an_order_of_channels_change_nothing():
    # Along the even side: an odd one is padded in front alone.
    actual = small_ms_ssim(IMAGES[:, :, ::-1, ::-1], OTHERS[:, :, ::-1, ::-1])
    np.testing.assert_allclose(actual, small_ms_ssim(IMAGES, OTHERS), rtol=1e-6)


def test_less_noise_is_more_similar():
    values = [small_ms_ssim(IMAGES, IMAGES + t * (OTHERS - IMAGES)) for t in (0.0, 0.1, 0.5, 1.0)]
    assert (np.diff(np.stack(values), axis=0) < 0).all()


def test_small_images_are_refused_with_the_least_side():
    options = {"data_range": RANGE}
    with pytest.raises(ValueError, match=r"images: expected sides of at least 161 .*\(1, 160"):
        similarity.ms_ssim(flat(0.0, 160), flat(0.0, 160), **options)
    with pytest.raises(ValueError, match="at least 17"):
        similarity.ms_ssim_levels(flat(0.0, 16), flat(0.0, 16), **options, **LOCAL)
    sizes = [
        s.shape[1]
        for s in similarity.ms_ssim_levels(flat(0.0, 17), flat(0.0, 17), **options, **LOCAL)
    ]
    assert sizes == [15, 7, 3, 1]  # Of images of 17, 9, 5, 3.


def test_dissimilarity_map_is_the_weighted_sum_over_levels():
    levels = similarity.ms_ssim_levels(IMAGES, OTHERS, **SMALL)
    resized = [np.asarray(similarity.resize_nearest(level, (9, 12))) for level in levels]
    expected = 0.4 * (1 - resized[0]) + 0.6 * (1 - resized[1])
    actual = similarity.dissimilarity_map(IMAGES, OTHERS, **SMALL)
    assert actual.shape == (3, 9, 12, 2)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_maps_are_zero_for_identical_images_and_at_most_the_sum_of_weights():
    for function in (similarity.dissimilarity_map, similarity.dissimilarity_product_map):
        np.testing.assert_array_equal(function(IMAGES, IMAGES, **SMALL), np.zeros_like(IMAGES))
        worst = function(IMAGES, -IMAGES, **SMALL)
        assert worst.min() >= 0.0
        assert worst.max() <= 1.0 + 1e-6


def test_product_map_of_one_level_is_the_sum_map():
    options = {**SMALL, "weights": (1.0,)}
    expected = similarity.dissimilarity_map(IMAGES, OTHERS, **options)
    actual = similarity.dissimilarity_product_map(IMAGES, OTHERS, **options)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_product_map_of_flat_images_is_one_minus_ms_ssim():
    options = {"data_range": RANGE, **LOCAL}
    product_map = jax.jit(lambda x, y: similarity.dissimilarity_product_map(x, y, **options))
    maps = product_map(flat(0.7), flat(0.4))
    expected = 1.0 - local_ms_ssim(flat(0.7), flat(0.4))
    np.testing.assert_allclose(maps, np.full((1, 32, 32, 1), expected), rtol=1e-4)


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (1, 7, 8, 1), (1, 5, 9, 2)])
def test_halving_is_pooling_with_counted_zeros(shape):
    images = RNG.normal(size=shape).astype(np.float32)
    padding = [(n % 2, n % 2) if axis in (1, 2) else (0, 0) for axis, n in enumerate(shape)]
    expected = jax.lax.reduce_window(
        images, np.float32(0), jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), padding
    )
    assert expected.shape[1] == (shape[1] + 1) // 2
    np.testing.assert_allclose(similarity.halve(images), expected / 4, rtol=1e-6, atol=1e-7)


def test_nearest_takes_the_floor():
    columns = jnp.arange(3.0).reshape(1, 1, 3, 1)
    actual = similarity.resize_nearest(columns, (2, 5))
    np.testing.assert_array_equal(actual[0, :, :, 0], [[0, 0, 1, 1, 2]] * 2)  # floor(3 i / 5)
    shrunk = similarity.resize_nearest(jnp.arange(5.0).reshape(1, 5, 1, 1), (3, 1))
    np.testing.assert_array_equal(shrunk[0, :, 0, 0], [0, 1, 3])  # floor(5 i / 3)
