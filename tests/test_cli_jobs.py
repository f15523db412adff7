"""The command line for long jobs and many scans, as users and job arrays see it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import assert_refused_before_work, hears_signals
from scans.zarrs import ome

from napari_restore_rwkv.commands import cli, preparing, restore_folder
from napari_restore_rwkv.commands import restore as restore_module
from napari_restore_rwkv.commands.scans_below import scans_below
from napari_restore_rwkv.scans.export import export_scan
from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.opening import open_scan, opening
from napari_restore_rwkv.scans.scan import Scan, same_geometry
from napari_restore_rwkv.scans.writing import _SUFFIXES

COMMAND = [sys.executable, "-m", "napari_restore_rwkv"]


@pytest.fixture
def long_scan_file(rng, tmp_path):
    """40 slices, which are three slabs."""
    path = tmp_path / "long.nii.gz"
    voxels = rng.integers(-1000, 1500, (40, 12, 14), dtype=np.int16)
    write_scan(Scan(voxels, (5.0, 0.8, 0.8), (-12.5, 3.0, 7.0), modality="CT", unit="HU"), path)
    return path


@pytest.fixture
def output(tmp_path):
    return tmp_path / "restored.ome.zarr"


@pytest.mark.slow
def test_an_ome_zarr_output_has_the_same_content_as_a_file(run, long_scan_file, weights_file, output, tmp_path):
    code, out, err = run("restore", long_scan_file, output, "--checkpoint", weights_file)
    assert code == 0, err
    assert "restored.ome.zarr: complete, 40 slices in" in out
    code, _, err = run("restore", long_scan_file, tmp_path / "restored.nrrd", "--checkpoint", weights_file)
    assert code == 0, err
    assert np.array_equal(open_scan(output).voxels, read_scan(tmp_path / "restored.nrrd").voxels)


def test_json_lists_slabs_and_provenance(run, long_scan_file, weights_file, output):
    code, out, err = run("restore", long_scan_file, output, "--checkpoint", weights_file, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["slices"], result["units"], result["complete"], result["part"]) == (40, 3, True, None)
    assert result["provenance"] == dict(open_scan(output).metadata["restoration"])


def test_a_zarr_input_is_restored(run, weights_file, output, tmp_path, rng):
    voxels = rng.integers(-1000, 1500, (2, 3, 12, 14), dtype=np.int16)
    source = ome(tmp_path / "input.ome.zarr", voxels, "czyx")
    words = ["restore", source, output, "--checkpoint", weights_file, "--modality", "CT"]
    assert_refused_before_work(run(*words), "contains 2 channels; choose one by its channel, from 0 to 1")
    code, _, err = run(*words, "--channel", "1")
    assert code == 0, err
    assert open_scan(output).shape == (3, 12, 14)


def test_an_existing_output_is_refused_before_torch_loads_unless_resumed(
    run, long_scan_file, weights_file, output, monkeypatch
):
    words = ["restore", long_scan_file, output, "--checkpoint", weights_file]
    assert run(*words, "--part", "1/2")[0] == 0
    with monkeypatch.context() as context:
        context.setattr(preparing, "opening", lambda *_, **__: pytest.fail("the scan was read"))
        outcome = run(*words)
    assert_refused_before_work(
        outcome, "a restoration with 2 of 3 slabs done. Continue it with --resume, or give another"
    )
    code, out, err = run(*words, "--resume")
    assert code == 0, err
    assert "complete" in out


@pytest.mark.slow
def test_parts_are_finalized_verified_and_exported(run, long_scan_file, weights_file, output, tmp_path):
    words = ["restore", long_scan_file, output, "--checkpoint", weights_file]
    code, out, err = run(*words, "--part", "2/2")
    assert code == 0, err
    assert "part 2 of 2 is done, 16 slices" in out
    assert_refused_before_work(run("finalize", output), "2 of 3 slabs are missing or damaged (0, 2); run the parts")
    code, out, _ = run("verify", output)
    assert code == 1
    assert "2 of 3 slabs are missing (0, 2)" in out
    assert_refused_before_work(run("export", output, tmp_path / "early.nii.gz"), "is an unfinished restoration")
    assert run(*words, "--part", "1/2")[0] == 0
    code, out, _ = run("verify", output)
    assert code == 1
    assert "all slabs are done, but the result is not marked complete" in out
    code, out, err = run("finalize", output)
    assert code == 0, err
    assert "restored.ome.zarr is complete" in out
    code, out, _ = run("verify", output)
    assert (code, out.strip()) == (0, f"{output}: all 3 slabs are as they were written")


@pytest.mark.parametrize("suffix", _SUFFIXES)
def test_export_keeps_voxels_geometry_and_provenance(run, long_scan_file, weights_file, output, tmp_path, suffix):
    assert run("restore", long_scan_file, output, "--checkpoint", weights_file)[0] == 0
    file = tmp_path / f"exported{suffix}"
    code, out, err = run("export", output, file)
    assert code == 0, err
    assert "40 x 12 x 14 voxels written" in out
    restored, exported = open_scan(output), read_scan(file)
    assert np.array_equal(restored.voxels, exported.voxels)
    assert np.allclose(exported.spacing_mm, restored.spacing_mm, rtol=1e-6)
    assert np.allclose(exported.origin_mm, restored.origin_mm, rtol=1e-6)
    assert json.loads(file.with_name(f"{file.name}.json").read_text()) == restored.metadata["restoration"]
    assert_refused_before_work(run("export", output, file), "already exists: give another name, or --overwrite")


@pytest.mark.slow
def test_verify_names_what_has_changed(run, long_scan_file, weights_file, output):
    assert run("restore", long_scan_file, output, "--checkpoint", weights_file)[0] == 0
    shard = output / "0" / "c" / "1" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    code, out, _ = run("verify", output)
    assert code == 1
    assert "slab 1: 0/c/1/0/0 has changed" in out
    assert "run the restore command again with --resume" in out
    code, out, _ = run("verify", output, "--json")
    assert (code, json.loads(out)["bad"]) == (1, {"1": "0/c/1/0/0 has changed"})
    code, _, err = run("restore", long_scan_file, output, "--checkpoint", weights_file, "--resume")
    assert code == 0, err
    assert run("verify", output)[0] == 0


@pytest.mark.parametrize(
    ("output", "more", "words"),
    [
        ("a.nii.gz", ["--resume"], "--resume is for results in OME-Zarr and for folders of scans"),
        ("a.nii.gz", ["--part", "1/2"], "give an OUTPUT ending in .ome.zarr"),
        ("a.ome.zarr", ["--overwrite"], "--overwrite only replaces files: remove the OME-Zarr folder yourself"),
        ("a.ome.zarr", ["--part", "1/2", "--scheduler", "tcp://x:1"], "are two ways to divide the work"),
        ("nowhere/a.ome.zarr", [], "does not exist: create it first, or choose another"),
    ],
)
def test_contradictory_options_are_refused(run, long_scan_file, tmp_path, output, more, words):
    assert_refused_before_work(run("restore", long_scan_file, tmp_path / output, *more), words)


@pytest.mark.slow
def test_tiles_are_made_when_asked_for_and_the_answer_calls_them_approximate(run, weights_file, tmp_path, rng):
    source = tmp_path / "wide.nii"
    write_scan(Scan(rng.integers(-1000, 1500, (2, 70, 150), dtype=np.int16), (5.0, 0.8, 0.8), modality="CT"), source)
    words = ["--checkpoint", weights_file, "--tile"]
    code, out, err = run("restore", source, tmp_path / "file.nii", *words, "64,16")
    assert code == 0, err
    assert out.endswith("\napproximate tiles of 64 x 64, overlap 16\n")
    code, out, err = run("restore", source, tmp_path / "job.ome.zarr", *words, "64,16")
    assert code == 0, err
    assert out.endswith("\napproximate tiles of 64 x 64, overlap 16\n")
    assert np.array_equal(open_scan(tmp_path / "job.ome.zarr").voxels, read_scan(tmp_path / "file.nii").voxels)
    code, out, _ = run("restore", source, tmp_path / "fits.nii", *words, "160")
    assert (code, "approximate" in out) == (0, False)
    outcome = run("restore", source, tmp_path / "no.nii", *words, "32")
    assert_refused_before_work(outcome, "A tile must have at least 64 pixels along a side; got 32")


@pytest.fixture
def everything_is_large(monkeypatch):
    """Lower the limit for restoring in memory below the size of the scans in this test."""
    for place in ("commands.preparing", "scans.export"):
        monkeypatch.setattr(f"napari_restore_rwkv.{place}.LARGE_BYTES", 1000)
    monkeypatch.setattr(preparing, "opening", lambda path, options: opening(path, replace(options, large=1000)))
    monkeypatch.setattr(restore_module, "export_scan", partial(export_scan, large=1000))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha"])
def test_a_scan_larger_than_memory_becomes_the_same_file_as_a_small_one(
    run, long_scan_file, weights_file, tmp_path, suffix, request
):
    source = tmp_path / "long.mha"
    write_scan(read_scan(long_scan_file), source)
    small, large = tmp_path / f"small{suffix}", tmp_path / f"large{suffix}"
    code, _, err = run("restore", source, small, "--checkpoint", weights_file)
    assert code == 0, err
    request.getfixturevalue("everything_is_large")
    with request.getfixturevalue("monkeypatch").context() as context:
        context.setattr("napari_restore_rwkv.restoration.restore.new_output", small_outputs_only)
        code, out, err = run("restore", source, large, "--checkpoint", weights_file)
    assert code == 0, err
    assert "40 slices restored in" in out
    assert np.array_equal(read_scan(large).voxels, read_scan(small).voxels)
    assert same_geometry(read_scan(large), read_scan(small))
    record = json.loads(large.with_name(f"{large.name}.json").read_text())
    assert record["input_sha256"] == json.loads(small.with_name(f"{small.name}.json").read_text())["input_sha256"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def small_outputs_only(scan, dtype, *, whole):
    pytest.fail("the whole result was made in memory")


@pytest.mark.usefixtures("everything_is_large")
def test_an_impossible_output_of_a_large_scan_is_refused_at_the_start(run, long_scan_file, tmp_path, monkeypatch):
    monkeypatch.setattr(restore_module, "prepare", lambda *_: pytest.fail("the network was loaded"))
    outcome = run("restore", long_scan_file, tmp_path / "a.nrrd")
    assert_refused_before_work(outcome, "a.nrrd cannot be written: for scans of this size choose .nii, .nii.gz, .mha")
    size = 40 * 12 * 14 * 2
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2 * size - 1))
    outcome = run("restore", long_scan_file.rename(tmp_path / "b.nii.gz"), tmp_path / "a.nii")
    assert_refused_before_work(outcome, "a.nii cannot be written: the result has")


@pytest.mark.usefixtures("everything_is_large")
def test_ctrl_c_during_a_large_scan_leaves_nothing_and_says_what_to_do(
    run, long_scan_file, weights_file, tmp_path, monkeypatch
):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_restore_rwkv.jobs.restore_slabs.write_slab", stopped)
    code, _, err = run("restore", long_scan_file, tmp_path / "a.nii", "--checkpoint", weights_file)
    assert code == 130
    assert "stopped; nothing was written; a job with an OUTPUT ending in .ome.zarr can be continued." in err
    assert [path.name for path in tmp_path.iterdir()] == [long_scan_file.name]


@pytest.mark.parametrize("tile", ["x", "64,", ",8", "64,x", "-64", "64x64"])
def test_an_impossible_tile_is_a_usage_error(capsys, tile):
    with pytest.raises(SystemExit) as caught:
        cli.main(["restore", "a.nii", "b.nii", f"--tile={tile}"])
    assert caught.value.code == 2
    assert f'"{tile}" is not a tile: give SIZE or SIZE,OVERLAP in pixels, such as 512,64' in capsys.readouterr().err


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "a/b", "1/0"])
def test_an_impossible_part_is_a_usage_error(capsys, part):
    with pytest.raises(SystemExit) as caught:
        cli.main(["restore", "a.nii", "b.ome.zarr", "--part", part])
    assert caught.value.code == 2
    assert f'"{part}" is not a part: give I/N' in capsys.readouterr().err


@pytest.mark.parametrize("command", [["verify", "nothing.ome.zarr"], ["finalize", "nothing.ome.zarr"]])
def test_a_missing_result_is_reported(run, command):
    assert_refused_before_work(run(*command), "There is no nothing.ome.zarr; check the name.")


def test_a_folder_that_is_not_a_result_is_reported(run, tmp_path):
    assert_refused_before_work(run("verify", tmp_path), "was not written by this program")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_says_how_to_continue(weights_file, output, tmp_path, rng):
    source = tmp_path / "long.nii.gz"
    voxels = rng.integers(-1000, 1500, (400, 64, 64), dtype=np.int16)
    write_scan(Scan(voxels, (5.0, 0.8, 0.8), modality="CT", unit="HU"), source)
    words = [*COMMAND, "restore", source, output, "--checkpoint", weights_file]
    process = subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE, text=True, preexec_fn=hears_signals)
    ledger = output / "job" / "done.jsonl"
    while not (ledger.exists() and ledger.read_text().count("\n")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "of 25 slabs are done; continue with the same command and --resume." in err


@pytest.fixture
def archive(small_scan, tmp_path):
    """Three good scans in three formats, a damaged one, and a file that is not a scan."""
    folder = tmp_path / "scans"
    folder.mkdir()
    write_scan(small_scan, folder / "a.nii.gz")
    (folder / "b.nrrd").write_bytes(b"NRRD0004\nnothing")
    write_scan(small_scan, folder / "c.mha")
    ome(folder / "d.ome.zarr", small_scan.voxels, "zyx")
    (folder / "notes.txt").write_text("thick slices")
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_every_scan_has_one_line_of_the_table(run, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "a\nscan b.nii").write_bytes(b"nothing")
    code, out, _ = run("restore", folder, tmp_path / "results", "--task", "ct-denoise")
    assert code == 1
    _, row, last = out.splitlines()
    assert row.startswith("a?scan b.nii")
    assert last == "0 of 1 scans are done, 1 failed"


def test_a_folder_is_restored_and_one_failure_stops_nothing(run, archive, weights_file, tmp_path):
    results = tmp_path / "results"
    words = ["restore", archive, results, "--checkpoint", weights_file, "--modality", "CT"]
    code, out, _ = run(*words)
    assert code == 1
    assert "3 of 4 scans are done, 1 failed" in out
    table = {line.split()[0]: line for line in out.splitlines()}
    assert "b.nrrd is empty: its header gives no voxels" in table["b.nrrd"]
    assert "c.mha (restored)" in table["c.mha"]
    assert {path.name for path in results.iterdir()} == {
        "a.nii.gz",
        "a.nii.gz.json",
        "c.mha",
        "c.mha.json",
        "d.ome.zarr",
    }
    assert np.array_equal(read_scan(results / "a.nii.gz").voxels, open_scan(results / "d.ome.zarr").voxels)
    code, out, _ = run(*words, "--resume", "--json")
    states = {row["input"]: row["state"] for row in json.loads(out)["scans"]}
    assert code == 1
    assert states == {"a.nii.gz": "was there", "b.nrrd": "failed", "c.mha": "was there", "d.ome.zarr": "was there"}


def test_two_results_in_one_file_are_refused(run, small_scan, weights_file, tmp_path):
    """As on a case-insensitive disk, or through a link."""
    for name in ("a.nii", "b.nii"):
        (tmp_path / "scans").mkdir(exist_ok=True)
        write_scan(small_scan, tmp_path / "scans" / name)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "b.nii").symlink_to("a.nii")
    words = ["restore", tmp_path / "scans", tmp_path / "results", "--checkpoint", weights_file, "--overwrite"]
    code, out, _ = run(*words)
    assert code == 1
    assert "a.nii has its result in the same file; rename one of the two." in out
    assert (tmp_path / "results" / "b.nii").is_symlink()


def test_ctrl_c_in_a_folder_says_how_to_continue(run, archive, weights_file, tmp_path, monkeypatch):
    restore_one = restore_folder._restore_one

    def stopped(arguments, source, output, restore):
        if source.name == "c.mha":
            raise KeyboardInterrupt
        return restore_one(arguments, source, output, restore)

    monkeypatch.setattr(restore_folder, "_restore_one", stopped)
    code, _, err = run("restore", archive, tmp_path / "results", "--checkpoint", weights_file)
    assert code == 130
    assert "stopped; 1 of 4 scans are done; continue with the same command and --resume." in err


def test_a_folder_without_failures_ends_with_0_and_parts_share_it(run, archive, weights_file, tmp_path):
    (archive / "b.nrrd").unlink()
    results = tmp_path / "results"
    words = ["restore", archive, results, "--checkpoint", weights_file, "--modality", "CT", "--format", ".nrrd"]
    for part in ("1/2", "2/2"):
        code, _, err = run(*words, "--part", part)
        assert code == 0, err
    assert {path.name for path in results.iterdir() if path.suffix != ".json"} == {"a.nrrd", "c.nrrd", "d.nrrd"}


def test_two_scans_with_one_result_name_are_not_mixed_up(run, small_scan, weights_file, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    write_scan(small_scan, folder / "a.mha")
    write_scan(small_scan, folder / "a.nrrd")
    words = ["restore", folder, tmp_path / "results", "--checkpoint", weights_file, "--format", ".nii", "--overwrite"]
    code, out, _ = run(*words)
    assert code == 1
    assert "a.mha has the same result name; rename one of the two" in out
    # Nor where another part has the first of the two.
    code, out, _ = run(*words, "--part", "2/2", "--resume")
    assert code == 1
    assert "a.mha has the same result name; rename one of the two" in out


def test_a_folder_is_not_restored_into_itself(run, archive):
    assert_refused_before_work(run("restore", archive, archive), "is not a folder for results: give one that is empty")


def test_a_dicom_folder_is_one_scan(sample_dicom):
    assert scans_below(sample_dicom) == ([], [])
    assert scans_below(sample_dicom.parent)[0][0].name == sample_dicom.name


@pytest.fixture
def sample_dicom():
    from napari_restore_rwkv.scans.samples import sample_path

    return sample_path("ct_abdomen_dicom")
