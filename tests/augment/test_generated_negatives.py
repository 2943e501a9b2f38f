"""MedMix, AnomalyMix, outlier operations, geometry between pixels, scenes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxad.augment import (
    affine,
    anomaly_mix,
    crops,
    elastic,
    medmix,
    outliers,
    patches,
    resize,
    rotations,
    scene_crops,
)

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.random((5, 12, 10, 3)), jnp.float32)
OPTIONS = {"extent": (0.2, 0.4)}


def keys(count=5, seed=0):
    return jax.random.split(jax.random.key(seed), count)


# MedMix


@pytest.fixture(scope="module")
def mixed():
    counts, places = jnp.array([0, 1, 2, 3, 3]), jnp.arange(5)
    run = jax.jit(lambda *given: medmix.random_medmix(*given, **OPTIONS))
    return counts, *run(keys(), IMAGES, counts, IMAGES, places)


def test_lesions_are_inside_their_boxes_and_nowhere_else(mixed):
    counts, images, drawn = mixed
    np.testing.assert_array_equal((drawn.sizes > 0).all(-1).sum(1), counts)
    ends = drawn.corners + drawn.sizes
    assert (ends <= jnp.array([12, 10])).all()
    assert (drawn.source_corners + drawn.sizes <= jnp.array([12, 10])).all()
    for i in range(5):
        outside = np.ones((12, 10), bool)
        for (top, left), (bottom, right) in zip(drawn.corners[i], ends[i], strict=True):
            outside[top:bottom, left:right] = False
        np.testing.assert_array_equal(images[i][outside], IMAGES[i][outside])
        assert (images[i] != IMAGES[i]).any() == bool(counts[i])
    assert images.min() >= 0.0
    assert images.max() <= 1.0


def test_no_image_is_its_own_source(mixed):
    _, _, drawn = mixed
    assert (drawn.sources != jnp.arange(5)[:, None]).all()
    many = medmix.draw_lesions(
        keys(300), jnp.full(300, 3), jnp.full(300, 1), shape=(12, 10, 1), bank_shape=(4, 12, 10)
    )
    counts = np.bincount(np.ravel(many.sources), minlength=4)
    assert counts[1] == 0
    assert (abs(counts[[0, 2, 3]] - 300) < 80).all()


def test_a_bank_of_one_image_is_the_source_of_itself():
    one = medmix.draw_lesions(
        keys(1), jnp.ones(1, int), jnp.zeros(1, int), shape=(12, 10, 1), bank_shape=(1, 12, 10)
    )
    np.testing.assert_array_equal(one.sources, np.zeros((1, 3)))


def test_a_lesion_does_not_hang_on_the_other_images_of_its_device(mixed):
    counts, images, _ = mixed
    alone, _ = medmix.random_medmix(
        keys()[2:4], IMAGES[2:4], counts[2:4], IMAGES, jnp.arange(2, 4), **OPTIONS
    )
    np.testing.assert_allclose(alone, images[2:4], atol=1e-6)


def test_without_deformations_a_lesion_is_the_patch_of_its_source():
    counts = jnp.ones(5, int)
    images, drawn = medmix.random_medmix(
        keys(), IMAGES, counts, IMAGES, largest=1, probability=0.0, **OPTIONS
    )
    for i in range(5):
        (h, w), (y, x) = drawn.sizes[i, 0], drawn.corners[i, 0]
        v, u = drawn.source_corners[i, 0]
        taken = IMAGES[drawn.sources[i, 0], v : v + h, u : u + w]
        np.testing.assert_array_equal(images[i, y : y + h, x : x + w], taken)


def test_a_bank_of_another_type_is_named():
    drawn = keys(), IMAGES, jnp.ones(5, int), IMAGES.astype(jnp.bfloat16)
    with pytest.raises(TypeError, match=r"^bank: expected float32.*bfloat16"):
        medmix.random_medmix(*drawn, **OPTIONS)


def test_a_fisheye_magnifies_the_centre_by_one_over_one_minus_k():
    ramp = jnp.tile(jnp.arange(41.0), (41, 1))[None, :, :, None]
    bent = patches.fisheye(ramp, jnp.array([0.5]))[0, 20, :, 0]
    slope = (bent[21] - bent[19]) / 2
    np.testing.assert_allclose(slope, 0.5, rtol=0.01)  # 1 - k, but for r^2 = (2 / 41)^2.
    assert (np.diff(bent) > 0).all()


# AnomalyMix


def test_an_empty_mask_or_an_object_that_does_not_fit_changes_nothing():
    images, labels = (IMAGES * 255).astype(jnp.uint8), jnp.full((5, 12, 10), 255, jnp.uint8)
    things = jnp.zeros((5, 14, 4, 3), jnp.uint8)
    masks = jnp.zeros((5, 14, 4), bool).at[1].set(True)  # Too high.
    masks = masks.at[2:, 3:5, 1:3].set(True)
    corners = jnp.array([[0, 0], [0, 0], [-1, 0], [11, 8], [10, 8]])
    mixed, relabeled, pasted = anomaly_mix.anomaly_mix(images, labels, things, masks, corners)
    np.testing.assert_array_equal(pasted, [False, False, False, False, True])
    np.testing.assert_array_equal(mixed[:4], images[:4])
    np.testing.assert_array_equal(relabeled[:4], labels[:4])
    expected = np.full((12, 10), 255)
    expected[10:, 8:] = 254
    np.testing.assert_array_equal(relabeled[4], expected)
    assert (mixed[4, 10:, 8:] == 0).all()


def test_random_corners_reach_every_place_where_the_box_fits():
    shape = (400, 4, 5)
    masks = jnp.zeros((400, 3, 3), bool).at[:, 1:, 1].set(True)  # A box of 2 by 1.
    _, labels, pasted, corners = anomaly_mix.random_anomaly_mix(
        keys(400),
        jnp.zeros((*shape, 1)),
        jnp.zeros(shape, int),
        jnp.ones((400, 3, 3, 1)),
        masks,
    )
    assert pasted.all()
    np.testing.assert_array_equal((labels == 254).sum((1, 2)), np.full(400, 2))
    places = {tuple(corner) for corner in np.asarray(corners).tolist()}
    assert places == set(itertools.product(range(3), range(5)))


# Geometry between pixels


def test_a_quarter_turn_by_angle_is_the_exact_one():
    square = IMAGES[:, :10]
    turned = affine.rotate_translate(square, jnp.full(5, 90.0), jnp.zeros((5, 2)))
    expected = rotations.rotate_quarter(square, jnp.ones(5, int))
    np.testing.assert_allclose(turned, expected, atol=1e-5)


def test_angles_and_shifts_may_be_integers():
    labels = jnp.arange(5 * 120, dtype=jnp.int32).reshape(5, 12, 10)
    angles, shifts = jnp.array([0, 90, 10, -7, 3]), jnp.array([[1, 2]] * 5)
    actual = affine.rotate_translate(IMAGES, angles, shifts)
    expected = affine.rotate_translate(IMAGES, angles.astype(float), shifts.astype(float))
    np.testing.assert_array_equal(actual, expected)
    actual = affine.rotate_translate_labels(labels, angles, shifts)
    expected = affine.rotate_translate_labels(labels, angles.astype(float), shifts.astype(float))
    np.testing.assert_array_equal(actual, expected)


def test_whole_shifts_move_image_and_labels_alike():
    labels = jnp.asarray(RNG.integers(0, 9, (5, 12, 10)), jnp.uint8)
    shifts = jnp.tile(jnp.array([2.0, -3.0]), (5, 1))
    moved = affine.rotate_translate(IMAGES, jnp.zeros(5), shifts, fill=0.5)
    relabeled = affine.rotate_translate_labels(labels, jnp.zeros(5), shifts, background=7)
    assert relabeled.dtype == jnp.uint8
    np.testing.assert_allclose(moved[:, 2:, :7], IMAGES[:, :-2, 3:], atol=1e-6)
    np.testing.assert_array_equal(relabeled[:, 2:, :7], labels[:, :-2, 3:])
    assert (moved[:, :2] == 0.5).all()
    assert (relabeled[:, :, 7:] == 7).all()


def test_random_rigid_of_no_strength_is_the_identity():
    labels = jnp.asarray(RNG.integers(0, 9, (5, 12, 10)))
    images, relabeled, _ = affine.random_rigid(keys(), IMAGES, labels, degrees=0.0, pixels=0.0)
    np.testing.assert_allclose(images, IMAGES, atol=1e-6)
    np.testing.assert_array_equal(relabeled, labels)


def test_equal_control_points_shift_and_no_displacement_is_the_identity():
    fields = elastic.spline_fields(jnp.full((1, 7, 7, 2), 1.5), size=(12, 10))
    np.testing.assert_allclose(fields, np.full((1, 12, 10, 2), 1.5), rtol=1e-6)
    images, fields = elastic.random_elastic(keys(), IMAGES, displacement=0.0)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(fields, np.zeros((5, 12, 10, 2)))


def test_elastic_labels_follow_the_image():
    labels = jnp.asarray(RNG.integers(0, 9, (5, 12, 10)), jnp.int8)
    fields = jnp.broadcast_to(jnp.array([1.0, -2.0]), (5, 12, 10, 2))
    moved = elastic.deform_labels(labels, fields, background=3)
    np.testing.assert_array_equal(moved[:, :-1, 2:], labels[:, 1:, :-2])
    assert (moved[:, -1] == 3).all()
    images = elastic.deform_images(IMAGES, fields)
    np.testing.assert_allclose(images[:, :-1, 2:], IMAGES[:, 1:, :-2], atol=1e-6)
    lowest = np.broadcast_to(np.asarray(IMAGES).min((1, 2, 3))[:, None, None], (5, 10, 3))
    np.testing.assert_array_equal(images[:, -1], lowest)


@pytest.mark.parametrize("method, name", [("bilinear", "BILINEAR"), ("bicubic", "BICUBIC")])
@pytest.mark.parametrize("size", [(5, 4), (17, 23), (12, 3)])
def test_crops_are_resized_as_pillow_does(method, name, size):
    image = pytest.importorskip("PIL.Image")
    box = (2, 1, 9, 8)  # Top, left, height, width.
    actual = crops.crop_and_resize(IMAGES[:1], jnp.array([box]), size=size, method=method)[
        0, ..., 0
    ]
    cropped = image.fromarray(np.asarray(IMAGES[0, 2:11, 1:9, 0]))
    expected = cropped.resize(size[::-1], getattr(image.Resampling, name))
    np.testing.assert_allclose(actual, np.asarray(expected), atol=2e-6)


def test_drawn_boxes_have_the_stated_shares_and_ratios():
    top, left, height, width = crops.draw_boxes(keys(400), shape=(64, 48), area=(0.2, 0.5)).T
    assert min(top.min(), left.min()) >= 0
    assert (top + height).max() <= 64
    assert (left + width).max() <= 48
    share, ratio = height * width / (64 * 48), width / height
    assert (share > 0.18).all() and (share < 0.53).all()  # noqa: PT018 - rounded to pixels.
    assert (ratio > 0.7).all() and (ratio < 1.42).all()  # noqa: PT018
    np.testing.assert_allclose(share.mean(), 0.35, atol=0.03)
    np.testing.assert_allclose(np.log(ratio).mean(), 0.0, atol=0.05)


def test_a_box_that_never_fits_falls_back_to_the_centre():
    boxes = crops.draw_boxes(keys(2), shape=(10, 40), area=(1.0, 1.0))
    np.testing.assert_array_equal(boxes, [[0, 13, 10, 13]] * 2)  # 13 = round(10 · 4 / 3).


def test_nearest_resizing_of_labels_is_torchs():
    labels = jnp.arange(5, dtype=jnp.uint8).reshape(1, 1, 5)
    actual = resize.resize_nearest(labels, size=(2, 3))
    np.testing.assert_array_equal(actual, [[[0, 1, 3], [0, 1, 3]]])  # floor(i · 5 / 3).


def test_centre_resizing_of_labels_is_pillows():
    labels = jnp.arange(8, dtype=jnp.uint8).reshape(1, 1, 8)
    actual = resize.resize_labels_centre(labels, size=(2, 3))
    np.testing.assert_array_equal(actual, [[[1, 4, 6], [1, 4, 6]]])  # floor((i + 0.5) · 8 / 3).


def test_equally_frequent_labels_give_the_lowest():
    labels = jnp.array([[[255, 3, 2, 2], [3, 255, 255, 7]]], jnp.uint8)
    actual = resize.resize_labels_majority(labels, factor=2)
    np.testing.assert_array_equal(actual, np.array([[[3, 2]]], np.uint8), strict=True)


# Outlier operations


def test_operations_run_on_the_images_they_were_drawn_for():
    operations = [lambda _, x: x + 1.0, lambda _, x: x * 0.0, lambda _, x: -x]
    chosen = jnp.array([[0, 2], [1, 0], [2, 0], [0, 1], [2, 2]])
    actual = outliers.apply_operations(keys(), IMAGES, chosen, operations=operations)
    x = np.asarray(IMAGES)
    expected = [-(x[0] + 1), x[1] * 0 + 1, 1 - x[2], x[3] * 0, x[4]]
    np.testing.assert_allclose(actual, expected)


def test_operations_are_drawn_with_their_probabilities_and_never_twice():
    images, operations = jnp.zeros((600, 1, 1, 1)), [lambda _, x: x] * 3
    draw = lambda **options: np.asarray(  # noqa: E731
        outliers.random_operations(keys(600), images, operations=operations, **options)[1]
    )
    counts = np.bincount(draw(probabilities=(0.25, 0.0, 0.75)).ravel(), minlength=3)
    assert counts[1] == 0
    assert abs(counts[0] - 150) < 53  # Five standard deviations.
    pairs = draw(count=2)
    assert (pairs[:, 0] != pairs[:, 1]).all()


def test_each_of_the_six_operations_makes_another_image():
    images = jnp.asarray(RNG.random((6, 16, 16, 1)), jnp.float32)
    operations = outliers.medical_operations(patch=3, swaps=5)
    actual = jax.jit(lambda k, x, c: outliers.apply_operations(k, x, c, operations=operations))(
        keys(6), images, jnp.arange(6)[:, None]
    )
    assert (jnp.abs(actual - images).max((1, 2, 3)) > 1e-3).all()
    np.testing.assert_array_equal(actual[0], images[0, ::-1, ::-1])
    np.testing.assert_array_equal(actual[1], images[1, ::-1])


# Scenes


LABELS = jnp.asarray(RNG.integers(0, 19, (5, 12, 10)), jnp.uint8)


def crop(scale=1.0, corner=(0, 0), flipped=False):
    return scene_crops.Crop(
        jnp.full(5, flipped), jnp.full(5, scale), jnp.tile(jnp.array(corner), (5, 1))
    )


def test_a_crop_at_scale_one_is_a_slice_and_padding_is_marked():
    images, labels = scene_crops.scale_and_crop(
        IMAGES, LABELS, crop(corner=(-1, 4)), size=(5, 7), fill=0.5
    )
    assert labels.dtype == jnp.uint8
    np.testing.assert_array_equal(images[:, 1:, :6], IMAGES[:, :4, 4:])
    np.testing.assert_array_equal(labels[:, 1:, :6], LABELS[:, :4, 4:])
    assert (images[:, 0] == 0.5).all()
    assert (labels[:, :, 6] == 255).all()


def test_a_whole_scaled_scene_is_the_resized_one():
    images, labels = scene_crops.scale_and_crop(IMAGES, LABELS, crop(2.0), size=(24, 20))
    expected = resize.resize_half_pixel(IMAGES, size=(24, 20))
    np.testing.assert_allclose(images, expected, atol=1e-6)
    np.testing.assert_array_equal(labels, resize.resize_nearest(LABELS, size=(24, 20)))


def test_labels_of_shrunk_scenes_are_those_under_the_centres():
    _, labels = scene_crops.scale_and_crop(IMAGES, LABELS, crop(1 / 3), size=(4, 3))
    # 10 / 3 gives 3 columns: floor((i + 0.5) 10 / 3), as Pillow reads.
    np.testing.assert_array_equal(labels, LABELS[:, 1::3][:, :, np.array([1, 5, 8])])


def test_flipped_scenes():
    images, labels = scene_crops.scale_and_crop(IMAGES, LABELS, crop(flipped=True), size=(12, 10))
    np.testing.assert_array_equal(images, IMAGES[:, :, ::-1])
    np.testing.assert_array_equal(labels, LABELS[:, :, ::-1])


def test_short_sides_are_padded_centrally_with_the_odd_pixel_at_the_end():
    corners = scene_crops.draw_centred(keys(60), jnp.ones(60), shape=(12, 10), size=(15, 8))
    np.testing.assert_array_equal(corners[:, 0], np.full(60, -1))  # 3 short: 1 before, 2 after.
    assert set(np.asarray(corners[:, 1])) == {0, 1, 2}


def test_a_short_side_pads_all_four():
    # Short by 3 in width: (1 + 3) // 2 = 2 on all sides, so 16 by 14 for a crop of 8 by 13.
    draw = lambda size: scene_crops.draw_surrounded(  # noqa: E731
        keys(200), jnp.ones(200), shape=(12, 10), size=size
    )
    corners = np.asarray(draw((8, 13)))
    assert set(corners[:, 0]) == set(range(-2, 7))
    assert set(corners[:, 1]) == {-2, -1}
    np.testing.assert_array_equal(draw((12, 10)), np.zeros((200, 2)))


def test_scales_come_from_their_range_or_list():
    images, labels = jnp.zeros((200, 4, 4, 1)), jnp.zeros((200, 4, 4), int)
    _, _, drawn = scene_crops.random_scale_range(
        keys(200), images, labels, size=(2, 2), scales=(0.5, 2.0), flip=1.0
    )
    assert (drawn.scales >= 0.5).all()
    assert drawn.scales.max() > 1.9
    assert drawn.flipped.all()
    _, _, drawn = scene_crops.random_scale_choice(
        keys(200), images, labels, size=(2, 2), scales=(0.5, 2.0), flip=0.0
    )
    assert set(np.asarray(drawn.scales)) == {0.5, 2.0}
    assert not drawn.flipped.any()


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_scenes_that_are_short_are_squashed_as_pillow_does(flip):
    image = pytest.importorskip("PIL.Image")
    images, labels, drawn = scene_crops.random_crop_or_squash(
        keys(), IMAGES, LABELS, size=(6, 11), flip=flip
    )
    step = -1 if flip else 1
    scene = image.fromarray(np.asarray(IMAGES[0, :, ::step, 0]))
    expected = np.asarray(scene.resize((11, 6), image.Resampling.BILINEAR))
    np.testing.assert_allclose(images[0, ..., 0], expected, atol=2e-6)
    # 12 rows become 6: under the centres lie rows 1, 3, ...
    truth = image.fromarray(np.asarray(LABELS[0, :, ::step]))
    expected = np.asarray(truth.resize((11, 6), image.Resampling.NEAREST))
    np.testing.assert_array_equal(labels[0], expected)
    np.testing.assert_array_equal(drawn.corners, np.zeros((5, 2)))
    assert (drawn.flipped == bool(flip)).all()


def test_scenes_that_are_short_keep_their_shape_when_scaled():
    # 12 by 10 for a crop of 15 by 15: the shorter side grows to 15, the other to 18.
    images, labels, drawn = scene_crops.random_crop_or_scale(
        keys(60),
        *(jnp.tile(x[:1], (60, *[1] * (x.ndim - 1))) for x in (IMAGES, LABELS)),
        size=(15, 15),
        flip=0.0,
    )
    assert images.shape == (60, 15, 15, 3)
    assert set(np.asarray(drawn.corners[:, 0])) == {0, 1, 2, 3}
    assert (drawn.corners[:, 1] == 0).all()
    whole = resize.resize_half_pixel(IMAGES[:1], size=(18, 15))[0]
    relabeled = resize.resize_labels_centre(LABELS[:1], size=(18, 15))[0]
    for i in range(8):
        rows = slice(drawn.corners[i, 0], drawn.corners[i, 0] + 15)
        np.testing.assert_allclose(images[i], whole[rows], atol=2e-6)
        np.testing.assert_array_equal(labels[i], relabeled[rows])


def test_scenes_that_are_large_enough_are_cropped_alike():
    given = keys(), IMAGES, LABELS
    squashed = scene_crops.random_crop_or_squash(*given, size=(8, 7))
    scaled = scene_crops.random_crop_or_scale(*given, size=(8, 7))
    jax.tree.map(np.testing.assert_array_equal, squashed, scaled)
    top, left = squashed[2].corners[0]
    step = -1 if squashed[2].flipped[0] else 1
    expected = IMAGES[0, :, ::step][top : top + 8, left : left + 7]
    np.testing.assert_array_equal(squashed[0][0], expected)


@pytest.mark.parametrize("scale", [0.45, 0.7, 1.0, 1.6])
def test_smoothed_scenes_are_resized_as_pillow_does(scale):
    image = pytest.importorskip("PIL.Image")
    height, width = int(12 * scale), int(10 * scale)
    images, labels = scene_crops.scale_and_crop_smoothed(
        IMAGES, LABELS, crop(scale, corner=(1, -1)), size=(height - 1, width + 1), fill=7.0
    )
    scene = image.fromarray(np.asarray(IMAGES[0, ..., 0]))
    expected = np.asarray(scene.resize((width, height), image.Resampling.BILINEAR))
    np.testing.assert_allclose(images[0, :, 1:, 0], expected[1:], atol=2e-6)
    assert (images[:, :, 0] == 7.0).all()
    rough = scene_crops.scale_and_crop(
        IMAGES, LABELS, crop(scale, corner=(1, -1)), size=(height - 1, width + 1), fill=7.0
    )
    np.testing.assert_array_equal(labels, rough[1])
    assert np.allclose(images, rough[0], atol=1e-5) == (scale >= 1.0)


def test_scenes_of_pans_are_smoothed_and_those_of_pebal_are_not():
    # Stripes of one pixel at half the size: smoothed they are nearly grey.
    images = jnp.broadcast_to(jnp.arange(16.0)[:, None, None] % 2, (2, 16, 16, 1))
    given = keys(2), images, jnp.zeros((2, 16, 16), int)
    smoothed, _, _ = scene_crops.random_scale_range(*given, size=(5, 5), scales=(0.35, 0.35))
    rough, _, _ = scene_crops.random_scale_choice(*given, size=(5, 5), scales=(0.35,))
    assert np.ptp(smoothed) < 0.3
    assert np.ptp(rough) > 0.5
