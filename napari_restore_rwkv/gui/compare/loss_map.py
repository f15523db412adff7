"""What would be lost here: faint probes in the person's own slice, and how much of them survives."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QFormLayout, QListWidget, QProgressBar, QPushButton, QWidget

from ...reliability.contrast_map import Probe, passes_needed
from ...scans.lazy import LazyVoxels
from ..form_parts import beside, hint
from ..layer_geometry import spatial_transforms
from ..layers import RECORD
from ..restore.comparison import COLORBAR
from ..restore.run import duration, sentence_of
from ..worker import StepsWorker
from .loss_steps import loss_steps

if TYPE_CHECKING:
    from ...reliability.contrast_map import ContrastMap
    from ..mailbox import News
    from ..options import RestoreOptions
    from ..restore.comparison import Comparison
    from .shown_slice import ShownSlice

# Contrast in the unit of the scan and diameter in mm of the first probe: a faint lesion of the modality.
PROBES = {"HU": (5.0, 8.0), "SUV": (1.0, 12.0)}
# Of the range of the displayed values, where the unit is arbitrary.
FAINT = 0.03
MAP_COLOURS = "magma"
WAIT_AT_CLOSING_S = 2.0


class LossMap(QWidget):
    """Probe, estimate, Map, Cancel; then the median and the worst places.

    Signals
    -------
    mapped(layer)
        A layer with the map, for the cell beside the result; not in the viewer yet.
    place_chosen(row, column)
        The person wants to see a place of the slice.
    """

    mapped = Signal(object)
    place_chosen = Signal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.comparison: Comparison | None = None
        self._options: RestoreOptions | None = None
        self._shown: ShownSlice | None = None
        self._worker: StepsWorker | None = None
        self._begun = 0.0
        self._found: tuple[tuple[int, int, float], ...] = ()
        # The slice that the words and places are about; None where they are an estimate.
        self._told_of: int | None = None
        self._build()
        self._allow()

    def follow(self, comparison: Comparison | None, options: RestoreOptions | None) -> None:
        """Map slices of another result, made with these choices."""
        other = comparison is not None and (self.comparison is None or comparison.input is not self.comparison.input)
        self.comparison, self._options = comparison, options
        if comparison is not None and other:
            self._propose(comparison)
            self._told_of = None
        self._allow()
        self._tell_estimate()

    def look_at(self, shown: ShownSlice | None) -> None:
        """Take the slice that is displayed now."""
        self._shown = shown
        self._allow()
        self._tell_estimate()

    def start(self) -> None:
        """Map the displayed slice, off the GUI thread."""
        comparison, shown, options = self.comparison, self._shown, self._options
        if comparison is None or shown is None or options is None or self._worker is not None:
            return
        probe = Probe(self.contrast.value(), self.diameter.value())
        steps = loss_steps(options, comparison.result, shown.index, comparison.strength, probe)
        self._worker = worker = StepsWorker(steps)
        worker.progressed.connect(self._on_progress)
        worker.returned.connect(lambda found: self._on_mapped(comparison, shown, probe, found))
        worker.errored.connect(lambda error: self.about.setText(sentence_of(error)))
        worker.finished.connect(self._on_finished)
        self._begun, self._told_of = time.monotonic(), shown.index
        self.bar.setRange(0, passes_needed())
        self.bar.setValue(0)
        self.places.clear()
        self.about.setText("probing the slice ...")
        self._allow()
        worker.start()

    def cancel(self) -> None:
        """Stop after the pass under way."""
        if self._worker is not None:
            self.about.setText("stopping ...")
            self._worker.quit()

    def let_go(self) -> None:
        """Stop what runs. Touches nothing of Qt, which may be gone already."""
        if self._worker is not None:
            self._worker.join(WAIT_AT_CLOSING_S)

    def _build(self) -> None:
        self.contrast, self.diameter = _number(0.01, 1e6), _number(0.1, 500.0)
        self.contrast.setToolTip("How much brighter and darker than its surroundings a probe is")
        self.contrast.setAccessibleName("Contrast of the probe")
        self.diameter.setToolTip("Diameter of a probe in mm; at least 1.5 pixels")
        self.diameter.setAccessibleName("Diameter of the probe")
        self.diameter.setSuffix(" mm")
        self.go, self.stop = QPushButton("Map this slice"), QPushButton("Cancel")
        self.go.setToolTip("Put faint discs all over this slice, restore it with them, and map what is left of them")
        self.stop.setToolTip("Stop after the pass under way")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.about = hint()
        self.about.setAccessibleName("What would be lost in this slice")
        self.places = QListWidget()
        self.places.setToolTip("Where least is left; choose one to see it")
        self.places.setAccessibleName("Places where least is left")
        self.places.currentRowChanged.connect(self._on_place)
        self.go.clicked.connect(self.start)
        self.stop.clicked.connect(self.cancel)
        rows = QFormLayout(self)
        rows.addRow("Contrast", self.contrast)
        rows.addRow("Diameter", self.diameter)
        rows.addRow(beside(self.go, self.stop, stretch=(2, 1)))
        rows.addRow(self.bar)
        rows.addRow(self.about)
        rows.addRow(self.places)

    def _propose(self, comparison: Comparison) -> None:
        scan = comparison.result.scan
        low, high = comparison.input.contrast_limits
        contrast, diameter = PROBES.get(scan.unit, (float(f"{FAINT * (high - low):.1g}"), 8.0))
        self.contrast.setSuffix(f" {scan.unit}".rstrip())
        self.contrast.setValue(contrast)
        self.diameter.setValue(diameter)
        self.places.clear()

    def _allow(self) -> None:
        running = self._worker is not None
        self.go.setEnabled(not running and self._shown is not None and self._options is not None)
        self.stop.setEnabled(running)
        self.bar.setVisible(running)

    def _tell_estimate(self) -> None:
        """Tell what a map of the displayed slice takes, unless something is told of that slice already."""
        index = None if self._shown is None else self._shown.index
        if self._worker is None and (index is None or index != self._told_of):
            self._told_of = None
            self.places.clear()
            self.about.setText(self._estimate())

    def _estimate(self) -> str:
        if self.comparison is None:
            return "Restore a scan first."
        if self._shown is None:
            return "Scroll to a restored slice, shown along the axis in which it was restored."
        count, seconds = passes_needed(), self.comparison.result.seconds_per_slice
        lasts = f", about {duration(count * seconds)}" if seconds is not None else ""
        return f"The slice is restored {count} times{lasts}."

    def _on_progress(self, news: News) -> None:
        done, total = news.progress.done, news.progress.total
        self.bar.setValue(done)
        if done and self._worker is not None and not self._worker.abort_requested:
            left = (time.monotonic() - self._begun) / done * (total - done)
            self.about.setText(f"pass {done} of {total} · {duration(left)} left")

    def _on_mapped(self, comparison: Comparison, shown: ShownSlice, probe: Probe, found: ContrastMap) -> None:
        name = f"{probe.contrast:g} {shown.unit}".rstrip() + f", {probe.diameter_mm:g} mm"
        self.about.setText(
            f"Slice {shown.index}: of a disc of {name}, {found.median:.0%} of the contrast is left (median)."
        )
        self._found = found.worst
        for row, column, share in found.worst:
            self.places.addItem(f"{share:.0%} at row {row}, column {column}")
        self.mapped.emit(map_layer(comparison, shown, found, f"left of {name}"))

    def _on_finished(self) -> None:
        if self._worker is not None and self._worker.abort_requested:
            self.about.setText("Cancelled.")
        self._worker = None
        self._allow()

    def _on_place(self, at: int) -> None:
        if at >= 0:
            row, column, _ = self._found[at]
            self.place_chosen.emit(row, column)


def map_layer(comparison: Comparison, shown: ShownSlice, found: ContrastMap, name: str) -> Image:
    """Return the map as a layer on the grid of the scan, empty but for the slice that was probed."""
    result, restored = comparison.result, comparison.restored
    plane = np.expand_dims(found.kept, shown.axis)

    def read(box: Any) -> np.ndarray:
        values = np.full([along.stop - along.start for along in box], np.nan, np.float32)
        along = box[shown.axis]
        if along.start <= shown.index < along.stop:
            here, there = list(box), [slice(None)] * 3
            here[shown.axis] = slice(0, 1)
            there[shown.axis] = slice(shown.index - along.start, shown.index - along.start + 1)
            values[tuple(there)] = plane[tuple(here)]
        return values

    voxels = LazyVoxels(result.scan.shape, np.float32, read)
    layer = Image(
        voxels[0] if restored.ndim == 2 else voxels,
        name=name,
        colormap=MAP_COLOURS,
        contrast_limits=(0.0, 1.0),
        metadata={RECORD: {"role": "contrast kept"}},
        **spatial_transforms(restored),
    )
    layer.colorbar.update({**COLORBAR, "visible": True})
    return layer


def _number(low: float, high: float) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setDecimals(2)
    return box
