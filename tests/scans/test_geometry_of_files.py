"""Headers whose voxel size or position is not a number, which ITK silently reads as 1 mm or 0."""

import struct

import numpy as np
import pytest
from handmade import nifti

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan

META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\n{}\nDimSize = 30 20 6\nElementType = MET_SHORT\n"
    "ElementDataFile = LOCAL\n"
)
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 30 20 6\n{}\nendian: little\nencoding: raw\n\n"
SPACE = "space: left-posterior-superior\n"
SFORM = np.hstack([np.eye(3), np.zeros((3, 1))])


@pytest.mark.parametrize("bad", [-2.0, 0.0, np.nan, np.inf])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sform", [None, SFORM])
def test_a_nifti_voxel_size_that_is_not_above_0_is_refused(tmp_path, voxels, bad, axis, sform):
    content = bytearray(nifti(voxels, sform=sform))
    struct.pack_into("<f", content, 80 + 4 * axis, bad)
    (tmp_path / "scan.nii").write_bytes(content)
    with pytest.raises(ScanError, match=rf"^scan\.nii has no usable geometry: its voxel size is .*{bad:g}.* mm"):
        read_scan(tmp_path / "scan.nii")


def test_the_size_of_an_axis_that_a_nifti_does_not_have_is_free(tmp_path, voxels):
    content = bytearray(nifti(voxels[0]))
    struct.pack_into("<f", content, 88, 0.0)
    (tmp_path / "slice.nii").write_bytes(content)
    assert read_scan(tmp_path / "slice.nii").shape == (1, 20, 30)


@pytest.mark.parametrize(("code", "value"), [(252, 256), (252, 268), (254, 280), (254, 292)])
def test_a_nifti_position_that_is_not_a_number_is_refused(tmp_path, voxels, code, value):
    content = bytearray(nifti(voxels, sform=SFORM))
    struct.pack_into("<hh", content, 252, 0, 0)
    struct.pack_into("<f", content, value, np.nan)
    (tmp_path / "scan.nii").write_bytes(content)
    # By its code of 0, the field is not in use.
    assert np.isfinite(read_scan(tmp_path / "scan.nii").origin_mm).all()
    struct.pack_into("<h", content, code, 1)
    (tmp_path / "scan.nii").write_bytes(content)
    with pytest.raises(ScanError, match="its position or direction contains NaN or infinite values"):
        read_scan(tmp_path / "scan.nii")


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("scan.mha", "ElementSpacing = {} 1 1"),
        ("scan.mha", "ElementSize = {} 1 1"),
        ("scan.nrrd", "spacings: {} 1 1"),
        ("scan.nrrd", SPACE + "space directions: ({},0,0) (0,1,0) (0,0,1)"),
    ],
)
@pytest.mark.parametrize("bad", ["0", "nan", "inf", "NaN"])
def test_a_voxel_size_of_zero_or_nan_is_refused(tmp_path, voxels, name, field, bad):
    head = (META if name == "scan.mha" else NRRD).format(field.format(bad))
    (tmp_path / name).write_bytes(head.encode() + voxels.tobytes())
    with pytest.raises(ScanError, match=rf"^{name} has no usable geometry: its .* is {bad}\W.* correct its header"):
        read_scan(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("scan.mha", "Offset = nan 0 0"),
        ("scan.mha", "TransformMatrix = nan 0 0 0 1 0 0 0 1"),
        ("scan.nrrd", SPACE + "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,nan,0)"),
    ],
)
def test_a_position_that_is_not_a_number_is_refused(tmp_path, voxels, name, field):
    (tmp_path / name).write_bytes((META if name == "scan.mha" else NRRD).format(field).encode() + voxels.tobytes())
    with pytest.raises(ScanError, match=rf"^{name} has no usable geometry: its .*nan"):
        read_scan(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "field"), [("scan.mha", "ElementSpacing = -2 1 1"), ("scan.nrrd", "spacings: -2 1 1")]
)
def test_a_negative_voxel_size_of_metaimage_and_nrrd_is_a_flip(tmp_path, voxels, name, field):
    (tmp_path / name).write_bytes((META if name == "scan.mha" else NRRD).format(field).encode() + voxels.tobytes())
    scan = read_scan(tmp_path / name)
    assert scan.spacing_mm == (1, 1, 2)
    np.testing.assert_array_equal(scan.direction, np.diag([-1, 1, 1]))


def test_the_time_axis_of_a_nrrd_needs_no_spacing(tmp_path, voxels):
    head = NRRD.replace("dimension: 3", "dimension: 4").replace("30 20 6", "30 20 3 2").format("spacings: 2 1 1 nan")
    (tmp_path / "scan.nrrd").write_bytes(head.encode() + voxels.tobytes())
    scan = read_scan(tmp_path / "scan.nrrd", time_index=1)
    assert scan.spacing_mm == (1, 1, 2)
    np.testing.assert_array_equal(scan.voxels, voxels[3:])


def test_a_path_without_a_name_is_named_by_its_folder(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ScanError, match=r"^empty contains no DICOM images"):
        read_scan(".")
