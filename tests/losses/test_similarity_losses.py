import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.losses import patches, similarity, similarity_losses

RANGE = similarity.NORMALIZED_RANGE
GLOBAL = {"data_range": RANGE}
LOCAL = {
    "data_range": RANGE,
    "window": similarity.LOCAL_WINDOW,
    "weights": similarity.LOCAL_WEIGHTS,
}
GREY = np.array(similarity_losses.GREY_WEIGHTS)
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 6, 7, 2)).astype(np.float32)
OTHERS = (IMAGES + 0.5 * RNG.normal(size=IMAGES.shape)).astype(np.float32)
SMALL = {"data_range": 3.0, "window": 3, "weights": (0.4, 0.6)}


def pixels(arrays, name):
    return arrays[f"{name}_int8_over_32"].astype(np.float32) / 32


def run(function, *arrays, **options):
    return jax.jit(lambda *arrays: function(*arrays, **options))(*arrays)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (similarity_losses.mae_ms_ssim, "l_r_unscaled"),
        (similarity_losses.mae_ms_ssim_range_scaled, "l_r_range_scaled"),
        (similarity_losses.mae_ms_ssim_released, "l_r_released_local_score"),
    ],
)
def test_reconstruction_losses_of_igd(function, name):
    expected = vectors.load("igd", "losses")
    x, y = expected["x"], expected["x_hat"]
    np.testing.assert_allclose(run(function, x, y, **LOCAL), expected[name], rtol=3e-6)
    with jax.enable_x64(True):
        exact = run(function, x.astype(float), y.astype(float), **LOCAL)
        assert exact.shape == (4,)
        np.testing.assert_allclose(exact, expected[name], rtol=1e-13)


def test_absolute_error_of_igd():
    expected = vectors.load("igd", "losses")
    actual = similarity_losses.mae(expected["x"], expected["x_hat"])
    np.testing.assert_allclose(actual, expected["l1_mean"], rtol=1e-6)


def test_released_heatmap_of_the_global_model():
    given = vectors.load("igd", "heatmap_small")
    x, y = pixels(given, "global_image"), pixels(given, "global_reconstruction")
    function = similarity_losses.mae_ms_ssim_range_scaled_map
    maps = run(function, x, y, channel_weights=GREY, **GLOBAL)
    np.testing.assert_allclose(maps[0], given["heatmap_global"], rtol=0, atol=1e-5)


def test_released_heatmap_of_the_local_model():
    given = vectors.load("igd", "heatmap_small")
    image, y = pixels(given, "local_image"), pixels(given, "local_reconstruction")

    def heatmap(image, y):
        cut = patches.extract_patches(image, size=32, stride=16)[0]
        maps = similarity_losses.mae_ms_ssim_range_scaled_map(cut, y, channel_weights=GREY, **LOCAL)
        return patches.fold_sum(maps[None], image_size=(64, 64), stride=16)

    expected = given["heatmap_local"]
    np.testing.assert_allclose(jax.jit(heatmap)(image, y)[0], expected, rtol=0, atol=1e-5)


def test_scores_of_the_ms_ssim_auto_encoder():
    given = vectors.load("msssim_ae", "scores")
    x, y = pixels(given, "global_image"), pixels(given, "global_reconstruction")
    both = run(similarity.ms_ssim, x, y, **GLOBAL), run(similarity.ms_ssim, x, y, **LOCAL)
    np.testing.assert_allclose(both[0], given["m_global"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(both[1], given["m_local_on_whole_image"], rtol=0, atol=1e-6)
    for nu in (0.0, 0.3, 0.5, 1.0):
        actual = similarity_losses.mixed_dissimilarity(*both, nu=nu)
        np.testing.assert_allclose(actual, given[f"score_nu{nu}"], rtol=0, atol=1e-6)


def test_global_map_of_the_ms_ssim_auto_encoder():
    given = vectors.load("msssim_ae", "scores")
    x, y = pixels(given, "global_image"), pixels(given, "global_reconstruction")
    maps = similarity_losses.channel_sum(run(similarity.dissimilarity_map, x, y, **GLOBAL))
    np.testing.assert_allclose(maps, given["map_global"], rtol=0, atol=5e-5)


def test_patches_of_the_ms_ssim_auto_encoder():
    given = vectors.load("msssim_ae", "scores")
    cut = patches.extract_patches(pixels(given, "local_image"), size=32, stride=16)[0]
    y = jnp.asarray(pixels(given, "local_reconstruction"))

    def loss(y):
        each = similarity.ms_ssim(cut, y, **LOCAL)
        return jnp.mean(1.0 - each), each

    (mean, each), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(y)
    np.testing.assert_allclose(each, given["patch_m_local"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(1.0 - each.min(), given["patch_score_max"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(mean, given["loss_local"], rtol=0, atol=1e-6)
    expected = given["grad_local_reconstruction"]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-8)


def test_maps_of_patches_of_the_ms_ssim_auto_encoder():
    given = vectors.load("msssim_ae", "scores")
    cut = patches.extract_patches(pixels(given, "local_image"), size=32, stride=16)[0]
    y = pixels(given, "local_reconstruction")
    maps = similarity_losses.channel_sum(run(similarity.dissimilarity_map, cut, y, **LOCAL))
    np.testing.assert_allclose(maps, given["patch_map"], rtol=0, atol=5e-5)
    size = {"image_size": (64, 64), "stride": 16}
    total, mean = patches.fold_sum(maps[None], **size), patches.fold_mean(maps[None], **size)
    np.testing.assert_allclose(total[0], given["map_local_overlap_sum"], rtol=0, atol=5e-5)
    np.testing.assert_allclose(mean[0], given["map_local_overlap_mean"], rtol=0, atol=5e-5)
    counts = patches.overlap_counts(image_size=(64, 64), size=32, stride=16)
    np.testing.assert_array_equal(counts, given["overlap_count"])


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_the_loss_is_linear_in_rho_between_its_two_parts(rho):
    actual = run(similarity_losses.mae_ms_ssim, IMAGES, OTHERS, rho=rho, **SMALL)
    alike = run(similarity.ms_ssim, IMAGES, OTHERS, **SMALL)
    expected = rho * np.abs(IMAGES - OTHERS).mean((1, 2, 3)) + (1 - rho) * (1 - alike)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_released_form_is_the_scaled_one_where_all_errors_are_positive():
    darker = OTHERS - 10.0
    scaled = run(similarity_losses.mae_ms_ssim_range_scaled, IMAGES, darker, **SMALL)
    released = run(similarity_losses.mae_ms_ssim_released, IMAGES, darker, **SMALL)
    np.testing.assert_allclose(released, scaled, rtol=1e-5)


def test_released_form_falls_where_the_reconstruction_is_too_bright():
    brighter = OTHERS + 10.0
    options = {**SMALL, "rho": 1.0}
    scaled = run(similarity_losses.mae_ms_ssim_range_scaled, IMAGES, brighter, **options)
    released = run(similarity_losses.mae_ms_ssim_released, IMAGES, brighter, **options)
    np.testing.assert_allclose(released, -scaled, rtol=1e-5)


@pytest.mark.parametrize(
    ("function", "scale"),
    [
        (similarity_losses.mae_ms_ssim_map, 1.0),
        (similarity_losses.mae_ms_ssim_range_scaled_map, 3.0),
    ],
)
def test_maps_mix_error_and_dissimilarity_per_pixel(function, scale):
    unlike = run(similarity.dissimilarity_map, IMAGES, OTHERS, **SMALL)
    weights = np.array([0.25, 0.5])
    each = 0.2 * np.abs(IMAGES - OTHERS) / scale + 0.8 * np.asarray(unlike)
    maps = run(function, IMAGES, OTHERS, rho=0.2, channel_weights=weights, **SMALL)
    assert maps.shape == (3, 6, 7)
    np.testing.assert_allclose(maps, each @ weights, rtol=1e-5, atol=1e-6)
    mean = run(function, IMAGES, OTHERS, rho=0.2, **SMALL)
    np.testing.assert_allclose(mean, each.mean(-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", ["mae_ms_ssim", "mae_ms_ssim_map"])
def test_identical_images_score_zero(function):
    actual = run(getattr(similarity_losses, function), IMAGES, IMAGES, **SMALL)
    np.testing.assert_array_equal(actual, np.zeros(actual.shape))


def test_mixture_is_linear_in_nu_and_zero_for_identical_images():
    m_g, m_l = jnp.array([0.9, 1.0]), jnp.array([0.5, 1.0])
    # 1 - (0.3 · 0.9 + 0.7 · 0.5) = 0.38
    actual = similarity_losses.mixed_dissimilarity(m_g, m_l, nu=0.3)
    np.testing.assert_allclose(actual, [0.38, 0.0], rtol=1e-6)
    assert actual[1] == 0.0


def test_mixture_with_the_absolute_error():
    # 0.15 · 0.2 + 0.85 · (1 - (0.5 · 0.9 + 0.5 · 0.5)) = 0.03 + 0.255
    arrays = (jnp.array([x]) for x in (0.2, 0.9, 0.5))
    actual = similarity_losses.mae_mixed_similarity(*arrays)
    np.testing.assert_allclose(actual, [0.285], rtol=1e-6)


@pytest.mark.parametrize("rho", [0.3, 1.0])
def test_identical_images_have_zero_gradient(rho):
    def losses(x):
        loss = similarity_losses.mae_ms_ssim(IMAGES, x, rho=rho, **SMALL)
        scaled = similarity_losses.mae_ms_ssim_range_scaled(IMAGES, x, rho=rho, **SMALL)
        maps = similarity_losses.mae_ms_ssim_map(IMAGES, x, rho=rho, **SMALL)
        return jnp.sum(loss) + jnp.sum(scaled) + jnp.sum(maps)

    gradient = jax.jit(jax.grad(losses))(IMAGES)
    np.testing.assert_allclose(gradient, np.zeros_like(IMAGES), atol=1e-6)


def test_absolute_error_of_equal_pixels_has_zero_gradient():
    first, second = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[1.0, 1.0, 5.0]])
    gradient = jax.grad(lambda x: similarity_losses.mae(x, second)[0])(first)
    np.testing.assert_allclose(gradient, [[0.0, 1 / 3, -1 / 3]], rtol=1e-6)
