"""How medical volumes lie on disk: which file belongs to which patient, which label map to it.

Each layout is a function of the folder `root` and its own options that returns studies. Folders,
tables and (for series of DICOM files) headers are read here, no volumes. What does not fit the
layout is an `InputError` that lists files.

Source: the data sets as their owners publish them; section 7 of the notes on the document.
"""

import csv
import fnmatch
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxad.data import dicom_series, image_files, medical_files, option_checks
from jaxad.data.feature_files import listed
from jaxad.data.medical_files import Study
from jaxad.data.option_checks import absolute
from jaxad.errors import InputError


def find(section: Mapping[str, Any], field: str, base: str = "") -> tuple[Study, ...]:
    """The studies of one data set.

    Args:
        section: `layout`, one of `LAYOUTS`; `root`, a folder; and options of that layout, of which
            those that are None keep their defaults.
        field: Name of the data set's option, for errors.
        base: Folder that `root` is relative to.

    Returns:
        Its studies, at least one, with unique names.

    Raises:
        InputError: For an unknown layout or option, missing folders, or, listed by file, files that
            do not fit the layout.
    """
    function, options = option_checks.layout(section, LAYOUTS, field, base)
    if not os.path.isdir(options["root"]):
        raise InputError(
            f"config.data.source.{field}.root: the folder {options['root']} is missing."
        )
    found = function(**options)
    if not found:
        raise InputError(f"config.data.source.{field}: {options['root']} holds no volumes.")
    _raise_doubled(found)
    return found


def folder(
    root: str,
    images: str = "images",
    labels_folder: str = "labels",
    image_ending: str = "",
    label_ending: str = "",
    subject: str | None = None,
) -> tuple[Study, ...]:
    """`<root>/images/NAME.nii.gz` with `<root>/labels/NAME.nii.gz`; folders within them are kept.

    Volumes are NIfTI, MetaImage, NRRD or `.npz` files, or folders of DICOM files.

    Args:
        root: Folder of the data set.
        images: Name of the folder of the images.
        labels_folder: Of the label maps; "" for a data set without.
        image_ending: End of the images' names (before `.nii.gz`) that is no part of the name they
            share with label maps, such as "_0000"; files without it are left out.
        label_ending: The same of label maps.
        subject: Regular expression whose first group, or all it matches, is the patient; None: each
            name (its first folder, if it has folders) is one.

    Returns:
        The studies, sorted by name.
    """
    own = medical_files.volumes_in(os.path.join(root, images), image_ending)
    partners = {}
    if labels_folder:
        labels = os.path.join(root, labels_folder)
        partners = medical_files.volumes_in(labels, label_ending)
        medical_files.check_pairs(own, partners, os.path.join(root, images), labels)
    patients = medical_files.patients(own, subject)
    return tuple(
        Study(patient, name if name.startswith(patient) else f"{patient}/{name}", path, label)
        for (name, path), patient in zip(own.items(), patients, strict=True)
        for label in [partners.get(name)]
    )


def msd(root: str) -> tuple[Study, ...]:
    """A task of the Medical Segmentation Decathlon: `imagesTr` and `labelsTr`.

    Args:
        root: Folder of the task.

    Returns:
        Its labelled studies.
    """
    return folder(root, "imagesTr", "labelsTr")


def mnms(root: str, vendors: Sequence[str], unlabelled: str = "drop") -> tuple[Study, ...]:
    """M&Ms: `CODE_sa.nii.gz` with `CODE_sa_gt.nii.gz` in any folder below `root`, frames ED and ES.

    The table is the file `*M&Ms_Dataset_Information*.csv` in `root` with the columns External code,
    Vendor, ED and ES. Published are `Training/Labeled`, `Training/Unlabeled`, `Validation` and
    `Testing`; all of them count.

    Args:
        root: Folder of the data set.
        vendors: Letters, such as ("C", "D").
        unlabelled: "drop" studies without label map (25 of vendor C), or "keep" them.

    Returns:
        The studies of these vendors.
    """
    if unlabelled not in ("drop", "keep"):
        raise InputError(f"Unknown unlabelled {unlabelled!r}; expected 'drop' or 'keep'.")
    table_path, rows = _mnms_table(root)
    present = sorted({row["Vendor"] for row in rows})
    unknown = [vendor for vendor in vendors if vendor not in present]
    if unknown or not vendors:
        raise InputError(f"{table_path} knows the vendors {present}; got {list(vendors)}.")
    files = _by_ending(root, "_sa")
    labels = _by_ending(root, "_sa_gt")
    found, faults = [], []
    for row in rows:
        code = row["External code"]
        if row["Vendor"] not in vendors:
            continue
        if code not in files:
            faults.append(f"{code}_sa.nii.gz is not below {root}")
        elif code in labels or unlabelled == "keep":
            try:
                frames = tuple(sorted({int(float(row[phase])) for phase in ("ED", "ES")}))
            except ValueError:
                faults.append(f"{code}: ED={row['ED']!r} and ES={row['ES']!r} are no numbers")
                continue
            found.append(Study(code, code, files[code], labels.get(code), frames))
    if faults:
        raise InputError(f"{len(faults)} studies of {table_path} do not fit:{listed(faults)}")
    return tuple(sorted(found))


def mnms2(root: str, axis: str = "LA", phases: Sequence[str] = ("ED", "ES")) -> tuple[Study, ...]:
    """M&Ms-2: `<id>/<id>_{SA,LA}_{ED,ES}.nii.gz` with `..._gt.nii.gz`, in any folder below `root`.

    Args:
        root: Folder of the data set.
        axis: "LA", the long axis, or "SA", the short axis.
        phases: Of the heart.

    Returns:
        One study per patient and phase.
    """
    if axis not in ("LA", "SA"):
        raise InputError(f"Unknown axis {axis!r} of M&Ms-2; expected 'LA' or 'SA'.")
    found, faults = [], []
    for phase in phases:
        images = _by_ending(root, f"_{axis}_{phase}")
        labels = _by_ending(root, f"_{axis}_{phase}_gt")
        faults += [f"{path} has no image" for name, path in labels.items() if name not in images]
        faults += [f"{path} has no label map" for n, path in images.items() if n not in labels]
        found += [
            Study(name, f"{name}/{axis}_{phase}", path, labels.get(name))
            for name, path in images.items()
        ]
    if faults:
        raise InputError(f"{len(faults)} files below {root} have no partner:{listed(faults)}")
    return tuple(sorted(found))


def prostatex(root: str, series: str = "t2_tse_tra", masks: str | None = None) -> tuple[Study, ...]:
    """PROSTATEx: `<patient>/**/` folders of DICOM files, of which the description chooses one.

    A mask is a file of segments with names (DICOM-SEG or `.seg.nrrd`) in `<masks>/<patient>/**/`,
    or `<masks>/<patient>*.nrrd` and the like. With masks, patients without one are left out.

    Args:
        root: Folder of the patients.
        series: Start of the series description, such as "t2_tse_tra" or "t2_tse_sag"; case does not
            matter. Of several series the last one counts, as a repetition replaces what was blurred
            by motion; with masks, the last one of the mask's own geometry.
        masks: Folder of the zones' masks, within `root` unless absolute; None for none.

    Returns:
        One study per patient who has such a series.
    """
    patients = [p for p in sorted(os.listdir(root)) if os.path.isdir(os.path.join(root, p))]
    zones = {} if masks is None else medical_files.by_patient(absolute(root, masks))
    if masks is not None:
        patients = [patient for patient in patients if patient in zones]
        if not patients:
            raise InputError(
                f"No patient of {root} has a mask in {absolute(root, masks)}; it has masks of "
                f"{', '.join(list(zones)[:4]) or 'nobody'}."
            )
    folders = [os.path.join(root, patient) for patient in patients]
    chosen, faults = image_files.collect(lambda path: dicom_series.find(path, series), folders)
    image_files.raise_faults(faults, len(folders), "patients")
    found, faults = [], []
    for patient, candidates in zip(patients, chosen, strict=True):
        label = zones.get(patient)
        own = next(reversed(candidates), None)
        if label is not None:
            own = dicom_series.of_mask(candidates, label)
            if own is None:
                faults.append(
                    f"{label} fits none of the {len(candidates)} series {series!r} of {patient}"
                )
        if own is not None:
            found.append(Study(patient, patient, own.folder, label, series=own.uid))
    if faults:
        raise InputError(f"{len(faults)} masks have no image:{listed(faults)}")
    return tuple(found)


def promise12(root: str) -> tuple[Study, ...]:
    """PROMISE12: `CaseXX.mhd` in any folder below `root`; its masks of the whole gland are left.

    Args:
        root: Folder of the data set.

    Returns:
        One study per case, without labels: the whole gland is none of the zones.
    """
    names = {
        name: path
        for name, path in medical_files.volumes_in(root).items()
        if path.endswith(".mhd") and not name.endswith("_segmentation")
    }
    return tuple(
        sorted(
            Study(case, case, path, None)
            for case, path in medical_files.by_last_part(names).items()
        )
    )


LAYOUTS: Mapping[str, Callable[..., tuple[Study, ...]]] = {
    "folder": folder,
    "mnms": mnms,
    "mnms2": mnms2,
    "msd": msd,
    "promise12": promise12,
    "prostatex": prostatex,
}


def _by_ending(root: str, ending: str) -> dict[str, str]:
    """Volumes below `root` whose names end so, by the rest of the file's name."""
    return medical_files.by_last_part(medical_files.volumes_in(root, ending))


def _mnms_table(root: str) -> tuple[str, list[dict[str, str]]]:
    """Path and rows of the table; the data set was published with several names of it."""
    pattern = "*m&ms_dataset_information*.csv"
    paths = [n for n in sorted(os.listdir(root)) if fnmatch.fnmatch(n.lower(), pattern)]
    if len(paths) != 1:
        there = f"there are {', '.join(paths)}" if paths else "there is none"
        raise InputError(f"Expected one table *M&Ms_Dataset_Information*.csv in {root}; {there}.")
    path = os.path.join(root, paths[0])
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}).") from None
    needed = ("External code", "Vendor", "ED", "ES")
    missing = [name for name in needed if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"{path} has no column {missing}; expected {list(needed)}.")
    return path, rows


def _raise_doubled(studies: Sequence[Study]) -> None:
    seen: dict[str, Study] = {}
    faults = []
    for study in studies:
        if study.name in seen:
            faults.append(f"{seen[study.name].image} and {study.image} are both {study.name}")
        seen[study.name] = study
    if faults:
        raise InputError(f"Studies must have names of their own:{listed(faults)}")
