"""Gaps between napari's canvas and OpenGL: the current context, replaced grids, and a grid's first frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtOpenGLWidgets import QOpenGLWidget

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QWidget


class DrawingContext:
    """Makes the context of the canvas current when a layer is removed.

    napari 0.9.2 deletes the textures and shaders of a layer as soon as it is removed, in whatever context is current.
    Unless something was drawn just before, that is the one in which Qt composes the window, or none. Mesa's software
    renderer then removes the shader that the canvas last used without informing the canvas, and the next drawing ends
    in a segmentation fault; without a context the textures are never freed.

    It also drops the grids that napari has replaced: each stays a widget of the canvas, with some 3 MiB of shaders.

    Parameters
    ----------
    viewer
        The viewer.
    widget
        Any widget in its window.
    """

    def __init__(self, viewer: ViewerModel, widget: QWidget) -> None:
        self._viewer, self._widget = viewer, widget
        for event in self._going():
            event.connect(self._make_current)

    def let_go(self, gone: object = None) -> None:
        """Stop following the viewer, without touching Qt objects, which may already be deleted."""
        for event in self._going():
            event.disconnect(self._make_current)

    def _going(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return events.removing, events.begin_batch

    def _make_current(self, event: Any = None) -> None:
        for canvas in self._widget.window().findChildren(QOpenGLWidget):
            canvas.makeCurrent()
            _forget_old_grids(canvas)


def _forget_old_grids(canvas: QOpenGLWidget) -> None:
    """Remove the widgets that left the scene of a vispy canvas and were kept on its list."""
    central: Any = getattr(getattr(canvas, "_vispy_canvas", None), "central_widget", None)
    for child in list(getattr(central, "_widgets", ())):
        if child.parent is None:
            central.remove_widget(child)


def draw_unseen(widget: QWidget) -> None:
    """Draw a frame in the window of a widget without showing it.

    napari sets the camera of a new grid while its panels have no size yet, and corrects it with the second frame: the
    first one shows only a few voxels, magnified.
    """
    for canvas in widget.window().findChildren(QOpenGLWidget):
        if canvas.isVisible() and canvas.isValid():
            canvas.grabFramebuffer()
