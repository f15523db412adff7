"""Run by test_deleting_layers: hidden layers are removed while another one is shown, with the Restore panel open."""

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtTest import QSignalSpy

from napari_restore_rwkv.gui import contributions

TIMES = 2
FRAMES = 2
PATIENCE_MS = 240_000


def draw(canvas):
    """Have some frames drawn, and put together with the rest of the window."""
    for _ in range(FRAMES):
        swapped = QSignalSpy(canvas.frameSwapped)
        canvas.update()
        assert swapped.wait(PATIENCE_MS)


def remove_hidden_layers(viewer, canvas):
    """From the second frame after hiding on, the shader of the other layer is the only one in use."""
    for _ in range(TIMES):
        hidden = viewer.add_image(np.eye(8), name="hidden")
        draw(canvas)
        hidden.visible = False
        draw(canvas)
        viewer.layers.remove(hidden)
        draw(canvas)
    print("survived")
    viewer.close()


def main():
    viewer = napari.Viewer()
    (canvas,) = viewer.window._qt_window.findChildren(QOpenGLWidget)
    viewer.add_image(np.eye(8), name="shown")
    contributions.restore_selected_layer()
    QTimer.singleShot(0, lambda: remove_hidden_layers(viewer, canvas))
    # napari waits for what the panel still does in the background.
    napari.run()


main()
