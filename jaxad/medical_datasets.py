"""Medical data sets as `config.data.source` sections: where their files are, and their protocol.

Config files import it, so it imports nothing heavy. Paths are below `data/`, and each can be
overridden, for example `--config.data.source.in_distribution.root=/mnt/mnms`.

Source: section 4.1 of the document; in-plane spacings, groups of OoD sets and label numbers as in
section 7 of its notes.
"""

from typing import Any

from jaxad.config import placeholder

_CARDIAC = 0.6  # Millimetres per pixel, of every cardiac set, whatever it is used for.
_PROSTATE = 0.4

_CARDIAC_CLASSES = ("LV", "RV", "myocardium", "background")
_CARDIAC_LABELS = dict(LV=1, RV=3, myocardium=2, background=0)  # As M&Ms and M&Ms-2 store them.
_ZONES = ("PZ", "TZ and AFS", "DPU", "background")
_ZONE_LABELS = {
    "PZ": ("Peripheral zone of prostate",),
    # Four zones to three, as the document merges them.
    "TZ and AFS": (
        "Transition zone of prostate",
        "Anterior fibromuscular stroma of prostate",
    ),
    "DPU": ("Distal prostatic urethra",),
}


def medical(
    in_distribution: dict[str, Any], ood: dict[str, dict[str, Any]], **fields: Any
) -> dict[str, Any]:
    """Every option of the source `medical_slices`, whose docstring explains them.

    Args:
        in_distribution: `medical_set` to learn.
        ood: `ood_set` or `pictures` by name, as the metrics name them.
        fields: Options that differ from these.
    """
    source = dict(
        name="medical_slices",
        root="data",  # Folder that the roots of all sets are relative to.
        cache="cache/medical",  # Folder of the prepared slices, below the working directory.
        in_distribution=in_distribution,
        ood=ood,
        classes=placeholder(tuple),  # Names, the background last; None: those of `classes.csv`.
        size=(224, 224),  # Height, width of the crop around the centre.
        intensity="slice_min_max",  # Or "slice_percentiles", "volume_min_max".
        small="pad",  # Slices smaller than the crop; or "error".
        shares=(0.6, 0.2, 0.2),  # Of the patients, for training, validation and test.
        split_seed=0,  # Of that draw.
        split_file=placeholder(str),  # JSON of patients by part to use instead.
    )
    return {**source, **fields}


def medical_set(layout: str, root: str, spacing: float, **fields: Any) -> dict[str, Any]:
    """One data set of volumes.

    Args:
        layout: One of `jaxad.data.medical_layouts.LAYOUTS`, whose docstring explains its options.
        root: Folder of the data set, within that of the source.
        spacing: In-plane millimetres per pixel to resample to.
        fields: Options that differ, and those of the layout.
    """
    section = dict(
        layout=layout,
        root=root,
        spacing=spacing,
        view="acquisition",  # Or "axial", "coronal", "sagittal", "stored".
        labels=None,  # Stored labels by class name; None: those of `classes.csv`, if it is there.
        empty="keep",  # Slices that are all background; or "drop".
        every=1,  # n takes every n-th slice.
    )
    section |= fields
    # A copy: sections of one data set must not change with each other.
    return {**section, "labels": section["labels"] and dict(section["labels"])}


def ood_set(group: str, layout: str, root: str, spacing: float, **fields: Any) -> dict[str, Any]:
    """One OoD set of volumes.

    Args:
        group: "C1" another domain, "C2" another view, "C3" another condition.
        layout: As for `medical_set`.
        root: As for `medical_set`.
        spacing: As for `medical_set`.
        fields: Options that differ, and those of the layout.
    """
    own = dict(
        group=group,
        subjects="all",  # "test": only patients of the in-distribution test split.
        shift=placeholder(str),  # "bias_field" or "inverted".
    )
    return medical_set(layout, root, spacing, **{**own, **fields})


def pictures(group: str, root: str, **fields: Any) -> dict[str, Any]:
    """One OoD set of plain image files, without millimetres.

    Args:
        group: As for `ood_set`.
        root: Folder of the data set, within that of the source.
        fields: Options that differ.
    """
    section = dict(
        layout="pictures",
        root=root,
        group=group,
        images="images",  # Folder within the root.
        pattern="*",  # Of file names.
        fit="cover",  # Scaled to just cover the crop; or "none".
        every=1,
        shift=placeholder(str),
    )
    return {**section, **fields}


def mnms_a() -> dict[str, Any]:
    """M&Ms vendor A, short axis; four OoD sets (document, tables 1 to 4)."""
    return _mnms("A", other="B")


def mnms_b() -> dict[str, Any]:
    """M&Ms vendor B, short axis; four OoD sets."""
    return _mnms("B", other="A")


def prostatex() -> dict[str, Any]:
    """PROSTATEx, transversal T2-weighted, four zones merged to three; four OoD sets.

    Masks are those of Meyer et al.: DICOM-SEG files in `masks`, one folder per patient.
    """
    transversal = dict(series="t2_tse_tra", masks="../PROSTATEx_Seg_Zones", labels=_ZONE_LABELS)
    return medical(
        medical_set("prostatex", "PROSTATEx", _PROSTATE, **transversal),
        dict(
            mnms_a=_mnms_ood("C1", ("A",), labels=None),  # At its own spacing.
            mnms_b=_mnms_ood("C1", ("B",), labels=None),
            prostatex_sagittal=_prostatex_ood("C2", "t2_tse_sag"),
            promise12=ood_set("C3", "promise12", "PROMISE12", _PROSTATE),
        ),
        classes=_ZONES,
    )


def hippocampus(**fields: Any) -> dict[str, Any]:
    """Coronal slices of the Decathlon's hippocampus volumes; nuclei, sagittal and changed slices.

    260 volumes of 1 mm and 31 to 43 by 40 to 59 by 24 to 47 voxels, at half a millimetre so that
    the crop is full: slices of the two views then differ by what they show, not by their padding.
    OoD slices come from patients of the test split, as their volumes are those of training. Every
    third slice is taken: neighbours, a millimetre apart, hardly differ.

    Args:
        fields: Options of `medical` that differ.
    """

    def own(group: str, view: str, shift: str | None) -> dict[str, Any]:
        return ood_set(**{**volumes, "view": view}, group=group, subjects="test", shift=shift)

    volumes = dict(
        layout="msd",
        root="hippocampus",
        spacing=0.5,
        view="coronal",
        every=3,
        labels=dict(anterior=1, posterior=2, background=0),
    )
    source = medical(
        medical_set(**volumes),
        dict(
            nuclei=pictures("C1", "nuclei"),
            sagittal=own("C2", "sagittal", None),
            bias_field=own("C3", "coronal", "bias_field"),
            inverted=own("C3", "coronal", "inverted"),
        ),
        classes=("anterior", "posterior", "background"),
        size=(64, 64),
    )
    return {**source, **fields}


def own_volumes() -> dict[str, Any]:
    """Volumes of your own, `data/own_volumes/{images,labels}/NAME.nii.gz` with the class table
    `data/own_volumes/classes.csv` (id, name; one is "background"), and one OoD set without labels,
    `data/own_ood/images`.
    """
    files = dict(
        images="images",
        image_ending="",  # "_0000" where names have it.
        label_ending="",
        subject=placeholder(str),  # Regular expression; None: each volume is a patient's only one.
    )
    return medical(
        medical_set("folder", "own_volumes", 1.0, **files, labels_folder="labels"),
        dict(own_ood=ood_set("C1", "folder", "own_ood", 1.0, **files, labels_folder="")),
    )


def _mnms(vendor: str, *, other: str) -> dict[str, Any]:
    own = dict(vendors=(vendor,), unlabelled="drop", labels=_CARDIAC_LABELS)
    long_axis = dict(axis="LA", phases=("ED", "ES"), labels=_CARDIAC_LABELS)
    return medical(
        medical_set("mnms", "MnMs", _CARDIAC, **own),
        dict(
            prostatex=_prostatex_ood("C1", "t2_tse_tra"),
            mnms2_long_axis=ood_set("C2", "mnms2", "MnMs2", _CARDIAC, **long_axis),
            **{f"mnms_{other.lower()}": _mnms_ood("C3", (other,))},
            mnms_cd=_mnms_ood("C3", ("C", "D")),  # Pooled, as in the document.
        ),
        classes=_CARDIAC_CLASSES,
    )


def _mnms_ood(group: str, vendors: tuple[str, ...], **fields: Any) -> dict[str, Any]:
    own = dict(vendors=vendors, unlabelled="drop", labels=_CARDIAC_LABELS)
    return ood_set(group, "mnms", "MnMs", _CARDIAC, **{**own, **fields})


def _prostatex_ood(group: str, series: str) -> dict[str, Any]:
    return ood_set(group, "prostatex", "PROSTATEx", _PROSTATE, series=series, masks=None)
