import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.losses import patches

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("side", "size", "stride", "starts"),
    [
        (64, 32, 16, [0, 16, 32]),
        (7, 3, 2, [0, 2, 4]),
        (8, 3, 2, [0, 2, 4, 5]),  # The last lies flush with the border.
        (5, 5, 1, [0]),
        (6, 3, 3, [0, 3]),
    ],
)
def test_starts(side, size, stride, starts):
    np.testing.assert_array_equal(patches.patch_starts(side, size, stride), starts)


def test_256_pixels_hold_225_patches():
    assert len(patches.patch_starts(256, 32, 16)) == 15
    counts = patches.overlap_counts(image_size=(256, 256), size=32, stride=16)
    # Corners are in one patch, borders in two, the rest in four.
    np.testing.assert_array_equal([counts[0, 0], counts[0, 128], counts[128, 128]], [1, 2, 4])
    assert counts.sum() == 225 * 32 * 32


def test_patches_are_slices_row_by_row():
    images = RNG.normal(size=(2, 8, 7, 3))
    actual = patches.extract_patches(images, size=3, stride=2)
    assert actual.shape == (2, 4 * 3, 3, 3, 3)
    places = [(i, j) for i in (0, 2, 4, 5) for j in (0, 2, 4)]
    for p, (i, j) in enumerate(places):
        expected = images[:, i : i + 3, j : j + 3].astype(np.float32)
        np.testing.assert_array_equal(actual[:, p], expected)


@pytest.mark.parametrize("shape", [(1, 8, 7, 3), (2, 9, 9, 1), (1, 4, 10, 2)])
def test_folding_the_patches_of_an_image_gives_it_back(shape):
    images = RNG.normal(size=shape).astype(np.float32)
    cut = patches.extract_patches(images, size=4, stride=3)
    folded = patches.fold_mean(cut, image_size=shape[1:3], stride=3)
    np.testing.assert_allclose(folded, images, rtol=1e-6, atol=1e-7)


def test_sum_adds_one_patch_after_the_other():
    maps = RNG.normal(size=(2, 6, 4, 4)).astype(np.float32)
    expected = np.zeros((2, 7, 9), np.float32)
    places = [(i, j) for i in (0, 3) for j in (0, 3, 5)]
    for p, (i, j) in enumerate(places):
        expected[:, i : i + 4, j : j + 4] += maps[:, p]
    actual = patches.fold_sum(maps, image_size=(7, 9), stride=3)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


def test_constant_maps_stay_constant_in_the_mean_and_count_in_the_sum():
    maps = jnp.full((1, 9, 4, 4), 0.3)
    mean = patches.fold_mean(maps, image_size=(8, 8), stride=2)
    np.testing.assert_allclose(mean, np.full((1, 8, 8), 0.3), rtol=1e-6)
    counts = patches.overlap_counts(image_size=(8, 8), size=4, stride=2)
    total = patches.fold_sum(maps, image_size=(8, 8), stride=2)
    np.testing.assert_allclose(total[0], 0.3 * counts, rtol=1e-6)


def test_folding_is_the_transpose_of_extraction():
    images = jnp.asarray(RNG.normal(size=(1, 8, 7, 2)), jnp.float32)
    cut, pull = jax.vjp(lambda x: patches.extract_patches(x, size=3, stride=2), images)
    weights = jnp.asarray(RNG.normal(size=cut.shape), jnp.float32)
    folded = patches.fold_sum(weights, image_size=(8, 7), stride=2)
    np.testing.assert_allclose(pull(weights)[0], folded, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 9, 1), "size: expected at most 8, the side of the images, got 9"),
        ((8, 3, 4), "stride: expected at most 3, the size of a patch, got 4"),
        ((8, 3, 0), "stride: expected an integer of at least 1, got 0"),
    ],
)
def test_grids_that_miss_pixels_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        patches.patch_starts(*arguments)


def test_nan_of_a_patch_stays_in_its_image():
    given = jnp.ones((2, 4, 2, 2)).at[0, 0, 0, 0].set(jnp.nan)
    folded = patches.fold_mean(given, image_size=(4, 4), stride=2)
    assert np.all(np.isnan(folded[0]))
    np.testing.assert_array_equal(folded[1], np.ones((4, 4)))
