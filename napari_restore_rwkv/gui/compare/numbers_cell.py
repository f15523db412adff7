"""Figures and the chosen plot of the displayed slice, in a cell beside the pictures."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image
from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtCore import QObject, Qt
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QVBoxLayout, QWidget

from ..form_parts import rich_label
from ..layer_geometry import spatial_transforms
from ..layers import RECORD
from .plot import PairPlot

if TYPE_CHECKING:
    from .comparison import Comparison
    from .measure_tab import MeasureTab

ROLE = "numbers"
# The longer side of the page as laid out, and the factor by which it is painted larger, for zooming in.
SIDE_PX, FINENESS = 300, 2
# The fraction of its height for the figures; the plot is below them.
MOST_FOR_FIGURES = 0.55
FONT_PX, MARGIN_PX = 11, 6
NOTHING_YET = "Scroll to a restored slice."


class NumbersCell(QObject):
    """Paints the content of the Measure tab into a layer whenever it changes.

    Attributes
    ----------
    layer
        The cell's layer; None while it is not shown.
    """

    def __init__(self, measure: MeasureTab) -> None:
        super().__init__()
        self.layer: Image | None = None
        self._measure = measure
        self._comparison: Comparison | None = None
        measure.drawn.connect(self.refresh)

    def begin(self, comparison: Comparison) -> Image:
        """Return a layer for the cell, as large as the slices of a comparison."""
        self._comparison = comparison
        restored, axis = comparison.restored, comparison.result.axis
        page = self._paint()
        placed = spatial_transforms(restored)
        flat = restored.ndim == 2
        in_plane = (0, 1) if flat else tuple(at for at in range(3) if at != axis)
        scale, translate = np.array(placed["scale"], float), np.array(placed["translate"], float)
        for at, pixels in zip(in_plane, page.shape[:2], strict=True):
            share = restored.data.shape[at] / pixels
            # Its border coincides with that of the slice; voxel centres are at whole numbers.
            translate[at] += scale[at] * (share - 1) / 2
            scale[at] *= share
        self.layer = Image(
            self._for_all_slices(page),
            name=f"{comparison.input.name} [numbers]",
            rgb=True,
            # Thin lines would vanish where the screen has fewer pixels than the page.
            interpolation2d="linear",
            metadata={RECORD: {"role": ROLE}},
            **{**placed, "scale": scale, "translate": translate},
        )
        return self.layer

    def end(self) -> None:
        """Stop painting."""
        self.layer = self._comparison = None

    def refresh(self) -> None:
        """Paint the current figures and plot."""
        if self.layer is not None:
            self.layer.data = self._for_all_slices(self._paint())

    def let_go(self) -> None:
        """There is nothing to stop."""

    def _for_all_slices(self, page: np.ndarray) -> np.ndarray:
        """Return the page repeated for each slice, without copies."""
        assert self._comparison is not None
        result, flat = self._comparison.result, self._comparison.restored.ndim == 2
        whole = page if flat else np.expand_dims(page, result.axis)
        shape = list(whole.shape)
        if not flat:
            shape[result.axis] = result.slices
        return np.broadcast_to(whole, shape)

    def _paint(self) -> np.ndarray:
        """Return the page, shape (rows, columns, 3), uint8, in the shape of a slice."""
        assert self._comparison is not None
        scan, axis = self._comparison.result.scan, self._comparison.result.axis
        height, width = (scan.shape[at] * scan.spacing_mm[at] for at in range(3) if at != axis)
        share = SIDE_PX / max(height, width)
        page = _Page(self._measure, max(round(width * share), 1), max(round(height * share), 1))
        image = QImage(FINENESS * page.width(), FINENESS * page.height(), QImage.Format.Format_RGB888)
        image.setDevicePixelRatio(FINENESS)
        page.render(image)
        page.deleteLater()
        bits = image.constBits()
        bits.setsize(image.sizeInBytes())
        rows = np.frombuffer(bits, np.uint8).reshape(image.height(), image.bytesPerLine())
        return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


class _Page(QWidget):
    """Figures above the plot, in the colours of the theme; never shown, only painted."""

    def __init__(self, measure: MeasureTab, width: int, height: int) -> None:
        super().__init__()
        self.setAttribute(Qt.WidgetAttribute.WA_DontShowOnScreen)
        theme = get_theme(get_settings().appearance.theme)
        self.setStyleSheet(
            f"background: {theme.canvas.as_hex()}; color: {theme.text.as_hex()}; font-size: {FONT_PX}px;"
        )
        self.resize(width, height)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(*(MARGIN_PX,) * 4)
        self._figures = rich_label()
        self._figures.setWordWrap(True)
        rows.addWidget(self._figures)
        self._fill(measure.rows(), width - 2 * MARGIN_PX, MOST_FOR_FIGURES * height)
        if measure.plot.curves:
            plot = PairPlot("Curves of input and restored")
            plot.show_same(measure.plot)
            rows.addWidget(plot, 1)
        else:
            rows.addStretch(1)
        rows.activate()

    def _fill(self, known: list[list[str]], width: int, height: float) -> None:
        """Show the first figures, as many as there is room for, but at least one."""
        if len(known) < 2:
            self._figures.setText(NOTHING_YET)
            return
        for count in range(len(known), 1, -1):
            self._figures.setText(_table(known[:count]))
            self._figures.ensurePolished()
            if self._figures.heightForWidth(width) <= height:
                return


def _table(rows: list[list[str]]) -> str:
    cells = ("".join(f"<td>{html.escape(text)}&nbsp;&nbsp;</td>" for text in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
