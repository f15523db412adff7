"""The difference in other modes: its layer, its limits, and its legend on the canvas."""

import numpy as np
import pytest
from napari.layers import Layer

from napari_restore_rwkv.gui import layers as layers_module
from napari_restore_rwkv.gui.compare.state import OWN_VIEW, SIDE_BY_SIDE, SWIPE
from napari_restore_rwkv.scans.scan import Scan

DIFFERENCE, CHANGE, NOISE = "CT [restored - input]", 5.0, 20.0


@pytest.fixture
def panel(viewer, make_panel, rng, run_to_the_end):
    """The panel after a volume of 3 slices of 96 x 96, white noise of 20 HU around 100; 5 HU are taken away."""
    viewer.canvas.size = (400, 1200)
    voxels = rng.normal(100, NOISE, (3, 96, 96)).astype(np.float32)
    scan = Scan(voxels, (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), "CT", "HU", {})
    viewer.add_layer(Layer.create(*layers_module.scan_to_layer(scan, "CT")))
    viewer.dims.set_current_step(0, 1)
    panel = make_panel(viewer)
    run_to_the_end(panel, "volume")
    return panel


@pytest.fixture
def difference(viewer, panel):
    return viewer.layers[DIFFERENCE]


def choose(panel, qtbot, mode):
    """Choose a mode, and wait for its limits."""
    panel.compare.difference.mode.setCurrentText(mode)
    qtbot.waitUntil(lambda: not panel.compare.difference._fits)


def test_multiples_of_the_noise_are_shown_for_the_displayed_slice(viewer, panel, difference, qtbot):
    choose(panel, qtbot, "in local noise")
    seen = np.asarray(difference.data[1])
    assert np.median(seen) == pytest.approx(-CHANGE / NOISE, rel=0.2)
    assert difference.contrast_limits[1] == pytest.approx(np.percentile(np.abs(seen), 99.5), rel=1e-5)
    assert difference.contrast_limits[0] == -difference.contrast_limits[1]
    assert np.isnan(difference.data[2]).all(), "nobody has looked there"
    np.testing.assert_array_equal(difference.data[0:3, 4:9, 7][1], seen[4:9, 7])
    limits = difference.contrast_limits
    viewer.dims.set_current_step(0, 2)
    qtbot.waitUntil(lambda: not np.isnan(difference.data[2]).any())
    assert difference.contrast_limits == limits, "colours mean the same in every slice"


def test_a_relative_difference_follows_the_strength(viewer, panel, difference, qtbot):
    choose(panel, qtbot, "relative")
    before = viewer.layers["CT"].data[1]
    np.testing.assert_allclose(difference.data[1], -100 * CHANGE / (before + 1000), rtol=1e-5)
    panel.compare.strength.setValue(50)
    panel.compare._mix()
    np.testing.assert_allclose(difference.data[1], -50 * CHANGE / (before + 1000), rtol=1e-5)
    assert "in % of HU + 1000" in difference.metadata["restore_rwkv"]["metadata"]["restoration"]["shows"]


def test_limits_are_edited_in_the_panel_and_in_the_layer(panel, difference, qtbot):
    row = panel.compare.difference
    row.limit.setValue(40.0)
    assert tuple(difference.contrast_limits) == (-40, 40)
    difference.contrast_limits = (-12, 12)
    assert row.limit.value() == 12
    assert (row.limit.prefix(), row.limit.suffix()) == ("± ", " HU")
    choose(panel, qtbot, "absolute")
    assert (row.limit.prefix(), row.limit.suffix()) == ("to ", " HU")
    assert tuple(difference.contrast_limits) == pytest.approx((0, CHANGE))
    assert difference.colormap.name == "|restored - input|"
    row.mode.setCurrentText("signed")
    assert tuple(difference.contrast_limits) == pytest.approx((-CHANGE, CHANGE))
    assert difference.data is panel.compare.comparison.result.difference


def test_the_canvas_explains_the_colour_bar_if_there_is_one(viewer, panel, qtbot):
    text = viewer.canvas.overlays.text
    panel.compare.choose_mode(SIDE_BY_SIDE)
    assert (text.visible, text.text) == (True, "\ndifference: restored - input in HU")
    choose(panel, qtbot, "absolute")
    assert text.text == "\ndifference: |restored - input| in HU"
    panel.compare.choose_mode(SWIPE)
    assert not text.visible
    panel.compare.choose_mode(OWN_VIEW)
    assert (text.visible, text.text) == (False, "")


def test_a_panel_that_is_opened_later_shows_the_same(viewer, panel, difference, make_panel, qtbot):
    choose(panel, qtbot, "absolute")
    panel.shut_down()
    again = make_panel(viewer)
    assert again.compare.difference.mode.currentText() == "absolute"
    again.compare.difference.mode.setCurrentText("signed")
    assert np.asarray(difference.data[1]).mean() == pytest.approx(-CHANGE, rel=1e-3)
