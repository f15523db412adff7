"""The contents of the fourth cell: the classical filter, the reference, k-space."""

from dataclasses import replace

import numpy as np
import pytest
from bench_parts import COLUMNS, CT, ROWS, figures
from qtpy.QtCore import QCoreApplication, QEvent

from napari_restore_rwkv.gui.compare.numbers_cell import _Page
from napari_restore_rwkv.gui.compare.state import OWN_VIEW


def test_k_space_of_an_mr_slice_is_described_and_shown_beside(viewer, bench, qtbot):
    assert not bench.tabs.isTabVisible(bench.tabs.indexOf(bench.kspace)), "the scan is CT"
    shown = replace(bench.watch.shown, modality="MR")
    bench.kspace.look_at(shown)
    qtbot.waitUntil(lambda: bench.kspace.found is not None)
    assert "measured" in bench.kspace.about.text()
    bench.kspace.show_button.click()
    cell = viewer.layers["k-space: measured (grey), added (orange)"]
    assert cell.data[1, ROWS // 2, COLUMNS // 2] == 1
    assert tuple(viewer.canvas.grid.shape) == (1, 4)


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


@pytest.mark.slow
def test_the_reference_is_a_fourth_cell_in_the_same_window_until_left(viewer, panel, bench, qtbot):
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


@pytest.mark.parametrize("how", ["deleted", "left"])
def test_a_fourth_cell_that_is_gone_leaves_the_grid_and_its_values_the_line(viewer, panel, bench, qtbot, how):
    bench.beside_button.click()
    layer = viewer.layers["CT [non-local means]"]
    qtbot.waitUntil(lambda: not np.isnan(layer.data[1]).any())
    viewer.cursor.position = (2.0, 50.0, 50.0)
    qtbot.waitUntil(lambda: "classical" in panel.compare.reading.values.text())
    if how == "deleted":
        viewer.layers.remove(layer)
        qtbot.waitUntil(lambda: tuple(viewer.canvas.grid.shape) == (1, 3))
    else:
        panel.compare.choose_mode(OWN_VIEW)
    qtbot.waitUntil(lambda: not bench.beside_button.isChecked())
    qtbot.waitUntil(lambda: "classical" not in panel.compare.reading.values.text())


def test_no_more_than_three_filtered_slices_are_kept(viewer, bench, qtbot):
    bench.classical.begin()
    for index in range(5):
        bench.classical._take((bench.watch.comparison, index, np.zeros((ROWS, COLUMNS), np.float32)))
    assert list(bench.classical._kept) == [2, 3, 4]


def test_a_filter_that_ends_after_its_window_is_ignored(panel, bench, qtbot):
    """What it would show is deleted by then."""
    comparison = bench.watch.comparison
    bench.classical.begin()
    bench.classical.let_go()
    bench.watch.deleteLater()
    QCoreApplication.sendPostedEvents(bench.watch, QEvent.Type.DeferredDelete)
    bench.classical._background.answered.emit((comparison, 1, np.zeros((ROWS, COLUMNS), np.float32)))
    assert not bench.classical._kept


@pytest.mark.slow
def test_numbers_and_plot_are_a_fourth_cell_that_follows_the_slice(viewer, panel, bench, qtbot):
    figures(bench, qtbot, "noise")
    bench.measure.beside.click()
    cell = viewer.layers["CT [numbers]"]
    assert cell.visible
    assert tuple(viewer.canvas.grid.shape) == (1, 4)
    borders = [layer.extent.world + np.outer((-0.5, 0.5), layer.scale) for layer in (cell, viewer.layers[CT])]
    np.testing.assert_allclose(borders[0], borders[1], atol=1e-6)
    assert cell.data.shape[0] == 3
    assert cell.data.base.nbytes < 2 * cell.data[0].nbytes, "one page, not one for each slice"
    first = cell.data[0].copy()
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 8, "words and curves"
    viewer.dims.set_current_step(0, 2)
    qtbot.waitUntil(lambda: not np.array_equal(cell.data[0], first))
    viewer.cursor.position = (2.0, 50.0, 50.0)
    qtbot.waitUntil(lambda: panel.compare.reading.values.text().startswith("input"))
    assert panel.compare.reading.values.text().count(" · ") == 2
    bench.beside_button.click()
    assert cell not in viewer.layers, "one fourth cell at a time"
    assert not bench.measure.beside.isChecked()
    bench.measure.beside.click()
    panel.compare.choose_mode(OWN_VIEW)
    assert [layer.name for layer in viewer.layers if "numbers" in layer.name] == []
    qtbot.waitUntil(lambda: not bench.measure.beside.isChecked())


def test_a_page_of_numbers_holds_what_there_is_room_for(bench, qtbot):
    figures(bench, qtbot, "noise")
    rows = bench.measure.rows()
    assert rows[0] == ["", "input", "restored"]
    assert [row[0] for row in rows[1:]] == [one.name for one in bench.measure.measured.figures]
    page = _Page(bench.measure, 300, 225)
    assert rows[1][0] in page._figures.text()
    assert rows[1][1] in page._figures.text()
    assert page._figures.heightForWidth(288) <= 0.55 * 225
    page.deleteLater()
