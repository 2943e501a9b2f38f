from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.losses import filtering, masked_autoencoding, seed_scores, similarity, similarity_losses

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(2, 6, 6, 1)).astype(np.float32)
OTHERS = RNG.uniform(size=(3, *IMAGES.shape)).astype(np.float32)
SMALL = {"data_range": 1.0, "window": 3, "weights": (0.4, 0.6)}

small_scores = jax.jit(lambda x, y: seed_scores.multi_seed_scores(x, y, patch_size=3, **SMALL))


def golden(name):
    """Arrays, images in [0, 1], predictions pasted on them, and the options that go with them."""
    given = vectors.load("memmc_mae", name)
    images, predictions = given["image_u8"] / 255, given["pred_u8"] / 255
    size, window = int(given["patch"]), int(given["win"])
    weights = similarity.LOCAL_WEIGHTS if window == 3 else similarity.GLOBAL_WEIGHTS
    np.testing.assert_array_equal(given["weights"], weights)
    pasted = masked_autoencoding.paste_kept(
        jnp.asarray(images), jnp.asarray(predictions), given["mask"], patch_size=size
    )
    options = {"data_range": 1.0, "window": window, "weights": weights}
    return given, images, predictions, pasted, size, options


@pytest.mark.parametrize("name", ["multi_seed_score", "multi_seed_score_full_window"])
def test_multi_seed_scores_as_given(name):
    given, images, predictions, pasted, size, options = golden(name)
    noise = masked_autoencoding.masks_from_noise(given["noise"], ratio=0.75)
    np.testing.assert_array_equal(noise.removed, given["mask"])

    @jax.jit
    def run(images, reconstructions):
        return seed_scores.multi_seed_scores(
            images, reconstructions, patch_size=size, **options
        ), seed_scores.product_scores(images, reconstructions, **options)

    scores, products = run(images, pasted)
    assert scores.patches.dtype == jnp.float32
    patches = seed_scores.pool_mean(scores.patches)
    removed = seed_scores.pool_removed_mean(scores.patches, given["mask"])
    actual = {
        "pixel_map": scores.pixels,
        "patch_score": patches,
        "image_score": patches.mean(-1),
        "per_seed_image_score": scores.patches.mean(-1),
        "image_score_max_over_seeds": seed_scores.pool_largest(scores.patches),
        "patch_score_masked_mean": removed,
        "image_score_masked_mean": removed.mean(-1),
        "per_seed_msssim": 1.0 - products,
        "image_score_product": products.mean(0),
        "image_score_full_prediction": run(images, predictions)[0].patches.mean((0, 2)),
    }
    for key, value in actual.items():
        vectors.assert_close(value, given[key], rtol=0, atol=5e-5)


def test_multi_seed_scores_in_float64(monkeypatch):
    # The window that these vectors were made with was computed in float32, as in the release.
    taps = np.exp(-np.square([-1, 0, 1]) / 4.5).astype(np.float32)
    monkeypatch.setattr(filtering, "gaussian_kernel", lambda *_: taps / taps.sum())
    with jax.enable_x64(True):
        given, images, _, pasted, size, options = golden("multi_seed_score")
        scores = jax.jit(
            lambda x, y: seed_scores.multi_seed_scores(x, y, patch_size=size, **options)
        )(images, pasted)
        vectors.assert_close(scores.patches.mean(-1), given["per_seed_image_score"], rtol=1e-12)
        # The map is stored in float32.
        vectors.assert_close(scores.pixels, given["pixel_map"], rtol=0, atol=1e-7)


def test_grey_weights_as_given():
    given, images, _, pasted, size, options = golden("multi_seed_score")
    grey = np.array(similarity_losses.GREY_WEIGHTS)
    scores = jax.jit(
        lambda x, y: seed_scores.multi_seed_scores(
            x, y, patch_size=size, channel_weights=grey, **options
        )
    )(images, pasted)
    vectors.assert_close(scores.pixels, given["pixel_map_gray_weights"], rtol=0, atol=5e-5)


def test_squared_errors_as_given():
    given, images, predictions, _, size, _ = golden("multi_seed_score")
    errors = masked_autoencoding.patch_mse(
        masked_autoencoding.patchify(predictions, patch_size=size),
        masked_autoencoding.patchify(images, patch_size=size),
    )
    actual = seed_scores.pool_removed_mean(errors, given["mask"])
    vectors.assert_close(actual, given["mse_patch_masked_mean"], rtol=1e-5)


def test_scores_of_one_seed_are_those_of_its_map():
    scores = small_scores(IMAGES, OTHERS[:1])
    maps = similarity.dissimilarity_map(IMAGES, OTHERS[0], **SMALL)[..., 0]
    np.testing.assert_allclose(scores.pixels, maps, rtol=1e-5)
    np.testing.assert_allclose(scores.patches[0].mean(-1), maps.mean((1, 2)), rtol=1e-5)


def test_order_and_repetition_of_seeds_change_no_mean():
    one = small_scores(IMAGES, OTHERS)
    again = np.concatenate([OTHERS[::-1], OTHERS])
    two = small_scores(IMAGES, again)
    np.testing.assert_allclose(two.pixels, one.pixels, rtol=1e-5)
    pooled = seed_scores.pool_mean(two.patches)
    np.testing.assert_allclose(pooled, seed_scores.pool_mean(one.patches), rtol=1e-5)


def test_perfect_reconstructions_score_zero():
    perfect = np.stack([IMAGES, IMAGES])
    scores = small_scores(IMAGES, perfect)
    np.testing.assert_array_equal(scores.pixels, np.zeros((2, 6, 6)))
    np.testing.assert_array_equal(scores.patches, np.zeros((2, 2, 4)))
    products = seed_scores.product_scores(IMAGES, perfect, **SMALL)
    np.testing.assert_array_equal(products, np.zeros((2, 2)))


def test_pools_by_hand():
    scores = jnp.array([[[1.0, 4.0, 0.0]], [[3.0, 2.0, 7.0]]])  # 2 seeds, 1 image, 3 patches.
    removed = np.array([[[1, 0, 0]], [[1, 1, 0]]])  # The last is never removed.
    np.testing.assert_allclose(seed_scores.pool_mean(scores), [[2.0, 3.0, 3.5]])
    np.testing.assert_allclose(seed_scores.pool_removed_mean(scores, removed), [[2.0, 2.0, 3.5]])
    np.testing.assert_allclose(seed_scores.pool_largest(scores), [4.0])  # (3 + 2 + 7) / 3.


def test_scores_of_a_given_measure():
    def measure(x, y):
        return jnp.mean(jnp.square(x - y), axis=-1)

    scores = seed_scores.multi_seed_scores_of(measure, IMAGES, OTHERS, patch_size=3)
    squares = np.mean((IMAGES - OTHERS) ** 2, axis=-1)  # [S, B, H, W]
    blocks = squares.reshape(3, 2, 2, 3, 2, 3).mean(axis=(3, 5)).reshape(3, 2, 4)
    np.testing.assert_allclose(scores.pixels, squares.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scores.patches, blocks, rtol=1e-5)


def test_mixed_measure_without_its_absolute_error_is_the_default_one():
    measure = partial(similarity_losses.mae_ms_ssim_map, rho=0.0, **SMALL)
    mixed = seed_scores.multi_seed_scores_of(measure, IMAGES, OTHERS, patch_size=3)
    default = small_scores(IMAGES, OTHERS)
    np.testing.assert_allclose(mixed.pixels, default.pixels, rtol=1e-5)
    np.testing.assert_allclose(mixed.patches, default.patches, rtol=1e-5)
