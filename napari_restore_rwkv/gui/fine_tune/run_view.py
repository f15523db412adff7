"""A fine-tuning under way: its buttons, how far it is, the curves, and the preview of the displayed slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QProgressBar, QPushButton, QVBoxLayout, QWidget

from ...training.options import Weights
from ..form_parts import beside, hint, plain_label
from ..restore.run import duration
from .curves import Plot
from .slice_preview import SlicePreview, looked_at

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from .job import FineTuneJob

START, PAUSE, RESUME, STOP = "Fine-tune", "Pause", "Resume", "Stop, keep the best"
REFRESH_EVERY_MS = 250
PREVIEW_EVERY_MS = 4000


class FineTuneRun(QWidget):
    """Start, Pause, Stop; progress; curves; preview.

    Signals
    -------
    asked()
        The person wants to start.
    """

    asked = Signal()

    def __init__(self, viewer: ViewerModel, job: FineTuneJob, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._job = viewer, job
        self._layer: Image | None = None
        self._axis = 0
        self._latest: dict[str, Any] = {}
        self._preview_is_due = False
        self.shown = SlicePreview(viewer, "fine-tuning preview")
        self._build()
        self._refresh_timer, self._preview_timer = QTimer(self), QTimer(self)
        self._refresh_timer.setSingleShot(True)
        for timer, every, slot in (
            (self._refresh_timer, REFRESH_EVERY_MS, self._refresh),
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
        self.show_ended()

    def show_begun(self, layer: Image | None, axis: int, total: int) -> None:
        """Get ready for a training of so many steps, on the scan in a layer, if that is open."""
        self._layer, self._axis, self._latest = layer, axis, {}
        self._preview_is_due = False
        for plot in (self.psnr, self.loss):
            plot.clear(total)
        self.start.setEnabled(False)
        self.preview.setEnabled(layer is not None)
        self.bar.setRange(0, total)
        self.bar.setValue(0)
        self.progress.setText("getting ready ...")
        self.warnings.hide()
        for widget in (self.bar, self.progress, self.psnr, self.loss, self.preview):
            widget.show()
        self._preview_timer.start()

    def show_ended(self) -> None:
        """Nothing runs any more; the curves stay as they are."""
        self._refresh()
        self._refresh_timer.stop()
        self._preview_timer.stop()
        self.shown.remove()
        self.start.setEnabled(True)
        for button in (self.pause, self.stop):
            button.setEnabled(False)
        self._set_paused(False)
        for widget in (self.bar, self.progress, self.preview):
            widget.hide()

    def clear(self) -> None:
        """Forget the curves."""
        for plot in (self.psnr, self.loss):
            plot.hide()

    def let_go(self) -> None:
        """Stop following the viewer. Touches nothing of Qt, which may be gone already."""
        self._viewer.dims.events.current_step.disconnect(self._ask_preview)

    def _build(self) -> None:
        self.start, self.pause, self.stop = QPushButton(START), QPushButton(PAUSE), QPushButton(STOP)
        self.start.setDefault(True)
        self.pause.setToolTip("Pause after this step; the memory stays allocated")
        self.stop.setToolTip("End here; the best weights so far are judged on the held-out slices")
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
        self.warnings.hide()
        self.clear()

    def _on_records(self, records: list[dict[str, Any]]) -> None:
        for record in records:
            match record["kind"]:
                case "paused":
                    self._set_paused(True)
                    self.progress.setText(f"paused at step {self._latest['step']} of {self._latest['total']}")
                case "resumed":
                    self._set_paused(False)
                    self.progress.setText("going on ...")
                case "progress":
                    self._note(record)

    def _note(self, record: dict[str, Any]) -> None:
        if not self._latest:
            self.stop.setEnabled(True)
            self.pause.setEnabled(True)
        self._latest = record
        self.psnr.total = self.loss.total = record["total"]
        self.loss.add(record["step"], record["loss"])
        self.psnr.add(record["step"], record["psnr"])
        if record["start_psnr"] is not None:
            self.psnr.start = record["start_psnr"]
        if not self._refresh_timer.isActive():
            self._refresh_timer.start()
        if record["psnr"] is not None:
            self._ask_preview()

    def _refresh(self) -> None:
        """Not at every record: each new word has the whole window drawn."""
        record = self._latest
        if not record or self._paused:
            return
        self.bar.setRange(0, record["total"])
        self.bar.setValue(record["step"])
        words = _words_of(record)
        if record["seconds_left"]:
            words += f" · {duration(record['seconds_left'])} left"
        if record["best_step"]:
            words += f" · best so far: step {record['best_step']}"
        self.progress.setText(words)
        self.warnings.setText(" ".join(record["warnings"]))
        self.warnings.setVisible(bool(record["warnings"]))
        self.psnr.update()
        self.loss.update()

    def _on_pause(self) -> None:
        if self._paused:
            self._job.resume()
        else:
            self.progress.setText("pausing ...")
            self._job.pause()

    def _set_paused(self, paused: bool) -> None:
        self._paused = paused
        self.pause.setText(RESUME if paused else PAUSE)

    def _on_stop(self) -> None:
        self._job.stop()
        for button in (self.pause, self.stop):
            button.setEnabled(False)
        self.progress.setText("stopping: the best weights are judged ...")

    def _on_preview(self, wanted: bool) -> None:
        if wanted:
            self._ask_preview()
        else:
            self.shown.remove()

    def _ask_preview(self, event: Any = None) -> None:
        """Ask for the displayed slice, unless an answer is still to come."""
        if self._preview_is_due or not self._latest or not self.preview.isChecked() or not self.pause.isEnabled():
            return
        if self._layer is None or self._layer not in self._viewer.layers:
            return
        index = looked_at(self._viewer, self._layer, self._axis)
        if index is not None:
            self._preview_is_due = True
            self._job.preview(index)

    def _on_previewed(self, index: int, degraded: Any, restored: Any) -> None:
        self._preview_is_due = False
        if self._layer is None or not self.preview.isChecked():
            return
        self.shown.show(self._layer, self._axis, index, restored)
        if index != looked_at(self._viewer, self._layer, self._axis):
            self._ask_preview()


def _words_of(record: dict[str, Any]) -> str:
    """Describe a step, or how far a scoring is, in a few words."""
    scoring = record["scoring"]
    if scoring is None:
        return f"step {record['step']} of {record['total']}"
    whose = {Weights.OLD: "with the old weights", Weights.CURRENT: "so far", Weights.NEW: "with the new weights"}
    return f"held-out slice {scoring['done']} of {scoring['total']} {whose[Weights(scoring['weights'])]}"
