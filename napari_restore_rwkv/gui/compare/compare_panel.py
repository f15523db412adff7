"""The lower half of the Restore panel: how a result is looked at, how strongly it is mixed in, and saving it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QPushButton, QSlider, QWidget

from ...errors import OutputError
from ...restoration.detail import Blend
from ..drawing_context import draw_unseen
from ..form_parts import beside, plain_label
from ..layers import at_place_of
from ..wording import words_of
from ..worker import StepsWorker
from .compare_view import (
    BLINK,
    GRIDDED,
    ORTHOGONAL,
    OVER_INPUT,
    OWN_VIEW,
    RESTORED_ONLY,
    SIDE_BY_SIDE,
    SWIPE,
    CompareView,
)
from .detail_slider import DetailSlider
from .difference_row import DifferenceRow
from .keys import KEYS, key_of, layout_keys
from .reading import CurtainSlider, Reading

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
    """Show, Blink, Strength, Save: greyed out until there is a result.

    Signals
    -------
    said(text)
        Something to read: where a result was saved.
    failed(error)
        Saving did not work, or reading planes.
    mixed()
        The result is mixed otherwise with its input, and no slider is being moved.
    """

    said = Signal(str)
    failed = Signal(object)
    mixed = Signal()

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.view = CompareView(viewer, arranged=lambda: draw_unseen(self))
        self.comparison: Comparison | None = None
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
        self._tidy.timeout.connect(self._forget_what_is_gone)
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(SETTLED_AFTER_MS)
        self._settled.timeout.connect(self.view.arrange_again)
        self._build()
        self.setEnabled(False)
        viewer.layers.events.removed.connect(self._on_removed)
        for event in self._reshaping():
            event.connect(self._on_reshaped)

    def show_comparison(self, comparison: Comparison) -> None:
        """Take up a new result, in the view that was chosen last."""
        self._take(comparison)
        self.view.show(comparison, self.modes.currentText())

    def take_up(self, comparison: Comparison) -> None:
        """Take up a result of an earlier panel, and leave the view as it is."""
        self.modes.setCurrentText(OWN_VIEW)
        self._take(comparison)

    def show_beside(self, layer: Image | None, name: str = "") -> None:
        """Show a layer as the fourth cell, side by side, in place of the one before; None takes that away.

        `name` is what its values are called in the line under the cursor; of one without a name there are none.
        """
        before = self.view.beside
        if before is not None:
            before.events.set_data.disconnect(self._read_beside)
        self._beside_name = name
        self.view.put_beside(layer)
        if layer is not None:
            layer.events.set_data.connect(self._read_beside)
            if self.view.mode != SIDE_BY_SIDE:
                self.modes.setCurrentText(SIDE_BY_SIDE)
        self._read_beside()

    def leave_grid(self) -> None:
        """Show one picture, to draw on."""
        if self.view.mode in GRIDDED:
            self.modes.setCurrentText(RESTORED_ONLY)

    def choose_mode(self, mode: str) -> None:
        """Choose a view by its name."""
        if mode == ORTHOGONAL and self.comparison is not None and not self.view.planes.suit(self.comparison):
            self.said.emit("There is one slice only: no other planes can be cut through it.")
            return
        self.modes.setCurrentText(mode)

    def blink(self, viewer: Any = None) -> None:
        """Change between input and restored."""
        if self.comparison is None:
            return
        if self.view.mode != BLINK:
            self.modes.setCurrentText(BLINK)
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
        proposal = re.sub(r"[^\w.-]+", "_", self.comparison.restored.name).strip("_") + ".nii.gz"
        name, _ = QFileDialog.getSaveFileName(self, "Save the restored scan", proposal, SAVE_FILTER)
        if name:
            self.save_to(Path(name))

    def save_to(self, path: Path) -> None:
        """Write the restored volume, mixed in as it is shown, with its geometry and provenance."""
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
        """Stop following the viewer. Touches nothing of Qt, which may be gone already."""
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
            "How the result is looked at; the last entry gives back your own layers and grid. "
            f"Keys over the picture: {keys}"
        )
        self.modes.currentTextChanged.connect(self._on_mode)
        self.difference = DifferenceRow()
        self.difference.changed.connect(self.view.tell_meaning)
        self.blink_button = QPushButton("Blink")
        self.blink_button.setToolTip("Change between input and restored in one panel")
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
        self.save_button.setToolTip("Write the restored scan with its geometry, and how it was made beside it")
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

    def _take(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self._leave_planes_without_slices(comparison)
        self.difference.follow(comparison)
        self.setEnabled(True)
        blend = comparison.blend
        for slider, share in ((self.strength, blend.strength), (self.coarse, blend.coarse), (self.fine, blend.fine)):
            slider.setValue(round(FULL * share))
        if blend != Blend():
            comparison.mix_in(blend)
        self.reading.follow(comparison)
        self._bind_key()

    def _leave_planes_without_slices(self, comparison: Comparison) -> None:
        """Offer orthogonal planes of volumes only."""
        suit = self.view.planes.suit(comparison)
        place = self.modes.findText(ORTHOGONAL)
        self.modes.model().item(place).setEnabled(suit)
        if not suit and self.modes.currentIndex() == place:
            self.modes.setCurrentText(SIDE_BY_SIDE)

    def _read_beside(self, event: Any = None) -> None:
        """Tell the fourth cell's values in the line under the cursor, too."""
        layer, watch = self.view.beside, self.reading.watch
        watch.others.clear()
        if layer is not None and self._beside_name:
            watch.others[self._beside_name] = layer.data[None] if layer.ndim == 2 else layer.data
        watch.look_again()

    def _on_mode(self, mode: str) -> None:
        if self.comparison is not None and mode != self.view.mode:
            self.view.show(self.comparison, mode)
        self.curtain.show_for(self.view.mode)

    def _on_strength(self) -> None:
        self.percent.setText(f"{self.strength.value()} %")
        # Not once more while it waits: whoever moves the slider all the time would see nothing.
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
        """What changes the room for the pictures, or their shape."""
        dims = self._viewer.dims.events
        return self._viewer.canvas.events.size, dims.order, dims.ndisplay

    def _on_reshaped(self, event: Any = None) -> None:
        if self.view.mode != OWN_VIEW:
            self._settled.start()

    def _on_removed(self, event: Any) -> None:
        if self.comparison is not None and event.value in self.comparison.layers:
            # Not now: napari is still taking the layer apart, and another view in the midst of it crashes the drawing.
            self._tidy.start(0)

    def _forget_what_is_gone(self) -> None:
        """Give back the person's own view if input or restored layer are no longer there to compare."""
        comparison = self.comparison
        if comparison is None or {comparison.input, comparison.restored} <= set(self._viewer.layers):
            return
        self.view.leave()
        self.comparison = None
        self.difference.follow(None)
        self.reading.follow(None)
        self._unbind_key()
        self.setEnabled(False)

    def _on_saving(self, news: News) -> None:
        self.said.emit(f"Saving: {words_of(news.progress)} ...")

    def _on_saved(self, path: Path) -> None:
        self.said.emit(f"Saved as {path}")

    def _bind_key(self) -> None:
        """Let B blink while there is something to blink, unless B means something to the viewer already."""
        self._keys.unbind()
        self._keys.bind()
        key = coerce_keybinding(BLINK_KEY)
        if self._bound or key in self._viewer.keymap or key in self._viewer.class_keymap:
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

    # Where the layer lies now, wherever it was moved to since it was restored.
    scan = at_place_of(comparison.result.as_scan(comparison.blend), comparison.restored)
    if isinstance(scan.voxels, np.ndarray):
        write_scan(scan, path)
    else:
        yield from export_scan(scan, path)
    return path
