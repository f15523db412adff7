"""Was only noise removed from the displayed slice? Its noise before and after, and a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from ...reliability.removed import LEAST_SIDE, Verdict
from ...reliability.report import judge_slice
from ..background import Background
from ..form_parts import hint

if TYPE_CHECKING:
    from ...reliability.report import SliceReport
    from .shown_slice import ShownSlice

JUDGE_AFTER_MS = 150
JUDGING = "examining what was removed ..."
# A sign beside the colour, for users who cannot distinguish red from green.
SIGNS = {Verdict.NOISE: "✓", Verdict.DOUBTFUL: "?", Verdict.STRUCTURE: "!"}
COLOURS = {"dark": ("#57c785", "#e8b339", "#ff6b5e"), "light": ("#1b7a3d", "#8a5a00", "#b3261e")}


def in_words(report: SliceReport, unit: str) -> str:
    """Return the noise before and after, and the verdict on the difference with its reason."""
    noise = f"Noise {report.noise_before:.3g} → {report.noise_after:.3g} {unit}".rstrip()
    return f"{noise} · {SIGNS[report.removed.verdict]} {report.removed.reason}"


class VerdictLine(QWidget):
    """Judges each slice that comes to rest on the screen, off the GUI thread.

    Signals
    -------
    judged(report)
        The `SliceReport` of the displayed slice; None while there is none.
    """

    judged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.report: SliceReport | None = None
        self._shown: ShownSlice | None = None
        self.line = hint()
        self.line.setAccessibleName("Was only noise removed from this slice?")
        self.line.setToolTip(
            "The difference is searched for structure; if it is pure noise, 95 of 100 slices are judged as noise. "
            "This says nothing about detail that was already invisible in the noise."
        )
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(self.line)
        self._background = Background(self, wait_ms=JUDGE_AFTER_MS)
        self._background.answered.connect(self._on_judged)
        self._background.failed.connect(self._on_failed)

    def look_at(self, shown: ShownSlice | None) -> None:
        """Judge a slice; None shows nothing."""
        self._shown, self.report = shown, None
        self._background.forget()
        self.line.setStyleSheet("")
        self.judged.emit(None)
        if shown is None:
            self.line.setText("")
            return
        if min(shown.input.shape) < LEAST_SIDE:
            self.line.setText(f"What was removed is judged in slices of {LEAST_SIDE} x {LEAST_SIDE} pixels and more.")
            return
        self.line.setText(JUDGING)
        self._background.ask(lambda: (shown, judge_slice(shown.index, *shown.finite_pair(), shown.modality)))

    def _on_judged(self, answer: tuple[ShownSlice, SliceReport]) -> None:
        shown, report = answer
        if shown is not self._shown:
            return
        self.report = report
        theme = get_theme(get_settings().appearance.theme)
        colours = COLOURS["light" if theme.id == "light" else "dark"]
        self.line.setStyleSheet(f"color: {colours[list(Verdict).index(report.removed.verdict)]};")
        self.line.setText(in_words(report, shown.unit))
        self.judged.emit(report)

    def _on_failed(self, error: Exception) -> None:
        self.line.setText(f"This slice could not be judged: {error}")
