"""Slices of a data set, prepared once: an epoch never opens a volume.

A cache is a folder (`slice_files`) named by its key: a hash of the preparation and of the jobs,
with paths relative to the folder of all, size and time of change of every file. Contents are not
hashed for the key, which would read tens of gigabytes at each start to save a rebuild after a copy
that lost the times. The `fingerprint`, by which runs are compared, hashes the slices themselves
instead: files that were copied or touched leave it as it is.

Volumes are read in threads (decompression leaves Python's lock) that run at most as far ahead as
there are threads, and slices are written as they come, so that memory does not grow with the data
set. Two processes that need the same cache at once both prepare it; one of the two is kept.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxad.data import (
    image_files,
    itk_volumes,
    slice_files,
    volume_geometry,
    volume_slices,
    volumes,
)
from jaxad.data.slice_files import Cached
from jaxad.data.volume_slices import Preparation
from jaxad.errors import InputError
from jaxad.files import make_folder

__all__ = ["VERSION", "Cached", "Job", "open_slices", "prepare"]

VERSION = 1  # Of the format, and of what preparation means: a change makes all caches anew.

_LOG_SECONDS = 10

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Job:
    """One volume to take slices from.

    Attributes:
        image: File, or folder of DICOM files.
        label: File of its labels, or None.
        name: Starts the names of its slices, such as "SUBJECT/ED"; unique.
        subject: Patient.
        frames: Positions in time to take; () for those of the preparation.
        series: Which DICOM series of a folder, see `volumes.read`.
    """

    image: str
    label: str | None
    name: str
    subject: str
    frames: tuple[int, ...] = ()
    series: str = ""


def open_slices(
    jobs: Sequence[Job], preparation: Preparation, folder: str, *, threads: int | None = None
) -> Cached:
    """Slices of all volumes, from the cache or, the first time, from the volumes.

    Args:
        jobs: Volumes, in the order of records.
        preparation: What is done to them.
        folder: Where caches are, each in a folder of its own; made if it is not there.
        threads: That read and prepare volumes; None: one per processor, at most 8. Each holds a
            volume and its slices in memory.

    Returns:
        The slices, named "JOB/z012" by their position from 0 along the axis of slices, those of
        frames "JOB/t03/z012". Volumes without label among others with have segments 255.

    Raises:
        InputError: Lists all volumes that cannot be used; or names repeat, no slice is left, or the
            cache cannot be written.
    """
    _check_jobs(jobs)
    place = os.path.join(make_folder(folder), _key(jobs, preparation)[:24])
    cached = slice_files.opened(place)
    if cached is not None:
        return cached
    count = _count(jobs, preparation)
    labelled = any(job.label for job in jobs)
    needed = count * preparation.size[0] * preparation.size[1] * (3 if labelled else 2)
    if preparation.empty == "keep":
        _check_space(folder, needed)
    start = time.monotonic()
    log.info("Preparing %d slices of %d volumes in %s.", count, len(jobs), place)
    with slice_files.hidden_folder(place, needed) as part:
        faults = []
        rows = _prepared(jobs, preparation, threads or min(os.cpu_count() or 1, 8), faults)
        written = slice_files.write(part, rows, tuple(preparation.size), labelled)
        image_files.raise_faults(faults, len(jobs), "volumes")
        if not written:
            raise InputError(f"All slices of the {len(jobs)} volumes are background; none is left.")
        slice_files.publish(part, place)
    log.info("Prepared %d slices in %.0f s.", written, time.monotonic() - start)
    cached = slice_files.opened(place)
    if cached is None:
        raise InputError(f"The slices in {place} changed while they were written; start again.")
    return cached


def prepare(job: Job, preparation: Preparation) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Reads one volume and makes its slices.

    Args:
        job: Its files.
        preparation: What is done to it.

    Returns:
        Images uint16 `[n, H, W]`, of which 65535 stands for 1, segments uint8 `[n, H, W]` or None
        without labels, and names.

    Raises:
        InputError: Names the file.
    """
    frames = _frames(job, preparation)
    volume = volumes.read(job.image, series=job.series, frames=frames or None)
    if volume.array.min() == volume.array.max():
        raise InputError(
            f"The volume {job.image} is empty: all its voxels are {volume.array.flat[0]}."
        )
    labels = None
    if job.label is not None:
        over_time = volumes.read_header(job.label).times
        labels = volumes.read(job.label, frames=(frames or None) if over_time else None)
        labels = volume_geometry.pasted(labels, volume.header)
    images, segments = volume_slices.slices(volume, labels, preparation, frames)
    depth = len(images) // max(len(frames), 1)
    places = [f"z{z:03d}" for z in range(depth)]
    if volume.header.times:
        places = [f"t{frame:02d}/{z}" for frame in frames for z in places]
    names = np.array([f"{job.name}/{place}" for place in places])
    kept = volume_slices.kept(segments, preparation)
    return (
        slice_files.quantised(images[kept]),
        None if segments is None else segments[kept],
        names[kept].tolist(),
    )


def _frames(job: Job, preparation: Preparation) -> tuple[int, ...]:
    return tuple(job.frames or preparation.frames)


def _check_jobs(jobs: Sequence[Job]) -> None:
    if not jobs:
        raise InputError("There are no volumes to take slices from.")
    counts = collections.Counter(job.name for job in jobs)
    faults = [f"{n} volumes have the name {name}" for name, n in counts.items() if n > 1]
    image_files.raise_faults(faults, len(counts), "names of volumes")


def _key(jobs: Sequence[Job], preparation: Preparation) -> str:
    """Hash of the preparation, the jobs, and sizes and times of their files."""
    paths = sorted({path for job in jobs for path in (job.image, job.label) if path})
    files, faults = image_files.collect(_files, paths)
    image_files.raise_faults(faults, len(paths), "volumes")
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])

    def relative(path: str | None) -> str | None:
        return path and os.path.relpath(path, root).replace(os.sep, "/")

    described = [
        {**dataclasses.asdict(job), "image": relative(job.image), "label": relative(job.label)}
        for job in jobs
    ]
    told = {field: getattr(preparation, field) for field in vars(preparation)}
    told["label_map"] = sorted((str(k), v) for k, v in (preparation.label_map or {}).items())
    stats = [[relative(p), *numbers] for found in files for p, *numbers in found]
    text = json.dumps([VERSION, told, described, stats], sort_keys=True, default=int)
    return hashlib.sha256(text.encode()).hexdigest()


def _files(path: str) -> list[tuple[str, int, int]]:
    """Path, size and time of change of a file and its raw data, or of those in a folder."""
    try:
        if os.path.isdir(path):
            walk = os.walk(path, followlinks=True)
            found = [os.path.join(here, name) for here, _, names in walk for name in names]
        else:
            found = [path, *itk_volumes.data_files(path)]
        stats = [(name, os.stat(name)) for name in sorted(found)]
    except FileNotFoundError as error:
        raise InputError(f"The file {error.filename} of a volume does not exist.") from None
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _count(jobs: Sequence[Job], preparation: Preparation) -> int:
    """Slices of all volumes, from headers alone."""

    def one(job: Job) -> int:
        image = volumes.read_header(job.image, series=job.series)
        label = None
        # A DICOM segmentation may lie on a part of the grid: compared when it is read.
        if job.label is not None and not job.label.lower().endswith(".dcm"):
            label = volumes.read_header(job.label)
        return volume_slices.check(image, label, preparation, _frames(job, preparation))

    if any(job.label for job in jobs):
        volume_slices.background_class(preparation)
    counts, faults = image_files.collect(one, jobs)
    image_files.raise_faults(faults, len(jobs), "volumes")
    return sum(counts)


def _prepared(
    jobs: Sequence[Job], preparation: Preparation, threads: int, faults: list[str]
) -> Iterator[tuple[np.ndarray, np.ndarray | None, list[str], str]]:
    """Rows for `slice_files.write`; puts what is wrong with volumes into `faults`."""

    def attempt(job):
        try:
            return prepare(job, preparation), ""
        except InputError as error:
            return None, str(error)

    last = time.monotonic()
    results = _in_order(attempt, jobs, threads)
    for done, (job, (result, fault)) in enumerate(zip(jobs, results, strict=True), 1):
        if fault:
            faults.append(fault)
        if not faults:  # After a fault the others are read only to list what is wrong with them.
            yield (*result, job.subject)
        if time.monotonic() - last > _LOG_SECONDS:
            last = time.monotonic()
            log.info("%d of %d volumes are prepared.", done, len(jobs))


def _in_order(function: Callable, items: Sequence[Any], threads: int) -> Iterator[Any]:
    """Results in order, from threads that run a few items ahead of the reader."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        waiting = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _check_space(folder: str, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"Cannot write the slices into {folder}: they need {needed:,} bytes, {free:,} are free."
        )
