"""The list of unfinished jobs survives crashes, has all that resuming needs, and contains no patient data."""

import json
import os
import sys
from pathlib import Path

import pytest
from small_jobs import PER_SLAB, SLICES, begin, do, small_ct, stop_after

from napari_restore_rwkv.jobs import registry
from napari_restore_rwkv.jobs.ledger import Ledger
from napari_restore_rwkv.jobs.lock import coordinating
from napari_restore_rwkv.jobs.registry import BegunJob, forget, remember, unfinished_jobs
from napari_restore_rwkv.scans.scan import Scan


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """The list, in a folder for this test."""
    monkeypatch.setattr(registry, "user_data_folder", lambda: tmp_path / "user")
    return tmp_path / "user" / "begun"


@pytest.fixture
def stopped(path):
    """A job with one of its slabs saved, on the list."""
    stop_after(begin(path), 1)
    remember(BegunJob(path, "ct-denoise"))
    return path


def test_a_stopped_job_is_listed_with_all_that_resuming_needs(path):
    stop_after(begin(path), 1)
    job = BegunJob(path, Path("/w/own.safetensors"), Path("/in/chest"), 3, "cpu", True, 1, "sha256:12")
    remember(job)
    [found] = unfinished_jobs()
    assert found.job == job
    assert found.job.choice == {"time_index": 3, "channel": 1, "series": "sha256:12"}
    assert (found.done, found.total) == (PER_SLAB, SLICES)


def test_the_name_of_a_task_stays_a_name(stopped):
    [found] = unfinished_jobs()
    assert (found.job.weights, found.job.input) == ("ct-denoise", None)


def test_a_job_is_listed_once_and_the_newest_first(stopped, tmp_path, folder):
    second = tmp_path / "second.ome.zarr"
    stop_after(begin(second), 2)
    remember(BegunJob(second, "ct-denoise"))
    remember(BegunJob(second, "ct-denoise", device="cpu"))
    for age, output in enumerate((second, stopped)):
        os.utime(registry._file_of(output), (1e9 - age, 1e9 - age))
    assert [(one.job.output, one.job.device) for one in unfinished_jobs()] == [(second, "cpu"), (stopped, "auto")]


def test_a_forgotten_job_is_not_listed_and_its_output_stays(stopped):
    forget(stopped)
    forget(stopped)
    assert unfinished_jobs() == []
    assert Ledger(stopped).done()


def test_a_job_that_was_completed_elsewhere_leaves_the_list(stopped, folder):
    do(stopped, resume=True)
    assert unfinished_jobs() == []
    assert list(folder.iterdir()) == []


def test_a_deleted_output_leaves_the_list_and_an_unplugged_disk_does_not(path, folder, tmp_path):
    remember(BegunJob(path, "ct-denoise"))
    remember(BegunJob(tmp_path / "disk" / "far.ome.zarr", "ct-denoise"))
    assert unfinished_jobs() == []
    assert [json.loads(file.read_text())["output"] for file in folder.iterdir()] == [
        str(tmp_path / "disk" / "far.ome.zarr")
    ]


@pytest.mark.parametrize("part", [None, (1, 2)])
def test_a_job_that_another_process_works_on_is_not_listed(stopped, part):
    with coordinating(Ledger(stopped).folder, stopped.name, part):
        assert unfinished_jobs() == []
    assert len(unfinished_jobs()) == 1


def test_an_entry_of_an_older_version_is_read(stopped, folder):
    [entry] = folder.iterdir()
    content = json.loads(entry.read_text())
    del content["channel"], content["series"]
    entry.write_text(json.dumps(content))
    [found] = unfinished_jobs()
    assert found.job.choice == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 99}', b'{"schema": 1, "output": 5}'])
def test_a_damaged_entry_does_not_hide_others(stopped, folder, content):
    (folder / "damaged.json").write_bytes(content)
    assert len(unfinished_jobs()) == 1


def test_a_damaged_ledger_is_not_offered(stopped):
    (stopped / "job" / "job.json").write_text("{")
    assert unfinished_jobs() == []


def test_an_entry_is_written_as_a_whole_or_not_at_all(stopped, folder, monkeypatch):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        remember(BegunJob(stopped, "pet-low-count"))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_nothing_from_inside_the_scan_is_written(path, folder):
    scan = small_ct()
    stop_after(begin(path, scan=Scan(**{**_fields(scan), "metadata": {"patient": "Doe^Jane"}})), 1)
    remember(BegunJob(path, "ct-denoise", Path("/in/chest.nii.gz")))
    [entry] = folder.iterdir()
    assert set(json.loads(entry.read_text())) == {
        "schema",
        "output",
        "weights",
        "weights_are_a_file",
        "input",
        "time_index",
        "channel",
        "series",
        "device",
        "any_modality",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="another variable there")
def test_the_list_is_in_the_users_folder_for_data(monkeypatch, tmp_path):
    from napari_restore_rwkv.user_folder import user_data_folder

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    if sys.platform == "linux":
        assert user_data_folder() == tmp_path / "data" / "napari-restore-rwkv"


def _fields(scan):
    return {
        name: getattr(scan, name) for name in ("voxels", "spacing_mm", "origin_mm", "direction", "modality", "unit")
    }
