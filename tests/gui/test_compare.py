"""Input, restored and difference beside each other, and the return to the user's own view."""

import json

import numpy as np
import pytest
from napari.layers import Labels
from napari.utils.key_bindings import KeymapHandler

from napari_restore_rwkv.errors import OutputError
from napari_restore_rwkv.gui.compare.compare_view import grid_shape
from napari_restore_rwkv.gui.compare.state import BLINK, OWN_VIEW, RESTORED_ONLY, SIDE_BY_SIDE
from napari_restore_rwkv.restoration.detail import Blend
from napari_restore_rwkv.scans.files import read_scan

CT, RESTORED, DIFFERENCE = "CT abdomen", "CT abdomen [restored]", "CT abdomen [restored - input]"


@pytest.fixture
def compared(viewer, ct_panel, run_to_the_end):
    """The panel after a whole volume, beside a hidden and a visible layer of the user's own."""
    viewer.canvas.size = (300, 900)
    viewer.add_layer(Labels(np.ones((5, 24, 32), int), name="organs"))
    viewer.add_image(np.zeros((5, 24, 32)), name="atlas", visible=False)
    ct_panel.choose_layer(viewer.layers[CT])
    run_to_the_end(ct_panel, "volume")
    return ct_panel


def visible(viewer):
    return [layer.name for layer in viewer.layers if layer.visible]


def test_side_by_side_shows_input_restored_difference_from_left_to_right(viewer, compared):
    assert visible(viewer) == [CT, RESTORED, DIFFERENCE]
    grid = viewer.canvas.grid
    assert grid.enabled
    assert (grid.stride, grid.shape) == (1, (1, 3))
    places = [grid.position(viewer.layers.index(name), viewer.layers) for name in (CT, RESTORED, DIFFERENCE)]
    assert places == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize(
    ("canvas", "picture", "shape"),
    [((600, 800), (500, 500), (1, 3)), ((880, 900), (500, 500), (1, 3)), ((700, 900), (40, 500), (3, 1))],
    ids=["wide window", "square window", "thin slab"],
)
def test_pictures_are_as_large_as_possible_without_an_empty_cell(canvas, picture, shape):
    assert grid_shape(canvas, picture) == shape


def test_four_pictures_fill_a_square_window():
    assert grid_shape((880, 900), (500, 500), 4) == (2, 2)
    assert grid_shape((400, 1600), (500, 500), 4) == (1, 4)


def test_every_panel_has_its_name_and_a_scale_bar(viewer, compared):
    assert all(viewer.layers[name].name_overlay.visible for name in (CT, RESTORED, DIFFERENCE))
    assert viewer.canvas.overlays.scale_bar.visible
    assert viewer.canvas.overlays.scale_bar.gridded
    assert viewer.layers[DIFFERENCE].colorbar.visible


def test_contrast_is_linked_between_input_and_restored_but_not_the_difference(viewer, compared):
    limits = tuple(viewer.layers[DIFFERENCE].contrast_limits)
    viewer.layers[CT].contrast_limits = (-20, 90)
    assert tuple(viewer.layers[RESTORED].contrast_limits) == (-20, 90)
    viewer.layers[RESTORED].gamma = 0.7
    assert viewer.layers[CT].gamma == 0.7
    assert tuple(viewer.layers[DIFFERENCE].contrast_limits) == limits
    assert viewer.layers[DIFFERENCE].colormap.name != viewer.layers[CT].colormap.name


def test_my_own_view_comes_back_as_it_was(viewer, ct_panel, run_to_the_end):
    viewer.add_layer(Labels(np.ones((5, 24, 32), int), name="organs"))
    viewer.add_image(np.zeros((5, 24, 32)), name="atlas", visible=False)
    ct_panel.choose_layer(viewer.layers[CT])
    viewer.canvas.grid.stride, viewer.canvas.grid.shape, viewer.canvas.grid.spacing = 2, (-1, 4), 0.1
    viewer.layers["organs"].name_overlay.visible = True
    viewer.scene.camera.zoom, viewer.scene.camera.center = 3.0, (0.0, 11.0, 12.0)
    run_to_the_end(ct_panel, "volume")
    ct_panel.compare.choose_mode(RESTORED_ONLY)
    assert visible(viewer) == [RESTORED]
    ct_panel.compare.choose_mode(OWN_VIEW)
    assert visible(viewer) == [CT, RESTORED, "organs"]
    grid = viewer.canvas.grid
    assert (grid.enabled, grid.stride, grid.shape, grid.spacing) == (False, 2, (-1, 4), 0.1)
    assert [layer.name for layer in viewer.layers if layer.name_overlay.visible] == ["organs"]
    assert not viewer.canvas.overlays.scale_bar.visible
    assert not viewer.canvas.overlays.scale_bar.gridded
    assert not viewer.layers[DIFFERENCE].colorbar.visible
    assert viewer.scene.camera.zoom == 3.0
    assert tuple(viewer.scene.camera.center) == (0.0, 11.0, 12.0)


@pytest.mark.slow
def test_a_zoomed_in_position_is_kept(viewer, compared):
    compared.compare.choose_mode(OWN_VIEW)
    viewer.reset_view()
    viewer.scene.camera.zoom *= 4
    viewer.scene.camera.center = (0.0, -110.0, -140.0)
    compared.compare.choose_mode(SIDE_BY_SIDE)
    assert tuple(viewer.scene.camera.center) == (0.0, -110.0, -140.0)


def test_my_own_view_stays_chosen_for_the_next_result(viewer, compared, run_to_the_end, tmp_path):
    compared.compare.choose_mode(OWN_VIEW)
    compared.form.weights.use_file(tmp_path / "own.safetensors")
    run_to_the_end(compared, "slice")
    assert not viewer.canvas.grid.enabled
    assert "organs" in visible(viewer)


def test_blink_switches_between_input_and_restored(viewer, compared):
    compared.compare.blink()
    assert compared.compare.modes.currentText() == BLINK
    assert not viewer.canvas.grid.enabled
    assert visible(viewer) == [CT]
    compared.compare.blink()
    assert visible(viewer) == [RESTORED]
    compared.compare.blink()
    assert visible(viewer) == [CT]


def test_b_blinks_only_while_there_is_a_result(viewer, ct_panel, run_to_the_end, qtbot):
    assert "B" not in map(str, viewer.keymap)
    run_to_the_end(ct_panel, "slice")
    assert "B" in map(str, viewer.keymap)
    assert ct_panel.compare.blink_button.text() == "Blink (B)"
    viewer.layers.remove(RESTORED)
    qtbot.waitUntil(lambda: "B" not in map(str, viewer.keymap))


def test_pressing_b_blinks(viewer, compared):
    keys = KeymapHandler()
    keys.keymap_providers = [viewer]
    keys.press_key("B")
    assert visible(viewer) == [CT]
    keys.press_key("B")
    assert visible(viewer) == [RESTORED]


def test_a_users_own_binding_of_b_is_left_alone(viewer, ct_panel, run_to_the_end):
    def own(viewer):
        """Their own shortcut."""

    viewer.bind_key("B", own)
    run_to_the_end(ct_panel, "slice")
    assert own in viewer.keymap.values()
    assert ct_panel.compare.blink_button.text() == "Blink"
    ct_panel.shut_down()
    assert own in viewer.keymap.values()


def test_deleting_the_result_gives_the_own_view_back(viewer, compared, qtbot):
    viewer.layers.remove(RESTORED)
    assert viewer.canvas.grid.enabled, "drawing what is taken apart would crash"
    qtbot.waitUntil(lambda: not viewer.canvas.grid.enabled)
    assert visible(viewer) == [CT, "organs"]
    assert not compared.compare.isEnabled()


def test_closing_the_panel_gives_the_own_view_back(viewer, compared):
    compared.shut_down()
    assert not viewer.canvas.grid.enabled
    assert "organs" in visible(viewer)


def test_saving_keeps_geometry_type_strength_and_provenance(compared, ct_scan, qtbot, tmp_path):
    compared.compare.strength.setValue(50)
    target = tmp_path / "restored.nii.gz"
    compared.compare.save_to(target)
    qtbot.waitUntil(lambda: compared.message.text() == f"Saved as {target}", timeout=10_000)
    saved = read_scan(target)
    assert np.allclose(saved.direction, ct_scan.direction, atol=1e-6)
    assert np.allclose(saved.origin_mm, ct_scan.origin_mm)
    assert saved.voxels.dtype == np.int16
    assert np.abs(saved.voxels - (ct_scan.voxels - 2.5)).max() <= 0.5
    assert '"strength": 0.5' in (tmp_path / "restored.nii.gz.json").read_text()


def test_fine_detail_that_is_put_back_is_shown_saved_and_recorded(viewer, compared, ct_scan, qtbot, tmp_path):
    result = compared.compare.comparison.result
    grain = np.where(np.indices(ct_scan.shape).sum(axis=0) % 2, 40, -40).astype(np.float32)
    result.restored[:] = ct_scan.voxels + grain + 7
    result.difference[:] = grain + 7
    compared.compare.fine.setValue(100)
    compared.compare._mix()
    shown = np.asarray(viewer.layers[RESTORED].data[2])
    inner = (slice(6, -6), slice(6, -6))
    np.testing.assert_allclose(
        (shown - ct_scan.voxels[2])[inner], 7, atol=0.5, err_msg="the grain is gone, the shift is not"
    )
    np.testing.assert_array_equal(np.asarray(viewer.layers[RESTORED].data)[2], shown)
    np.testing.assert_array_equal(viewer.layers[RESTORED].data[1:4, 5, 3:9][1], shown[5, 3:9])
    target = tmp_path / "restored.nii.gz"
    compared.compare.save_to(target)
    qtbot.waitUntil(lambda: compared.message.text() == f"Saved as {target}", timeout=10_000)
    assert np.abs(read_scan(target).voxels - ct_scan.voxels - 7)[:, *inner].max() <= 1
    told = json.loads((tmp_path / "restored.nii.gz.json").read_text())
    assert told["detail_back"] == {"coarse": 0.0, "fine": 1.0, "split_px": 2.0}
    compared.compare.fine.setValue(0)
    compared.compare._mix()
    assert viewer.layers[RESTORED].data is result.restored, "neutral is the result itself"


def test_saving_without_write_permission_says_so(compared, qtbot, tmp_path):
    compared.compare.save_to(tmp_path / "nowhere" / "restored.nii.gz")
    qtbot.waitUntil(lambda: "its folder does not exist" in compared.message.text(), timeout=10_000)


def test_a_result_that_is_not_finished_is_not_saved(ct_panel, run_to_the_end):
    run_to_the_end(ct_panel, "slice")
    failures = []
    ct_panel.compare.failed.connect(failures.append)
    ct_panel.compare.save()
    assert isinstance(failures[0], OutputError)
    assert ct_panel.message.text() == "1 of 5 slices are restored: press Restore to finish before saving."


def test_a_result_in_tiles_is_called_approximate_once(viewer, compared):
    compared.compare.comparison.result.provenance["tile"] = {"size": 128, "overlap": 32}
    compared.compare.comparison.mix_in(Blend(0.5))
    compared.compare.comparison.mix_in(Blend())
    assert f"{RESTORED} (approximate)" in viewer.layers


def test_the_strength_is_in_the_names(viewer, compared):
    compared.compare.strength.setValue(50)
    compared.compare._mix()
    assert [layer.name for layer in viewer.layers][1:3] == [f"{RESTORED} · 50 %", f"{DIFFERENCE} · 50 %"]
    compared.compare.strength.setValue(100)
    compared.compare._mix()
    assert [layer.name for layer in viewer.layers][1:3] == [RESTORED, DIFFERENCE]


@pytest.mark.slow
def test_the_panels_are_rearranged_when_the_window_is_resized(viewer, compared, qtbot):
    assert tuple(viewer.canvas.grid.shape) == (1, 3)
    viewer.canvas.size = (900, 300)
    qtbot.waitUntil(lambda: tuple(viewer.canvas.grid.shape) == (3, 1))


def test_in_three_dimensions_both_signs_of_the_difference_are_seen(viewer, compared):
    difference = viewer.layers[DIFFERENCE]
    assert difference.rendering == "translucent"
    alpha = difference.colormap.map([0.0, 0.5, 1.0])[:, 3]
    assert list(alpha) == [1, 0, 1]
