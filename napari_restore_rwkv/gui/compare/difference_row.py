"""The mode and the colour limit of the difference: a row of the Restore panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QHBoxLayout, QWidget

from ...reliability.difference import Mode, as_seen, limit_of, local_noise, short_unit_of, unit_of, words_of
from ...scans.noise.estimate import LEAST_SIDE
from ..background import Background

if TYPE_CHECKING:
    from .comparison import Comparison
    from .shown_slice import ShownSlice

# Slices whose noise is kept in memory, whatever the size of the volume.
MOST_KEPT = 3
LOWEST_LIMIT, HIGHEST_LIMIT = 1e-3, 1e7


class DifferenceRow(QWidget):
    """Mode and limit; the local noise and a suitable limit are computed off the GUI thread.

    Signals
    -------
    changed()
        The mode of the difference has changed.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._comparison: Comparison | None = None
        self._shown: ShownSlice | None = None
        self._noise: dict[int, np.ndarray] = {}
        # Whether to fit the limits to the next slice, the first one in this mode.
        self._fits = False
        self._background = Background(self)
        self._background.answered.connect(self._take)
        self.mode = QComboBox()
        self.mode.addItems([mode.value for mode in Mode])
        self.mode.setAccessibleName("How the difference is shown")
        self.mode.setToolTip(
            "What the colours of the difference show: values with or without the sign, per cent of the input, "
            "or multiples of the noise around each pixel"
        )
        self.limit = QDoubleSpinBox()
        self.limit.setAccessibleName("Limit of the difference's colours")
        self.limit.setToolTip(
            "Where the colours end, on both sides of zero; until it is changed, the 99.5th percentile of the difference"
        )
        self.limit.setRange(LOWEST_LIMIT, HIGHEST_LIMIT)
        self.limit.setKeyboardTracking(False)
        self.limit.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.mode, 1)
        row.addWidget(self.limit, 1)
        self.mode.currentTextChanged.connect(self._on_mode)
        self.limit.valueChanged.connect(self._on_limit)

    def follow(self, comparison: Comparison | None) -> None:
        """Show the difference of another result, in the mode used last."""
        self.let_go()
        self._comparison, self._shown = comparison, None
        self._noise = {}
        if comparison is None:
            return
        comparison.difference.events.contrast_limits.connect(self._show_limit)
        mode = comparison.mode
        self.mode.blockSignals(True)
        self.mode.setCurrentText(mode.value)
        self.mode.blockSignals(False)
        if mode is not Mode.SIGNED:
            comparison.set_mode(mode, self._noise)
        self._show_limit()

    def look_at(self, shown: ShownSlice | None) -> None:
        """Compute what the displayed slice needs in this mode."""
        self._shown = shown
        comparison = self._comparison
        if shown is None or comparison is None or comparison.mode is Mode.SIGNED:
            return
        mode, least = comparison.mode, comparison.least
        noise = self._noise.get(shown.index)
        if self._fits or (mode is Mode.IN_NOISE and noise is None):
            self._background.ask(lambda: (comparison, shown, mode, *_seen(shown, mode, least, noise)))

    def let_go(self) -> None:
        """Stop following the layers, without touching Qt objects, which may already be deleted."""
        if self._comparison is not None:
            self._comparison.difference.events.contrast_limits.disconnect(self._show_limit)
            self._comparison = None

    def _on_mode(self, text: str) -> None:
        comparison = self._comparison
        if comparison is None:
            return
        mode = Mode(text)
        comparison.set_mode(mode, self._noise)
        self._fits = mode is not Mode.SIGNED
        self._show_limit()
        self.changed.emit()
        self.look_at(self._shown)

    def _take(self, answer: tuple[Comparison, ShownSlice, Mode, np.ndarray | None, float]) -> None:
        comparison, shown, mode, noise, limit = answer
        if comparison is not self._comparison or comparison.mode is not mode:
            return
        if noise is not None:
            while len(self._noise) >= MOST_KEPT:
                del self._noise[next(iter(self._noise))]
            self._noise[shown.index] = noise
            comparison.redraw_difference()
        if self._fits:
            self._fits = False
            comparison.set_limit(limit)

    def _on_limit(self, value: float) -> None:
        if self._comparison is not None:
            self._comparison.set_limit(value)

    def _show_limit(self, event: Any = None) -> None:
        comparison = self._comparison
        if comparison is None:
            return
        value = float(np.abs(comparison.difference.contrast_limits).max())
        self.limit.blockSignals(True)
        self.limit.setPrefix("± " if comparison.mode.has_sign else "to ")
        self.limit.setSuffix(f" {short_unit_of(comparison.mode, comparison.result.scan.unit)}".rstrip())
        self.limit.setDecimals(max(0, 1 - int(np.floor(np.log10(max(value, LOWEST_LIMIT))))))
        self.limit.setValue(value)
        self.limit.blockSignals(False)


def meaning_of(comparison: Comparison) -> str:
    """Return what the colours of the difference show, such as ``"restored - input in HU"``."""
    return f"{words_of(comparison.mode)} in {unit_of(comparison.mode, comparison.result.scan.unit)}"


def _seen(shown: ShownSlice, mode: Mode, least: float, noise: np.ndarray | None) -> tuple[np.ndarray | None, float]:
    """Return the local noise if the mode needs it, and suitable limits."""
    if mode is Mode.IN_NOISE and noise is None:
        if min(shown.input.shape) >= LEAST_SIDE:
            noise = local_noise(shown.finite_pair()[0], shown.modality)
        else:
            noise = np.full(shown.input.shape, np.nan, np.float32)
    return noise, limit_of(as_seen(shown.difference, shown.input, mode, shown.unit, least, noise))
