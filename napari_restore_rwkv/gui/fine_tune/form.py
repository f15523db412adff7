"""The form of the Fine-tune panel: what to learn from, for which task, from which weights, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QSpinBox, QWidget

from ...errors import CheckpointError, ScanError
from ...tasks import TASKS, Task
from ..compare.comparison import is_result
from ..form_parts import choice, hint
from ..layer_choice import LayerChoice
from ..layers import describe, layer_to_scan
from ..model_choice import ModelChoice
from ..surroundings import could_be_hu, no_weights, propose_task
from .choice import FineTuneChoice

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from ...scans.scan import Scan
    from ..surroundings import Surroundings

MODES = {
    "paired": (
        "pairs: scan and its reference",
        "Two registered scans of the same object, for example low and full dose",
    ),
    "reference": (
        "a good scan, made worse here",
        "Its degradation is simulated, in a strength that you choose",
    ),
    "noisy": ("a noisy scan alone", "Each slice learns from its neighbours, which have noise of their own"),
}
USUAL_STEPS, MOST_STEPS = 500, 20_000


class FineTuneForm(QWidget):
    """Learn from, Scan, Reference, Task, Model, Steps, Run on.

    Signals
    -------
    changed()
        Something else was chosen.
    asked(text)
        The person wants to read this.
    """

    changed = Signal()
    asked = Signal(str)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._proposed_for: Image | None = None
        self._build()
        self._connect()
        self._on_scan()
        self._on_mode()

    @property
    def mode(self) -> Any:
        """One of `MODES`."""
        return self.modes.currentData()

    @property
    def layer(self) -> Image | None:
        """The layer whose grid the labels are on, and on which previews are shown."""
        return (self.targets if self.mode == "reference" else self.scans).layer

    @property
    def task(self) -> Task:
        """The chosen task."""
        return TASKS[self.tasks.currentData()]

    def choice(self, labels: Any, strength: float | None) -> FineTuneChoice:
        """Return what is filled in; `ScanError` or `CheckpointError` where something is missing."""
        model = self.models.entry
        if self.layer is None:
            raise ScanError("Open a scan first: File > Open, or File > Open Sample > Restore-RWKV.")
        degraded = None if self.mode == "reference" else self._scan(self.scans)
        target = None if self.mode == "noisy" else self._scan(self.targets)
        if model is None:
            raise CheckpointError(no_weights(self.task))
        return FineTuneChoice(
            mode=self.mode,
            layer=self.layer,
            degraded=degraded,
            target=target,
            labels=labels,
            strength=strength if self.mode == "reference" else None,
            task=self.task,
            model=model,
            steps=self.steps.value(),
            device=self.devices.currentData(),
            force=self.force.isChecked(),
        )

    def offer_force(self, offered: bool) -> None:
        """Show the choice to go on with a pair or noise that were refused, or hide it."""
        self.force.setVisible(offered or self.force.isChecked())

    def tell_surroundings(self, surroundings: Surroundings) -> None:
        """List the devices and the shipped weights, now that they are known."""
        self.devices.clear()
        for device in surroundings.devices:
            self.devices.addItem(device.title, device.name)
        self.models.tell_models(surroundings.models)

    def let_go(self) -> None:
        """Stop following the viewer. Touches nothing of Qt, which may be gone already."""
        for layers in (self.scans, self.targets):
            layers.let_go()

    def _build(self) -> None:
        self.modes = choice("What there is to learn from")
        for name, (title, tip) in MODES.items():
            self.modes.addItem(title, name)
            self.modes.setItemData(self.modes.count() - 1, tip, 3)  # Qt.ItemDataRole.ToolTipRole
        self.scans = LayerChoice(self._viewer, "The scan as it comes, noisy or of low resolution", _is_scan)
        self.targets = LayerChoice(
            self._viewer,
            "The good scan of the same object, on the same grid",
            _is_scan,
            preferred=self._other_than_scan,
        )
        self.scans_label, self.targets_label = QLabel("Scan"), QLabel("Reference")
        self.about_scan = hint()
        self.tasks = choice("What the weights are for")
        for task in TASKS.values():
            self.tasks.addItem(task.title, task.name)
        self.models = ModelChoice(learned_only=True)
        self.force = QCheckBox("go on anyway")
        self.force.setToolTip("Learn from these scans although they do not fit well")
        self.force.hide()
        self.steps = QSpinBox()
        self.steps.setRange(1, MOST_STEPS)
        self.steps.setSingleStep(100)
        self.steps.setValue(USUAL_STEPS)
        self.steps.setToolTip("Steps of training: 300 to 2000 for a light network")
        self.devices = choice("Where to compute")
        self.devices.addItem("the fastest there is", "auto")
        self.rows = QFormLayout(self)
        self.rows.setContentsMargins(0, 0, 0, 0)
        self.rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.rows.addRow("Learn from", self.modes)
        self.rows.addRow(self.scans_label, self.scans)
        self.rows.addRow(self.targets_label, self.targets)
        self.rows.addRow(self.about_scan)
        self.rows.addRow("Task", self.tasks)
        self.rows.addRow("Begin with", self.models)
        self.rows.addRow("Steps", self.steps)
        self.rows.addRow("Run on", self.devices)
        self.rows.addRow("", self.force)

    def _connect(self) -> None:
        self.modes.currentIndexChanged.connect(self._on_mode)
        self.scans.changed.connect(self.targets.propose)
        self.scans.changed.connect(self._on_scan)
        self.targets.changed.connect(self._on_scan)
        self.tasks.currentIndexChanged.connect(self._on_task)
        self.models.changed.connect(self._on_change)
        self.models.asked.connect(self.asked)
        self.force.toggled.connect(self.changed)

    def _scan(self, layers: LayerChoice) -> Scan:
        layer = layers.layer
        if layer is None:
            raise ScanError("There is no second scan: open the reference, or learn from the noisy scan alone.")
        frame = self._viewer.dims.current_step[self._viewer.dims.ndim - 4] if layer.ndim == 4 else None
        return layer_to_scan(layer, frame)

    def _other_than_scan(self, layers: list[Layer]) -> Layer:
        scan = self.scans.layer
        others = [layer for layer in layers if layer is not scan]
        alike = [layer for layer in others if scan is not None and layer.data.shape == scan.data.shape]
        return (alike or others or layers)[0]

    def _on_mode(self) -> None:
        for widget in (self.scans, self.scans_label):
            widget.setVisible(self.mode != "reference")
        for widget in (self.targets, self.targets_label):
            widget.setVisible(self.mode != "noisy")
        self._on_scan()

    def _on_scan(self) -> None:
        if self.layer is not None:
            try:
                scan = self._scan(self.targets if self.mode == "reference" else self.scans)
                self.about_scan.setText(describe(scan))
                self._propose_task(scan)
            except ScanError as error:
                self.about_scan.setText(str(error))
        else:
            self.about_scan.setText("Open a scan, or a sample: File > Open Sample.")
        self._on_change()

    def _propose_task(self, scan: Scan) -> None:
        """Choose the task that fits, once for each scan: the person may know better."""
        if self.layer is not self._proposed_for:
            self._proposed_for = self.layer
            name, _ = propose_task(scan, could_be_hu(scan))
            self.tasks.setCurrentIndex(self.tasks.findData(name))

    def _on_task(self) -> None:
        self.models.set_task(self.task)
        self._on_change()

    def _on_change(self) -> None:
        """What was forced was another choice."""
        self.force.blockSignals(True)
        self.force.setChecked(False)
        self.force.blockSignals(False)
        self.force.hide()
        self.changed.emit()


def _is_scan(layer: Layer) -> bool:
    return isinstance(layer, Image) and not layer.rgb and layer.ndim in (3, 4) and not is_result(layer)
