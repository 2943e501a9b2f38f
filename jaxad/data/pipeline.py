"""Records to batches with grain: order, sharding by process, padding, reading ahead.

The order of a stage's batches is a pure function of (split, seed, batch size): batch n is the same
whatever came before, on however many processes and devices it is read. A position is therefore one
number, the batches consumed, and a run continues with `start=position`.
"""

import dataclasses
import hashlib
import json
import logging
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from jaxad.data.split import Split
from jaxad.errors import InputError

Batch = dict[str, np.ndarray]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Reading:
    """How batches are read ahead: `config.data`, and this process's place among all.

    Attributes:
        threads: Reader threads, each preparing whole batches.
        workers: Reader processes; 0 reads with threads. They take seconds to start.
        prefetch: Batches prepared ahead.
        on_error: "raise", or "skip": a record that cannot be read becomes a row with `valid` False.
        process: `(index, count)`; each process reads an equal, contiguous share of each batch.
    """

    threads: int = 4
    workers: int = 0
    prefetch: int = 4
    on_error: str = "raise"
    process: tuple[int, int] = (0, 1)


def steps_per_epoch(split: Split, batch_size: int, sampler: str) -> int:
    """Batches until each record of the (larger) class was seen once, rounded up."""
    if sampler == "balanced":
        counts = [int(np.sum(split.labels == label)) for label in (0, 1)]
        return -(-max(counts) // (batch_size // 2))
    return -(-len(split) // batch_size)


def shuffled(split: Split, *, batch_size: int, seed: int, sampler: str) -> grain.MapDataset:
    """The endless order of training: element n is the int `[batch_size]` record positions of batch
    n.

    "balanced" alternates anomalous and normal records, each class shuffled and repeated on its own,
    so that every even-sized contiguous share of a batch, hence every device, holds as many of both.
    """
    if sampler == "balanced":
        classes = [np.flatnonzero(split.labels == label) for label in (1, 0)]
        for name, members in zip(("anomalous", "normal"), classes, strict=True):
            if len(members) == 0:
                raise InputError(
                    f"The training split has no {name} records, and sampler='balanced' needs both "
                    f"classes; it holds {len(split)} records."
                )
        streams = [
            grain.MapDataset.source(members).seed(seed + place).shuffle().repeat(None)
            for place, members in enumerate(classes)
        ]
        order = grain.MapDataset.mix(streams)
    else:
        order = grain.MapDataset.range(len(split)).seed(seed).shuffle().repeat(None)
    return order.batch(batch_size).map(_with_length)


def plan(split: Split, *, batch_size: int, devices: int, shortest: int = 32) -> list["Rows"]:
    """Batches that hold each record once, records of similar length together.

    A record of varying length goes to the bucket of the next power of two (at least `shortest`), so
    that a thousand lengths compile a handful of programs. A bucket twice as long has batches of
    half as many rows, so that memory stays bounded; never fewer rows than devices. Short batches
    are padded with -1.
    """
    positions = np.arange(len(split))
    if split.lengths is None:
        buckets = np.zeros(len(split), np.int64)
    else:
        exponents = np.ceil(np.log2(np.maximum(split.lengths, 1) / shortest))
        buckets = shortest * 2 ** np.maximum(exponents, 0).astype(np.int64)
    batches = []
    for bucket in np.unique(buckets):
        members = positions[buckets == bucket]
        share = 1 if bucket == 0 else bucket // shortest
        rows = max(batch_size // share // devices, 1) * devices
        padded = np.full(-(-len(members) // rows) * rows, -1, np.int64)
        padded[: len(members)] = members
        batches += [Rows(tuple(map(int, row)), int(bucket)) for row in padded.reshape(-1, rows)]
    return batches


@dataclasses.dataclass(frozen=True)
class Rows:
    """A batch before it is read: record positions (-1: padding) and time length (0: as it is)."""

    positions: tuple[int, ...]
    length: int = 0


def training_batches(
    split: Split, *, batch_size: int, seed: int, sampler: str, reading: Reading, start: int = 0
) -> Iterator[Batch]:
    """Endless training batches from batch number `start` on."""
    order = shuffled(split, batch_size=batch_size, seed=seed, sampler=sampler)
    return _read(order.slice(slice(start, None)), split, reading)


def ordered_batches(
    split: Split, *, batch_size: int, devices: int, reading: Reading, start: int = 0
) -> Iterator[Batch]:
    """Each record once, padding rows marked, from batch number `start` of the plan on."""
    batches = plan(split, batch_size=batch_size, devices=devices)[start:]
    return _read(grain.MapDataset.source(batches), split, reading) if batches else iter(())


def example(split: Split, rows: int = 2) -> Batch:
    """A batch of the first records, the same on all processes; shows `Stage.init` the shapes."""
    positions = tuple(i % len(split) for i in range(rows))
    length = 0 if split.lengths is None else int(max(split.lengths[i] for i in positions))
    batch = _Load(split, Reading(on_error="skip"))(Rows(positions, length))
    if "error" in batch:
        raise InputError(batch["error"])
    return {name: array for name, array in batch.items() if name != "unreadable"}


def fingerprint(split: Split, **order: Any) -> dict[str, Any]:
    """JSON values that decide which record comes at which position: compared when a run resumes.

    Args:
        split: The records.
        order: What else decides their order: seed, batch size, sampler.
    """
    names = hashlib.blake2b("\n".join(split.names).encode(), digest_size=8).hexdigest()
    labels = hashlib.blake2b(
        np.asarray(split.labels, np.int64).tobytes(), digest_size=8
    ).hexdigest()
    values = {"records": len(split), "names": names, "labels": labels}
    return json.loads(json.dumps({**values, **order, "source": dict(split.fingerprint)}))


def _with_length(positions: np.ndarray) -> Rows:
    return Rows(tuple(map(int, positions)))


def _read(order: grain.MapDataset, split: Split, reading: Reading) -> Iterator[Batch]:
    batches = order.map(_Load(split, reading))
    threads = grain.ReadOptions(
        num_threads=0 if reading.workers else min(reading.threads, reading.prefetch),
        prefetch_buffer_size=0 if reading.workers else max(reading.prefetch, 1),
    )
    batches = batches.to_iter_dataset(threads)
    if reading.workers:
        if not flags.FLAGS.is_parsed():  # Outside absl's app; grain's workers want its flags.
            flags.FLAGS.mark_as_parsed()
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=reading.workers, per_worker_buffer_size=max(reading.prefetch, 1)
            ),
            worker_init_fn=_leave_signals,
        )
    told: set[str] = set()
    for batch in batches:
        if "error" in batch:  # Travels as data: grain's workers would wrap an exception in another.
            raise InputError(str(batch["error"]))
        for message in batch.pop("unreadable", ()):
            if message not in told:
                told.add(message)
                log.warning("Skipped: %s", message)
        yield batch


def _leave_signals(_index: int, _count: int) -> None:
    """Ctrl-C reaches the whole process group: the trainer decides when its readers end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


@dataclasses.dataclass(frozen=True)
class _Load:
    """Reads this process's rows of a batch and stacks them; picklable, for reader processes."""

    split: Split
    reading: Reading

    def __call__(self, rows: Rows) -> Mapping[str, Any]:
        index, count = self.reading.process
        share = len(rows.positions) // count
        positions = rows.positions[index * share : (index + 1) * share]
        records: list[dict[str, np.ndarray] | None] = []
        unreadable = []
        for position in positions:
            try:
                records.append(None if position < 0 else self.split.read(position))
            except InputError as error:
                if self.reading.on_error == "raise":
                    return {"error": str(error)}
                records.append(None)
                unreadable.append(str(error))
        like = next((record for record in records if record is not None), None)
        try:
            like = _readable(self.split) if like is None else like
        except InputError as error:
            return {"error": str(error)}
        batch = _collate(self.split, records, positions, rows.length, like)
        return {**batch, "unreadable": unreadable} if unreadable else batch


def _readable(split: Split) -> dict[str, np.ndarray]:
    """A record that can be read: the shapes for a share of a batch without any."""
    for position in range(len(split)):
        try:
            return split.read(position)
        except InputError:
            continue
    raise InputError(f"None of the {len(split)} records can be read.")


def _collate(
    split: Split,
    records: Sequence[dict[str, np.ndarray] | None],
    positions: Sequence[int],
    length: int,
    like: dict[str, np.ndarray],
) -> Batch:
    """Stacks records; absent ones are zeros with `valid` False, short ones are padded in time."""
    batch: Batch = {
        "valid": np.array([record is not None for record in records]),
        "index": np.array(positions, np.int32),
    }
    for name, array in like.items():
        axis = split.time_axes.get(name)
        shape = list(np.shape(array))
        if axis is not None and length:
            shape[axis] = length
        stacked = np.zeros((len(records), *shape), np.asarray(array).dtype)
        for row, record in enumerate(records):
            if record is not None and axis is None:
                stacked[row] = record[name]
            elif record is not None:
                there = (slice(None),) * axis + (slice(0, record[name].shape[axis]),)
                stacked[row][there] = record[name]
        batch[name] = stacked
    if split.time_axes:
        name, axis = next(iter(split.time_axes.items()))
        lengths = [0 if record is None else record[name].shape[axis] for record in records]
        batch["length"] = np.array(lengths, np.int32)
    return batch
