"""Reading volumes: one phantom in every format and order of axes, and files that are not right."""

import gzip
import itertools
import pathlib

import numpy as np
import pytest
import volume_files as files

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("SimpleITK")
pytest.importorskip("pydicom")

from jaxad.data import (  # noqa: E402
    dicom_volumes,
    volume_geometry,
    volume_libraries,
    volumes,
)
from jaxad.errors import InputError  # noqa: E402

WRITERS = {
    "v.nii": files.write_nifti,
    "v.nii.gz": files.write_nifti,
    "v.mha": files.write_itk,
    "v.mhd": files.write_itk,
    "v.nrrd": files.write_itk,
    "v.nhdr": files.write_itk,
    "v.npz": files.write_npz,
    "series": files.write_series,
}
NIBABEL_DATA = pathlib.Path(nibabel.__file__).parent / "tests" / "data"


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_volume(tmp_path, name):
    WRITERS[name](tmp_path / name, files.phantom())
    volume = volumes.read(str(tmp_path / name))
    np.testing.assert_array_equal(volume.array, files.phantom())
    np.testing.assert_allclose(volume.spacing, files.SPACING)
    np.testing.assert_allclose(volume.header.directions, np.eye(3))
    np.testing.assert_allclose(volume.header.origin, files.ORIGIN, atol=1e-5)


@pytest.mark.parametrize("name", WRITERS)
def test_header_is_that_of_the_voxels(tmp_path, name):
    WRITERS[name](tmp_path / name, files.phantom())
    header = volumes.read_header(str(tmp_path / name))
    volume = volumes.read(str(tmp_path / name))
    assert (header.shape, header.dtype.kind) == (volume.array.shape, volume.array.dtype.kind) or (
        name == "series" and header.dtype == np.uint16
    )
    assert volume_geometry.differences(header, volume.header) == []


def test_all_48_orders_of_axes_give_one_volume(tmp_path):
    expected = files.phantom()
    image = nibabel.Nifti1Image(expected, files.ras())
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((-1, 1), repeat=3):
            turned = image.as_reoriented(np.stack([order, signs], axis=1))
            nibabel.save(turned, tmp_path / "turned.nii")
            volume = volumes.read(str(tmp_path / "turned.nii"))
            np.testing.assert_array_equal(volume.array, expected)
            np.testing.assert_allclose(volume.header.origin, files.ORIGIN, atol=1e-4)
            np.testing.assert_allclose(volume.spacing, files.SPACING)


def test_file_axes_lead_back_to_the_order_of_the_file(tmp_path):
    stored = files.phantom()
    affine = files.ras()[:, [2, 0, 1, 3]] * [1, -1, 1, 1]  # First axis up, second to the left.
    volume = volumes.read(files.write_nifti(tmp_path / "v.nii", stored, affine))
    header = volume.header
    assert (header.file_axes, header.file_signs) == ((2, 0, 1), (1, -1, 1))
    back = volume.array.transpose(header.file_axes)[tuple(slice(None, None, s) for s in (1, -1, 1))]
    np.testing.assert_array_equal(back, stored)


def test_oblique_axes_go_to_the_closest_without_interpolation(tmp_path):
    c, s = np.cos(0.5), np.sin(0.5)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    affine = files.ras()
    affine[:3, :3] = turn @ affine[:3, :3][:, [1, 0, 2]] * [1, -1, 1]
    path = files.write_nifti(tmp_path / "v.nii", files.phantom(), affine)
    expected = nibabel.as_closest_canonical(nibabel.load(path))
    volume = volumes.read(path)
    np.testing.assert_array_equal(volume.array, expected.dataobj)
    matrix = volume_geometry.affine(volume.spacing, volume.header.directions, volume.header.origin)
    np.testing.assert_allclose(matrix, expected.affine, atol=1e-5)
    np.testing.assert_allclose(volume.header.directions, turn, atol=1e-6)


def turned_image(seed):
    """A SimpleITK image of any orientation, mirrored ones too."""
    import SimpleITK

    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    image = SimpleITK.GetImageFromArray(files.phantom().T)
    image.SetSpacing(files.SPACING)
    image.SetOrigin(files.ORIGIN)
    image.SetDirection(turn.ravel())
    return image


@pytest.mark.parametrize("seed", range(4))
def test_what_itk_writes_is_one_volume_in_every_format(tmp_path, seed):
    import SimpleITK

    read = []
    for name in ("v.nii.gz", "v.mha", "v.nrrd"):
        SimpleITK.WriteImage(turned_image(seed), str(tmp_path / name))
        read.append(volumes.read(str(tmp_path / name)))
    for other in read[1:]:
        assert volume_geometry.differences(read[0].header, other.header) == []
        np.testing.assert_array_equal(read[0].array, other.array)
        np.testing.assert_allclose(read[0].header.origin, other.header.origin, atol=1e-4)


def test_oblique_dicom_lies_where_itk_sees_it(tmp_path):
    import pydicom
    import SimpleITK

    written = files.write_series(tmp_path / "s", files.phantom())
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turn[:, 2] = np.cross(turn[:, 0], turn[:, 1])
    for place, path in enumerate(written):
        data = pydicom.dcmread(path)
        data.ImageOrientationPatient = [f"{v:.9f}" for v in (*turn[:, 0], *turn[:, 1])]
        data.ImagePositionPatient = [f"{v:.6f}" for v in turn[:, 2] * 5.0 * place + files.ORIGIN]
        data.save_as(path)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "s")))
    SimpleITK.WriteImage(reader.Execute(), str(tmp_path / "v.mha"))
    expected, actual = (volumes.read(str(tmp_path / name)) for name in ("v.mha", "s"))
    assert volume_geometry.differences(expected.header, actual.header) == []
    np.testing.assert_array_equal(actual.array, expected.array)


def test_image_and_labels_at_45_degrees_get_the_same_axes(tmp_path):
    headers = []
    for name, angle in (("a", np.pi / 4 - 1e-7), ("b", np.pi / 4 + 1e-7)):
        c, s = np.cos(angle), np.sin(angle)
        affine = files.ras()
        affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) * files.SPACING
        path = files.write_nifti(tmp_path / f"{name}.nii", files.phantom(), affine)
        headers.append(volumes.read_header(path))
    assert volume_geometry.differences(*headers) == []


@pytest.mark.parametrize(
    "name",
    [
        *("anatomical.nii", "functional.nii", "example4d.nii.gz", "example_nifti2.nii.gz"),
        *("standard.nii.gz", "reoriented_anat_moved.nii"),
    ],
)
def test_files_of_nibabel_agree_with_nibabel(name):
    path = NIBABEL_DATA / name
    if not path.exists():
        pytest.skip(f"nibabel was installed without its test data: no {path}")
    expected = nibabel.as_closest_canonical(nibabel.load(path))
    volume = volumes.read(str(path))
    np.testing.assert_allclose(volume.array, np.asarray(expected.dataobj, np.float32), rtol=1e-6)
    np.testing.assert_allclose(volume.spacing, expected.header.get_zooms()[:3], atol=1e-6)
    matrix = volume_geometry.affine(volume.spacing, volume.header.directions, volume.header.origin)
    # The qform of some of these files is short of a rotation by 1e-6.
    np.testing.assert_allclose(matrix, expected.affine, atol=1e-3)


def test_file_with_nan_voxels_is_read_as_it_is():
    path = NIBABEL_DATA / "resampled_anat_moved.nii"
    if not path.exists():
        pytest.skip(f"nibabel was installed without its test data: no {path}")
    assert np.isnan(volumes.read(str(path)).array).any()


def test_rescaling_of_the_header_is_applied(tmp_path):
    image = nibabel.Nifti1Image(files.phantom(), files.ras())
    image.header.set_slope_inter(2.0, -3.0)
    image = nibabel.Nifti1Image(files.phantom().astype(np.float64), files.ras(), image.header)
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "v.nii")
    array = volumes.read(str(tmp_path / "v.nii")).array
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, files.phantom(), rtol=1e-3)


def test_chosen_frames(tmp_path):
    array = files.phantom((5, 6, 4, 3))
    path = files.write_nifti(tmp_path / "v.nii.gz", array)
    volume = volumes.read(path, frames=(2, 0))
    np.testing.assert_array_equal(volume.array, array[..., [2, 0]])
    assert (volume.header.shape, volume.header.times) == ((5, 6, 4, 2), (2, 0))


def test_frame_that_does_not_exist(tmp_path):
    path = files.write_nifti(tmp_path / "v.nii", files.phantom((5, 6, 4, 3)))
    with pytest.raises(InputError, match=r"v\.nii.*no frames \(0, 3\).*0 to 2"):
        volumes.read(path, frames=(0, 3))


def test_fourth_axis_of_one_is_none(tmp_path):
    path = files.write_nifti(tmp_path / "v.nii", files.phantom((5, 6, 4, 1)))
    assert volumes.read_header(path).shape == (5, 6, 4)
    assert volumes.read(path).array.shape == (5, 6, 4)


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 4, 3, 2)])
def test_other_numbers_of_axes_are_refused(tmp_path, shape):
    path = files.write_nifti(tmp_path / "v.nii", files.phantom(shape))
    with pytest.raises(InputError, match=r"v\.nii.*axes.*expected three"):
        volumes.read_header(path)


@pytest.mark.parametrize("length", [0.0, np.nan, np.inf])
def test_nifti_without_spacing(tmp_path, length):
    path = files.write_nifti(tmp_path / "v.nii", files.phantom(), pixdim=(1.5, length, 5))
    with pytest.raises(InputError, match=r"v\.nii has no spacing: pixdim"):
        volumes.read_header(path)


@pytest.mark.parametrize("name", ["v.mha", "v.mhd", "v.nrrd"])
@pytest.mark.parametrize("change", ["absent", "zero"])
def test_itk_file_without_spacing(tmp_path, name, change):
    path = files.write_itk(tmp_path / name, files.phantom())
    raw = pathlib.Path(path).read_bytes()
    field = b"space directions: " if name == "v.nrrd" else b"ElementSpacing = "
    start = raw.index(field)
    end = raw.index(b"\n", start) + 1
    values = b"(1.5,0,0) (0,0,0) (0,0,5)" if name == "v.nrrd" else b"1.5 0 5"
    raw = raw[:start] + (field + values + b"\n" if change == "zero" else b"") + raw[end:]
    pathlib.Path(path).write_bytes(raw)
    with pytest.raises(InputError, match=rf"{name} has no spacing"):
        volumes.read_header(path)


def test_npz_without_spacing(tmp_path):
    np.savez(tmp_path / "none.npz", array=files.phantom())
    files.write_npz(tmp_path / "zero.npz", files.phantom(), spacing=(1, 0, 1))
    for name, text in (("none", r"lacks \['spacing'\]"), ("zero", "has no spacing")):
        with pytest.raises(InputError, match=rf"{name}\.npz.*{text}"):
            volumes.read_header(str(tmp_path / f"{name}.npz"))


def test_dicom_without_spacing(tmp_path):
    files.write_series(tmp_path / "s", files.phantom(), PixelSpacing=None)
    with pytest.raises(InputError, match=r"no spacing or place: it lacks \['PixelSpacing'\]"):
        volumes.read_header(str(tmp_path / "s"))


def test_spacing_of_affine_and_pixdim_that_differ_is_told(tmp_path, caplog):
    path = files.write_nifti(tmp_path / "v.nii", files.phantom(), pixdim=(1, 1, 9))
    assert volumes.read_header(path).spacing == (1.0, 1.0, 9.0)
    assert "pixdim is used" in caplog.text


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_truncated_file_is_named(tmp_path, name, share):
    WRITERS[name](tmp_path / name, files.phantom((9, 8, 7)))
    damaged = {"v.mhd": "v.raw", "v.nhdr": "v.raw", "series": "series/IM919_1"}.get(name, name)
    raw = (tmp_path / damaged).read_bytes()
    (tmp_path / damaged).write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(InputError, match=rf"{name}.*(cannot be read whole|is cut off)"):
        volumes.read(str(tmp_path / name))


def test_damaged_gzip_is_named(tmp_path):
    path = tmp_path / "v.nii.gz"
    files.write_nifti(path, np.random.default_rng(0).integers(0, 9999, (9, 8, 7), np.int16))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 40] = bytes(40)
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"v\.nii\.gz cannot be read whole"):
        volumes.read(str(path))


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz", "v.mha", "v.nrrd", "v.npz", "v.dcm"])
def test_file_of_another_kind_is_named(tmp_path, name):
    content = b"no volume at all " * 60
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(InputError, match=name):
        volumes.read_header(str(tmp_path / name))


def test_missing_and_unknown_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.nii does not exist"):
        volumes.read(str(tmp_path / "gone.nii"))
    (tmp_path / "v.png").touch()
    with pytest.raises(InputError, match=r"v\.png is of no known format; expected \.nii"):
        volumes.read(str(tmp_path / "v.png"))


def test_empty_volume(tmp_path):
    path = files.write_npz(tmp_path / "v.npz", np.zeros((5, 0, 4)))
    with pytest.raises(InputError, match=r"v\.npz has shape \(5, 0, 4\): it holds no voxels"):
        volumes.read_header(path)


def test_complex_and_colour_volumes_are_refused(tmp_path):
    path = files.write_npz(tmp_path / "v.npz", np.zeros((5, 6, 4), np.complex64))
    with pytest.raises(InputError, match="complex64; expected real numbers"):
        volumes.read(path)


def test_missing_library_tells_what_to_install(tmp_path, monkeypatch):
    path = files.write_nifti(tmp_path / "v.nii", files.phantom())
    monkeypatch.setitem(volume_libraries.importlib.sys.modules, "nibabel", None)
    with pytest.raises(InputError, match=r'needs nibabel.*pip install "jaxad\[medical\]"'):
        volumes.read(path)


def test_segment_names_of_nrrd(tmp_path):
    path = tmp_path / "v.seg.nrrd"
    files.write_itk(path, files.phantom(), names={"Peripheral zone": 3, "Urethra": 1})
    assert volumes.read(str(path)).names == {"Peripheral zone": 3, "Urethra": 1}


@pytest.fixture(name="patient")
def _patient(tmp_path):
    """A folder of a patient: two series, and a file that is no image."""
    files.write_series(tmp_path / "p" / "tra", files.phantom())
    files.write_series(tmp_path / "p" / "sag", -files.phantom(), "1.2.3.2", "T2_TSE_sag", 2)
    (tmp_path / "p" / "LICENSE").write_text("text")
    return str(tmp_path / "p")


@pytest.mark.parametrize("choice", ["t2_tse_tra", "T2_TSE_TRA", "_tra", "1.2.3.1"])
def test_series_is_chosen(patient, choice):
    np.testing.assert_array_equal(volumes.read(patient, series=choice).array, files.phantom())


@pytest.mark.parametrize("choice", ["", "t2_tse", "adc"])
def test_series_that_is_not_clear_is_refused_with_a_list(patient, choice):
    with pytest.raises(
        InputError, match=r"(?s)2 series.*1: 't2_tse_tra', 4 files.*2: 'T2_TSE_sag'"
    ):
        volumes.read_header(patient, series=choice)


def test_series_are_listed_by_number(patient):
    found = dicom_volumes.list_series(patient)
    assert [(s.number, s.description, len(s.files)) for s in found] == [
        (1, "t2_tse_tra", 4),
        (2, "T2_TSE_sag", 4),
    ]


def test_series_without_one_slice_is_refused(tmp_path):
    written = files.write_series(tmp_path / "s", files.phantom())
    pathlib.Path(written[1]).unlink()
    with pytest.raises(InputError, match=r"5 to 10 mm apart.*Is a slice missing"):
        volumes.read_header(str(tmp_path / "s"))


def test_slices_at_the_same_place_are_frames(tmp_path):
    array = files.phantom((5, 6, 4, 3))
    files.write_series(tmp_path / "s", array)
    np.testing.assert_array_equal(volumes.read(str(tmp_path / "s")).array, array)
    chosen = volumes.read(str(tmp_path / "s"), frames=(1,))
    np.testing.assert_array_equal(chosen.array, array[..., [1]])


def test_rescale_slope_of_dicom_is_applied(tmp_path):
    files.write_series(tmp_path / "s", files.phantom(), RescaleSlope=2.0, RescaleIntercept=-7.0)
    array = volumes.read(str(tmp_path / "s")).array
    np.testing.assert_allclose(array, files.phantom() * 2.0 - 7.0)


def test_run_length_coded_dicom_is_decoded(tmp_path):
    import pydicom

    for path in files.write_series(tmp_path / "s", files.phantom()):
        data = pydicom.dcmread(path)
        data.compress(pydicom.uid.RLELossless)
        data.save_as(path)
    np.testing.assert_array_equal(volumes.read(str(tmp_path / "s")).array, files.phantom())


@pytest.mark.parametrize("coding", ["JPEG", "JPEG2000"])
def test_jpeg_coded_dicom_is_decoded(tmp_path, coding):
    import pydicom
    import SimpleITK

    array = files.phantom((40, 30, 3), np.uint16)
    for path in files.write_series(tmp_path / "s", array):
        plain = pydicom.dcmread(path)
        writer = SimpleITK.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.UseCompressionOn()
        writer.SetCompressor(coding)
        writer.SetFileName(path + ".coded")
        writer.Execute(SimpleITK.GetImageFromArray(plain.pixel_array))
        coded = pydicom.dcmread(path + ".coded")
        assert coded.file_meta.TransferSyntaxUID.is_compressed
        plain.file_meta.TransferSyntaxUID = coded.file_meta.TransferSyntaxUID
        plain.PixelData, plain["PixelData"].is_undefined_length = coded.PixelData, True
        plain.RescaleSlope, plain.RescaleIntercept = 2.0, -7.0
        plain.save_as(path)
        pathlib.Path(path + ".coded").unlink()
    np.testing.assert_allclose(volumes.read(str(tmp_path / "s")).array, array * 2.0 - 7.0)


def test_single_slice_takes_its_thickness(tmp_path):
    files.write_series(tmp_path / "s", files.phantom((5, 6, 1)))
    assert volumes.read_header(str(tmp_path / "s")).spacing == (1.5, 2.0, 3.0)


def test_multiframe_object_is_refused(tmp_path):
    files.write_series(tmp_path / "s", files.phantom(), NumberOfFrames=4)
    with pytest.raises(InputError, match="holds 4 frames; expected one slice per file"):
        volumes.read_header(str(tmp_path / "s"))


def segments():
    """Two segments on slices 1 and 2 of the phantom; the second is on one slice alone."""
    masks = np.zeros((2, 5, 6, 2), bool)
    masks[0, 1:3, 1:4] = True
    masks[1, 3:, 4, 1] = True
    return masks


def test_dicom_segmentation_is_pasted_on_its_image(tmp_path):
    masks = segments()
    path = files.write_segmentation(tmp_path / "s.dcm", masks, ["PZ", "TZ"], (1, 2))
    labels = volumes.read(path)
    assert (labels.names, labels.array.shape) == ({"PZ": 1, "TZ": 2}, (5, 6, 2))
    image = volumes.read_header(files.write_nifti(tmp_path / "v.nii", files.phantom()))
    whole = volume_geometry.pasted(labels, image)
    expected = np.zeros((5, 6, 4), np.uint16)
    expected[..., 1:3] = masks[0] + 2 * masks[1]
    np.testing.assert_array_equal(whole.array, expected)
    assert volume_geometry.differences(image, whole.header) == []


def test_dicom_label_map(tmp_path):
    import pydicom

    mask = segments()[:1]
    path = files.write_segmentation(tmp_path / "s.dcm", mask, ["PZ"], (1, 2))
    data = pydicom.dcmread(path)
    data.PixelData = (data.pixel_array * 7).astype(np.uint8).tobytes()
    data.SegmentationType, data.BitsAllocated, data.BitsStored, data.HighBit = "LABELMAP", 8, 8, 7
    data.SegmentSequence[0].SegmentNumber = 7
    for group in data.PerFrameFunctionalGroupsSequence:
        del group.SegmentIdentificationSequence
    data.save_as(path)
    labels = volumes.read(path)
    assert labels.names == {"PZ": 7}
    np.testing.assert_array_equal(labels.array, mask[0] * 7)


def test_fractional_segmentation_is_refused(tmp_path):
    import pydicom

    path = files.write_segmentation(tmp_path / "s.dcm", segments(), ["PZ", "TZ"], (1, 2))
    data = pydicom.dcmread(path)
    data.SegmentationType = "FRACTIONAL"
    data.save_as(path)
    with pytest.raises(InputError, match=r"s\.dcm has modality SEG.*FRACTIONAL; expected.*BINARY"):
        volumes.read_header(path)


def test_dicom_segmentation_beyond_its_image_stays_as_it_is(tmp_path):
    path = files.write_segmentation(tmp_path / "s.dcm", segments(), ["PZ", "TZ"], (3, 4))
    labels = volumes.read(path)
    image = volumes.read_header(files.write_nifti(tmp_path / "v.nii", files.phantom()))
    assert volume_geometry.pasted(labels, image) is labels


def test_segments_that_share_voxels_are_refused(tmp_path):
    masks = segments()
    masks[1] = masks[0]
    path = files.write_segmentation(tmp_path / "s.dcm", masks, ["PZ", "TZ"], (1, 2))
    with pytest.raises(
        InputError, match=r"s\.dcm has 6 voxels of one slice in the segments 1 and 2"
    ):
        volumes.read(path)


def test_differences_of_grids_are_all_named(tmp_path):
    one = volumes.read_header(files.write_npz(tmp_path / "a.npz", files.phantom()))
    other = volumes.read_header(
        files.write_npz(tmp_path / "b.npz", files.phantom((5, 6, 3)), (1.5, 2.1, 5), (-12, 8, 30))
    )
    texts = volume_geometry.differences(one, other)
    assert [text.split()[0] for text in texts] == ["shape", "spacing", "origin"]
    rounded = files.write_npz(tmp_path / "c.npz", files.phantom(), (1.5004, 2.0, 5.0))
    assert volume_geometry.differences(one, volumes.read_header(rounded)) == []
