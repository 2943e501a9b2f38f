"""Images and label maps in files: sizes from headers, pixels when they are needed.

Pillow decodes. Whatever it finds wrong with a file becomes an `InputError` that names the file.
"""

import concurrent.futures
import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxad.data.feature_files import listed
from jaxad.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm")

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
_WIDE = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # Modes of more than 8 bits.


class Header(NamedTuple):
    """What is known of an image file without decoding it.

    Attributes:
        size: Height and width, pixels.
        file_bytes: Bytes of the file.
    """

    size: tuple[int, int]
    file_bytes: int


def image_header(path: str) -> Header:
    """Size of a colour or grey image of 8 bits.

    Args:
        path: Image file.

    Returns:
        Its header.

    Raises:
        InputError: If the file is missing, no image, or of more than 8 bits per channel.
    """
    with _opened(path, "image") as image:
        if image.mode in _WIDE:
            raise InputError(
                f"The image {path} has mode {image.mode}; expected 8 bits per channel."
            )
        return _header(path, image)


def label_header(path: str) -> Header:
    """Size of a label map.

    Args:
        path: Label map: an image file without loss, one channel of ids or equal channels.

    Returns:
        Its header.

    Raises:
        InputError: If the file is missing, no image, or compressed with loss.
    """
    with _opened(path, "label map") as image:
        if image.format == "JPEG" or image.mode in ("F", "CMYK", "YCbCr", "LAB", "HSV"):
            raise InputError(
                f"The label map {path} is {image.format} of mode {image.mode}; expected ids stored "
                "without loss, such as PNG of one channel."
            )
        return _header(path, image)


def read_image(path: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decodes an image to RGB.

    Args:
        path: Image file; grey becomes RGB, transparency is dropped.
        size: Height and width to resize to, bilinear, averaging over source pixels where it
            shrinks (Pillow's antialiasing); None for its own.

    Returns:
        uint8 `[H, W, 3]`.

    Raises:
        InputError: If the file cannot be decoded whole.
    """
    with _opened(path, "image") as image:
        rgb = image.convert("RGB")
        if size is not None and rgb.size != (size[1], size[0]):
            rgb = rgb.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return np.array(rgb)


def read_ids(path: str) -> np.ndarray:
    """Decodes a label map; palette images give their indices.

    Args:
        path: Label map.

    Returns:
        Integers `[H, W]`.

    Raises:
        InputError: If the file cannot be decoded whole, or its channels differ.
    """
    with _opened(path, "label map") as image:
        ids = np.array(image)
    if ids.dtype == bool:
        ids = ids.astype(np.uint8)
    if ids.ndim == 2:
        return ids
    colours = ids[..., :3] if ids.shape[-1] >= 3 else ids[..., :1]  # The rest is transparency.
    if (colours != colours[..., :1]).any():
        raise InputError(
            f"The label map {path} is coloured; expected one channel of label ids, not colours."
        )
    return colours[..., 0]


def resize_nearest(codes: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Resizes a map of codes.

    Args:
        codes: uint8 `[H, W]`.
        size: Height and width; None for its own.

    Returns:
        uint8 `[h, w]`, each the code of the pixel that its centre falls on.
    """
    if size is None or codes.shape == tuple(size):
        return codes
    resized = Image.fromarray(codes).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.array(resized)


def files_of(folder: str) -> dict[str, str]:
    """The image files of a folder and of those below it.

    Args:
        folder: Folder.

    Returns:
        Path by name: the path inside the folder without ending, with "/"; sorted. Hidden files
        are left out.

    Raises:
        InputError: If the folder is missing, or two files differ in nothing but their ending.
    """
    if not os.path.isdir(folder):
        raise InputError(f"The folder {folder} does not exist.")
    found: dict[str, str] = {}
    for here, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if name.startswith(".") or suffix.lower() not in SUFFIXES:
                continue
            path = os.path.join(here, name)
            key = os.path.relpath(os.path.join(here, stem), folder).replace(os.sep, "/")
            if key in found:
                raise InputError(f"{found[key]} and {path} have the same name; keep one of them.")
            found[key] = path
    return dict(sorted(found.items()))


def collect(
    function: Callable[[Any], Any], items: Sequence[Any]
) -> tuple[list[Any | None], list[str]]:
    """Calls a function for each item, in threads: decoding leaves Python's lock.

    Args:
        function: Of one item.
        items: The items.

    Returns:
        The results in order, None where the function raised an `InputError`, and the texts of
        these errors, each once.
    """

    def one(item):
        try:
            return function(item), None
        except InputError as error:
            return None, str(error)

    with concurrent.futures.ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 2)) as pool:
        pairs = list(pool.map(one, items))
    faults = dict.fromkeys(text for _, text in pairs if text is not None)
    return [result for result, _ in pairs], list(faults)


def raise_faults(faults: Sequence[str], total: int, what: str) -> None:
    """Raises an `InputError` that lists the faults, unless there are none.

    Args:
        faults: One text each.
        total: How many could have been faulty.
        what: Their name, plural, such as "scenes of the training split".
    """
    if faults:
        raise InputError(f"{len(faults)} of {total} {what} cannot be used:{listed(faults)}")


@contextlib.contextmanager
def _opened(path: str, what: str) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise InputError(f"The {what} {path} does not exist.") from None
    except Image.UnidentifiedImageError:
        raise InputError(f"The {what} {path} is no image that Pillow can read.") from None
    except InputError:
        raise
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise InputError(f"The {what} {path} cannot be decoded ({error}).") from None


def _header(path: str, image: Image.Image) -> Header:
    width, height = image.size
    return Header((height, width), os.path.getsize(path))
