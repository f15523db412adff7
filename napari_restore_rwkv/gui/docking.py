"""Panels of which a window has one each, side by side as tabs, however they were opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

if TYPE_CHECKING:
    import napari

# As napari names the dock that its own menu opens, so that its menu finds it.
DOCK_NAME = "{} (Restore-RWKV)"


class DockedPanel(QWidget):
    """A panel in a dock of napari's window.

    Where there is one of its kind already, it gives way, and the first one comes to the front. Beside a panel of
    another kind it becomes a tab, for one above the other would be too low to work in. It is shut down when it is
    closed.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._docked = QTimer(self)
        self._docked.setSingleShot(True)
        self._docked.timeout.connect(self._find_a_place)

    def shut_down(self) -> None:
        """Let go of the viewer, and of what runs."""
        raise NotImplementedError

    def changeEvent(self, event: QEvent) -> None:
        """Notice that napari puts the panel into a dock, or takes it out because it was closed."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is None:
                self.shut_down()
            else:
                # When the dock is in its place, too.
                self._docked.start(0)
        super().changeEvent(event)

    @property
    def dock(self) -> QDockWidget | None:
        """The dock that the panel is in; None while it is in none."""
        parent = self.parent()
        return parent if isinstance(parent, QDockWidget) else None

    def bring_to_front(self) -> None:
        """Show the panel, if it is hidden or behind another tab."""
        if self.dock is not None:
            self.dock.show()
            self.dock.raise_()

    def _find_a_place(self) -> None:
        dock, others = self.dock, [panel for panel in self.window().findChildren(DockedPanel) if panel is not self]
        if dock is None:
            return
        for other in others:
            if type(other) is type(self):
                dock.destroyOnClose()
                other.bring_to_front()
                return
        for other in others:
            if _share_an_area(dock, other.dock):
                dock.parent().tabifyDockWidget(other.dock, dock)
                self.bring_to_front()


Panel = TypeVar("Panel", bound=DockedPanel)


def open_panel(viewer: napari.Viewer, kind: type[Panel], title: str) -> Panel:
    """Return the panel of this kind in the viewer's window, in front; it is opened if it is not there."""
    panel = find_panel(viewer, kind)
    if panel is None:
        panel = kind(viewer)
        viewer.window.add_dock_widget(panel, name=DOCK_NAME.format(title), tabify=True)
    panel.bring_to_front()
    return panel


def find_panel(viewer: napari.Viewer, kind: type[Panel]) -> Panel | None:
    """Return the panel of this kind in the viewer's window, if there is one."""
    return next((panel for panel in viewer.window.dock_widgets.values() if isinstance(panel, kind)), None)


def _share_an_area(one: QDockWidget, other: QDockWidget | None) -> bool:
    window = one.parent()
    if other is None or not isinstance(window, QMainWindow) or one.isFloating() or other.isFloating():
        return False
    area = window.dockWidgetArea(one)
    return area == window.dockWidgetArea(other) != Qt.DockWidgetArea.NoDockWidgetArea
