"""The form of the Restore panel: scan, task, weights, region, output, and where to compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QRadioButton

from ...errors import CheckpointError, ScanError
from ...scans.scan import AXES
from ...scans.slice_axis import choose_slice_axis
from ...tasks import TASKS, Task
from ..form_parts import hint
from ..layers import describe, frame_name, layer_to_scan
from ..options import RestoreOptions
from ..options_form import OptionsForm
from ..surroundings import could_be_hu, mismatch, no_weights, propose_task
from .advice import AdviceLine

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer
    from qtpy.QtWidgets import QWidget

    from ...scans.scan import Scan
    from ..surroundings import Surroundings


class ShownInForm(CheckpointError):
    """An error that the form already shows, below the field that caused it."""


class RestoreForm(OptionsForm):
    """The rows of `RestoreOptions`; as soon as there is a scan, every field has a proposal."""

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(viewer, RestoreOptions, parent=parent)
        self._viewer = viewer
        self._watched: Image | None = None
        self._surroundings: Surroundings | None = None
        self._reason = ""
        self._hu = False
        self.about_scan, self.about_task, self.advice = hint(), hint(), AdviceLine()
        for name, line in (("layer", self.about_scan), ("task", self.about_task), ("weights", self.advice)):
            self.add_below(name, line)
        _, self._whole_volume = self.region.native.findChildren(QRadioButton)
        self.output.enabled = False
        self.show_row("any_modality", False)
        self.layer.choose(viewer.layers.selection.active)
        self._connect()
        self._on_scan()

    @property
    def is_known(self) -> bool:
        """Whether the devices and the shipped weights are listed."""
        return self._surroundings is not None

    @property
    def chosen_task(self) -> Task:
        """The chosen task."""
        return TASKS[self.task.value]

    def scan(self) -> Scan:
        """Return the chosen scan; `ScanError` if there is none, or if the layer is not a scan."""
        if self.layer.value is None:
            raise ScanError("Open a scan first: File > Open, or File > Open Sample > Restore-RWKV.")
        return layer_to_scan(self.layer.value, self._frame)

    def options(self) -> RestoreOptions:
        """Return what is filled in; `ScanError` or `CheckpointError` if something is missing."""
        self.scan()
        refusal = self._mismatch()
        if self.weights.entry is None:
            raise CheckpointError(no_weights(self.chosen_task))
        if refusal and not self.any_modality.value:
            raise ShownInForm(refusal)
        strength = self.advice.advice.strength if self.advice.advice is not None else None
        options = RestoreOptions(**self.values(RestoreOptions), strength=strength)
        if options.scheduler is not None and options.output is None:
            raise ScanError("A cluster restores into a file that its workers see: choose one under Save to.")
        return options

    def fill_in(self, options: RestoreOptions) -> None:
        """Choose these options."""
        super().fill_in(options)
        # Choosing weights unticks the box, since it was ticked for others.
        self.show_row("any_modality", self.is_shown("any_modality") or options.any_modality)
        self.any_modality.value = options.any_modality

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer, or show why it cannot be restored."""
        if not self.layer.choose(layer) and layer is not None:
            try:
                layer_to_scan(layer, 0)
                self.asked.emit(f'"{layer.name}" is a result already; choose the scan itself.')
            except ScanError as error:
                self.asked.emit(str(error))

    def offer_whole_volume(self) -> None:
        """Propose the whole volume next, if the scan has more than one slice."""
        self.region.value = "volume" if self._whole_volume.isEnabled() else "slice"

    def offer_any_modality(self) -> None:
        """Offer to restore although the weights were made for another modality."""
        self.show_row("any_modality", True)

    def set_surroundings(self, surroundings: Surroundings) -> None:
        """List the devices and the shipped weights."""
        self._surroundings = surroundings
        self.run_on.set_devices(surroundings.devices)
        for place, task in enumerate(TASKS.values()):
            known = task.name in surroundings.models
            self.task.native.setItemText(place, task.title if known else f"{task.title} (no weights yet)")
        self.weights.tell_models(surroundings.models)

    def let_go(self) -> None:
        """Stop following the viewer, without touching Qt objects, which may already be deleted."""
        self._watch(None)
        super().let_go()

    @property
    def _frame(self) -> int | None:
        return self.time_index.value if self.is_shown("time_index") else None

    def _connect(self) -> None:
        self.layer.changed.connect(self._on_scan)
        self.time_index.changed.connect(self._describe)
        self.task.changed.connect(self._on_task)
        self.weights.changed.connect(self._on_choice)
        self.weights.asked.connect(self.asked.emit)
        self.advice.classical_wanted.connect(self._use_classical)
        self.axis.changed.connect(self._ask_advice)
        self.axis.changed.connect(self._on_change)
        self.region.changed.connect(self._on_region)
        self.output.changed.connect(self._on_change)
        self.run_on.changed.connect(self._on_place)
        self.run_on.asked.connect(self.asked.emit)

    def _watch(self, layer: Image | None) -> None:
        for old, switch in ((self._watched, "disconnect"), (layer, "connect")):
            if old is not None:
                for event in (old.events.scale, old.events.units):
                    getattr(event, switch)(self._describe)
        self._watched = layer

    def _on_scan(self) -> None:
        layer = self.layer.value
        self._watch(layer)
        timed = layer is not None and layer.ndim == 4 and not layer.rgb
        self.show_row("time_index", timed)
        if layer is not None and timed:
            shown = self._viewer.dims.current_step[self._viewer.dims.ndim - 4]
            self.time_index.max = layer.data.shape[0] - 1
            self.time_index.value = min(shown, layer.data.shape[0] - 1)
        self._describe()
        try:
            scan = self.scan()
        except ScanError:
            self.about_task.setText("")
            return
        self._hu = could_be_hu(scan)
        self.task.value, self._reason = propose_task(scan, self._hu)
        self.axis.value = "auto"
        self.output.propose(layer, scan)
        self.region.value = "slice"
        self._whole_volume.setEnabled(layer is not None and layer.ndim > 2)
        self._on_choice()

    def _describe(self, event: Any = None) -> None:
        try:
            scan = self.scan()
        except ScanError as error:
            nothing = self.layer.value is None
            self.about_scan.setText("Open a scan, or a sample: File > Open Sample." if nothing else str(error))
            return
        frame = "" if self._frame is None else f" · {frame_name(self.layer.value, self._frame)}"
        self.about_scan.setText(f"{describe(scan)}{frame}")
        proposed = choose_slice_axis(scan)
        self.axis.native.setItemText(0, f"auto: along {AXES[proposed.axis]}")
        self.axis.tooltip = f"The slices are restored one by one along this axis. Proposed: along {proposed}."

    def _on_task(self) -> None:
        task = self.chosen_task
        self._reason = f"made for {task.modality} scans" if task.modality else "made for CT, MR and PET"
        self.weights.set_task(task)
        self._on_choice()

    def _on_choice(self) -> None:
        """Show whether the weights suit the scan, and offer to restore anyway if they do not."""
        self.any_modality.value = False
        refusal = self._mismatch()
        self.show_row("any_modality", bool(refusal))
        self.about_task.setText(refusal or self._reason)
        self._ask_advice()
        self._on_change()

    def _on_change(self) -> None:
        self.changed.emit()

    def _on_region(self) -> None:
        # A single slice is kept in memory.
        self.output.enabled = self.region.value == "volume"
        self._on_change()

    def _on_place(self) -> None:
        """Choose a file for a cluster, whose workers need one."""
        if self.run_on.scheduler is not None and self.output.value is None:
            self.output.use_proposed()
        self._on_change()

    def _ask_advice(self) -> None:
        entry = self.weights.entry
        try:
            scan = self.scan()
            along = choose_slice_axis(scan, self.axis.value).axis
        except ScanError:
            entry = None
        if entry is None or self._mismatch():
            self.advice.clear()
        else:
            self.advice.ask(scan, along, entry.weights)

    def _use_classical(self) -> None:
        listed = self._surroundings.models.get(self.task.value, ()) if self._surroundings else ()
        for entry in listed:
            if not entry.learned:
                self.weights.value = entry.weights

    def _mismatch(self) -> str:
        entry = self.weights.entry
        if entry is None or entry.modality is None:
            return ""
        try:
            return mismatch(self.chosen_task, self.scan(), self._hu)
        except ScanError:
            return ""
