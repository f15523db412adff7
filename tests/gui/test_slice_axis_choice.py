"""The axis across the slices: proposed with its reason, chosen by the user, kept by an unfinished job."""

import json
from dataclasses import replace

import numpy as np
from file_jobs import chest, chest_layer
from napari.layers import Layer

from napari_restore_rwkv.gui.layers import layer_to_scan, scan_to_layer
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.scans.slice_axis import choose_slice_axis


def test_the_axis_of_the_layer_is_proposed_with_its_reason(ct_panel):
    axis = ct_panel.form.axis
    assert axis.current_choice == "auto: along z"
    assert "along z, whose spacing of 2 mm is by far the largest" in axis.tooltip
    assert ct_panel.form.options().axis == "auto"


def test_a_layer_knows_how_its_scan_was_acquired(rng):
    scan = Scan(rng.random((40, 40, 40), np.float32), spacing_mm=(0.6, 0.9, 0.9), acquired_along=2)
    layer = Layer.create(*scan_to_layer(scan, "thin"))
    assert choose_slice_axis(layer_to_scan(layer)).axis == 2


def test_the_chosen_axis_is_restored_along(ct_panel, qtbot):
    form = ct_panel.form
    form.axis.value = "y"
    form.region.value = "volume"
    ct_panel.restore()
    qtbot.waitUntil(lambda: not ct_panel.job.running, timeout=20_000)
    assert ct_panel.job.comparison.result.axis == 1
    assert ct_panel.job.comparison.result.slices == 24


def test_another_scan_is_proposed_its_own_axis(viewer, ct_panel, ct_scan):
    ct_panel.form.axis.value = "x"
    viewer.add_layer(Layer.create(*scan_to_layer(replace(ct_scan, spacing_mm=(1.0, 1.0, 4.0)), "sagittal")))
    assert ct_panel.form.axis.current_choice == "auto: along x"


def test_a_result_in_a_file_keeps_its_axis_and_reason(viewer, make_file_panel, weights_file, output, qtbot):
    viewer.add_layer(Layer.create(*chest_layer()))
    panel = make_file_panel(viewer)
    panel.form.weights.use_file(weights_file)
    panel.form.region.value = "volume"
    panel.form.output.value = output
    panel.form.axis.value = "y"
    panel.restore()
    qtbot.waitUntil(lambda: not panel.job.running, timeout=60_000)
    record = json.loads((output / "zarr.json").read_text())["attributes"]["restore_rwkv"]["restoration"]
    assert (record["slice_axis"], record["slice_axis_reason"]) == ("y", "as was asked for")
    assert record["slices"] == chest().shape[1]
