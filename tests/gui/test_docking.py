"""One panel of a kind per window, however it was opened; its results outlive it."""

import threading

import numpy as np
import pytest
from napari.layers import Labels, Layer
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_restore_rwkv.gui import contributions
from napari_restore_rwkv.gui import panels as panels_module
from napari_restore_rwkv.gui.docking import DOCK_NAME
from napari_restore_rwkv.gui.fine_tune.panel import FineTunePanel
from napari_restore_rwkv.gui.restore import panel as restore_panel
from napari_restore_rwkv.gui.restore.panel import RestorePanel

CT, RESTORED = "CT abdomen", "CT abdomen [restored]"


@pytest.fixture
def ct_viewer(make_napari_viewer, restoration, ct_layer):
    """A real window with the CT scan."""
    viewer = make_napari_viewer()
    viewer.add_layer(Layer.create(*ct_layer))
    viewer.dims.set_current_step(0, 2)
    return viewer


def panels(viewer, kind=RestorePanel):
    return [panel for panel in viewer.window.dock_widgets.values() if isinstance(panel, kind)]


def open_by_menu(viewer):
    """As napari's own menu does, under its own name, without looking for another."""
    panel = RestorePanel(viewer)
    viewer.window.add_dock_widget(panel, name=DOCK_NAME.format("Restore"))
    return panel


def open_by_script(viewer):
    """As ``napari --with`` and scripts do, under another name."""
    panel = RestorePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Restore (napari-restore-rwkv)")
    return panel


@pytest.mark.slow
@pytest.mark.parametrize("first", [open_by_menu, open_by_script], ids=["menu first", "script first"])
@pytest.mark.parametrize("second", [open_by_menu, open_by_script], ids=["menu second", "script second"])
def test_a_second_panel_is_dropped_for_the_first(ct_viewer, at_rest, qtbot, first, second):
    known = first(ct_viewer)
    at_rest(ct_viewer)
    if first is not second:
        second(ct_viewer)
        qtbot.waitUntil(lambda: panels(ct_viewer) == [known])
    contributions.restore_selected_layer()
    assert panels(ct_viewer) == [known]


@pytest.mark.slow
def test_a_command_opens_the_panel_under_the_name_that_the_menu_looks_for(ct_viewer):
    contributions.restore_selected_layer()
    assert list(ct_viewer.window.dock_widgets) == ["Restore (Restore-RWKV)"]


@pytest.mark.slow
def test_commands_act_on_the_panel_that_a_script_has_opened(ct_viewer, qtbot, tmp_path):
    panel = open_by_script(ct_viewer)
    qtbot.waitUntil(lambda: panel.form.is_known)
    panels_module.use_weights(tmp_path / "own.safetensors", "ct-denoise", ct_viewer.layers[CT])
    assert panel.form.weights.entry.weights == tmp_path / "own.safetensors"
    panels_module.back_to_proposed_weights()
    assert panel.form.weights.entry.weights == "ct-denoise"
    assert panels(ct_viewer) == [panel]


@pytest.mark.slow
def test_both_panels_are_tabs_of_one_area(ct_viewer, at_rest, qtbot):
    panel = open_by_menu(ct_viewer)
    at_rest(ct_viewer)
    tuning = FineTunePanel(ct_viewer)
    ct_viewer.window.add_dock_widget(tuning, name=DOCK_NAME.format("Fine-tune"))
    window = panel.dock.parent()
    qtbot.waitUntil(lambda: tuning.dock in window.tabifiedDockWidgets(panel.dock))
    contributions.annotate_for_fine_tuning()
    assert panels(ct_viewer, FineTunePanel) == [tuning]


@pytest.mark.slow
def test_a_panel_that_napari_puts_below_another_does_not_make_the_window_larger(
    make_napari_viewer, restoration, ct_layer, at_rest, qtbot, run_to_the_end
):
    viewer = make_napari_viewer(show=True)
    viewer.add_layer(Layer.create(*ct_layer))
    window = viewer.window._qt_window
    panel = open_by_menu(viewer)
    viewer.window.resize(1280, 800)
    run_to_the_end(panel)
    at_rest(viewer)
    size = window.size()
    tuning = FineTunePanel(viewer)
    viewer.window.add_dock_widget(tuning, name=DOCK_NAME.format("Fine-tune"))
    qtbot.waitUntil(lambda: tuning.dock in window.tabifiedDockWidgets(panel.dock))
    at_rest(viewer)
    assert window.size() == size


@pytest.mark.slow
def test_restore_pressed_before_the_devices_are_known_gives_one_result(ct_viewer, qtbot, restoration, monkeypatch):
    known, surroundings = threading.Event(), restore_panel.look_around()

    def slow_look_around():
        known.wait(240)
        return surroundings

    monkeypatch.setattr(restore_panel, "look_around", slow_look_around)
    contributions.restore_selected_layer()
    (panel,) = panels(ct_viewer)
    panel.restore()
    panel.restore()
    assert panel.progress.text() == "getting ready ..."
    assert not panel.restore_button.isEnabled()
    known.set()
    qtbot.waitUntil(lambda: len(restoration.asked) == 1 and not panel.job.running, timeout=10_000)
    panel.form.region.value = "volume"
    panel.restore()
    qtbot.waitUntil(lambda: not panel.job.running)
    assert restoration.asked == [[2], [0, 1, 3, 4]]
    assert len(ct_viewer.layers) == 3


@pytest.mark.slow
def test_waiting_for_the_devices_can_be_cancelled(ct_viewer, qtbot, restoration, monkeypatch):
    known, surroundings = threading.Event(), restore_panel.look_around()
    monkeypatch.setattr(restore_panel, "look_around", lambda: known.wait(240) and surroundings)
    contributions.restore_selected_layer()
    (panel,) = panels(ct_viewer)
    panel.restore()
    panel.cancel()
    known.set()
    qtbot.waitUntil(lambda: panel.form.is_known)
    assert panel.restore_button.isEnabled()
    assert not panel.job.running
    assert restoration.asked == []


@pytest.mark.slow
def test_a_reopened_panel_continues_with_the_shown_result(ct_viewer, qtbot, restoration, run_to_the_end):
    contributions.restore_selected_layer()
    (first,) = panels(ct_viewer)
    run_to_the_end(first, "slice")
    first.dock.destroyOnClose()
    contributions.restore_selected_layer()
    (second,) = panels(ct_viewer)
    assert second is not first
    assert second.compare.isEnabled()
    assert not ct_viewer.canvas.grid.enabled, "the view is left as it is"
    qtbot.waitUntil(lambda: second.form.is_known)
    run_to_the_end(second, "volume")
    assert restoration.asked == [[2], [0, 1, 3, 4]]
    assert len(ct_viewer.layers) == 3
    assert np.isfinite(ct_viewer.layers[RESTORED].data).all()
    first.deleteLater()


def test_going_back_to_earlier_options_continues_their_result(viewer, ct_panel, run_to_the_end, tmp_path):
    run_to_the_end(ct_panel, "slice")
    ours = viewer.layers[RESTORED]
    ct_panel.form.weights.use_file(tmp_path / "own.safetensors")
    run_to_the_end(ct_panel, "slice")
    ct_panel.form.weights.use_proposed()
    run_to_the_end(ct_panel, "volume")
    assert len(viewer.layers) == 5
    assert np.isfinite(ours.data).all()
    assert ct_panel.compare.comparison.restored is ours


@pytest.mark.slow
def test_any_key_may_be_pressed_while_the_annotations_are_selected(
    make_napari_viewer, pair_layers, make_fine_tune_panel, qtbot
):
    viewer = make_napari_viewer()
    panel = make_fine_tune_panel(viewer, *pair_layers)
    panel.annotations.new.click()
    layer = panel.annotations.layer
    assert isinstance(viewer.layers.selection.active, Labels)
    canvas = viewer.window._qt_viewer.canvas.native
    QTest.keyClick(canvas, Qt.Key.Key_4, Qt.KeyboardModifier.AltModifier)
    assert layer.selected_label == 4
    QTest.keyClick(canvas, Qt.Key.Key_M)
    assert layer.selected_label != 4, "napari's own key: a new label"
