"""Scores whole splits with the states of a run, as they stream by."""

import contextlib
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxad.data import pipeline
from jaxad.data.split import Split
from jaxad.evaluation import collecting, components, pixels
from jaxad.evaluation.predictions import Predictions
from jaxad.methods import base
from jaxad.training import logs, planning, signals

Arrays = Mapping[str, np.ndarray]
States = Mapping[str, base.State]

_SHOWN = 4  # Images of each of the three kinds that a report shows.


class Scorer:
    """Scores the splits of a plan; keeps no state but the compiled score.

    Args:
        planned: What to score, and with what.
        progress: Shows how far it is.
        stop: Polled before each batch.

    Raises:
        InputError: For a mistake in `config.eval.components`.
    """

    def __init__(self, planned: planning.Plan, progress: logs.Progress, stop: signals.Stop):
        self.plan, self.progress, self.stop = planned, progress, stop
        self.rule = components.Rule(**planned.config.eval.components)
        self._score = planned.mapper.score(planned.method.score)

    def validation(self, states: States) -> Predictions:
        """The validation split, without images for a report."""
        return self._collected("validation", states, collecting.Keeping(rule=self.rule))

    def test(self, states: States, folder: pathlib.Path) -> Predictions:
        """The test split, with images for the report, and components at the threshold of the rule.

        Args:
            states: The finished states by stage.
            folder: Of the maps of each image, if `config.eval.save_maps` asks for them.

        Raises:
            InputError: For scores that are not finite: names the record.
            StopRequested: When a signal asked for it.
        """
        save = self.plan.config.eval.save_maps and jax.process_index() == 0
        keeping = collecting.Keeping(
            rule=self.rule,
            threshold=self._threshold(states),
            overlays=_SHOWN,
            folder=folder if save else None,
        )
        return self._collected("test", states, keeping)

    def _threshold(self, states: States) -> float | None:
        """The score from which pixels form components; None if no split tells.

        A validation split gives it without a look at the test split; an oracle scores the test
        split twice.
        """
        name = {"validation": "validation", "oracle": "test"}.get(self.rule.threshold)
        split = self.plan.splits.get(name)
        if split is None or "anomaly" not in split.read(0):
            return None
        batches = self._batches(split, states, f"{name} for a threshold")
        with contextlib.closing(batches):
            first = next(batches)
            if "pixel" not in first[0]:
                return None
            state = collecting.collect(split, itertools.chain([first], batches)).pixels
        if self.rule.threshold == "oracle":
            return components.oracle_threshold(state.histogram)
        return components.normal_threshold(state.histogram, self.rule.fpr)

    def _collected(self, title: str, states: States, keeping: collecting.Keeping) -> Predictions:
        split = self.plan.splits[title]
        return collecting.collect(split, self._batches(split, states, title), keeping=keeping)

    def _batches(self, split: Split, states: States, title: str) -> Iterator[tuple[Arrays, Arrays]]:
        """Scores and records of each batch, on the host.

        Truth per pixel stays there: a method cannot see it, and no device has to hold it.
        """
        mapper, size = self.plan.mapper, self.plan.config.eval.batch_size
        size = -(-size // mapper.size) * mapper.size
        total = len(pipeline.plan(split, batch_size=size, devices=mapper.size))
        reading = dataclasses.replace(self.plan.reading, on_error="raise")
        self.progress.start(f"scoring {title}", total)
        behind = None
        for batch in pipeline.ordered_batches(
            split, batch_size=size, devices=mapper.size, reading=reading
        ):
            if self.stop.requested():
                raise signals.StopRequested
            sent = mapper.put({k: v for k, v in batch.items() if k not in pixels.TRUTH})
            named = _named(sent, self._score(states, sent))
            if behind is not None:  # Fetched one batch late, while the devices work on this one.
                yield self._fetched(*behind)
            behind = named, batch if "pixel" in named else {}
            self.progress.advance()
        if behind is not None:
            yield self._fetched(*behind)
        self.progress.stop()

    def _fetched(self, scores: Mapping[str, jax.Array], batch: Arrays) -> tuple[Arrays, Arrays]:
        records = {name: batch[name] for name in (*pixels.TRUTH, "image") if name in batch}
        if jax.process_count() > 1:  # Scores are fetched whole by each process, so truth must be.
            records = multihost_utils.process_allgather(records, tiled=True)
        return self.plan.mapper.fetch(scores), records


def _named(batch: Mapping[str, jax.Array], scores: base.Scores) -> dict[str, jax.Array]:
    """What the evaluation needs of a scored batch, by name."""
    named = {name: batch[name] for name in ("index", "valid", "length") if name in batch}
    given = {name: getattr(scores, name) for name in ("image", "snippet", "pixel", "classes")}
    return {**named, **scores.extra, **{k: v for k, v in given.items() if v is not None}}
