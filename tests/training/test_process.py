"""The training process: its messages, its commands, and that its end never ends its parent."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from phantom import QUICK

from napari_restore_rwkv.errors import OutputError, ScanError
from napari_restore_rwkv.network.checkpoint import load_checkpoint
from napari_restore_rwkv.training.job import read_job, write_job
from napari_restore_rwkv.training.process import FineTuneProcess

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(weights_file, pair, tmp_path):
    write_job(tmp_path / "job", weights_file, pair, QUICK, output=tmp_path / "ours.restorerwkv", threads=1)
    return tmp_path / "job"


def until_step(records, step):
    return next(record for record in records if record.get("step", 0) >= step)


def test_a_job_is_read_back_with_its_voxels_on_disk(folder, pair, weights_file):
    job = read_job(folder)
    assert (job.weights, job.options, job.threads) == (str(weights_file), QUICK, 1)
    [one] = job.material
    assert isinstance(one.degraded.voxels, np.memmap)
    for name in ("degraded", "target"):
        stored, given = getattr(one, name), getattr(pair, name)
        np.testing.assert_array_equal(stored.voxels, given.voxels)
        assert (stored.spacing_mm, stored.modality, stored.unit) == (given.spacing_mm, given.modality, given.unit)


def test_a_folder_accepts_only_one_job(folder, weights_file, pair):
    with pytest.raises(OutputError, match="already contains a fine-tuning run; restart that one"):
        write_job(folder, weights_file, pair)


def test_a_folder_without_a_job_is_refused(tmp_path):
    with pytest.raises(ScanError, match="contains no readable fine-tuning run"):
        read_job(tmp_path)


def test_a_killed_run_resumes_to_the_weights_of_an_undisturbed_one(folder, tmp_path, tuned):
    process = FineTuneProcess(folder)
    process.start()
    until_step(process.records(), 14)
    process.kill()
    *_, last = process.records()
    assert last["kind"] == "crashed"
    assert "restart it to continue" in last["text"]
    assert not process.running
    assert (folder / "state.pt").is_file()

    again = FineTuneProcess(folder)
    again.start()
    records = list(again.records())
    # It went on from a saved step, not from the beginning.
    assert min(record["step"] for record in records if record.get("loss") is not None) > 10
    done = records[-1]
    assert done["kind"] == "done"
    assert done["accepted"], done["reason"]
    assert Path(done["picture"]).is_file()
    assert done["bundle"] == str(tmp_path / "ours.restorerwkv")

    weights = load_checkpoint(done["bundle"], fused=False).state_dict()
    assert all(torch.equal(weights[name], value) for name, value in tuned[1].new.items())


def test_the_process_pauses_previews_and_stops_with_the_best_weights(folder, pair):
    process = FineTuneProcess(folder)
    process.start()
    records = process.records()
    until_step(records, 3)
    process.pause()
    paused_after = next(record for record in records if record["kind"] == "paused")
    assert paused_after == {"kind": "paused"}
    process.preview(5)
    process.resume()
    assert next(records) == {"kind": "resumed"}
    shown = next(record for record in records if record["kind"] == "preview")
    assert shown["index"] == 5
    np.testing.assert_array_equal(np.load(shown["file"])["degraded"], pair.degraded.voxels[5])
    process.stop()
    *rest, done = records
    assert done["kind"] == "done"
    assert max(record["step"] for record in rest if record["kind"] == "progress") < QUICK.steps


def test_a_preview_that_cannot_be_written_is_an_error_in_a_sentence(folder):
    (folder / "preview.npz").mkdir()
    process = FineTuneProcess(folder)
    process.start()
    process.preview(5)
    *_, last = process.records()
    assert last["kind"] == "error"
    assert "cannot be written any further: is a directory" in last["text"]
    assert "run the same training again" in last["text"]


def test_the_process_saves_its_state_and_ends_without_its_parent(folder):
    process = FineTuneProcess(folder)
    process.start()
    records = process.records()
    until_step(records, 2)
    process.leave()
    assert all(record["kind"] == "progress" for record in records if record["kind"] != "crashed")
    assert (folder / "state.pt").is_file()


def test_an_error_that_the_user_can_fix_is_a_sentence(weights_file, pair, tmp_path):
    shifted = replace(pair, degraded=pair.degraded.with_voxels(np.roll(pair.degraded.voxels, 4, axis=1)))
    write_job(tmp_path / "job", weights_file, shifted, QUICK, threads=1)
    process = FineTuneProcess(tmp_path / "job")
    process.start()
    [error] = process.records()
    assert error["kind"] == "error"
    assert "Register the two scans, or force it." in error["text"]


def test_the_pipe_carries_records_only(folder):
    code = (
        "import sys, pathlib, napari_restore_rwkv.training.fine_tune as module\n"
        "original = module.fine_tune\n"
        "def noisy(*args, **named):\n"
        "    print('a library writes_results')\n"
        "    return original(*args, **named)\n"
        "module.fine_tune = noisy\n"
        "from napari_restore_rwkv.training.process import main\n"
        "main(pathlib.Path(sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], input='{"do": "stop"}\n', capture_output=True, text=True, timeout=240
    )
    kinds = {json.loads(line)["kind"] for line in done.stdout.splitlines()}
    assert kinds
    assert kinds <= {"progress", "done"}
    assert "a library writes_results" in done.stderr
