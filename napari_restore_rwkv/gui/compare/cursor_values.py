"""The values under the cursor, of every cell at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QLabel, QWidget

from ..form_parts import keep_room

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari.components import ViewerModel

    from .shown_slice import ShownSlice, SliceWatch

FOLLOW_EVERY_MS = 40
NOWHERE = "Values: point at the picture"


def in_words(value: float) -> str:
    """Return a voxel's value with a useful number of digits: a whole number from 100 on, else three digits."""
    if not np.isfinite(value):
        return "none"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def values_at(shown: ShownSlice, row: int, column: int) -> str:
    """Return a line such as ``"input 41 · restored 52 · difference +11 HU"``; "" outside of the slice."""
    height, width = shown.input.shape
    if not (0 <= row < height and 0 <= column < width):
        return ""
    cells = {"input": shown.input, "restored": shown.restored, "difference": shown.difference, **shown.others}
    return in_one_line({name: float(image[row, column]) for name, image in cells.items()}, shown.unit)


def in_one_line(values: Mapping[str, float], unit: str) -> str:
    """Return the values of cells with their names, the difference with its sign."""
    parts = [
        f"{name} {'+' if name == 'difference' and value > 0 else ''}{in_words(value)}" for name, value in values.items()
    ]
    return f"{' · '.join(parts)} {unit}".rstrip()


class CursorValues(QLabel):
    """A line that follows the mouse over the canvas.

    Attributes
    ----------
    elsewhere
        Returns the values at a canvas position by the names of their cells if something other than the displayed slice
        is shown there; an empty dict if there is no voxel, None if the slice is shown.
    """

    def __init__(self, viewer: ViewerModel, watch: SliceWatch, parent: QWidget | None = None) -> None:
        super().__init__(NOWHERE, parent)
        # The unit comes from the file.
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setAccessibleName("Values under the cursor")
        self.setToolTip("The value of every cell at the mouse pointer, in the unit of the scan")
        self.setWordWrap(True)
        keep_room(self)
        self._viewer, self._watch = viewer, watch
        self.elsewhere: Callable[[Sequence[float]], Mapping[str, float] | None] = _nothing
        self._follow = QTimer(self)
        self._follow.setSingleShot(True)
        self._follow.setInterval(FOLLOW_EVERY_MS)
        self._follow.timeout.connect(self._show_values)
        viewer.cursor.events.position.connect(self._on_moved)
        watch.arrived.connect(self._show_values)

    def let_go(self) -> None:
        """Stop following the viewer, without touching Qt objects, which may already be deleted."""
        self._viewer.cursor.events.position.disconnect(self._on_moved)

    def _on_moved(self, event: Any = None) -> None:
        if not self._follow.isActive():
            self._follow.start()

    def _show_values(self, shown: Any = None) -> None:
        comparison = self._watch.comparison
        values = self.elsewhere(self._viewer.cursor.position)
        if values is not None and comparison is not None:
            self.setText(in_one_line(values, comparison.result.scan.unit) if values else NOWHERE)
            return
        place = self.place()
        words = values_at(self._watch.shown, *place) if place is not None and self._watch.shown is not None else ""
        self.setText(words or NOWHERE)

    def place(self) -> tuple[int, int] | None:
        """Return row and column under the cursor, possibly outside of the slice; None if no slice is shown."""
        comparison, shown = self._watch.comparison, self._watch.shown
        if comparison is None or shown is None:
            return None
        index = comparison.input.world_to_data(self._viewer.cursor.position)[-3:]
        plane = index if len(index) == 2 else np.delete(index, shown.axis)
        return int(np.floor(plane[0] + 0.5)), int(np.floor(plane[1] + 0.5))


def _nothing(place: Sequence[float]) -> None:
    """The displayed slice is shown."""
