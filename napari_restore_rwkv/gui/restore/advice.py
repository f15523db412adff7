"""Advice before restoring: how noisy the scan is, whether the weights suit its noise, and what is proposed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from ...errors import RestoreError, ScanError
from ..background import Background
from ..form_parts import hint
from . import steps

if TYPE_CHECKING:
    from pathlib import Path

    from ...scans.scan import Scan

MEASURING = "measuring the noise ..."
USE_CLASSICAL = "Use the classical filter"
# When a scan is opened, several choices change at once.
ASK_AFTER_MS = 200


@dataclass(frozen=True, slots=True)
class Advice:
    """What is known about a scan before it is restored.

    Attributes
    ----------
    words
        The noise of the scan, and whether the weights suit it.
    strength
        The proposed strength, 0 to 1.
    classical
        Whether the classical filter is proposed instead.
    details
        More for a tooltip, so that the panel fits on a small screen.
    """

    words: str
    strength: float = 1.0
    classical: bool = False
    details: str = ""


def advise(scan: Scan, axis: int, weights: str | Path) -> Advice:
    """Measure the noise of at most eleven slices and compare it with the weights' card; call it off the GUI thread."""
    try:
        card = steps.load_network(weights, steps.modified(weights)).card
    except RestoreError:
        # Errors in the weights are reported when they are used.
        card = None
    return advice_for(scan, axis, card)


def advice_for(scan: Scan, axis: int, card: Any) -> Advice:
    """Measure the noise and compare it with a card; None stands for an unknown one."""
    from ...restoration.suitability import suitability, texture
    from ...scans.noise.estimate import estimate_noise

    try:
        noise = estimate_noise(scan, axis)
    except ScanError as error:
        return Advice(str(error))
    if noise.sigma == 0:
        return Advice("No noise was found.")
    found = suitability(noise, card)
    sentence = found.reason or f"The noise is {noise.sigma:.3g} {noise.unit}".rstrip() + "."
    details = f"Mean frequency of the noise: {noise.mean_frequency:.2f} cycles per pixel"
    return Advice(f"{sentence} Spectrum {texture(noise)}.", found.strength, found.classical, details)


class AdviceLine(QWidget):
    """A line with the advice, and a button for the classical filter if that is proposed.

    Signals
    -------
    classical_wanted()
        The user wants the classical filter.
    """

    classical_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.advice: Advice | None = None
        self.line = hint()
        self.line.setAccessibleName("Noise of the scan, and the proposal for it")
        self.use_classical = QPushButton(USE_CLASSICAL)
        self.use_classical.setToolTip(
            "Choose non-local means as the model: these weights were not trained for such noise"
        )
        self.use_classical.hide()
        self.use_classical.clicked.connect(self.classical_wanted)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(self.line)
        rows.addWidget(self.use_classical)
        self._asked: tuple[Any, ...] | None = None
        self._background = Background(self, wait_ms=ASK_AFTER_MS)
        self._background.answered.connect(self._show)
        self._background.failed.connect(self._on_failed)

    def ask(self, scan: Scan, axis: int, weights: str | Path) -> None:
        """Request the advice for these choices, unless it is shown or already requested."""
        asked = scan.voxels, axis, weights
        if self._asked is not None and asked[0] is self._asked[0] and asked[1:] == self._asked[1:]:
            return
        self.clear()
        self._asked = asked
        self.line.setText(MEASURING)
        self._background.ask(lambda: (asked, advise(scan, axis, weights)))

    def clear(self) -> None:
        """Show nothing."""
        self._background.forget()
        self._asked, self.advice = None, None
        self.line.setText("")
        self.line.setToolTip("")
        self.use_classical.hide()

    def _show(self, answer: tuple[tuple[Any, ...], Advice]) -> None:
        asked, advice = answer
        if asked is not self._asked:
            return
        self.advice = advice
        self.line.setText(advice.words)
        self.line.setToolTip(advice.details)
        self.use_classical.setVisible(advice.classical)

    def _on_failed(self, error: Exception) -> None:
        self.line.setText(f"The noise could not be measured: {error}")
