"""``restore-rwkv evaluate``: two files in, figures out."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from napari_restore_rwkv.scans.files import write_scan
from napari_restore_rwkv.scans.scan import to_canonical


def test_evaluate_scores_two_files(run, scan_file, small_scan, tmp_path):
    noisy = tmp_path / "noisy.nrrd"
    write_scan(small_scan.with_voxels(np.asarray(small_scan.voxels) + np.int16(4)), noisy)
    code, out, err = run("evaluate", noisy, scan_file, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert len(result["slices"]) == small_scan.shape[0]
    assert result["mean"]["rmse"] == pytest.approx(4)
    assert result["same_geometry"] is True
    assert result["window"] is None


def test_evaluate_prints_a_table_with_window_and_mean(run, scan_file):
    code, out, _ = run("evaluate", scan_file, scan_file, "--window", "-160", "240")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:4] == ["slice", "PSNR", "dB", "SSIM"]
    assert lines[-2].split()[:3] == ["mean", "inf", "1.0000"]
    assert lines[-1].startswith("window -160 to 240")


def test_evaluate_mentions_that_two_scans_lie_elsewhere(run, scan_file, small_scan, tmp_path):
    moved = tmp_path / "moved.nii.gz"
    write_scan(small_scan.with_voxels(small_scan.voxels, origin_mm=(1.0, 2.0, 3.0)), moved)
    code, out, err = run("evaluate", moved, scan_file, "--json")
    assert code == 0
    assert json.loads(out)["same_geometry"] is False
    assert "differ in voxel size, position or orientation" in err


def test_evaluate_refuses_scans_of_different_size(run, scan_file, small_scan, tmp_path):
    shorter = tmp_path / "shorter.nii.gz"
    write_scan(small_scan.with_voxels(np.asarray(small_scan.voxels)[:-1]), shorter)
    code, out, err = run("evaluate", shorter, scan_file)
    assert (code, out) == (1, "")
    assert "choose two scans of the same size" in err


def test_evaluate_compares_voxels_at_the_same_place_in_any_order_of_storage(run, scan_file, small_scan, tmp_path):
    turned = tmp_path / "turned.nrrd"
    # Stored as sagittal slices, from the patient's left to the right.
    voxels = np.transpose(np.asarray(small_scan.voxels), (2, 0, 1))[::-1]
    x, y, z = small_scan.direction.T
    step_z, step_y, step_x = small_scan.spacing_mm
    corner = np.asarray(small_scan.origin_mm) + (small_scan.shape[2] - 1) * step_x * x
    sagittal = small_scan.with_voxels(
        voxels,
        spacing_mm=(step_x, step_z, step_y),
        origin_mm=tuple(corner),
        direction=np.stack([y, z, -x], axis=1),
    )
    assert np.array_equal(to_canonical(sagittal).voxels, small_scan.voxels)
    write_scan(sagittal, turned)
    code, out, err = run("evaluate", turned, scan_file, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["mean"]["rmse"] == 0
    assert result["same_geometry"] is True
    assert len(result["slices"]) == small_scan.shape[0]


def test_evaluate_takes_the_chosen_frame_of_a_four_dimensional_scan(run, scan_file, tmp_path):
    frame = sitk.ReadImage(str(scan_file))
    frames = tmp_path / "frames.nii.gz"
    sitk.WriteImage(sitk.JoinSeries([frame + 100, frame]), str(frames))
    code, _, err = run("evaluate", scan_file, frames)
    assert code == 1
    assert "contains 2 frames (time points); choose one by its time index, from 0 to 1" in err
    code, out, err = run("evaluate", scan_file, frames, "--time-index", "1", "--json")
    assert code == 0, err
    assert json.loads(out)["mean"]["rmse"] == 0
    assert "has no frame 2" in run("evaluate", scan_file, frames, "--time-index", "2")[2]
