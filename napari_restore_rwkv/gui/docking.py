"""Panels that each exist once per window, side by side as tabs, however they were opened."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING, Any, TypeVar

from napari.qt.threading import WorkerBase
from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from .camera import ZOOMED_IN, closer_than_fitting
from .drawing_context import DrawingContext

if TYPE_CHECKING:
    import napari
    from napari.components import ViewerModel

# The name that napari gives to the dock opened from its own menu, so that its menu finds it.
DOCK_NAME = "{} (Restore-RWKV)"
SETTLED_AFTER_MS = 100

# napari does so when its event loop ends; a script may end without one, which aborted it in the middle of their work.
atexit.register(WorkerBase.await_workers)


class DockedPanel(QWidget):
    """A panel in a dock of napari's window, which takes its space from the canvas.

    An image that was entirely visible before is so afterwards. If there is already a panel of its kind, this one is
    dropped, and the first one comes to the front. Beside a panel of another kind it becomes a tab, since stacked panels
    would be too low to work in. It is shut down when it is closed.
    """

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._whole = FitsImageAgain(viewer, self)
        self._context = DrawingContext(viewer, self)
        self.destroyed.connect(self._context.let_go)
        self._room: QSize | None = None
        self._docked = QTimer(self)
        self._docked.setSingleShot(True)
        self._docked.timeout.connect(self._place_dock)

    def shut_down(self) -> None:
        """Release the viewer, and stop running work."""
        self._whole.let_go()
        self._context.let_go()

    def changeEvent(self, event: QEvent) -> None:
        """Notice when napari puts the panel into a dock, or removes it because it was closed."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is None:
                self.shut_down()
            else:
                self.parent().installEventFilter(self)
                # Once the dock is in place, too.
                self._docked.start(0)
        super().changeEvent(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Notice how large the window is before the dock comes into it: napari's menu puts it below others at first."""
        window = watched.parent()
        if event.type() == QEvent.Type.ParentChange and isinstance(window, QMainWindow):
            self._room = window.size()
            watched.removeEventFilter(self)
        return super().eventFilter(watched, event)

    @property
    def dock(self) -> QDockWidget | None:
        """The dock that contains the panel; None if there is none."""
        parent = self.parent()
        return parent if isinstance(parent, QDockWidget) else None

    def bring_to_front(self) -> None:
        """Show the panel, if it is hidden or behind another tab."""
        if self.dock is not None:
            self.dock.show()
            self.dock.raise_()

    def _place_dock(self) -> None:
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
                self._give_back_room(dock.parent())
                self.bring_to_front()

    def _give_back_room(self, window: QMainWindow) -> None:
        """Let the window be as large as before panels below each other made it higher, perhaps than the screen."""
        if self._room is not None and not (window.isMaximized() or window.isFullScreen()):
            window.layout().activate()
            window.resize(self._room)


class FitsImageAgain(QObject):
    """Fits the image into the canvas again after the canvas has changed size, if all of it was visible before."""

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._size = viewer.canvas.size
        self._was_whole = False
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(SETTLED_AFTER_MS)
        self._settled.timeout.connect(self._show_all)
        self._viewer.canvas.events.size.connect(self._on_size)

    def let_go(self) -> None:
        """Stop following the viewer."""
        self._viewer.canvas.events.size.disconnect(self._on_size)

    def _on_size(self, event: Any = None) -> None:
        if not self._settled.isActive():
            # A window changes size in several steps: what counts is what was visible before the first.
            self._was_whole = closer_than_fitting(self._viewer, self._size) <= ZOOMED_IN
        self._settled.start()

    def _show_all(self) -> None:
        self._size = self._viewer.canvas.size
        # In a grid, the view that made it handles this.
        if self._was_whole and not self._viewer.canvas.grid.enabled:
            self._viewer.reset_view(reset_camera_angle=False)


Panel = TypeVar("Panel", bound=DockedPanel)


def open_panel(viewer: napari.Viewer, kind: type[Panel], title: str) -> Panel:
    """Return the panel of this kind in the viewer's window, in front; it is opened if necessary."""
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
