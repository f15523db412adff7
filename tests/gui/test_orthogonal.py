"""The three orthogonal planes: positions, reads of lazy volumes, and the return to the user's own view."""

import threading

import numpy as np
import pytest
from napari.layers import Layer
from napari.utils.key_bindings import KeymapHandler

from napari_restore_rwkv.gui import layers as layers_module
from napari_restore_rwkv.gui.compare.montage import LARGEST_SIDE, Layout, Sheet, planes_of, read_plane
from napari_restore_rwkv.gui.compare.state import ORTHOGONAL, OWN_VIEW, SIDE_BY_SIDE, SWIPE
from napari_restore_rwkv.restoration.detail import Blend
from napari_restore_rwkv.scans.lazy import LazyVoxels
from napari_restore_rwkv.scans.scan import Scan

CT, RESTORED, DIFFERENCE = "CT", "CT [restored]", "CT [restored - input]"
SHAPE, SPACING = (12, 80, 96), (3.0, 1.0, 1.0)


@pytest.fixture
def voxels(rng):
    return rng.normal(40, 20, SHAPE).astype(np.float32)


@pytest.fixture
def panel(viewer, make_panel, voxels, run_to_the_end):
    """The panel after 12 slices of 3 mm with 5 HU subtracted, beside a layer of the user's own."""
    viewer.canvas.size = (700, 900)
    scan = Scan(voxels, SPACING, (5.0, -40.0, 100.0), np.eye(3), "CT", "HU", {})
    viewer.add_layer(Layer.create(*layers_module.scan_to_layer(scan, CT)))
    viewer.add_labels(np.ones(SHAPE, int), name="organs", scale=SPACING, translate=(100.0, -40.0, 5.0))
    panel = make_panel(viewer)
    panel.choose_layer(viewer.layers[CT])
    run_to_the_end(panel, "volume")
    return panel


@pytest.fixture
def planes(panel, qtbot):
    """What is shown, after the planes were read."""
    panel.compare.choose_mode(ORTHOGONAL)
    planes = panel.compare.view.planes
    qtbot.waitUntil(lambda: planes._question is None)
    return planes


def at(planes, plane, row, column):
    """Return row and column in the middle of where the sheet shows a voxel of a plane."""
    down, right = planes._sheet._maps[plane]
    top, left = planes._sheet._corners[plane]
    return top + int(np.flatnonzero(down == row).mean()), left + int(np.flatnonzero(right == column).mean())


def go_to(planes, qtbot, *position):
    planes.go_to(position)
    qtbot.waitUntil(lambda: planes._question is None and planes.position == position)


@pytest.mark.parametrize(
    ("direction", "axes"),
    [
        (np.eye(3), {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}),
        # A sagittal series: slices to the left, rows to the feet, columns to the back.
        (np.array([[0, 0, 1.0], [1.0, 0, 0], [0, -1.0, 0]]), {"axial": (1, 2, 0), "coronal": (2, 1, 0)}),
    ],
    ids=["axial series", "sagittal series"],
)
def test_planes_are_named_and_turned_by_the_direction_of_the_scan(direction, axes):
    found = {plane.name: plane for plane in planes_of(direction)}
    for name, (across, down, right) in axes.items():
        assert (found[name].across, found[name].down.axis, found[name].right.axis) == (across, down, right)
    assert found["coronal"].down.backwards == (direction[2].sum() > 0), "superior is up"


def test_a_flipped_scan_is_shown_the_same_way(voxels):
    straight, turned = planes_of(np.eye(3)), planes_of(np.diag([-1.0, -1.0, -1.0]))
    sheets = []
    for planes, image in ((straight, voxels), (turned, voxels[::-1, ::-1, ::-1])):
        position = (4, 30, 20) if planes is straight else (7, 49, 75)
        read = [read_plane(image, plane, position[plane.across], 0) for plane in planes]
        sheets.append(Sheet(planes, SHAPE, SPACING, Layout.BELOW).draw(read, position, np.nan, 1))
    same = np.isfinite(sheets[0]) & np.isfinite(sheets[1])
    assert same.mean() > 0.5
    np.testing.assert_array_equal(sheets[0][same], sheets[1][same])


@pytest.mark.parametrize("layout", list(Layout))
def test_planes_lie_beside_each_other_without_touching(voxels, layout):
    planes = planes_of(np.eye(3))
    sheet = Sheet(planes, SHAPE, SPACING, layout)
    images = [np.full_like(read_plane(voxels, plane, 5, 0), number) for number, plane in enumerate(planes)]
    drawn = sheet.draw(images, (5, 40, 48), np.nan, 1)
    for number, (rows, columns) in enumerate(((80, 96), (36, 96), (36, 80))):
        # Less two lines, which cross in a gap.
        assert 0.9 * rows * columns < (drawn == number).sum() < rows * columns
        place = tuple(int(at[0]) for at in np.nonzero(drawn == number))
        assert sheet.spot(*place).plane == number
    assert drawn.size < 3 * 96 * (80 + 2 * 36)


def test_a_sheet_is_never_larger_than_a_texture_may_be():
    sheet = Sheet(planes_of(np.eye(3)), (3000, 2000, 2000), (1.0, 0.1, 0.1), Layout.BELOW)
    assert max(sheet.shape) <= 1.05 * LARGEST_SIDE
    assert sheet.spot(sheet.shape[0] + 9, 5) is None


def test_every_plane_of_every_volume_is_shown_where_it_says(viewer, planes, voxels):
    names = [f"{name} · planes" for name in (CT, RESTORED, DIFFERENCE)]
    assert [layer.name for layer in viewer.layers if layer.visible] == names
    assert viewer.canvas.grid.enabled
    assert tuple(viewer.canvas.grid.shape) in ((1, 3), (3, 1))
    z, y, x = planes.position
    for role, change in ((0, 0.0), (1, -5.0)):
        sheet = planes.layers[role].data
        assert sheet[at(planes, 0, 7, 9)] == pytest.approx(voxels[z, 7, 9] + change, abs=1e-4)
        assert sheet[at(planes, 1, 3, 11)] == pytest.approx(voxels[3, y, 11] + change, abs=1e-4)
        assert sheet[at(planes, 2, 8, 70)] == pytest.approx(voxels[8, 70, x] + change, abs=1e-4)
    assert planes.layers[2].data[at(planes, 1, 3, 11)] == pytest.approx(-5, abs=1e-3)
    assert at(planes, 1, 11, 0)[0] < at(planes, 1, 0, 0)[0], "superior is up"


def test_one_position_is_marked_in_all_planes_and_follows_the_sliders(viewer, planes, voxels, qtbot):
    go_to(planes, qtbot, 9, 20, 30)
    assert viewer.dims.current_step[0] == 9
    sheet, bright = planes.layers[0].data, planes.layers[0].contrast_limits[1]
    assert sheet[at(planes, 0, 20, 60)] == bright
    assert sheet[at(planes, 0, 70, 30)] == bright
    assert sheet[at(planes, 1, 9, 60)] == bright
    assert sheet[at(planes, 2, 9, 60)] == bright
    assert sheet[at(planes, 0, 20, 30)] == voxels[9, 20, 30], "the voxel itself is not covered"
    viewer.dims.set_current_step(0, 2)
    qtbot.waitUntil(lambda: planes.position == (2, 20, 30))
    assert planes.layers[0].data[at(planes, 0, 7, 9)] == voxels[2, 7, 9]


def test_going_back_before_the_planes_were_read_stays_where_the_sliders_are(planes, qtbot):
    here = planes.position
    planes.go_to((9, 20, 30))
    planes.go_to(here)
    qtbot.waitUntil(lambda: planes._question is None and not planes._background.busy)
    assert planes.position == planes._voxel() == here


def test_keys_step_through_rows_and_columns_and_are_released(viewer, panel, planes, qtbot):
    go_to(planes, qtbot, 6, 20, 30)
    keys = KeymapHandler()
    keys.keymap_providers = [viewer]
    keys.press_key("Alt-Down")
    keys.press_key("Alt-Left")
    qtbot.waitUntil(lambda: planes.position == (6, 21, 29))
    panel.compare.choose_mode(OWN_VIEW)
    assert "Alt+Down" not in [str(key) for key in viewer.keymap]


def test_values_under_the_cursor_are_those_of_the_plane(viewer, panel, planes, voxels, qtbot):
    _, y, _ = planes.position
    row, column = at(planes, 1, 3, 11)
    step = planes._sheet.step
    viewer.cursor.position = (0.0, row * step, column * step)
    value = float(voxels[3, y, 11])
    values = panel.compare.reading.values
    qtbot.waitUntil(lambda: values.text().startswith("input") and "difference -5 HU" in values.text())
    assert f"input {value:.3g}" in values.text()
    viewer.cursor.position = (0.0, -50.0, -50.0)
    qtbot.waitUntil(lambda: values.text().startswith("Values:"))


def test_strength_and_contrast_apply_to_the_planes(viewer, panel, planes, voxels, qtbot):
    panel.compare.strength.setValue(40)
    panel.compare._mix()
    where = at(planes, 1, 3, 11)
    _, y, _ = planes.position
    qtbot.waitUntil(lambda: abs(planes.layers[1].data[where] - voxels[3, y, 11] + 2) < 1e-3)
    viewer.layers[CT].contrast_limits = (0, 80)
    assert [tuple(layer.contrast_limits) for layer in planes.layers[:2]] == [(0, 80), (0, 80)]
    assert planes.layers[0].data[at(planes, 0, planes.position[1], 5)] == 80, "the lines stay as bright as can be"
    viewer.layers[f"{DIFFERENCE} · 40 %"].contrast_limits = (-9, 9)
    assert tuple(planes.layers[2].contrast_limits) == (-9, 9)


@pytest.mark.slow
def test_the_own_view_comes_back_exactly(viewer, panel, qtbot):
    panel.compare.choose_mode(OWN_VIEW)
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_current_step(1, 33)
    viewer.scene.camera.zoom, viewer.scene.camera.center = 3.0, (0.0, 11.0, 12.0)

    def state():
        layers = [(layer.name, layer.visible, layer.name_overlay.visible) for layer in viewer.layers]
        dims, camera, grid = viewer.dims, viewer.scene.camera, viewer.canvas.grid
        ranges = [tuple(one) for one in dims.range]
        return layers, dims.order, dims.point, ranges, camera.zoom, camera.center, grid.enabled, grid.shape

    before = state()
    panel.compare.choose_mode(ORTHOGONAL)
    qtbot.waitUntil(lambda: panel.compare.view.planes._question is None)
    assert tuple(viewer.dims.order) == (0, 1, 2)
    assert panel.compare.view.planes.position[1] == 33
    panel.compare.choose_mode(SWIPE)
    panel.compare.choose_mode(ORTHOGONAL)
    panel.compare.choose_mode(SIDE_BY_SIDE)
    assert tuple(viewer.dims.order) == (1, 0, 2)
    panel.compare.choose_mode(OWN_VIEW)
    assert state() == before


def test_turning_the_viewer_does_not_tear_the_planes(viewer, planes):
    viewer.dims.ndisplay = 3
    viewer.dims.order = (2, 0, 1)
    assert viewer.dims.ndisplay == 2
    assert tuple(viewer.dims.order) == (0, 1, 2)


def test_deleting_the_result_takes_the_planes_away(viewer, panel, planes, qtbot):
    viewer.layers.remove(RESTORED)
    qtbot.waitUntil(lambda: not planes.layers)
    assert sorted(layer.name for layer in viewer.layers) == [CT, DIFFERENCE, "organs"]


def test_a_single_slice_has_no_planes(viewer, make_panel, ct_scan, run_to_the_end):
    viewer.add_image(np.asarray(ct_scan.voxels[0]), name="slice")
    panel = make_panel(viewer)
    panel.form.task.value = "ct-denoise"
    panel.form.any_modality.value = True
    run_to_the_end(panel)
    panel.compare.choose_mode(ORTHOGONAL)
    assert panel.compare.modes.currentText() == SIDE_BY_SIDE
    assert "one slice" in panel.message.text()


@pytest.mark.slow
def test_a_lazy_volume_is_read_slice_by_slice_off_the_gui_thread(viewer, panel, qtbot, voxels):
    boxes, threads = [], set()

    def read(box):
        boxes.append(box)
        threads.add(threading.current_thread())
        return voxels[box]

    result = panel.compare.comparison.result
    object.__setattr__(result.scan, "voxels", LazyVoxels(SHAPE, np.float32, read))
    panel.compare.choose_mode(ORTHOGONAL)
    planes = panel.compare.view.planes
    assert planes.is_reading
    assert "reading the planes" in viewer.canvas.overlays.text.text
    qtbot.waitUntil(lambda: not planes.is_reading)
    assert "difference:" in viewer.canvas.overlays.text.text
    assert boxes
    assert threading.main_thread() not in threads
    most = SHAPE[1] * SHAPE[2]
    assert max(np.prod([along.stop - along.start for along in box]) for box in boxes) <= most
    held = sum(images[0].size for images in planes._images.values())
    assert held <= 3 * most
    boxes.clear()
    z, y, x = planes.position
    go_to(planes, qtbot, z, y + 1, x)
    assert {(box[1].start, box[1].stop) for box in boxes} == {(y + 1, y + 2)}, "only the plane that is another one"


def test_detail_that_is_put_back_across_slices_is_that_of_whole_slices(panel, planes, qtbot, rng):
    result = panel.compare.comparison.result
    result.difference[:] = rng.normal(0, 9, SHAPE)
    result.restored[:] = result.scan.voxels + result.difference
    panel.compare.comparison.mix_in(Blend(1.0, 0.5, 0.0))
    whole = np.asarray(panel.compare.comparison.restored.data)
    planes.refresh()
    qtbot.waitUntil(lambda: planes._question is None)
    _, y, _ = planes.position
    assert planes.layers[1].data[at(planes, 1, 3, 11)] == whole[3, y, 11]


def test_reading_stops_when_another_position_is_wanted(voxels):
    lazy = LazyVoxels(SHAPE, np.float32, lambda box: voxels[box])
    coronal = planes_of(np.eye(3))[1]
    answers = iter([True, True, False])
    read = read_plane(lazy, coronal, 40, 0, lambda: next(answers))
    np.testing.assert_array_equal(read[:2], voxels[:2, 40])
    assert np.isnan(read[2:]).all()
