"""Both matrices of a NIfTI file: read as nibabel reads them, and kept bit by bit; NIfTI-2 and pairs of files."""

import struct

import nibabel
import numpy as np
import pytest

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.export import export_scan
from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.opening import open_scan
from napari_restore_rwkv.scans.scan import position_mm, to_canonical

SHAPE_XYZ = (8, 6, 4)
C, S = np.cos(0.2), np.sin(0.2)
TURN = np.array([[C, -S, 0], [S, C, 0], [0, 0, 1]])


def matrix(linear, offset):
    made = np.eye(4)
    made[:3, :3], made[:3, 3] = linear, offset
    return made


SCANNER = matrix(TURN * [0.8, 0.8, 2.0], (40.1, -30.2, 10.3))
TEMPLATE = matrix(np.diag([-0.8, 0.8, 2.0]), (31.0, -25.0, 12.0))


@pytest.fixture
def values(rng):
    return rng.integers(-1000, 1000, SHAPE_XYZ, dtype=np.int16)


def saved(path, values, sform=None, sform_code=0, qform=None, qform_code=0, kind=nibabel.Nifti1Image, units="mm"):
    image = kind(values, None)
    image.header.set_xyzt_units(units, "sec")
    image.header["pixdim"][1:4] = (0.8, 0.8, 2.0)
    image.set_qform(qform, qform_code, update_affine=False)
    image.set_sform(sform, sform_code, update_affine=False)
    nibabel.save(image, path)
    return path


def matrices(path):
    header = nibabel.load(path).header
    fields = ["qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"]
    fields += ["qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"]
    return {"pixdim": header["pixdim"][:4].tobytes()} | {name: header[name].tobytes() for name in fields}


def assert_lies_as_nibabel_says(scan, path):
    affine = nibabel.load(path).affine
    for index in [(0, 0, 0), (3, 0, 0), (0, 5, 0), (0, 0, 7), (3, 5, 7)]:
        x, y, z = nibabel.affines.apply_affine(affine, index[::-1])
        np.testing.assert_allclose(position_mm(scan, index), (-x, -y, z), atol=1e-4)


CASES = {
    "both differ": {"sform": TEMPLATE, "sform_code": 2, "qform": SCANNER, "qform_code": 1},
    "template": {"sform": TEMPLATE, "sform_code": 4, "qform": TEMPLATE, "qform_code": 1},
    "only qform": {"sform": None, "sform_code": 0, "qform": SCANNER, "qform_code": 1},
    "only sform": {"sform": SCANNER, "sform_code": 3, "qform": None, "qform_code": 0},
    "mirrored": {
        "sform": SCANNER @ np.diag([1, 1, -1, 1]),
        "sform_code": 1,
        "qform": SCANNER @ np.diag([1, 1, -1, 1]),
        "qform_code": 1,
    },
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("lazy", [False, True])
def test_the_effective_matrix_is_that_of_nibabel(tmp_path, values, case, lazy):
    path = saved(tmp_path / "scan.nii", values, **case)
    scan = open_scan(path, large=0) if lazy else read_scan(path)
    np.testing.assert_array_equal(np.asarray(scan.voxels), values.T)
    assert_lies_as_nibabel_says(scan, path)


@pytest.mark.parametrize("case", [*CASES.values(), {}], ids=[*CASES, "no codes"])
@pytest.mark.parametrize("how", ["at once", "slab by slab"])
def test_both_matrices_and_codes_are_kept_bit_for_bit(tmp_path, values, case, how):
    path = saved(tmp_path / "scan.nii.gz", values, **case)
    scan = read_scan(path)
    copy = tmp_path / "copy.nii.gz"
    if how == "at once":
        write_scan(scan.with_voxels(scan.voxels.astype(np.float32) + 0.5), copy)
    else:
        finish(export_scan(scan, copy, large=0))
    assert matrices(copy) == matrices(path)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_reoriented_scan_keeps_its_position_and_code(tmp_path, values, case):
    path = saved(tmp_path / "scan.nii", values, **case)
    scan = to_canonical(read_scan(path))
    write_scan(scan, tmp_path / "turned.nii")
    assert_lies_as_nibabel_says(scan, tmp_path / "turned.nii")
    written, original = (nibabel.load(tmp_path / name).header for name in ("turned.nii", "scan.nii"))
    assert int(written["sform_code"]) == int(original["sform_code"])
    if case["sform_code"] and not np.allclose(case["sform"], SCANNER if case["qform"] is None else case["qform"]):
        # Another place than the one that counts is not made up.
        assert int(written["qform_code"]) == 0


def test_the_matrices_survive_a_restoration(run, tmp_path, values, weights_file):
    path = saved(tmp_path / "scan.nii.gz", values, **CASES["both differ"])
    code, _, err = run("restore", path, tmp_path / "out.nii.gz", "--checkpoint", weights_file, "--modality", "CT")
    assert code == 0, err
    assert matrices(tmp_path / "out.nii.gz") == matrices(path)


def test_a_sheared_sform_is_refused_and_not_replaced_by_the_qform(tmp_path, values):
    sheared = SCANNER @ np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    path = saved(tmp_path / "scan.nii", values, sform=sheared, sform_code=1, qform=SCANNER, qform_code=1)
    for read in (read_scan, open_scan):
        with pytest.raises(ScanError, match=r"scan\.nii has a sheared voxel grid"):
            read(path)


def test_an_sform_without_extent_is_refused(tmp_path, values):
    path = saved(tmp_path / "scan.nii", values, sform=np.diag([0, 0, 0, 1.0]), sform_code=1)
    with pytest.raises(ScanError, match=r"scan\.nii has no usable geometry: its voxel size is 0 x 0 x 0"):
        read_scan(path)


@pytest.mark.parametrize(("units", "mm"), [("micron", 0.001), ("meter", 1000.0), ("unknown", 1.0)])
def test_other_units_of_length_are_read_and_kept(tmp_path, values, units, mm):
    path = saved(tmp_path / "scan.nii", values, units=units, **CASES["template"])
    scan = read_scan(path)
    np.testing.assert_allclose(scan.spacing_mm, np.array([2.0, 0.8, 0.8]) * mm, rtol=1e-6)
    np.testing.assert_allclose(scan.origin_mm, np.array([-31.0, 25.0, 12.0]) * mm, rtol=1e-6)
    write_scan(scan, tmp_path / "copy.nii")
    assert nibabel.load(tmp_path / "copy.nii").header.get_xyzt_units()[0] == units
    np.testing.assert_allclose(read_scan(tmp_path / "copy.nii").spacing_mm, scan.spacing_mm)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_nifti_2_is_read(tmp_path, values, name):
    path = saved(tmp_path / name, values, kind=nibabel.Nifti2Image, **CASES["both differ"])
    for scan in (read_scan(path), open_scan(path, large=0)):
        np.testing.assert_array_equal(np.asarray(scan.voxels), values.T)
        assert_lies_as_nibabel_says(scan, path)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("lazy", [False, True])
def test_a_header_with_its_image_file_is_read(tmp_path, values, kind, lazy):
    path = saved(tmp_path / "scan.hdr", values, kind=kind, **CASES["both differ"])
    scan = open_scan(path, large=0) if lazy else read_scan(path)
    np.testing.assert_array_equal(np.asarray(scan.voxels), values.T)
    assert_lies_as_nibabel_says(scan, path)
    (tmp_path / "scan.img").unlink()
    with pytest.raises(ScanError, match=r"scan\.hdr keeps its voxels in scan\.img, which is missing"):
        read_scan(path)


def test_analyze_is_refused_by_name(tmp_path, values):
    nibabel.save(nibabel.AnalyzeImage(values, np.eye(4)), tmp_path / "scan.hdr")
    with pytest.raises(ScanError, match=r"scan\.hdr is an ANALYZE file.*does not tell left from right"):
        read_scan(tmp_path / "scan.hdr")


@pytest.mark.parametrize(
    "record",
    [
        None,
        5,
        {},
        {"pixdim": "x"},
        {"pixdim": [1], "units": 2, "qform_code": 1, "sform_code": 1, "qform": [], "sform": []},
    ],
)
def test_a_damaged_record_of_the_matrices_is_ignored(tmp_path, values, record):
    scan = read_scan(saved(tmp_path / "scan.nii", values, **CASES["template"]))
    write_scan(scan.with_voxels(scan.voxels, metadata={"nifti": record}), tmp_path / "copy.nii")
    assert_lies_as_nibabel_says(scan, tmp_path / "copy.nii")


def test_a_cut_off_nifti_2_header_is_refused(tmp_path):
    (tmp_path / "scan.nii").write_bytes(struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n" + bytes(300))
    with pytest.raises(ScanError, match=r"scan\.nii cannot be read: it has no NIfTI header"):
        read_scan(tmp_path / "scan.nii")
