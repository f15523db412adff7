"""The command line as a person or a script meets it: exit codes, words, files, and JSON that stays JSON."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from napari_restore_rwkv import cli, commands
from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.scan import Scan

COMMAND = [sys.executable, "-m", "napari_restore_rwkv"]
SLOW_START = 120  # seconds; loading torch on a busy machine takes a while


@pytest.fixture
def scan_file(small_scan, tmp_path):
    """A small CT scan on disk."""
    path = tmp_path / "abdomen.nii.gz"
    write_scan(small_scan, path)
    return path


def restore_words(scan_file, weights_file, tmp_path, *more):
    return ["restore", scan_file, tmp_path / "restored.nii.gz", "--checkpoint", weights_file, *more]


def test_restore_writes_a_scan_with_the_same_geometry_and_type(run, scan_file, weights_file, small_scan, tmp_path):
    code, out, err = run(*restore_words(scan_file, weights_file, tmp_path, "--device", "cpu"))
    assert code == 0, err
    assert f"{small_scan.shape[0]} slices restored in" in out
    restored = read_scan(tmp_path / "restored.nii.gz")
    original = read_scan(scan_file)
    assert commands.same_geometry(restored, original)
    assert restored.voxels.dtype == original.voxels.dtype == np.int16
    assert restored.shape == original.shape


def test_restore_prints_one_json_object_and_nothing_else(scan_file, weights_file, small_scan, tmp_path):
    words = restore_words(scan_file, weights_file, tmp_path, "--json", "--threads", "1", "--dtype", "float32")
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=SLOW_START)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["slices"] == small_scan.shape[0]
    assert result["output"] == str(tmp_path / "restored.nii.gz")
    assert result["task"] == "ct-denoise"
    assert result["device"] == "cpu"
    assert result["seconds"] > 0
    assert result["kernel"]
    assert result["intensity"]["low"] == -1024
    assert result["provenance"] == json.loads((tmp_path / "restored.nii.gz.json").read_text())
    # Not a terminal, so no progress bar; the one note says how the task was chosen.
    assert done.stderr == "restore-rwkv: task ct-denoise, because the weights say so.\n"


def test_the_task_follows_from_the_modality(run, small_scan, tmp_path, monkeypatch, tiny_network):
    path = tmp_path / "abdomen.nii.gz"
    write_scan(small_scan, path)
    asked_for = []

    def load(weights):
        asked_for.append(weights)
        return tiny_network

    monkeypatch.setattr("napari_restore_rwkv.network.checkpoint.load_checkpoint", load)
    code, _, err = run("restore", path, tmp_path / "restored.nii.gz")
    assert code == 0, err
    assert asked_for == ["ct-denoise"]
    assert "task ct-denoise, because the file says modality CT" in err


def test_a_scan_of_unknown_modality_needs_a_task(run, rng, tmp_path):
    path = tmp_path / "something.nrrd"
    write_scan(Scan(rng.integers(0, 255, (2, 16, 16), np.uint8)), path)
    outcome = run("restore", path, tmp_path / "restored.nii.gz")
    assert_refused_before_work(outcome, "Choose with --task or --modality: the file does not say")


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_weights_without_a_card_take_the_task_asked_for(run, scan_file, weights_file, tmp_path, modality):
    weights_file.with_suffix(".json").unlink()
    words = restore_words(scan_file, weights_file, tmp_path, "--task", "mri-sr", "--modality", modality, "--json")
    code, out, _ = run(*words)
    assert (code, json.loads(out).get("task")) == ((0, "mri-sr") if modality == "MR" else (1, None))


def test_weights_without_a_card_take_the_task_of_the_modality(run, scan_file, weights_file, tmp_path):
    weights_file.with_suffix(".json").unlink()
    code, out, err = run(*restore_words(scan_file, weights_file, tmp_path, "--json"))
    assert (code, json.loads(out)["task"]) == (0, "ct-denoise")
    assert "task ct-denoise, because the file says modality CT" in err


def test_threads_are_set(run, scan_file, weights_file, tmp_path, monkeypatch):
    import torch

    wanted = []
    monkeypatch.setattr(torch, "set_num_threads", wanted.append)
    assert run(*restore_words(scan_file, weights_file, tmp_path, "--threads", "1"))[0] == 0
    assert wanted == [1]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["restore"],
        ["restore", "in.nii", "out.nii", "--task", "make-it-nice"],
        ["restore", "in.nii", "out.nii", "--threads", "0"],
        ["restore", "in.nii", "out.nii", "--time-index", "-1"],
        ["evaluate", "a.nii", "b.nii", "--window", "240", "-160"],
        ["frobnicate"],
    ],
)
def test_wrong_usage_exits_with_2_and_shows_the_usage(words, capfd):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "usage: restore-rwkv" in capfd.readouterr().err


def test_the_version_is_shown(capfd):
    from napari_restore_rwkv import __version__

    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capfd.readouterr().out == f"restore-rwkv {__version__}\n"


def assert_refused_before_work(outcome, words):
    code, out, err = outcome
    assert code == 1
    assert out == ""
    assert words in err
    assert err.startswith("restore-rwkv: ")
    assert "Traceback" not in err


def test_a_missing_scan_is_refused_in_words(run, weights_file, tmp_path):
    missing = tmp_path / "nowhere.nii.gz"
    assert_refused_before_work(run(*restore_words(missing, weights_file, tmp_path)), "nowhere.nii.gz")


def test_with_json_an_error_is_an_object_too(run, weights_file, tmp_path):
    code, out, err = run(*restore_words(tmp_path / "nowhere.nii.gz", weights_file, tmp_path, "--json"))
    assert code == 1
    assert f"restore-rwkv: {json.loads(out)['error']}\n" == err


def test_a_truncated_scan_is_refused_and_nothing_is_written(run, scan_file, weights_file, tmp_path):
    scan_file.write_bytes(scan_file.read_bytes()[:-400])
    assert_refused_before_work(run(*restore_words(scan_file, weights_file, tmp_path)), "abdomen.nii.gz")
    assert sorted(path.name for path in tmp_path.glob("restored*")) == []


def test_an_existing_output_is_kept_unless_overwriting_is_allowed(run, scan_file, weights_file, tmp_path):
    output = tmp_path / "restored.nii.gz"
    output.write_bytes(b"precious")
    words = restore_words(scan_file, weights_file, tmp_path)
    assert_refused_before_work(run(*words), "exists already: give another name, or --overwrite to replace it")
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
        ("nowhere/restored.nii.gz", "does not exist: make it first, or choose another"),
        ("restored.tif", ".tif would lose the position and direction of the scan; choose a name ending in .nii"),
        ("restored", "restored cannot be written: choose a name ending in .nii"),
    ],
)
def test_an_impossible_output_is_refused_before_the_scan_is_read(run, tmp_path, name, words):
    assert_refused_before_work(run("restore", tmp_path / "never_read.nii", tmp_path / name), words)


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


class Harmful:
    """Pickles into a call that would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_with_code_in_it_is_refused_and_never_run(run, scan_file, tmp_path):
    import torch

    weights, trace = tmp_path / "weights.pth", tmp_path / "code_was_run"
    torch.save({"state_dict": Harmful(trace)}, weights)
    assert_refused_before_work(run(*restore_words(scan_file, weights, tmp_path)), "weights.pth")
    assert not trace.exists()


def test_weights_with_one_missing_key_are_refused_by_its_name(run, scan_file, weights_file, tmp_path):
    tensors = load_file(weights_file)
    missing = sorted(name for name in tensors if name.endswith("ln1.weight"))[0]
    del tensors[missing]
    damaged = tmp_path / "damaged.safetensors"
    save_file(tensors, damaged)
    assert_refused_before_work(run(*restore_words(scan_file, damaged, tmp_path)), missing)


def test_weights_for_another_task_than_asked_for_are_refused(run, scan_file, weights_file, tmp_path):
    outcome = run(*restore_words(scan_file, weights_file, tmp_path, "--task", "mri-sr"))
    assert_refused_before_work(outcome, "holds weights for ct-denoise, not for mri-sr: leave --task out")


def test_ct_weights_on_an_mr_scan_need_an_explicit_choice(run, scan_file, weights_file, tmp_path):
    words = restore_words(scan_file, weights_file, tmp_path, "--modality", "MR")
    code, _, err = run(*words)
    assert code == 1
    assert "CT" in err
    assert "MR" in err
    assert run(*words, "--any-modality")[0] == 0


def test_an_unexpected_error_is_one_sentence_with_a_way_to_the_details(run, monkeypatch, scan_file):
    def fail(*_):
        raise ZeroDivisionError("a number\nwas zero.")

    monkeypatch.setattr("napari_restore_rwkv.doctor.examine", fail)
    code, out, err = run("doctor")
    assert (code, out) == (1, "")
    assert err == (
        "restore-rwkv: unexpected ZeroDivisionError: a number was zero. "
        "Run the same command with --debug for the details.\n"
    )
    code, _, err = run("doctor", "--debug")
    assert code == 1
    assert "Traceback" in err


def test_what_a_library_prints_does_not_spoil_the_json(run, monkeypatch):
    def chatty(_):
        print("a library says hello")
        return []

    monkeypatch.setattr("napari_restore_rwkv.doctor.examine", chatty)
    code, out, err = run("doctor", "--json")
    assert code == 0
    assert json.loads(out) == {"works": True, "findings": []}
    assert "a library says hello" in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_ctrl_c_leaves_no_file_and_says_so(json_flag, small_scan, weights_file, tmp_path):
    many = small_scan.with_voxels(np.tile(np.asarray(small_scan.voxels), (300, 4, 4)))
    path = tmp_path / "long.mha"
    write_scan(many, path)
    words = [*COMMAND, *map(str, restore_words(path, weights_file, tmp_path, *json_flag))]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # The note on the task is the last thing before the first slice.
    assert "task ct-denoise" in process.stderr.readline()
    time.sleep(1)
    assert process.poll() is None, "the restoration was over before it could be stopped"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SLOW_START)
    assert process.returncode == 130
    assert err == "restore-rwkv: stopped; nothing was written.\n"
    assert (json.loads(out) if json_flag else out) == ({"error": "stopped; nothing was written."} if json_flag else "")
    assert sorted(file.name for file in tmp_path.iterdir() if file not in (path, weights_file)) == []


def test_a_result_that_was_complete_when_stopped_is_not_denied(run, monkeypatch, scan_file, weights_file, tmp_path):
    def write_then_stop(scan, path):
        if path.parent == tmp_path:
            path.write_bytes(b"complete")
            raise KeyboardInterrupt

    monkeypatch.setattr(commands, "write_scan", write_then_stop)
    code, _, err = run(*restore_words(scan_file, weights_file, tmp_path))
    assert code == 130
    assert err.endswith("restored.nii.gz is complete.\n")


def test_a_progress_bar_appears_on_a_terminal_only(monkeypatch, capfd, small_scan, tiny_network):
    from napari_restore_rwkv.restoration.restore import restore

    scan, slices = commands.exhaust(restore(small_scan, tiny_network))
    assert slices == small_scan.shape[0]
    assert scan.shape == small_scan.shape
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    commands.exhaust(restore(small_scan, tiny_network))
    captured = capfd.readouterr()
    assert f"{slices}/{slices}" in captured.err
    assert captured.out == ""


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
    assert_refused_before_work(run("evaluate", shorter, scan_file), "choose two scans of the same size")
