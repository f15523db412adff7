"""Results follow their scan when it is moved, during a restoration and after it."""

import numpy as np
import pytest
from file_jobs import EVERYTHING, chest, chest_layer
from napari.layers import Layer

from napari_restore_rwkv.gui.layer_geometry import transforms_of, world_matrix
from napari_restore_rwkv.gui.layers import layer_to_scan
from napari_restore_rwkv.gui.restore.run import FILE_STAYS
from napari_restore_rwkv.scans.files import read_scan

CT = "CT abdomen"
TURNED = np.array([[1, 0, 0, 4], [0, 0.8, -0.6, 5], [0, 0.6, 0.8, -6], [0, 0, 0, 1]])
MOVES = {
    "translate": {"translate": (7, 8, 9)},
    "scale": {"scale": (5, 2, 2)},
    "affine": {"affine": TURNED},
    "rotate": {"rotate": TURNED[:3, :3]},
    "shear": {"shear": (0.1, 0.0, 0.0)},
    "units": {"units": ("um",) * 3},
}


def results(viewer):
    return [layer for layer in viewer.layers if "[restored" in layer.name]


def place(layer):
    return world_matrix(layer.data.shape, transforms_of(layer), layer.name)


def move(layer, changes):
    for name, value in changes.items():
        setattr(layer, name, value)


def assert_they_lie_on(layer, viewer):
    assert len(results(viewer)) == 2
    for result in results(viewer):
        assert np.allclose(place(result), place(layer), atol=1e-9)


def assert_same_geometry(scan, other):
    assert np.allclose(scan.spacing_mm, other.spacing_mm, atol=1e-6)
    assert np.allclose(scan.origin_mm, other.origin_mm, atol=1e-6)
    assert np.allclose(scan.direction, other.direction, atol=1e-6)


@pytest.mark.parametrize("changes", MOVES.values(), ids=MOVES)
def test_results_follow_a_scan_that_is_moved(viewer, ct_panel, run_to_the_end, changes):
    run_to_the_end(ct_panel, "volume")
    scan = viewer.layers[CT]
    move(scan, changes)
    assert_they_lie_on(scan, viewer)
    if "shear" not in changes:
        for result in results(viewer):
            assert_same_geometry(layer_to_scan(result), layer_to_scan(scan))


def test_results_follow_in_mid_job(viewer, ct_panel, qtbot, restoration):
    scan = viewer.layers[CT]
    restoration.hold.clear()
    ct_panel.form.region.value = "volume"
    ct_panel.restore()
    # Before there is anything to see.
    move(scan, MOVES["affine"])
    qtbot.waitUntil(lambda: len(results(viewer)) == 2)
    assert_they_lie_on(scan, viewer)
    move(scan, MOVES["translate"])
    restoration.hold.set()
    qtbot.waitUntil(lambda: not ct_panel.job.running)
    assert_they_lie_on(scan, viewer)
    for result in results(viewer):
        assert_same_geometry(layer_to_scan(result), layer_to_scan(scan))
    assert "restored in" in ct_panel.message.text()


def test_a_result_is_saved_at_the_current_position_of_its_scan(viewer, ct_panel, run_to_the_end, qtbot, tmp_path):
    run_to_the_end(ct_panel, "volume")
    move(viewer.layers[CT], MOVES["affine"])
    path = tmp_path / "moved.nii.gz"
    with qtbot.waitSignal(
        ct_panel.compare.said, check_params_cb=lambda words: words.startswith("Saved"), timeout=240_000
    ):
        ct_panel.compare.save_to(path)
    saved, scan = read_scan(path), layer_to_scan(viewer.layers[CT])
    assert_same_geometry(saved, scan)


@pytest.mark.slow
def test_a_sheared_result_is_not_saved_and_says_why(viewer, ct_panel, run_to_the_end, qtbot, tmp_path):
    run_to_the_end(ct_panel, "volume")
    move(viewer.layers[CT], MOVES["shear"])
    with qtbot.waitSignal(ct_panel.compare.failed, timeout=240_000):
        ct_panel.compare.save_to(tmp_path / "sheared.nii.gz")
    assert "is sheared" in ct_panel.message.text()


def test_results_follow_after_the_panel_was_closed_and_opened_again(viewer, ct_panel, make_panel, run_to_the_end):
    run_to_the_end(ct_panel, "slice")
    ct_panel.shut_down()
    again = make_panel(viewer)
    run_to_the_end(again, "volume")
    move(viewer.layers[CT], MOVES["translate"])
    assert_they_lie_on(viewer.layers[CT], viewer)


def test_another_strength_or_weights_keep_results_on_their_scan(viewer, ct_panel, run_to_the_end):
    run_to_the_end(ct_panel, "volume")
    ct_panel.compare.strength.setValue(40)
    ct_panel.compare._mix()
    move(viewer.layers[CT], MOVES["scale"])
    assert_they_lie_on(viewer.layers[CT], viewer)


def test_results_are_renamed_with_their_scan_unless_they_have_names_of_their_own(viewer, ct_panel, run_to_the_end):
    run_to_the_end(ct_panel, "volume")
    scan, _, difference = viewer.layers
    difference.name = "what was removed"
    scan.name = "Mrs X"
    assert [layer.name for layer in viewer.layers] == ["Mrs X", "Mrs X [restored]", "what was removed"]
    assert ct_panel.form.layer.current_choice == "Mrs X"


def test_a_frame_of_several_is_followed_too(viewer, make_panel, denoise_anyway, run_to_the_end):
    viewer.add_image(np.zeros((2, 4, 8, 8), np.float32), name="frames", contrast_limits=(0, 1))
    run_to_the_end(denoise_anyway(make_panel(viewer)), "volume")
    scan = viewer.layers["frames"]
    scan.translate = (0, 3, 4, 5)
    assert_they_lie_on(scan, viewer)


def test_a_deleted_scan_leaves_its_results_where_they_are(viewer, ct_panel, run_to_the_end):
    run_to_the_end(ct_panel, "volume")
    scan = viewer.layers[CT]
    before = place(results(viewer)[0])
    viewer.layers.remove(scan)
    assert np.array_equal(place(results(viewer)[0]), before)
    assert np.array_equal(place(results(viewer)[1]), before)


@pytest.mark.slow
def test_a_file_records_that_its_scan_was_moved(viewer, make_file_panel, weights_file, qtbot, gate, output):
    scan = viewer.add_layer(Layer.create(*chest_layer()))
    panel = make_file_panel(viewer)
    panel.form.weights.use_file(weights_file)
    panel.form.region.value = "volume"
    panel.form.output.value = output
    gate.allowed = 8
    panel.restore()
    qtbot.waitUntil(gate.waiting.is_set)
    move(scan, MOVES["translate"])
    gate.allowed = EVERYTHING
    qtbot.waitUntil(lambda: not panel.job.running)
    assert panel.message.text().endswith(FILE_STAYS)
    assert_they_lie_on(scan, viewer)
    assert_same_geometry(read_scan(output), chest())
