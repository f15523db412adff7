"""Blends of old and new weights: a slider, a preview in the displayed slice, and the blend as a file of weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QFormLayout, QPushButton, QSlider, QWidget

from ..background import Background
from ..form_parts import beside, plain_label
from ..layers import layer_to_scan
from .preview_switch import Picture, PreviewSwitch

if TYPE_CHECKING:
    import numpy as np
    from napari.components import ViewerModel
    from napari.layers import Image

BLEND_AFTER_MS = 250
BUNDLES = "Fine-tuned weights (*.restorerwkv)"


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """Old and new weights of one fine-tuning.

    Attributes
    ----------
    old
        The weights that the training began with.
    new
        A bundle of the new weights, accepted or not.
    layer, axis
        The scan that was trained on, None if it is not open, and the axis across its slices.
    task
        Name of the task.
    """

    old: str | Path
    new: Path
    layer: Image | None
    axis: int
    task: str


class BlendTools(QWidget):
    """A slider from the old weights (0 %) to the new (100 %).

    Signals
    -------
    saved(path)
        A blend was written.
    failed(error)
        A preview or a file could not be made.
    """

    saved = Signal(object)
    failed = Signal(object)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._trained: Trained | None = None
        self._files = Background(self)
        self.folder = Path()
        self._build()
        self.slider.valueChanged.connect(self._on_slider)
        self.preview.failed.connect(self.failed)
        self.save_button.clicked.connect(self._ask_for_a_name)
        self._files.answered.connect(self.saved)
        self._files.failed.connect(self.failed)

    @property
    def amount(self) -> float:
        """0 for the old weights, 1 for the new ones."""
        return self.slider.value() / 100

    def set_trained(self, trained: Trained | None) -> None:
        """Set the weights to blend."""
        self._trained = trained
        self.slider.setValue(100)
        self.preview.setEnabled(trained is not None and trained.layer is not None)
        self.preview.setChecked(False)

    def save_as(self, path: Path) -> None:
        """Write the blend as a bundle."""
        trained, amount = self._trained, self.amount
        assert trained is not None

        def work() -> Path:
            from ...training.outcome import save_blend

            return save_blend(trained.old, trained.new, amount, path)

        self._files.ask(work)

    def let_go(self) -> None:
        """Stop following the viewer, without touching Qt objects, which may already be deleted."""
        self.preview.let_go()

    def _build(self) -> None:
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 100)
        self.slider.setValue(100)
        self.slider.setToolTip("0 %: the old weights; 100 %: the new ones")
        self.percent = plain_label("100 %")
        self.preview = PreviewSwitch(
            "show beside the scan", self._viewer, "blend preview", self._subject, BLEND_AFTER_MS, self
        )
        self.save_button = QPushButton("Save as ...")
        rows = QFormLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows.addRow("Old - new", beside(self.slider, self.percent, stretch=(1, 0)))
        rows.addRow("", beside(self.preview, self.save_button, stretch=(1, 0)))

    def _on_slider(self, value: int) -> None:
        self.percent.setText(f"{value} %")
        # At 0 % these are the old weights, which exist already.
        self.save_button.setEnabled(value > 0)
        self.preview.ask()

    def _subject(self) -> tuple[Image, int, Picture] | None:
        trained = self._trained
        layer = trained.layer if trained is not None else None
        if trained is None or layer is None or layer not in self._viewer.layers:
            return None
        frame = self._viewer.dims.current_step[self._viewer.dims.ndim - 4] if layer.ndim == 4 else None
        scan, amount = layer_to_scan(layer, frame), self.amount

        def blended(index: int) -> np.ndarray:
            from ...restoration.intensity import choose_intensity
            from ...restoration.restore import restore_slice
            from ...training.outcome import blended_network
            from ...training.slices import Slices

            network = blended_network(trained.old, trained.new, amount)
            image = Slices(scan, trained.axis).read(index)
            card: Any = network.card
            return restore_slice(image, network, choose_intensity(scan, scan.modality or card.modality))

        return layer, trained.axis, blended

    def _ask_for_a_name(self) -> None:
        proposed = self.folder / f"blend {self.slider.value()} percent.restorerwkv"
        name, _ = QFileDialog.getSaveFileName(
            self, "Save the blend as", str(proposed), BUNDLES, options=QFileDialog.Option.DontConfirmOverwrite
        )
        if name:
            self.save_as(Path(name))
