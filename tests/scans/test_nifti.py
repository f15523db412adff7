"""NIfTI voxels, which ITK would read wrongly or not at all."""

import gzip
import struct

import numpy as np
import pytest
from handmade import SUFFIXES, nifti, save

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan


def test_the_voxels_of_an_unpacked_file_of_the_same_name_are_not_used(tmp_path, voxels):
    """ITK issue 2243: beside p.nii, it returns the voxels of p.nii for p.nii.gz."""
    save(tmp_path / "p.nii.gz", voxels)
    save(tmp_path / "p.nii", voxels + 5)
    np.testing.assert_array_equal(read_scan(tmp_path / "p.nii.gz").voxels, voxels)
    np.testing.assert_array_equal(read_scan(tmp_path / "p.nii").voxels, voxels + 5)


def test_content_decides_whether_a_nifti_is_packed(tmp_path, voxels):
    (tmp_path / "packed.nii").write_bytes(gzip.compress(nifti(voxels)))
    (tmp_path / "plain.nii.gz").write_bytes(nifti(voxels))
    for name in ("packed.nii", "plain.nii.gz"):
        np.testing.assert_array_equal(read_scan(tmp_path / name).voxels, voxels)


def test_five_dimensions_are_refused(tmp_path, voxels):
    (tmp_path / "scan.nii").write_bytes(nifti(voxels, sizes=(30, 20, 1, 2, 3)))
    with pytest.raises(ScanError, match="contains 3 values per voxel"):
        read_scan(tmp_path / "scan.nii")


def test_colour_is_refused(tmp_path):
    (tmp_path / "scan.nii").write_bytes(nifti(np.zeros((2, 3, 4, 3), np.uint8), sizes=(4, 3, 2), datatype=128))
    with pytest.raises(ScanError, match=r"is a colour \(RGB\) image"):
        read_scan(tmp_path / "scan.nii")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nan_and_infinity_are_read_as_they_are(tmp_path, suffix):
    """ITK's NIfTI reader turns them into zeros."""
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 1.5, 2], np.float32).reshape(1, 2, 3)
    assert read_scan(save(tmp_path / f"scan{suffix}", values)).voxels.tobytes() == values.tobytes()


@pytest.mark.parametrize("kind", ["i2", "f4", "f8"])
def test_the_scale_of_a_nifti_is_applied(tmp_path, kind):
    stored = np.arange(24).reshape(2, 3, 4).astype(kind)
    content = bytearray(nifti(stored, datatype={"i2": 4, "f4": 16, "f8": 64}[kind]))
    for slope, intercept, expected in ((0.5, -3.0, stored * 0.5 - 3), (0.0, 7.0, stored), (np.nan, 0.0, stored)):
        struct.pack_into("<ff", content, 112, slope, intercept)
        (tmp_path / "scan.nii").write_bytes(content)
        np.testing.assert_array_equal(read_scan(tmp_path / "scan.nii").voxels, expected)


@pytest.mark.parametrize(("slope", "intercept"), [(np.inf, 0.0), (-np.inf, 0.0), (2.0, np.nan), (1.0, np.inf)])
def test_a_scale_that_is_not_a_number_is_refused(tmp_path, voxels, slope, intercept):
    content = bytearray(nifti(voxels))
    struct.pack_into("<ff", content, 112, slope, intercept)
    (tmp_path / "scan.nii").write_bytes(content)
    with pytest.raises(ScanError, match=r"^scan\.nii scales its values by .* which gives no usable values"):
        read_scan(tmp_path / "scan.nii")


@pytest.mark.parametrize("start", [np.inf, -np.inf, np.nan, 3.0e38, -352.0, 352.5])
def test_an_impossible_offset_of_the_voxels_is_refused(tmp_path, voxels, start):
    content = bytearray(nifti(voxels))
    struct.pack_into("<f", content, 108, start)
    (tmp_path / "scan.nii").write_bytes(content)
    with pytest.raises(ScanError, match=r"^scan\.nii cannot be read: .*(voxels start at|cut off)"):
        read_scan(tmp_path / "scan.nii")


def test_a_big_endian_nifti_is_read(tmp_path, voxels):
    head = bytearray(352)
    struct.pack_into(">i", head, 0, 348)
    struct.pack_into(">8h", head, 40, 3, 30, 20, 6, 1, 1, 1, 1)
    struct.pack_into(">hh", head, 70, 4, 16)
    struct.pack_into(">8f", head, 76, 1, 0.5, 0.75, 3, 1, 1, 1, 1)
    struct.pack_into(">ff", head, 108, 352.0, 1.0)
    head[344:348] = b"n+1\0"
    (tmp_path / "scan.nii").write_bytes(bytes(head) + voxels.astype(">i2").tobytes())
    scan = read_scan(tmp_path / "scan.nii")
    np.testing.assert_array_equal(scan.voxels, voxels)
    assert scan.voxels.dtype == np.int16
    np.testing.assert_allclose(scan.spacing_mm, (3, 0.75, 0.5))


def test_a_nifti_voxel_type_without_a_reader_is_named(tmp_path, voxels):
    (tmp_path / "scan.nii").write_bytes(nifti(voxels, datatype=1536))
    with pytest.raises(ScanError, match=r"unknown voxel type \(1536\)"):
        read_scan(tmp_path / "scan.nii")
