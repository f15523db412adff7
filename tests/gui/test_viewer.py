"""The real window: the panel in a dock, closing the viewer during a job, and responsiveness while a job runs."""

import threading

import numpy as np
import pytest
from napari.layers import Layer

from napari_restore_rwkv.gui import contributions
from napari_restore_rwkv.gui.compare.state import BLINK, OWN_VIEW, SIDE_BY_SIDE
from napari_restore_rwkv.gui.restore import panel as restore_panel
from napari_restore_rwkv.gui.restore.panel import RestorePanel

CT, RESTORED, DIFFERENCE = "CT abdomen", "CT abdomen [restored]", "CT abdomen [restored - input]"


@pytest.fixture
def window(make_napari_viewer, restoration, ct_layer):
    """A real viewer with the CT scan, and the plugin's panel docked by its menu entry."""
    viewer = make_napari_viewer()
    viewer.add_layer(Layer.create(*ct_layer))
    viewer.dims.set_current_step(0, 2)
    contributions.restore_selected_layer()
    (panel,) = viewer.window.dock_widgets.values()
    return viewer, panel


def start(qtbot, restoration, viewer, panel):
    restoration.hold.clear()
    panel.form.region.value = "volume"
    panel.restore()
    qtbot.waitUntil(lambda: RESTORED in viewer.layers)


def test_the_menu_entry_opens_the_panel_with_the_selected_layer(window):
    viewer, panel = window
    other = viewer.add_image(np.zeros((4, 8, 8)), name="other")
    viewer.layers.selection.active = viewer.layers[CT]
    contributions.restore_selected_layer()
    assert panel.form.layer.value is viewer.layers[CT]
    viewer.layers.selection.active = other
    contributions.restore_selected_layer()
    assert panel.form.layer.value is other
    assert len(viewer.window.dock_widgets) == 1


@pytest.mark.slow
def test_compare_without_a_result_says_so(window):
    _, panel = window
    contributions.compare_result()
    assert panel.message.text() == "There is nothing to compare yet: restore a scan first."


@pytest.mark.slow
def test_closing_the_viewer_ends_a_running_job(window, qtbot, restoration):
    viewer, panel = window
    start(qtbot, restoration, viewer, panel)
    viewer.close()
    # The job would go on for ever.
    qtbot.waitUntil(restoration.closed.is_set, timeout=10000)
    assert not panel.job.running


@pytest.mark.slow
def test_closing_the_window_by_its_button_ends_a_running_job(window, qtbot, restoration):
    viewer, panel = window
    start(qtbot, restoration, viewer, panel)
    viewer.window._qt_window.close()
    qtbot.waitUntil(restoration.closed.is_set, timeout=3000)
    # Qt has deleted the window; napari's own fixture must not close it again.
    del viewer.window._qt_window
    viewer.layers.clear()


@pytest.mark.slow
def test_closing_the_panel_ends_a_running_job_and_restores_the_own_view(window, qtbot, restoration):
    viewer, panel = window
    start(qtbot, restoration, viewer, panel)
    assert viewer.canvas.grid.enabled
    viewer.window.remove_dock_widget(panel.parent())
    assert restoration.closed.is_set()
    assert not viewer.canvas.grid.enabled
    assert viewer.layers[CT].visible
    panel.deleteLater()


@pytest.mark.slow
def test_the_panel_opens_without_waiting_for_torch(make_napari_viewer, restoration, qtbot, monkeypatch):
    viewer = make_napari_viewer()
    found, looked_around = threading.Event(), restore_panel.look_around()

    def slow_look_around():
        found.wait(240)
        return looked_around

    monkeypatch.setattr(restore_panel, "look_around", slow_look_around)
    panel = RestorePanel(viewer)
    assert not found.is_set()
    assert panel.form.run_on.devices.currentText() == "the fastest there is"
    found.set()
    qtbot.waitUntil(lambda: panel.form.run_on.devices.currentText() == "CPU, compiled kernel")
    panel.shut_down()
    panel.deleteLater()


@pytest.mark.slow
def test_the_comparison_comes_back_after_the_own_view(window, look, run_to_the_end):
    viewer, panel = window
    run_to_the_end(panel)
    for own_grid in (False, True):
        for mode in (OWN_VIEW, SIDE_BY_SIDE, BLINK, OWN_VIEW):
            panel.compare.choose_mode(mode)
            look(viewer)
        assert viewer.canvas.grid.enabled == own_grid
        viewer.canvas.grid.enabled = True
    panel.compare.choose_mode(SIDE_BY_SIDE)
    assert viewer.canvas.overlays.scale_bar.visible


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["another layer", "the result"])
def test_layers_that_are_deleted_side_by_side_do_not_hinder_the_own_view(window, look, run_to_the_end, gone):
    viewer, panel = window
    scan = panel.form.layer.value
    viewer.add_labels(np.zeros((5, 24, 32), np.uint8), name="annotations").mode = "paint"
    another = viewer.add_image(np.zeros((5, 24, 32)), name="another")
    panel.choose_layer(scan)
    run_to_the_end(panel)
    look(viewer)
    for layer in [another] if gone == "another layer" else panel.compare.comparison.layers[1:]:
        viewer.layers.remove(layer)
    panel.compare.choose_mode(OWN_VIEW)
    look(viewer)
    assert not viewer.canvas.grid.enabled
    assert viewer.layers["annotations"].visible


@pytest.mark.slow
def test_three_panels_are_drawn_from_left_to_right(make_napari_viewer, restoration, ct_layer, look, run_to_the_end):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1500, 420)
    data, attributes, kind = ct_layer
    viewer.add_layer(Layer.create(np.full_like(data, 40), attributes, kind))
    panel = RestorePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Restore")
    run_to_the_end(panel)
    viewer.canvas.overlays.scale_bar.visible = False
    picture = look(viewer)
    middle = picture[picture.shape[0] // 2]
    left, centre, right = (middle[len(middle) * third // 6] for third in (1, 3, 5))
    assert left.max() - left.min() == 0, "the input is grey"
    assert 0 < left[0] - centre[0] < 10, "5 HU darker"
    assert right[2] > right[0] + 50, "what was taken away is blue"


@pytest.mark.slow
def test_a_grid_with_a_fourth_layer_is_rearranged_on_window_resize(window, run_to_the_end):
    viewer, panel = window
    run_to_the_end(panel)
    viewer.add_labels(np.zeros((5, 24, 32), np.uint8))
    for size, shape in (((600, 600), (3, 1)), ((300, 900), (1, 3)), ((900, 300), (3, 1)), ((300, 900), (1, 3))):
        viewer.canvas.size = size
        panel.compare.view.arrange_again()
        assert tuple(viewer.canvas.grid.shape) == shape
