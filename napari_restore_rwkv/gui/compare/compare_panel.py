"""The lower half of the Restore panel: how a result is shown, its strength, and saving it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QPushButton, QSlider, QWidget

from ...errors import OutputError
from ...restoration.detail import Blend
from ..drawing_context import draw_unseen
from ..file_names import stem_for
from ..form_parts import beside, plain_label
from ..layers import with_geometry_of
from ..wording import words_of
from ..worker import StepsWorker
from .compare_view import CompareView
from .detail_slider import DetailSlider
from .difference_row import DifferenceRow
from .keys import KEYS, key_of, layout_keys
from .reading import CurtainSlider, Reading
from .state import BLINK, ORTHOGONAL, OVER_INPUT, OWN_VIEW, RESTORED_ONLY, SIDE_BY_SIDE, SWIPE, CompareState

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.components import ViewerModel
    from napari.layers import Image

    from ...progress import Progress
    from ..mailbox import News
    from .comparison import Comparison

BLINK_KEY = "B"
FULL = 100
REMIX_AFTER_MS = 30
WIDEST_PERCENT = 48
TELL_EVERY_MS = 250
WAIT_AT_CLOSING_S = 2.0
SETTLED_AFTER_MS = 100
SAVE_FILTER = "NIfTI (*.nii.gz *.nii);;NRRD (*.nrrd);;MetaImage (*.mha *.mhd)"


class ComparePanel(QWidget):
    """Show, Blink, Strength, Save: disabled until there is a result.

    Signals
    -------
    said(text)
        A message, such as where a result was saved.
    failed(error)
        A result could not be saved, or planes could not be read.
    mixed()
        The strength or the detail put back has changed, and no slider is being moved.
    """

    said = Signal(str)
    failed = Signal(object)
    mixed = Signal()

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.view = CompareView(viewer, arranged=lambda: draw_unseen(self))
        self.state = CompareState()
        self._viewer = viewer
        self._bound = False
        self._keys = layout_keys(viewer, self.choose_mode)
        self._saving: StepsWorker | None = None
        self._beside_name = ""
        self._remix = QTimer(self)
        self._remix.setSingleShot(True)
        self._remix.setInterval(REMIX_AFTER_MS)
        self._remix.timeout.connect(self._mix)
        self._tidy = QTimer(self)
        self._tidy.setSingleShot(True)
        self._tidy.timeout.connect(self._tidy_up)
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(SETTLED_AFTER_MS)
        self._settled.timeout.connect(self.view.arrange_again)
        self._build()
        self.setEnabled(False)
        self.state.events.comparison.connect(self._on_comparison)
        self.state.events.mode.connect(self._show_view)
        viewer.layers.events.removed.connect(self._on_removed)
        for event in self._reshaping():
            event.connect(self._on_reshaped)

    @property
    def comparison(self) -> Comparison | None:
        """The result that is compared; None if there is none."""
        return self.state.comparison

    def show_comparison(self, comparison: Comparison) -> None:
        """Show a new result in the view that was chosen last."""
        self.state.show(comparison)

    def take_up(self, comparison: Comparison) -> None:
        """Follow a result of an earlier panel, and leave the view as it is."""
        self.state.show(comparison, OWN_VIEW)

    def show_beside(self, layer: Image | None, name: str = "") -> None:
        """Show a layer as the fourth cell, side by side, instead of the previous one; None removes that.

        `name` labels its values in the line under the cursor; without a name they are not listed.
        """
        before = self.view.beside
        if before is not None:
            before.events.set_data.disconnect(self._read_beside)
        self._beside_name = name
        self.view.put_beside(layer)
        if layer is not None:
            layer.events.set_data.connect(self._read_beside)
            self.state.mode = SIDE_BY_SIDE
        self._read_beside()

    def leave_grid(self) -> None:
        """Show a single picture, to draw on."""
        self.state.leave_grid()

    def choose_mode(self, mode: str) -> None:
        """Choose a view by its name."""
        if not self.state.can_show(mode):
            self.said.emit("There is only one slice: orthogonal planes need at least two.")
            return
        self.state.mode = mode

    def blink(self, viewer: Any = None) -> None:
        """Switch between input and restored."""
        if self.comparison is None:
            return
        if self.state.mode != BLINK:
            self.state.mode = BLINK
        else:
            self.view.blink()

    def save(self) -> None:
        """Ask for a file name and write the restored volume there, in the background."""
        assert self.comparison is not None
        result = self.comparison.result
        if result.remaining:
            done = result.slices - len(result.remaining)
            self.failed.emit(
                OutputError(f"{done} of {result.slices} slices are restored: press Restore to finish before saving.")
            )
            return
        proposal = f"{stem_for(self.comparison.restored.name)}.nii.gz"
        name, _ = QFileDialog.getSaveFileName(self, "Save the restored scan", proposal, SAVE_FILTER)
        if name:
            self.save_to(Path(name))

    def save_to(self, path: Path) -> None:
        """Write the restored volume, with the strength that is shown, its geometry and provenance."""
        assert self.comparison is not None
        self._mix()
        writing = _writing(self.comparison, path)
        self._saving = StepsWorker(writing, every_ms=TELL_EVERY_MS)
        self._saving.progressed.connect(self._on_saving)
        self._saving.returned.connect(self._on_saved)
        self._saving.errored.connect(self.failed)
        self.said.emit(f"Saving {path.name} ...")
        self._saving.start()

    def let_go(self) -> None:
        """Stop following the viewer, without touching Qt objects, which may already be deleted."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        for event in self._reshaping():
            event.disconnect(self._on_reshaped)
        self._unbind_key()
        self.reading.let_go()
        self.difference.let_go()
        if self._saving is not None:
            self._saving.join(WAIT_AT_CLOSING_S)

    def _build(self) -> None:
        self.modes = QComboBox()
        self.modes.addItems([SIDE_BY_SIDE, SWIPE, BLINK, OVER_INPUT, ORTHOGONAL, RESTORED_ONLY, OWN_VIEW])
        self.modes.setAccessibleName("How the result is shown")
        keys = ", ".join(f"{mode} {key_of(mode)}" for mode in KEYS)
        self.modes.setToolTip(
            f"How the result is shown; the last entry brings back your own layers and grid. Keys in the canvas: {keys}"
        )
        self.modes.currentTextChanged.connect(self._on_mode)
        self.difference = DifferenceRow()
        self.difference.changed.connect(self.view.show_legend)
        self.blink_button = QPushButton("Blink")
        self.blink_button.setToolTip("Switch between input and restored in one panel")
        self.blink_button.clicked.connect(self.blink)
        self.strength = QSlider(Qt.Orientation.Horizontal)
        self.strength.setRange(0, FULL)
        self.strength.setValue(FULL)
        self.strength.setToolTip("input + strength x (restored - input): how much of the restoration is mixed in")
        self.percent = plain_label(f"{FULL} %")
        self.percent.setMinimumWidth(WIDEST_PERCENT)
        self.strength.setAccessibleName("Strength of the restoration")
        self.coarse, self.fine = DetailSlider("coarse"), DetailSlider("fine")
        for slider in (self.strength, self.coarse, self.fine):
            slider.valueChanged.connect(self._on_strength)
            slider.sliderReleased.connect(self._mix)
        self.save_button = QPushButton("Save ...")
        self.save_button.setToolTip("Write the restored scan with its geometry, and a record of how it was made")
        self.save_button.clicked.connect(self.save)
        rows = QFormLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        self.curtain = CurtainSlider(self.view.curtain)
        self.reading = Reading(self._viewer)
        self.view.planes.failed.connect(self.failed)
        self.reading.values.elsewhere = self.view.planes.values_at
        self.reading.watch.arrived.connect(self.difference.look_at)
        self.reading.said.connect(self.said)
        self.reading.failed.connect(self.failed)
        rows.addRow("Show", beside(self.modes, self.blink_button))
        rows.addRow(self.curtain)
        rows.addRow("Difference", self.difference)
        rows.addRow("Strength", beside(self.strength, self.percent))
        rows.addRow("Detail back", beside(plain_label("fine"), self.fine, plain_label("coarse"), self.coarse))
        self.reading.buttons.addWidget(self.save_button)
        rows.addRow(self.reading)

    def _on_comparison(self, comparison: Comparison | None) -> None:
        self.setEnabled(comparison is not None)
        self.difference.follow(comparison)
        self.modes.model().item(self.modes.findText(ORTHOGONAL)).setEnabled(self.state.can_show(ORTHOGONAL))
        if comparison is not None:
            self._show_blend(comparison)
        self.reading.follow(comparison)
        self._unbind_key()
        if comparison is not None:
            self._bind_key()
        self._show_view()

    def _show_blend(self, comparison: Comparison) -> None:
        blend = comparison.blend
        for slider, share in ((self.strength, blend.strength), (self.coarse, blend.coarse), (self.fine, blend.fine)):
            slider.setValue(round(FULL * share))
        if blend != Blend():
            comparison.mix_in(blend)

    def _show_view(self) -> None:
        self._forget_what_is_gone()
        self.modes.setCurrentText(self.state.mode)
        if self.comparison is None:
            self.view.leave()
        else:
            self.view.show(self.comparison, self.state.mode)
        self.curtain.show_for(self.view.mode)
        if self.view.beside is None and self.reading.watch.others:
            self._read_beside()

    def _read_beside(self, event: Any = None) -> None:
        """Include the fourth cell's values in the line under the cursor."""
        layer, watch = self.view.beside, self.reading.watch
        watch.others.clear()
        if layer is not None and self._beside_name:
            watch.others[self._beside_name] = layer.data[None] if layer.ndim == 2 else layer.data
        watch.look_again()

    def _on_mode(self, mode: str) -> None:
        self.state.mode = mode

    def _on_strength(self) -> None:
        self.percent.setText(f"{self.strength.value()} %")
        # Not restarted while it waits: during a long drag nothing would ever be shown.
        if not self._remix.isActive():
            self._remix.start()

    def _mix(self) -> None:
        if self.comparison is not None:
            sliders = (self.strength, self.coarse, self.fine)
            settled = not any(slider.isSliderDown() for slider in sliders)
            self.comparison.mix_in(Blend(*(slider.value() / FULL for slider in sliders)), settled)
            self.view.refresh()
            self.reading.watch.look_again()
            if settled:
                self.mixed.emit()

    def _reshaping(self) -> tuple[Any, ...]:
        """Events that change the space for the pictures, or their shape."""
        dims = self._viewer.dims.events
        return self._viewer.canvas.events.size, dims.order, dims.ndisplay

    def _on_reshaped(self, event: Any = None) -> None:
        if self.view.mode != OWN_VIEW:
            self._settled.start()

    def _on_removed(self, event: Any) -> None:
        comparison, layer = self.comparison, event.value
        if comparison is not None and (layer in comparison.layers or self.view.has_cell_for(layer)):
            # Later: napari is still removing the layer, and to change the view meanwhile crashes the drawing.
            self._tidy.start(0)

    def _tidy_up(self) -> None:
        self._forget_what_is_gone()
        self.view.arrange_again()

    def _forget_what_is_gone(self) -> None:
        """Return to the user's own view if the input or the restored layer was removed."""
        if self.comparison is not None and not self.comparison.is_in(self._viewer.layers):
            self.state.comparison = None

    def _on_saving(self, news: News) -> None:
        self.said.emit(f"Saving: {words_of(news.progress)} ...")

    def _on_saved(self, path: Path) -> None:
        self.said.emit(f"Saved as {path}")

    def _bind_key(self) -> None:
        """Bind B to blinking while there is a result, unless the viewer already uses B."""
        self._keys.bind()
        key = coerce_keybinding(BLINK_KEY)
        if key in self._viewer.keymap or key in self._viewer.class_keymap:
            return
        self._viewer.bind_key(BLINK_KEY, self.blink)
        self._bound = True
        self.blink_button.setText(f"Blink ({BLINK_KEY})")

    def _unbind_key(self) -> None:
        self._keys.unbind()
        if self._bound:
            self._viewer.bind_key(BLINK_KEY, None)
            self._bound = False


def _writing(comparison: Comparison, path: Path) -> Generator[Progress, None, Path]:
    from ...scans.export import export_scan
    from ...scans.files import write_scan

    # The current position of the layer, which may have been moved since it was restored.
    scan = with_geometry_of(comparison.result.as_scan(comparison.blend), comparison.restored)
    if isinstance(scan.voxels, np.ndarray):
        write_scan(scan, path)
    else:
        yield from export_scan(scan, path)
    return path
