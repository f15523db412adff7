"""``restore-rwkv simulate``: a good scan in, a worse one and the record of how it was made out."""

import errno
import json

import numpy as np
import pytest
from command_line import assert_refused_before_work

from napari_restore_rwkv.commands import judging_words
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.simulate.whole_scan import STRENGTHS


def test_a_noisy_scan_and_its_record_are_written(run, scan_file, tmp_path):
    output = tmp_path / "noisy.nii.gz"
    code, out, _ = run("simulate", scan_file, output, "--task", "ct-denoise", "--seed", 7, "--strength", 0.5, "--json")
    assert code == 0
    good, noisy = read_scan(scan_file), read_scan(output)
    assert noisy.voxels.dtype == good.voxels.dtype
    assert (noisy.voxels != good.voxels).any()
    np.testing.assert_allclose(noisy.origin_mm, good.origin_mm, atol=1e-3)
    record = json.loads((tmp_path / "noisy.nii.gz.json").read_text())["simulation"]
    assert record == json.loads(out)["simulation"]
    assert (record["task"], record["seed"], record["strength"]) == ("ct-denoise", 7, 0.5)


def test_the_same_seed_writes_the_same_voxels(run, scan_file, tmp_path):
    for name in ("one.nii", "two.nii"):
        assert run("simulate", scan_file, tmp_path / name, "--task", "ct-denoise", "--seed", 3)[0] == 0
    np.testing.assert_array_equal(read_scan(tmp_path / "one.nii").voxels, read_scan(tmp_path / "two.nii").voxels)


def test_the_text_says_what_was_done(run, scan_file, tmp_path):
    _, out, _ = run("simulate", scan_file, tmp_path / "noisy.nii", "--task", "ct-denoise", "--seed", 3)
    assert "3 slices simulated (ct-denoise, strength 1: added noise relative to a quarter of the dose" in out
    assert "seed 3" in out


def test_an_existing_output_is_kept_unless_overwriting_is_allowed(run, scan_file, tmp_path):
    output = tmp_path / "noisy.nii"
    output.write_bytes(b"precious")
    words = ("simulate", scan_file, output, "--task", "ct-denoise", "--seed", 3)
    assert_refused_before_work(run(*words), "already exists: give another name, or --overwrite to replace it")
    assert run(*words, "--overwrite")[0] == 0


def test_a_full_disk_leaves_the_old_scan_with_its_old_record(run, scan_file, tmp_path, monkeypatch):
    output, record = tmp_path / "noisy.nii", tmp_path / "noisy.nii.json"
    words = ("simulate", scan_file, output, "--task", "ct-denoise", "--overwrite")
    assert run(*words, "--seed", 3)[0] == 0
    before = output.read_bytes(), record.read_bytes()

    def full(path):
        if path.suffix == ".json" and "simulation" in path.read_text():
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("napari_restore_rwkv.scans.writing.sync_file", full)
    code, _, err = run(*words, "--seed", 4)
    assert code == 1
    assert "no space is left on the disk; free some space or choose another folder" in err
    assert (output.read_bytes(), record.read_bytes()) == before


def test_a_scan_of_another_modality_is_refused(run, scan_file, tmp_path):
    outcome = run("simulate", scan_file, tmp_path / "low.nii", "--task", "mri-sr", "--seed", 3)
    assert_refused_before_work(outcome, "mri-sr is for MR, but this scan is CT; choose another task")
    assert not (tmp_path / "low.nii").exists()


@pytest.mark.parametrize("missing", ["--task", "--seed"])
def test_task_and_seed_are_required(run, scan_file, tmp_path, missing):
    words = {"--task": "ct-denoise", "--seed": "3"}
    del words[missing]
    with pytest.raises(SystemExit) as stop:
        run("simulate", scan_file, tmp_path / "noisy.nii", *(word for pair in words.items() for word in pair))
    assert stop.value.code == 2


def test_the_help_lists_the_tasks_that_can_be_simulated():
    assert set(judging_words.SIMULATED) == set(STRENGTHS)
    for task, strength in STRENGTHS.items():
        assert f"({strength.usual:g})" in judging_words.SIMULATED[task]
