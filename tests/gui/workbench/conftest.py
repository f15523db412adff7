"""The workbench on a result, as all tests of it begin."""

import numpy as np
import pytest
from bench_parts import COLUMNS, CT, ROWS, SLICES
from napari.layers import Layer

from napari_restore_rwkv.gui import layers as layers_module
from napari_restore_rwkv.gui.compare.workbench import Workbench
from napari_restore_rwkv.reliability import slice_maps
from napari_restore_rwkv.scans.scan import Scan


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
        monkeypatch.setattr(slice_maps, "load_restorer", lambda weights: network)
        return network

    return use
