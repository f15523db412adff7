"""All restored slices in a plot and a list, the most suspicious first; a click goes there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QListWidget, QListWidgetItem, QProgressBar, QPushButton, QWidget

from ..form_parts import beside, hint
from ..wording import sentence_of
from ..worker import StepsWorker
from .plot import PairPlot
from .report_button import judging

if TYPE_CHECKING:
    from ...reliability.report import Report
    from ..mailbox import News
    from .comparison import Comparison

NOISE, STRUCTURE, BIAS = "noise", "structure in what was removed", "mean of what was removed"
PLOT_HEIGHT = 260
WAIT_AT_CLOSING_S = 2.0


class SlicesTab(QWidget):
    """Judge all slices, Cancel, plot, list.

    Signals
    -------
    slice_chosen(index)
        The user wants to see a slice.
    judged(comparison)
        All its restored slices were judged.
    """

    slice_chosen = Signal(int)
    judged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.comparison: Comparison | None = None
        self.report: Report | None = None
        self._worker: StepsWorker | None = None
        self._build()
        self._allow()

    def follow(self, comparison: Comparison | None) -> None:
        """Judge the slices of another result."""
        if comparison is not self.comparison:
            self.comparison, self.report = comparison, None
            self._show()
        self._allow()

    def start(self) -> None:
        """Judge all restored slices, off the GUI thread."""
        comparison = self.comparison
        if comparison is None or self._worker is not None:
            return
        self._worker = worker = StepsWorker(judging(comparison)[0])
        worker.progressed.connect(self._on_progress)
        worker.returned.connect(lambda report: self._on_judged(comparison, report))
        worker.errored.connect(lambda error: self.about.setText(sentence_of(error)))
        worker.finished.connect(self._on_finished)
        self.about.setText("")
        self._allow()
        worker.start()

    def cancel(self) -> None:
        """Stop after the current slice."""
        if self._worker is not None:
            self._worker.quit()

    def let_go(self) -> None:
        """Stop running work, without touching Qt objects, which may already be deleted."""
        if self._worker is not None:
            self._worker.join(WAIT_AT_CLOSING_S)

    def _build(self) -> None:
        self.go, self.stop = QPushButton("Judge all slices"), QPushButton("Cancel")
        self.go.setToolTip("In every restored slice, search what was removed for structure")
        self.stop.setToolTip("Stop after the current slice")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.about = hint()
        self.kind = QComboBox()
        self.kind.addItems([NOISE, STRUCTURE, BIAS])
        self.kind.setToolTip("The figure that is plotted over the slices")
        self.kind.setAccessibleName("Figure that is drawn over the slices")
        self.plot = PairPlot("Figures over the slices; a click goes to a slice")
        self.plot.setMaximumHeight(PLOT_HEIGHT)
        self.list = QListWidget()
        self.list.setToolTip("What was removed from each slice, the most suspicious first; choose one to see it")
        self.list.setAccessibleName("Slices by suspicion")
        self.list.setWordWrap(True)
        self.go.clicked.connect(self.start)
        self.stop.clicked.connect(self.cancel)
        self.kind.currentTextChanged.connect(self._draw)
        self.plot.clicked.connect(self._on_clicked)
        self.list.currentItemChanged.connect(self._on_chosen)
        rows = QFormLayout(self)
        rows.addRow(beside(self.go, self.stop, stretch=(2, 1)))
        rows.addRow(self.bar)
        rows.addRow(self.about)
        rows.addRow("Plot", self.kind)
        rows.addRow(self.plot)
        rows.addRow(self.list)

    def _allow(self) -> None:
        running = self._worker is not None
        self.go.setEnabled(not running and self.comparison is not None)
        self.stop.setEnabled(running)
        self.bar.setVisible(running)

    def _on_progress(self, news: News) -> None:
        self.bar.setRange(0, news.progress.total)
        self.bar.setValue(news.progress.done)

    def _on_judged(self, comparison: Comparison, report: Report) -> None:
        if comparison is self.comparison:
            self.report = report
            self._show()
            self.judged.emit(comparison)

    def _on_finished(self) -> None:
        if self._worker is not None and self._worker.abort_requested:
            self.about.setText("Cancelled.")
        self._worker = None
        self._allow()

    def _show(self) -> None:
        self.list.clear()
        if self.report is None:
            self.about.setText("")
            self.plot.clear()
            return
        suspicious = self.report.suspicious()
        self.about.setText(f"{len(suspicious)} of {len(self.report.slices)} slices are suspicious.")
        for one in suspicious or self.report.slices:
            item = QListWidgetItem(f"slice {one.index}: {one.removed.reason}")
            item.setData(Qt.ItemDataRole.UserRole, one.index)
            self.list.addItem(item)
        self._draw()

    def _draw(self, kind: str = "") -> None:
        if self.report is None:
            return
        slices, unit = self.report.slices, self.report.unit
        indices = [one.index for one in slices]
        curves: dict[str, Any] = {
            NOISE: {
                "input": (indices, [one.noise_before for one in slices]),
                "restored": (indices, [one.noise_after for one in slices]),
            },
            STRUCTURE: {"largest z": (indices, [one.removed.highest for one in slices])},
            BIAS: {"input - restored": (indices, [one.removed.bias for one in slices])},
        }
        chosen = self.kind.currentText()
        label = "z" if chosen == STRUCTURE else f"{chosen} {unit}".rstrip()
        self.plot.show_curves("slice", label, curves[chosen], dots=True)

    def _on_clicked(self, x: float) -> None:
        if self.report is not None:
            self.slice_chosen.emit(min((one.index for one in self.report.slices), key=lambda index: abs(index - x)))

    def _on_chosen(self, item: QListWidgetItem | None) -> None:
        if item is not None:
            self.slice_chosen.emit(item.data(Qt.ItemDataRole.UserRole))
