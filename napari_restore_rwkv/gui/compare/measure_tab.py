"""A table of figures of the displayed slice, and curves: against a reference, in drawn regions, along a drawn line."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from ...errors import OutputError
from ...reliability.report import CT_WINDOW_HU
from ...storage.durable import write_output
from ..background import Background
from ..form_parts import beside, hint
from ..layer_choice import LayerChoice
from .comparison import is_result
from .cursor_values import in_words
from .drawing import drawing_of, line_of, regions_of
from .figures import HISTOGRAM, OVER_SLICES, PROFILE, REFERENCE, SPECTRUM, Curves, Measured, measure
from .plot import PairPlot
from .volume_rows import VolumeButton

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from ...reliability.numbers import Figure
    from .shown_slice import ShownSlice, SliceWatch

NO_REFERENCE = "none"
TABLE_HEIGHT, PLOT_HEIGHT = 180, 220
COLUMNS = ("input", "restored", "classical")
ADVICE = {
    PROFILE: "Draw a line to see both curves along it.",
    SPECTRUM: "Draw a region of 8 x 8 pixels or more in flat tissue.",
    HISTOGRAM: "",
    OVER_SLICES: "Press Whole volume, then choose one of its rows.",
}


class MeasureTab(QWidget):
    """Reference, table, plot.

    Signals
    -------
    drawing_wanted()
        The user wants to draw regions or a line.
    slice_chosen(index), place_chosen(row, column)
        The user wants to see a slice, or a position in the displayed one.
    failed(error)
        A table could not be written.
    drawn()
        The table or the plot has changed.
    """

    drawing_wanted = Signal()
    slice_chosen = Signal(int)
    place_chosen = Signal(int, int)
    failed = Signal(object)
    drawn = Signal()

    def __init__(self, viewer: ViewerModel, watch: SliceWatch, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.measured: Measured | None = None
        self._viewer, self._watch = viewer, watch
        self.about = hint()
        self._drawing: Any = None
        self._asked: object = None
        self._build()
        self._background = Background(self)
        self._background.answered.connect(self._on_measured)
        self._background.failed.connect(lambda error: self.about.setText(f"This slice could not be measured: {error}"))
        watch.arrived.connect(self.look_at)

    def look_at(self, shown: ShownSlice | None) -> None:
        """Measure a slice; None clears the table."""
        self._background.forget()
        self._asked = shown
        self.volume.look_at(self._watch.comparison, self._watch.others.get(REFERENCE))
        if shown is None or self._watch.comparison is None:
            self.measured = None
            self._fill()
            return
        self._follow_drawing()
        drawing = self._drawing
        regions = regions_of(drawing, shown) if drawing is not None else []
        line = line_of(drawing, shown) if drawing is not None else None
        window = CT_WINDOW_HU if shown.modality == "CT" else None
        self._background.ask(lambda: (shown, measure(shown, regions, line, window)))

    def save_table(self, path: Path) -> None:
        """Write the table as CSV, with all digits."""
        shown, measured = self._watch.shown, self.measured
        if shown is None or measured is None:
            return
        classical = self._classical()
        text = io.StringIO(newline="")
        rows = csv.writer(text)
        rows.writerow(["slice", "figure", "unit", *COLUMNS[: 3 if measured.classical else 2]])
        rows.writerows(
            [shown.index, no_formula(one.name), no_formula(one.unit), one.before, one.after, *classical[row : row + 1]]
            for row, one in enumerate(measured.figures)
        )
        self._write_volume(rows)
        try:
            write_output(path, text.getvalue().encode())
        except OutputError as error:
            self.failed.emit(error)

    def rows(self) -> list[list[str]]:
        """Return the text of the table: the names of the columns, then each figure with its values."""
        columns = range(self.table.columnCount())
        header = [item.text() if (item := self.table.horizontalHeaderItem(at)) is not None else "" for at in columns]
        figures = [
            [item.text() if (item := self.table.item(row, at)) is not None else "" for at in columns]
            for row in range(self.table.rowCount())
        ]
        return [header, *figures]

    def let_go(self) -> None:
        """Stop following the viewer and running work, without touching Qt objects, which may already be deleted."""
        self.reference.let_go()
        self.volume.let_go()
        self._listen_to(None)

    def _build(self) -> None:
        self.reference = LayerChoice(
            self._viewer,
            self._could_be_reference,
            nothing=NO_REFERENCE,
            tooltip="A scan without noise, on the same grid, to compare input and result with",
        )
        self.reference.native.setAccessibleName("Reference scan")
        self.reference.changed.connect(self._on_reference)
        self.draw = QPushButton("Draw ...")
        self.draw.setToolTip(
            "Draw regions (mean, standard deviation, contrast of the first two, spectrum of the first) or a line "
            "(profile, width of an edge) on the scan"
        )
        self.draw.setAccessibleName("Draw regions or a line")
        self.draw.clicked.connect(self.drawing_wanted)
        self.save = QPushButton("CSV ...")
        self.save.setToolTip("Write this table to a file")
        self.save.setAccessibleName("Save the table")
        self.save.clicked.connect(self._ask_where)
        self.volume = VolumeButton()
        self.volume.measured.connect(self._fill)
        self.volume.failed.connect(lambda error: self.about.setText(f"The volume could not be measured: {error}"))
        self.table = QTableWidget(0, 3)
        self.table.setToolTip("Click the row of a region to go there, that of a volume figure to go to its worst slice")
        self.table.setAccessibleName("Figures of the displayed slice")
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().hide()
        self.table.currentCellChanged.connect(self._on_row)
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.setMinimumHeight(TABLE_HEIGHT)
        # As high as the name needs, which contains range and window.
        self.table.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.setWordWrap(True)
        self.kind = QComboBox()
        self.kind.addItems([PROFILE, HISTOGRAM, SPECTRUM, OVER_SLICES])
        self.kind.setCurrentText(HISTOGRAM)
        self.kind.setToolTip("The curve drawn below")
        self.kind.setAccessibleName("Kind of plot")
        self.kind.currentTextChanged.connect(self._draw)
        self.plot = PairPlot("Curves of input and restored")
        self.plot.setMaximumHeight(PLOT_HEIGHT)
        self.plot.clicked.connect(self._on_clicked)
        rows = QFormLayout(self)
        rows.addRow("Reference", self.reference.native)
        rows.addRow(beside(self.draw, self.volume, self.save))
        rows.addRow(self.table)
        self.beside = QPushButton("Beside")
        self.beside.setCheckable(True)
        self.beside.setToolTip("Show these figures and this plot in a fourth cell, beside the pictures")
        self.beside.setAccessibleName("Show figures and plot beside the result")
        rows.addRow("Plot", beside(self.kind, self.beside, stretch=(2, 1)))
        rows.addRow(self.about)
        rows.addRow(self.plot)

    def _could_be_reference(self, layer: Layer) -> bool:
        comparison = self._watch.comparison
        if comparison is None or not isinstance(layer, Image) or is_result(layer) or layer is comparison.input:
            return False
        shape = comparison.result.scan.shape
        return tuple(layer.data.shape) in (shape, shape[1:] if shape[0] == 1 else shape)

    def _on_reference(self) -> None:
        layer = self.reference.value
        self._watch.others.pop(REFERENCE, None)
        if layer is not None:
            self._watch.others[REFERENCE] = layer.data[None] if layer.ndim == 2 else layer.data
        self._watch.look_again()

    def _follow_drawing(self) -> None:
        comparison = self._watch.comparison
        drawing = None if comparison is None else drawing_of(self._viewer, comparison)
        if drawing is not self._drawing:
            self._listen_to(drawing)

    def _listen_to(self, drawing: Any) -> None:
        for layer, switch in ((self._drawing, "disconnect"), (drawing, "connect")):
            if layer is not None:
                for event in (layer.events.set_data, layer.events.data):
                    getattr(event, switch)(self._on_drawn)
        self._drawing = drawing

    def _on_drawn(self, event: Any = None) -> None:
        self.look_at(self._watch.shown)

    def _on_measured(self, answer: tuple[ShownSlice, Measured]) -> None:
        shown, measured = answer
        if shown is not self._asked:
            return
        self.measured = measured
        self._fill()

    def _fill(self) -> None:
        """Show the figures of the slice and those of the volume."""
        figures, classical, columns = self._figures(), self._classical(), 4 if self._classical() else 3
        chosen = self.table.currentRow()
        self.table.blockSignals(True)
        self.table.setRowCount(len(figures))
        self.table.setColumnCount(columns)
        self.table.setHorizontalHeaderLabels(["", *COLUMNS[: columns - 1]])
        for row, one in enumerate(figures):
            values = (one.before, one.after, *classical[row : row + 1])
            texts = [one.name, *(_cell(value, one.unit) for value in values)]
            for column, text in enumerate(texts + [""] * (columns - len(texts))):
                self.table.setItem(row, column, QTableWidgetItem(text))
        if chosen < len(figures):
            self.table.setCurrentCell(chosen, 0)
        self.table.blockSignals(False)
        self._draw()

    def _figures(self) -> list[Figure]:
        slice_, volume = self.measured, self.volume.found
        return [*([] if slice_ is None else slice_.figures), *([] if volume is None else volume.figures())]

    def _classical(self) -> list[float]:
        return [] if self.measured is None else self.measured.classical

    def _volume_row(self, row: int) -> int | None:
        """Return the index of the volume figure in a row; None for a figure of the slice."""
        number = row - (0 if self.measured is None else len(self.measured.figures))
        return number if self.volume.found is not None and number >= 0 else None

    def _on_row(self, row: int, *_: int) -> None:
        if row < 0:
            return
        number, place = self._volume_row(row), self._figures()[row].place
        if number is not None and self.volume.found is not None:
            self.kind.setCurrentText(OVER_SLICES)
            self._draw()
            self.slice_chosen.emit(self.volume.found.worst(number))
        elif place is not None:
            self.place_chosen.emit(round(place[0]), round(place[1]))

    def _on_clicked(self, x: float) -> None:
        if self.volume.found is not None and self.kind.currentText() == OVER_SLICES:
            self.slice_chosen.emit(min(self.volume.found.indices, key=lambda index: abs(index - x)))

    def _draw(self, kind: str = "") -> None:
        chosen = self.kind.currentText()
        curves = self._over_slices() if chosen == OVER_SLICES else None
        if self.measured is not None:
            curves = curves or self.measured.plots.get(chosen)
        self.about.setText("" if curves is not None else ADVICE[chosen])
        if curves is None:
            self.plot.clear()
        else:
            self.plot.show_curves(curves.x_label, curves.y_label, curves.curves, dots=chosen == OVER_SLICES)
        self.drawn.emit()

    def _over_slices(self) -> Curves | None:
        volume = self.volume.found
        if volume is None:
            return None
        one = volume.series[self._volume_row(self.table.currentRow()) or 0]
        label = f"{one.measure} {one.unit}".rstrip()
        return Curves("slice", label, {"input": (volume.indices, one.before), "restored": (volume.indices, one.after)})

    def _write_volume(self, rows: Any) -> None:
        volume = self.volume.found
        if volume is None:
            return
        for one in volume.series:
            rows.writerows(
                [index, no_formula(one.name), no_formula(one.unit), before, after]
                for index, before, after in zip(volume.indices, one.before, one.after, strict=True)
            )

    def _ask_where(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Save the table", "figures.csv", "Table (*.csv)")
        if name:
            self.save_table(Path(name))


def _cell(value: float, unit: str) -> str:
    if math.isnan(value):
        return "-"
    if unit == "dB":
        return f"{value:.2f} dB"
    digits = f"{value:.4f}" if not unit and abs(value) < 10 else in_words(value)
    return f"{digits} {unit}".rstrip()


def no_formula(text: str) -> str:
    """Return text for a cell of CSV that no spreadsheet takes for a formula; units come from the scan's file."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
