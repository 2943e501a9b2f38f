"""Prepared slices on disk: raw arrays beside an index, in a folder that is whole or not there.

`images.u16` holds slices scaled to 0…65535 (an error of at most 7.7e-6), `segments.u8` their
classes if there are labels, `index.json` names, sizes and hashes. A folder is built under a hidden
name, synced, and renamed at the end: of two processes that build the same one, the later one takes
what the earlier one made. Arrays are written in order, not through a mapping, so that a full disk
is an error and not a signal that ends the process.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxad.errors import InputError

VOID = 255  # Code of pixels without label.

_LEVELS = 65535
_INDEX, _IMAGES, _SEGMENTS = "index.json", "images.u16", "segments.u8"
_STALE_SECONDS = 86_400  # A hidden folder that old was left by a build that was killed.

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Cached:
    """Slices of a data set; pickles as its paths and names, and maps its files where it is used.

    Attributes:
        folder: Of this cache.
        names: Per slice, "SUBJECT/…/z012", with frames "SUBJECT/…/t03/z012": the position along the
            axis of slices, from 0.
        subjects: Patient per slice.
        size: Height and width.
        labelled: Whether there are segments.
        fingerprint: Hash of names and slices.
    """

    folder: str
    names: tuple[str, ...]
    subjects: tuple[str, ...]
    size: tuple[int, int]
    labelled: bool
    fingerprint: str

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def images(self) -> np.ndarray:
        """Memory map uint16 `[n, H, W]`, of which 65535 stands for 1."""
        return self._map(_IMAGES, "<u2")

    @functools.cached_property
    def segments(self) -> np.ndarray | None:
        """Memory map uint8 `[n, H, W]`, or None: classes, 255 for slices without labels."""
        return self._map(_SEGMENTS, np.uint8) if self.labelled else None

    def read(self, i: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Slice i: image float32 `[H, W, 1]` in [0, 1], and segments uint8 `[H, W]` or None."""
        image = np.divide(self.images[i, ..., None], np.float32(_LEVELS), dtype=np.float32)
        return image, None if self.segments is None else np.array(self.segments[i])

    def _map(self, name: str, dtype: Any) -> np.ndarray:
        path = os.path.join(self.folder, name)
        try:
            mapped = np.memmap(path, dtype, "r", shape=(len(self), *self.size))
        except (OSError, ValueError) as error:
            raise InputError(
                f"The slices {path} cannot be read any more ({error}); start again to rebuild them."
            ) from error
        return mapped.view(np.ndarray)  # Indexing a memmap costs as much as reading a slice.

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def quantised(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as they are stored: uint16, nearest of 65,536 levels."""
    scaled = images * np.float32(_LEVELS)
    return np.rint(scaled, out=scaled).astype("<u2")


def write(
    folder: str,
    volumes: Iterable[tuple[np.ndarray, np.ndarray | None, list[str], str]],
    size: tuple[int, int],
    labelled: bool,
) -> int:
    """Writes the files of a cache.

    Args:
        folder: An empty folder.
        volumes: Per volume images uint16 `[n, H, W]`, segments uint8 `[n, H, W]` or None, names of
            slices, and the patient.
        size: H and W.
        labelled: Whether to write segments.

    Returns:
        Slices written.
    """
    names, subjects = [], []
    types = {_IMAGES: "<u2", **({_SEGMENTS: np.uint8} if labelled else {})}
    hashes = {name: hashlib.sha256() for name in types}
    with contextlib.ExitStack() as stack:
        opened = {
            name: stack.enter_context(open(os.path.join(folder, name), "xb")) for name in types
        }
        for images, segments, own, subject in volumes:
            void = np.full(images.shape, VOID, np.uint8) if segments is None else segments
            for name, array in ((_IMAGES, images), (_SEGMENTS, void)):
                if name in types:
                    data = np.ascontiguousarray(array, types[name]).data
                    opened[name].write(data)
                    hashes[name].update(data)
            names += own
            subjects += [subject] * len(own)
        for file in opened.values():
            _sync(file)
    digests = {name: each.hexdigest() for name, each in hashes.items()}
    told = {"names": names, "subjects": subjects, "size": list(size), "sha256": digests}
    changed = {name: os.stat(os.path.join(folder, name)).st_mtime_ns for name in types}
    with open(os.path.join(folder, _INDEX), "x", encoding="utf-8") as file:
        json.dump({**told, "changed": changed, "fingerprint": _fingerprint(told)}, file)
        _sync(file)
    return len(names)


def opened(place: str) -> Cached | None:
    """The cache in a folder.

    Args:
        place: Folder of the cache.

    Returns:
        The cache; None if there is none, or none to be trusted, which is removed with a warning.
    """
    if not os.path.isdir(place):
        return None
    try:
        with open(os.path.join(place, _INDEX), encoding="utf-8") as file:
            index = json.load(file)
        fault = _damage(place, index)
        if not fault:
            return Cached(
                place,
                tuple(index["names"]),
                tuple(index["subjects"]),
                tuple(index["size"]),
                _SEGMENTS in index["sha256"],
                index["fingerprint"],
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fault = f"{_INDEX}: {error}"
    log.warning("The slices in %s are damaged (%s); they are made anew.", place, fault)
    _remove(place)
    return None


def _damage(place: str, index: dict[str, Any]) -> str:
    """What is wrong with the files of a cache, in words."""
    hashed = {name: index[name] for name in ("names", "subjects", "size", "sha256")}
    if _fingerprint(hashed) != index["fingerprint"]:
        return f"{_INDEX} was changed"
    for name, digest in index["sha256"].items():
        path = os.path.join(place, name)
        stat = os.stat(path)
        expected = len(index["names"]) * math.prod(index["size"]) * (2 if name == _IMAGES else 1)
        if stat.st_size != expected:
            return f"{name} has {stat.st_size} bytes, expected {expected}"
        # Contents are hashed only where the time tells that someone wrote them: a change, a copy.
        if stat.st_mtime_ns != index["changed"][name] and _digest(path) != digest:
            return f"{name} was changed"
    return ""


def _fingerprint(told: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def hidden_folder(place: str, needed: int) -> Iterator[str]:
    """A folder to build in, removed at the end unless `publish` renamed it.

    Args:
        place: Folder that it is to become.
        needed: Bytes it may need, for the message.

    Yields:
        Its path, beside `place`.

    Raises:
        InputError: For whatever the file system refuses inside the block, such as a full disk.
    """
    folder, name = os.path.split(place)
    for other in os.scandir(folder):
        old = other.name.startswith(".") and other.name.endswith(".part")
        if old and time.time() - other.stat().st_mtime > _STALE_SECONDS:
            _remove(other.path)
    part = os.path.join(folder, f".{name}.{secrets.token_hex(6)}.part")
    try:
        os.mkdir(part)
        yield part
    except OSError as error:
        free = shutil.disk_usage(folder).free
        raise InputError(
            f"Cannot write {place}: {error.strerror or error}. It needs up to {needed:,} bytes; "
            f"{free:,} bytes are free in {folder}."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def publish(part: str, place: str) -> None:
    """Gives a finished folder its name, unless another process was faster.

    Args:
        part: The finished folder.
        place: Its name; a folder of that name that is there already is kept.
    """
    try:
        os.rename(part, place)
    except OSError:
        if not os.path.isdir(place):
            raise


def _remove(place: str) -> None:
    """Renames a folder, then deletes it; processes that mapped its files keep them."""
    folder, name = os.path.split(place)
    aside = os.path.join(folder, f".{name.strip('.')[:60]}.{secrets.token_hex(6)}.part")
    with contextlib.suppress(OSError):  # Another process may have done it.
        os.rename(place, aside)
        shutil.rmtree(aside, ignore_errors=True)
