"""Runs long work in a background thread.

napari's generator worker loses a RuntimeError (such as torch's out-of-memory error): nothing is reported and the worker
counts as running forever. This one reports every error, always ends, and always closes the generator.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari.qt.threading import WorkerBase, WorkerBaseSignals
from qtpy.QtCore import QThreadPool, Signal

from ..cancellation import Cancelled, cancellable
from .mailbox import READ_EVERY_MS, Mailbox, collect_news

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ..progress import Progress

LISTEN_EVERY_S = 0.05
# If drawing and network share a CPU core, the window gets two thirds of it. With a much lower priority, any other busy
# program would leave almost nothing to the network.
NICER_BY = 3


class StepsSignals(WorkerBaseSignals):
    """The signals of a `StepsWorker`, besides started, returned, errored and finished."""

    paused = Signal()


class StepsWorker(WorkerBase):
    """Runs a generator of Progress in a separate thread and passes on what it reports.

    Parameters
    ----------
    steps
        The work.
    every_ms
        Minimum time between two reports.

    Attributes
    ----------
    displayed
        The slice on screen; any thread may set it. It is sent to the generator, which restores it next.
    """

    def __init__(self, steps: Generator[Progress, Any, Any], *, every_ms: int = READ_EVERY_MS) -> None:
        super().__init__(SignalsClass=StepsSignals)
        self._mailbox = Mailbox(collect_news, every_ms=every_ms)
        # Earlier reports come first.
        for signal in (self.paused, self.returned, self.errored, self.finished):
            signal.connect(self._mailbox.read)
        self.displayed: int | None = None
        self._steps = steps
        self._ended = threading.Event()
        self._going = threading.Event()
        self._going.set()

    @property
    def progressed(self) -> Any:
        """Signal with the `News` since the last time; the work never waits for listeners."""
        return self._mailbox.opened

    def work(self) -> Any:
        """Exhaust the generator and return its value; None after `quit`, also in the middle of a measurement."""
        # A separate thread, since the priority cannot be raised again, and the pool's threads are reused by others.
        with ThreadPoolExecutor(max_workers=1, initializer=_let_the_window_go_first) as own, _leaving_its_place():
            return own.submit(self._exhaust).result()

    def _exhaust(self) -> Any:
        try:
            with cancellable(lambda: self.abort_requested):
                return self._take_steps()
        except StopIteration as stop:
            return stop.value
        except Cancelled:
            return None
        finally:
            self._steps.close()
            self._ended.set()

    def _take_steps(self) -> None:
        if self.abort_requested:
            return
        self._mailbox.put(next(self._steps))
        while not self.abort_requested:
            if not self._going.is_set():
                self.paused.emit()
                self._wait_to_go_on()
                continue
            self._mailbox.put(self._steps.send(self.displayed))

    def pause(self) -> None:
        """Pause after the current step; nothing is lost, and the CPU is free."""
        self._going.clear()

    def resume(self) -> None:
        """Continue after a pause."""
        self._going.set()

    def join(self, seconds: float) -> bool:
        """Ask the work to stop and wait for it; return whether it has ended."""
        self.quit()
        # One that has not started yet checks `quit` first, and there may be no event loop left to start it.
        return not self.is_running or self._ended.wait(seconds)

    def _wait_to_go_on(self) -> None:
        while not (self._going.wait(LISTEN_EVERY_S) or self.abort_requested):
            pass


@contextmanager
def _leaving_its_place() -> Iterator[None]:
    """Let other workers run meanwhile: the pool has as many places as there are processors, and this one only waits."""
    pool = QThreadPool.globalInstance()
    pool.releaseThread()
    try:
        yield
    finally:
        pool.reserveThread()


def _let_the_window_go_first() -> None:
    """Lower the priority of this thread and of those it starts; only Linux has priorities per thread."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICER_BY)
