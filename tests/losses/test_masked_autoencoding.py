import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.losses import masked_autoencoding as mae

RNG = np.random.default_rng(0)
PREDICTIONS = jnp.asarray(RNG.normal(size=(2, 6, 4)), jnp.float32)
TARGETS = jnp.asarray(RNG.normal(size=(2, 6, 4)), jnp.float32)
REMOVED = np.array([[1, 1, 0, 1, 0, 1], [0, 1, 1, 1, 0, 0]])


@pytest.mark.parametrize("case", [0, 1, 2])
def test_patches_of_mae(case):
    expected = vectors.part(vectors.load("memmc_mae", "mae_pieces"), f"patchify{case}/")
    image, size = expected["image"], int(expected["patch_size"])
    np.testing.assert_array_equal(mae.patchify(image, patch_size=size), expected["patches"])
    back = mae.unpatchify(expected["patches"], patch_size=size, image_size=image.shape[1:3])
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("case", ["0_0.75", "0_0.5", "0_0.3", "1_0.75", "2_0.5", "2_0.3"])
def test_masks_of_mae(case):
    expected = vectors.part(vectors.load("memmc_mae", "mae_pieces"), f"masking{case}/")
    masking = mae.masks_from_noise(expected["noise"], ratio=float(case[2:]))
    kept = mae.take_patches(expected["tokens"], masking.kept)
    np.testing.assert_array_equal(kept, expected["kept"])
    np.testing.assert_array_equal(masking.removed, expected["mask"])
    np.testing.assert_array_equal(masking.restore, expected["ids_restore"])


@pytest.mark.parametrize("target", ["pix", "norm"])
@pytest.mark.parametrize("case", [0, 1, 2])
def test_loss_of_mae_and_its_gradient(case, target):
    given = vectors.load("memmc_mae", "mae_pieces")
    expected, size = (
        vectors.part(given, f"loss{case}_{target}/"),
        given[f"patchify{case}/patch_size"],
    )
    targets = mae.patchify(expected["image"], patch_size=int(size))
    if target == "norm":
        targets = mae.standardize_patches(targets)
    loss = jax.jit(jax.value_and_grad(mae.masked_patch_mse))
    value, gradient = loss(expected["pred"], targets, expected["mask"])
    np.testing.assert_allclose(value, expected["loss"], rtol=1e-6)
    vectors.assert_close(gradient, expected["grad_pred"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("width", "side"), [(16, 4), (512, 14)])
def test_positions_of_mae(width, side):
    expected = vectors.load("memmc_mae", "mae_pieces")[f"sincos_{width}_{side}"]
    table = mae.position_table(width, (side, side))
    assert table.shape == (side * side, width)
    np.testing.assert_allclose(table, expected[1:], rtol=0, atol=1e-7)
    np.testing.assert_array_equal(expected[0], np.zeros(width))  # The class token's.


def test_positions_put_the_column_first():
    # Width 4: [sin column, cos column, sin row, cos row] with frequency 1.
    table = mae.position_table(4, (2, 3))
    np.testing.assert_allclose(table[4], [np.sin(1), np.cos(1), np.sin(1), np.cos(1)])
    np.testing.assert_allclose(table[2], [np.sin(2), np.cos(2), 0, 1])
    np.testing.assert_allclose(table[3], [0, 1, np.sin(1), np.cos(1)])


@pytest.mark.parametrize("shape", [(4, 6, 1), (2, 4, 6, 3), (2, 3, 6, 8, 2)])
def test_patches_are_put_back_in_place(shape):
    images = RNG.normal(size=shape).astype(np.float32)
    cut = mae.patchify(images, patch_size=2)
    assert cut.shape == (*shape[:-3], shape[-3] * shape[-2] // 4, 4 * shape[-1])
    np.testing.assert_array_equal(cut[..., 1, :], images[..., :2, 2:4, :].reshape(*shape[:-3], -1))
    back = mae.unpatchify(cut, patch_size=2, image_size=shape[-3:-1])
    np.testing.assert_array_equal(back, images)


@pytest.mark.parametrize(
    ("patches", "ratio", "kept"), [(196, 0.75, 49), (10, 0.3, 7), (9, 0.5, 4), (4, 0.0, 4)]
)
def test_kept_count_rounds_down(patches, ratio, kept):
    assert mae.kept_count(patches, ratio) == kept


@pytest.mark.parametrize(("patches", "ratio"), [(10, 0.9), (4, 0.8), (4, 1.0), (4, -0.1)])
def test_a_patch_must_stay(patches, ratio):
    with pytest.raises(ValueError, match="ratio: expected"):
        mae.kept_count(patches, ratio)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.75])
def test_random_masks_remove_exactly_their_share(ratio):
    masking = mae.random_masks(jax.random.split(jax.random.key(0), 50), patches=20, ratio=ratio)
    kept = mae.kept_count(20, ratio)
    assert masking.kept.shape == (50, kept)
    np.testing.assert_array_equal(masking.removed.sum(axis=-1), np.full(50, 20 - kept))
    taken = np.take_along_axis(np.asarray(masking.removed), np.asarray(masking.kept), axis=-1)
    assert not taken.any()
    if ratio:
        # Each patch is removed in about its share of the masks: 5 deviations of a binomial.
        assert np.abs(masking.removed.mean(axis=0) - (1 - kept / 20)).max() < 5 * 0.5 / 50**0.5


def test_a_mask_depends_on_its_key_alone():
    keys = jax.random.split(jax.random.key(3), 6)
    together = mae.random_masks(keys, patches=16, ratio=0.75)
    alone = mae.random_masks(keys[4], patches=16, ratio=0.75)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[4], b), together, alone)
    grid = mae.random_masks(keys.reshape(2, 3), patches=16, ratio=0.75)
    np.testing.assert_array_equal(grid.removed.reshape(6, 16), together.removed)


def test_restore_undoes_the_order_of_kept_then_removed():
    noise = RNG.random((3, 9)).astype(np.float32)
    tokens = RNG.normal(size=(3, 9, 2)).astype(np.float32)
    masking = mae.masks_from_noise(noise, ratio=0.6)
    order = np.argsort(noise, axis=-1)
    shuffled = np.take_along_axis(tokens, order[..., None], axis=1)
    np.testing.assert_array_equal(masking.kept, order[:, :3])
    np.testing.assert_array_equal(mae.take_patches(shuffled, masking.restore), tokens)


def test_equal_noise_keeps_the_first():
    masking = mae.masks_from_noise(jnp.zeros(5), ratio=0.4)
    np.testing.assert_array_equal(masking.kept, [0, 1, 2])
    np.testing.assert_array_equal(masking.removed, [0, 0, 0, 1, 1])


def test_standardized_patches_by_hand():
    # Mean 2, unbiased variance ((-1)^2 + 0 + 1^2) / 2 = 1.
    actual = mae.standardize_patches(jnp.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
    np.testing.assert_allclose(actual, [[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]], rtol=1e-5)


def test_loss_is_the_mean_over_removed_patches():
    chosen = REMOVED.astype(bool)
    expected = np.mean((PREDICTIONS[chosen] - TARGETS[chosen]) ** 2)
    actual = mae.masked_patch_mse(PREDICTIONS, TARGETS, REMOVED)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_kept_patches_may_hold_anything():
    bad = jnp.where(REMOVED[..., None] == 1, 0.0, jnp.nan)
    loss = jax.value_and_grad(mae.masked_patch_mse, argnums=(0, 1))
    expected = loss(PREDICTIONS, TARGETS, REMOVED)
    actual = loss(PREDICTIONS + bad, TARGETS + bad, REMOVED)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_pasting_takes_removed_patches_from_the_prediction():
    images = RNG.normal(size=(2, 4, 6, 3)).astype(np.float32)
    predictions = RNG.normal(size=(5, 2, 4, 6, 3)).astype(np.float32)
    removed = RNG.random((5, 2, 6)) < 0.5
    actual = mae.patchify(mae.paste_kept(images, predictions, removed, patch_size=2), patch_size=2)
    expected = np.where(
        removed[..., None],
        mae.patchify(predictions, patch_size=2),
        mae.patchify(images, patch_size=2),
    )
    np.testing.assert_array_equal(actual, expected)


def test_patch_means_average_to_the_mean_of_the_map():
    maps = RNG.normal(size=(2, 3, 6, 4)).astype(np.float32)
    means = mae.patch_means(maps, patch_size=2)
    assert means.shape == (2, 3, 6)
    np.testing.assert_allclose(means[..., 3], maps[..., 2:4, 2:4].mean((-1, -2)), rtol=1e-5)
    np.testing.assert_allclose(means.mean(-1), maps.mean((-1, -2)), rtol=1e-5, atol=1e-6)
