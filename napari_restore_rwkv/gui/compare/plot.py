"""A plot of input and restored, drawn by pyqtgraph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyqtgraph
from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

BELOW_LABELS = 7
# Distinguishable without seeing red or green, on dark and on light.
COLOURS = {"input": "#e69f00", "restored": "#56b4e9", "reference": "#009e73", "": "#cc79a7"}


class PairPlot(QWidget):
    """Curves of input and restored over one axis.

    Signals
    -------
    clicked(x)
        The user clicked at this position on the axis.
    """

    clicked = Signal(float)

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.curves: dict[str, tuple[Any, Any]] = {}
        self._dots, self._labels = False, ("", "")
        self._plot = pyqtgraph.PlotWidget()
        self._plot.setAccessibleName(name)
        self._plot.setMinimumHeight(160)
        self._plot.setMouseEnabled(x=False, y=False)
        self._plot.hideButtons()
        self._plot.setMenuEnabled(False)
        # Descenders would be cut off.
        self._plot.getPlotItem().layout.setContentsMargins(1, 1, 1, BELOW_LABELS)
        self._legend = self._plot.addLegend(offset=(-5, 5))
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(self._plot)
        self._plot.scene().sigMouseClicked.connect(self._on_clicked)
        self._colour()

    def show_curves(
        self,
        x_label: str,
        y_label: str,
        curves: Mapping[str, tuple[Sequence[float] | np.ndarray, Any]],
        dots: bool = False,
    ) -> None:
        """Show curves by name, each with its positions and values."""
        self._colour()
        self.curves, self._labels, self._dots = dict(curves), (x_label, y_label), dots
        self._plot.clear()
        for name, (x, y) in curves.items():
            colour = COLOURS.get(name, COLOURS[""])
            symbol = {"symbol": "o", "symbolSize": 5, "symbolBrush": colour, "symbolPen": None} if dots else {}
            self._plot.plot(list(x), list(y), name=name, pen=pyqtgraph.mkPen(colour, width=2), **symbol)
        for side, label in (("bottom", x_label), ("left", y_label)):
            self._plot.setLabel(side, label)
            # Numbers along nothing would be read as figures.
            self._plot.showAxis(side, bool(curves))

    def show_same(self, other: PairPlot) -> None:
        """Show the same as another plot, for a page of any size."""
        self._plot.setMinimumHeight(0)
        self.show_curves(*other._labels, other.curves, other._dots)

    def clear(self) -> None:
        """Show nothing."""
        self.show_curves("", "", {})

    def _colour(self) -> None:
        theme = get_theme(get_settings().appearance.theme)
        self._plot.setBackground(theme.background.as_hex())
        for side in ("bottom", "left"):
            axis = self._plot.getAxis(side)
            axis.setPen(theme.text.as_hex())
            axis.setTextPen(theme.text.as_hex())
        self._legend.setLabelTextColor(theme.text.as_hex())

    def _on_clicked(self, event: Any) -> None:
        self.clicked.emit(float(self._plot.getPlotItem().vb.mapSceneToView(event.scenePos()).x()))
