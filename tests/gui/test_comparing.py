"""Values under the cursor, the curtain, the verdict and the report, on a slice with known noise and a known change."""

import json
import threading

import numpy as np
import pytest
from napari.layers import Layer

from napari_restore_rwkv.gui import layers as layers_module
from napari_restore_rwkv.gui.compare import shown_slice as shown_slice_module
from napari_restore_rwkv.gui.compare.state import (
    BLINK,
    ORTHOGONAL,
    OVER_INPUT,
    OWN_VIEW,
    RESTORED_ONLY,
    SIDE_BY_SIDE,
    SWIPE,
)
from napari_restore_rwkv.scans.scan import Scan

CT, RESTORED, DIFFERENCE = "CT", "CT [restored]", "CT [restored - input]"
HU, CHANGE = 41.0, 5.0


@pytest.fixture
def panel(viewer, make_panel, rng, run_to_the_end):
    """The panel after a whole volume of 3 slices of 80 x 96, white noise of 20 HU around 41; 5 HU are taken away."""
    viewer.canvas.size = (400, 1200)
    voxels = rng.normal(HU, 20, (3, 80, 96)).astype(np.float32)
    scan = Scan(voxels, (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), "CT", "HU", {})
    viewer.add_layer(Layer.create(*layers_module.scan_to_layer(scan, CT)))
    viewer.dims.set_current_step(0, 1)
    panel = make_panel(viewer)
    run_to_the_end(panel, "volume")
    return panel


def reading_of(panel, qtbot):
    qtbot.waitUntil(lambda: panel.compare.reading.watch.shown is not None)
    return panel.compare.reading


def test_the_values_of_every_cell_are_in_one_line(viewer, panel, qtbot):
    reading = reading_of(panel, qtbot)
    viewer.layers[CT].data[1, 30, 50] = HU
    viewer.layers[RESTORED].data[1, 30, 50] = 52.0
    reading.watch.look_again()
    viewer.cursor.position = (2.0, 30.0, 50.0)
    qtbot.waitUntil(lambda: reading.values.text() == "input 41 · restored 52 · difference +11 HU")
    viewer.cursor.position = (2.0, 30.0, 97.0)
    qtbot.waitUntil(lambda: reading.values.text().startswith("Values:"))


def test_the_values_are_those_of_the_strength_that_is_shown(viewer, panel, qtbot):
    reading = reading_of(panel, qtbot)
    viewer.cursor.position = (2.0, 10.0, 10.0)
    panel.compare.strength.setValue(40)
    qtbot.waitUntil(lambda: "difference -2 HU" in reading.values.text())


def test_the_values_are_those_of_the_slice_that_is_shown(viewer, panel, qtbot):
    reading = reading_of(panel, qtbot)
    viewer.dims.set_current_step(0, 2)
    qtbot.waitUntil(lambda: reading.watch.shown is not None and reading.watch.shown.index == 2)
    np.testing.assert_array_equal(reading.watch.shown.input, viewer.layers[CT].data[2])


def test_the_curtain_covers_the_right_with_the_restored_slice(viewer, panel):
    panel.compare.choose_mode(SWIPE)
    curtain = panel.compare.view.curtain
    assert [layer.name for layer in viewer.layers if layer.visible] == [CT, curtain.layer.name]
    assert not viewer.canvas.grid.enabled
    for fraction in (0.25, 0.5):
        panel.compare.curtain.slider.setValue(round(1000 * fraction))
        shown, edge = curtain.layer.data[1], round(96 * fraction)
        assert np.isnan(shown[:, :edge]).all()
        np.testing.assert_array_equal(shown[:, edge + 1 :], viewer.layers[RESTORED].data[1, :, edge + 1 :])
    panel.compare.strength.setValue(50)
    panel.compare._mix()
    np.testing.assert_allclose(curtain.layer.data[1, 5, 60:], viewer.layers[CT].data[1, 5, 60:] - 2.5, atol=1e-4)
    panel.compare.choose_mode(OWN_VIEW)
    assert [layer.name.split(" · ")[0] for layer in viewer.layers] == [CT, RESTORED, DIFFERENCE]


def test_a_strength_that_is_dragged_is_shown_at_once_and_named_when_let_go(viewer, panel):
    strength = panel.compare.strength
    strength.setValue(80)
    panel.compare._mix()
    strength.setSliderDown(True)
    strength.setValue(40)
    panel.compare._mix()
    np.testing.assert_allclose(viewer.layers[1].data[1], viewer.layers[0].data[1] - 2, atol=1e-4)
    assert viewer.layers[1].name == f"{RESTORED} · 80 %"
    strength.setSliderDown(False)
    assert viewer.layers[1].name == f"{RESTORED} · 40 %"


def test_the_curtain_follows_the_displayed_axes(viewer, panel):
    panel.compare.choose_mode(SWIPE)
    data = panel.compare.view.curtain.layer.data
    viewer.dims.order = (2, 0, 1)
    assert data.axis == 1
    assert np.isnan(data[:, :40, 7]).all()
    assert not np.isnan(data[:, 41:, 7]).any()


def test_the_difference_lies_over_the_input(viewer, panel):
    panel.compare.choose_mode(OVER_INPUT)
    assert [layer.name for layer in viewer.layers if layer.visible] == [CT, DIFFERENCE]
    assert not viewer.canvas.grid.enabled


def test_every_layout_has_a_key_that_is_released(viewer, panel):
    viewer.keymap[next(key for key in viewer.keymap if str(key) == "Alt+2")](viewer)
    assert panel.compare.modes.currentText() == SWIPE
    viewer.keymap[next(key for key in viewer.keymap if str(key) == "Alt+1")](viewer)
    assert panel.compare.modes.currentText() == SIDE_BY_SIDE
    viewer.layers.remove(RESTORED)
    panel.compare._forget_what_is_gone()
    assert not [key for key in viewer.keymap if str(key).startswith("Alt")]


def test_the_verdict_distinguishes_noise_from_an_erased_structure(viewer, panel, qtbot, rng):
    reading = reading_of(panel, qtbot)
    noisy = rng.normal(HU, 20, (80, 96)).astype(np.float32)
    # Air on both sides of the body.
    noisy[:, :10] -= 1000
    noisy[:, -10:] -= 1000
    viewer.layers[CT].data[1] = noisy
    removed = rng.normal(0, 15, (80, 96)).astype(np.float32)
    viewer.layers[RESTORED].data[1] = noisy - removed
    reading.watch.look_again()
    qtbot.waitUntil(lambda: "looks like noise alone" in reading.verdict.line.text())
    assert reading.verdict.line.text().startswith("Noise ")
    removed[38:44, 50:56] += 60
    viewer.layers[RESTORED].data[1] = noisy - removed
    reading.watch.look_again()
    qtbot.waitUntil(lambda: "Structure was removed in 1 place" in reading.verdict.line.text())
    row, column, _ = reading.verdict.report.removed.places[0]
    assert abs(row - 40.5) <= 2
    assert abs(column - 52.5) <= 2


def test_a_slice_that_is_not_restored_is_not_judged(viewer, panel, qtbot):
    reading = reading_of(panel, qtbot)
    panel.job.comparison.result.finished.discard(2)
    viewer.dims.set_current_step(0, 2)
    assert reading.watch.shown is None
    assert reading.verdict.line.text() == ""


def test_non_finite_voxels_are_shown_and_do_not_count(viewer, panel, qtbot):
    reading = reading_of(panel, qtbot)
    for name in (CT, RESTORED):
        viewer.layers[name].data[1, 40, 40:44] = np.inf, -np.inf, np.nan, np.inf
    reading.watch.look_again()
    viewer.cursor.position = (2.0, 40.0, 40.0)
    qtbot.waitUntil(lambda: reading.values.text() == "input none · restored none · difference none HU")
    qtbot.waitUntil(lambda: reading.verdict.report is not None)
    assert np.isfinite(reading.verdict.report.removed.highest)


def test_slices_are_read_off_the_gui_thread(viewer, panel, qtbot, monkeypatch):
    threads, read = [], shown_slice_module.read_slice
    monkeypatch.setattr(
        shown_slice_module, "read_slice", lambda *args: (threads.append(threading.current_thread()), read(*args))[1]
    )
    reading_of(panel, qtbot).watch.look_again()
    qtbot.waitUntil(lambda: bool(threads))
    assert threads[0] is not threading.main_thread()


def test_a_canvas_that_changes_between_the_removals_of_layers_is_no_error(viewer, panel, qtbot):
    reading_of(panel, qtbot)
    panel.compare.choose_mode(SIDE_BY_SIDE)
    viewer.layers.remove(RESTORED)
    panel.compare.view.arrange_again()
    assert RESTORED not in viewer.layers
    qtbot.waitUntil(lambda: not panel.compare.isEnabled() or panel.compare.view.mode == OWN_VIEW)


@pytest.mark.parametrize("mode", [SIDE_BY_SIDE, SWIPE, BLINK, OVER_INPUT, ORTHOGONAL, RESTORED_ONLY])
def test_a_deleted_difference_leaves_no_view_broken_and_no_cell_empty(viewer, panel, qtbot, mode):
    clicks = list(viewer.mouse_drag_callbacks)
    panel.compare.choose_mode(mode)
    viewer.layers.remove(DIFFERENCE)
    for other in (SWIPE, SIDE_BY_SIDE, ORTHOGONAL, BLINK, OVER_INPUT, SIDE_BY_SIDE):
        panel.compare.choose_mode(other)
    assert [layer.name for layer in viewer.layers if layer.visible] == [CT, RESTORED]
    assert tuple(viewer.canvas.grid.shape) == (1, 2)
    panel.compare.choose_mode(OWN_VIEW)
    assert [layer.name for layer in viewer.layers] == [CT, RESTORED]
    assert viewer.mouse_drag_callbacks == clicks


@pytest.mark.parametrize("name", [CT, RESTORED])
@pytest.mark.parametrize("mode", [SIDE_BY_SIDE, SWIPE, BLINK, OVER_INPUT, ORTHOGONAL, OWN_VIEW])
def test_a_view_chosen_right_after_a_deletion_finds_nothing_to_compare(viewer, panel, mode, name):
    clicks = list(viewer.mouse_drag_callbacks)
    panel.compare.choose_mode(ORTHOGONAL if mode == SWIPE else SWIPE)
    viewer.layers.remove(name)
    panel.compare.choose_mode(mode)
    assert panel.compare.comparison is None
    assert sorted(layer.name for layer in viewer.layers) == sorted({CT, RESTORED, DIFFERENCE} - {name})
    assert viewer.mouse_drag_callbacks == clicks


def test_a_deleted_cell_makes_room_for_the_others(viewer, panel, qtbot):
    panel.compare.choose_mode(SIDE_BY_SIDE)
    viewer.layers.remove(DIFFERENCE)
    qtbot.waitUntil(lambda: tuple(viewer.canvas.grid.shape) == (1, 2))
    panel.compare.choose_mode(ORTHOGONAL)
    viewer.layers.remove(panel.compare.view.planes.layers[2])
    qtbot.waitUntil(lambda: tuple(viewer.canvas.grid.shape) in ((1, 2), (2, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".pdf", ".json"])
def test_the_report_is_a_page_with_its_figures_beside_it(viewer, panel, qtbot, tmp_path, suffix):
    said = []
    panel.compare.said.connect(said.append)
    panel.compare.strength.setValue(50)
    panel.compare._mix()
    path = tmp_path / f"report{suffix}"
    reading_of(panel, qtbot).report.write(path)
    qtbot.waitUntil(lambda: said[-1] == f"Report saved as {path}")
    assert path.stat().st_size > 1000
    values = json.loads(path.with_suffix(".json").read_text())
    assert len(values["slices"]) == 3
    assert values["provenance"]["strength"] == 0.5
    assert values["summary"]["bias"] == pytest.approx(2.5, abs=0.01)
    for file in tmp_path.glob("report.*"):
        file.unlink()
    exec(panel.macro.lines[-1], {"viewer": viewer})
    assert path.stat().st_size > 1000
    assert json.loads(path.with_suffix(".json").read_text()) == values


def test_controls_have_tooltips_and_accessible_names(panel):
    reading = panel.compare.reading
    for control in (reading.judge, reading.report, panel.compare.curtain.slider, panel.compare.modes):
        assert control.toolTip()
        assert control.accessibleName()
