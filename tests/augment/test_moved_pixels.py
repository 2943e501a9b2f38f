"""Rotations, flips, permutations, cutout and swaps: what moves pixels without changing them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.augment import cutout, permutations, rotations, swap

RNG = np.random.default_rng(0)
SQUARE = jnp.asarray(RNG.random((6, 4, 4, 3)), jnp.float32)
OBLONG = jnp.asarray(RNG.integers(0, 255, (6, 6, 8, 3)), jnp.uint8)
MANY = jax.random.split(jax.random.key(3), 600)


def keys(count=6, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def sorted_pixels(images):
    """Pixels of each image in an order that does not depend on their place."""
    flat = np.asarray(images).reshape(images.shape[0], -1, images.shape[-1])
    return np.stack([np.sort(x.view([("", x.dtype)] * x.shape[-1]).ravel()) for x in flat])


@pytest.mark.parametrize("turns", [(1, 1, 1, 1), (2, 2), (1, 3), (0,), (4,), (-1, 1)])
def test_turns_that_make_a_circle_are_the_identity(turns):
    images = SQUARE
    for number in turns:
        images = rotations.rotate_quarter(images, jnp.full(6, number))
    np.testing.assert_array_equal(images, SQUARE)


def test_one_turn_takes_the_upper_right_pixel_to_the_upper_left():
    turned = rotations.rotate_quarter(SQUARE, jnp.ones(6, int))
    np.testing.assert_array_equal(turned[:, 0, 0], SQUARE[:, 0, -1])


def test_turning_a_label_map_is_turning_its_image():
    labels = jnp.asarray(RNG.integers(0, 9, (6, 4, 4)), jnp.int8)
    turns = jnp.arange(6)
    turned = rotations.rotate_quarter(labels, turns)
    assert turned.dtype == jnp.int8
    expected = rotations.rotate_quarter(labels[..., None], turns)[..., 0]
    np.testing.assert_array_equal(turned, expected)


def test_drawn_turns_are_those_done_and_all_choices_come():
    images, turns = rotations.random_quarter_rotation(MANY, jnp.zeros((600, 2, 2, 1)))
    counts = np.bincount(turns, minlength=4)
    assert images.shape == (600, 2, 2, 1)
    assert counts[0] == 0
    assert (abs(counts[1:] - 200) < 60).all()  # Five standard deviations of the count.
    images, turns = rotations.random_quarter_rotation(keys(), SQUARE, choices=(0, 1, 2, 3))
    np.testing.assert_array_equal(images, rotations.rotate_quarter(SQUARE, turns))


def test_flips_undo_themselves_and_make_a_half_turn_together():
    yes = jnp.ones(6, bool)
    both = rotations.flip_vertical(rotations.flip_horizontal(OBLONG, yes), yes)
    np.testing.assert_array_equal(both, rotations.rotate_half(OBLONG))
    np.testing.assert_array_equal(rotations.rotate_half(both), OBLONG)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_flips_of_certain_probability(probability):
    _, flipped = rotations.random_horizontal_flip(
        MANY, jnp.zeros((600, 2, 2, 1)), probability=probability
    )
    assert (flipped == bool(probability)).all()


def test_halves_swapped_twice_are_back_for_even_sides():
    k = jnp.arange(6) % 4
    twice = permutations.swap_halves(permutations.swap_halves(OBLONG, k), k)
    np.testing.assert_array_equal(twice, OBLONG)


def test_a_permutation_and_its_inverse_cancel():
    order = jnp.asarray(np.stack([RNG.permutation(4) for _ in range(6)]))
    there = permutations.permute_patches(OBLONG, order)
    np.testing.assert_array_equal(
        permutations.permute_patches(there, jnp.argsort(order, axis=1)), OBLONG
    )


@pytest.mark.parametrize(
    "function", [permutations.random_patch_permutation, permutations.random_pixel_permutation]
)
def test_random_permutations_keep_the_pixels(function):
    images, indices = jax.jit(function)(keys(), OBLONG)
    assert (images.dtype, images.shape) == (OBLONG.dtype, OBLONG.shape)
    assert (np.sort(indices, axis=1) == np.arange(indices.shape[1])).all()
    np.testing.assert_array_equal(sorted_pixels(images), sorted_pixels(OBLONG))


def test_patch_permutations_are_uniform_over_the_23_others():
    images = jnp.zeros((600, 2, 2, 1))
    _, indices = jax.jit(permutations.random_patch_permutation)(MANY, images)
    codes = np.asarray(indices) @ 4 ** np.arange(4)
    found, counts = np.unique(codes, return_counts=True)
    assert len(found) == 23
    assert 0 + 4 + 2 * 16 + 3 * 64 not in found
    # Chi-squared of 22 degrees of freedom: above 60 in one of 50,000 cases.
    assert np.sum((counts - 600 / 23) ** 2) / (600 / 23) < 60


def test_draws_hang_on_the_key_alone():
    images = jnp.zeros((6, 4, 4, 1))
    draw = lambda k: permutations.random_pixel_permutation(k, images[: len(k)])[1]  # noqa: E731
    all_of_them = draw(keys())
    np.testing.assert_array_equal(draw(keys()[2:4]), all_of_them[2:4])
    assert len(np.unique(all_of_them, axis=0)) == 6
    assert (draw(keys(seed=1)) != all_of_them).any()


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_keys_whose_draws_hang_on_the_batch_are_refused(implementation):
    other = jax.random.split(jax.random.key(0, impl=implementation), 6)
    with pytest.raises(TypeError, match=f"keys: expected threefry2x32.*got {implementation}"):
        jax.jit(lambda k: rotations.random_quarter_rotation(k, SQUARE))(other)


def test_no_hole_changes_nothing_and_holes_are_where_they_were_drawn():
    holes = jnp.array([0, 1, 2, 3, 0, 3])
    images, centres = cutout.random_cutout(keys(), OBLONG + 1, holes, length=4)
    changed = (images == 0).all(-1)
    np.testing.assert_array_equal(images[holes == 0], OBLONG[holes == 0] + 1)
    for i, k in enumerate(holes):
        expected = np.zeros((6, 8), bool)
        for row, column in centres[i, :k]:
            expected[max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2] = True
        np.testing.assert_array_equal(changed[i], expected)


def test_drawn_centres_and_lengths_keep_to_their_bounds():
    _, (centres, lengths) = cutout.random_sized_cutout(MANY, jnp.ones((600, 7, 9, 1)), longest=5)
    assert set(np.asarray(lengths)) == {1, 2, 3, 4, 5}
    assert (centres[:, 0] + lengths[:, None] < jnp.array([8, 10])).all()
    assert (centres >= 0).all()


def test_swapped_patches_that_do_not_overlap_keep_the_pixels_and_swap_back():
    places = jnp.broadcast_to(jnp.array([[[0, 0], [3, 3]], [[0, 5], [3, 0]]]), (6, 2, 2, 2))
    there = swap.swap_patches(OBLONG, places, patch=3)
    np.testing.assert_array_equal(sorted_pixels(there), sorted_pixels(OBLONG))
    np.testing.assert_array_equal(there[:, :3, :3], OBLONG[:, 3:, 3:6])
    back = swap.swap_patches(there, places[:, ::-1], patch=3)
    np.testing.assert_array_equal(back, OBLONG)


def test_overlapping_patches_lose_pixels_as_in_torchio():
    # a b c, patches of 2 at 0 and 1: [a b] goes to 1, then the saved [b c] to 0.
    row = jnp.asarray([[1.0, 2.0, 3.0]] * 2)[None, :, :, None]
    swapped = swap.swap_patches(row, jnp.array([[[[0, 0], [0, 1]]]]), patch=2)
    np.testing.assert_array_equal(swapped[0, :, :, 0], [[2.0, 3.0, 2.0]] * 2)


def test_random_swaps_never_exchange_a_patch_with_itself():
    images, places = swap.random_swap(keys(), OBLONG, patch=4, swaps=60)
    assert images.dtype == OBLONG.dtype
    assert (places[:, :, 0] != places[:, :, 1]).any(-1).all()
    assert (places >= 0).all()
    assert places[..., 0].max() == 1  # [0, 6 - 4) and [0, 8 - 4), the upper end excluded.
    assert places[..., 1].max() == 3
