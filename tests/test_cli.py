"""The command line as users and scripts see it: exit codes, messages, files, and valid JSON."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_refused_before_work, hears_signals, restore_words
from safetensors.numpy import load_file, save_file

from napari_restore_rwkv.commands import cli
from napari_restore_rwkv.commands import restore as restore_module
from napari_restore_rwkv.commands.preparing import precision_line
from napari_restore_rwkv.commands.terminal import watch
from napari_restore_rwkv.network.checkpoint import Card, save_checkpoint
from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.scan import Scan, same_geometry

COMMAND = [sys.executable, "-m", "napari_restore_rwkv"]
SLOW_START = 120  # seconds; loading torch on a busy machine takes a while


def test_restore_writes_a_scan_with_the_same_geometry_and_type(run, scan_file, weights_file, small_scan, tmp_path):
    code, out, err = run(*restore_words(scan_file, weights_file, tmp_path, "--device", "cpu"))
    assert code == 0, err
    assert f"{small_scan.shape[0]} slices restored in" in out
    restored = read_scan(tmp_path / "restored.nii.gz")
    original = read_scan(scan_file)
    assert same_geometry(restored, original)
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
    # Not a terminal, so no progress bar; the notes say how axis and task were chosen.
    assert done.stderr == (
        "restore-rwkv: slices along z, whose spacing of 5 mm is by far the largest.\n"
        "restore-rwkv: task ct-denoise, because the weights say so.\n"
    )
    chosen = result["provenance"]["slice_axis"], result["provenance"]["slice_axis_reason"]
    assert chosen == ("z", "whose spacing of 5 mm is by far the largest")


def test_lower_precision_is_used_on_request_and_its_error_is_reported(run, scan_file, weights_file, tmp_path):
    words = restore_words(scan_file, weights_file, tmp_path, "--precision", "bfloat16", "--batch", "2")
    code, out, err = run(*words)
    assert code == 0, err
    assert re.search(r"\nbfloat16: at most [\d.e-]+ HU from float32 on the first slice \(RMS [\d.e-]+ HU\)\n$", out)
    code, out, _ = run(*words, "--overwrite", "--json")
    provenance = json.loads(out)["provenance"]
    assert provenance["precision"] == "bfloat16"
    assert provenance["precision_error"]["largest"] > 0


def test_an_unknown_precision_error_is_reported_as_unknown():
    line = precision_line({"precision": "bfloat16", "precision_error": {"unknown": "No memory."}})
    assert line == "\nbfloat16: how far it is from float32 could not be measured. No memory."


@pytest.mark.parametrize("words", [("--precision", "float8"), ("--batch", "0")])
def test_an_unknown_precision_or_batch_is_a_usage_error(run, scan_file, tmp_path, words):
    with pytest.raises(SystemExit, match="2"):
        run("restore", scan_file, tmp_path / "restored.nii.gz", *words)


def test_the_task_follows_from_the_modality(run, small_scan, tmp_path, monkeypatch, tiny_network):
    path = tmp_path / "abdomen.nii.gz"
    write_scan(small_scan, path)
    asked_for = []

    def load(weights):
        asked_for.append(weights)
        return tiny_network

    monkeypatch.setattr("napari_restore_rwkv.network.classical.load_checkpoint", load)
    code, _, err = run("restore", path, tmp_path / "restored.nii.gz")
    assert code == 0, err
    assert asked_for == ["ct-denoise"]
    assert "task ct-denoise, because the file says modality CT" in err


def test_the_classical_filter_can_be_used_instead_of_weights(run, scan_file, tmp_path):
    code, out, _ = run("restore", scan_file, tmp_path / "out.nii.gz", "--classical", "--modality", "CT", "--json")
    assert code == 0
    values = json.loads(out)
    assert (values["task"], values["provenance"]["weights"]) == ("ct-denoise", "non-local means")
    assert values["kernel"] == values["provenance"]["kernel"] == "no kernel"
    _, out, _ = run("restore", scan_file, tmp_path / "other.nii.gz", "--classical", "--modality", "CT")
    assert "(ct-denoise, non-local means, CPU" in out
    assert out.rstrip().endswith(", no kernel)")
    code, _, err = run("restore", scan_file, tmp_path / "no.nii.gz", "--classical", "--task", "all-in-one")
    assert code == 1
    assert "no classical filter for all-in-one; choose one of the tasks ct-denoise" in err


def test_experimental_weights_say_so_and_name_the_filter(run, scan_file, tmp_path, tiny_network):
    path = tmp_path / "missed.safetensors"
    card = Card(title="t", task="ct-denoise", modality="CT", details={"falls_short": "the gain is 0.1, not 1"})
    save_checkpoint(tiny_network, card, path)
    code, _, err = run("restore", scan_file, tmp_path / "out.nii.gz", "--checkpoint", path, "--modality", "CT")
    assert code == 0
    assert "these weights are experimental (the gain is 0.1, not 1); --classical uses the classical filter" in err


def test_a_scan_of_unknown_modality_needs_a_task(run, rng, tmp_path):
    path = tmp_path / "something.nrrd"
    write_scan(Scan(rng.integers(0, 255, (2, 16, 16), np.uint8)), path)
    outcome = run("restore", path, tmp_path / "restored.nii.gz")
    assert_refused_before_work(outcome, "Choose with --task or --modality: the file does not say")


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_weights_without_a_card_take_the_requested_task(run, scan_file, weights_file, tmp_path, modality):
    weights_file.with_suffix(".json").unlink()
    words = restore_words(scan_file, weights_file, tmp_path, "--task", "mri-sr", "--modality", modality, "--json")
    code, out, _ = run(*words)
    assert (code, json.loads(out).get("task")) == ((0, "mri-sr") if modality == "MR" else (1, None))


def test_weights_without_a_card_take_the_task_of_the_modality(run, scan_file, weights_file, tmp_path):
    weights_file.with_suffix(".json").unlink()
    code, out, err = run(*restore_words(scan_file, weights_file, tmp_path, "--json"))
    assert (code, json.loads(out)["task"]) == (0, "ct-denoise")
    assert "task ct-denoise, because the file says modality CT" in err


@pytest.mark.parametrize(("threads", "used"), [(1, 1), (3, 3), (100000, 4)])
def test_threads_are_set_but_never_more_than_processors(
    run, scan_file, weights_file, tmp_path, monkeypatch, threads, used
):
    import torch

    wanted = []
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", wanted.append)
    assert run(*restore_words(scan_file, weights_file, tmp_path, "--threads", str(threads)))[0] == 0
    assert wanted == [used]


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["restore", "a.nii", "b.nii", "--threads", "abc"], '"abc" is not a whole number of 1 or more'),
        (["restore", "a.nii", "b.nii", "--time-index", "1.5"], '"1.5" is not a whole number of 0 or more'),
        (["restore", "", "b.nii"], "the name is blank: give the name of a file or folder"),
        (["restore", "a.nii", "b.nii", "--checkpoint", ""], "the name is blank"),
        (
            ["evaluate", "a.nii", "b.nii", "--window", "0", "inf"],
            "--window 0 inf does not have finite ends: give two numbers",
        ),
        (
            ["evaluate", "a.nii", "b.nii", "--window", "nan", "1"],
            "--window nan 1 does not have finite ends: give two numbers",
        ),
    ],
)
def test_wrong_usage_says_what_is_wrong(words, said, capfd):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert said in capfd.readouterr().err


def test_the_version_is_shown(capfd):
    from napari_restore_rwkv import __version__

    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capfd.readouterr().out == f"restore-rwkv {__version__}\n"


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


def test_weights_for_another_task_than_requested_are_refused(run, scan_file, weights_file, tmp_path):
    outcome = run(*restore_words(scan_file, weights_file, tmp_path, "--task", "mri-sr"))
    assert_refused_before_work(outcome, "has weights for ct-denoise, not for mri-sr: leave out --task")


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

    monkeypatch.setattr("napari_restore_rwkv.commands.doctor.examine", fail)
    code, out, err = run("doctor")
    assert (code, out) == (1, "")
    assert err == (
        "restore-rwkv: unexpected ZeroDivisionError: a number was zero. "
        "Run the same command with --debug for the details.\n"
    )
    code, _, err = run("doctor", "--debug")
    assert code == 1
    assert "Traceback" in err


def test_a_figure_that_json_does_not_know_is_an_error_in_words(run, monkeypatch):
    monkeypatch.setattr("napari_restore_rwkv.commands.doctor.report", lambda _: ({"works": float("nan")}, "", 0))
    code, out, err = run("doctor", "--json")
    assert code == 1
    assert "unexpected ValueError" in json.loads(out)["error"]
    assert "Traceback" not in err


def test_what_a_library_prints_does_not_spoil_the_json(run, monkeypatch):
    def chatty(_):
        print("a library says hello")
        return []

    monkeypatch.setattr("napari_restore_rwkv.commands.doctor.examine", chatty)
    code, out, err = run("doctor", "--json")
    assert code == 0
    assert json.loads(out) == {"works": True, "findings": []}
    assert "a library says hello" in err


# Sends itself Ctrl-C where the first progress would be shown.
STOPPED_IN_THE_FIRST_SLICE = """
import os, signal, sys
from napari_restore_rwkv.commands import cli
from napari_restore_rwkv.commands import terminal

class Bar(terminal.tqdm):
    def update(self, n=1):
        os.kill(os.getpid(), signal.SIGINT)

terminal.tqdm = Bar
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_ctrl_c_leaves_no_file_and_says_so(json_flag, scan_file, weights_file, tmp_path):
    words = map(str, restore_words(scan_file, weights_file, tmp_path, *json_flag))
    command = [sys.executable, "-c", STOPPED_IN_THE_FIRST_SLICE, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SLOW_START, preexec_fn=hears_signals)
    assert done.returncode == 130
    *notes, stopped = done.stderr.splitlines()
    assert "slices along z" in notes[0]
    assert "task ct-denoise" in notes[1]
    assert stopped == "restore-rwkv: stopped; nothing was written."
    answer = {"error": "stopped; nothing was written."}
    assert (json.loads(done.stdout) if json_flag else done.stdout) == (answer if json_flag else "")
    assert [file.name for file in tmp_path.iterdir()] == [scan_file.name]


def test_a_result_that_was_complete_when_stopped_is_reported(run, monkeypatch, scan_file, weights_file, tmp_path):
    def write_then_stop(scan, path, **_):
        if path.parent == tmp_path:
            path.write_bytes(b"complete")
            raise KeyboardInterrupt

    monkeypatch.setattr(restore_module, "write_scan", write_then_stop)
    code, _, err = run(*restore_words(scan_file, weights_file, tmp_path))
    assert code == 130
    assert err.endswith("restored.nii.gz is complete.\n")


def test_a_progress_bar_appears_on_a_terminal_only(monkeypatch, capfd, small_scan, tiny_network):
    from napari_restore_rwkv.restoration.restore import iter_restore

    scan = watch(iter_restore(small_scan, tiny_network))
    assert scan.shape == small_scan.shape
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    watch(iter_restore(small_scan, tiny_network))
    captured = capfd.readouterr()
    assert "3/3" in captured.err
    assert captured.out == ""
