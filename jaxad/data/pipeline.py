"""Records to batches with grain: order, sharding by process, padding, reading ahead.

The order of a stage's batches is a pure function of (split, seed, batch size): batch n is the same
whatever came before, on however many processes and devices it is read. A position is therefore one
number, the batches consumed, and a run continues with `start=position`.
"""

import dataclasses
import hashlib
import json
import logging
import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

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


@dataclasses.dataclass(frozen=True)
class Order:
    """Which record comes when in training.

    Attributes:
        batch_size: Records per batch, of all processes.
        seed: Of all draws.
        sampler: "shuffle"; "balanced" alternates anomalous and normal records, each class shuffled
            and repeated on its own, so that every even-sized contiguous share of a batch, hence
            every device, holds as many of both.
        outlier_share: With "shuffle": outlier objects per training record. An epoch holds that many
            further rows, each a training record and an object, both drawn uniformly.
        class_uniform_share: With "shuffle": probability that a row is drawn by its classes: a class
            of `segments` uniformly, then one of the places where it is, so that rare classes are
            seen as often as common ones.
    """

    batch_size: int
    seed: int = 0
    sampler: str = "shuffle"
    outlier_share: float = 0.0
    class_uniform_share: float = 0.0


@dataclasses.dataclass(frozen=True)
class Training:
    """What training rows are made of.

    Attributes:
        split: The training records.
        outliers: The objects of an order with outliers.
        places: Of an order with class-uniform rows: by class, int `[m, 3]` of record position, row
            and column. Classes without places are left out.
    """

    split: Split
    outliers: Split | None = None
    places: tuple[np.ndarray, ...] = ()


def steps_per_epoch(split: Split, order: Order) -> int:
    """Batches until each record of the (larger) class was seen once, rounded up."""
    if order.sampler == "balanced":
        counts = [int(np.sum(split.labels == label)) for label in (0, 1)]
        return -(-max(counts) // (order.batch_size // 2))
    return -(-(len(split) + objects_per_epoch(split, order)) // order.batch_size)


def objects_per_epoch(split: Split, order: Order) -> int:
    """Rows with an outlier object that an epoch holds beside those without."""
    return math.floor(order.outlier_share * len(split))


def shuffled(training: Training, order: Order) -> grain.MapDataset:
    """The endless order of training: element n is the `Rows` of batch n."""
    split, seed = training.split, order.seed
    if order.sampler == "balanced":
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
        rows = grain.MapDataset.mix(streams).map(Row)
    else:
        draw = _Draw(
            records=len(split),
            objects=0 if training.outliers is None else len(training.outliers),
            places=training.places,
            class_uniform_share=order.class_uniform_share,
        )
        count = len(split) + objects_per_epoch(split, order)
        rows = grain.MapDataset.range(count).seed(seed).shuffle().repeat(None).random_map(draw)
    return rows.batch(order.batch_size, batch_fn=Rows)


class Row(NamedTuple):
    """A row of a batch before it is read.

    Attributes:
        record: Position of the record; -1: padding.
        thing: Position of the outlier object that goes with it; -1: none.
        centre: Row and column that a crop must hold; -1: any.
    """

    record: int
    thing: int = -1
    centre: tuple[int, int] = (-1, -1)


@dataclasses.dataclass(frozen=True)
class _Draw:
    """From a place in an epoch to its row: what is random about it, drawn afresh each epoch."""

    records: int
    objects: int
    places: tuple[np.ndarray, ...]
    class_uniform_share: float

    def __call__(self, place: int, rng: np.random.Generator) -> Row:
        thing = -1
        if place >= self.records:
            place, thing = int(rng.integers(self.records)), int(rng.integers(self.objects))
        if self.places and rng.random() < self.class_uniform_share:
            members = self.places[rng.integers(len(self.places))]
            place, row, column = members[rng.integers(len(members))]
            return Row(int(place), thing, (int(row), int(column)))
        return Row(int(place), thing)


def plan(split: Split, *, batch_size: int, devices: int, shortest: int = 32) -> list["Rows"]:
    """Batches that hold each record once, records of similar length or of one size together.

    A record of varying length goes to the bucket of the next power of two (at least `shortest`), so
    that a thousand lengths compile a handful of programs. A bucket twice as long has batches of
    half as many rows, so that memory stays bounded; never fewer rows than devices. Short batches
    are padded with -1. Images of another size are a group of their own.
    """
    positions = np.arange(len(split))
    if split.sizes is not None:
        groups = np.unique(split.sizes, axis=0, return_inverse=True)[1].ravel()
        return [
            rows
            for group in np.unique(groups)
            for rows in _padded(positions[groups == group], max(batch_size // devices, 1) * devices)
        ]
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
        batches += _padded(members, rows, int(bucket))
    return batches


def _padded(members: np.ndarray, size: int, length: int = 0) -> list["Rows"]:
    """Batches of `size` rows, the last one filled up with padding."""
    padded = np.full(-(-len(members) // size) * size, -1, np.int64)
    padded[: len(members)] = members
    return [Rows([Row(int(i)) for i in rows], length) for rows in padded.reshape(-1, size)]


@dataclasses.dataclass(frozen=True)
class Rows:
    """A batch before it is read: its rows, and its time length (0: as it is)."""

    rows: Sequence[Row]
    length: int = 0

    @property
    def positions(self) -> tuple[int, ...]:
        """Of the records, -1 for padding."""
        return tuple(row.record for row in self.rows)


def training_batches(
    training: Training, order: Order, *, reading: Reading, start: int = 0
) -> Iterator[Batch]:
    """Endless training batches from batch number `start` on.

    With outlier objects batches have what their records hold, zeros in rows without one; with
    class-uniform rows they have `centre [B, 2]`.
    """
    rows = shuffled(training, order).slice(slice(start, None))
    return _read(rows, _Load(training.split, reading, training.outliers, bool(training.places)))


def ordered_batches(
    split: Split, *, batch_size: int, devices: int, reading: Reading, start: int = 0
) -> Iterator[Batch]:
    """Each record once, padding rows marked, from batch number `start` of the plan on."""
    batches = plan(split, batch_size=batch_size, devices=devices)[start:]
    return _read(grain.MapDataset.source(batches), _Load(split, reading)) if batches else iter(())


def example(split: Split, rows: int = 2) -> Batch:
    """A batch of the first record, the same on all processes; shows `Stage.init` the shapes."""
    length = 0 if split.lengths is None else int(split.lengths[0])
    batch = _Load(split, Reading(on_error="skip"))(Rows([Row(0)] * rows, length))
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


def _read(order: grain.MapDataset, load: "_Load") -> Iterator[Batch]:
    reading, batches = load.reading, order.map(load)
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
    outliers: Split | None = None
    centres: bool = False

    def __call__(self, batch: Rows) -> Mapping[str, Any]:
        index, count = self.reading.process
        share = len(batch.rows) // count
        rows = batch.rows[index * share : (index + 1) * share]
        records: list[dict[str, np.ndarray] | None] = []
        unreadable = []
        for row in rows:
            try:
                records.append(None if row.record < 0 else self._record(row))
            except InputError as error:
                if self.reading.on_error == "raise":
                    return {"error": str(error)}
                records.append(None)
                unreadable.append(str(error))
        like = next((record for record in records if record is not None), None)
        try:
            like = self._readable(batch) if like is None else like
        except InputError as error:
            return {"error": str(error)}
        loaded = _collate(self.split, records, [row.record for row in rows], batch.length, like)
        return {**loaded, "unreadable": unreadable} if unreadable else loaded

    def _record(self, row: Row) -> dict[str, np.ndarray]:
        record = self.split.read(row.record)
        if self.outliers is not None:
            thing = self.outliers.read(max(row.thing, 0))
            thing = {name: thing[name] for name in thing if name != "label"}
            if row.thing < 0:
                thing = {name: np.zeros_like(array) for name, array in thing.items()}
            record = {**record, **thing}
        if self.centres:
            record = {**record, "centre": np.array(row.centre, np.int32)}
        return record

    def _readable(self, batch: Rows) -> dict[str, np.ndarray]:
        """A record that can be read: the shapes for a share of a batch without any.

        Those of the batch come first, as other batches may have other sizes.
        """
        own = [row for row in batch.rows if row.record >= 0]
        for row in (*own, *(Row(position) for position in range(len(self.split)))):
            try:
                return self._record(row)
            except InputError:
                continue
        raise InputError(f"None of the {len(self.split)} records can be read.")


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
