"""The workbench: what would be lost, figures and curves of the slice, all slices, the classical filter beside."""

import csv
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from napari.layers import Layer
from qtpy.QtCore import Qt
from torch import nn

from napari_restore_rwkv.gui import layers as layers_module
from napari_restore_rwkv.gui.compare.drawing import drawing_on
from napari_restore_rwkv.gui.compare.figures import HISTOGRAM, PROFILE, SPECTRUM
from napari_restore_rwkv.gui.compare.workbench import Workbench
from napari_restore_rwkv.gui.restore import steps as steps_module
from napari_restore_rwkv.gui.restore.compare_view import OWN_VIEW, RESTORED_ONLY
from napari_restore_rwkv.metrics import score_slice
from napari_restore_rwkv.restoration.detail import Blend
from napari_restore_rwkv.scans.scan import Scan

CT, RESTORED, DIFFERENCE = "CT", "CT [restored]", "CT [restored - input]"
SLICES, ROWS, COLUMNS = 3, 96, 128


class Keeps(nn.Module):
    """Leaves everything, and remembers in which thread; it can be held."""

    def __init__(self):
        super().__init__()
        self.threads = []
        self.hold = threading.Event()
        self.hold.set()

    def forward(self, x):
        self.threads.append(threading.current_thread())
        self.hold.wait(30)
        return x


class Flattens(nn.Module):
    """Leaves the mean alone."""

    def forward(self, x):
        return x.mean(dim=(2, 3), keepdim=True).expand_as(x)


@pytest.fixture
def panel(viewer, make_panel, rng, run_to_the_end):
    """The Restore panel after a whole volume with air around a body of 40 HU and noise; 5 HU are taken away."""
    viewer.canvas.size = (400, 1600)
    voxels = rng.normal(40, 20, (SLICES, ROWS, COLUMNS)).astype(np.float32)
    voxels[:, :8], voxels[:, -8:], voxels[:, :, :8], voxels[:, :, -8:] = -1000, -1000, -1000, -1000
    scan = Scan(voxels, (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), "CT", "HU", {})
    viewer.add_layer(Layer.create(*layers_module.scan_to_layer(scan, CT)))
    viewer.dims.set_current_step(0, 1)
    panel = make_panel(viewer)
    run_to_the_end(panel, "volume")
    return panel


@pytest.fixture
def bench(viewer, panel, qtbot):
    """The workbench on that result, with its displayed slice."""
    bench = Workbench(viewer)
    bench.look_with(panel.compare)
    qtbot.waitUntil(lambda: bench.watch.shown is not None)
    yield bench
    bench.shut_down()
    bench.deleteLater()


@pytest.fixture
def network(monkeypatch):
    """Let this network be the one that the result was restored with."""

    def use(network):
        monkeypatch.setattr(steps_module, "fresh_network", lambda weights: network)
        return network

    return use


def map_slice(bench, qtbot):
    bench.lost.start()
    qtbot.waitUntil(lambda: bench.lost._worker is None)
    return bench.lost.about.text()


def figures(bench, qtbot, name):
    qtbot.waitUntil(
        lambda: (
            bench.measure.measured is not None
            and any(one.name.startswith(name) for one in bench.measure.measured.figures)
        )
    )
    return next(one for one in bench.measure.measured.figures if one.name.startswith(name))


def test_the_time_is_told_before_a_map_is_begun(bench):
    assert bench.lost.about.text().startswith("The slice is restored 8 times, about ")
    assert bench.lost.contrast.suffix() == " HU"


def test_a_network_that_leaves_everything_loses_nothing_and_runs_off_the_gui_thread(bench, qtbot, network):
    keeps = network(Keeps())
    assert map_slice(bench, qtbot) == "Slice 1: of a disc of 5 HU, 8 mm, 100% of the contrast is left (median)."
    assert len(keeps.threads) == 8
    assert threading.main_thread() not in keeps.threads


def test_the_strength_that_is_shown_counts_and_the_map_is_the_fourth_cell(viewer, panel, bench, qtbot, network):
    network(Flattens())
    panel.compare.strength.setValue(50)
    panel.compare._mix()
    assert "50% of the contrast is left" in map_slice(bench, qtbot)
    shown = [layer.name for layer in viewer.layers if layer.visible]
    assert shown == [CT, f"{RESTORED} · 50 %", f"{DIFFERENCE} · 50 %", "left of 5 HU, 8 mm"]
    assert tuple(viewer.canvas.grid.shape) == (1, 4)
    layer = viewer.layers[-1]
    assert layer.colorbar.visible
    assert tuple(layer.contrast_limits) == (0.0, 1.0)
    assert np.isnan(layer.data[0]).all()
    assert np.nanmedian(layer.data[1]) == pytest.approx(0.5, abs=0.02)
    panel.compare.choose_mode(OWN_VIEW)
    assert len(viewer.layers) == 3


def test_detail_that_is_put_back_counts_in_the_map(panel, bench, qtbot, network):
    network(Flattens())
    panel.compare.coarse.setValue(100)
    panel.compare._mix()
    left = float(map_slice(bench, qtbot).split(", ")[-1].split("%")[0])
    assert left > 50, "a disc of 8 pixels is mostly coarse"


def test_the_worst_places_are_listed_and_gone_to(viewer, bench, qtbot, network):
    class LosesTheRight(nn.Module):
        def forward(self, x):
            right = Flattens()(x[..., 64:])
            return torch.cat((x[..., :64], right), dim=3)

    network(LosesTheRight())
    map_slice(bench, qtbot)
    bench.lost.places.setCurrentRow(0)
    row, column, share = bench.lost._found[0]
    assert share < 0.2
    assert column > 64
    assert tuple(viewer.scene.camera.center)[1:] == (row, column)


def test_the_sensitivity_is_mapped_beside_and_called_what_it_is(viewer, bench, qtbot, network):
    class Darkens(nn.Module):
        def forward(self, x):
            return x - 0.01 * (torch.arange(x.shape[-1]) < x.shape[-1] // 2)

    network(Darkens())
    bench.sensitive.start()
    qtbot.waitUntil(lambda: bench.sensitive._worker is None)
    assert "sensitivity, not probability" in bench.sensitive.about.text()
    cell = viewer.layers["sensitivity, not probability HU"]
    assert cell.visible
    assert tuple(viewer.canvas.grid.shape) == (1, 4)
    assert np.median(cell.data[1]) > 0.1
    assert np.isnan(cell.data[0]).all()
    bench.sensitive.places.setCurrentRow(0)
    assert tuple(viewer.scene.camera.center)[1:] == bench.sensitive._found[0][:2]


def test_k_space_of_an_mr_slice_is_told_of_and_shown_beside(viewer, bench, qtbot):
    assert not bench.tabs.isTabVisible(bench.tabs.indexOf(bench.kspace)), "the scan is CT"
    shown = replace(bench.watch.shown, modality="MR")
    bench.kspace.look_at(shown)
    qtbot.waitUntil(lambda: bench.kspace.found is not None)
    assert "measured" in bench.kspace.about.text()
    bench.kspace.show_button.click()
    cell = viewer.layers["k-space: measured (grey), added (orange)"]
    assert cell.data[1, ROWS // 2, COLUMNS // 2] == 1
    assert tuple(viewer.canvas.grid.shape) == (1, 4)


def test_a_map_is_cancelled_within_a_pass(bench, qtbot, network):
    keeps = network(Keeps())
    keeps.hold.clear()
    bench.lost.start()
    qtbot.waitUntil(lambda: bool(keeps.threads))
    assert not bench.lost.go.isEnabled()
    bench.lost.cancel()
    keeps.hold.set()
    qtbot.waitUntil(lambda: bench.lost._worker is None)
    assert bench.lost.about.text() == "Cancelled."
    assert len(keeps.threads) < 8
    assert bench.lost.go.isEnabled()


def test_a_probe_that_is_too_small_is_refused_in_words(bench, qtbot, network):
    network(Keeps())
    bench.lost.diameter.setValue(1.0)
    assert "take 1.5 mm or more" in map_slice(bench, qtbot)


def test_figures_against_a_reference_are_those_of_metrics(viewer, bench, qtbot):
    scan = viewer.layers[CT]
    clean = np.where(scan.data > -500, 40, -1000).astype(np.float32)
    reference = viewer.add_image(clean, name="full dose", scale=scan.scale)
    bench.measure.reference.choose(reference)
    psnr = figures(bench, qtbot, "PSNR")
    expected = score_slice(viewer.layers[RESTORED].data[1], clean[1], (-160, 240))
    assert psnr.after == pytest.approx(expected.psnr)
    assert psnr.name == "PSNR, range 200 HU, window -160 to 240"
    assert bench.measure.table.item(0, 0).text() == psnr.name


def test_the_table_is_saved_with_all_digits(bench, qtbot, tmp_path):
    noise = figures(bench, qtbot, "noise")
    bench.measure.save_table(tmp_path / "figures.csv")
    with (tmp_path / "figures.csv").open(newline="") as file:
        rows = {row["figure"]: row for row in csv.DictReader(file)}
    assert float(rows["noise in flat regions"]["input"]) == noise.before
    assert rows["noise in flat regions"]["unit"] == "HU"
    assert rows["noise in flat regions"]["slice"] == "1"


def test_the_whole_volume_is_measured_drawn_and_its_worst_slice_gone_to(viewer, bench, qtbot, tmp_path):
    viewer.layers[RESTORED].data[2] += 100
    scan = viewer.layers[CT]
    bench.measure.reference.choose(viewer.add_image(scan.data - 5.0, name="full dose", scale=scan.scale))
    figures(bench, qtbot, "PSNR")
    bench.measure.volume.click()
    qtbot.waitUntil(lambda: bench.measure.volume.found is not None)
    table = bench.measure.table
    row = next(row for row in range(table.rowCount()) if table.item(row, 0).text().startswith("volume, 3 slices: RMSE"))
    table.setCurrentCell(row, 1)
    assert viewer.dims.current_step[0] == 2
    slices, errors = bench.measure.plot.curves["restored"]
    assert list(slices) == [0, 1, 2]
    assert errors[2] > errors[0] == pytest.approx(0, abs=1e-3)
    bench.measure.plot.clicked.emit(0.2)
    assert viewer.dims.current_step[0] == 0
    bench.measure.save_table(tmp_path / "figures.csv")
    text = (tmp_path / "figures.csv").read_text()
    assert text.count('"RMSE, window -160 to 240"') == 4, "that of the slice, and of each of three"
    bench.watch.comparison.mix_in(Blend(0.5))
    bench.watch.look_again()
    qtbot.waitUntil(lambda: bench.measure.volume.found is None)


def test_measuring_the_volume_can_be_cancelled(bench, qtbot):
    bench.measure.volume.click()
    bench.measure.volume.click()
    qtbot.waitUntil(lambda: bench.measure.volume._worker is None)
    assert bench.measure.volume.found is None
    assert bench.measure.volume.text() == "Whole volume"


def test_a_row_of_a_region_goes_there(viewer, bench, qtbot):
    drawing = drawing_on(viewer, bench.watch.comparison)
    drawing.add_rectangles(np.array([[1, 19.5, 29.5], [1, 19.5, 59.5], [1, 49.5, 59.5], [1, 49.5, 29.5]]))
    bench.watch.look_again()
    figures(bench, qtbot, "mean of region 1")
    table = bench.measure.table
    row = next(row for row in range(table.rowCount()) if table.item(row, 0).text() == "mean of region 1")
    table.setCurrentCell(row, 0)
    assert tuple(viewer.scene.camera.center)[1:] == pytest.approx((34, 44), abs=1)


def test_a_drawn_region_and_line_are_measured_on_every_slice(viewer, bench, qtbot):
    drawing = drawing_on(viewer, bench.watch.comparison)
    drawing.add_rectangles(np.array([[1, 19.5, 29.5], [1, 19.5, 59.5], [1, 49.5, 59.5], [1, 49.5, 29.5]]))
    bench.watch.look_again()
    mean = figures(bench, qtbot, "mean of region 1")
    assert mean.before == pytest.approx(viewer.layers[CT].data[1, 20:50, 30:60].mean(), rel=1e-5)
    assert mean.after == pytest.approx(mean.before - 5, abs=1e-3)
    drawing.add_lines(np.array([[1, 30.0, 20.0], [1, 30.0, 100.0]]))
    qtbot.waitUntil(lambda: PROFILE in bench.measure.measured.plots)
    bench.measure.kind.setCurrentText(PROFILE)
    distance, values = bench.measure.plot.curves["restored"]
    assert distance[-1] == pytest.approx(80)
    assert values[0] == pytest.approx(viewer.layers[RESTORED].data[1, 30, 20], rel=1e-5)
    viewer.dims.set_current_step(0, 2)
    expected = viewer.layers[CT].data[2, 20:50, 30:60].mean()
    qtbot.waitUntil(lambda: abs(figures(bench, qtbot, "mean of region 1").before - expected) < 1e-3)
    assert {HISTOGRAM, PROFILE, SPECTRUM} == set(bench.measure.measured.plots)


def test_ellipses_are_regions_too(viewer, bench, qtbot):
    drawing = drawing_on(viewer, bench.watch.comparison)
    drawing.add_ellipses(np.array([[1, 40, 40], [1, 40, 60], [1, 60, 60], [1, 60, 40]]))
    bench.watch.look_again()
    rows, columns = np.indices((ROWS, COLUMNS))
    inside = np.hypot(rows - 50, columns - 50) <= 10
    mean = figures(bench, qtbot, "mean of region 1")
    assert mean.before == pytest.approx(viewer.layers[CT].data[1][inside].mean(), rel=1e-5)


def test_draw_leaves_the_grid_so_that_there_is_something_to_draw_on(viewer, panel, bench):
    bench.measure.draw.click()
    assert panel.compare.modes.currentText() == RESTORED_ONLY
    assert viewer.layers.selection.active.name == "CT [regions]"
    assert viewer.layers["CT [regions]"].visible


def test_what_is_drawn_after_the_button_was_pressed_is_measured_at_once(viewer, bench, qtbot):
    bench.measure.draw.click()
    qtbot.waitUntil(lambda: bench.measure._drawing is not None)
    corners = np.array([[1, 19.5, 29.5], [1, 19.5, 59.5], [1, 49.5, 59.5], [1, 49.5, 29.5]])
    viewer.layers["CT [regions]"].add_rectangles(corners)
    expected = viewer.layers[CT].data[1, 20:50, 30:60].mean()
    assert figures(bench, qtbot, "mean of region 1").before == pytest.approx(expected, rel=1e-5)


def test_all_slices_are_judged_and_a_click_goes_to_one(viewer, bench, qtbot):
    bench.slices.start()
    qtbot.waitUntil(lambda: bench.slices.report is not None)
    assert [one.index for one in bench.slices.report.slices] == [0, 1, 2]
    bench.slices.slice_chosen.emit(2)
    assert viewer.dims.current_step[0] == 2
    item = bench.slices.list.item(0)
    bench.slices.list.setCurrentItem(item)
    assert f"slice {viewer.dims.current_step[0]}:" in item.text()


def test_the_classical_filter_is_a_fourth_cell_with_its_figures_and_values(viewer, panel, bench, qtbot):
    bench.beside_button.click()
    layer = viewer.layers["CT [non-local means]"]
    qtbot.waitUntil(lambda: not np.isnan(layer.data[1]).any())
    inside = (slice(20, 76), slice(20, 108))
    assert layer.data[1][inside].std() < 0.7 * viewer.layers[CT].data[1][inside].std()
    assert np.isnan(layer.data[2]).all(), "only what is looked at is filtered"
    assert tuple(viewer.canvas.grid.shape) == (1, 4)
    qtbot.waitUntil(lambda: bool(bench.measure.measured is not None and bench.measure.measured.classical))
    assert bench.measure.table.columnCount() == 4
    viewer.cursor.position = (2.0, 50.0, 50.0)
    qtbot.waitUntil(lambda: "classical" in panel.compare.reading.values.text())
    bench.beside_button.click()
    assert len(viewer.layers) == 3
    assert tuple(viewer.canvas.grid.shape) == (1, 3)


def test_the_reference_is_a_fourth_cell_in_the_same_window_and_goes_when_left(viewer, panel, bench, qtbot):
    assert not bench.reference_button.isEnabled()
    scan = viewer.layers[CT]
    bench.measure.reference.choose(viewer.add_image(scan.data - 5.0, name="full dose", scale=scan.scale))
    bench.reference_button.click()
    cell = viewer.layers["full dose [reference]"]
    assert tuple(viewer.canvas.grid.shape) == (1, 4)
    scan.contrast_limits = (0, 80)
    assert tuple(cell.contrast_limits) == (0, 80)
    viewer.cursor.position = (2.0, 50.0, 50.0)
    qtbot.waitUntil(lambda: "reference" in panel.compare.reading.values.text())
    bench.beside_button.click()
    assert cell not in viewer.layers, "one fourth cell at a time"
    bench.reference_button.click()
    panel.compare.choose_mode(OWN_VIEW)
    assert [layer.name for layer in viewer.layers if "reference" in layer.name] == []
    qtbot.waitUntil(lambda: not bench.reference_button.isChecked())


def test_no_more_than_three_filtered_slices_are_kept(viewer, bench, qtbot):
    bench.classical.begin()
    for index in range(5):
        bench.classical._take((bench.watch.comparison, index, np.zeros((ROWS, COLUMNS), np.float32)))
    assert list(bench.classical._kept) == [2, 3, 4]


def test_every_control_has_a_tooltip_a_name_and_a_way_by_keyboard(panel, bench):
    from qtpy.QtWidgets import (
        QAbstractButton,
        QAbstractSlider,
        QAbstractSpinBox,
        QComboBox,
        QListWidget,
        QScrollBar,
        QTableWidget,
    )

    kinds = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QListWidget, QTableWidget)
    controls = [one for part in (panel.compare, bench) for kind in kinds for one in part.findChildren(kind)]
    # The arrows of lists and tabs, which Qt makes for itself.
    own = [
        one
        for one in controls
        if not isinstance(one, QScrollBar) and not one.objectName().startswith(("qt_", "Scroll"))
    ]
    known = [one for one in own if not (isinstance(one, QAbstractButton) and not one.text())]
    assert len(known) > 20
    for control in known:
        what = f"{type(control).__name__} {control.accessibleName() or getattr(control, 'text', str)()}"
        assert control.toolTip(), what
        assert control.accessibleName() or (isinstance(control, QAbstractButton) and control.text()), what
        assert control.focusPolicy() & Qt.FocusPolicy.TabFocus, what


def test_the_workbench_follows_a_result_whose_layers_are_deleted(viewer, bench, qtbot):
    viewer.layers.remove(RESTORED)
    qtbot.waitUntil(lambda: bench.watch.comparison is None)
    assert "nothing to compare" in bench.about.text()


def replay(bench, viewer):
    names = {"viewer": viewer}
    exec(bench.macro.lines[-1], names)
    return names


def test_what_was_judged_and_measured_is_done_again_by_its_lines(viewer, bench, qtbot):
    assert bench.macro.isHidden()
    bench.slices.start()
    qtbot.waitUntil(lambda: bench.slices.report is not None)
    assert replay(bench, viewer)["report"].slices == bench.slices.report.slices
    scan = viewer.layers[CT]
    bench.measure.reference.choose(viewer.add_image(scan.data - 5.0, name="full dose", scale=scan.scale))
    figures(bench, qtbot, "PSNR")
    bench.measure.volume.click()
    qtbot.waitUntil(lambda: bench.measure.volume.found is not None)
    again = replay(bench, viewer)["figures"]
    assert [one.name for one in again.figures()] == [one.name for one in bench.measure.volume.found.figures()]
    assert [one.after for one in again.figures()] == [one.after for one in bench.measure.volume.found.figures()]
    assert len(bench.macro.lines) == 2
    bench.macro.python.click()
    assert bench.about.text() == "Copied: paste it into napari's console."
