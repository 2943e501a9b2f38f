"""A few images of a split beside what is true and what was predicted of them.

Kept as they come by, small: the anomalous images that were ranked best and worst, and those without
anomalies (or without truth) that score highest. Where the truth is of whole images alone, and their
classes have names: the normal images and those of each class that score highest and lowest.
"""

import dataclasses
import io
import itertools
from collections.abc import Callable, Mapping

import matplotlib as mpl
import numpy as np
from PIL import Image

WIDTH = 640  # Of the widest picture, in pixels.
SCALE = "cividis"  # Dark blue to yellow, also for colour-blind readers.

OUTLIER, VOID = (213, 94, 0), (0, 0, 0)
# After Okabe and Ito, and Tol; the colour of outliers is none of them.
_COLORS = (
    *((0, 114, 178), (0, 158, 115), (240, 228, 66), (86, 180, 233), (204, 121, 167)),
    *((51, 34, 136), (221, 204, 119), (17, 119, 51), (136, 204, 238), (136, 34, 85)),
    *((170, 170, 170), (153, 153, 51), (68, 170, 153), (90, 90, 90), (230, 159, 0)),
    *((102, 153, 204), (170, 68, 153), (221, 221, 221), (136, 136, 200), (70, 100, 60)),
)
_KINDS = ("best", "worst", "normal", "highest", "lowest")  # In the order in which they are shown.
_RISING = ("worst", "lowest")  # Kinds whose numbers are shown falling, so ranks rising.
_HALVES = ("highest", "lowest")  # Kinds of which each set has half as many.
_COVER = 0.6  # Share of the class's colour where classes are laid over the image.


@dataclasses.dataclass(frozen=True, eq=False)
class Overlay:
    """One image and its maps, at most `WIDTH` wide.

    Attributes:
        place: Position in the split.
        kind: "best", "worst" or "normal"; "highest" or "lowest" of its set.
        scores: float32 `[h, w]`, means over the pixels that were merged.
        image: uint8 `[h, w, 3]`, if the records hold one.
        anomaly: uint8 `[h, w]`: 0, 1, 255 void; if known.
        segments: uint8 `[h, w]` true classes, 254 outlier, 255 void; if known.
        classes: uint8 `[h, w]`, if predicted.
        of: Name of the set that it is an example of, "" of the normal images.
    """

    place: int
    kind: str
    scores: np.ndarray
    image: np.ndarray | None = None
    anomaly: np.ndarray | None = None
    segments: np.ndarray | None = None
    classes: np.ndarray | None = None
    of: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Gallery:
    """The images kept so far; the order in which they come by does not matter.

    Attributes:
        each: How many to keep of each kind; "highest" and "lowest" are halves. 0 keeps none.
        sets: Of which sets, in the order in which they are shown.
        kept: By set and kind, `(rank, overlay)`, highest rank first.
    """

    each: int = 4
    sets: tuple[str, ...] = ("",)
    kept: Mapping[tuple[str, str], tuple] = dataclasses.field(default_factory=dict)

    @property
    def overlays(self) -> tuple[Overlay, ...]:
        """Best to worst, then those without anomalies by falling score; none twice.

        Of each set, from the highest score to the lowest.
        """
        shown: dict[int, Overlay] = {}
        for key in itertools.product(self.sets, _KINDS):
            own = [overlay for _, overlay in self.kept.get(key, ())]
            for overlay in own[::-1] if key[1] in _RISING else own:
                shown.setdefault(overlay.place, overlay)
        return tuple(shown.values())


def ranks_by_pixels(numbers: Mapping[str, float]) -> dict[str, float]:
    """By which kinds, and how high, an image ranks whose pixels have truth, or nothing has.

    Args:
        numbers: Of the image: `auc` (NaN where undefined), `anomalous` pixels, and `peak`.
    """
    if np.isfinite(numbers["auc"]):
        return {"best": numbers["auc"], "worst": -numbers["auc"]}
    if not numbers["anomalous"] and np.isfinite(numbers["peak"]):
        return {"normal": numbers["peak"]}
    return {}


def ranks_by_score(score: float) -> dict[str, float]:
    """By which kinds, and how high, an image ranks in its set."""
    return {"highest": score, "lowest": -score}


def keep(
    gallery: Gallery,
    place: int,
    ranks: Mapping[str, float],
    make: Callable[[str], Overlay],
    *,
    of: str = "",
) -> Gallery:
    """A gallery that this image was offered to.

    Args:
        gallery: Left as it is.
        place: Position of the image in the split.
        ranks: By kind, finite.
        make: `(kind) -> overlay`; called only if the image is kept.
        of: Its set, one of `gallery.sets`.
    """
    changed = dict(gallery.kept)
    for kind, value in ranks.items():
        own, rank = changed.get((of, kind), ()), (value, -place)
        room = -(-gallery.each // 2) if kind in _HALVES else gallery.each
        if len(own) < room or (own and rank > own[-1][0]):
            made = dataclasses.replace(make(kind), of=of)
            ranked = sorted([*own, (rank, made)], key=lambda entry: entry[0], reverse=True)
            changed[of, kind] = tuple(ranked[:room])
    return dataclasses.replace(gallery, kept=changed)


def reduced(
    place: int,
    kind: str,
    maps: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray],
    image: np.ndarray | None = None,
) -> Overlay:
    """An image and its maps, made small: scores and image by means, classes by the middle pixel.

    Args:
        place: Position in the split.
        kind: Why it is kept.
        maps: `pixel [H, W]`, and `classes [H, W]` if predicted.
        truth: `anomaly` and `segments`, uint8 `[H, W]`, as far as they are known.
        image: `[H, W, 3]` or `[H, W, 1]`, if there is one: uint8, or floats in [0, 1], what is
            beyond cut; another kind is left out.
    """
    step = -(-maps["pixel"].shape[1] // WIDTH)
    labels = {**truth, **{key: maps[key] for key in ("classes",) if key in maps}}
    picture = None
    if image is not None and image.dtype.kind == "f":
        image = np.round(255 * np.clip(np.nan_to_num(image), 0, 1)).astype(np.uint8)
    if image is not None and image.dtype == np.uint8 and image.shape[2:] in ((1,), (3,)):
        means = _means(image.astype(np.float32), -(-image.shape[1] // WIDTH))
        picture = np.broadcast_to(np.round(means), (*means.shape[:2], 3)).astype(np.uint8)
    return Overlay(
        place=place,
        kind=kind,
        scores=_means(np.asarray(maps["pixel"], np.float32), step),
        image=picture,
        **{
            key: _middles(np.asarray(array), step).astype(np.uint8) for key, array in labels.items()
        },
    )


def panels(
    overlay: Overlay,
    limits: tuple[float, float],
    palette: np.ndarray,
    *,
    background: int | None = None,
) -> dict[str, tuple[str, bytes]]:
    """The pictures of an overlay.

    Args:
        overlay: What to draw.
        limits: Scores of the two ends of the colours, the same for all images of a split.
        palette: Colours of the classes, uint8 `[K, 3]`.
        background: Class that covers nothing of the image; None: each covers it.

    Returns:
        By title, a MIME type and the file: "image", "truth", "predicted classes" and "score", as
        far as there is something to show: no truth if all of it is void, and anomalies have none.
        The truth is outlined in the score; examples of sets, which have none, have their score laid
        over the image.
    """
    drawn = {}
    if overlay.image is not None:
        drawn["image"] = _encoded(overlay.image, photo=True)
    truth = overlay.anomaly if overlay.segments is None else overlay.segments
    unlabelled = overlay.anomaly is None and truth is not None and (truth == 255).all()
    if truth is not None and not unlabelled:
        colors = np.zeros((256, 3), np.uint8)
        if overlay.segments is None:
            colors[0], colors[1] = (190, 190, 190), OUTLIER
        else:
            colors[: len(palette)], colors[254] = palette, OUTLIER
        colors[255] = VOID
        share = np.where(truth == 255, 1.0, np.where(truth == background, 0.0, _COVER))
        covered = _laid_over(colors[truth], overlay.image, share)
        drawn["truth"] = _encoded(covered, photo=overlay.image is not None)
    if overlay.classes is not None:
        colors = np.zeros((256, 3), np.uint8)
        colors[: len(palette)] = palette
        share = np.where(overlay.classes == background, 0.0, _COVER)
        covered = _laid_over(colors[overlay.classes], overlay.image, share)
        drawn["predicted classes"] = _encoded(covered, photo=overlay.image is not None)
    score, over = _score_picture(overlay, limits), overlay.kind in _HALVES
    if over:
        score = _laid_over(score, overlay.image, np.full(score.shape[:2], _COVER))
    drawn["score"] = _encoded(score, photo=over and overlay.image is not None)
    return drawn


def colors(classes: int, palette: np.ndarray | None = None) -> np.ndarray:
    """Colours of the classes: those given, or ones that colour-blind readers can tell apart.

    Args:
        classes: K; beyond 20 the default colours repeat, darker.
        palette: uint8 `[K, 3]`, if the source has one.

    Returns:
        uint8 `[K, 3]`.
    """
    if palette is not None:
        return np.asarray(palette, np.uint8)
    base = np.array(_COLORS, np.float64)
    turns, places = np.divmod(np.arange(classes), len(base))
    return (base[places] * 0.7 ** turns[:, None]).astype(np.uint8)


def _score_picture(overlay: Overlay, limits: tuple[float, float]) -> np.ndarray:
    low, high = limits
    level = np.clip((overlay.scores.astype(np.float64) - low) / max(high - low, 1e-30), 0.0, 1.0)
    picture = mpl.colormaps[SCALE](level, bytes=True)[..., :3].copy()
    if overlay.anomaly is not None:
        anomalous = overlay.anomaly == 1
        padded = np.pad(anomalous, 1)
        inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        picture[anomalous & ~inside] = OUTLIER
    return picture


def _laid_over(colored: np.ndarray, image: np.ndarray | None, share: np.ndarray) -> np.ndarray:
    """Colours over the image in grey, as much of them as `share [h, w]`, where sizes agree."""
    if image is None or image.shape != colored.shape:
        return colored
    grey = image.astype(np.float32).mean(axis=-1, keepdims=True)
    share = share[..., None]
    return np.round(share * colored + (1 - share) * grey).astype(np.uint8)


def _means(array: np.ndarray, step: int) -> np.ndarray:
    """Means of squares of `step` pixels; what is left over at the lower and right edge is cut."""
    height, width = (max(size // step, 1) for size in array.shape[:2])
    cut = array[: height * step, : width * step]
    rows = min(step, cut.shape[0])  # An image may be flatter than a square.
    blocks = cut.reshape(height, rows, width, step, *array.shape[2:])
    return blocks.mean(axis=(1, 3), dtype=np.float64).astype(np.float32)


def _middles(labels: np.ndarray, step: int) -> np.ndarray:
    """The middle pixels of the same squares."""
    height, width = (max(size // step, 1) for size in labels.shape[:2])
    rows = np.minimum(np.arange(height) * step + step // 2, labels.shape[0] - 1)
    return labels[rows][:, np.arange(width) * step + step // 2]


def _encoded(picture: np.ndarray, *, photo: bool) -> tuple[str, bytes]:
    """A photo as JPEG of full colour resolution, which is a fifth the size; flat areas as PNG."""
    file, kind = io.BytesIO(), "jpeg" if photo else "png"
    options = {"quality": 88, "subsampling": 0} if photo else {"optimize": True}
    Image.fromarray(picture).save(file, kind, **options)
    return f"image/{kind}", file.getvalue()
