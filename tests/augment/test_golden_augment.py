"""Augmentations against golden vectors of published code and of the documents' equations."""

import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vectors

from jaxad.augment import (
    anomaly_mix,
    cutout,
    elastic,
    intensity,
    patches,
    permutations,
    resize,
    rotations,
    swap,
)

PRECISIONS = {  # Context, type, tolerance.
    "float32": (contextlib.nullcontext, jnp.float32, 1e-6),
    "float64": (partial(jax.enable_x64, True), jnp.float64, 1e-12),
}
both_precisions = pytest.mark.parametrize("precision", list(PRECISIONS))


@pytest.mark.parametrize("name", ["permutation_8x8", "permutation_7x10", "permutation_5x5"])
def test_swapped_halves_as_released(name):
    case = vectors.part(vectors.load("ccd", "augmentations"), f"{name}/")
    for k in range(4):
        actual = permutations.swap_halves(case["x"], np.full(2, k))
        np.testing.assert_array_equal(actual, case[f"k{k}"], strict=True)


@pytest.mark.parametrize("name", ["rotation_8x8", "rotation_5x5"])
def test_quarter_turns_as_released(name):
    arrays = vectors.load("ccd", "augmentations")
    images = arrays[f"{name.replace('rotation', 'permutation')}/x"]
    for k in range(4):
        actual = rotations.rotate_quarter(images, np.full(2, k))
        np.testing.assert_array_equal(actual, arrays[f"{name}/k{k}"], strict=True)


@pytest.mark.parametrize("k", range(4))
def test_cutout_as_released(k):
    case = vectors.part(vectors.load("ccd", "augmentations"), f"cutout_k{k}/")
    centres = case["centres"].astype(int)[None]
    actual = cutout.cut_out(case["x"], centres, np.array([k]), length=int(case["length"]))
    np.testing.assert_array_equal(actual, case["y"], strict=True)


def test_patch_list_as_released():
    expected = vectors.load("ccd", "augmentations")[
        "patch_grid/first_pixel_of_each_patch_of_arange_2x1x256x256"
    ]
    images = np.arange(2.0 * 256 * 256, dtype=np.float32).reshape(2, 256, 256, 1)
    parts = permutations.split_patches(images, size=32)
    assert parts.shape == (2, 64, 32, 32, 1)
    released = jnp.moveaxis(parts, 1, 0).reshape(-1, 32, 32, 1)
    np.testing.assert_array_equal(released[:, 0, 0, 0], expected)


def test_negatives_of_self_distillation_are_exact():
    arrays = vectors.load("self_distillation", "negatives")
    actual = {
        "rot": rotations.rotate_quarter(arrays["x"], arrays["rot_k"]),
        "perm4": permutations.permute_patches(arrays["x"], arrays["perm4_idx"]),
        "perm16": permutations.permute_patches(arrays["x"], arrays["perm16_idx"]),
        "pixperm": permutations.permute_pixels(arrays["x"], arrays["pixperm_idx"]),
    }
    for name, images in actual.items():
        np.testing.assert_array_equal(images, arrays[name], strict=True, err_msg=name)


@pytest.mark.parametrize("i", range(4))
def test_anomaly_mix_is_exact(i):
    arrays = vectors.load("pebal", "anomaly_mix")
    names = ("image", "label", "object", "object_mask", "top_left")
    given = [arrays[f"{name}/{i}"][None] for name in names]
    images, labels, pasted = jax.jit(anomaly_mix.anomaly_mix)(*given)
    np.testing.assert_array_equal(images[0], arrays[f"mixed_image/{i}"], strict=True)
    np.testing.assert_array_equal(labels[0], arrays[f"mixed_label/{i}"], strict=True)
    assert pasted[0] == bool((given[3] == 254).any())


def test_objects_of_several_sizes_padded_to_one_are_pasted_alike():
    arrays = vectors.load("pebal", "anomaly_mix")
    pad = lambda x: np.pad(x, [(0, 16 - x.shape[0]), (0, 29 - x.shape[1]), (0, 0)][: x.ndim])  # noqa: E731
    stack = lambda name, f=np.asarray: np.stack([f(arrays[f"{name}/{i}"]) for i in range(4)])  # noqa: E731
    images, labels, _ = jax.jit(anomaly_mix.anomaly_mix)(
        stack("image"),
        stack("label"),
        stack("object", pad),
        stack("object_mask", pad),
        stack("top_left"),
    )
    np.testing.assert_array_equal(images, stack("mixed_image"), strict=True)
    np.testing.assert_array_equal(labels, stack("mixed_label"), strict=True)


@both_precisions
@pytest.mark.parametrize("shape", ["square", "rect"])
def test_fisheye_and_wave(shape, precision):
    context, dtype, tolerance = PRECISIONS[precision]
    case = vectors.part(vectors.load("pmsacl", "medmix"), f"{shape}/")
    bends = {k: k[9:] for k in case if k.startswith("fisheye_k") and k[-1].isdigit()}
    waves = {k: [float(x[1:]) for x in k.split("_")[1:]] for k in case if k.startswith("wave")}
    with context():
        repeat = lambda n: jnp.asarray(np.repeat(case["patch"][None], n, 0), dtype)  # noqa: E731
        strengths = jnp.asarray([float(k) for k in bends.values()], dtype)
        actual = jax.jit(patches.fisheye)(repeat(len(bends)), strengths)
        vectors.assert_close(actual, np.stack([case[k] for k in bends]), rtol=0, atol=5 * tolerance)
        parameters = jnp.asarray(list(waves.values()), dtype).T
        actual = jax.jit(patches.horizontal_wave)(repeat(len(waves)), *parameters)
        vectors.assert_close(actual, np.stack([case[k] for k in waves]), rtol=0, atol=5 * tolerance)


def test_ordered_pastes_take_from_the_images_as_they_were():
    case = vectors.part(vectors.load("pmsacl", "medmix"), "paste/")
    images = jnp.asarray(case["images"])
    boxes = np.zeros((3, 2, 7), int)  # Source, corner, source corner, size; size 0: no lesion.
    for target in range(3):
        own = case["boxes"][case["boxes"][:, 0] == target][:, 1:]
        boxes[target, : len(own)] = own
    flat = boxes.reshape(-1, 7)
    taken = patches.take_patches(images, flat[:, 0], flat[:, 3:5], shape=(12, 11))
    result, regions = patches.paste_patches(
        images, taken.reshape(3, 2, 12, 11, 3), boxes[..., 1:3], boxes[..., 5:]
    )
    np.testing.assert_array_equal(result, case["result"].astype(np.float32))
    np.testing.assert_array_equal(regions, case["changed_region"])


def test_outliers_of_auxiliary_prototypes():
    arrays = vectors.load("aux_prototypes", "transforms")
    image = arrays["img"][None, ..., None]
    exact = {
        "rot180": rotations.rotate_half(image),
        "vflip": rotations.flip_vertical(image, np.array([True])),
        "perm2x2": permutations.permute_patches(image, arrays["perm2x2_idx"][None]),
        "perm4x4": permutations.permute_patches(image, arrays["perm4x4_idx"][None]),
        "swap": swap.swap_patches(
            image, arrays["swap_locations"][None], patch=int(arrays["swap_patch"])
        ),
    }
    for name, images in exact.items():
        np.testing.assert_array_equal(images[0, ..., 0], arrays[name], err_msg=name)


@both_precisions
def test_gamma_and_elastic_of_auxiliary_prototypes(precision):
    context, dtype, tolerance = PRECISIONS[precision]
    arrays = vectors.load("aux_prototypes", "transforms")
    with context():
        image = jnp.asarray(arrays["img"][None, ..., None], dtype)
        actual = intensity.adjust_gamma(
            jnp.repeat(image, 3, 0), jnp.asarray(arrays["gamma_log"], dtype)
        )
        vectors.assert_close(actual[..., 0], arrays["gamma"], rtol=0, atol=tolerance)
        controls = jnp.asarray(arrays["elastic_control"][None], dtype)
        fields = elastic.spline_fields(controls, size=image.shape[1:3])
        vectors.assert_close(fields[0], arrays["elastic_field"], rtol=0, atol=tolerance)
        actual = elastic.deform_images(image, fields)
        # Float32 coordinates of 64 pixels are good to 4e-6 of a pixel.
        vectors.assert_close(actual[0, ..., 0], arrays["elastic"], rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("i", range(5))
def test_resizing_and_pooling_as_torch(i):
    arrays = vectors.load("pans", "resize")
    last = lambda x: np.moveaxis(x, 1, -1)  # noqa: E731
    images, size = jnp.asarray(last(arrays[f"x/{i}"])), tuple(int(n) for n in arrays[f"size/{i}"])
    actual = resize.resize_half_pixel(images, size=size)
    vectors.assert_close(actual, last(arrays[f"align_false/{i}"]), rtol=0, atol=2e-6)
    actual = resize.resize_corners(images, size=size)
    vectors.assert_close(actual, last(arrays[f"align_true/{i}"]), rtol=0, atol=2e-6)
    for bins in (1, 2, 3, 6):
        actual = resize.adaptive_average_pool(images, size=(bins, bins))
        vectors.assert_close(actual, last(arrays[f"adaptive_avg_{bins}/{i}"]), rtol=0, atol=1e-6)


def test_labels_at_a_smaller_size():
    arrays = vectors.load("aux_prototypes", "preprocess")
    labels, factor = jnp.asarray(arrays["down_labels"]), int(arrays["down_factor"])
    size = tuple(n // factor for n in labels.shape[1:])
    actual = {
        "down_nearest_topleft": resize.resize_nearest(labels, size=size),
        "down_nearest_centre": resize.resize_labels_centre(labels, size=size),
        "down_majority": resize.resize_labels_majority(labels, factor=factor),
    }
    for name, small in actual.items():
        np.testing.assert_array_equal(small, arrays[name], strict=True, err_msg=name)
