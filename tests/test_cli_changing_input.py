"""A plain file that changes while it is read or restored leaves no result."""

import numpy as np
import pytest

from napari_restore_rwkv.commands import preparing
from napari_restore_rwkv.commands.unchanged import InputWatch
from napari_restore_rwkv.errors import OutputError, ScanError
from napari_restore_rwkv.restoration import restore as restoration
from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.opening import open_scan
from napari_restore_rwkv.scans.options import OpenOptions


def other(scan):
    return scan.with_voxels(scan.voxels + 1)


@pytest.fixture
def while_restored(monkeypatch):
    """Do something in the middle of a restoration."""

    def arrange(change):
        whole = restoration.iter_restore

        def changed(*arguments, **options):
            change()
            return (yield from whole(*arguments, **options))

        monkeypatch.setattr(restoration, "iter_restore", changed)

    return arrange


def test_a_file_that_changes_while_it_is_restored_leaves_no_result(
    run, scan_file, small_scan, weights_file, tmp_path, while_restored
):
    while_restored(lambda: write_scan(other(small_scan), scan_file, overwrite=True))
    output = tmp_path / "restored.nii.gz"
    code, _, err = run("restore", scan_file, output, "--checkpoint", weights_file)
    assert code == 1
    assert f"{scan_file.name} changed while it was restored, so nothing was written" in err
    assert not output.exists()


@pytest.mark.parametrize("change", ["touch", "write the same"])
def test_a_file_that_is_only_touched_counts_as_unchanged(
    run, scan_file, small_scan, weights_file, tmp_path, while_restored, change
):
    touch = {"touch": scan_file.touch, "write the same": lambda: write_scan(small_scan, scan_file, overwrite=True)}
    while_restored(touch[change])
    assert run("restore", scan_file, tmp_path / "restored.nii.gz", "--checkpoint", weights_file)[0] == 0


def test_a_file_that_vanishes_leaves_no_result(run, scan_file, weights_file, tmp_path, while_restored):
    while_restored(scan_file.unlink)
    code, _, err = run("restore", scan_file, tmp_path / "restored.nii.gz", "--checkpoint", weights_file)
    assert code == 1
    assert "changed while it was restored" in err


def test_a_file_that_changes_while_it_is_read_is_refused(run, scan_file, weights_file, tmp_path, monkeypatch):
    whole = preparing.opening

    def changed(*arguments, **options):
        scan = yield from whole(*arguments, **options)
        scan_file.touch()
        return scan

    monkeypatch.setattr(preparing, "opening", changed)
    code, _, err = run("restore", scan_file, tmp_path / "restored.nii.gz", "--checkpoint", weights_file)
    assert code == 1
    assert f"{scan_file.name} changed while it was read; wait until" in err


@pytest.mark.parametrize("change", ["voxel", "place"])
def test_lazy_voxels_are_compared_too(tmp_path, small_scan, change):
    path = tmp_path / "scan.mha"
    write_scan(small_scan, path)
    state, scan = InputWatch(path, OpenOptions()), read_scan(path)
    state.check_read()
    state.check_restored(scan)
    moved = small_scan.with_voxels(small_scan.voxels, origin_mm=(0.0, 0.0, 0.0))
    voxels = small_scan.voxels.copy()
    voxels[-1, -1, -1] += 1
    write_scan(small_scan.with_voxels(voxels) if change == "voxel" else moved, path, overwrite=True)
    with pytest.raises(OutputError, match="changed while it was restored"):
        state.check_restored(scan)
    with pytest.raises(ScanError, match="changed while it was read"):
        state.check_read()
    assert np.array_equal(open_scan(path, large=0).voxels[0], voxels[0])
