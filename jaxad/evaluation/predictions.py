"""The scores of one split, on the host: what metrics, figures and reports are made from.

A "record" is a video or an image. Scores are higher where a record is more anomalous.
"""

import dataclasses
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxad.data.split import Split
from jaxad.errors import InputError
from jaxad.evaluation import pixels as pixel_scores
from jaxad.evaluation.pixels import PixelScores
from jaxad.files import write_atomically

Ragged = tuple[np.ndarray, ...]

_FORMAT = "jaxad predictions 1"
_BOOKKEEPING = ("index", "valid", "length")


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Scores and truth of n records.

    Attributes:
        names: One name per record.
        labels: int64 `[n]`, 0 normal, 1 anomalous.
        image: Score per record, floats `[n]`.
        snippet: Score per snippet, one `[T_i]` per record.
        extra: Further values by name, `[n]`, or one `[T_i]` per record.
        frames: Truth per frame, one uint8 `[frames_i]` of 0 and 1 per record. The last snippet may
            be incomplete: frames_per_snippet · (T_i - 1) < frames_i ≤ frames_per_snippet · T_i.
        classes: Name of the anomaly class per record, "" for normal ones.
        class_groups: Group of each class that has one.
        subjects: Patient per record.
        frames_per_snippet: Frames that one snippet stands for.
        pixels: Scores per pixel, summed up.

    Raises:
        InputError: If a score is not finite, labels or truth are not 0 or 1, or truth does not fit
            the snippets: names the record.
        ValueError: If the number of entries differs from that of the names, or numbers of snippets
            differ.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    image: np.ndarray | None = None
    snippet: Ragged | None = None
    extra: Mapping[str, np.ndarray | Ragged] = dataclasses.field(default_factory=dict)
    frames: Ragged | None = None
    classes: tuple[str, ...] | None = None
    class_groups: Mapping[str, str] | None = None
    subjects: tuple[str, ...] | None = None
    frames_per_snippet: int = 16
    pixels: PixelScores | None = None

    def __post_init__(self) -> None:
        fields = {"labels": self.labels, "frames": self.frames, "classes": self.classes}
        fields["subjects"] = self.subjects
        if self.pixels is not None:
            fields["pixels"] = self.pixels.images["auc"]
        for name, values in {**fields, **self.scores}.items():
            if values is not None and len(values) != len(self.names):
                raise ValueError(f"{name} has {len(values)} entries for {len(self.names)} records.")
        for name, values in self.scores.items():
            self._check_finite(name, values)
        self._check_truth()
        self._check_snippets()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def scores(self) -> dict[str, np.ndarray | Ragged]:
        """All that was predicted, by name: `image`, `snippet` (where given), then the extras."""
        given = {"image": self.image, "snippet": self.snippet}
        return {**{k: v for k, v in given.items() if v is not None}, **self.extra}

    @property
    def noun(self) -> str:
        """What a record is called: a "video" has scores per snippet, an "image" has not."""
        return "image" if self.snippet is None else "video"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an `.npz` that needs no pickles, whole or not at all.

        Entries `rows/<field>` hold one value per record; ragged fields are concatenated in
        `values/<field>`, record i being values[offsets[i] : offsets[i + 1]] with `offsets/<field>`.
        Entries `pixels/…` are those of `PixelScores`, by field and part: `pixels/images/<number>`
        per image, histograms of scores in `pixels/histogram/counts` (normal, anomalous; the lowest
        score of each bin is `jaxad.metrics.streaming.bin_edges()`), `pixels/confusion`.
        Entries `groups/classes` and `groups/names` are the classes that have a group, and theirs.

        Raises:
            InputError: If the file cannot be written.
        """
        arrays: dict[str, np.ndarray] = {
            "format": np.array(_FORMAT),
            "frames_per_snippet": np.array(self.frames_per_snippet),
            "rows/names": np.array(self.names, np.str_),
            "rows/labels": self.labels,
        }
        for name, values in (("classes", self.classes), ("subjects", self.subjects)):
            if values is not None:
                arrays[f"rows/{name}"] = np.array(values, np.str_)
        if self.class_groups is not None:
            arrays["groups/classes"] = np.array(list(self.class_groups), np.str_)
            arrays["groups/names"] = np.array(list(self.class_groups.values()), np.str_)
        fields = {"image": self.image, "snippet": self.snippet, "frames": self.frames}
        for name, values in {**fields, **{f"extra/{k}": v for k, v in self.extra.items()}}.items():
            if isinstance(values, tuple):
                arrays[f"values/{name}"], arrays[f"offsets/{name}"] = _joined(values)
            elif values is not None:
                arrays[f"rows/{name}"] = values
        if self.pixels is not None:
            arrays |= {f"pixels/{name}": array for name, array in self.pixels.arrays().items()}
        write_atomically(path, lambda file: np.savez_compressed(file, **arrays))

    def _check_finite(self, name: str, values: np.ndarray | Ragged) -> None:
        for record, value in zip(self.names, values, strict=True):
            bad = np.flatnonzero(~np.isfinite(value))
            if len(bad):
                where = f" at snippet {bad[0]} of {len(value)}" if np.ndim(value) else ""
                raise InputError(
                    f"{record}: its {name} value is {np.ravel(value)[bad[0]]}{where}; "
                    "expected finite numbers."
                )

    def _check_truth(self) -> None:
        if not np.isin(self.labels, (0, 1)).all():
            place = int(np.flatnonzero(~np.isin(self.labels, (0, 1)))[0])
            raise InputError(
                f"{self.names[place]}: its label is {self.labels[place]}; expected 0 or 1."
            )
        for name, truth in zip(self.names, self.frames or (), strict=False):
            if not np.isin(truth, (0, 1)).all():
                raise InputError(f"{name}: its frame truth holds more than 0 and 1.")

    def _check_snippets(self) -> None:
        """All values per snippet, and the truth, must be of the same number of snippets."""
        step = self.frames_per_snippet
        ragged = {name: values for name, values in self.scores.items() if isinstance(values, tuple)}
        for place, record in enumerate(self.names):
            counts = {name: len(values[place]) for name, values in ragged.items()}
            if len(set(counts.values())) > 1:
                raise ValueError(f"{record}: numbers of snippets differ: {counts}.")
            if not counts or self.frames is None:
                continue
            snippets, frames = next(iter(counts.values())), len(self.frames[place])
            if not step * (snippets - 1) < frames <= step * snippets:
                raise InputError(
                    f"{record}: {frames} frames of truth for {snippets} scored snippets of {step} "
                    f"frames; expected {max(step * (snippets - 1) + 1, 0)} to {step * snippets}."
                )


def load(path: str | os.PathLike[str]) -> Predictions:
    """Reads what `Predictions.save` wrote.

    Raises:
        InputError: If the file does not exist, is damaged, or is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if str(arrays["format"]) != _FORMAT:
            raise ValueError(f"its format is {arrays['format']}")
        fields = {name: array for name, array in _unpacked(arrays).items() if name != "names"}
        extra = {k.removeprefix("extra/"): v for k, v in fields.items() if k.startswith("extra/")}
        texts = {name: fields.pop(name, None) for name in ("classes", "subjects")}
        maps = {k.removeprefix("pixels/"): v for k, v in arrays.items() if k.startswith("pixels/")}
        return Predictions(
            names=tuple(arrays["rows/names"].tolist()),
            pixels=pixel_scores.from_arrays(maps) if maps else None,
            **{k: None if v is None else tuple(v.tolist()) for k, v in texts.items()},
            class_groups=_groups(arrays),
            extra=extra,
            frames_per_snippet=int(arrays["frames_per_snippet"]),
            **{name: value for name, value in fields.items() if not name.startswith("extra/")},
        )
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; expected scores saved as .npz.") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(
            f"{path} cannot be read as scores ({error}); expected an .npz of format {_FORMAT!r}."
        ) from error


def from_rows(split: Split, rows: Iterable[Mapping[str, np.ndarray]]) -> Predictions:
    """Collects scored batches, in any order, into the order of the split.

    Args:
        split: Where the records come from.
        rows: Per batch, arrays by name: `index [B]`, `valid [B]`, `length [B]` (optional: snippets
            per record; the rest of a row is padding), `image [B]`, `snippet [B, T]`, and extras of
            either shape. Rows with `valid` 0 are left out.

    Returns:
        The scores with the truth of the split.

    Raises:
        InputError: If a score is not finite, or does not fit the truth: names the record.
        ValueError: If a record came twice or not at all, or a batch has other names or shapes.
    """
    found: dict[int, dict[str, np.ndarray]] = {}
    for batch in rows:
        for place, record in _records(batch):
            if not 0 <= place < len(split):
                raise ValueError(f"A batch has record {place} of a split of {len(split)} records.")
            if place in found:
                raise ValueError(f"{split.names[place]} (record {place}) was scored twice.")
            found[place] = record
    missing = [name for place, name in enumerate(split.names) if place not in found]
    if missing:
        raise ValueError(f"{len(missing)} of {len(split)} records have no scores: {_few(missing)}.")
    fields = list(found[0]) if found else []
    for place, record in found.items():
        if set(record) != set(fields):
            raise ValueError(
                f"{split.names[place]} was scored with {sorted(record)}, "
                f"others with {sorted(fields)}."
            )
    scores = {name: _gathered(name, [found[i][name] for i in range(len(split))]) for name in fields}
    return Predictions(
        names=tuple(map(str, split.names)),
        labels=np.asarray(split.labels, np.int64),
        image=scores.pop("image", None),
        snippet=scores.pop("snippet", None),
        extra=scores,
        frames=None
        if split.frames is None
        else tuple(np.asarray(f, np.uint8) for f in split.frames),
        classes=None if split.classes is None else tuple(map(str, split.classes)),
        class_groups=None if split.class_groups is None else dict(split.class_groups),
        subjects=None if split.subjects is None else tuple(map(str, split.subjects)),
        frames_per_snippet=split.frames_per_snippet,
    )


def _records(batch: Mapping[str, np.ndarray]) -> Iterable[tuple[int, dict[str, np.ndarray]]]:
    """Position and values of each valid row of a batch, padded snippets cut off."""
    arrays = {name: np.asarray(array) for name, array in batch.items()}
    count = len(arrays["index"])
    values = {name: _as_floats(a) for name, a in arrays.items() if name not in _BOOKKEEPING}
    steps = {array.shape[1] for array in values.values() if array.ndim == 2}
    for name, array in values.items():
        if array.ndim not in (1, 2) or len(array) != count or len(steps) > 1:
            raise ValueError(
                f"{name} has shape {array.shape} in a batch of {count} records"
                f"{f' and {sorted(steps)} snippets' if steps else ''}; expected [B] or [B, T]."
            )
    for row in np.flatnonzero(arrays["valid"]):
        length = arrays["length"][row] if "length" in arrays else None
        if steps and length is not None and not 0 < length <= max(steps):
            raise ValueError(
                f"Record {arrays['index'][row]} has length {length} in a batch of "
                f"{max(steps)} snippets."
            )
        cut = {
            name: a[row] if a.ndim == 1 else a[row, :length].copy() for name, a in values.items()
        }
        yield int(arrays["index"][row]), cut


def _as_floats(array: np.ndarray) -> np.ndarray:
    """At least float32: what a file can hold without the types of accelerators."""
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def _gathered(name: str, values: Sequence[np.ndarray]) -> np.ndarray | Ragged:
    ranks = {np.ndim(value) for value in values}
    if len(ranks) > 1:
        raise ValueError(f"{name} has one value for some records, one per snippet for others.")
    return np.stack(values) if ranks == {0} else tuple(values)


def _joined(values: Ragged) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(value) for value in values], dtype=np.int64)])
    return np.concatenate(values) if values else np.zeros(0), offsets


def _unpacked(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | Ragged]:
    fields: dict[str, np.ndarray | Ragged] = {}
    for key, array in arrays.items():
        kind, _, name = key.partition("/")
        if kind == "rows":
            fields[name] = array
        elif kind == "values":
            fields[name] = tuple(np.split(array, arrays[f"offsets/{name}"][1:-1]))
    return fields


def _groups(arrays: Mapping[str, np.ndarray]) -> dict[str, str] | None:
    if "groups/classes" not in arrays:
        return None
    pairs = (arrays[f"groups/{part}"].tolist() for part in ("classes", "names"))
    return dict(zip(*pairs, strict=True))


def _few(names: Sequence[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (
        f" and {len(names) - limit} more" if len(names) > limit else ""
    )
