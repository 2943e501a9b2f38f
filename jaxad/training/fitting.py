"""Passes over a split outside gradient descent: a fit's programs, its batches, a whole pass."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax

from jaxad.data import pipeline
from jaxad.data.split import Split
from jaxad.errors import InputError
from jaxad.methods import base
from jaxad.training import signals, spmd


class Programs(NamedTuple):
    """The functions of a `base.Fit`, compiled.

    Attributes:
        zero: As there.
        add: As there, mapped over the devices.
        finish: As there.
    """

    zero: Callable
    add: Callable
    finish: Callable


class Reader(NamedTuple):
    """How a fit reads.

    Attributes:
        mapper: Of the run.
        reading: How batches are read ahead.
        batch_size: As in evaluation.
    """

    mapper: spmd.Mapper
    reading: pipeline.Reading
    batch_size: int


def programs(mapper: spmd.Mapper, fit: base.Fit) -> Programs:
    """Compiles, when first called, what a fit does."""
    return Programs(jax.jit(fit.zero), mapper.add(fit.add), jax.jit(fit.finish))


def batches(
    reader: Reader, fit: base.Fit, splits: Mapping[str, Split], *, start: int = 0
) -> tuple[int, Iterator[pipeline.Batch]]:
    """How many batches a fit has, and those from `start` on.

    Raises:
        InputError: The source has no such split.
    """
    if fit.split not in splits:
        raise InputError(
            f"A fit reads the {fit.split!r} split, and the source gives {sorted(splits)}."
        )
    split, size, devices = splits[fit.split], reader.batch_size, reader.mapper.size
    total = len(pipeline.plan(split, batch_size=size, devices=devices))
    return total, pipeline.ordered_batches(
        split, batch_size=size, devices=devices, reading=reader.reading, start=start
    )


def again(
    reader: Reader,
    fits: Sequence[base.Fit],
    splits: Mapping[str, Split],
    state: base.State,
    stop: signals.Stop,
) -> base.State:
    """Whole passes, one after the other, of which nothing is saved.

    Args:
        reader: How they read.
        fits: In their order.
        splits: By name.
        state: Replicated.
        stop: Polled before each batch.

    Returns:
        The state with what they found.

    Raises:
        StopRequested: When a signal asked for it.
    """
    for fit in fits:
        zero, add, finish = programs(reader.mapper, fit)
        accumulator = reader.mapper.replicate(zero(state))
        for batch in batches(reader, fit, splits)[1]:
            if stop.requested():
                raise signals.StopRequested
            accumulator = add(accumulator, state, reader.mapper.put(batch))
        state = reader.mapper.replicate(finish(accumulator, state))
    return state
