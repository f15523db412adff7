"""Every view of a result in a real window, by its pixels."""

import numpy as np
import pytest
from napari.layers import Layer
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_restore_rwkv.gui.compare.state import OVER_INPUT, OWN_VIEW, SIDE_BY_SIDE, SWIPE
from napari_restore_rwkv.gui.restore.panel import RestorePanel

pytestmark = pytest.mark.slow


@pytest.fixture
def window(make_napari_viewer, restoration, ct_layer, run_to_the_end):
    """A real window with a uniform scan of 40 HU, of which 5 were taken away, and the panel in a dock."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 500)
    data, attributes, kind = ct_layer
    viewer.add_layer(Layer.create(np.full_like(data, 40), attributes, kind))
    panel = RestorePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Restore")
    run_to_the_end(panel)
    return viewer, panel


@pytest.fixture
def middle_row(window, look):
    """Return the red, green and blue of the picture's middle row."""

    def middle_row():
        viewer, _ = window
        viewer.canvas.overlays.scale_bar.visible = False
        picture = look(viewer)
        row = picture[picture.shape[0] // 2]
        # Without the black beside the picture.
        shown = np.flatnonzero(row.max(axis=1) > 20)
        return row[shown[0] : shown[-1] + 1]

    return middle_row


def test_the_input_is_left_of_the_curtain_and_the_restored_slice_right_of_it(window, middle_row):
    _, panel = window
    panel.compare.choose_mode(SWIPE)
    row = middle_row()
    quarter, last = row[len(row) // 4, 0], row[-len(row) // 4, 0]
    assert 0 < quarter - last < 10, "5 HU darker"
    assert row[:, 0].argmax() == pytest.approx(len(row) / 2, abs=len(row) / 16), "a bright line at the edge"
    panel.compare.curtain.slider.setValue(200)
    row = middle_row()
    assert row[len(row) // 4, 0] == last, "the edge has moved to the left"


def test_the_curtain_is_dragged_by_its_edge_and_only_there(window, middle_row, qtbot):
    viewer, panel = window
    panel.compare.choose_mode(SWIPE)
    row = middle_row()
    canvas = viewer.window._qt_viewer.canvas
    width, height = canvas.native.width(), canvas.native.height()
    centre, step = (width // 2, height // 2), len(row) // 8
    moves = []

    def note_moves(viewer, event):
        yield
        while event.type == "mouse_move":
            moves.append(event.pos)
            yield

    viewer.mouse_drag_callbacks.append(note_moves)

    def drag(start):
        place = QPoint(*start)
        QTest.mousePress(canvas.native, Qt.MouseButton.LeftButton, pos=place)
        for _ in range(2):
            place += QPoint(step, 0)
            seen = len(moves)

            def has_moved(place=place, seen=seen):
                # napari passes moves on with a delay, and of several only the last.
                QTest.mouseMove(canvas.native, place)
                return len(moves) > seen

            qtbot.waitUntil(has_moved)
        QTest.mouseRelease(canvas.native, Qt.MouseButton.LeftButton, pos=place)

    drag(centre)
    assert panel.compare.view.curtain.fraction == pytest.approx(0.75, abs=0.05)
    assert viewer.scene.camera.mouse_pan
    drag((centre[0] - 3 * step, centre[1]))
    assert panel.compare.view.curtain.fraction == pytest.approx(0.75, abs=0.05)


def test_what_was_removed_is_blue_over_the_input(window, middle_row):
    _, panel = window
    panel.compare.choose_mode(OVER_INPUT)
    row = middle_row()
    assert row[len(row) // 2, 2] > row[len(row) // 2, 0] + 50


def test_side_by_side_every_cell_holds_its_picture(window, look):
    viewer, panel = window
    panel.compare.choose_mode(SIDE_BY_SIDE)
    for overlay in (viewer.canvas.overlays.scale_bar, viewer.canvas.overlays.text):
        overlay.visible = False
    picture = look(viewer)
    rows, columns = viewer.canvas.grid.shape
    assert rows * columns == 3
    height, width = picture.shape[0] // rows, picture.shape[1] // columns
    middles = [picture[(at // columns) * height + height // 2, (at % columns) * width + width // 2] for at in range(3)]
    assert 0 < middles[0][0] - middles[1][0] < 10, "5 HU darker"
    assert middles[2][2] > middles[2][0] + 50, "what was taken away is blue"


def test_a_difference_without_its_sign_is_green_over_the_input(window, middle_row, qtbot):
    _, panel = window
    panel.compare.choose_mode(OVER_INPUT)
    panel.compare.difference.mode.setCurrentText("absolute")
    qtbot.waitUntil(lambda: not panel.compare.difference._fits)
    row = middle_row()
    red, green, _ = row[len(row) // 2]
    assert green > red + 10


def test_the_own_view_comes_back_to_the_pixel(window, middle_row):
    viewer, panel = window
    panel.compare.choose_mode(OWN_VIEW)
    before = middle_row()
    for mode in (SWIPE, OVER_INPUT):
        panel.compare.choose_mode(mode)
        middle_row()
    panel.compare.choose_mode(OWN_VIEW)
    np.testing.assert_array_equal(middle_row(), before)
    assert len(viewer.layers) == 3
