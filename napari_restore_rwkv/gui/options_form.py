"""A form made from frozen dataclasses: a row for each field that says, in its annotation, how it is asked for.

Such a field is ``Annotated[type, {...}]``, with keywords of magicgui: label, tooltip, min, max, step, choices,
widget_type. Nothing else names the field, unless something depends on it: the widget is made, read and filled in from
there.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from magicgui.types import Undefined
from magicgui.widgets import ComboBox, RadioButtons, create_widget
from magicgui.widgets.bases import ButtonWidget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QWidget

from .form_parts import narrow
from .layer_choice import LayerChoice

if TYPE_CHECKING:
    from napari.components import ViewerModel


class OptionsForm(QWidget):
    """The rows for some dataclasses, in the order of their fields; ``form.steps`` is the widget for the field `steps`.

    The rows are Qt's own form, not magicgui's container, because labels there name their widgets for screen readers and
    lines without a label can stand between them.

    Signals
    -------
    changed()
        Something else was chosen.
    asked(text)
        The user wants to read this, or has to.

    Parameters
    ----------
    viewer
        Its layers are listed where a field is asked for with a `LayerChoice`.
    kinds
        The dataclasses. Their annotations must be there at run time.
    """

    changed = Signal()
    asked = Signal(str)

    def __init__(self, viewer: ViewerModel, *kinds: type, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._widgets: dict[str, Any] = {}
        self._left_out: set[str] = set()
        self._rows = QFormLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for kind in kinds:
            for name, widget in _widgets_for(kind, viewer).items():
                self._widgets[name] = widget
                # What a button does stands in the button.
                self._rows.addRow("" if isinstance(widget, ButtonWidget) else widget.label, widget.native)

    def __getattr__(self, name: str) -> Any:
        """Return the widget for a field."""
        try:
            return self.__dict__["_widgets"][name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no field {name}") from None

    def values(self, kind: type) -> dict[str, Any]:
        """Return what is filled in for the fields of a dataclass that there are rows for.

        A field whose row is hidden, or whose widget is disabled by itself, is not asked for at the moment, and has its
        default.
        """
        defaults = {one.name: one.default for one in fields(kind)}
        return {
            name: widget.value if self._is_asked_for(name) else defaults[name]
            for name, widget in self._widgets.items()
            if name in defaults
        }

    def fill_in(self, options: Any) -> None:
        """Choose what one of the dataclasses says, field by field in their order; None says nothing."""
        for one in fields(options):
            value = getattr(options, one.name)
            if one.name in self._widgets and value is not None:
                self._widgets[one.name].value = value

    def show_row(self, name: str, shown: bool) -> None:
        """Ask for a field, or hide its row."""
        self._left_out -= {name}
        self._left_out |= set() if shown else {name}
        native = self._widgets[name].native
        for part in (native, self._rows.labelForField(native)):
            if part is not None:
                part.setVisible(shown)

    def is_shown(self, name: str) -> bool:
        """Whether the row of a field is not hidden."""
        return name not in self._left_out

    def add_below(self, name: str, line: QWidget) -> None:
        """Put a line without a label below the row of a field."""
        row, _ = self._rows.getWidgetPosition(self._widgets[name].native)
        self._rows.insertRow(row + 1, line)

    def let_go(self) -> None:
        """Stop following the viewer. Touches nothing of Qt, which may be gone already."""
        for widget in self._widgets.values():
            if isinstance(widget, LayerChoice):
                widget.let_go()

    def _is_asked_for(self, name: str) -> bool:
        return self.is_shown(name) and self._widgets[name].native.isEnabledTo(self)


def _widgets_for(kind: type, viewer: ViewerModel) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    defaults = {one.name: one.default for one in fields(kind)}
    asked = [name for name in defaults if get_origin(hints[name]) is Annotated]
    return {name: _widget(name, hints[name], defaults[name], viewer) for name in asked}


def _widget(name: str, hint: Any, default: Any, viewer: ViewerModel) -> Any:
    kind, about = get_args(hint)
    made_by = about.get("widget_type")
    # None says that nothing was asked; it is not among the choices.
    more = {"nullable": False} | ({"viewer": viewer} if made_by is LayerChoice else {})
    # Of a Literal magicgui lists the values, whatever titles they were given.
    kind = str if get_origin(kind) is Literal else kind
    # Our own widgets know how they begin.
    begins_with = Undefined if default in (None, MISSING) or isinstance(made_by, type) else default
    widget = create_widget(value=begins_with, annotation=kind, name=name, options={**about, **more})
    if isinstance(widget, ComboBox):
        narrow(widget.native)
    elif isinstance(widget, RadioButtons):
        # A row has no frame, for which napari's theme leaves room above.
        widget.native.setStyleSheet("QGroupBox { border: 0; margin: 0; padding: 0; }")
        widget.native.layout().setContentsMargins(0, 0, 0, 0)
    return widget
