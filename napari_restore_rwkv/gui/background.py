"""Runs requested functions in the background, of several waiting only the latest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.qt.threading import FunctionWorker
from qtpy.QtCore import QObject, QTimer, Signal

if TYPE_CHECKING:
    from collections.abc import Callable


class Background(QObject):
    """Runs one function at a time in a background thread; of several waiting, only the last is run.

    Signals
    -------
    answered(value)
        What the function returned, unless another one is already waiting.
    failed(error)
        What it raised, unless another one is already waiting.

    Parameters
    ----------
    wait_ms
        How long to wait for another request before one is answered.
    """

    answered = Signal(object)
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None, *, wait_ms: int = 0) -> None:
        super().__init__(parent)
        self._waiting: Callable[[], Any] | None = None
        self._at_work = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(wait_ms)
        self._timer.timeout.connect(self._begin)

    @property
    def busy(self) -> bool:
        """Whether an answer is pending."""
        return self._at_work or self._waiting is not None

    def ask(self, work: Callable[[], Any]) -> None:
        """Request a function to be run; it must not touch Qt."""
        self._waiting = work
        self._timer.start()

    def forget(self) -> None:
        """Drop waiting requests."""
        self._timer.stop()
        self._waiting = None

    def _begin(self) -> None:
        if self._at_work or self._waiting is None:
            return
        work, self._waiting = self._waiting, None
        self._at_work = True
        worker = FunctionWorker(_attempt, work)
        worker.returned.connect(self._on_end)
        worker.start()

    def _on_end(self, ended: tuple[Any, Exception | None]) -> None:
        self._at_work = False
        if self._waiting is not None:
            if not self._timer.isActive():
                self._begin()
            return
        value, error = ended
        if error is not None:
            self.failed.emit(error)
        else:
            self.answered.emit(value)


def _attempt(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error
