"""A map of the displayed slice that takes several passes of the network; it can be cancelled, and is shown beside."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QListWidget, QProgressBar, QPushButton, QWidget

from ...scans.lazy import LazyVoxels
from ..form_parts import beside, hint
from ..layer_geometry import spatial_transforms
from ..layers import RECORD
from ..wording import duration, sentence_of
from ..worker import StepsWorker
from .comparison import COLORBAR

if TYPE_CHECKING:
    from collections.abc import Generator

    from ...progress import Progress
    from ..mailbox import News
    from ..options import RestoreOptions
    from .comparison import Comparison
    from .shown_slice import ShownSlice

WAIT_AT_CLOSING_S = 2.0


class SliceMap(QWidget):
    """Estimate, Map, Cancel; then a text and the positions to look at. Subclasses define what is mapped.

    Signals
    -------
    mapped(layer)
        A layer with the map, for the cell beside the result; not in the viewer yet.
    replayable(lines)
        Lines of Python that repeat the map.
    place_chosen(row, column)
        The user wants to see a position in the slice.

    Attributes
    ----------
    tip, about_name, places_tip
        Texts of the controls.
    """

    mapped = Signal(object)
    replayable = Signal(str)
    place_chosen = Signal(int, int)
    tip = about_name = places_tip = ""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.comparison: Comparison | None = None
        self._options: RestoreOptions | None = None
        self._shown: ShownSlice | None = None
        self._worker: StepsWorker | None = None
        self._begun = 0.0
        self._found: tuple[tuple[int, int, float], ...] = ()
        # The slice that text and positions describe; None if the text is an estimate.
        self._described: int | None = None
        self._rows = QFormLayout(self)
        self._build()
        self._allow()

    def follow(self, comparison: Comparison | None, options: RestoreOptions | None) -> None:
        """Map slices of another result, made with these options."""
        other = comparison is not None and (self.comparison is None or comparison.input is not self.comparison.input)
        self.comparison, self._options = comparison, options
        if comparison is not None and other:
            self.propose(comparison)
            self.places.clear()
            self._described = None
        self._allow()
        self._show_estimate()

    def look_at(self, shown: ShownSlice | None) -> None:
        """Set the slice to map."""
        self._shown = shown
        self._allow()
        self._show_estimate()

    def start(self) -> None:
        """Map the displayed slice, off the GUI thread."""
        comparison, shown, options = self.comparison, self._shown, self._options
        if comparison is None or shown is None or options is None or self._worker is not None:
            return
        steps, finish = self.plan(comparison, shown, options)
        lines = self.as_python(comparison, shown, options)
        self._worker = worker = StepsWorker(steps)
        worker.progressed.connect(self._on_progress)
        worker.returned.connect(lambda found: self._on_mapped(shown, finish(found), lines))
        worker.errored.connect(lambda error: self.about.setText(sentence_of(error)))
        worker.finished.connect(self._on_finished)
        self._begun, self._described = time.monotonic(), shown.index
        self.bar.setRange(0, self.passes())
        self.bar.setValue(0)
        self.places.clear()
        self.about.setText("passing the slice through the network ...")
        self._allow()
        worker.start()

    def cancel(self) -> None:
        """Stop after the pass under way."""
        if self._worker is not None:
            self.about.setText("stopping ...")
            self._worker.quit()

    def let_go(self) -> None:
        """Stop running work, without touching Qt objects, which may already be deleted."""
        if self._worker is not None:
            self._worker.join(WAIT_AT_CLOSING_S)

    def passes(self) -> int:
        """Number of network passes for a map."""
        raise NotImplementedError

    def propose(self, comparison: Comparison) -> None:
        """Fill in defaults that suit another scan."""

    def plan(
        self, comparison: Comparison, shown: ShownSlice, options: RestoreOptions
    ) -> tuple[Generator[Progress, None, Any], Any]:
        """Return the steps, and a function that turns their result into text, positions and a layer.

        Positions are rows, columns and values; the layer comes from `map_layer`.
        """
        raise NotImplementedError

    def as_python(self, comparison: Comparison, shown: ShownSlice, options: RestoreOptions) -> str:
        """Return lines for napari's console that repeat the map."""
        raise NotImplementedError

    def place_in_words(self, row: int, column: int, value: float) -> str:
        """Return an entry of the list of positions."""
        raise NotImplementedError

    def _build(self) -> None:
        self.go, self.stop = QPushButton("Map this slice"), QPushButton("Cancel")
        self.go.setToolTip(self.tip)
        self.go.setAccessibleName("Map this slice")
        self.stop.setToolTip("Stop after the current pass")
        self.stop.setAccessibleName("Cancel the map")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.about = hint()
        self.about.setAccessibleName(self.about_name)
        self.places = QListWidget()
        self.places.setToolTip(f"{self.places_tip}; choose one to see it")
        self.places.setAccessibleName(self.places_tip)
        self.places.currentRowChanged.connect(self._on_place)
        self.go.clicked.connect(self.start)
        self.stop.clicked.connect(self.cancel)
        self._rows.addRow(beside(self.go, self.stop, stretch=(2, 1)))
        for widget in (self.bar, self.about, self.places):
            self._rows.addRow(widget)

    def _allow(self) -> None:
        running = self._worker is not None
        self.go.setEnabled(not running and self._shown is not None and self._options is not None)
        self.stop.setEnabled(running)
        self.bar.setVisible(running)

    def _show_estimate(self) -> None:
        """Show how long a map of the displayed slice takes, unless its map is described already."""
        index = None if self._shown is None else self._shown.index
        if self._worker is None and (index is None or index != self._described):
            self._described = None
            self.places.clear()
            self.about.setText(self._estimate())

    def _estimate(self) -> str:
        if self.comparison is None:
            return "Restore a scan first."
        if self._shown is None:
            return "Scroll to a restored slice, shown along the axis in which it was restored."
        count, seconds = self.passes(), self.comparison.result.seconds_per_slice
        lasts = f", about {duration(count * seconds)}" if seconds is not None else ""
        return f"The slice is restored {count} times{lasts}."

    def _on_progress(self, news: News) -> None:
        done, total = news.progress.done, news.progress.total
        self.bar.setValue(done)
        if done and self._worker is not None and not self._worker.abort_requested:
            left = (time.monotonic() - self._begun) / done * (total - done)
            self.about.setText(f"pass {done} of {total} · {duration(left)} left")

    def _on_mapped(
        self,
        shown: ShownSlice,
        found: tuple[str, tuple[tuple[int, int, float], ...], Image],
        lines: str,
    ) -> None:
        words, self._found, layer = found
        self.about.setText(f"Slice {shown.index}: {words}")
        for place in self._found:
            self.places.addItem(self.place_in_words(*place))
        self.replayable.emit(lines)
        self.mapped.emit(layer)

    def _on_finished(self) -> None:
        if self._worker is not None and self._worker.abort_requested:
            self.about.setText("Cancelled.")
        self._worker = None
        self._allow()

    def _on_place(self, at: int) -> None:
        if at >= 0:
            row, column, _ = self._found[at]
            self.place_chosen.emit(row, column)


def map_layer(
    comparison: Comparison,
    shown: ShownSlice,
    plane: np.ndarray,
    name: str,
    role: str,
    colours: Any,
    limits: tuple[float, float],
) -> Image:
    """Return a map (Y, X) of a slice as a layer on the grid of the scan, empty in all other slices."""
    result, restored = comparison.result, comparison.restored
    plane = np.expand_dims(plane, shown.axis)

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
        colormap=colours,
        contrast_limits=limits,
        metadata={RECORD: {"role": role}},
        **spatial_transforms(restored),
    )
    layer.colorbar.update({**COLORBAR, "visible": True})
    return layer
