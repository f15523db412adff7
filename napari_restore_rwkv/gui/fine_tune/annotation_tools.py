"""Annotations of a scan: the Labels layer, the legend with the coverage of each class, and shapes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QFormLayout,
    QGridLayout,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ...training.annotations import PALETTE, TRAIN
from ..form_parts import beside, plain_label
from ..layer_choice import LayerChoice
from .annotation_layers import annotation_layer, fill_shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel

    from ...training.annotations import Coverage

NO_ANNOTATIONS = "none"
KEY = "Alt-{}"


class AnnotationTools(QWidget):
    """The chosen Labels layer, its legend, and shapes that are filled into it.

    Signals
    -------
    changed()
        Another Labels layer is chosen, or something was marked in it.
    said(text)
        A message for the user.
    """

    changed = Signal()
    said = Signal(str)

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._scan: Image | None = None
        self._watched: Labels | None = None
        self._seen_at: tuple[float, ...] = ()
        self._build()
        self.layers.changed.connect(self._on_layer)
        self.new.clicked.connect(self.make_layer)
        self.fill.clicked.connect(self.fill_in)
        self.shapes.changed.connect(self._enable)
        self._on_layer()

    @property
    def layer(self) -> Labels | None:
        """The chosen Labels layer; None if there is none."""
        return self.layers.value

    @property
    def label(self) -> int:
        """The class that is chosen in the legend."""
        return self._buttons.checkedId()

    def set_scan(self, scan: Image | None) -> None:
        """Set the scan that is annotated."""
        self._scan = scan
        self._enable()

    def make_layer(self) -> None:
        """Add an empty Labels layer on the scan, ready to be painted in."""
        if self._scan is None:
            self.said.emit("Open a scan first, and choose it above.")
            return
        layer = annotation_layer(self._scan)
        for label in PALETTE:
            layer.bind_key(KEY.format(label), self._key_for(label))
        self._viewer.add_layer(layer)
        self.layers.choose(layer)
        self._viewer.layers.selection.active = layer
        layer.selected_label = TRAIN
        layer.mode = "paint"

    def choose(self, label: int) -> None:
        """Choose the class to paint with."""
        self._buttons.button(label).setChecked(True)
        if self.layer is not None:
            self.layer.selected_label = label
            self.layer.mode = "paint"
            self._viewer.layers.selection.active = self.layer

    def fill_in(self) -> None:
        """Mark the inside of the shapes of the chosen layer with the chosen class."""
        shapes = self.shapes.value
        if shapes is None or not len(shapes.data):
            self.said.emit("There are no shapes yet: add a Shapes layer, and draw on the scan.")
            return
        if self.layer is None:
            self.make_layer()
        if self.layer is None:
            return
        count, skipped = fill_shapes(shapes, self.layer, self.label)
        words = f"{count:,} pixels in shapes are marked {self.label}, {PALETTE[self.label].name}."
        if skipped:
            words += f" {skipped} of {len(shapes.data)} shapes lie in no slice of the scan and were left out."
        self.said.emit(words)
        self.changed.emit()

    def show_coverage(self, covered: Coverage | None) -> None:
        """Show how many slices and pixels each class covers."""
        for label, line in self._covers.items():
            pixels = covered.pixels[label] if covered else 0
            slices = covered.slices[label] if covered else 0
            line.setText(f"{slices} slice{'s' * (slices != 1)} · {pixels:,} px" if pixels else "-")

    def let_go(self) -> None:
        """Stop following the viewer, without touching Qt objects, which may already be deleted."""
        self._watch(None)
        for choice in (self.layers, self.shapes):
            choice.let_go()

    def _build(self) -> None:
        self.layers = LayerChoice(
            self._viewer,
            lambda layer: isinstance(layer, Labels),
            nothing=NO_ANNOTATIONS,
            tooltip="The Labels layer with the annotations of the scan",
        )
        self.new = QPushButton("New")
        self.new.setToolTip("Add a Labels layer on the scan, with the five classes")
        self.shapes = LayerChoice(
            self._viewer,
            lambda layer: isinstance(layer, Shapes),
            nothing="none",
            tooltip="Shapes to fill with the class chosen in the legend",
        )
        self.fill = QPushButton("Fill")
        self.fill.setToolTip("Mark the inside of the shapes with the class chosen in the legend")
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Annotations", beside(self.layers.native, self.new, stretch=(1, 0)))
        form.addRow("Shapes", beside(self.shapes.native, self.fill, stretch=(1, 0)))
        rows.addLayout(form)
        self.legend = QWidget()
        self._fill_legend()
        rows.addWidget(self.legend)

    def _fill_legend(self) -> None:
        grid = QGridLayout(self.legend)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        self._buttons = QButtonGroup(self)
        self._covers = {label: plain_label("-") for label in PALETTE}
        for row, (label, known) in enumerate(PALETTE.items()):
            button = QToolButton()
            button.setText(str(label))
            button.setCheckable(True)
            button.setChecked(label == TRAIN)
            button.setStyleSheet(_swatch(known.colour))
            button.clicked.connect(partial(self.choose, label))
            name = plain_label(known.name)
            key = plain_label(KEY.format(label).replace("-", "+"))
            key.setEnabled(False)
            self._buttons.addButton(button, label)
            for column, widget in enumerate((button, name, self._covers[label], key)):
                widget.setToolTip(f"{known.name}: {known.meaning} ({KEY.format(label).replace('-', '+')} to paint it)")
                grid.addWidget(widget, row, column)

    def _key_for(self, label: int) -> Callable[[Labels], None]:
        """Return the action of a key; a function, since napari reads `__name__` of every bound action."""

        def paint_with(layer: Labels) -> None:
            if layer is self.layer:
                self.choose(label)

        return paint_with

    def _on_layer(self) -> None:
        self._watch(self.layer)
        self._enable()
        self.changed.emit()

    def _enable(self) -> None:
        self.new.setEnabled(self._scan is not None)
        self.legend.setVisible(self.layer is not None)
        self.fill.setEnabled(self.shapes.value is not None and self._scan is not None)

    def _watch(self, layer: Labels | None) -> None:
        for old, switch in ((self._watched, "disconnect"), (layer, "connect")):
            if old is not None:
                for event in (old.events.data, old.events.paint, old.events.labels_update):
                    getattr(event, switch)(self._on_paint)
                getattr(old.events.set_data, switch)(self._on_refresh)
                getattr(old.events.selected_label, switch)(self._on_selected)
        self._watched = layer

    def _on_paint(self, event: Any = None) -> None:
        self.changed.emit()

    def _on_refresh(self, event: Any = None) -> None:
        """Notice an undo, which only redraws; scrolling redraws, too, but changes the position."""
        here = tuple(np.round(self._viewer.dims.point, 6))
        if here == self._seen_at:
            self.changed.emit()
        self._seen_at = here

    def _on_selected(self, event: Any = None) -> None:
        if self._watched is not None and self._watched.selected_label in PALETTE:
            self._buttons.button(self._watched.selected_label).setChecked(True)


def _swatch(colour: tuple[float, float, float]) -> str:
    red, green, blue = (round(255 * part) for part in colour)
    return (
        f"QToolButton {{ background: rgb({red}, {green}, {blue}); color: white; font-weight: bold; min-width: 18px; }}"
        "QToolButton:checked { border: 2px solid white; }"
    )
