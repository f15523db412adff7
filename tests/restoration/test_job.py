"""A job into OME-Zarr gives what a restoration in memory gives, stops anywhere, and goes on only as what it was."""

import errno
import json
import os
import resource
import weakref
from dataclasses import replace

import dask.array
import numpy as np
import pytest
import yaozarrs
import zarr
from jobs import PER_UNIT, SLICES, UNITS, begin, do, lines, shards, small_ct, small_network, stop_after

from napari_restore_rwkv.errors import CheckpointError, OutputError
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.restoration import job as job_module
from napari_restore_rwkv.restoration import ledger as ledger_module
from napari_restore_rwkv.restoration import lock
from napari_restore_rwkv.restoration.audit import finalize, verify
from napari_restore_rwkv.restoration.job import ZarrJob
from napari_restore_rwkv.restoration.ledger import Ledger
from napari_restore_rwkv.restoration.restore import restore
from napari_restore_rwkv.scans.lazy import LazyVoxels, fingerprint
from napari_restore_rwkv.scans.opening import open_scan


@pytest.fixture
def path(tmp_path):
    return tmp_path / "restored.ome.zarr"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "restored.ome.zarr"
    do(path)
    return path


@pytest.mark.parametrize("axis", ["z", "y", "x"])
@pytest.mark.parametrize("dtype", [None, np.float32])
def test_the_result_is_that_of_a_restoration_in_memory(path, axis, dtype):
    scan = small_ct()
    in_memory = finish(restore(scan, small_network(), axis=axis, dtype=dtype))
    result = do(path, scan=scan, axis=axis, dtype=dtype)
    assert np.array_equal(result.voxels, in_memory.voxels)
    assert result.voxels.dtype == in_memory.voxels.dtype
    written, expected = result.metadata["restoration"], in_memory.metadata["restoration"]
    different = {"created", "output_sha256"}
    assert {key: written[key] for key in written.keys() - different} == {
        key: expected[key] for key in expected.keys() - different
    }
    opened = open_scan(path)
    assert np.array_equal(opened.voxels, in_memory.voxels)
    assert opened.metadata["restoration"] == written
    assert (opened.spacing_mm, opened.origin_mm) == (scan.spacing_mm, scan.origin_mm)
    assert (opened.modality, opened.unit) == ("CT", "HU")


def test_a_result_is_valid_ome_zarr_and_says_nothing_of_the_patient(path):
    scan = small_ct()
    do(path, scan=scan.with_voxels(scan.voxels, metadata={"source": "Doe^John.nii", "PatientID": "Doe4711"}))
    yaozarrs.validate_zarr_store(path)
    text = "".join(file.read_text() for file in path.rglob("*.json*"))
    assert "Doe" not in text


def test_zarr_wonders_at_nothing_in_the_output(undisturbed, recwarn):
    assert {name for name, _ in zarr.open_group(undisturbed, mode="r").members()} == {"0", "job"}
    assert not recwarn.list


def test_lazy_input_is_read_one_unit_at_a_time(path):
    voxels, boxes = small_ct().voxels, []

    def read(box):
        boxes.append(box)
        return voxels[box]

    lazy = small_ct().with_voxels(LazyVoxels(voxels.shape, voxels.dtype, read))
    result = do(path, scan=lazy)
    assert [(box[0].start, box[0].stop) for box in boxes] == [(0, 4), (4, 8), (8, 12), (12, 14)]
    assert np.array_equal(result.voxels, finish(restore(small_ct(), small_network())).voxels)


def test_the_displayed_slice_comes_first_and_then_its_unit(path):
    regions = [step.region[0].start for step in begin(path, first=6) if step.region and "slice" in step.what]
    assert regions[:4] == [6, 5, 7, 4]
    assert sorted(regions) == list(range(SLICES))


def test_scrolling_goes_on_with_the_slice_on_screen_and_loses_nothing(path, undisturbed):
    steps, order = begin(path), []
    sent = None
    while True:
        try:
            step = steps.send(sent)
        except StopIteration:
            break
        sent = None
        if step.region and "slice" in step.what:
            order.append(step.region[0].start)
            # Back and forth, through more slabs than are kept half done.
            sent = {1: 9, 2: 5, 3: 13, 4: 1}.get(len(order))
    # Three slabs are half done when 13 is asked for, so that the nearest slice in one of them comes first.
    assert order[:5] == [0, 9, 5, 11, 1]
    assert sorted(order) == list(range(SLICES))
    assert shards(path) == shards(undisturbed)
    assert len(lines(path)) == UNITS + 1


def test_at_most_three_slabs_are_half_done(path):
    job = ZarrJob(small_ct(), small_network(), path, slices_per_unit=PER_UNIT)
    steps = job.run()
    next(steps)
    for place in (0, 4, 8, 12, 0, 4, 8, 12):
        while not steps.send(place).region:
            pass
        assert len(job._queue._open) <= 3


def test_a_saved_slab_is_let_go(path, monkeypatch):
    saved, write = [], job_module.write_slab

    def noted(output, layout, unit, voxels):
        # While one is written, all that were written before are gone.
        assert [result for result in saved if result() is not None] == []
        saved.append(weakref.ref(voxels))
        return write(output, layout, unit, voxels)

    monkeypatch.setattr(job_module, "write_slab", noted)
    do(path)
    assert len(saved) == UNITS


def test_what_has_come_back_is_seen_before_it_is_saved(path):
    expected = finish(restore(small_ct(), small_network())).voxels
    job = ZarrJob(small_ct(), small_network(), path, slices_per_unit=PER_UNIT, first=9)
    for step in job.run():
        if step.region:
            break
    assert not shards(path)
    assert np.array_equal(job.voxels[9], expected[9])
    assert np.array_equal(
        job.voxels[8:11, 3:7, 5], np.stack([0 * expected[8], expected[9], 0 * expected[9]])[:, 3:7, 5]
    )


@pytest.mark.parametrize("saved", range(UNITS + 1))
def test_a_paused_job_goes_on_where_it_was(path, undisturbed, saved):
    if saved:
        stop_after(begin(path), saved)
    else:
        steps = begin(path)
        next(steps)
        steps.close()
    assert len(lines(path)) == saved
    steps = list(begin(path, resume=True))
    assert sum(step.what.startswith("unit ") for step in steps) == UNITS - saved
    assert shards(path) == shards(undisturbed)
    assert finish(verify(path)).sound


def test_resuming_what_is_not_there_begins_it(path, undisturbed):
    do(path, resume=True)
    assert shards(path) == shards(undisturbed)


def test_resuming_what_is_complete_changes_nothing(path):
    do(path)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}
    result = do(path, resume=True)
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()} == before
    assert result.metadata["restoration"]["slices"] == SLICES


def test_an_output_that_is_there_is_refused_without_resume(path):
    stop_after(begin(path), 2)
    with pytest.raises(OutputError, match=r"it is a restoration with 2 of 4 units done\. Continue it with --resume"):
        do(path)
    do(path, resume=True)
    with pytest.raises(OutputError, match="exists already and is complete: give another name"):
        do(path)


def test_a_folder_of_something_else_is_refused(path):
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(OutputError, match=r"no restoration of ours|not written by a restoration of ours"):
            do(path, resume=resume)
    assert [file.name for file in path.iterdir()] == ["thesis.tex"]


def test_a_file_and_a_missing_folder_are_refused(path, tmp_path):
    path.write_text("")
    with pytest.raises(OutputError, match="is a file: give the name of a folder that is not there yet"):
        do(path)
    with pytest.raises(OutputError, match="does not exist: make it first, or choose another"):
        do(tmp_path / "nowhere" / "restored.ome.zarr")


def other_voxels():
    scan = small_ct()
    voxels = scan.voxels.copy()
    voxels[13, 0, 0] += 1
    return {"scan": scan.with_voxels(voxels)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_voxels, "input sha256: [0-9a-f]{16}..., now [0-9a-f]{16}..."),
        (lambda: {"network": small_network(6)}, "model sha256: [0-9a-f]{16}..., now [0-9a-f]{16}..."),
        (lambda: {"precision": "bfloat16"}, "precision: float32, now bfloat16"),
        (lambda: {"dtype": np.float32}, "output dtype: int16, now float32"),
        (lambda: {"axis": "y"}, "axis: 0, now 1"),
        (lambda: {"any_modality": True, "scan": small_ct().with_voxels(small_ct().voxels, modality="MR")}, "modality"),
        (lambda: {"slices_per_unit": 8}, "output slices_per_unit: 4, now 8"),
    ],
)
def test_another_job_does_not_continue_this_one(path, change, words):
    stop_after(begin(path), 2)
    before = shards(path)
    with pytest.raises(OutputError, match=rf"begun as another job \(.*{words}.*start over into a new output"):
        do(path, resume=True, **change())
    assert shards(path) == before


def test_a_card_that_changes_results_makes_another_job(path):
    stop_after(begin(path), 2)
    network = small_network()
    network.card = replace(network.card, details={"keeps_measured": True})
    with pytest.raises(OutputError, match="model keeps_measured: False, now True"):
        do(path, resume=True, network=network)


def lazy_ct(folder, voxels):
    """A scan whose voxels come from a file that can be changed between two runs."""
    file = folder / "input.raw"
    if voxels is not None:
        file.write_bytes(voxels.tobytes())
    shape = small_ct().shape

    def read(box):
        return np.frombuffer(file.read_bytes(), np.int16).reshape(shape)[box]

    return small_ct().with_voxels(LazyVoxels(shape, np.int16, read, source=file))


def test_a_lazy_input_that_was_only_touched_is_the_same_input(path, tmp_path, undisturbed):
    stop_after(begin(path, scan=lazy_ct(tmp_path, small_ct().voxels)), 2)
    os.utime(tmp_path / "input.raw", ns=(1, 1))
    steps = [step.what for step in begin(path, scan=lazy_ct(tmp_path, None), resume=True)]
    assert "comparing the input with unit 0" in steps
    assert shards(path) == shards(undisturbed)


def test_a_lazy_input_that_has_changed_is_refused(path, tmp_path):
    voxels = small_ct().voxels.copy()
    stop_after(begin(path, scan=lazy_ct(tmp_path, voxels)), 2)
    voxels[5, 0, 0] += 1
    changed = lazy_ct(tmp_path, voxels)
    os.utime(tmp_path / "input.raw", ns=(1, 1))
    with pytest.raises(OutputError, match=r"begun with another input \(1 of 2 finished units had other voxels\)"):
        do(path, scan=changed, resume=True)
    (tmp_path / "input.raw").write_bytes(bytes(10))
    assert fingerprint(tmp_path / "input.raw")["bytes"] == 10
    with pytest.raises(OutputError, match="input bytes: 8064, now 10"):
        do(path, scan=lazy_ct(tmp_path, None), resume=True)


def test_weights_for_another_modality_leave_no_output(path):
    scan = small_ct()
    with pytest.raises(CheckpointError, match="These weights were made for CT, but this scan is MR"):
        do(path, scan=scan.with_voxels(scan.voxels, modality="MR"))
    assert not path.exists()


def test_a_second_coordinator_is_refused_while_the_first_is_at_work(path, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE_S", 0.05)
    steps = begin(path)
    next(steps)
    words = "is being written by another process right now: wait until it has ended, or stop it first"
    for options in ({"resume": True}, {"part": (1, 2)}):
        with pytest.raises(OutputError, match=words):
            do(path, **options)
    with pytest.raises(OutputError, match=words):
        finish(finalize(path))
    steps.close()
    do(path, resume=True)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_parts_and_finalize_give_the_undisturbed_result(path, undisturbed, count):
    for number in reversed(range(1, count + 1)):
        assert "restoration" not in do(path, part=(number, count)).metadata
    record = finish(finalize(path))
    assert shards(path) == shards(undisturbed)
    assert finish(verify(path)).sound
    assert record["output_sha256"] == open_scan(undisturbed).metadata["restoration"]["output_sha256"]
    assert record["input_sha256"] == open_scan(undisturbed).metadata["restoration"]["input_sha256"]


def test_parts_work_at_the_same_time_and_the_same_part_does_not(path, monkeypatch, undisturbed):
    monkeypatch.setattr(lock, "_PATIENCE_S", 0.05)
    one, two = begin(path, part=(1, 2)), begin(path, part=(2, 2))
    next(one)
    next(two)
    for options in ({"part": (1, 2)}, {"part": (2, 3)}, {"resume": True}):
        with pytest.raises(OutputError, match="is being written by another process right now"):
            do(path, **options)
    finish(one)
    finish(two)
    finish(finalize(path))
    assert shards(path) == shards(undisturbed)


def test_finalize_names_the_units_that_are_missing(path):
    do(path, part=(1, 2))
    with pytest.raises(OutputError, match=r"2 of 4 units are missing or damaged \(1, 3\); run the parts"):
        finish(finalize(path))
    assert not Ledger(path).is_complete()


def test_a_part_that_there_is_not_is_refused(path):
    with pytest.raises(OutputError, match="There is no part 3 of 2; give 1/2 to 2/2"):
        do(path, part=(3, 2))


def test_verify_names_a_bad_unit_and_resume_does_exactly_that_one_again(path, undisturbed):
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
    again = [step.what for step in begin(path, resume=True) if step.what.startswith("unit ")]
    assert again == ["unit 2 saved", "unit 3 saved"]
    assert shards(path) == shards(undisturbed)
    assert finish(verify(path)).sound


def test_verify_tells_of_an_unfinished_job(path):
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


def test_damaged_metadata_and_lines_are_mended_by_resume(path, undisturbed):
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


def test_a_torn_last_line_is_no_record_and_spoils_no_other(path, undisturbed):
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
    assert events == ["synced", *["synced", "line"] * UNITS, "run"]


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


def test_a_disk_that_fills_up_at_any_step_stops_in_words_and_goes_on_later(tmp_path, monkeypatch, undisturbed):
    failing = Failing(monkeypatch, None)
    do(tmp_path / "counted.ome.zarr")
    steps = failing.count
    assert steps > 8 * UNITS
    for at in range(1, steps + 1, 3):
        path = tmp_path / f"full_{at}.ome.zarr"
        failing.count, failing.at = 0, at
        with pytest.raises(OutputError, match=r"no space is left on the disk\. What is finished is kept; free some"):
            do(path)
        failing.at = None
        do(path, resume=True)
        assert shards(path) == shards(undisturbed)
        assert finish(verify(path)).sound


def test_a_file_that_may_not_grow_further_stops_in_words_and_goes_on_later(path):
    scan = small_ct(side=96)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OutputError, match=r"no space is left on the disk.*then give the same command"):
            do(path, scan=scan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(path.rglob("*.partial"))
    result = do(path, scan=scan, resume=True)
    assert np.array_equal(result.voxels, finish(restore(scan, small_network())).voxels)


def test_the_record_of_another_version_is_refused(path):
    stop_after(begin(path), 1)
    job = path / "job" / "job.json"
    content = json.loads(job.read_text())
    del content["check"]
    job.write_text(json.dumps(ledger_module._checked(content | {"schema": 99})))
    with pytest.raises(OutputError, match=r"by another version of this program \(record 99, this one knows 1\)"):
        do(path, resume=True)


def test_two_that_create_the_same_output_get_the_same_one(path, monkeypatch):
    rename = ledger_module._rename

    def late(made, target):
        monkeypatch.setattr(ledger_module, "_rename", rename)
        stop_after(begin(target), 1)
        rename(made, target)

    monkeypatch.setattr(ledger_module, "_rename", late)
    do(path)
    assert sorted(Ledger(path).done()) == list(range(UNITS))
    assert not [file for file in path.parent.iterdir() if file != path]


def test_a_dask_array_is_taken_as_it_is(path, undisturbed):
    array = dask.array.from_array(small_ct().voxels, chunks=(3, 8, 8))
    scan = small_ct().with_voxels(array)
    stop_after(begin(path, scan=scan), 2)
    do(path, scan=scan, resume=True)
    assert shards(path) == shards(undisturbed)
    other = scan.with_voxels(array + 1)
    with pytest.raises(OutputError, match=r"begun with another input \(4 of 4 finished units had other voxels\)"):
        do(path, scan=other, resume=True)
