"""The lines below the result in the Restore panel: values under the cursor, the verdict, Judge, Report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QSlider, QVBoxLayout, QWidget

from ..form_parts import beside, plain_label
from .cursor_values import CursorValues
from .report_button import ReportButton
from .shown_slice import SliceWatch
from .state import SWIPE
from .verdict import VerdictLine

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from .comparison import Comparison
    from .curtain import Curtain

STEPS = 1000


class CurtainSlider(QWidget):
    """A slider for the edge of the curtain, shown while swiping; the edge itself can be dragged, too."""

    def __init__(self, curtain: Curtain, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._curtain = curtain
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, STEPS)
        self.slider.setPageStep(STEPS // 20)
        self.slider.setSingleStep(STEPS // 100)
        self.slider.setToolTip("Input on the left, restored on the right: drag here or the bright edge in the picture")
        self.slider.setAccessibleName("Curtain between input and restored")
        row = beside(plain_label("Curtain"), self.slider)
        self.setLayout(row)
        self.slider.valueChanged.connect(lambda value: curtain.move_to(value / STEPS))
        curtain.moved = self._follow
        self.hide()

    def show_for(self, mode: str) -> None:
        """Show the slider while swiping."""
        self._follow(self._curtain.fraction)
        self.setVisible(mode == SWIPE)

    def _follow(self, fraction: float) -> None:
        self.slider.blockSignals(True)
        self.slider.setValue(round(STEPS * fraction))
        self.slider.blockSignals(False)


class Reading(QWidget):
    """Follows a comparison: the value of every cell under the cursor, and whether only noise was removed.

    Attributes
    ----------
    buttons
        The row of buttons; the panel that shows it may add one.

    Signals
    -------
    judge_wanted()
        The user wants the workbench.
    said(text), failed(error)
        Messages about the report, or that the scan has other voxels now.
    """

    judge_wanted = Signal()
    said = Signal(str)
    failed = Signal(object)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.watch = SliceWatch(viewer, self)
        self.values = CursorValues(viewer, self.watch)
        self.verdict = VerdictLine()
        self.judge = QPushButton("Judge ...")
        self.judge.setToolTip("What would be lost here, numbers against a reference, profiles and spectra")
        self.judge.setAccessibleName("Open the comparison workbench")
        self.judge.clicked.connect(self.judge_wanted)
        self.report = ReportButton()
        self.report.said.connect(self.said)
        self.report.failed.connect(self.failed)
        self.watch.arrived.connect(self.verdict.look_at)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        self.buttons = QHBoxLayout()
        for button in (self.judge, self.report):
            self.buttons.addWidget(button)
        for widget in (self.values, self.verdict):
            rows.addWidget(widget)
        rows.addLayout(self.buttons)
        self.setEnabled(False)

    def follow(self, comparison: Comparison | None) -> None:
        """Follow another comparison; None follows nothing."""
        self.setEnabled(comparison is not None)
        self._listen_to(comparison)
        self.watch.follow(comparison)

    def let_go(self) -> None:
        """Stop following the viewer, without touching Qt objects, which may already be deleted."""
        self._listen_to(None)
        self.watch.let_go()
        self.values.let_go()
        self.report.let_go()

    def _listen_to(self, comparison: Comparison | None) -> None:
        for one, switch in ((self.report.comparison, "disconnect"), (comparison, "connect")):
            if one is not None:
                getattr(one.input.events.data, switch)(self._on_replaced)
        self.report.comparison = comparison

    def _on_replaced(self, event: Any = None) -> None:
        self.said.emit("The voxels of the scan were replaced; the result and the values are those of the old ones.")
