"""``--series`` and ``--correct-tilt``, wherever the command line reads a DICOM folder."""

import json

import numpy as np
import pytest
from scans.dicoms import COLUMN, CORNER, GAP, NORMAL, write_slice

from napari_restore_rwkv.scans.files import read_scan


@pytest.fixture
def two_series(tmp_path, rng):
    """A folder with two CT series; the second has another position."""
    folder = tmp_path / "study"
    folder.mkdir()
    for number in (1, 2):
        for index in range(3):
            pixels = rng.integers(900, 1200, (16, 18), dtype=np.uint16)
            uid = {"SeriesInstanceUID": f"1.2.3.{number}", "SeriesDescription": f"scan {number}"}
            write_slice(folder / f"{number}{index}.dcm", pixels, CORNER + number + index * GAP * NORMAL, **uid)
    return folder


@pytest.fixture
def tilted(tmp_path, rng):
    folder = tmp_path / "tilted"
    folder.mkdir()
    for index in range(3):
        pixels = rng.integers(900, 1200, (16, 18), dtype=np.uint16)
        write_slice(folder / f"{index}.dcm", pixels, CORNER + index * (GAP * NORMAL + 0.5 * COLUMN))
    return folder


def test_export_and_evaluate_take_one_of_several_series(run, two_series, tmp_path):
    output = tmp_path / "second.nii.gz"
    code, _, err = run("export", two_series, output)
    assert code == 1
    assert "study contains 2 series" in err
    assert run("export", two_series, output, "--series", "2")[0] == 0
    np.testing.assert_array_equal(read_scan(output).voxels, read_scan(two_series, series="2").voxels)
    code, out, _ = run("evaluate", output, two_series, "--series", "2", "--json")
    assert code == 0
    assert json.loads(out)["same_geometry"]
    assert json.loads(out)["mean"]["rmse"] == 0
    code, out, _ = run("evaluate", output, two_series, "--series", "1", "--json")
    assert code == 0
    assert not json.loads(out)["same_geometry"]


def test_a_derived_series_is_made_from_the_restored_series(run, two_series, weights_file, tmp_path):
    output, folder = tmp_path / "restored.nii.gz", tmp_path / "derived"
    assert run("restore", two_series, output, "--checkpoint", weights_file, "--series", "2")[0] == 0
    words = ["export", output, folder, "--dicom-from", two_series]
    assert "study contains 2 series" in run(*words)[2]
    assert "was not restored from the voxels" in run(*words, "--series", "1")[2]
    assert run(*words, "--series", "2")[0] == 0
    np.testing.assert_array_equal(read_scan(folder).voxels, read_scan(output).voxels)


@pytest.mark.parametrize("output", ["restored.nii.gz", "restored.ome.zarr"])
def test_a_tilted_scan_is_restored_on_request(run, tilted, weights_file, tmp_path, output):
    words = ["restore", tilted, tmp_path / output, "--checkpoint", weights_file]
    code, _, err = run(*words)
    assert code == 1
    assert "correct the tilt with --correct-tilt" in err
    code, _, err = run(*words, "--correct-tilt")
    assert code == 0
    assert "tilted: Its slices were shifted back by 1.0 mm, as by a gantry tilt of 11.3 degrees" in err
    assert read_scan(tmp_path / output).shape == (3, 18, 18)


@pytest.mark.parametrize(
    "words",
    [
        ["export", "INPUT", "OUTPUT.nii.gz"],
        ["simulate", "INPUT", "OUTPUT.nii.gz", "--task", "ct-denoise", "--seed", "0"],
        ["inspect", "INPUT"],
        ["evaluate", "INPUT", "INPUT"],
        ["report", "INPUT", "INPUT"],
    ],
)
def test_every_command_that_reads_corrects_a_tilt_on_request_only(run, tilted, tmp_path, words):
    words = [str(tilted) if word == "INPUT" else word.replace("OUTPUT", str(tmp_path / "out")) for word in words]
    code, _, err = run(*words)
    assert code == 1
    assert "correct the tilt with --correct-tilt" in err
    code, _, err = run(*words, "--correct-tilt")
    assert "correct the tilt" not in err
