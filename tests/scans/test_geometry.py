"""One check of geometry and scale, which every reader uses."""

import json
import re

import h5py
import numpy as np
import pytest
from dicoms import write_series
from handmade import save
from zarrs import noise

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.geometry import check_geometry, check_scale
from napari_restore_rwkv.scans.opening import open_scan
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.scans.zarr.writing import choose_layout, create_image, write_slab

NOTHING = [np.nan, np.inf, -np.inf]
SHEARED = [[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("bad", [*NOTHING, 0.0, -1.0, 1e-30, 1e30])
def test_voxel_sizes_are_finite_and_above_0(tmp_path, axis, bad):
    spacing = [1.0, 2.0, 3.0]
    spacing[axis] = bad
    with pytest.raises(ScanError, match=rf"^scan has no usable geometry: its voxel size is .*{re.escape(f'{bad:g}')}"):
        check_geometry(tmp_path / "scan", Scan(noise((2, 3, 4)), spacing_mm=tuple(spacing)))


@pytest.mark.parametrize("bad", [*NOTHING, 1e30])
def test_positions_are_finite(tmp_path, bad):
    with pytest.raises(ScanError, match="its position is"):
        check_geometry(tmp_path / "scan", Scan(noise((2, 3, 4)), origin_mm=(0.0, bad, 0.0)))


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        (np.full((3, 3), np.nan), "its direction contains NaN or infinite values"),
        (SHEARED, "has a sheared voxel grid"),
        (np.zeros((3, 3)), "has a sheared voxel grid"),
        (2 * np.eye(3), "has a sheared voxel grid"),
    ],
)
def test_directions_are_unit_vectors_at_right_angles(tmp_path, direction, words):
    with pytest.raises(ScanError, match=words):
        check_geometry(tmp_path / "scan", Scan(noise((2, 3, 4)), direction=np.asarray(direction)))


def test_a_mirrored_grid_is_a_grid(tmp_path):
    check_geometry(tmp_path / "scan", Scan(noise((2, 3, 4)), direction=np.diag([1.0, -1.0, 1.0])))


@pytest.mark.parametrize(("slope", "intercept"), [*((bad, 1.0) for bad in (0.0, 1e30, 1e-30, *NOTHING)), (1.0, np.nan)])
def test_a_scale_keeps_values_distinct(tmp_path, slope, intercept):
    with pytest.raises(ScanError, match=r"^scan scales its values by .* and adds .*, which gives no usable values"):
        check_scale(tmp_path / "scan", slope, intercept)


def test_a_negative_slope_is_a_scale(tmp_path):
    check_scale(tmp_path / "scan", -1.0, 4095.0)


@pytest.mark.parametrize(("name", "value"), [("Spacing", -1.0), ("Spacing", np.nan), ("Origin", np.inf)])
def test_the_geometry_of_hdf5_is_checked(tmp_path, voxels, name, value):
    path = save(tmp_path / "scan.h5", voxels)
    with h5py.File(path, "r+") as file:
        found = file[f"ITKImage/0/{name}"]
        found[0] = value
    with pytest.raises(ScanError, match=r"^scan\.h5 has no usable geometry"):
        read_scan(path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("spacing_mm", [1, -1, 1], "no usable geometry: its voxel size is 1 x -1 x 1 mm"),
        ("origin_mm", [0, 0, "nan"], "no usable geometry: its position is"),
        ("direction", SHEARED, "a sheared voxel grid"),
    ],
)
def test_the_geometry_of_the_projects_own_zarr_is_checked(tmp_path, key, value, words):
    path = tmp_path / "result.ome.zarr"
    scan = Scan(noise((4, 6, 8)))
    layout = choose_layout(scan.shape, scan.voxels.dtype, 0)
    create_image(path, scan, layout)
    write_slab(path, layout, 0, scan.voxels)
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"]["restore_rwkv"].pop("complete", None)
    metadata["attributes"]["restore_rwkv"][key] = value
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(ScanError, match=rf"result\.ome\.zarr has {words}"):
        open_scan(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PixelSpacing": [0, 1]}, "no usable geometry: its voxel size"),
        ({"PixelSpacing": [-1, 1]}, "no usable geometry: its voxel size"),
        ({"RescaleSlope": "1e400"}, "scales its values by inf"),
    ],
)
def test_the_geometry_of_dicom_is_checked(tmp_path, changes, words):
    folder = write_series(tmp_path / "series", noise((3, 6, 8)).view(np.uint16), names="abc", **changes)
    with pytest.raises(ScanError, match=words):
        read_scan(folder)
