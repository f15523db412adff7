"""The layers of a result: their values, limits, geometry and provenance."""

import numpy as np
import pytest

from napari_restore_rwkv.gui.layers import RECORD, layer_to_scan

CHANGE = 5.0
CT, RESTORED, DIFFERENCE = "CT abdomen", "CT abdomen [restored]", "CT abdomen [restored - input]"


def test_the_difference_is_signed_and_its_limits_are_symmetric(viewer, ct_panel, run_to_the_end):
    run_to_the_end(ct_panel, "volume")
    difference = viewer.layers[DIFFERENCE]
    assert np.array_equal(difference.data, viewer.layers[RESTORED].data - viewer.layers[CT].data)
    assert (difference.data == -CHANGE).all()
    assert tuple(difference.contrast_limits) == pytest.approx((-CHANGE, CHANGE))
    red, green, blue = difference.colormap.map(np.array([0.5]))[0, :3]
    assert max(red, green, blue) < 0.02, "zero is black"


def test_limits_of_the_difference_that_were_set_by_hand_stay(viewer, ct_panel, run_to_the_end):
    run_to_the_end(ct_panel, "slice")
    viewer.layers[DIFFERENCE].contrast_limits = (-50, 50)
    run_to_the_end(ct_panel, "volume")
    assert tuple(viewer.layers[DIFFERENCE].contrast_limits) == (-50, 50)


def test_voxels_that_are_not_finite_stay_out_of_the_limits(viewer, make_panel, denoise_anyway, run_to_the_end):
    voxels = np.zeros((3, 8, 8), np.float32)
    voxels[:, 0, 0], voxels[:, 1, 1] = np.nan, np.inf
    viewer.add_image(voxels, name="holes", contrast_limits=(0, 1))
    panel = denoise_anyway(make_panel(viewer))
    run_to_the_end(panel, "volume")
    assert tuple(viewer.layers["holes [restored - input]"].contrast_limits) == pytest.approx((-CHANGE, CHANGE))
    panel.compare.strength.setValue(50)
    panel.compare._mix()
    mixed = np.asarray(viewer.layers["holes [restored] · 50 %"].data)
    assert np.isnan(mixed[:, 0, 0]).all()
    assert np.isinf(mixed[:, 1, 1]).all()
    assert np.allclose(mixed[:, 2:, 2:], -CHANGE / 2)


def test_the_restored_layer_keeps_geometry_and_provenance(viewer, ct_panel, ct_scan, run_to_the_end):
    run_to_the_end(ct_panel, "volume")
    restored = viewer.layers[RESTORED]
    assert np.allclose(restored.scale, viewer.layers[CT].scale)
    assert [str(unit) for unit in restored.units] == ["millimeter"] * 3
    scan = layer_to_scan(restored)
    assert np.allclose(scan.direction, ct_scan.direction)
    assert scan.origin_mm == ct_scan.origin_mm
    how = scan.metadata["restoration"]
    assert (how["kernel"], how["slices"], how["strength"]) == ("none", 5, 1.0)
    assert viewer.layers[DIFFERENCE].metadata[RECORD]["metadata"]["restoration"]["shows"] == "restored - input"


def test_strength_mixes_input_and_restored_at_once(viewer, ct_panel, run_to_the_end):
    run_to_the_end(ct_panel, "volume")
    ct_panel.compare.strength.setValue(40)
    ct_panel.compare._mix()
    restored, difference = viewer.layers[f"{RESTORED} · 40 %"], viewer.layers[f"{DIFFERENCE} · 40 %"]
    assert np.allclose(np.asarray(restored.data), viewer.layers[CT].data - 0.4 * CHANGE)
    assert np.allclose(np.asarray(difference.data), -0.4 * CHANGE)
    assert layer_to_scan(restored).metadata["restoration"]["strength"] == 0.4
    ct_panel.compare.strength.setValue(100)
    ct_panel.compare._mix()
    assert np.array_equal(restored.data, viewer.layers[CT].data - np.float32(CHANGE))
