"""A fine-tuning run in progress: buttons, progress, curves, and a preview of the displayed slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QProgressBar, QPushButton, QVBoxLayout, QWidget

from ..form_parts import beside, hint, plain_label
from ..job_state import Activity
from .curves import Plot
from .slice_preview import SlicePreview, looked_at
from .state import JUDGING

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from psygnal import EmissionInfo

    from .job import Begun, FineTuneJob
    from .state import FineTuneState

START, PAUSE, RESUME, STOP = "Fine-tune", "Pause", "Resume", "Stop, keep the best"
REFRESH_EVERY_MS = 250
PREVIEW_EVERY_MS = 4000


class FineTuneRun(QWidget):
    """Start, Pause, Stop; progress; curves; preview.

    Signals
    -------
    asked()
        The user wants to start.
    """

    asked = Signal()

    def __init__(
        self, viewer: ViewerModel, job: FineTuneJob, state: FineTuneState, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._job, self._state = viewer, job, state
        self._preview_is_due = False
        self.shown = SlicePreview(viewer, "fine-tuning preview")
        self._build()
        self._refresh_timer, self._preview_timer = QTimer(self), QTimer(self)
        self._refresh_timer.setSingleShot(True)
        for timer, every, slot in (
            (self._refresh_timer, REFRESH_EVERY_MS, self._show_state),
            (self._preview_timer, PREVIEW_EVERY_MS, self._ask_preview),
        ):
            timer.setInterval(every)
            timer.timeout.connect(slot)
        self.start.clicked.connect(self.asked)
        self.pause.clicked.connect(self._on_pause)
        self.stop.clicked.connect(self._on_stop)
        self.preview.toggled.connect(self._on_preview)
        job.said.connect(self._on_records)
        job.previewed.connect(self._on_previewed)
        viewer.dims.events.current_step.connect(self._ask_preview)
        state.events.connect(self._on_state)
        state.events.begun.connect(self._on_begun)
        state.events.activity.connect(self._on_activity)
        self._show_state()

    def let_go(self) -> None:
        """Stop following the viewer, without touching Qt objects, which may already be deleted."""
        self._viewer.dims.events.current_step.disconnect(self._ask_preview)

    def _build(self) -> None:
        self.start, self.pause, self.stop = QPushButton(START), QPushButton(PAUSE), QPushButton(STOP)
        self.start.setDefault(True)
        self.pause.setToolTip("Pause after this step; the memory stays allocated")
        self.stop.setToolTip("Stop here; the best weights so far are evaluated on the held-out slices")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.progress, self.warnings = plain_label(), hint()
        self.psnr = Plot("held-out PSNR (dB)", start_title="old weights", points=True)
        self.loss = Plot("training loss")
        self.preview = QCheckBox("show what it learns beside the scan")
        self.preview.setChecked(True)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addLayout(beside(self.start, self.pause, self.stop, stretch=(2, 1, 2)))
        rows.addWidget(self.bar)
        for widget in (self.progress, self.preview, self.psnr, self.loss, self.warnings):
            rows.addWidget(widget)

    def _on_records(self, records: list[dict[str, Any]]) -> None:
        for record in records:
            self._state.note(record)
            if record["kind"] == "progress":
                self._add_to_curves(record)

    def _add_to_curves(self, record: dict[str, Any]) -> None:
        self.psnr.total = self.loss.total = record["total"]
        self.loss.add(record["step"], record["loss"])
        self.psnr.add(record["step"], record["psnr"])
        if record["start_psnr"] is not None:
            self.psnr.start = record["start_psnr"]
        if record["psnr"] is not None:
            self._ask_preview()

    def _on_state(self, change: EmissionInfo) -> None:
        # Not at every record: each new word has the whole window drawn.
        if change.signal.name != "record":
            self._show_state()
        elif not self._refresh_timer.isActive():
            self._refresh_timer.start()

    def _on_begun(self, begun: Begun | None) -> None:
        self._preview_is_due = False
        if begun is not None:
            for plot in (self.psnr, self.loss):
                plot.clear(begun.steps)

    def _on_activity(self, activity: Activity) -> None:
        if activity is Activity.PREPARING:
            self._preview_timer.start()
        elif activity is Activity.IDLE:
            self._refresh_timer.stop()
            self._preview_timer.stop()
            self.shown.remove()

    def _show_state(self) -> None:
        state = self._state
        self.start.setEnabled(state.can_start)
        self.pause.setText(RESUME if state.is_paused else PAUSE)
        for button in (self.pause, self.stop):
            button.setEnabled(state.can_pause)
        for widget in (self.bar, self.progress, self.preview):
            widget.setVisible(not state.is_idle)
        self.preview.setEnabled(state.begun is not None and state.begun.layer is not None)
        step, total = state.steps
        self.bar.setRange(0, total)
        self.bar.setValue(step)
        self.progress.setText(state.words)
        warnings = " ".join(state.record.get("warnings", ()))
        self.warnings.setText(warnings)
        self.warnings.setVisible(bool(warnings))
        for plot in (self.psnr, self.loss):
            plot.setVisible(state.begun is not None)
            plot.update()

    def _on_pause(self) -> None:
        if self._state.is_paused:
            self._job.resume()
        else:
            self._state.pause()
            self._job.pause()

    def _on_stop(self) -> None:
        self._job.stop()
        self._state.stop(JUDGING)

    def _on_preview(self, wanted: bool) -> None:
        if wanted:
            self._ask_preview()
        else:
            self.shown.remove()

    def _ask_preview(self, event: Any = None) -> None:
        """Request the displayed slice, unless a request is pending."""
        begun = self._state.begun
        if self._preview_is_due or not self.preview.isChecked() or not self._state.can_pause or begun is None:
            return
        if begun.layer is None or begun.layer not in self._viewer.layers:
            return
        index = looked_at(self._viewer, begun.layer, begun.axis)
        if index is not None:
            self._preview_is_due = True
            self._job.preview(index)

    def _on_previewed(self, index: int, degraded: Any, restored: Any) -> None:
        self._preview_is_due = False
        begun = self._state.begun
        if begun is None or begun.layer is None or not self.preview.isChecked():
            return
        self.shown.show(begun.layer, begun.axis, index, restored)
        if index != looked_at(self._viewer, begun.layer, begun.axis):
            self._ask_preview()
