"""A form made from frozen dataclasses: a row for each field whose annotation describes its widget.

Such a field is ``Annotated[type, {...}]``, with keywords of magicgui: label, tooltip, min, max, step, choices,
widget_type. No other code names the field unless it depends on its value: the widget is created, read and filled in
from the annotation.
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
        Another value was chosen.
    asked(text)
        A text for the user to read.

    Parameters
    ----------
    viewer
        Its layers are listed by the fields that have a `LayerChoice`.
    kinds
        The dataclasses. Their annotations must be available at run time.
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
                # A button carries its own text.
                self._rows.addRow("" if isinstance(widget, ButtonWidget) else widget.label, widget.native)

    def __getattr__(self, name: str) -> Any:
        """Return the widget for a field."""
        try:
            return self.__dict__["_widgets"][name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no field {name}") from None

    def values(self, kind: type) -> dict[str, Any]:
        """Return the values of those fields of a dataclass that have rows.

        A field whose row is hidden or whose own widget is disabled has its default.
        """
        defaults = {one.name: one.default for one in fields(kind)}
        return {
            name: widget.value if self._is_active(name) else defaults[name]
            for name, widget in self._widgets.items()
            if name in defaults
        }

    def fill_in(self, options: Any) -> None:
        """Fill in the values of one of the dataclasses, field by field in order; None leaves a widget as it is."""
        for one in fields(options):
            value = getattr(options, one.name)
            if one.name in self._widgets and value is not None:
                self._widgets[one.name].value = value

    def show_row(self, name: str, shown: bool) -> None:
        """Show or hide the row of a field."""
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
        """Stop following the viewer, without touching Qt objects, which may already be deleted."""
        for widget in self._widgets.values():
            if isinstance(widget, LayerChoice):
                widget.let_go()

    def _is_active(self, name: str) -> bool:
        return self.is_shown(name) and self._widgets[name].native.isEnabledTo(self)


def _widgets_for(kind: type, viewer: ViewerModel) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    defaults = {one.name: one.default for one in fields(kind)}
    asked = [name for name in defaults if get_origin(hints[name]) is Annotated]
    return {name: _widget(name, hints[name], defaults[name], viewer) for name in asked}


def _widget(name: str, hint: Any, default: Any, viewer: ViewerModel) -> Any:
    kind, about = get_args(hint)
    made_by = about.get("widget_type")
    # None means that the field was not asked for; it is not among the choices.
    more = {"nullable": False} | ({"viewer": viewer} if made_by is LayerChoice else {})
    # For a Literal, magicgui lists the values and ignores titles given to them.
    kind = str if get_origin(kind) is Literal else kind
    # The plugin's own widgets set their initial value themselves.
    initial = Undefined if default in (None, MISSING) or isinstance(made_by, type) else default
    widget = create_widget(value=initial, annotation=kind, name=name, options={**about, **more})
    if isinstance(widget, ComboBox):
        narrow(widget.native)
    elif isinstance(widget, RadioButtons):
        # napari's theme leaves room above for a frame, which a row does not have.
        widget.native.setStyleSheet("QGroupBox { border: 0; margin: 0; padding: 0; }")
        widget.native.layout().setContentsMargins(0, 0, 0, 0)
    return widget
