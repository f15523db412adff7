"""Files on disk are checked, and repaired or reported: damage, torn lines, leftovers, a full disk."""

import errno
import json
import os
import resource

import numpy as np
import pytest
from small_jobs import PER_SLAB, SLABS, begin, do, shards, small_ct, small_network, stop_after

from napari_restore_rwkv.errors import OutputError
from napari_restore_rwkv.jobs import ledger as ledger_module
from napari_restore_rwkv.jobs.audit import verify
from napari_restore_rwkv.jobs.ledger import Ledger
from napari_restore_rwkv.jobs.record import checked
from napari_restore_rwkv.progress import Phase, finish
from napari_restore_rwkv.restoration.restore import iter_restore


@pytest.mark.slow
def test_verify_names_a_bad_slab_and_resume_redoes_only_that_one(path, undisturbed):
    do(path)
    shard = path / Ledger(path).layout.files(2)[0]
    content = bytearray(shard.read_bytes())
    # In the index of the shard, at its end, which zarr looks at even if it only writes.
    content[-1] ^= 1
    shard.write_bytes(content)
    (path / Ledger(path).layout.files(3)[0]).unlink()
    report = finish(verify(path))
    assert report.bad == {2: "0/c/2/0/0 has changed", 3: "0/c/3/0/0 is missing"}
    assert not report.sound
    again = [step.region[0].start for step in begin(path, resume=True) if step.phase is Phase.SAVED]
    assert again == [2 * PER_SLAB, 3 * PER_SLAB]
    assert shards(path) == shards(undisturbed)
    assert finish(verify(path)).sound


def test_verify_reports_an_unfinished_job(path):
    stop_after(begin(path), 1)
    report = finish(verify(path))
    assert (report.missing, report.complete, report.sound) == ([1, 2, 3], False, False)


def test_sixty_of_sixty_flipped_bits_are_found(path):
    do(path)
    rng = np.random.default_rng(60)
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.stat().st_size]
    found = 0
    for _ in range(60):
        file = files[rng.integers(len(files))]
        content = file.read_bytes()
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        try:
            found += not finish(verify(path)).sound
        except OutputError:
            # Without its record there is nothing to compare with.
            found += file.name == "job.json"
        file.write_bytes(content)
    assert found == 60
    assert finish(verify(path)).sound


def test_damaged_metadata_and_lines_are_repaired_by_resume(path, undisturbed):
    do(path)
    for name in ("0/zarr.json", "zarr.json", "job/complete.json"):
        (path / name).write_text("{}")
        do(path, resume=True)
        assert finish(verify(path)).sound
    done = path / "job" / "done.jsonl"
    done.write_text(done.read_text().replace('"unit": 1', '"unit": 2', 1))
    report = finish(verify(path))
    assert (report.damaged_lines, report.missing) == (1, [1])
    do(path, resume=True)
    assert finish(verify(path)).sound
    assert shards(path) == shards(undisturbed)


@pytest.mark.parametrize("content", [b"\xfb", b"{", b"{}"])
def test_damaged_metadata_of_an_unfinished_job_are_repaired_on_resume(path, undisturbed, content):
    stop_after(begin(path), 2)
    (path / "zarr.json").write_bytes(content)
    do(path, resume=True)
    assert shards(path) == shards(undisturbed)
    assert finish(verify(path)).sound


def test_a_torn_last_line_is_ignored_and_harms_no_other_line(path, undisturbed):
    stop_after(begin(path), 2)
    done = path / "job" / "done.jsonl"
    content = done.read_bytes()
    for length in (1, 40, len(content) - content.index(b"\n") - 2):
        done.write_bytes(content[: content.index(b"\n") + 1 + length])
        assert list(Ledger(path).done()) == [0]
    do(path, resume=True)
    assert shards(path) == shards(undisturbed)
    assert Ledger(path).damaged_lines() == 0


def test_leftovers_of_a_crash_are_removed(tmp_path):
    path = tmp_path / "scan [1].ome.zarr"
    stop_after(begin(path), 2)
    left = [
        path / "0" / "c" / "1" / "0" / "0.0123.partial",
        path / "job" / "job.json.0123.partial",
        path / "zarr.json.0123.partial",
    ]
    for file in left:
        file.write_bytes(b"half")
    unmade = path.with_name(f".{path.name}.0123.partial")
    unmade.mkdir()
    do(path, resume=True)
    assert not [file for file in [*left, unmade] if file.exists()]


def test_a_line_is_written_after_its_files_have_reached_the_disk(path, monkeypatch):
    events = []
    sync, append = ledger_module.sync_written, ledger_module.LedgerWriter._append

    def noted_sync(root, files):
        assert all(file.is_file() for file in files)
        sync(root, files)
        events.append("synced")

    def noted_append(writer, line):
        append(writer, line)
        events.append("line" if "unit" in line else "run")

    monkeypatch.setattr(ledger_module, "sync_written", noted_sync)
    monkeypatch.setattr(ledger_module.LedgerWriter, "_append", noted_append)
    do(path)
    # The first is that of the empty output.
    assert events == ["synced", *["synced", "line"] * SLABS, "run"]


class Failing:
    """The system call number `at` fails as on a full disk, and all after it, until there is space again."""

    def __init__(self, monkeypatch, at):
        self.count, self.at = 0, at
        from zarr.storage import _local

        put, sync = _local._put, os.fsync
        monkeypatch.setattr(_local, "_put", lambda *args, **kwargs: self.check() or put(*args, **kwargs))
        monkeypatch.setattr(os, "fsync", lambda number: self.check() or sync(number))

    def check(self):
        self.count += 1
        if self.at is not None and self.count >= self.at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.slow
def test_a_full_disk_at_any_step_stops_with_a_message_and_resumes(tmp_path, monkeypatch, undisturbed):
    failing = Failing(monkeypatch, None)
    do(tmp_path / "counted.ome.zarr")
    steps = failing.count
    assert steps > 8 * SLABS
    for at in range(1, steps + 1, 3):
        path = tmp_path / f"full_{at}.ome.zarr"
        failing.count, failing.at = 0, at
        with pytest.raises(OutputError, match=r"no space is left on the disk.*[;:] free some") as told:
            do(path)
        assert ("Finished work is kept" in str(told.value)) == path.exists()
        failing.at = None
        do(path, resume=True)
        assert shards(path) == shards(undisturbed)
        assert finish(verify(path)).sound


def test_an_output_that_cannot_be_created_is_not_said_to_be_kept(path, monkeypatch):
    def refused(*words, **more):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(ledger_module, "create_image", refused)
    with pytest.raises(OutputError, match=r"cannot be written \(read-only file system\): choose another folder"):
        do(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.slow
def test_a_file_size_limit_stops_with_a_message_and_resumes(path):
    scan = small_ct(side=96)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OutputError, match=r"no space is left on the disk.*then give the same call with"):
            do(path, scan=scan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(path.rglob("*.partial"))
    result = do(path, scan=scan, resume=True)
    assert np.array_equal(result.voxels, finish(iter_restore(scan, small_network())).voxels)


def test_the_record_of_another_version_is_refused(path):
    stop_after(begin(path), 1)
    job = path / "job" / "job.json"
    content = json.loads(job.read_text())
    del content["check"]
    job.write_text(json.dumps(checked(content | {"schema": 99})))
    with pytest.raises(OutputError, match=r"by another version of this program \(record 99, this one knows 1\)"):
        do(path, resume=True)
