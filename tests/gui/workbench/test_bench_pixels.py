"""The views of the workbench in a real window, by their pixels: cells, maps, tabs and plots."""

import numpy as np
import pytest
import torch
from bench_parts import Flattens, figures
from napari.layers import Layer
from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QLabel, QSlider, QWidget
from torch import nn

from napari_restore_rwkv.gui import layers as layers_module
from napari_restore_rwkv.gui.compare.drawing import drawing_on
from napari_restore_rwkv.gui.compare.figures import HISTOGRAM, PROFILE
from napari_restore_rwkv.gui.compare.plot import COLOURS
from napari_restore_rwkv.gui.compare.state import BLINK, SWIPE
from napari_restore_rwkv.gui.compare.workbench import Workbench
from napari_restore_rwkv.gui.restore.panel import RestorePanel
from napari_restore_rwkv.reliability import slice_maps
from napari_restore_rwkv.scans.scan import Scan

ROWS, COLUMNS = 96, 96
CONTROLS = (QAbstractButton, QAbstractSpinBox, QComboBox, QLabel, QSlider)


class LosesTheLower(nn.Module):
    """Keeps the upper half, and flattens the lower one."""

    def forward(self, x):
        half = x.shape[-2] // 2
        return torch.cat((x[..., :half, :], Flattens()(x[..., half:, :])), dim=2)


@pytest.fixture
def modality():
    return "CT"


@pytest.fixture
def window(make_napari_viewer, restoration, rng, modality, run_to_the_end):
    """A real window with a slice whose left half is 40 and whose right half is 140, with noise; 5 are taken away."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1400, 800)
    restoration.modality = None
    voxels = rng.normal(40, 8, (2, ROWS, COLUMNS)).astype(np.float32)
    voxels[..., COLUMNS // 2 :] += 100
    scan = Scan(voxels, (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), modality, "HU" if modality == "CT" else "", {})
    layer = viewer.add_layer(Layer.create(*layers_module.scan_to_layer(scan, "scan")))
    layer.contrast_limits = (-160, 240)
    panel = RestorePanel(viewer)
    viewer.window.add_dock_widget(panel, name="Restore")
    if modality != "CT":
        panel.form.task.value = "ct-denoise"
        panel.form.any_modality.value = True
    run_to_the_end(panel, "volume")
    return viewer, panel


@pytest.fixture
def bench(window, qtbot):
    viewer, panel = window
    bench = Workbench(viewer)
    viewer.window.add_dock_widget(bench, name="Compare", tabify=True)
    bench.look_with(panel.compare)
    qtbot.waitUntil(lambda: bench.watch.shown is not None)
    return bench


@pytest.fixture
def cells(window, look):
    """Return the picture of each cell, left to right and top to bottom, without words over it."""
    viewer, _ = window

    def cells():
        for overlay in (viewer.canvas.overlays.scale_bar, viewer.canvas.overlays.text):
            overlay.visible = False
        for layer in viewer.layers:
            layer.name_overlay.visible = False
            if hasattr(layer, "colorbar"):
                layer.colorbar.visible = False
        picture = look(viewer)
        rows, columns = viewer.canvas.grid.shape if viewer.canvas.grid.enabled else (1, 1)
        height, width = picture.shape[0] // rows, picture.shape[1] // columns
        return [
            picture[row * height : (row + 1) * height, column * width : (column + 1) * width]
            for row in range(rows)
            for column in range(columns)
        ]

    return cells


def part(cell, top, bottom, left, right):
    """Return a part of the square picture in the middle of a cell, between shares of its sides."""
    height, width = cell.shape[:2]
    side = 0.95 * min(height, width)
    rows = [round(height / 2 + (share - 0.5) * side) for share in (top, bottom)]
    columns = [round(width / 2 + (share - 0.5) * side) for share in (left, right)]
    return cell[slice(*rows), slice(*columns)]


def halves(cell):
    """Return the mean colours of the left and of the right half of the picture in a cell."""
    return tuple(part(cell, 0.25, 0.75, left, left + 0.25).mean(axis=(0, 1)) for left in (0.15, 0.6))


def painted(widget):
    """Return the pixels of a widget as they are on the screen, shape (rows, columns, 3)."""
    image = widget.grab().toImage().convertToFormat(widget.grab().toImage().Format.Format_RGB888)
    bits = image.constBits()
    bits.setsize(image.sizeInBytes())
    rows = np.frombuffer(bits, np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).astype(int)


def places_of(picture, name):
    """Return rows and columns of the pixels in the colour of a curve."""
    colour = [int(COLOURS[name][at : at + 2], 16) for at in (1, 3, 5)]
    return np.nonzero(np.abs(picture - colour).max(axis=2) < 24)


@pytest.mark.slow
def test_blink_shows_the_input_and_the_restored_slice_in_turn(window, cells):
    _, panel = window
    panel.compare.choose_mode(BLINK)
    shown = [halves(cells()[0])]
    for _ in range(2):
        panel.compare.blink()
        shown.append(halves(cells()[0]))
    for half in (0, 1):
        assert shown[0][half][0] - shown[1][half][0] == pytest.approx(5 * 255 / 400, abs=1), "5 HU darker"
        np.testing.assert_array_equal(shown[2][half], shown[0][half])
    assert shown[0][1][0] - shown[0][0][0] == pytest.approx(100 * 255 / 400, abs=3)


@pytest.mark.slow
def test_the_map_of_losses_is_bright_where_contrast_is_kept(bench, cells, qtbot, monkeypatch):
    monkeypatch.setattr(slice_maps, "load_restorer", lambda weights: LosesTheLower())
    bench.lost.start()
    qtbot.waitUntil(lambda: bench.lost._worker is None)
    shown = cells()
    assert len(shown) == 4
    # Right, where the body is: the left half counts as air.
    above, below = (part(shown[3], top, top + 0.2, 0.65, 0.85).mean(axis=(0, 1)) for top in (0.15, 0.65))
    assert above.sum() > 500, "all of it is left: the bright end of the colours"
    assert below.sum() < 150, "nothing is left: the dark end"
    assert halves(shown[0])[1][0] > halves(shown[0])[0][0] + 40, "beside the input"


@pytest.mark.slow
def test_the_map_of_sensitivity_is_bright_where_results_differ(bench, cells, qtbot, monkeypatch):
    class Darkens(nn.Module):
        """Turns one quarter of the picture darker, wherever that lies."""

        def forward(self, x):
            change = torch.zeros_like(x)
            change[..., :32, :] = 0.01
            change[..., :, :32] = 0.01
            return x - change

    monkeypatch.setattr(slice_maps, "load_restorer", lambda weights: Darkens())
    bench.sensitive.start()
    qtbot.waitUntil(lambda: bench.sensitive._worker is None)
    cell = cells()[3]
    middle, rim = part(cell, 0.45, 0.55, 0.45, 0.55), part(cell, 0.45, 0.55, 0.08, 0.16)
    assert rim[..., 1].mean() > middle[..., 1].mean() + 60, "the middle never differs, the rim does"


@pytest.mark.parametrize("modality", ["MR"])
@pytest.mark.slow
def test_k_space_is_grey_where_measured_and_orange_where_added(window, bench, cells, qtbot):
    _, panel = window
    comparison = panel.compare.comparison
    spectrum = np.fft.fftshift(np.fft.fft2(comparison.result.scan.voxels[0]))
    # As many frequencies on either side of 0, which is at 48.
    inner = (slice(25, 72), slice(25, 72))
    measured = np.zeros_like(spectrum)
    measured[inner] = spectrum[inner]
    before = np.fft.ifft2(np.fft.ifftshift(measured)).real
    comparison.input.data[0] = before
    comparison.result.restored[0] = np.fft.ifft2(np.fft.ifftshift(spectrum)).real
    # What was shown before may be a view of the same voxels, and was judged before they changed.
    earlier = bench.watch.shown
    bench.watch.look_again()
    qtbot.waitUntil(lambda: bench.watch.shown is not earlier and bench.kspace.found is not None)
    bench.tabs.setCurrentWidget(bench.kspace)
    assert bench.tabs.isTabVisible(bench.tabs.indexOf(bench.kspace))
    assert bench.kspace.about.text().startswith("Measured: up to 22 cycles")
    words = painted(bench.kspace)
    assert (np.abs(words - words[-1, -1]).max(axis=2) > 60).sum() > 200, "words are on the tab"
    bench.kspace.show_button.click()
    cell = cells()[3]
    inside, outside = part(cell, 0.35, 0.65, 0.35, 0.65), part(cell, 0.35, 0.65, 0.05, 0.15)
    assert np.abs(inside[..., 0] - inside[..., 2]).mean() < 3, "grey"
    assert inside.mean() > 20
    assert outside[..., 0].mean() > outside[..., 2].mean() + 15, "orange"


@pytest.mark.slow
def test_the_histogram_has_a_curve_for_each_in_its_own_colour(window, bench, at_rest, qtbot):
    viewer, _ = window
    figures(bench, qtbot, "noise")
    bench.tabs.setCurrentWidget(bench.measure)
    bench.measure.kind.setCurrentText(HISTOGRAM)
    at_rest(viewer)
    picture = painted(bench.measure.plot)
    found = {name: places_of(picture, name) for name in ("input", "restored")}
    assert all(len(rows) > 50 for rows, _ in found.values())
    # The same curve, 5 HU further to the left.
    assert found["restored"][1].min() <= found["input"][1].min()
    table = painted(bench.measure.table.viewport())
    assert (np.abs(table - table[0, 0]).max(axis=2) > 60).sum() > 300, "figures stand in the table"


@pytest.mark.slow
def test_the_line_profile_steps_up_where_the_picture_does(window, bench, at_rest, qtbot):
    viewer, panel = window
    drawing = drawing_on(viewer, panel.compare.comparison)
    drawing.add_lines(np.array([[0, 40.0, 10.0], [0, 40.0, 85.0]]))
    bench.watch.look_again()
    qtbot.waitUntil(lambda: bench.measure.measured is not None and PROFILE in bench.measure.measured.plots)
    bench.tabs.setCurrentWidget(bench.measure)
    bench.measure.kind.setCurrentText(PROFILE)
    at_rest(viewer)
    picture = painted(bench.measure.plot)
    rows, columns = places_of(picture, "restored")
    edge = (columns.min() + columns.max()) / 2
    left, right = rows[columns < edge - 20], rows[columns > edge + 20]
    assert np.median(right) < np.median(left) - picture.shape[0] / 4, "100 HU higher on the right"


@pytest.mark.slow
def test_the_classical_filter_is_smoother_in_its_cell_than_the_input(window, bench, cells, qtbot):
    viewer, _ = window
    bench.beside_button.click()
    layer = viewer.layers["scan [non-local means]"]
    qtbot.waitUntil(lambda: not np.isnan(layer.data[0]).any())
    shown = cells()

    def grain(cell):
        return part(cell, 0.2, 0.8, 0.15, 0.4).std()

    assert len(shown) == 4
    assert grain(shown[3]) < 0.7 * grain(shown[0])
    left, right = halves(shown[3])
    assert right[0] > left[0] + 40, "and it is the same slice"


@pytest.mark.slow
def test_the_reference_is_in_its_cell_in_the_window_of_the_scan(window, bench, cells):
    viewer, _ = window
    scan = viewer.layers["scan"]
    reference = viewer.add_image(np.full_like(scan.data, 190.0), name="full dose", scale=scan.scale)
    bench.measure.reference.choose(reference)
    bench.reference_button.click()
    shown = cells()
    assert len(shown) == 4
    left, right = halves(shown[3])
    assert left[0] == pytest.approx(350 * 255 / 400, abs=2)
    np.testing.assert_array_equal(left, right)


@pytest.mark.slow
def test_numbers_and_plot_fill_the_fourth_cell(window, bench, cells, look, qtbot):
    viewer, _ = window
    figures(bench, qtbot, "noise")
    bench.measure.beside.click()
    shown = cells()
    assert len(shown) == 4
    page = shown[3]
    top, bottom = page[: page.shape[0] // 2], page[page.shape[0] // 2 :]
    for half in (top, bottom):
        background = np.median(half, axis=(0, 1))
        assert (np.abs(half - background).max(axis=2) > 60).mean() > 0.005, "neither half is empty"
    assert len(places_of(bottom, "input")[0]) > 20
    assert len(places_of(bottom, "restored")[0]) > 20
    viewer.dims.ndisplay = 3
    look(viewer)
    viewer.dims.ndisplay = 2
    assert len(cells()) == 4, "three dimensions and back do no harm"


@pytest.mark.slow
def test_every_control_fits_a_window_of_1280_x_800_without_scrolling(window, bench, at_rest, qtbot):
    viewer, panel = window
    outside = viewer.window._qt_window
    viewer.window.resize(1280, 800)
    figures(bench, qtbot, "noise")
    bench.slices.start()
    qtbot.waitUntil(lambda: bench.slices.report is not None and bench.slices._worker is None)
    bench.tabs.setTabVisible(bench.tabs.indexOf(bench.kspace), True)
    panel.compare.choose_mode(SWIPE)
    # Advice stands above the plot where there is nothing to draw yet.
    bench.measure.kind.setCurrentText(PROFILE)
    looks = [(bench, tab) for tab in (bench.lost, bench.sensitive, bench.measure, bench.slices, bench.kspace)]
    for part, tab in [*looks, (panel, None)]:
        part.parent().raise_()
        if tab is not None:
            bench.tabs.setCurrentWidget(tab)
        at_rest(viewer)
        assert (outside.width(), outside.height()) == (1280, 800), "nothing makes the window larger"
        seen = [one for one in part.findChildren(QWidget) if isinstance(one, CONTROLS) and one.isVisible()]
        assert len(seen) > 5
        for one in seen:
            corners = [one.mapTo(outside, at) for at in (one.rect().topLeft(), one.rect().bottomRight())]
            what = f"{type(one).__name__} {one.accessibleName() or getattr(one, 'text', str)()}"
            assert all(outside.rect().contains(corner) for corner in corners), what
            assert one.height() >= min(one.minimumSizeHint().height(), one.sizeHint().height()) - 1, what
