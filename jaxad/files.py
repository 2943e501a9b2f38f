"""Files that appear whole or not at all."""

import contextlib
import os
import pathlib
import secrets
import shutil
from collections.abc import Callable
from typing import BinaryIO

from jaxad.errors import InputError


def write_atomically(
    path: str | os.PathLike[str], content: bytes | Callable[[BinaryIO], None]
) -> None:
    """Writes a file so that a reader sees the old content or the new, whatever happens in between.

    The content goes to a hidden file beside `path`, then to the disk, then takes the name of the
    file. A hidden file that could not be finished is removed.

    Args:
        path: File in an existing folder; one that is there is replaced.
        content: The bytes, or a function that writes them to the open, seekable file it is given.

    Raises:
        InputError: If the file cannot be written (disk full, no permission, no such folder): names
            the path, what had to be written, and what is free.
    """
    path = pathlib.Path(path)
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.part")
    written = 0
    try:
        with open(part, "xb") as file:
            try:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            finally:
                with contextlib.suppress(OSError, ValueError):
                    written = file.tell()
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        needed = f"at least {written:,}" if callable(content) else f"{len(content):,}"
        raise InputError(
            f"Cannot write {path}: {error.strerror or error}. It needs {needed} bytes; "
            f"{_free(path.parent)}."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def make_folder(path: str | os.PathLike[str]) -> pathlib.Path:
    """Makes a folder and those above it, unless they are there.

    Raises:
        InputError: If that is not possible: names the path.
    """
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot make the folder {path}: {error.strerror or error}.") from error
    return path


def _sync_folder(folder: pathlib.Path) -> None:
    """Puts the new name on the disk too; not every file system offers that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _free(folder: pathlib.Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free:,} bytes are free in {folder}"
    except OSError as error:
        return f"the free space of {folder} is unknown ({error.strerror})"
