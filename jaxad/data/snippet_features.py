"""Snippet features of weakly labelled videos, in the layouts in which they are published.

On disk: features (`feature_files`), a list of training and one of test videos, and the frame truth
of the test videos in one of its published forms (`frame_truth`). Labels come from names, line
numbers or a file (`video_labels`). The releases have no validation set: part of the training
videos is held out instead, drawn per class.

Everything that headers and text files tell is checked when a source is opened, before training.

Source: document 004, chapter 8 and appendix B; `tianyu0207/RTFM`, `WaqasSultani/
AnomalyDetectionCVPR2018` and `Roc-Ng/XDVioDet` for the layouts.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxad.data import feature_files, frame_truth, video_labels
from jaxad.data import segments as segments_lib
from jaxad.data.feature_files import Layout, Video
from jaxad.data.frame_truth import FRAMES_PER_SNIPPET
from jaxad.data.split import Split
from jaxad.errors import InputError

TRUTHS = ("flat", "masks", "ucf_text", "ucf_mat", "xd_text")
SEGMENTATIONS = ("uniform", "deepmil")


def splits(
    *,
    root: str | Sequence[str],
    train_list: str,
    test_list: str | None = None,
    ground_truth: str | None = None,
    truth: str = "flat",
    layout: str = "per_video",
    axes: str = "TND",
    suffix: str | None = None,
    crop_files: int = 5,
    crops: str = "all",
    feature_size: int | None = None,
    label_rule: str = "shanghaitech",
    labels: str | None = None,
    train_anomalous: int | None = None,
    test_anomalous: int | None = None,
    segments: int = 32,
    segmentation: str = "uniform",
    frame_counts: str | None = None,
    validation_fraction: float = 0.1,
    validation_seed: int = 0,
    anomalous_train_videos: int | None = None,
    anomalous_train_seed: int = 0,
    draw_seed: int | None = None,
    draw_anomalous: int = 6,
    draw_normal: int = 4,
) -> dict[str, Split]:
    """Training, validation and test videos.

    Records are `features`, float32 `[N, T, D]`, and `label`, int32. T is `segments` for training,
    the video's own length otherwise.

    Args:
        root: Folder of the feature files, or several in the order in which to look.
        train_list: Text file that names a training feature file per line; of each line only the
            base name counts.
        test_list: The same for test, in the order of a flat ground truth.
        ground_truth: File or folder of the frame truth of the test videos; None for none.
        truth: Its form: "flat" one `.npy` vector of 16 Σ T frames; "masks" a folder of
            `<video>.npy` (ShanghaiTech); "ucf_text" lines `name class s1 e1 s2 e2`; "ucf_mat" a
            folder of `<video>.mat`; "xd_text" lines `name start end …`.
        layout: "per_video", "per_crop" or "c3d_text", see `feature_files`.
        axes: "TND" or "NTD", axis order of three-dimensional "per_video" arrays.
        suffix: End of the file names that is no part of a video's name; None for `_i3d`
            ("per_video"), nothing ("per_crop") or `_C` ("c3d_text").
        crop_files: Files per video of "per_crop".
        crops: "all", "first" or "center".
        feature_size: D to expect; None for that of the first file.
        label_rule: "shanghaitech", "ucf_crime", "xd_violence" or "ucsd_ped2" by name; "first_n" for
            the first videos of each list; "file" for `labels`.
        labels: Text file of lines `name label [class]`.
        train_anomalous: Number of anomalous videos for "first_n".
        test_anomalous: The same of the test list.
        segments: Segments T of a training video; 32 for "c3d_text", which is stored that way.
        segmentation: "uniform", or "deepmil" for the published boundaries and unit length. With
            the latter, validation and test videos too consist of their segments, each repeated
            over its snippets: right for networks that see one snippet at a time.
        frame_counts: Text file of lines `name frames`: lengths are checked against it, and
            "c3d_text" needs it for frame truth.
        validation_fraction: Share of the training videos, of each class, held out; 0 for no
            validation split.
        validation_seed: Seed of that choice.
        anomalous_train_videos: Anomalous training videos to keep after validation was held out
            (figure 8.5), None for all. More videos include those of fewer.
        anomalous_train_seed: Seed of that choice.
        draw_seed: If given, `train_list` names all videos, and training videos are drawn from it
            with this seed; the rest is test (UCSD Ped2, whose result is the mean of ten draws).
        draw_anomalous: Anomalous training videos of a draw.
        draw_normal: Normal training videos of a draw.

    Returns:
        Splits "train", "validation" (unless `validation_fraction` is 0) and "test"; frame truth for
        test only.

    Raises:
        InputError: If an option, list, feature file, label or the ground truth is not as it must
            be; says what was expected and found.
    """
    layout = Layout(layout, axes, suffix, crop_files, crops, feature_size)
    cutting = _Cutting(segments, segmentation)
    _check_options(layout, cutting, label_rule, truth, validation_fraction)
    roots = [_path(r) for r in ([root] if isinstance(root, str) else root)]
    if (test_list is None) == (draw_seed is None):
        raise InputError("Give either test_list, or draw_seed to draw the training videos.")

    train = _index(train_list, roots, layout, label_rule, labels, train_anomalous, "train")
    layout = layout._replace(feature_size=train.videos[0].size)
    if draw_seed is None:
        test = _index(test_list, roots, layout, label_rule, labels, test_anomalous, "test")
        _check_disjoint(train, test, train_list, test_list)
    else:
        test = train
    counts = None if frame_counts is None else _read_counts(_path(frame_counts), layout)
    test = _with_true_lengths(test, layout, counts)
    if ground_truth is not None:
        test = _with_truth(test, _path(ground_truth), truth, layout, counts)
    if draw_seed is not None:
        drawn = _draw(train.labels, draw_anomalous, draw_normal, draw_seed)
        train, test = train.take(drawn), test.take(~drawn)
    held_out = _held_out(train.labels, validation_fraction, validation_seed)
    train, validation = train.take(~held_out), train.take(held_out)
    train = train.take(_kept(train.labels, anomalous_train_videos, anomalous_train_seed))
    _check_classes(train, test)

    opened = {"train": _split("train", train, layout, cutting)}
    if validation_fraction:
        opened["validation"] = _split("validation", validation, layout, cutting)
    return {**opened, "test": _split("test", test, layout, cutting)}


class _Cutting(NamedTuple):
    segments: int
    segmentation: str


class _Videos(NamedTuple):
    """Some videos with labels.

    Attributes:
        videos: Where their features are.
        labels: int64 `[n]`.
        lengths: int64 `[n]`, snippets; of the video itself even where its file holds segments.
        classes: Anomaly class, "" for normal ones; None if unknown.
        frames: Frame truth; None if unknown.
    """

    videos: list[Video]
    labels: np.ndarray
    lengths: np.ndarray
    classes: list[str] | None = None
    frames: list[np.ndarray] | None = None

    @property
    def names(self) -> list[str]:
        return [video.name for video in self.videos]

    def take(self, chosen: np.ndarray) -> "_Videos":
        """Those for which the bool `[n]` is true, in their order."""
        kept = np.flatnonzero(chosen)

        def of(values):
            return None if values is None else [values[i] for i in kept]

        return _Videos(
            of(self.videos),
            self.labels[kept],
            self.lengths[kept],
            of(self.classes),
            of(self.frames),
        )


def record_shapes(
    *,
    layout: str = "per_video",
    crop_files: int = 5,
    crops: str = "all",
    feature_size: int | None = None,
    segments: int = 32,
    **_: object,
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and types of a training record by name, from the options of `splits` alone.

    The number of crops is that of the releases: ten in one file, or one file each.
    """
    stored = {"per_video": 10, "per_crop": crop_files, "c3d_text": 1}[layout]
    shape = (stored if crops == "all" else 1, segments, feature_size or 2048)
    return {"features": (shape, "float32"), "label": ((), "int32")}


def _split(part: str, own: _Videos, layout: Layout, cutting: _Cutting) -> Split:
    fixed = part == "train"
    return Split(
        names=own.names,
        labels=own.labels,
        read=_Reader(tuple(own.videos), own.labels, own.lengths, layout, cutting, fixed),
        fingerprint=_fingerprint(part, own, layout, cutting),
        lengths=None if fixed else own.lengths,
        time_axes={"features": 1},
        classes=own.classes,
        frames=own.frames if part == "test" else None,
        frames_per_snippet=FRAMES_PER_SNIPPET,
    )


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads one video, cuts it to segments if `fixed`, and checks its values."""

    videos: tuple[Video, ...]
    labels: np.ndarray
    lengths: np.ndarray
    layout: Layout
    cutting: _Cutting
    fixed: bool

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        video = self.videos[i]
        rows = feature_files.load(video, self.layout)  # [T, N, D]
        with np.errstate(over="ignore"):  # Reported below, with its place.
            features = np.asarray(self._on_time_axis(rows, int(self.lengths[i])), np.float32)
        if not np.isfinite(features).all():
            place = feature_files.first_non_finite(rows)
            raise InputError(f"The features of {' or '.join(video.paths)} hold {place}.")
        return {
            "features": np.ascontiguousarray(features.swapaxes(0, 1)),  # [N, T, D]
            "label": np.int32(self.labels[i]),
        }

    def _on_time_axis(self, rows: np.ndarray, length: int) -> np.ndarray:
        segments, segmentation = self.cutting
        if self.layout.kind == "c3d_text":
            means = rows  # The file holds segments.
        elif segmentation == "deepmil":
            means = segments_lib.deepmil(rows, segments)
        else:
            return segments_lib.uniform(rows, segments) if self.fixed else rows
        if self.fixed or length == len(means):
            return means
        return means[segments_lib.deepmil_segment_of_row(length, len(means))]


def _index(
    list_path: str,
    roots: Sequence[str],
    layout: Layout,
    label_rule: str,
    label_file: str | None,
    first_anomalous: int | None,
    part: str,
) -> _Videos:
    """The videos of a list with their labels."""
    videos = feature_files.index(_path(list_path), roots, layout)
    names = [video.name for video in videos]
    if label_rule == "first_n":
        found = video_labels.first_anomalous(first_anomalous, names, f"{part}_anomalous")
    elif label_rule == "file":
        if label_file is None:
            raise InputError(
                "label_rule='file' needs labels, a file of lines `name label [class]`."
            )
        name_of = functools.partial(feature_files.video_name, layout=layout)
        found = video_labels.from_file(_path(label_file), names, name_of)
    else:
        found = video_labels.from_names(label_rule, names)
    lengths = np.array([video.snippets for video in videos], np.int64)
    return _Videos(videos, found.labels, lengths, found.classes)


def _with_true_lengths(own: _Videos, layout: Layout, counts: Mapping[str, int] | None) -> _Videos:
    """Checks lengths against frame counts; takes them from there where files hold segments."""
    if counts is None:
        return own
    absent = [name for name in own.names if name not in counts]
    if absent:
        raise InputError(
            f"frame_counts has no line for {len(absent)} of the {len(own.names)} test videos:"
            f"{feature_files.listed(absent)}"
        )
    frames = [counts[name] for name in own.names]
    if layout.kind == "c3d_text":
        return own._replace(lengths=-(-np.array(frames, np.int64) // FRAMES_PER_SNIPPET))
    frame_truth.check_lengths(own.names, frames, own.lengths)
    return own


def _with_truth(
    own: _Videos, path: str, truth: str, layout: Layout, counts: Mapping[str, int] | None
) -> _Videos:
    """Adds frame truth, and classes where only the annotation tells them."""
    if layout.kind == "c3d_text" and counts is None:
        raise InputError(
            "Frame truth for layout 'c3d_text' needs frame_counts, a file of lines `name frames`: "
            "the files hold 32 segments whatever the video's length."
        )
    classes = own.classes
    if truth == "flat":
        frames = frame_truth.cut_flat(
            _load_vector(path), own.names, own.lengths, path=path, frame_counts=counts
        )
    elif truth == "masks":
        frames = _from_masks(own, path)
    else:
        found = _annotations(own, path, truth)
        build = {"xd_text": frame_truth.from_exclusive_events}.get(
            truth, frame_truth.from_inclusive_events
        )
        frames = [
            build(found[name].events, length)
            if name in found
            else np.zeros(length * FRAMES_PER_SNIPPET, np.uint8)
            for name, length in zip(own.names, own.lengths, strict=True)
        ]
        if classes is None and truth != "xd_text":
            classes = [
                found[name].category if label else ""
                for name, label in zip(own.names, own.labels, strict=True)
            ]
    frame_truth.check_labels(own.names, own.labels, frames)
    return own._replace(frames=frames, classes=classes)


def _from_masks(own: _Videos, folder: str) -> list[np.ndarray]:
    """One mask file per anomalous video; normal videos need none."""
    present = _present(folder)
    masks, absent = [], []
    for name, label, length in zip(own.names, own.labels, own.lengths, strict=True):
        if f"{name}.npy" in present:
            masks.append(_load_vector(os.path.join(folder, f"{name}.npy")))
        else:
            masks.append(np.zeros(length * FRAMES_PER_SNIPPET, np.uint8))
            absent += [name] if label else []
    _check_truth_present(own, absent, f"mask <video>.npy in {folder}")
    frame_truth.check_lengths(own.names, [len(mask) for mask in masks], own.lengths)
    return [
        _extended(mask, name, length, folder)
        for mask, name, length in zip(masks, own.names, own.lengths, strict=True)
    ]


def _extended(mask: np.ndarray, name: str, length: int, folder: str) -> np.ndarray:
    try:
        return frame_truth.from_mask(mask, length)
    except ValueError as error:
        raise InputError(f"Mask {name}.npy in {folder} cannot be used: {error}") from None


def _annotations(own: _Videos, path: str, truth: str) -> dict[str, frame_truth.Annotation]:
    if truth == "ucf_mat":
        present = _present(path)
        absent = [name for name in own.names if f"{name}.mat" not in present]
        _check_truth_present(own, absent, f"annotation <video>.mat in {path}")
        return {
            name: frame_truth.read_ucf_mat(os.path.join(path, f"{name}.mat")) for name in own.names
        }
    if truth == "ucf_text":
        found, needed = frame_truth.read_ucf_text(path), own.names
    else:  # XD-Violence annotates violent videos only.
        found, needed = frame_truth.read_xd_text(path), own.take(own.labels == 1).names
    _check_truth_present(own, [name for name in needed if name not in found], f"line in {path}")
    return found


def _check_truth_present(own: _Videos, absent: Sequence[str], kind: str) -> None:
    if absent:
        raise InputError(
            f"{len(absent)} of the {len(own.names)} test videos have no {kind}:"
            f"{feature_files.listed(absent)}"
        )


def _load_vector(path: str) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"The ground truth {path} does not exist.") from None
    except (ValueError, OSError) as error:
        raise InputError(
            f"The ground truth {path} is not a readable .npy array ({error})."
        ) from None


def _present(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError as error:
        raise InputError(
            f"The ground truth folder {folder} cannot be read ({error.strerror})."
        ) from None


def _read_counts(path: str, layout: Layout) -> dict[str, int]:
    """Frames by video name from lines `name frames`."""
    counts = {}
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            rows = [(number, line.split()) for number, line in enumerate(file, 1) if line.strip()]
    except OSError as error:
        raise InputError(f"The frame counts {path} cannot be read ({error.strerror}).") from None
    for number, fields in rows:
        if len(fields) != 2 or not fields[1].isdecimal() or int(fields[1]) < 1:
            raise InputError(
                f"{path}, line {number}: expected a name and a number of frames, found "
                f"{' '.join(fields)[:120]!r}."
            )
        counts[feature_files.video_name(fields[0], layout)] = int(fields[1])
    return counts


def _draw(labels: np.ndarray, anomalous: int, normal: int, seed: int) -> np.ndarray:
    """Training videos drawn from all, bool `[n]`."""
    rng = np.random.default_rng([seed, 2])
    drawn = np.zeros(len(labels), bool)
    for label, count, kind in ((1, anomalous, "anomalous"), (0, normal, "normal")):
        members = np.flatnonzero(labels == label)
        if not 1 <= count < len(members):
            raise InputError(
                f"Cannot draw {count} {kind} training videos from {len(members)}: expected at "
                "least 1, and some left for test."
            )
        drawn[rng.permutation(members)[:count]] = True
    return drawn


def _held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Validation videos, bool `[n]`: the share `fraction` of each class, at least one of it."""
    rng = np.random.default_rng([seed, 0])
    chosen = np.zeros(len(labels), bool)
    for label in (1, 0):
        members = rng.permutation(np.flatnonzero(labels == label))
        count = max(round(fraction * len(members)), 1) if fraction else 0
        chosen[members[:count]] = True
    return chosen


def _kept(labels: np.ndarray, anomalous: int | None, seed: int) -> np.ndarray:
    """Training videos to keep, bool `[n]`: all normal ones and `anomalous` of the others."""
    members = np.flatnonzero(labels == 1)
    if anomalous is None:
        return np.ones(len(labels), bool)
    if not 1 <= anomalous <= len(members):
        raise InputError(
            f"anomalous_train_videos must be between 1 and the {len(members)} anomalous training "
            f"videos that are left after validation was held out, got {anomalous}."
        )
    kept = labels == 0
    kept[np.random.default_rng([seed, 1]).permutation(members)[:anomalous]] = True
    return kept


def _fingerprint(part: str, own: _Videos, layout: Layout, cutting: _Cutting) -> dict:
    files = hashlib.sha256()
    for video, label in zip(own.videos, own.labels, strict=True):
        # File sizes rather than times: a copied data set is the same data set.
        files.update(repr((video.name, video.shape, video.file_bytes, int(label))).encode())
    return {
        "source": "snippet_features",
        "part": part,
        "layout": layout._asdict(),
        "segments": cutting.segments,
        "segmentation": cutting.segmentation,
        "files": files.hexdigest(),
    }


def _check_options(
    layout: Layout, cutting: _Cutting, label_rule: str, truth: str, validation_fraction: float
) -> None:
    for name, value, known in (
        ("layout", layout.kind, feature_files.LAYOUTS),
        ("axes", layout.axes, feature_files.AXES),
        ("crops", layout.crops, feature_files.CROPS),
        ("segmentation", cutting.segmentation, SEGMENTATIONS),
        ("label_rule", label_rule, video_labels.RULES),
        ("truth", truth, TRUTHS),
    ):
        if value not in known:
            raise InputError(f"Unknown {name} {value!r}; expected one of {', '.join(known)}.")
    if cutting.segments < 1:
        raise InputError(f"segments must be at least 1, got {cutting.segments}.")
    if layout.kind == "c3d_text" and cutting.segments != feature_files.C3D_SEGMENTS:
        raise InputError(
            f"Files of layout 'c3d_text' hold {feature_files.C3D_SEGMENTS} segments; set segments "
            f"to that, got {cutting.segments}."
        )
    if layout.crop_files < 1:
        raise InputError(f"crop_files must be at least 1, got {layout.crop_files}.")
    if not 0 <= validation_fraction < 1:
        raise InputError(f"validation_fraction must be in [0, 1), got {validation_fraction}.")


def _check_disjoint(train: _Videos, test: _Videos, train_list: str, test_list: str) -> None:
    shared = sorted(set(train.names) & set(test.names))
    if shared:
        raise InputError(
            f"{len(shared)} videos are both in {train_list} and in {test_list}; test videos must "
            f"not be trained on:{feature_files.listed(shared)}"
        )


def _check_classes(train: _Videos, test: _Videos) -> None:
    for part, own, needed in (("training", train, (0, 1)), ("test", test, (1,))):
        for label in needed:
            if not np.any(own.labels == label):
                kind = ("normal", "anomalous")[label]
                raise InputError(
                    f"There are no {kind} {part} videos among {len(own.names)} (after the "
                    "validation videos were held out). Check label_rule, the list and "
                    "validation_fraction."
                )


def _path(path: str) -> str:
    """Absolute, so that reader processes and a changed folder do not matter."""
    return os.path.abspath(os.path.expanduser(path))
