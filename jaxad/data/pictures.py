"""Plain image files as slices without labels, for sets to be rejected."""

import dataclasses
import fnmatch
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from jaxad.data import grey_images, image_files
from jaxad.data.option_checks import absolute
from jaxad.errors import InputError

FITS = ("cover", "none")


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Reads plain image files as slices without labels.

    Attributes:
        names: Paths within their folder without ending.
        paths: Of the files.
        size: Height and width of what is read.
        fit: "cover": shrink or enlarge a picture until it just covers that size; "none": keep its
            pixels. Then the middle is cut out, or zeros surround it.
        fingerprint: Hash of names, sizes and bytes of the files.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    size: tuple[int, int]
    fit: str = "cover"
    fingerprint: str = ""

    def __post_init__(self):
        if self.fit not in FITS:
            raise InputError(f"Unknown fit {self.fit!r} of pictures; expected one of {FITS}.")

    def __call__(self, i: int) -> np.ndarray:
        """Picture i, float32 `[*size]`, scaled to [0, 1] after cropping, as scans are."""
        grey = grey_images.luminance(image_files.read_image(self.paths[i]))
        if self.fit == "cover":
            scale = max(wanted / own for wanted, own in zip(self.size, grey.shape, strict=True))
            height, width = (
                max(round(scale * own), wanted)
                for own, wanted in zip(grey.shape, self.size, strict=True)
            )
            # With antialiasing where it shrinks.
            grey = np.asarray(
                Image.fromarray(grey).resize((width, height), Image.Resampling.BILINEAR)
            )
        return grey_images.unit_range(_centred(grey, self.size))


def find(section: Mapping[str, Any], field: str, base: str, size: tuple[int, int]) -> Pictures:
    """The pictures of one set.

    Args:
        section: `root`, a folder; `images`, a folder within it ("images"); `pattern` of file names,
            such as "*.png" ("*"); `fit`, see `Pictures` ("cover").
        field: Name of the set's option, for errors.
        base: Folder that `root` is relative to.
        size: Height and width of what is read.

    Returns:
        The pictures by name, at least one.

    Raises:
        InputError: For an unknown option, a missing folder, no pictures, or, listed, files that are
            no images of 8 bits.
    """
    options = {"images": "images", "pattern": "*", "fit": "cover", **section}
    known = ["root", "images", "pattern", "fit"]
    unknown = [name for name in options if name not in (*known, "layout")]
    if unknown or "root" not in options:
        wrong = f"has no field {unknown}" if unknown else "needs ['root']"
        raise InputError(
            f"config.data.source.{field} {wrong} for the layout 'pictures'; its fields are {known}."
        )
    folder = os.path.join(absolute(base, options["root"]), options["images"])
    files = {
        name: path
        for name, path in image_files.files_of(folder).items()
        if fnmatch.fnmatch(os.path.basename(path), options["pattern"])
    }
    if not files:
        raise InputError(
            f"config.data.source.{field}: {folder} holds no pictures named {options['pattern']}."
        )
    headers, faults = image_files.collect(image_files.image_header, list(files.values()))
    image_files.raise_faults(faults, len(files), "pictures")
    known = repr([(name, *header) for name, header in zip(files, headers, strict=True)])
    return Pictures(
        names=tuple(files),
        paths=tuple(files.values()),
        size=size,
        fit=options["fit"],
        fingerprint=hashlib.sha256(known.encode()).hexdigest()[:16],
    )


def _centred(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of an image, with zeros around it where it is smaller; as `volume_slices` does."""
    starts = [(own - wanted) // 2 for own, wanted in zip(image.shape, size, strict=True)]
    kept = image[tuple(slice(max(s, 0), max(s, 0) + n) for s, n in zip(starts, size, strict=True))]
    before = [max(-start, 0) for start in starts]
    after = [n - b - own for n, b, own in zip(size, before, kept.shape, strict=True)]
    return np.pad(kept, list(zip(before, after, strict=True)))
