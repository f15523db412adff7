"""Which frequencies of an MR slice were measured and which were added: as text, and as a picture in the fourth cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils import Colormap
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from ...reliability.measured_part import in_words, measured_part
from ..background import Background
from ..form_parts import hint
from .slice_map import map_layer

if TYPE_CHECKING:
    from ...reliability.measured_part import MeasuredPart
    from .comparison import Comparison
    from .shown_slice import ShownSlice

NAME = "k-space: measured (grey), added (orange)"
# Values are negative where nothing was measured.
COLOURS = Colormap([[1.0, 0.75, 0.2], [0.45, 0.2, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], controls=[0, 0.3, 0.5, 1])


class KSpaceTab(QWidget):
    """A sentence about the displayed slice, and a button for the picture.

    Signals
    -------
    mapped(layer)
        A layer with the picture, for the cell beside the result; not in the viewer yet.
    """

    mapped = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.comparison: Comparison | None = None
        self.found: MeasuredPart | None = None
        self._shown: ShownSlice | None = None
        self.about = hint()
        self.about.setAccessibleName("What was measured, and what was added")
        self.show_button = QPushButton("Show k-space beside")
        self.show_button.setToolTip(
            "The frequencies of the restored slice, 0 in the middle: measured ones in grey, added ones in orange"
        )
        self.show_button.clicked.connect(self._show)
        rows = QVBoxLayout(self)
        rows.addWidget(self.about)
        rows.addWidget(self.show_button)
        rows.addStretch()
        self._background = Background(self)
        self._background.answered.connect(self._on_found)
        self.look_at(None)

    def look_at(self, shown: ShownSlice | None) -> None:
        """Examine a slice, if it is MR."""
        self._shown, self.found = shown, None
        self._background.forget()
        self.show_button.setEnabled(False)
        self.about.setText("Scroll to a restored slice of an MR scan.")
        if shown is not None and shown.modality == "MR":
            self._background.ask(lambda: (shown, measured_part(*shown.finite_pair())))

    def let_go(self) -> None:
        """There is nothing to stop: a running computation ends by itself."""

    def _on_found(self, answer: tuple[ShownSlice, MeasuredPart]) -> None:
        shown, part = answer
        if shown is self._shown:
            self.found = part
            self.about.setText(in_words(part))
            self.show_button.setEnabled(True)

    def _show(self) -> None:
        comparison, shown, part = self.comparison, self._shown, self.found
        if comparison is not None and shown is not None and part is not None:
            layer = map_layer(comparison, shown, part.picture, NAME, "k-space", COLOURS, (-1.0, 1.0))
            layer.colorbar.visible = False
            self.mapped.emit(layer)
