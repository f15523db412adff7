"""The position of every voxel survives reader, layer, restoration and writer for any layer, or the layer is refused."""

import numpy as np
import pytest
import SimpleITK as sitk
from napari.components import ViewerModel
from napari.layers import Image

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.gui import contributions
from napari_restore_rwkv.gui.compare.comparison import add_result_layers
from napari_restore_rwkv.gui.layers import layer_to_scan, scan_to_layer
from napari_restore_rwkv.gui.restore.result import ResultInMemory
from napari_restore_rwkv.scans.scan import Scan, position_mm

SHAPE = (4, 6, 8)
CORNERS = [(0, 0, 0), (3, 0, 0), (0, 5, 0), (0, 0, 7), (3, 5, 7)]


def turned(degrees=25.0):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def matrix(linear, offset=(0, 0, 0)):
    made = np.eye(4)
    made[:3, :3], made[:3, 3] = linear, offset
    return made


# As readers make them: all in the affine, a flip by a negative scale, a rotation, an affine upon a scale, micrometres.
PLACED = {
    "affine": {"affine": matrix(turned() * [3.0, 0.7, 0.9], (5, -6, 7))},
    "flipped affine": {"affine": matrix(np.diag([-3.0, 0.7, -0.9]), (5, -6, 7))},
    "swapped axes": {"affine": matrix(np.array([[0, 0, 2.0], [0.5, 0, 0], [0, 1.5, 0]]))},
    "negative scale": {"scale": (-3.0, 0.7, 0.9), "translate": (10, 20, 30)},
    "rotation": {"scale": (3.0, 0.7, 0.9), "translate": (10, 20, 30), "rotate": turned()},
    "affine upon a scale": {"scale": (3.0, 0.7, 0.9), "affine": matrix(turned(), (1, 2, 3))},
    "micrometres": {"scale": (3000.0, 700.0, 900.0), "rotate": turned(40), "units": ("um",) * 3},
}


@pytest.fixture
def voxels(rng):
    return rng.integers(-1000, 1000, SHAPE, dtype=np.int16)


def world_mm(layer, index):
    """Where napari itself shows a voxel, as x, y, z in mm."""
    unit = 1e-3 if "micro" in str(layer.units[-1]) else 1.0
    return np.asarray(layer.data_to_world((*(0,) * (layer.ndim - 3), *index)))[-3:][::-1] * unit


def saved(layer, path):
    """Save a layer as napari does, and return how an independent reader sees it."""
    data, attributes, _ = layer.as_layer_data_tuple()
    contributions.write_image(str(path), data, attributes)
    return sitk.ReadImage(str(path))


@pytest.mark.parametrize("placed", PLACED.values(), ids=PLACED)
def test_a_layer_of_another_reader_is_written_at_its_position(tmp_path, voxels, placed):
    layer = Image(voxels, **placed)
    image = saved(layer, tmp_path / "saved.mha")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), voxels)
    scan = layer_to_scan(layer)
    assert min(scan.spacing_mm) > 0
    for index in CORNERS:
        expected = world_mm(layer, index)
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index[::-1]), expected, atol=1e-6)
        np.testing.assert_allclose(position_mm(scan, index), expected, atol=1e-9)


@pytest.mark.parametrize("placed", PLACED.values(), ids=PLACED)
@pytest.mark.parametrize("frames", [None, 2])
def test_the_result_is_at_the_position_of_its_scan_and_written_there(tmp_path, voxels, placed, frames):
    layer = Image(voxels if frames is None else np.stack([voxels] * frames), **lifted(placed, frames))
    scan = layer_to_scan(layer, None if frames is None else 1)
    viewer = ViewerModel()
    viewer.add_layer(layer)
    result = ResultInMemory(scan, 0)
    result.prepare()
    comparison = add_result_layers(viewer, layer, result, "result")
    image = saved(comparison.restored, tmp_path / "restored.mha")
    for index in CORNERS:
        expected = world_mm(layer, index)
        np.testing.assert_allclose(world_mm(comparison.restored, index), expected, atol=1e-9)
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index[::-1]), expected, atol=1e-6)


def lifted(placed, frames):
    """Return what places a layer with time in front as the three-dimensional one."""
    if frames is None:
        return placed
    made = dict(placed)
    for key, first in (("scale", 1.0), ("translate", 0.0)):
        if key in made:
            made[key] = (first, *made[key])
    if "units" in made:
        made["units"] = ("pixel", *made["units"])
    for key in ("rotate", "affine"):
        if key in made:
            whole = np.eye(len(made[key]) + 1)
            whole[1:, 1:] = made[key]
            made[key] = whole
    return made


def test_an_oblique_scan_read_by_the_plugin_is_written_exactly(tmp_path, voxels):
    scan = Scan(voxels, (3.0, 0.7, 0.9), (-12.3, 45.6, 789.0), turned(10), "CT", "HU")
    data, attributes, _ = scan_to_layer(scan, "CT")
    image = saved(Image(data, **attributes), tmp_path / "ct.mha")
    for index in CORNERS:
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint(index[::-1]), position_mm(scan, index), atol=1e-6
        )


def test_changes_to_a_layer_of_the_plugin_apply_to_its_scan(voxels):
    """Cropping by other plugins keeps metadata and moves the layer: voxels stay where they are in the patient."""
    scan = Scan(voxels, (3.0, 0.7, 0.9), (-12.3, 45.6, 789.0), turned(10), "CT", "HU")
    data, attributes, _ = scan_to_layer(scan, "CT")
    whole = Image(data, **attributes)
    cropped = Image(data[1:, 2:, ::2], **{**attributes, "translate": whole.data_to_world((1, 2, 0))})
    cropped.scale = np.array(whole.scale) * (1, 1, 2)
    taken = layer_to_scan(cropped)
    assert taken.spacing_mm == pytest.approx((3.0, 0.7, 1.8))
    np.testing.assert_allclose(taken.direction, scan.direction, atol=1e-12)
    np.testing.assert_allclose(position_mm(taken, (1, 1, 2)), position_mm(scan, (2, 3, 4)), atol=1e-9)
    flipped = Image(data[:, ::-1], **{**attributes, "scale": (3.0, -0.7, 0.9)})
    flipped.translate = whole.data_to_world((0, 5, 0))
    np.testing.assert_allclose(position_mm(layer_to_scan(flipped), (1, 5, 2)), position_mm(scan, (1, 0, 2)), atol=1e-9)


def test_the_slice_axis_is_chosen_by_the_whole_transform(voxels):
    from napari_restore_rwkv.scans.slice_axis import choose_slice_axis

    layer = Image(np.zeros((40, 40, 40), np.float32), affine=np.diag([1.0, 1.0, 5.0, 1.0]))
    assert choose_slice_axis(layer_to_scan(layer)).axis == 2


@pytest.mark.parametrize(
    ("placed", "words"),
    [
        ({"shear": (0.3, 0, 0)}, '"tilted" is sheared: its axes are not at right angles'),
        ({"affine": matrix([[1, 0.2, 0], [0, 1, 0], [0, 0, 1]])}, '"tilted" is sheared'),
        ({"scale": (2.0, 1.0, 1.0), "affine": matrix(turned(45))}, None),
        ({"rotate": turned(45), "affine": np.diag([2.0, 1.0, 1.0, 1.0])}, '"tilted" is sheared'),
    ],
)
def test_a_sheared_layer_is_refused_with_a_message(tmp_path, voxels, placed, words):
    layer = Image(voxels, name="tilted", **placed)
    if words is None:
        layer_to_scan(layer)
        return
    with pytest.raises(ScanError, match=words):
        saved(layer, tmp_path / "saved.mha")
    assert not (tmp_path / "saved.mha").exists()


def test_time_mixed_with_space_is_refused():
    affine = np.eye(5)
    affine[1, 0] = 2.0
    layer = Image(np.zeros((2, *SHAPE)), name="moving", affine=affine)
    with pytest.raises(ScanError, match='"moving" has a transform that mixes time and space'):
        layer_to_scan(layer, 0)


def test_a_turned_slice_keeps_its_place(rng):
    c, s = np.cos(0.3), np.sin(0.3)
    layer = Image(rng.random((6, 8)), scale=(0.7, 0.9), rotate=[[c, -s], [s, c]], translate=(5, 6))
    scan = layer_to_scan(layer)
    for y, x in [(0, 0), (5, 7)]:
        np.testing.assert_allclose(position_mm(scan, (0, y, x))[:2], layer.data_to_world((y, x))[::-1], atol=1e-9)


def test_a_multiscale_layer_is_saved_at_full_resolution(tmp_path, voxels):
    layer = Image([voxels, voxels[:, ::2, ::2]], multiscale=True, scale=(3.0, 0.7, 0.9))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(saved(layer, tmp_path / "saved.mha")), voxels)
