"""Signals that ask a run to stop: remembered, and polled between batches of every loop."""

import contextlib
import os
import signal
import threading
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

    def receive(self, number: int) -> None:
        """Notes the first signal, and ends the process at the second."""
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = signal.Signals(number)


@contextlib.contextmanager
def listening() -> Iterator[Stop]:
    """Handles the signals inside the block, and restores the handlers that were there.

    A thread counts them: Python's own handlers wait until the main thread returns from a
    compilation, and would take two signals for one.
    """
    stop = Stop()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def count() -> None:
        while numbers := os.read(reader, 16):
            for number in numbers:
                if number in _SIGNALS:
                    stop.receive(number)

    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(writer)
        thread.join()
        os.close(reader)
