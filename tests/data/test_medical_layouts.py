"""Layouts of medical data sets: studies, frames and patients from names and tables."""

import pathlib
import shutil

import numpy as np
import pytest
import volume_files

from jaxad.data import medical_files, medical_layouts
from jaxad.errors import InputError

COLUMNS = "External code,VendorName,Vendor,Centre,ED,ES\n"


def touch(root, *names):
    for name in names:
        path = pathlib.Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def find(root, layout, **options):
    return medical_layouts.find({"layout": layout, "root": str(root), **options}, "ood.x")


@pytest.fixture
def mnms(tmp_path):
    """Two of vendor A, one of B, a labelled and an unlabelled one of C."""
    (tmp_path / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv").write_text(
        COLUMNS + "A1,Siemens,A,1,0,9\nB2,Philips,B,2,23,9\nA3,Siemens,A,1,1.0,1\n"
        "C4,GE,C,4,0,7\nC5,GE,C,4,0,8\n"
    )
    touch(tmp_path, "Training/Labeled/A1/A1_sa.nii.gz", "Training/Labeled/A1/A1_sa_gt.nii.gz")
    touch(tmp_path, "Testing/A3/A3_sa.nii.gz", "Testing/A3/A3_sa_gt.nii.gz")
    touch(tmp_path, "Validation/B2/B2_sa.nii.gz", "Validation/B2/B2_sa_gt.nii.gz")
    touch(tmp_path, "Training/Unlabeled/C5/C5_sa.nii.gz")
    touch(tmp_path, "Testing/C4/C4_sa.nii.gz", "Testing/C4/C4_sa_gt.nii.gz")
    return tmp_path


def test_mnms_takes_a_vendor_from_all_parts(mnms):
    first, second = find(mnms, "mnms", vendors=["A"])
    folder = mnms / "Training" / "Labeled" / "A1"
    assert first == medical_files.Study(
        "A1", "A1", str(folder / "A1_sa.nii.gz"), str(folder / "A1_sa_gt.nii.gz"), (0, 9)
    )
    assert (second.subject, second.frames) == ("A3", (1,))  # One frame for both phases.


def test_mnms_frames_are_in_the_order_of_time(mnms):
    assert find(mnms, "mnms", vendors=("B",))[0].frames == (9, 23)


def test_mnms_without_labels_is_dropped_or_kept(mnms):
    assert [s.subject for s in find(mnms, "mnms", vendors=("C",))] == ["C4"]
    kept = find(mnms, "mnms", vendors=("B", "C"), unlabelled="keep")
    assert [(s.subject, s.label is None) for s in kept] == [
        ("B2", False),
        ("C4", False),
        ("C5", True),
    ]


def test_mnms_faults(mnms):
    with pytest.raises(InputError, match=r"knows the vendors \['A', 'B', 'C'\]; got \['D'\]"):
        find(mnms, "mnms", vendors=("D",))
    with pytest.raises(InputError, match="Unknown unlabelled 'maybe'"):
        find(mnms, "mnms", vendors=("A",), unlabelled="maybe")
    table = next(mnms.glob("*.csv"))
    table.write_text(COLUMNS + "A1,Siemens,A,1,,9\nZ9,Siemens,A,1,0,9\n")
    with pytest.raises(InputError, match=r"(?s)2 studies .*A1: ED='' and.*Z9_sa.nii.gz is not"):
        find(mnms, "mnms", vendors=("A",))
    table.write_text("code,Vendor\n")
    with pytest.raises(InputError, match=r"no column \['External code', 'ED', 'ES'\]"):
        find(mnms, "mnms", vendors=("A",))
    table.unlink()
    with pytest.raises(InputError, match=r"Expected one table .*; there is none"):
        find(mnms, "mnms", vendors=("A",))


def test_mnms2_takes_an_axis_and_phases(tmp_path):
    for axis in ("SA", "LA"):
        for phase in ("ED", "ES"):
            stem = f"dataset/001/001_{axis}_{phase}"
            touch(tmp_path, f"{stem}.nii.gz", f"{stem}_gt.nii.gz")
    touch(tmp_path, "dataset/001/001_LA_CINE.nii.gz")
    studies = find(tmp_path, "mnms2")
    assert [(s.subject, s.name) for s in studies] == [("001", "001/LA_ED"), ("001", "001/LA_ES")]
    assert studies[0].image.endswith("001_LA_ED.nii.gz")
    assert studies[0].label.endswith("001_LA_ED_gt.nii.gz")
    assert [s.name for s in find(tmp_path, "mnms2", axis="SA", phases=("ES",))] == ["001/SA_ES"]
    (tmp_path / "dataset/001/001_LA_ES_gt.nii.gz").unlink()
    with pytest.raises(InputError, match=r"(?s)1 files .*001_LA_ES.nii.gz has no label map"):
        find(tmp_path, "mnms2")
    with pytest.raises(InputError, match="Unknown axis 'XA'"):
        find(tmp_path, "mnms2", axis="XA")


def test_promise12_leaves_masks(tmp_path):
    for case in ("Part1/Case00", "Part1/Case01", "Part2/Case26"):
        touch(tmp_path, f"{case}.mhd", f"{case}.raw", f"{case}_segmentation.mhd")
    studies = find(tmp_path, "promise12")
    assert [s.subject for s in studies] == ["Case00", "Case01", "Case26"]
    assert {s.label for s in studies} == {None}


def test_folder_pairs_by_name(tmp_path):
    touch(tmp_path, "images/b.nii", "images/a.nii.gz", "labels/a.nii.gz", "labels/b.npz")
    touch(tmp_path, "images/._a.nii.gz", "images/notes.txt")
    studies = find(tmp_path, "folder")
    assert [(s.subject, s.name) for s in studies] == [("a", "a"), ("b", "b")]
    assert [pathlib.Path(s.label).name for s in studies] == ["a.nii.gz", "b.npz"]


def test_folder_without_partners_lists_them(tmp_path):
    touch(tmp_path, "images/a.nii", "images/b.nii", "labels/b.nii", "labels/c.nii")
    with pytest.raises(InputError, match=r"(?s)2 files .*a.nii has no label.*c.nii has no image"):
        find(tmp_path, "folder")
    assert [s.label for s in find(tmp_path, "folder", labels_folder="")] == [None, None]


def test_folder_with_ends_of_names(tmp_path):
    touch(tmp_path, "scans/p1_0000.nii.gz", "scans/p1_0001.nii.gz", "truth/p1_seg.nii.gz")
    options = dict(images="scans", labels_folder="truth", image_ending="_0000")
    (study,) = find(tmp_path, "folder", **options, label_ending="_seg")
    assert (study.name, pathlib.Path(study.image).name) == ("p1", "p1_0000.nii.gz")


def test_patients_of_a_folder(tmp_path):
    touch(tmp_path, *(f"images/{n}.nii" for n in ("p1/one", "p1/two", "p2/one")))
    studies = find(tmp_path, "folder", labels_folder="")
    assert [(s.subject, s.name) for s in studies] == [
        ("p1", "p1/one"),
        ("p1", "p1/two"),
        ("p2", "p2/one"),
    ]
    studies = find(tmp_path, "folder", labels_folder="", subject=r"/(o|t)")
    assert [(s.subject, s.name) for s in studies][:2] == [("o", "o/p1/one"), ("t", "t/p1/two")]
    with pytest.raises(InputError, match=r"(?s)subject='two' matches nothing .*p1/one.*p2/one"):
        find(tmp_path, "folder", labels_folder="", subject="two")
    with pytest.raises(InputError, match=r"subject='\(' is no regular expression"):
        find(tmp_path, "folder", labels_folder="", subject="(")


def test_folders_of_dicom_files_are_volumes(tmp_path):
    touch(tmp_path, "images/p1/series/1.dcm", "images/p1/series/2.dcm", "images/p2.nii")
    studies = find(tmp_path, "folder", labels_folder="")
    assert [s.name for s in studies] == ["p1/series", "p2"]
    assert studies[0].image == str(tmp_path / "images" / "p1" / "series")


def test_two_formats_of_one_volume(tmp_path):
    touch(tmp_path, "images/a.nii", "images/a.npz")
    with pytest.raises(InputError, match=r"a.nii and .*a.npz have the same name"):
        find(tmp_path, "folder", labels_folder="")


def test_msd(tmp_path):
    touch(tmp_path, "imagesTr/h_1.nii.gz", "imagesTr/._h_1.nii.gz", "labelsTr/h_1.nii.gz")
    touch(tmp_path, "imagesTs/h_2.nii.gz", "dataset.json")
    assert [s.name for s in find(tmp_path, "msd")] == ["h_1"]


@pytest.fixture(scope="module")
def prostates(tmp_path_factory):
    """Three patients: two with a transversal series, once repeated, and one with a sagittal one."""
    pytest.importorskip("pydicom")
    root = tmp_path_factory.mktemp("prostates")
    for patient, number, description, depth in (
        ("ProstateX-0000", 3, "t2_tse_sag", 4),
        ("ProstateX-0000", 4, "t2_tse_tra", 4),
        ("ProstateX-0000", 10, "T2_TSE_TRA_Grappa3", 6),
        ("ProstateX-0001", 4, "t2_tse_tra", 4),
        ("ProstateX-0001", 5, "ep2d_diff_tra", 4),
        ("ProstateX-0002", 3, "t2_tse_sag", 4),
    ):
        folder = root / patient / "07-07-2011" / f"{number}.000-{number}"
        volume = volume_files.phantom((5, 6, depth))
        volume_files.write_series(
            folder, volume, f"1.2.1{patient[-1]}{number}", description, number
        )
    return root


def mask(path, depth, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    volume_files.write_npz(path, np.ones((5, 6, depth), np.uint8), **changes)


def test_prostatex_chooses_the_last_series_of_a_description(prostates):
    studies = find(prostates, "prostatex", series="t2_tse_tra")
    assert [s.subject for s in studies] == ["ProstateX-0000", "ProstateX-0001"]
    assert [pathlib.Path(s.image).name for s in studies] == ["10.000-10", "4.000-4"]
    sagittal = find(prostates, "prostatex", series="T2_tse_sag")
    assert [s.subject for s in sagittal] == ["ProstateX-0000", "ProstateX-0002"]


def test_prostatex_masks_choose_patients_and_the_series_of_their_grid(prostates, tmp_path):
    mask(tmp_path / "ProstateX-0000" / "2011" / "seg" / "1-1.npz", 4)
    (study,) = find(prostates, "prostatex", masks=str(tmp_path))
    assert pathlib.Path(study.image).name == "4.000-4"
    assert study.label.endswith("1-1.npz")
    (tmp_path / "ProstateX-0000" / "2011" / "seg" / "1-1.npz").unlink()
    mask(tmp_path / "ProstateX-0000_zones.npz", 6)
    (study,) = find(prostates, "prostatex", masks=str(tmp_path))
    assert pathlib.Path(study.image).name == "10.000-10"


def test_prostatex_faults(prostates, tmp_path):
    with pytest.raises(InputError, match=r"No patient of .* it has masks of nobody"):
        find(prostates, "prostatex", masks=str(tmp_path))
    mask(tmp_path / "ProstateX-0001.npz", 4, origin=(99.0, 7.0, 30.0))
    with pytest.raises(InputError, match=r"(?s)1 masks .*fits none of the 1 series 't2_tse_tra'"):
        find(prostates, "prostatex", masks=str(tmp_path))
    mask(tmp_path / "ProstateX-0001" / "a.npz", 4)
    with pytest.raises(InputError, match="1 patients have several masks"):
        find(prostates, "prostatex", masks=str(tmp_path))


def test_all_series_in_one_folder(prostates, tmp_path):
    folder = tmp_path / "ProstateX-0000"
    folder.mkdir()
    for path in (prostates / "ProstateX-0000" / "07-07-2011").glob("*/*"):
        shutil.copy(path, folder / path.name)
    (study,) = find(tmp_path, "prostatex")
    assert (study.image, study.series) == (str(folder), "1.2.1010")
    (other,) = find(tmp_path, "prostatex", series="t2_tse_sag")
    assert other.series == "1.2.103"


def test_unknown_layouts_and_options(tmp_path):
    with pytest.raises(InputError, match=r"ood\.x\.layout='nifti' is unknown; expected one of"):
        find(tmp_path, "nifti")
    with pytest.raises(InputError, match=r"ood\.x has no field \['vendor'\] .*'mnms'"):
        find(tmp_path, "mnms", vendors=("A",), vendor="A")
    with pytest.raises(InputError, match=r"ood\.x needs \['vendors'\]"):
        find(tmp_path, "mnms")
    with pytest.raises(InputError, match=r"ood\.x\.root: the folder .*none is missing"):
        find(tmp_path / "none", "msd")
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    with pytest.raises(InputError, match="holds no volumes"):
        find(tmp_path, "msd")
