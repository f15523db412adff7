"""Outputs that ``restore-rwkv restore`` refuses before it starts to work, and files that it never replaces."""

import contextlib
import errno
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from command_line import assert_refused_before_work, restore_words

from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.scan import Scan


def test_an_existing_output_is_kept_unless_overwriting_is_allowed(run, scan_file, weights_file, tmp_path):
    output = tmp_path / "restored.nii.gz"
    output.write_bytes(b"precious")
    words = restore_words(scan_file, weights_file, tmp_path)
    assert_refused_before_work(run(*words), "already exists: give another name, or --overwrite to replace it")
    assert output.read_bytes() == b"precious"
    assert run(*words, "--overwrite")[0] == 0
    assert output.read_bytes() != b"precious"


def test_the_input_is_never_overwritten(run, scan_file, weights_file):
    before = scan_file.read_bytes()
    outcome = run("restore", scan_file, scan_file, "--checkpoint", weights_file, "--overwrite")
    assert_refused_before_work(outcome, "is the scan to be restored: give the result another name")
    assert scan_file.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere/restored.nii.gz", "does not exist: create it first, or choose another"),
        ("restored.tif", ".tif would lose the position and direction of the scan; choose a name ending in .nii"),
        ("restored", "restored cannot be written: choose a name ending in .nii"),
    ],
)
def test_an_impossible_output_is_refused_before_the_scan_is_read(run, tmp_path, name, words):
    assert_refused_before_work(run("restore", tmp_path / "never_read.nii", tmp_path / name), words)


def test_export_to_ome_zarr_is_refused_with_the_command_that_writes_it(run, tmp_path):
    outcome = run("export", tmp_path / "never_read.nii", tmp_path / "restored.ome.zarr")
    assert_refused_before_work(outcome, "OME-Zarr is written only by a restoration (restore-rwkv restore); choose")


def test_a_full_disk_is_noticed_before_the_scan_is_read(run, tmp_path, monkeypatch):
    def full(*words, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    outcome = run("restore", tmp_path / "never_read.nii", tmp_path / "restored.nii")
    assert_refused_before_work(outcome, "no space is left on the disk): free some space or choose another folder")


def test_ctrl_c_after_an_export_says_that_its_file_is_complete(run, scan_file, tmp_path, monkeypatch):
    def stopped(*words, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_restore_rwkv.commands.results._export_answer", stopped)
    output = tmp_path / "copy.nii"
    assert run("export", scan_file, output) == (130, "", f"restore-rwkv: stopped; {output} is complete.\n")


def test_a_folder_as_output_is_refused(run, tmp_path):
    (tmp_path / "folder.nii").mkdir()
    assert_refused_before_work(
        run("restore", "never_read.nii", tmp_path / "folder.nii"), "is a folder: give the name of a"
    )


@contextlib.contextmanager
def without_root_rights():
    """A superuser may write anywhere, so act as nobody for a while."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no folder modes")
def test_a_folder_without_write_permission_is_refused_before_the_scan_is_read(run):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        with without_root_rights():
            outcome = run("restore", "never_read.nii", Path(folder) / "restored.nii.gz")
        assert_refused_before_work(outcome, "(permission denied): choose another folder")


def refuse_to_work(monkeypatch):
    """Let any attempt to restore fail the test."""

    def restore(*_, **__):
        raise AssertionError("the work was started")

    monkeypatch.setattr("napari_restore_rwkv.restoration.restore.iter_restore", restore)


def test_a_json_file_where_the_record_would_go_is_kept(run, scan_file, weights_file, tmp_path):
    record = tmp_path / "restored.nii.gz.json"
    record.write_text("precious")
    words = restore_words(scan_file, weights_file, tmp_path)
    assert_refused_before_work(run(*words), "restored.nii.gz.json already exists and may belong to another scan")
    assert record.read_text() == "precious"
    assert run(*words, "--overwrite")[0] == 0
    assert '"software"' in record.read_text()


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_the_voxel_file_of_another_scan_is_kept(run, tmp_path, more):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4), np.int16)), str(tmp_path / "restored.nhdr"))
    before = (tmp_path / "restored.raw").read_bytes()
    outcome = run("restore", tmp_path / "never_read.nii", tmp_path / "restored.mhd", *more)
    assert_refused_before_work(outcome, "restored.raw already exists and may belong to another scan")
    assert (tmp_path / "restored.raw").read_bytes() == before


def test_the_companions_of_an_output_are_replaced_with_it(run, scan_file, weights_file, tmp_path):
    words = ["restore", scan_file, tmp_path / "restored.mhd", "--checkpoint", weights_file]
    assert run(*words)[0] == 0
    assert run(*words, "--overwrite")[0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits whole paths")
@pytest.mark.parametrize("length", [252, 300])
def test_a_name_too_long_for_the_result_or_its_record_is_refused(run, tmp_path, length):
    name = "r" * (length - len(".mha")) + ".mha"
    assert_refused_before_work(run("restore", tmp_path / "never_read.nii", tmp_path / name), "too long")


def test_a_result_that_does_not_fit_on_the_disk_is_refused(run, scan_file, weights_file, tmp_path, monkeypatch):
    refuse_to_work(monkeypatch)
    # 3 x 21 x 26 voxels of 4 bytes.
    free = type("Usage", (), {"free": 3 * 21 * 26 * 4 - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    outcome = run(*restore_words(scan_file, weights_file, tmp_path, "--dtype", "float32"))
    assert_refused_before_work(outcome, "MB are free; free some space or choose another folder")
    assert list(tmp_path.glob("restored*")) == []


def test_a_voxel_type_that_cannot_hold_the_scan_is_refused(run, scan_file, weights_file, tmp_path, monkeypatch):
    refuse_to_work(monkeypatch)
    lowest, highest = read_scan(scan_file).voxels.min(), read_scan(scan_file).voxels.max()
    outcome = run(*restore_words(scan_file, weights_file, tmp_path, "--dtype", "uint16"))
    assert_refused_before_work(outcome, f"range from {lowest} to {highest}, but uint16 holds 0 to 65535: choose")


def test_nan_values_do_not_rule_out_a_voxel_type(run, weights_file, tmp_path):
    path = tmp_path / "scan.nii"
    voxels = np.full((1, 16, 16), 40, np.float32)
    voxels[0, :2, 0] = np.nan, np.inf
    write_scan(Scan(voxels, modality="CT", unit="HU"), path)
    assert run(*restore_words(path, weights_file, tmp_path, "--dtype", "uint16"))[0] == 0
    assert read_scan(tmp_path / "restored.nii.gz").voxels.dtype == np.uint16


def test_a_folder_as_weights_is_refused_before_the_scan_is_read(run, tmp_path):
    outcome = run("restore", tmp_path / "never_read.nii", tmp_path / "restored.nii", "--checkpoint", ".")
    assert_refused_before_work(outcome, ". is a folder: give a weights file")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_a_name_that_is_not_text_is_refused_without_a_crash(run, scan_file, weights_file, tmp_path):
    name = os.fsdecode(b"bad\xff.nii.gz")
    outcome = run("restore", scan_file, tmp_path / name, "--checkpoint", weights_file)
    assert_refused_before_work(outcome, "bad?.nii.gz cannot be written: the name or its folder has bytes that are no")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such names")
def test_file_names_cannot_control_the_terminal(run, weights_file, tmp_path):
    """Names can contain codes that clear the screen, rename the window or reverse the text, or invalid text."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("\x1b]0;owned\x07\x1b[31m.nii", "rtl\u202egpj.nii", "bad\udcff.nii"):
        (folder / name).write_bytes(b"no scan")
    code, out, err = run("restore", folder, tmp_path / "out", "--checkpoint", weights_file)
    assert code == 1
    for text in (out, err):
        assert "?]0;owned??[31m.nii" in text
        assert not {"\x1b", "\x07", "\u202e", "\udcff"} & set(text)
    assert "bad?.nii cannot be written: the name" in out
