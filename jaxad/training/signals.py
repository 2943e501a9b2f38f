"""Signals that ask a run to stop: remembered, and polled between batches of every loop."""

import contextlib
import os
import signal
from collections.abc import Iterator

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequested(Exception):  # noqa: N818 - it is no error.
    """Raised between two batches, once everything needed to continue is on disk."""


class Stop:
    """Whether a signal came; the second one ends the process at once."""

    def __init__(self):
        self.signal: signal.Signals | None = None

    def requested(self) -> bool:
        """True once SIGTERM, SIGINT or SIGUSR1 was received."""
        return self.signal is not None

    def handle(self, number: int, _frame) -> None:
        """The signal handler: async-signal-safe, as it sets a field or ends the process."""
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = signal.Signals(number)


@contextlib.contextmanager
def listening() -> Iterator[Stop]:
    """Handles the signals inside the block, and restores the handlers that were there."""
    stop = Stop()
    before = {number: signal.signal(number, stop.handle) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
