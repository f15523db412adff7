"""Figures and curves of the slice, of regions, and of the volume."""

import csv

import numpy as np
import pytest
from bench_parts import COLUMNS, CT, RESTORED, ROWS, figures

from napari_restore_rwkv.gui.compare.drawing import drawing_on
from napari_restore_rwkv.gui.compare.figures import HISTOGRAM, PROFILE, SPECTRUM
from napari_restore_rwkv.gui.compare.measure_tab import no_formula
from napari_restore_rwkv.gui.compare.state import RESTORED_ONLY
from napari_restore_rwkv.metrics import score_slice
from napari_restore_rwkv.restoration.detail import Blend


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
    assert [file.name for file in tmp_path.glob("figures*")] == ["figures.csv"]
    with (tmp_path / "figures.csv").open(newline="") as file:
        rows = {row["figure"]: row for row in csv.DictReader(file)}
    assert float(rows["noise in flat regions"]["input"]) == noise.before
    assert rows["noise in flat regions"]["unit"] == "HU"
    assert rows["noise in flat regions"]["slice"] == "1"


@pytest.mark.slow
def test_the_whole_volume_is_measured_plotted_and_leads_to_its_worst_slice(viewer, bench, qtbot, tmp_path):
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


def test_clicking_the_row_of_a_region_goes_there(viewer, bench, qtbot):
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


def test_a_plot_of_nothing_has_no_axes_with_numbers(bench, qtbot):
    figures(bench, qtbot, "noise")
    axes = [bench.measure.plot._plot.getAxis(side) for side in ("bottom", "left")]
    assert all(axis.isVisible() for axis in axes)
    bench.measure.kind.setCurrentText(PROFILE)
    assert not any(axis.isVisible() for axis in axes)


def test_no_unit_of_a_file_is_a_formula_in_a_spreadsheet():
    assert [no_formula(text) for text in ("=cmd|'/C calc'!A0", "@x", "HU")] == ["'=cmd|'/C calc'!A0", "'@x", "HU"]
