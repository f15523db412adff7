"""``restore-rwkv export RESULT FOLDER --dicom-from SERIES``, as users see it."""

import json
import shutil

import numpy as np
import pydicom
import pytest
from command_line import assert_refused_before_work

from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.opening import open_scan
from napari_restore_rwkv.scans.samples import sample_path
from napari_restore_rwkv.scans.scan import same_geometry


@pytest.fixture
def series(tmp_path):
    """Three slices of the sample, reduced to 64 x 64 pixels."""
    folder = tmp_path / "series"
    folder.mkdir()
    for file in sorted(sample_path("ct_abdomen_dicom").iterdir())[:3]:
        tags = pydicom.dcmread(file)
        tags.decompress()
        tags.PixelData = tags.pixel_array[200:264, 200:264].tobytes()
        tags.Rows = tags.Columns = 64
        tags.save_as(folder / file.name)
    return folder


@pytest.fixture(params=["restored.ome.zarr", "restored.nii.gz"])
def result(request, run, series, weights_file, tmp_path):
    output = tmp_path / request.param
    code, _, err = run("restore", series, output, "--checkpoint", weights_file)
    assert code == 0, err
    return output


def test_a_result_becomes_a_derived_series(run, series, result, tmp_path):
    folder = tmp_path / "restored_dicom"
    code, out, err = run("export", result, folder, "--dicom-from", series)
    assert code == 0, err
    assert out == f"{folder}: 3 x 64 x 64 voxels written\n"
    derived, expected = read_scan(folder), open_scan(result)
    assert np.array_equal(derived.voxels, expected.voxels)
    assert (derived.voxels != read_scan(series).voxels).any()
    assert same_geometry(derived, expected)
    assert_refused_before_work(run("export", result, folder, "--dicom-from", series), "give the name of a folder that")
    words = ["export", result, tmp_path / "other", "--dicom-from", series, "--overwrite"]
    assert_refused_before_work(run(*words), "--overwrite only replaces files: remove the DICOM folder yourself")


def test_a_float_result_reports_its_step_size(run, series, weights_file, tmp_path):
    output, folder = tmp_path / "restored.nii", tmp_path / "restored_dicom"
    assert run("restore", series, output, "--checkpoint", weights_file, "--dtype", "float32")[0] == 0
    code, out, err = run("export", output, folder, "--dicom-from", series, "--json")
    assert code == 0, err
    step = json.loads(out)["step"]
    assert 0 < step < 0.1
    assert np.abs(read_scan(folder).voxels - read_scan(output).voxels).max() <= step / 2 * 1.01


def test_another_patient_at_the_same_position_is_refused(run, series, result, tmp_path):
    for file in series.iterdir():
        tags = pydicom.dcmread(file)
        tags.PixelData = (tags.pixel_array + 1).tobytes()
        tags.save_as(file)
    outcome = run("export", result, tmp_path / "out", "--dicom-from", series)
    assert_refused_before_work(outcome, f"{result.name} was not restored from the voxels of series: give the")
    next(series.iterdir()).unlink()
    outcome = run("export", result, tmp_path / "out", "--dicom-from", series)
    assert_refused_before_work(outcome, "has 3 restored slices, but series has 2: give the series that was restored")
    assert not (tmp_path / "out").exists()


def test_a_scan_that_was_not_restored_cannot_become_a_derived_series(run, series, scan_file, tmp_path):
    outcome = run("export", scan_file, tmp_path / "out", "--dicom-from", series)
    assert_refused_before_work(outcome, "abdomen.nii.gz has no record of a restoration, and only a restored scan")
    shutil.rmtree(series)
    outcome = run("export", scan_file, tmp_path / "nowhere" / "out", "--dicom-from", series)
    assert_refused_before_work(outcome, "does not exist: create it first, or choose another")
