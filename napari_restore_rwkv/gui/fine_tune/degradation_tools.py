"""The strength of a simulated degradation: chosen, fitted to a noisy scan, and previewed in the displayed slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QPushButton, QWidget

from ...errors import RestoreError
from ...tasks import TASKS
from ..background import Background
from ..form_parts import beside, hint
from ..layer_choice import LayerChoice, is_volume
from ..layers import layer_to_scan
from .preview_switch import Picture, PreviewSwitch

if TYPE_CHECKING:
    import numpy as np
    from magicgui.widgets import FloatSpinBox
    from napari.components import ViewerModel
    from napari.layers import Image

    from .choice import FineTuneChoice

PREVIEW_AFTER_MS = 250


class DegradationTools(QWidget):
    """The meaning of the strength, the noisy layer that it is fitted to, and the preview.

    Signals
    -------
    failed(error)
        The preview or the fit ended with an exception.

    Parameters
    ----------
    strength
        The form's widget for the strength.
    """

    failed = Signal(object)

    def __init__(self, viewer: ViewerModel, strength: FloatSpinBox, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._strength = viewer, strength
        self._choice: FineTuneChoice | None = None
        self._strengths: dict[str, Any] = {}
        self._task: str | None = None
        self._fits = Background(self)
        self._build()
        self.fit_button.clicked.connect(self.fit)
        self.preview.failed.connect(self.failed)
        self._fits.answered.connect(self._show_fit)
        self._fits.failed.connect(self._on_fit_failed)

    def set_strengths(self, strengths: dict[str, Any]) -> None:
        """Set the meaning of the strength for each task, as in `simulate.whole_scan.STRENGTHS`."""
        self._strengths, self._task = strengths, None

    def set_choice(self, choice: FineTuneChoice | None) -> None:
        """Set the scan to degrade and the task; None if they are unknown."""
        self._choice = choice
        if choice is not None and choice.task != self._task:
            self._task = choice.task
            self._offer_strengths(choice.task)
        self.fit_button.setEnabled(choice is not None)
        self.preview.ask()

    def fit(self) -> None:
        """Fit the strength to the noise of the chosen layer."""
        like, choice = self.like.value, self._choice
        if like is None or choice is None or choice.target is None:
            return
        try:
            noisy = layer_to_scan(like, 0 if like.ndim == 4 else None)
        except RestoreError as error:
            self.failed.emit(error)
            return
        target, task = choice.target, choice.task

        def work() -> Any:
            from ...training.noise import fit_strength

            return fit_strength(target, noisy, task), noisy.unit

        self.fit_button.setEnabled(False)
        self.about.setText("measuring the noise ...")
        self._fits.ask(work)

    def hide_preview(self) -> None:
        """Remove the preview."""
        self.preview.setChecked(False)

    def let_go(self) -> None:
        """Stop following the viewer, without touching Qt objects, which may already be deleted."""
        self.preview.let_go()
        self.like.let_go()

    def _build(self) -> None:
        self.about = hint()
        self.like = LayerChoice(
            self._viewer, is_volume, tooltip="A scan with the desired noise; it may be of another patient"
        )
        self.fit_button = QPushButton("Fit")
        self.fit_button.setToolTip("Choose the strength that gives the noise of this scan")
        self.preview = PreviewSwitch(
            "show it beside the scan", self._viewer, "simulated degradation", self._subject, PREVIEW_AFTER_MS, self
        )
        rows = QFormLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows.addRow("Noise like", beside(self.like.native, self.fit_button, stretch=(1, 0)))
        rows.addRow(self.about)
        rows.addRow("", self.preview)

    def _offer_strengths(self, task: str) -> None:
        known = self._strengths.get(task)
        self._strength.enabled = known is not None
        if known is None:
            self.about.setText(f"No degradation can be simulated for {TASKS[task].title}: choose another task.")
            return
        self._strength.range = known.least, known.most
        self._strength.step = 0.1 if known.usual < 10 else 1
        self._strength.value = known.usual
        self.about.setText(known.meaning)

    def _show_fit(self, found: tuple[Any, str]) -> None:
        fit, unit = found
        self.fit_button.setEnabled(True)
        self._strength.value = fit.strength
        self.about.setText(f"noise {fit.wanted:.3g} {unit} wanted, {fit.reached:.3g} {unit} with this strength")

    def _on_fit_failed(self, error: Exception) -> None:
        self.fit_button.setEnabled(True)
        self.about.setText("")
        self.failed.emit(error)

    def _subject(self) -> tuple[Image, int, Picture] | None:
        choice = self._choice
        if choice is None or choice.target is None or self.isHidden():
            return None
        target, task, strength = choice.target, choice.task, self._strength.value

        def simulated(index: int) -> np.ndarray:
            from ...training.noise import preview_degradation

            return preview_degradation(target, index, task, strength)

        return choice.layer, choice.axis, simulated
