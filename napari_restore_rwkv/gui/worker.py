"""Iterating a long piece of work in a background thread.

napari's generator worker loses a RuntimeError on its way (torch's out-of-memory error is one): nothing is reported and
the worker counts as running for ever. This one reports every error, always ends, and always closes the generator.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from napari.qt.threading import WorkerBase, WorkerBaseSignals
from qtpy.QtCore import Signal

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..progress import Progress


class StepsSignals(WorkerBaseSignals):
    """What a `StepsWorker` says, besides started, returned, errored and finished."""

    progressed = Signal(object)


class StepsWorker(WorkerBase):
    """Runs a generator of Progress in a thread of its own and passes on what it says.

    Attributes
    ----------
    displayed
        The slice the person looks at; any thread may set it. It is sent to the generator, which takes it next.
    """

    def __init__(self, steps: Generator[Progress, int | None, Any]) -> None:
        super().__init__(SignalsClass=StepsSignals)
        self.displayed: int | None = None
        self._steps = steps
        self._ended = threading.Event()

    def work(self) -> Any:
        """Exhaust the generator and return its value; None after `quit`."""
        try:
            if self.abort_requested:
                return None
            progress = next(self._steps)
            while not self.abort_requested:
                self.progressed.emit(progress)
                progress = self._steps.send(self.displayed)
            return None
        except StopIteration as stop:
            return stop.value
        finally:
            self._steps.close()
            self._ended.set()

    def join(self, seconds: float) -> bool:
        """Ask the work to stop and wait for it; return whether it has ended."""
        self.quit()
        # One that has not begun yet will look at `quit` first, and there may be no event loop left to begin it.
        return not self.is_running or self._ended.wait(seconds)
