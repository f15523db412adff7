"""The form of the Fine-tune panel: training scans, task, initial weights, and number of steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt

from ...errors import CheckpointError, ScanError
from ...tasks import TASKS, Task
from ...training.options import FineTuneOptions
from ..form_parts import hint
from ..layers import describe, layer_to_scan
from ..options_form import OptionsForm
from ..surroundings import could_be_hu, no_weights, propose_task
from .choice import MODES, FineTuneChoice

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer
    from qtpy.QtWidgets import QWidget

    from ...scans.scan import Scan
    from ..layer_choice import LayerChoice
    from ..surroundings import Surroundings

NO_OTHER_SCAN = "no other scan is open"


class FineTuneForm(OptionsForm):
    """Learn from, Scan, Reference, Task, Model, Strength, Steps, Run on; see `FineTuneChoice` and `FineTuneOptions`."""

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(viewer, FineTuneChoice, FineTuneOptions, parent=parent)
        self._viewer = viewer
        self._proposed_for: Image | None = None
        self.about_scan = hint()
        self.add_below("reference_layer", self.about_scan)
        self.reference_layer.preferred = self._other_than_scan
        self.reference_layer.native.setPlaceholderText(NO_OTHER_SCAN)
        self.reference_layer.reset_choices()
        for place, (_, tip) in enumerate(MODES.values()):
            self.mode.native.setItemData(place, tip, Qt.ItemDataRole.ToolTipRole)
        self.show_row("force", False)
        self._connect()
        self._on_scan()
        self._on_mode()

    @property
    def layers(self) -> LayerChoice:
        """The choice of the layer whose grid the labels are on, and beside which previews are shown."""
        return self.reference_layer if self.mode.value == "reference" else self.scan_layer

    @property
    def layer(self) -> Image | None:
        """The layer chosen there."""
        return self.layers.value

    @property
    def chosen_task(self) -> Task:
        """The chosen task."""
        return TASKS[self.task.value]

    def choice(self, labels: Any, recipe: FineTuneOptions) -> FineTuneChoice:
        """Return what is filled in; `ScanError` or `CheckpointError` if something is missing.

        Parameters
        ----------
        labels
            See `FineTuneChoice`.
        recipe
            The options that the form does not ask for.
        """
        filled = self.values(FineTuneChoice)
        if self.layer is None:
            raise ScanError("Open a scan first: File > Open, or File > Open Sample > Restore-RWKV.")
        if filled["mode"] == "paired" and filled["scan_layer"] is filled["reference_layer"]:
            raise ScanError("The scan is its own reference: choose another one, or train on the noisy scan alone.")
        degraded = self._scan(self.scan_layer) if self.is_shown("scan_layer") else None
        target = self._scan(self.reference_layer) if self.is_shown("reference_layer") else None
        if self.weights.entry is None:
            raise CheckpointError(no_weights(self.chosen_task))
        return FineTuneChoice(
            **filled,
            modality=self.weights.entry.modality,
            degraded=degraded,
            target=target,
            labels=labels,
            options=replace(recipe, **self.values(FineTuneOptions)),
        )

    def offer_force(self, offered: bool) -> None:
        """Show or hide the choice to train although the pair or its noise was refused."""
        self.show_row("force", offered or self.force.value)

    def tell_surroundings(self, surroundings: Surroundings) -> None:
        """List the devices and the shipped weights, now that they are known."""
        self.device.choices = [(device.title, device.name) for device in surroundings.devices]
        self.weights.tell_models(surroundings.models)

    def _connect(self) -> None:
        self.mode.changed.connect(self._on_mode)
        self.scan_layer.changed.connect(self.reference_layer.reset_choices)
        self.scan_layer.changed.connect(self._on_scan)
        self.reference_layer.changed.connect(self._on_scan)
        self.task.changed.connect(self._on_task)
        self.weights.changed.connect(self._on_change)
        self.weights.asked.connect(self.asked.emit)
        for field in (self.strength, self.force):
            field.changed.connect(lambda: self.changed.emit())

    def _scan(self, layers: LayerChoice) -> Scan:
        layer: Any = layers.value
        if layer is None:
            raise ScanError("There is no second scan: open the reference, or train on the noisy scan alone.")
        frame = self._viewer.dims.current_step[self._viewer.dims.ndim - 4] if layer.ndim == 4 else None
        return layer_to_scan(layer, frame)

    def _other_than_scan(self, layers: list[Layer]) -> Layer | None:
        """Propose a reference of the scan, one of its shape if possible; a good scan alone may be any scan."""
        scan = self.scan_layer.value
        others = [layer for layer in layers if layer is not scan]
        alike = [layer for layer in others if scan is not None and layer.data.shape == scan.data.shape]
        alone = layers if self.mode.value == "reference" else []
        return next(iter(alike or others or alone), None)

    def _on_mode(self) -> None:
        self.show_row("scan_layer", self.mode.value != "reference")
        self.show_row("reference_layer", self.mode.value != "noisy")
        self.show_row("strength", self.mode.value == "reference")
        self.reference_layer.reset_choices()
        self._on_scan()

    def _on_scan(self) -> None:
        if self.layer is not None:
            try:
                scan = self._scan(self.layers)
                self.about_scan.setText(describe(scan))
                self._propose_task(scan)
            except ScanError as error:
                self.about_scan.setText(str(error))
        else:
            self.about_scan.setText("Open a scan, or a sample: File > Open Sample.")
        self._on_change()

    def _propose_task(self, scan: Scan) -> None:
        """Choose the task that fits, once for each scan: the user may choose another one."""
        if self.layer is not self._proposed_for:
            self._proposed_for = self.layer
            self.task.value, _ = propose_task(scan, could_be_hu(scan))

    def _on_task(self) -> None:
        self.weights.set_task(self.chosen_task)
        self._on_change()

    def _on_change(self) -> None:
        """Withdraw the choice to train anyway: it was made for another scan or reference."""
        with self.force.changed.blocked():
            self.force.value = False
        self.show_row("force", False)
        self.changed.emit()
