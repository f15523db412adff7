"""The dock widget "Compare": lost contrast, figures and curves of the slice, and all slices by suspicion."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QPushButton, QTabWidget, QVBoxLayout, QWidget

from ..docking import DockedPanel
from ..form_parts import beside, hint
from ..macro_view import MacroView
from ..restore.shown_results import ShownResults
from .classical_cell import ClassicalCell, cell_like
from .drawing import drawing_on
from .figures import CLASSICAL, REFERENCE
from .kspace_tab import KSpaceTab
from .loss_map import LossMap
from .macro import judged_as_python, measured_as_python
from .measure_tab import MeasureTab
from .numbers_cell import NumbersCell
from .sensitivity_map import SensitivityMap
from .shown_slice import SliceWatch
from .slices_tab import SlicesTab

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

    from .compare_panel import ComparePanel
    from .comparison import Comparison

LOST, SENSITIVE, MEASURE, SLICES, K_SPACE = "Lost?", "Sensitive?", "Measure", "Slices", "k-space"
# Names for the values of the maps: the fraction of a probe's contrast that is kept, and how much results differ.
KEPT, SENSITIVITY = "share kept", "sensitivity"


class Workbench(DockedPanel):
    """Follows the newest result of a viewer."""

    def __init__(self, napari_viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self._viewer = napari_viewer
        self._results = ShownResults(napari_viewer)
        self._compare: ComparePanel | None = None
        self.watch = SliceWatch(napari_viewer, self)
        self.about = hint()
        self.lost, self.sensitive = LossMap(), SensitivityMap()
        self.measure = MeasureTab(napari_viewer, self.watch)
        self.slices = SlicesTab()
        self.kspace = KSpaceTab()
        self.classical = ClassicalCell(self.watch)
        self.numbers = NumbersCell(self.measure)
        self.beside_button = QPushButton("Classical filter beside")
        self.beside_button.setCheckable(True)
        self.beside_button.setToolTip("Show this slice filtered by non-local means in a fourth cell, with its values")
        self.beside_button.setAccessibleName("Show the classical filter beside the result")
        self.reference_button = QPushButton("Reference beside")
        self.reference_button.setCheckable(True)
        self.reference_button.setToolTip("Show the reference chosen under Measure in a fourth cell, with its values")
        self.reference_button.setAccessibleName("Show the reference beside the result")
        self._reference: Image | None = None
        self._parts = (self.watch, self.measure, self.lost, self.sensitive, self.slices, self.kspace, self.classical)
        self.macro = MacroView()
        self._build()
        # After layers have been added and marked as results.
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.timeout.connect(self._settle)
        for event in (napari_viewer.layers.events.inserted, napari_viewer.layers.events.removed):
            event.connect(self._on_layers)
        self._follow_newest()
        # Not a method of the panel: when this runs, the panel no longer exists.
        self.destroyed.connect(partial(_let_go, self._parts))

    def look_with(self, compare: ComparePanel) -> None:
        """Set the panel whose view changes when something is shown."""
        self._compare = compare

    def follow(self, comparison: Comparison | None) -> None:
        """Follow another result."""
        if comparison is None:
            self.about.setText("There is nothing to compare yet: restore a scan first.")
        else:
            self.about.setText(f"{comparison.restored.name}")
        self.watch.follow(comparison)
        options = None if comparison is None else self._results.options_of(comparison)
        for tab in (self.lost, self.sensitive):
            tab.follow(comparison, options)
        self.slices.follow(comparison)
        self.kspace.comparison = comparison
        is_mr = comparison is not None and comparison.result.scan.modality == "MR"
        self.tabs.setTabVisible(self.tabs.indexOf(self.kspace), is_mr)
        self.classical.follow(comparison)
        self.measure.reference.reset_choices()
        self._on_reference()
        self.beside_button.setEnabled(comparison is not None and self.classical.is_possible)
        self.measure.beside.setEnabled(comparison is not None)
        self.measure.beside.setChecked(False)

    def shut_down(self) -> None:
        """Stop following the viewer, and stop running work."""
        super().shut_down()
        self._settled.stop()
        for event in (self._viewer.layers.events.inserted, self._viewer.layers.events.removed):
            event.disconnect(self._on_layers)
        self._take_away(self.classical.layer)
        self._take_away(self._reference)
        self._take_away(self.numbers.layer)
        _let_go(self._parts)

    def _on_layers(self, event: Any = None) -> None:
        self._settled.start(0)

    def _settle(self) -> None:
        self._follow_newest()
        # The cell was removed when the view was left, or deleted.
        for button, layer in self._cells():
            if button.isChecked() and layer is not None and layer not in self._viewer.layers:
                button.setChecked(False)

    def _cells(self) -> tuple[tuple[QPushButton, Image | None], ...]:
        """Return the buttons of the possible fourth cells, and the layer of each one that is shown."""
        return (
            (self.beside_button, self.classical.layer),
            (self.reference_button, self._reference),
            (self.measure.beside, self.numbers.layer),
        )

    def _leave_room_for(self, wanted: QPushButton | None) -> None:
        """Release the buttons of the other cells: only one is shown at a time."""
        for button, _ in self._cells():
            if button is not wanted:
                button.setChecked(False)

    def _follow_newest(self) -> None:
        newest = self._results.newest()
        comparison = None if newest is None else newest[1]
        if comparison is None or comparison is not self.watch.comparison:
            self.follow(comparison)

    def _build(self) -> None:
        self.tabs = QTabWidget()
        for tab, title in (
            (self.lost, LOST),
            (self.sensitive, SENSITIVE),
            (self.measure, MEASURE),
            (self.slices, SLICES),
            (self.kspace, K_SPACE),
        ):
            self.tabs.addTab(tab, title)
        rows = QVBoxLayout(self)
        rows.addWidget(self.about)
        rows.addLayout(beside(self.beside_button, self.reference_button))
        rows.addWidget(self.tabs)
        rows.addWidget(self.macro)
        for map_ in (self.lost, self.sensitive):
            self.watch.arrived.connect(map_.look_at)
            map_.place_chosen.connect(self._go_to_place)
            map_.replayable.connect(self.macro.add)
        self.lost.mapped.connect(lambda layer: self._put_map_beside(layer, KEPT))
        self.watch.arrived.connect(self.kspace.look_at)
        self.kspace.mapped.connect(lambda layer: self._put_map_beside(layer, K_SPACE))
        self.sensitive.mapped.connect(lambda layer: self._put_map_beside(layer, SENSITIVITY))
        self.slices.slice_chosen.connect(self._go_to_slice)
        self.measure.drawing_wanted.connect(self._draw)
        self.measure.slice_chosen.connect(self._go_to_slice)
        self.measure.place_chosen.connect(self._go_to_place)
        self.beside_button.toggled.connect(self._show_classical)
        self.reference_button.toggled.connect(self._show_reference)
        self.measure.beside.toggled.connect(self._show_numbers)
        self.slices.judged.connect(lambda comparison: self.macro.add(judged_as_python(comparison)))
        self.measure.volume.measured.connect(self._on_volume)
        self.macro.said.connect(self.about.setText)
        self.measure.reference.changed.connect(self._on_reference)

    def _on_volume(self) -> None:
        comparison = self.watch.comparison
        if comparison is not None and self.measure.volume.found is not None:
            self.macro.add(measured_as_python(comparison, self.measure.reference.value))

    def _show_classical(self, wanted: bool) -> None:
        if wanted:
            self._leave_room_for(self.beside_button)
            self._put_beside(self.classical.begin(), CLASSICAL)
        else:
            self._take_away(self.classical.layer)
            self.classical.end()

    def _show_reference(self, wanted: bool) -> None:
        layer, comparison = self.measure.reference.value, self.watch.comparison
        if wanted and layer is not None and comparison is not None:
            self._leave_room_for(self.reference_button)
            self._reference = cell_like(comparison.restored, layer.data, f"{layer.name} [reference]", REFERENCE)
            self._put_beside(self._reference, REFERENCE)
        elif self._reference is not None:
            self._take_away(self._reference)
            self._reference = None

    def _show_numbers(self, wanted: bool) -> None:
        comparison = self.watch.comparison
        if wanted and comparison is not None:
            self._leave_room_for(self.measure.beside)
            # A picture in colour has no values to show under the cursor.
            self._put_beside(self.numbers.begin(comparison), "")
        elif self.numbers.layer is not None:
            self._take_away(self.numbers.layer)
            self.numbers.end()

    def _on_reference(self) -> None:
        self.reference_button.setEnabled(self.measure.reference.value is not None)
        self.reference_button.setChecked(False)

    def _put_map_beside(self, layer: Image, name: str) -> None:
        self._leave_room_for(None)
        self._put_beside(layer, name)

    def _put_beside(self, layer: Image, name: str) -> None:
        """Show a layer as the fourth cell."""
        comparison = self.watch.comparison
        if comparison is None or not comparison.is_in(self._viewer.layers):
            return
        if self._compare is not None:
            self._compare.show_beside(layer, name)
        else:
            self._viewer.layers.append(layer)

    def _take_away(self, layer: Image | None) -> None:
        if layer is None:
            return
        if self._compare is not None and self._compare.view.beside is layer:
            self._compare.show_beside(None)
        elif layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _draw(self) -> None:
        comparison = self.watch.comparison
        if comparison is None:
            return
        if self._compare is not None:
            self._compare.leave_grid()
        drawing_on(self._viewer, comparison).mode = "add_rectangle"
        self.watch.look_again()

    def _go_to_slice(self, index: int) -> None:
        comparison = self.watch.comparison
        if comparison is None or comparison.input.ndim == 2:
            return
        layer, axis = comparison.input, comparison.result.axis
        at = layer.world_to_data(self._viewer.dims.point).copy()
        at[layer.ndim - 3 + axis] = index
        ahead = self._viewer.dims.ndim - layer.ndim
        self._viewer.dims.set_point(
            ahead + layer.ndim - 3 + axis, float(layer.data_to_world(at)[layer.ndim - 3 + axis])
        )

    def _go_to_place(self, row: int, column: int) -> None:
        comparison, shown = self.watch.comparison, self.watch.shown
        if comparison is None or shown is None:
            return
        layer = comparison.input
        at = layer.world_to_data(self._viewer.dims.point).copy()
        along = [axis for axis in range(layer.ndim) if layer.ndim == 2 or axis != layer.ndim - 3 + shown.axis][-2:]
        at[along] = row, column
        if self._compare is not None and self._compare.view.planes.shows(comparison):
            self._compare.view.planes.go_to([round(float(value)) for value in at[-3:]])
            return
        world = layer.data_to_world(at)
        camera = self._viewer.scene.camera
        camera.center = (camera.center[0], *(float(world[axis]) for axis in along))


class _Releasable(Protocol):
    def let_go(self) -> None: ...


def _let_go(parts: tuple[_Releasable, ...], panel: object = None) -> None:
    for part in parts:
        part.let_go()
