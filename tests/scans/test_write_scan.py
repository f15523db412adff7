"""Writing: the same voxels in the same place, and nothing half-written under the final name."""

import errno
import json
import os
from types import MappingProxyType

import numpy as np
import pytest
import SimpleITK as sitk

from napari_restore_rwkv.errors import OutputError
from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.scan import Scan

SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"]


def oblique():
    a, b = np.deg2rad([25, -40])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return about_x @ about_z


@pytest.fixture
def scan(rng):
    voxels = rng.integers(-1000, 2000, (5, 12, 9), dtype=np.int16)
    return Scan(voxels, (2.5, 0.7, 0.6), (-101.25, 12.5, 640.0), oblique(), "CT", "HU")


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_written_scans_are_read_back(tmp_path, scan, suffix):
    write_scan(scan, tmp_path / f"scan{suffix}")
    back = read_scan(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(back.voxels, scan.voxels)
    assert back.voxels.dtype == scan.voxels.dtype
    np.testing.assert_allclose(back.direction, scan.direction, atol=1e-6)
    np.testing.assert_allclose(back.spacing_mm, scan.spacing_mm, atol=1e-6)
    np.testing.assert_allclose(back.origin_mm, scan.origin_mm, atol=1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("modality", "unit"), [("CT", "HU"), ("PET", "SUV"), ("PET", "Bq/ml"), ("MR", ""), (None, "")])
def test_modality_and_unit_survive(tmp_path, suffix, modality, unit):
    write_scan(Scan(np.ones((2, 3, 4), np.float32), modality=modality, unit=unit), tmp_path / f"scan{suffix}")
    back = read_scan(tmp_path / f"scan{suffix}")
    assert (back.modality, back.unit) == (modality, unit)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_single_oblique_slice_keeps_its_position(tmp_path, scan, suffix):
    slice_ = scan.with_voxels(scan.voxels[:1])
    write_scan(slice_, tmp_path / f"slice{suffix}")
    back = read_scan(tmp_path / f"slice{suffix}")
    assert back.shape == (1, 12, 9)
    np.testing.assert_allclose(back.direction, scan.direction, atol=1e-6)
    np.testing.assert_allclose(back.spacing_mm, scan.spacing_mm, atol=1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "f4", "f8", ">i2", ">f4"])
def test_voxel_type_is_kept(tmp_path, suffix, dtype):
    voxels = np.arange(24).reshape(2, 3, 4).astype(dtype)
    write_scan(Scan(voxels), tmp_path / f"scan{suffix}")
    back = read_scan(tmp_path / f"scan{suffix}").voxels
    np.testing.assert_array_equal(back, voxels)
    assert back.dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize(("dtype", "wider"), [("f2", "f4"), ("?", "u1")])
def test_a_type_that_files_do_not_know_is_widened(tmp_path, dtype, wider):
    write_scan(Scan(np.ones((2, 3, 4), dtype)), tmp_path / "scan.nrrd")
    assert read_scan(tmp_path / "scan.nrrd").voxels.dtype == np.dtype(wider)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nan_and_infinity_survive(tmp_path, suffix):
    voxels = np.array([np.nan, np.inf, -np.inf, -0.0], np.float32).reshape(1, 2, 2)
    write_scan(Scan(voxels), tmp_path / f"scan{suffix}")
    assert read_scan(tmp_path / f"scan{suffix}").voxels.tobytes() == voxels.tobytes()


def test_a_flipped_view_is_written_as_displayed(tmp_path, scan):
    flipped = scan.with_voxels(scan.voxels[::-1, :, ::-1])
    write_scan(flipped, tmp_path / "scan.mha")
    np.testing.assert_array_equal(read_scan(tmp_path / "scan.mha").voxels, flipped.voxels)


def test_provenance_is_written_beside_the_scan(tmp_path, scan):
    restoration = {"task": "ct-denoise", "strength": np.float32(0.5), "intensity": MappingProxyType({"low": -1024.0})}
    restored = scan.with_voxels(scan.voxels, metadata={"restoration": restoration})
    write_scan(restored, tmp_path / "scan.nii.gz")
    assert sorted(files_in(tmp_path)) == ["scan.nii.gz", "scan.nii.gz.json"]
    stored = json.loads((tmp_path / "scan.nii.gz.json").read_text())
    assert stored == {"task": "ct-denoise", "strength": 0.5, "intensity": {"low": -1024.0}}


def test_the_record_of_a_replaced_file_is_removed_with_it(tmp_path, scan):
    restoration = {"software": "napari-restore-rwkv 1.0"}
    write_scan(scan.with_voxels(scan.voxels, metadata={"restoration": restoration}), tmp_path / "scan.mha")
    write_scan(scan, tmp_path / "scan.mha")
    assert sorted(files_in(tmp_path)) == ["scan.mha"]


@pytest.mark.parametrize("content", ['{"software": "another"}', '{"task": "rest"}', "[1]", "no JSON", ""])
def test_a_json_file_of_another_program_is_kept(tmp_path, scan, content):
    (tmp_path / "scan.mha.json").write_text(content)
    write_scan(scan, tmp_path / "scan.mha")
    assert (tmp_path / "scan.mha.json").read_text() == content


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failed_write_keeps_the_record_of_the_old_file(tmp_path, scan, monkeypatch, failing):
    restoration = {"software": "napari-restore-rwkv 1.0"}
    write_scan(scan.with_voxels(scan.voxels, metadata={"restoration": restoration}), tmp_path / "scan.nrrd")
    before = files_in(tmp_path)
    replace, moves = os.replace, []

    def fails_once(source, target):
        # Moves inside the working folder come before those that count.
        moves.extend([target] if tmp_path in (source.parent, target.parent) else [])
        if len(moves) == failing:
            moves.append("failed")
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("os.replace", fails_once)
    with pytest.raises(OutputError, match="no space is left"):
        write_scan(scan, tmp_path / "scan.nrrd")
    assert "failed" in moves
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "geometry",
    [
        {"spacing_mm": (0.0, 1.0, 1.0)},
        {"spacing_mm": (1.0, -1.0, 1.0)},
        {"spacing_mm": (1.0, 1.0, np.nan)},
        {"origin_mm": (0.0, np.inf, 0.0)},
        {"origin_mm": (0.0, 0.0)},
        {"direction": np.zeros((3, 3))},
        {"direction": np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])},
    ],
)
def test_a_geometry_that_no_file_can_store_is_refused(tmp_path, suffix, geometry):
    with pytest.raises(OutputError, match=rf"scan{suffix} cannot be written: a file cannot hold this geometry"):
        write_scan(Scan(np.zeros((2, 3, 4), np.int16), **geometry), tmp_path / f"scan{suffix}")
    assert files_in(tmp_path) == {}


def test_nothing_else_is_left_behind(tmp_path, scan):
    write_scan(scan, tmp_path / "scan.mhd")
    assert sorted(files_in(tmp_path)) == ["scan.mhd", "scan.raw"]
    write_scan(scan.with_voxels(scan.voxels + 1), tmp_path / "scan.mhd")
    np.testing.assert_array_equal(read_scan(tmp_path / "scan.mhd").voxels, scan.voxels + 1)


@pytest.mark.parametrize("name", ["scan.tif", "scan.TIFF", "scan.vtk", "scan.png"])
def test_formats_that_lose_the_geometry_are_refused(tmp_path, scan, name):
    with pytest.raises(OutputError, match="would lose the position and direction of the scan; choose a name ending in"):
        write_scan(scan, tmp_path / name)
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("name", ["scan", "scan.dcm", "scan.gz", "scan.nhdr"])
def test_an_unknown_suffix_lists_those_that_are_written(tmp_path, scan, name):
    with pytest.raises(OutputError, match=r"choose a name ending in \.nii, \.nii\.gz, \.nrrd, \.mha or \.mhd"):
        write_scan(scan, tmp_path / name)


@pytest.mark.parametrize("voxels", [np.zeros((3, 4)), np.zeros((0, 3, 4))])
def test_an_array_that_is_not_a_volume_is_refused(tmp_path, voxels):
    with pytest.raises(OutputError, match="three dimensions and at least one voxel"):
        write_scan(Scan(voxels), tmp_path / "scan.mha")


def test_complex_voxels_are_refused(tmp_path):
    with pytest.raises(OutputError, match="files can store real numbers, not complex128"):
        write_scan(Scan(np.zeros((2, 3, 4), complex)), tmp_path / "scan.mha")


def test_a_missing_folder_is_named_as_the_cause(tmp_path, scan):
    with pytest.raises(OutputError, match=r"scan\.nii cannot be written: its folder does not exist; choose another"):
        write_scan(scan, tmp_path / "nowhere" / "scan.nii")


def test_a_file_in_place_of_the_folder_is_named_as_the_cause(tmp_path, scan):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="its folder does not exist"):
        write_scan(scan, tmp_path / "file" / "scan.nii")


def test_a_folder_of_that_name_is_kept(tmp_path, scan):
    (tmp_path / "scan.mha").mkdir()
    with pytest.raises(OutputError, match=r"scan\.mha cannot be written: a folder has that name"):
        write_scan(scan, tmp_path / "scan.mha")
    assert [path.name for path in tmp_path.iterdir()] == ["scan.mha"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "there is no write permission for its folder; choose another folder or name"),
        (errno.EROFS, "its folder is read-only; choose another folder or name"),
        (errno.ENOSPC, "no space is left on the disk; free some space or choose another folder"),
    ],
)
@pytest.mark.parametrize("function", ["tempfile.mkdtemp", "os.fsync", "os.replace"])
def test_a_failed_write_says_why_and_keeps_the_old_file(tmp_path, scan, monkeypatch, number, words, function):
    write_scan(scan, tmp_path / "scan.mhd")
    before = files_in(tmp_path)

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(function, fail)
    with pytest.raises(OutputError, match=rf"scan\.mhd cannot be written: {words}"):
        write_scan(scan.with_voxels(scan.voxels + 1), tmp_path / "scan.mhd")
    assert files_in(tmp_path) == before


@pytest.mark.skipif(os.name != "posix", reason="permissions are set in another way there")
def test_a_folder_without_write_permission_is_named_as_the_cause(tmp_path, scan):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    user = os.geteuid()
    if user == 0:
        # Root may write everywhere, so for a moment we are nobody.
        os.seteuid(65534)
    try:
        with pytest.raises(OutputError, match="there is no write permission for its folder; choose another folder"):
            write_scan(scan, folder / "scan.nii")
    finally:
        os.seteuid(user)
    assert files_in(folder) == {}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_fills_up_leaves_nothing(tmp_path, suffix, rng, capfd):
    """A limit on the size of files makes ITK's writes fall short, as on a full disk."""
    resource = pytest.importorskip("resource")
    scan = Scan(rng.normal(size=(20, 50, 50)))
    write_scan(Scan(np.zeros((1, 2, 2), np.int16)), tmp_path / f"scan{suffix}")
    before = files_in(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match=rf"scan{suffix}.* cannot be written: .*no space is left.*free some"):
            write_scan(scan, tmp_path / f"scan{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_in(tmp_path) == before
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ctrl_c_leaves_the_old_file_and_nothing_else(tmp_path, scan, monkeypatch, suffix):
    write_scan(scan, tmp_path / f"scan{suffix}")
    before = files_in(tmp_path)

    class Interrupted(sitk.ImageFileWriter):
        def Execute(self, image):
            super().Execute(image)
            raise KeyboardInterrupt

    monkeypatch.setattr(sitk, "ImageFileWriter", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_scan(scan.with_voxels(scan.voxels + 1), tmp_path / f"scan{suffix}")
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("moves", range(1, 6))
def test_an_interruption_between_two_moves_undoes_both(tmp_path, scan, monkeypatch, moves):
    scan = scan.with_voxels(scan.voxels, metadata={"restoration": {"task": "ct-denoise"}})
    write_scan(scan, tmp_path / "scan.mhd")
    before = files_in(tmp_path)
    replace, targets = os.replace, []

    def interrupted(source, target):
        targets.append(target)
        if len(targets) == moves + 1:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_scan(scan.with_voxels(scan.voxels + 1), tmp_path / "scan.mhd")
    assert files_in(tmp_path) == before


def test_the_raw_file_of_another_scan_is_kept(tmp_path, scan):
    sitk.WriteImage(sitk.GetImageFromArray(scan.voxels), str(tmp_path / "scan.nhdr"))
    before = files_in(tmp_path)
    with pytest.raises(OutputError, match=r"scan\.raw already exists and may belong to another scan"):
        write_scan(scan, tmp_path / "scan.mhd")
    assert files_in(tmp_path) == before
