"""The three orthogonal planes in a real window, by their pixels and with a real click."""

import numpy as np
import pytest
from napari.layers import Layer
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_restore_rwkv.gui import layers as layers_module
from napari_restore_rwkv.gui.compare.state import ORTHOGONAL, OWN_VIEW
from napari_restore_rwkv.gui.restore.panel import RestorePanel
from napari_restore_rwkv.scans.scan import Scan

pytestmark = pytest.mark.slow

SHAPE = (20, 64, 64)
# A box that is bright in the upper slices, the front rows and the left columns.
BOX = (slice(12, None), slice(0, 24), slice(0, 24))
INSIDE, OUTSIDE = (16, 12, 12), (4, 50, 50)


@pytest.fixture
def window(make_napari_viewer, restoration, run_to_the_end):
    """A real window with a dark body that holds a bright box; 30 HU are taken away in the whole of it."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1300, 700)
    voxels = np.full(SHAPE, -60, np.float32)
    voxels[BOX] = 200
    scan = Scan(voxels, (3.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), "CT", "HU", {})
    viewer.add_layer(Layer.create(*layers_module.scan_to_layer(scan, "CT")))
    panel = RestorePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Restore")
    run_to_the_end(panel, "volume")
    return viewer, panel


@pytest.fixture
def planes(window, at_rest, qtbot):
    viewer, panel = window
    panel.compare.choose_mode(ORTHOGONAL)
    planes = panel.compare.view.planes
    qtbot.waitUntil(lambda: planes._question is None and bool(planes._images))
    for overlay in (viewer.canvas.overlays.scale_bar, viewer.canvas.overlays.text):
        overlay.visible = False
    at_rest(viewer)
    return planes


def pixel_of(viewer, planes, role, plane, row, column):
    """Return where on the canvas a voxel of a plane is drawn, in pixels: right, down."""
    rows, columns = viewer.canvas.grid.shape
    height, width = (side / count for side, count in zip(viewer.canvas.size, (rows, columns), strict=True))
    down, right = planes._sheet._maps[plane]
    top, left = planes._sheet._corners[plane]
    spot = (top + int(np.flatnonzero(down == row).mean()), left + int(np.flatnonzero(right == column).mean()))
    camera, step = viewer.scene.camera, planes._sheet.step
    offset = [(at * step - centre) * camera.zoom for at, centre in zip(spot, camera.center[1:], strict=True)]
    cell = divmod(role, columns)
    return round((cell[1] + 0.5) * width + offset[1]), round((cell[0] + 0.5) * height + offset[0])


def colour(viewer, planes, picture, *where):
    x, y = pixel_of(viewer, planes, *where)
    share = picture.shape[1] / viewer.canvas.size[1]
    return picture[round(y * share), round(x * share)]


def go_to(planes, qtbot, position):
    planes.go_to(position)
    qtbot.waitUntil(lambda: planes._question is None and planes.position == position)


def test_all_nine_planes_show_their_content(window, planes, look, qtbot):
    viewer, _ = window
    go_to(planes, qtbot, INSIDE)
    picture = look(viewer)
    z, y, x = 14, 18, 6
    within = {0: (y, x), 1: (z, x), 2: (z, y)}
    without = {0: (50, 50), 1: (4, 50), 2: (4, 50)}
    for plane in range(3):
        inside, outside = (
            [colour(viewer, planes, picture, role, plane, *where[plane]) for role in range(3)]
            for where in (within, without)
        )
        assert inside[0][0] > outside[0][0] + 100, "the box is bright in every plane of the input"
        assert inside[0][0] - inside[1][0] > 1, "and a little darker in the restored one"
        assert outside[0][0] - outside[1][0] > 1
        for one in (inside[2], outside[2]):
            assert one[2] > one[0] + 50, "what was taken away is blue"
    go_to(planes, qtbot, OUTSIDE)
    picture = look(viewer)
    for plane in range(3):
        assert colour(viewer, planes, picture, 0, plane, *within[plane])[0] < 100, "no plane cuts the box"


def test_a_click_in_any_plane_of_any_cell_marks_that_voxel_in_all(window, planes, look, qtbot):
    viewer, _ = window
    go_to(planes, qtbot, OUTSIDE)
    canvas = viewer.window._qt_viewer.canvas.native
    for role, plane, where, position in (
        (0, 0, (10, 20), (4, 10, 20)),
        (1, 1, (15, 30), (15, 10, 30)),
        (2, 2, (17, 44), (17, 44, 30)),
    ):
        x, y = pixel_of(viewer, planes, role, plane, *where)
        QTest.mouseMove(canvas, QPoint(x, y))
        QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(x, y))
        # A pixel of the screen is half a voxel.
        qtbot.waitUntil(lambda position=position: np.abs(np.subtract(planes.position, position)).max() <= 1)
    z, y, _ = planes.position
    assert viewer.dims.current_step[0] == z
    picture = look(viewer)
    for role in range(2):
        for plane, (row, column) in enumerate(((y, 8), (z, 8), (z, 8))):
            assert colour(viewer, planes, picture, role, plane, row, column)[0] > 200, "a line runs through it"


def test_the_own_view_comes_back_to_the_pixel(window, planes, look, qtbot):
    viewer, panel = window
    panel.compare.choose_mode(OWN_VIEW)
    before = look(viewer)
    panel.compare.choose_mode(ORTHOGONAL)
    qtbot.waitUntil(lambda: planes._question is None)
    assert not np.array_equal(look(viewer), before)
    panel.compare.choose_mode(OWN_VIEW)
    np.testing.assert_array_equal(look(viewer), before)
    assert len(viewer.layers) == 3
