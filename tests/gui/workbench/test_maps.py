"""Maps of a slice: what would be lost, and how sensitive the result is."""

import threading

import numpy as np
import pytest
import torch
from bench_parts import CT, DIFFERENCE, RESTORED, Flattens, Keeps, map_slice, replay
from torch import nn

from napari_restore_rwkv.gui.compare.state import OWN_VIEW


def test_the_time_is_estimated_before_a_map_is_started(bench):
    assert bench.lost.about.text().startswith("The slice is restored 8 times, about ")
    assert bench.lost.contrast.suffix() == " HU"


def test_a_network_that_leaves_everything_loses_nothing_and_runs_off_the_gui_thread(bench, qtbot, network):
    keeps = network(Keeps())
    assert map_slice(bench, qtbot) == "Slice 1: 100% of the contrast of a disc of 5 HU, 8 mm is left (median)."
    assert len(keeps.threads) == 8
    assert threading.main_thread() not in keeps.threads


def test_the_map_uses_the_shown_strength_and_is_the_fourth_cell(viewer, panel, bench, qtbot, network):
    network(Flattens())
    panel.compare.strength.setValue(50)
    panel.compare._mix()
    assert "50% of the contrast of a disc" in map_slice(bench, qtbot)
    shown = [layer.name for layer in viewer.layers if layer.visible]
    assert shown == [CT, f"{RESTORED} · 50 %", f"{DIFFERENCE} · 50 %", "contrast kept of 5 HU, 8 mm"]
    assert tuple(viewer.canvas.grid.shape) == (1, 4)
    layer = viewer.layers[-1]
    assert layer.colorbar.visible
    assert tuple(layer.contrast_limits) == (0.0, 1.0)
    assert np.isnan(layer.data[0]).all()
    assert np.nanmedian(layer.data[1]) == pytest.approx(0.5, abs=0.02)
    panel.compare.choose_mode(OWN_VIEW)
    assert len(viewer.layers) == 3


@pytest.mark.slow
def test_the_map_includes_detail_that_is_put_back(panel, bench, qtbot, network):
    network(Flattens())
    panel.compare.coarse.setValue(100)
    panel.compare._mix()
    left = float(map_slice(bench, qtbot).split(": ")[-1].split("%")[0])
    assert left > 50, "a disc of 8 pixels is mostly coarse"


def test_the_worst_positions_are_listed_and_a_click_goes_there(viewer, bench, qtbot, network):
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


def test_the_sensitivity_is_mapped_beside_and_labelled_correctly(viewer, bench, qtbot, network):
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


@pytest.mark.slow
def test_maps_are_repeated_by_their_lines(viewer, panel, bench, qtbot, network):
    network(Flattens())
    panel.compare.strength.setValue(50)
    panel.compare._mix()
    map_slice(bench, qtbot)
    lost = replay(bench, viewer)["lost"]
    np.testing.assert_array_equal(lost.kept, viewer.layers["contrast kept of 5 HU, 8 mm"].data[1])
    bench.sensitive.start()
    qtbot.waitUntil(lambda: bench.sensitive._worker is None)
    again = replay(bench, viewer)["sensitivity"]
    np.testing.assert_array_equal(again.deviation, viewer.layers["sensitivity, not probability HU"].data[1])


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


def test_a_probe_that_is_too_small_is_refused_with_a_message(bench, qtbot, network):
    network(Keeps())
    bench.lost.diameter.setValue(1.0)
    assert "take 1.5 mm or more" in map_slice(bench, qtbot)
