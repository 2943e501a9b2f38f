"""What a run writes as it goes: metrics.jsonl, TensorBoard events, progress.

`metrics.jsonl` holds only what the run determines (no clock), so that a resumed run and a straight
one write the same bytes. A checkpoint records how many lines it had; resuming cuts the file back to
that. Rates and times go to the terminal and to TensorBoard.
"""

import json
import logging
import math
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

import tensorboardX
import tqdm

from jaxad.errors import CheckpointError
from jaxad.files import write_atomically

log = logging.getLogger(__name__)


class History:
    """`metrics.jsonl`: one JSON object per line, `step`, `stage`, `split`, then metrics by name."""

    def __init__(self, path: pathlib.Path, *, write: bool = True):
        self.path, self._write = path, write
        self.rows: list[dict[str, Any]] = read_rows(path)

    def __len__(self) -> int:
        return len(self.rows)

    def cut(self, count: int) -> None:
        """Drops the lines that came after a checkpoint, and a half-written last one."""
        if len(self.rows) < count:
            log.warning(
                "%s holds %d lines, and the checkpoint was written after %d: some are lost.",
                self.path,
                len(self.rows),
                count,
            )
        self.rows = self.rows[:count]
        self._rewrite()

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a line, on disk when this returns."""
        self.rows.append(json.loads(_line(row)))  # As a resumed run will read it.
        if not self._write:
            return
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(_line(row))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise CheckpointError(
                f"Cannot write {self.path}: {error.strerror}. Make room or mend the workdir, then "
                "run the same command again."
            ) from error

    def replace_tests(self, rows: list[Mapping[str, Any]], split: str) -> None:
        """Puts the rows of a final evaluation where earlier ones of the same split were."""
        kept = [row for row in self.rows if row["split"] != split]
        self.rows = kept + [json.loads(_line(row)) for row in rows]
        self._rewrite()

    def _rewrite(self) -> None:
        if self._write:
            write_atomically(self.path, "".join(_line(row) for row in self.rows).encode())


def read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file; whatever a crash left of a last one is dropped."""
    rows = []
    if path.exists():
        for line in path.read_bytes().split(b"\n"):
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def _line(row: Mapping[str, Any]) -> str:
    # JSON has no NaN: a metric that is one is written as null.
    clean = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
    }
    return json.dumps(clean) + "\n"


class Progress:
    """A bar on a terminal, plain lines elsewhere, scalars in TensorBoard.

    Args:
        folder: Where TensorBoard's events go; None writes none (processes other than the first).
    """

    def __init__(self, folder: pathlib.Path | None):
        self._folder, self._show = folder, folder is not None
        self._events: tensorboardX.SummaryWriter | None = None
        self._bar: tqdm.tqdm | None = None

    def open(self, name: str, first_step: int) -> None:
        """Events go to a folder of this name from now on.

        Args:
            name: Of a stage, or of what comes after them.
            first_step: Events from here on replace those of a run that was cut off.
        """
        self._end_events()
        if self._folder:
            folder = str(self._folder / name)
            self._events = tensorboardX.SummaryWriter(folder, purge_step=first_step or None)

    def start(self, title: str, total: int, done: int = 0) -> None:
        """Begins counting towards `total`."""
        self.stop()
        self._title, self._total, self._done = title, total, done
        self._since, self._done_then = time.monotonic(), done
        if self._show and sys.stderr.isatty():
            self._bar = tqdm.tqdm(total=total, initial=done, desc=title, unit="step", leave=False)

    def advance(self, count: int = 1) -> None:
        """Counts steps (or batches)."""
        self._done += count
        if self._bar:
            self._bar.update(count)

    def log(self, step: int, scalars: Mapping[str, float], prefix: str, examples: int = 0) -> None:
        """Shows values and the rate since the last call.

        Args:
            step: Where they belong on TensorBoard's axis.
            scalars: Values by name.
            prefix: Put before the names in TensorBoard.
            examples: Per step; 0 leaves the rate out.
        """
        now = time.monotonic()
        steps, seconds = self._done - self._done_then, max(now - self._since, 1e-9)
        self._since, self._done_then = now, self._done
        first = [name for name in ("loss", "frame_auc", "image_auc", "dice") if name in scalars]
        shown = {name: scalars[name] for name in list(dict.fromkeys([*first, *scalars]))[:4]}
        text = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
        if examples and steps:
            speed = steps / seconds
            text += f", {speed:.3g} steps/s, {speed * examples:.4g} examples/s"
            if not self._bar:
                left = (self._total - self._done) / speed
                text += f", {left:.0f} s left"
        if self._bar:
            self._bar.set_postfix_str(text)
        elif self._show:
            log.info("%s %d/%d: %s", self._title, self._done, self._total, text)
        rate = {"steps_per_second": steps / seconds} if examples and steps else {}
        for name, value in {**scalars, **rate}.items():
            if self._events_alive():
                self._events.add_scalar(f"{prefix}/{name}", value, step)

    def stop(self) -> None:
        """Ends the bar."""
        if self._bar:
            self._bar.close()
            self._bar = None

    def close(self) -> None:
        """Ends the bar and flushes the events."""
        self.stop()
        self._end_events()

    def _end_events(self) -> None:
        if self._events_alive():
            self._events.close()
        self._events = None

    def _events_alive(self) -> bool:
        """Whether events can be written: on a full disk their thread ends, and calls would hang."""
        if self._events is None:
            return False
        if not self._events.file_writer.event_writer._worker.is_alive():
            log.warning("TensorBoard events of this stage end here: %s is full.", self._folder)
            self._events = None
        return self._events is not None
