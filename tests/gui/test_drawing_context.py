"""The resources of a layer are deleted in the OpenGL context of the canvas that drew it."""

import numpy as np
import pytest
from qtpy.QtGui import QOpenGLContext
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from vispy.gloo.context import GLContext

from napari_restore_rwkv.gui import contributions
from napari_restore_rwkv.gui.compare.comparison import add_result_layers
from napari_restore_rwkv.gui.docking import DockedPanel
from napari_restore_rwkv.gui.layers import layer_to_scan
from napari_restore_rwkv.gui.restore.result import ResultInMemory


@pytest.fixture
def window(make_napari_viewer, restoration, qtbot):
    """A viewer with three layers and the Restore panel, its canvas, and the contexts in which OpenGL was flushed."""
    viewer = make_napari_viewer(show=True)
    for name in "abc":
        viewer.add_image(np.zeros((4, 8, 8)), name=name)
    contributions.restore_selected_layer()
    (canvas,) = viewer.window._qt_window.findChildren(QOpenGLWidget)
    qtbot.waitUntil(canvas.isValid)
    return viewer, canvas


@pytest.fixture
def finished_in(monkeypatch):
    """The context that was current at each flush of OpenGL."""
    contexts, finish = [], GLContext.finish
    monkeypatch.setattr(
        GLContext, "finish", lambda self: (contexts.append(QOpenGLContext.currentContext()), finish(self))
    )
    return contexts


def remove_one(viewer):
    viewer.layers.remove("b")


def press_the_bin(viewer):
    viewer.layers.selection = set(viewer.layers[:2])
    viewer.window._qt_viewer.layerButtons.deleteButton.click()


@pytest.mark.slow
@pytest.mark.parametrize("remove", [remove_one, press_the_bin])
def test_layers_are_removed_in_the_context_of_the_canvas(window, finished_in, remove):
    viewer, canvas = window
    canvas.doneCurrent()
    remove(viewer)
    assert finished_in == [canvas.context()]


@pytest.mark.slow
def test_without_the_panel_napari_is_left_as_it_is(window, finished_in):
    viewer, canvas = window
    (panel,) = viewer.window._qt_window.findChildren(DockedPanel)
    panel.dock.destroyOnClose()
    canvas.doneCurrent()
    remove_one(viewer)
    assert finished_in == [None]


@pytest.mark.slow
def test_the_first_visible_frame_of_a_grid_is_not_magnified(window):
    viewer, canvas = window
    (panel,) = viewer.window._qt_window.findChildren(DockedPanel)
    layer = viewer.layers["a"]
    result = ResultInMemory(layer_to_scan(layer), 0)
    result.prepare()
    panel.compare.show_comparison(add_result_layers(viewer, layer, result, "a"))
    canvas.grabFramebuffer()
    assert viewer.canvas.grid.enabled
    for camera in viewer.window._qt_viewer.canvas.grid_cameras:
        assert camera.zoom == pytest.approx(viewer.scene.camera.zoom)


@pytest.mark.slow
def test_grids_that_were_replaced_are_forgotten_with_the_next_layer(window):
    viewer, canvas = window
    central = canvas._vispy_canvas.central_widget
    at_first = len(central._widgets)
    for shape in ((1, 2), (2, 2), (1, 3), (3, 1)):
        viewer.canvas.grid.shape = shape
        viewer.canvas.grid.enabled = True
        viewer.canvas.grid.enabled = False
    assert len(central._widgets) > at_first + 2, "napari forgets them itself now"
    remove_one(viewer)
    assert len(central._widgets) == at_first
