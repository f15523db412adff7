"""The button that measures all restored slices; while it does, it shows the progress, and a click cancels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QWidget

from ...reliability.report import CT_WINDOW_HU
from ...reliability.volume_figures import volume_figures
from ..worker import StepsWorker
from .report_button import mixed_scan

if TYPE_CHECKING:
    from ...reliability.volume_figures import VolumeFigures
    from ..mailbox import News
    from .comparison import Comparison

WHOLE_VOLUME = "Whole volume"
WAIT_AT_CLOSING_S = 2.0


class VolumeButton(QPushButton):
    """Measures the restored slices of a comparison, off the GUI thread.

    Signals
    -------
    measured()
        There are new figures, or none any more.
    failed(error)
        They could not be measured.

    Attributes
    ----------
    found
        The figures, with the strength that is shown; None while there are none.
    """

    measured = Signal()
    failed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(WHOLE_VOLUME, parent)
        self.setToolTip(
            "Measure every restored slice: means over the volume, and a curve over the slices; click again to cancel"
        )
        self.setAccessibleName("Measure the whole volume")
        self.found: VolumeFigures | None = None
        self._of: tuple[Any, ...] = ()
        self._worker: StepsWorker | None = None
        self.clicked.connect(self._on_clicked)
        self._wanted: tuple[Comparison, Any] | None = None

    def look_at(self, comparison: Comparison | None, reference: Any) -> None:
        """Set the result and the reference (voxels or None); figures for another result, reference or strength go."""
        self._wanted = None if comparison is None else (comparison, reference)
        self.setEnabled(comparison is not None)
        if self._state() != self._of:
            self._of = self._state()
            if self._worker is not None:
                self._worker.quit()
            if self.found is not None:
                self.found = None
                self.measured.emit()

    def let_go(self) -> None:
        """Stop running work, without touching Qt objects, which may already be deleted."""
        if self._worker is not None:
            self._worker.join(WAIT_AT_CLOSING_S)

    def _state(self) -> tuple[Any, ...]:
        """What the figures depend on; slices restored later do not invalidate them."""
        if self._wanted is None:
            return ()
        comparison, reference = self._wanted
        return comparison, comparison.blend, id(reference)

    def _on_clicked(self) -> None:
        if self._worker is not None:
            self._worker.quit()
            self.setText("stopping ...")
        elif self._wanted is not None and self._wanted[0].result.finished:
            self._start(*self._wanted)

    def _start(self, comparison: Comparison, reference: Any) -> None:
        result, state = comparison.result, self._state()
        window = CT_WINDOW_HU if result.scan.modality == "CT" else None
        steps = volume_figures(
            result.scan,
            mixed_scan(comparison),
            reference,
            indices=sorted(result.finished),
            axis=result.axis,
            window=window,
        )
        self._worker = worker = StepsWorker(steps)
        worker.progressed.connect(self._on_progress)
        worker.returned.connect(lambda found: self._on_measured(state, found))
        worker.errored.connect(self.failed)
        worker.finished.connect(self._on_finished)
        worker.start()

    def _on_progress(self, news: News) -> None:
        if self._worker is not None and not self._worker.abort_requested:
            self.setText(f"{news.progress.done} of {news.progress.total}: cancel")

    def _on_measured(self, state: tuple[Any, ...], found: VolumeFigures) -> None:
        if state == self._state():
            self.found = found
            self.measured.emit()

    def _on_finished(self) -> None:
        self._worker = None
        self.setText(WHOLE_VOLUME)
