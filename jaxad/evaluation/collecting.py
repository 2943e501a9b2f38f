"""From scored batches to the scores of a split: whole per record, summed up per pixel."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from jaxad.data.split import Split
from jaxad.evaluation import components, overlays, pixels, predictions
from jaxad.evaluation.predictions import Predictions
from jaxad.files import make_folder, write_atomically

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Keeping:
    """What to keep of maps beside their sums.

    Attributes:
        rule: How pixels become components.
        threshold: Score from which they do; None: no components are counted.
        overlays: Images of each kind for the report: three kinds, see `overlays.Gallery`; of each
            set half as many of two kinds, where whole images alone have truth, and names.
        folder: Where to write the maps of each image; None: nowhere.
    """

    rule: components.Rule = dataclasses.field(default_factory=components.Rule)
    threshold: float | None = None
    overlays: int = 0
    folder: pathlib.Path | None = None


def collect(
    split: Split, batches: Iterable[tuple[Arrays, Arrays]], *, keeping: Keeping | None = None
) -> Predictions:
    """Collects scored batches, in any order, into the order of the split.

    Args:
        split: Where the records come from.
        batches: Scores and records of each batch. Scores are what `predictions.from_rows` takes,
            and what `pixels.MAPS` lists, `[B, H, W]`: sizes may differ from batch to batch. Of the
            records, `pixels.TRUTH` and `image` are read, as far as they are there; truth of another
            shape than the maps is a `ValueError`.
        keeping: Of maps beside their sums; nothing by default.

    Returns:
        The scores, with `pixels` if there are maps.

    Raises:
        InputError: For scores that are not finite or do not fit the truth, or a file that cannot be
            written: names the record or the file.
        ValueError: As `predictions.from_rows`.
    """
    keeping = Keeping() if keeping is None else keeping
    state = pixels.zero(
        len(split),
        split.segment_classes,
        rule=keeping.rule,
        threshold=keeping.threshold,
        palette=split.palette,
        background=split.background,
    )
    gallery = overlays.Gallery(each=keeping.overlays, sets=_sets(split))

    def rows() -> Iterator[Arrays]:
        nonlocal state, gallery
        for scores, records in batches:
            if "pixel" in scores:
                for place, maps, truth, image, score in _images(scores, records):
                    state = pixels.add(state, place, split.names[place], maps, truth)
                    gallery = _offered(gallery, split, state, place, maps, truth, image, score)
                    if keeping.folder is not None:
                        save_maps(keeping.folder, place, split.names[place], maps)
            yield {name: scores[name] for name in scores if name not in pixels.MAPS}

    found = predictions.from_rows(split, rows())
    if "pixel" not in state.predicted:
        return found
    return dataclasses.replace(found, pixels=dataclasses.replace(state, overlays=gallery.overlays))


def save_maps(folder: pathlib.Path, place: int, name: str, maps: Arrays) -> pathlib.Path:
    """Writes the maps of one image to `<place>.npz`, whole or not at all.

    Args:
        folder: Made if absent.
        place: Position in the split, six digits in the file's name.
        name: Of the record, entry `name`.
        maps: `pixel [H, W]`, float16 in the file (what is beyond ±65504 becomes that), and `classes
            [H, W]`, uint8.

    Raises:
        InputError: If the file cannot be written.
    """
    largest = np.finfo(np.float16).max
    arrays = {
        "name": np.array(name, np.str_),
        "pixel": np.clip(maps["pixel"], -largest, largest).astype(np.float16),
    }
    if "classes" in maps:
        arrays["classes"] = np.asarray(maps["classes"]).astype(np.uint8)
    path = make_folder(folder) / f"{place:06d}.npz"
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))
    return path


def _images(scores: Arrays, records: Arrays) -> Iterator[tuple]:
    """Place, maps, truth, picture and own score of each valid row."""
    maps = {name: np.asarray(scores[name]) for name in pixels.MAPS if name in scores}
    truth = {name: np.asarray(records[name]) for name in pixels.TRUTH if name in records}
    image, own = records.get("image"), scores.get("image")
    for row in np.flatnonzero(scores["valid"]):
        yield (
            int(scores["index"][row]),
            {name: array[row] for name, array in maps.items()},
            {name: array[row] for name, array in truth.items()},
            None if image is None else np.asarray(image[row]),
            None if own is None else float(own[row]),
        )


def _sets(split: Split) -> tuple[str, ...]:
    """That of the normal images, "", then those of the anomalous ones as they come."""
    places = () if split.classes is None else range(len(split))
    return tuple(dict.fromkeys(["", *(_set(split, place) for place in places)]))


def _set(split: Split, place: int) -> str:
    return (str(split.classes[place]) or "anomalous") if split.labels[place] else ""


def _offered(gallery, split, state, place, maps, truth, image, score) -> overlays.Gallery:
    """Offers an image to the gallery, which makes it small only if it keeps it."""
    numbers = {name: column[place] for name, column in state.images.items()}
    of, ranks = "", overlays.ranks_by_pixels(numbers)
    if "anomaly" not in truth and split.classes is not None:
        of = _set(split, place)
        ranks = overlays.ranks_by_score(numbers["peak"] if score is None else score)
    make = lambda kind: overlays.reduced(place, kind, maps, truth, image)  # noqa: E731
    return overlays.keep(gallery, place, ranks, make, of=of)
