"""The form of the Restore panel: which scan, which task and weights, how much of it, where to and where to compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QLabel,
    QRadioButton,
    QSpinBox,
    QWidget,
)

from ...errors import CheckpointError, ScanError
from ...scans.slice_axis import choose_slice_axis
from ...tasks import TASKS, Task
from ..compare.comparison import is_result
from ..form_parts import beside, choice, hint
from ..layers import describe, frame_name, layer_to_scan
from ..model_choice import ModelChoice
from ..options import RestoreOptions
from ..surroundings import Surroundings, could_be_hu, mismatch, no_weights, propose_task
from .advice import AdviceLine
from .run_on import RunOn
from .save_choice import SaveChoice
from .slice_axis_choice import slice_axis_choice, tell_slice_axis

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Layer

    from ...scans.scan import Scan


class SaidInForm(CheckpointError):
    """A refusal that the form shows already, beside what it is about."""


class RestoreForm(QWidget):
    """Scan, Task, Model, Region, Save to, Run on; all of it is chosen once there is a scan, whose layers it follows.

    Signals
    -------
    changed()
        Something else was chosen.
    asked(text)
        The person wants to read this, or has to.
    """

    changed = Signal()
    asked = Signal(str)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: list[Image] = []
        self._watched: Image | None = None
        self._surroundings: Surroundings | None = None
        self._reason = ""
        self._hu = False
        self._build()
        self._fill_tasks()
        for event in ("inserted", "removed", "reordered", "renamed"):
            getattr(viewer.layers.events, event).connect(self._follow_layers)
        self._connect()
        self._follow_layers()
        if viewer.layers.selection.active in self._layers:
            self.choose(viewer.layers.selection.active)

    @property
    def layer(self) -> Image | None:
        """The chosen scan's layer."""
        index = self.scans.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    @property
    def is_known(self) -> bool:
        """Whether devices and weights are listed."""
        return self._surroundings is not None

    @property
    def task(self) -> Task:
        """The chosen task."""
        return TASKS[self.tasks.currentData()]

    @property
    def time_index(self) -> int | None:
        """The chosen frame of a four-dimensional layer, else None."""
        return self.frame.value() if self.layer is not None and self.layer.ndim == 4 else None

    def scan(self) -> Scan:
        """Return the chosen scan, or raise `ScanError` in words."""
        if self.layer is None:
            raise ScanError("Open a scan first: File > Open, or File > Open Sample > Restore-RWKV.")
        return layer_to_scan(self.layer, self.time_index)

    def options(self) -> RestoreOptions:
        """Return what is filled in; `ScanError` or `CheckpointError` where something is missing."""
        self.scan()
        refusal = self._mismatch()
        model = self.models.entry
        if model is None:
            raise CheckpointError(no_weights(self.task))
        if refusal and not self.anyway.isChecked():
            raise SaidInForm(refusal)
        volume = self.whole_volume.isChecked()
        output = self.save.path if volume else None
        if volume and output is None and self.run_on.scheduler is not None:
            raise ScanError("A cluster restores into a file that its workers see: choose one at Save to.")
        return RestoreOptions(
            layer=self.layer,
            weights=model.weights,
            time_index=self.time_index,
            region="volume" if volume else "slice",
            device=self.run_on.device,
            any_modality=self.anyway.isChecked(),
            axis=self.axes.currentData(),
            output=output,
            strength=self.advice.advice.strength if self.advice.advice is not None else None,
            scheduler=self.run_on.scheduler if volume else None,
        )

    def fill_in(self, options: RestoreOptions) -> None:
        """Choose what these options say."""
        self.choose(options.layer)
        if options.time_index is not None:
            self.frame.setValue(options.time_index)
        if isinstance(options.weights, str):
            # A classical filter has its task after a colon.
            self.tasks.setCurrentIndex(max(self.tasks.findData(options.weights.rpartition(":")[2]), 0))
            self.models.use_listed(options.weights)
        else:
            self.use_file(options.weights)
        self.anyway.setVisible(self.anyway.isVisibleTo(self) or options.any_modality)
        self.anyway.setChecked(options.any_modality)
        self.run_on.use(options.scheduler or options.device)
        (self.this_slice if options.region == "slice" else self.whole_volume).setChecked(True)
        self.axes.setCurrentIndex(max(self.axes.findData(options.axis), 0))
        if options.output is not None:
            self.save.use(options.output)

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer, or say why it cannot be restored."""
        if layer in self._layers:
            self.scans.setCurrentIndex(self._layers.index(layer))
        elif layer is not None:
            try:
                layer_to_scan(layer, 0)
                self.asked.emit(f'"{layer.name}" is a result already; choose the scan itself.')
            except ScanError as error:
                self.asked.emit(str(error))

    def offer_whole_volume(self) -> None:
        """Propose the whole volume next, if there is more than the slice."""
        self.whole_volume.setChecked(self.whole_volume.isEnabled())

    def offer_anyway(self) -> None:
        """Show the choice to restore although the weights were made for another modality."""
        self.anyway.setVisible(True)

    def tell_surroundings(self, surroundings: Surroundings) -> None:
        """List the devices and the shipped weights, now that they are known."""
        self._surroundings = surroundings
        self.run_on.tell_devices(surroundings.devices)
        self._fill_tasks()
        self.models.tell_models(surroundings.models)

    def let_go(self) -> None:
        """Stop following the viewer. Touches nothing of Qt, which may be gone already."""
        self._watch(None)
        for event in ("inserted", "removed", "reordered", "renamed"):
            getattr(self._viewer.layers.events, event).disconnect(self._follow_layers)

    def _build(self) -> None:
        rows = QFormLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.scans, self.about_scan = choice("The image layer to restore"), hint()
        self.frame, self.frame_label = QSpinBox(), QLabel("Frame")
        self.frame.setToolTip("Which frame of a scan with a time axis")
        self.tasks, self.about_task = choice("What to do with it"), hint()
        self.anyway = QCheckBox("restore anyway")
        self.anyway.setToolTip("Use these weights although they were made for another modality")
        self.anyway.hide()
        self.models = ModelChoice()
        self.advice = AdviceLine()
        self.this_slice, self.whole_volume = QRadioButton("this slice"), QRadioButton("whole volume")
        self.this_slice.setChecked(True)
        self.axes = slice_axis_choice()
        self.save = SaveChoice()
        self.save.setEnabled(False)
        self.run_on = RunOn()
        rows.addRow("Scan", self.scans)
        rows.addRow(self.about_scan)
        rows.addRow(self.frame_label, self.frame)
        rows.addRow("Task", self.tasks)
        rows.addRow(self.about_task)
        rows.addRow("", self.anyway)
        rows.addRow("Model", self.models.native)
        rows.addRow(self.advice)
        rows.addRow("Region", beside(self.this_slice, self.whole_volume))
        rows.addRow("Slices", self.axes)
        rows.addRow("Save to", self.save)
        rows.addRow("Run on", self.run_on)

    def _connect(self) -> None:
        self.scans.currentIndexChanged.connect(self._on_scan)
        self.frame.valueChanged.connect(self._describe)
        self.tasks.currentIndexChanged.connect(self._on_task)
        self.models.changed.connect(self._on_choice)
        self.models.asked.connect(self.asked.emit)
        self.advice.classical_wanted.connect(self._use_classical)
        self.axes.currentIndexChanged.connect(self._ask_advice)
        self.this_slice.toggled.connect(self.changed)
        self.axes.currentIndexChanged.connect(self.changed)
        # One slice is kept in memory.
        self.whole_volume.toggled.connect(self.save.setEnabled)
        self.save.changed.connect(self.changed)
        self.run_on.changed.connect(self._on_place)
        self.run_on.asked.connect(self.asked)

    def _follow_layers(self, event: Any = None) -> None:
        chosen = self.layer
        before = set(map(id, self._layers))
        found = [layer for layer in self._viewer.layers if isinstance(layer, Image) and not is_result(layer)]
        fresh = [layer for layer in found if id(layer) not in before]
        self._layers = found
        self.scans.blockSignals(True)
        self.scans.clear()
        self.scans.addItems([layer.name for layer in found])
        wanted = fresh[-1] if fresh and self.isEnabled() else chosen
        if wanted in found:
            self.scans.setCurrentIndex(found.index(wanted))
        self.scans.blockSignals(False)
        if self.layer is not self._watched or not found:
            self._on_scan()

    def _watch(self, layer: Image | None) -> None:
        for old, switch in ((self._watched, "disconnect"), (layer, "connect")):
            if old is not None:
                for event in (old.events.data, old.events.scale, old.events.units):
                    getattr(event, switch)(self._describe)
        self._watched = layer

    def _on_scan(self) -> None:
        layer = self.layer
        self._watch(layer)
        timed = layer is not None and layer.ndim == 4 and not layer.rgb
        self.frame.setVisible(timed)
        self.frame_label.setVisible(timed)
        if layer is not None and timed:
            self.frame.setMaximum(layer.data.shape[0] - 1)
            self.frame.setValue(self._viewer.dims.current_step[self._viewer.dims.ndim - 4])
        self._describe()
        try:
            scan = self.scan()
        except ScanError:
            self.about_task.setText("")
            return
        self._hu = could_be_hu(scan)
        name, reason = propose_task(scan, self._hu)
        self.tasks.setCurrentIndex(self.tasks.findData(name))
        self._reason = reason
        self.axes.setCurrentIndex(0)
        self.save.propose(layer, scan)
        self.this_slice.setChecked(True)
        self.whole_volume.setEnabled(layer is not None and layer.ndim > 2)
        self._on_choice()

    def _describe(self, event: Any = None) -> None:
        try:
            scan = self.scan()
            frame = "" if self.time_index is None else f" · {frame_name(self.layer, self.time_index)}"
            self.about_scan.setText(f"{describe(scan)}{frame}")
            tell_slice_axis(self.axes, scan)
        except ScanError as error:
            self.about_scan.setText(str(error) if self._layers else "Open a scan, or a sample: File > Open Sample.")

    def _on_task(self) -> None:
        self._reason = f"made for {self.task.modality} scans" if self.task.modality else "made for CT, MR and PET"
        self.models.set_task(self.task)
        self._on_choice()

    def _on_choice(self) -> None:
        """Say whether the weights fit the scan, and offer to go on where they do not."""
        self.anyway.setChecked(False)
        refusal = self._mismatch()
        self.anyway.setVisible(bool(refusal))
        self.about_task.setText(refusal or self._reason)
        self._ask_advice()
        self.changed.emit()

    def _ask_advice(self) -> None:
        model = self.models.entry
        try:
            scan = self.scan()
            along = choose_slice_axis(scan, self.axes.currentData()).axis
        except ScanError:
            model = None
        if model is None or self._mismatch():
            self.advice.forget()
        else:
            self.advice.ask(scan, along, model.weights)

    def _use_classical(self) -> None:
        listed = self._surroundings.models.get(self.task.name, ()) if self._surroundings else ()
        for entry in listed:
            if not entry.learned:
                self.models.use_listed(entry.weights)

    def _mismatch(self) -> str:
        model = self.models.entry
        if model is None or model.modality is None:
            return ""
        try:
            return mismatch(self.task, self.scan(), self._hu)
        except ScanError:
            return ""

    def _fill_tasks(self) -> None:
        chosen = max(self.tasks.currentIndex(), 0)
        self.tasks.blockSignals(True)
        self.tasks.clear()
        for task in TASKS.values():
            known = self._surroundings is None or task.name in self._surroundings.models
            self.tasks.addItem(task.title if known else f"{task.title} (no weights yet)", task.name)
        self.tasks.setCurrentIndex(chosen)
        self.tasks.blockSignals(False)

    def use_file(self, path: Path) -> None:
        """Choose a weights file or a bundle."""
        self.models.use_file(path)

    def _on_place(self) -> None:
        """Workers of a cluster put a volume into a file."""
        if self.run_on.scheduler is not None and self.save.path is None:
            self.save.use_proposed()
        self.changed.emit()
