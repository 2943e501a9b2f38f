"""Slices of volumes: the published preprocessing, views, intensities, labels, faults."""

import dataclasses

import numpy as np
import pytest
import vectors

from jaxad.data import volume_geometry, volume_slices
from jaxad.data.volume_geometry import Stored, Volume
from jaxad.data.volume_slices import Preparation
from jaxad.errors import InputError

LABELS = {0: 3, 1: 0, 3: 1, 2: 2}


def volume(array, spacing=(1.0, 1.0, 1.0), directions=None, path="v.nii", names=None):
    """A volume as if read from a file of these axes."""
    matrix = volume_geometry.affine(
        spacing, np.eye(3) if directions is None else directions, [0] * 3
    )
    stored = Stored(array.shape, matrix, array.dtype, lambda _: array, {})
    header = volume_geometry.header(path, stored)
    return Volume(volume_geometry.canonical(array, header), header, names or {})


def axial(image, spacing=(1.0, 1.0)):
    """A volume of one axial slice that is shown as `image` `[H, W]`."""
    return volume(np.asarray(image)[::-1, ::-1].T[..., None], (spacing[1], spacing[0], 8.0))


@pytest.mark.parametrize("case", ["c0/", "c1/"])
def test_golden_preprocessing(case):
    golden = vectors.part(vectors.load("aux_prototypes", "preprocess"), case)
    background = int(golden["pad_label"])
    preparation = Preparation(
        spacing=float(golden["target"]),
        size=(int(golden["crop"]),) * 2,
        label_map={k: k for k in range(4)},
        background=background,
    )
    image = axial(golden["img"], golden["spacing"])
    images, segments = volume_slices.slices(
        image, axial(golden["lab"], golden["spacing"]), preparation
    )
    assert (images.dtype, segments.dtype) == (np.float32, np.uint8)
    np.testing.assert_allclose(images[0], golden["normalised"], atol=1e-6)
    np.testing.assert_array_equal(segments[0], golden["lab_cropped"])


@pytest.mark.parametrize("case", ["c0/", "c1/"])
def test_golden_resampling(case):
    golden = vectors.part(vectors.load("aux_prototypes", "preprocess"), case)
    shape = golden["resampled"].shape
    preparation = Preparation(
        spacing=float(golden["target"]), size=shape, intensity="volume_min_max", label_map={0: 0}
    )
    image = axial(golden["img"], golden["spacing"])
    low, high = golden["img"].min(), golden["img"].max()
    actual = volume_slices.slices(image, None, preparation)[0][0] * (high - low) + low
    np.testing.assert_allclose(actual, golden["resampled"], rtol=1e-6)
    preparation = dataclasses.replace(preparation, label_map={k: k for k in range(4)})
    labels = axial(golden["lab"], golden["spacing"])
    segments = volume_slices.slices(image, labels, preparation)[1]
    np.testing.assert_array_equal(segments[0], golden["resampled_lab"])


def ramps():
    """Voxels that tell where they are: x + 10 y + 100 z."""
    x, y, z = np.meshgrid(np.arange(4), np.arange(5), np.arange(6), indexing="ij")
    return (x + 10 * y + 100 * z).astype(np.float32)


def planes(image, view, **options):
    """Slices as they are cut, in the values of the volume."""
    array = image.array
    shape = {"axial": (5, 4), "coronal": (6, 4), "sagittal": (6, 5)}
    size = shape.get(view) or options.pop("size")
    preparation = Preparation(1.0, size, view, "volume_min_max", **options)
    images, _ = volume_slices.slices(image, None, preparation)
    return np.rint(images * (array.max() - array.min()) + array.min()).astype(int)


def test_axial_slices_show_right_at_the_left_and_front_at_the_top():
    shown = planes(volume(ramps()), "axial")
    assert shown.shape == (6, 5, 4)
    np.testing.assert_array_equal(shown[2, 0], [243, 242, 241, 240])  # z = 2, y = 4, x from 3.
    np.testing.assert_array_equal(shown[0, :, 0], [43, 33, 23, 13, 3])


def test_coronal_slices_show_up_at_the_top():
    shown = planes(volume(ramps()), "coronal")
    assert shown.shape == (5, 6, 4)
    np.testing.assert_array_equal(shown[1, 0], [513, 512, 511, 510])


def test_sagittal_slices_show_the_front_at_the_left():
    shown = planes(volume(ramps()), "sagittal")
    assert shown.shape == (4, 6, 5)
    np.testing.assert_array_equal(shown[3, 5], [43, 33, 23, 13, 3])


@pytest.mark.parametrize("view", ["axial", "coronal", "sagittal"])
def test_views_do_not_depend_on_the_order_of_the_file(view):
    turned = volume(
        ramps().transpose(2, 0, 1)[:, ::-1], directions=np.eye(3)[:, [2, 0, 1]] * [1, -1, 1]
    )
    np.testing.assert_array_equal(planes(turned, view), planes(volume(ramps()), view))


@pytest.mark.parametrize("axis, view", enumerate(["sagittal", "coronal", "axial"]))
def test_acquisition_cuts_across_the_largest_spacing(axis, view):
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 8.0
    size = {"axial": (5, 4), "coronal": (6, 4), "sagittal": (6, 5)}[view]
    actual = planes(volume(ramps(), spacing), "acquisition", size=size)
    np.testing.assert_array_equal(actual, planes(volume(ramps()), view))


def test_acquisition_of_equal_spacings_is_the_last_axis_of_the_file():
    turned = volume(ramps().transpose(2, 0, 1), directions=np.eye(3)[:, [2, 0, 1]])
    actual = planes(turned, "acquisition", size=(6, 4))
    np.testing.assert_array_equal(actual, planes(volume(ramps()), "coronal"))


def test_acquisition_of_a_single_slice_cuts_across_it():
    one = volume(ramps()[:, :, :1], (1.0, 1.0, 0.1))
    assert planes(one, "acquisition", size=(5, 4)).shape == (1, 5, 4)


def test_stored_view_is_the_order_of_the_file():
    stored = ramps().transpose(2, 0, 1)[:, ::-1]
    turned = volume(stored, directions=np.eye(3)[:, [2, 0, 1]] * [1, -1, 1])
    shown = planes(turned, "stored", size=(4, 6))
    np.testing.assert_array_equal(shown, stored.T.transpose(0, 1, 2))


def test_pixels_have_the_asked_spacing():
    # A disc of 20 mm keeps its diameter, whatever the voxels were.
    x, y = np.meshgrid(np.arange(80), np.arange(50), indexing="ij")
    disc = np.hypot((x - 39.5) * 0.5, (y - 24.5) * 0.8) < 10
    image = volume(np.repeat(disc[..., None], 2, 2).astype(np.int16), (0.5, 0.8, 8.0))
    images, _ = volume_slices.slices(image, None, Preparation(0.6, (64, 64)))
    across = (images[0] > 0.5).sum(axis=(0, 1)) * 0.6**2
    assert across == pytest.approx(np.pi * 100, rel=0.02)


def test_min_max_is_of_the_cropped_slice():
    image = np.tile(np.arange(10.0), (10, 1))
    images, _ = volume_slices.slices(axial(image), None, Preparation(1.0, (4, 4)))
    np.testing.assert_allclose(images[0], np.tile([0, 1 / 3, 2 / 3, 1], (4, 1)), atol=1e-6)


def test_padding_counts_as_zero_in_min_max():
    images, _ = volume_slices.slices(axial([[5.0, 10.0]]), None, Preparation(1.0, (3, 4)))
    np.testing.assert_allclose(images[0], [[0] * 4, [0, 0.5, 1, 0], [0] * 4])


def test_odd_padding_goes_to_the_end():
    images, _ = volume_slices.slices(axial([[5.0]]), None, Preparation(1.0, (2, 2)))
    np.testing.assert_allclose(images[0], [[1, 0], [0, 0]])


@pytest.mark.parametrize("intensity", volume_slices.INTENSITIES)
@pytest.mark.parametrize("value", [0.0, 1.3e6 + 0.1, -1e-30, 1e38])
def test_constant_slice_is_zero(intensity, value):
    image = volume(np.full((9, 7, 2), value, np.float32), (0.7, 1.3, 9.0))
    images, _ = volume_slices.slices(image, None, Preparation(0.6, (6, 6), intensity=intensity))
    np.testing.assert_array_equal(images, 0.0)


def test_largest_range_of_values_stays_in_zero_to_one():
    image = axial(np.array([[-1e38, 0.0, 1e38]], np.float32))
    images, _ = volume_slices.slices(image, None, Preparation(1.0, (1, 3)))
    np.testing.assert_allclose(images[0], [[0, 0.5, 1]])


def test_percentiles_clip_outliers():
    image = np.tile(np.linspace(0, 100, 40), (40, 1))
    image[20, 20] = 1e6
    images, _ = volume_slices.slices(
        axial(image), None, Preparation(1.0, (40, 40), intensity="slice_percentiles")
    )
    assert images[0, 20, 20] == 1.0
    assert images[0, 0, 30] == pytest.approx(image[0, 30] / 100, abs=0.01)


def test_volume_min_max_keeps_the_contrast_of_slices():
    array = np.stack([np.eye(4), 4 * np.eye(4)], axis=-1)
    images, _ = volume_slices.slices(
        volume(array, (1, 1, 5)), None, Preparation(1.0, (4, 4), intensity="volume_min_max")
    )
    assert images.max(axis=(1, 2)).tolist() == [0.25, 1.0]


def test_labels_are_mapped_and_padded_with_background():
    labels = axial(np.array([[0, 1, 3, 2]], np.uint8))
    preparation = Preparation(1.0, (3, 4), label_map=LABELS)
    _, segments = volume_slices.slices(axial(np.ones((1, 4))), labels, preparation)
    np.testing.assert_array_equal(segments[0], [[3] * 4, [3, 0, 1, 2], [3] * 4])


def test_labels_stored_as_floats():
    labels = axial(np.array([[0, 1, 3, 2]], np.float32))
    preparation = Preparation(1.0, (1, 4), label_map=LABELS)
    _, segments = volume_slices.slices(axial(np.ones((1, 4))), labels, preparation)
    np.testing.assert_array_equal(segments[0], [[3, 0, 1, 2]])


@pytest.mark.parametrize("value, text", [(7, "7"), (1.5, "1.5"), (np.nan, "nan"), (-1, "-1")])
def test_label_outside_the_table_is_named(value, text):
    labels = axial(np.array([[0, 1, value, value]], np.float32))
    preparation = Preparation(1.0, (1, 4), label_map=LABELS)
    with pytest.raises(InputError, match=rf"v\.nii hold values outside.*: {text}.*0, 1, 2, 3"):
        volume_slices.slices(axial(np.ones((1, 4))), labels, preparation)


def named(names):
    return dataclasses.replace(axial(np.array([[0, 1, 2, 5]])), names=names)


def test_labels_by_name_of_segment():
    labels = named({"AFS": 1, "pz ": 2, "TZ": 5})
    table = {"PZ": 0, "TZ": 1, "AFS": 1, "DPU": 2, 0: 3}
    _, segments = volume_slices.slices(
        axial(np.ones((1, 4))), labels, Preparation(1.0, (1, 4), label_map=table)
    )
    np.testing.assert_array_equal(segments[0], [[3, 1, 0, 1]])


def test_segment_without_class_is_named():
    preparation = Preparation(1.0, (1, 4), label_map={"PZ": 0, "TZ": 1})
    with pytest.raises(InputError, match=r"segments outside the table: AFS; known are pz, tz"):
        volume_slices.slices(axial(np.ones((1, 4))), named({"AFS": 1, "PZ": 2}), preparation)


def test_numbers_serve_where_a_file_names_nothing():
    table = {"PZ": 0, "TZ": 1, 1: 0, 2: 1, 5: 1, 0: 2}
    _, segments = volume_slices.slices(
        axial(np.ones((1, 4))), named({}), Preparation(1.0, (1, 4), label_map=table)
    )
    np.testing.assert_array_equal(segments[0], [[2, 0, 1, 1]])


@pytest.mark.parametrize(
    "options, expected",
    [
        (dict(label_map={0: 3, 1: 0}), 3),
        (dict(label_map={"PZ": 0, "TZ": 1}), 2),
        (dict(label_map={0: 0, 1: 1}, background=9), 9),
    ],
)
def test_background_class(options, expected):
    assert volume_slices.background_class(Preparation(1.0, **options)) == expected


def test_labels_without_a_table_are_refused():
    with pytest.raises(InputError, match=r"need Preparation\.label_map"):
        volume_slices.slices(axial([[1.0]]), axial([[1]]), Preparation(1.0, (1, 1)))


def test_grids_that_differ_are_named():
    preparation = Preparation(1.0, (1, 4), label_map=LABELS)
    labels = dataclasses.replace(axial(np.zeros((1, 4)), (1.0, 1.2)))
    with pytest.raises(
        InputError, match=r"v\.nii are not on the grid.*spacing \(1, 1, 8\) against"
    ):
        volume_slices.slices(axial(np.ones((1, 4))), labels, preparation)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_counted(value):
    with pytest.raises(InputError, match=r"v\.nii has 2 voxels that are NaN.*of 4"):
        volume_slices.slices(axial([[value, value, 1, 2]]), None, Preparation(1.0, (1, 4)))


def movie():
    return np.random.default_rng(0).random((4, 5, 2, 3))


def test_frames_come_one_after_the_other():
    array = movie()
    options = dict(spacing=1.0, size=(5, 4), view="axial")
    images, _ = volume_slices.slices(volume(array), None, Preparation(frames=(2, 0), **options))
    for place, frame in enumerate((2, 0)):
        expected, _ = volume_slices.slices(volume(array[..., frame]), None, Preparation(**options))
        np.testing.assert_array_equal(images[2 * place : 2 * place + 2], expected)


def test_frames_of_labels_go_with_those_of_the_image():
    array = (movie() * 4).astype(np.uint8)
    preparation = Preparation(1.0, (5, 4), view="axial", label_map=LABELS)
    _, segments = volume_slices.slices(volume(array), volume(array), preparation, (1,))
    single = volume(array[..., 1])
    _, expected = volume_slices.slices(volume(array), single, preparation, (1,))
    np.testing.assert_array_equal(segments, expected)


def test_four_axes_without_frames_are_refused():
    with pytest.raises(InputError, match=r"v\.nii has 4 axes \(4, 5, 2, 3\); expected three"):
        volume_slices.slices(volume(movie()), None, Preparation(1.0, (5, 4)))


def test_frame_that_does_not_exist():
    with pytest.raises(InputError, match=r"v\.nii.*no frames \(3,\); expected some of 0 to 2"):
        volume_slices.slices(volume(movie()), None, Preparation(1.0, (5, 4)), (3,))


def test_labels_of_three_axes_do_not_go_with_two_frames():
    preparation = Preparation(1.0, (5, 4), label_map=LABELS)
    labels = volume(np.zeros((4, 5, 2)))
    with pytest.raises(InputError, match=r"no frames \(0, 2\)"):
        volume_slices.slices(volume(movie()), labels, preparation, (0, 2))


def test_slice_smaller_than_the_crop_may_be_an_error():
    preparation = Preparation(0.5, (20, 20), view="axial", small="error")
    with pytest.raises(InputError, match=r"v\.nii has slices of 10 x 8 pixels.*at least 20 x 20"):
        volume_slices.slices(volume(ramps()), None, preparation)
    exact = dataclasses.replace(preparation, size=(10, 8))
    assert volume_slices.slices(volume(ramps()), None, exact)[0].shape == (6, 10, 8)


def test_slices_of_background_alone_can_be_dropped():
    segments = np.full((3, 2, 2), 3, np.uint8)
    segments[1, 0, 0] = 0
    drop = Preparation(1.0, label_map=LABELS, empty="drop")
    assert volume_slices.kept(segments, drop).tolist() == [False, True, False]
    assert volume_slices.kept(segments, Preparation(1.0, label_map=LABELS)) == slice(None)


@pytest.mark.parametrize(
    "options, text",
    [
        (dict(spacing=0.0), "spacing.*above 0"),
        (dict(spacing=float("nan")), "spacing.*above 0"),
        (dict(spacing=None), "spacing.*above 0"),
        (dict(size=(224,)), "size.*two lengths"),
        (dict(view="oblique"), "view.*'axial'"),
        (dict(intensity="none"), "intensity.*slice_min_max"),
        (dict(label_map={}), "label_map"),
        (dict(label_map={0: 255}), "label_map.*0 to 254"),
        (dict(small="crop"), "small.*'pad' or 'error'"),
        (dict(empty="skip"), "empty.*'keep' or 'drop'"),
    ],
)
def test_options_that_are_not_valid_are_named(options, text):
    with pytest.raises(InputError, match=text):
        Preparation(**{"spacing": 1.0, **options})
