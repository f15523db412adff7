"""A job into OME-Zarr gives the same as a restoration in memory, stops anywhere, and resumes only as the same job."""

import inspect
import os
import sys
import weakref
from dataclasses import replace

import dask.array
import numpy as np
import pytest
import yaozarrs
import zarr
from small_jobs import PER_SLAB, SLABS, SLICES, begin, do, lines, shards, small_ct, small_network, stop_after

from napari_restore_rwkv.errors import CheckpointError, OutputError, ScanError
from napari_restore_rwkv.jobs import restore_slabs as slab_module
from napari_restore_rwkv.jobs.audit import verify
from napari_restore_rwkv.jobs.job import ZarrJob
from napari_restore_rwkv.jobs.ledger import Ledger
from napari_restore_rwkv.network.checkpoint import for_inference
from napari_restore_rwkv.network.fused_cpu import SWITCH
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.progress import Phase, finish
from napari_restore_rwkv.restoration.restore import iter_restore
from napari_restore_rwkv.restoration.tiles import Tile
from napari_restore_rwkv.scans.lazy import LazyVoxels, fingerprint
from napari_restore_rwkv.scans.opening import open_scan


@pytest.mark.parametrize("axis", ["z", "y", "x"])
@pytest.mark.parametrize("dtype", [None, np.float32])
def test_the_result_is_that_of_a_restoration_in_memory(path, axis, dtype):
    scan = small_ct()
    in_memory = finish(iter_restore(scan, small_network(), axis=axis, dtype=dtype))
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


def test_a_result_is_valid_ome_zarr_without_patient_data(path):
    scan = small_ct()
    do(path, scan=scan.with_voxels(scan.voxels, metadata={"source": "Doe^John.nii", "PatientID": "Doe4711"}))
    yaozarrs.validate_zarr_store(path)
    text = "".join(file.read_text() for file in path.rglob("*.json*"))
    assert "Doe" not in text


def test_zarr_opens_the_output_without_warnings(undisturbed, recwarn):
    assert {name for name, _ in zarr.open_group(undisturbed, mode="r").members()} == {"0", "job"}
    assert not recwarn.list


def test_lazy_input_is_read_one_slab_at_a_time(path):
    voxels, boxes = small_ct().voxels, []

    def read(box):
        boxes.append(box)
        return voxels[box]

    lazy = small_ct().with_voxels(LazyVoxels(voxels.shape, voxels.dtype, read))
    result = do(path, scan=lazy)
    assert [(box[0].start, box[0].stop) for box in boxes] == [(0, 4), (4, 8), (8, 12), (12, 14)]
    assert np.array_equal(result.voxels, finish(iter_restore(small_ct(), small_network())).voxels)


def test_the_displayed_slice_comes_first_and_then_its_slab(path):
    regions = [step.region[0].start for step in begin(path, first=6) if step.region and step.phase is Phase.RESTORING]
    assert regions[:4] == [6, 5, 7, 4]
    assert sorted(regions) == list(range(SLICES))


def test_scrolling_continues_with_the_slice_on_screen_and_loses_nothing(path, undisturbed):
    steps, order = begin(path), []
    sent = None
    while True:
        try:
            step = steps.send(sent)
        except StopIteration:
            break
        sent = None
        if step.region and step.phase is Phase.RESTORING:
            order.append(step.region[0].start)
            # Back and forth, through more slabs than are kept half done.
            sent = {1: 9, 2: 5, 3: 13, 4: 1}.get(len(order))
    # Three slabs are half done when 13 is asked for, so that the nearest slice in one of them comes first.
    assert order[:5] == [0, 9, 5, 11, 1]
    assert sorted(order) == list(range(SLICES))
    assert shards(path) == shards(undisturbed)
    assert len(lines(path)) == SLABS + 1


def test_at_most_five_generators_are_between_a_job_and_the_kernel(path):
    def generators_below():
        frame, count = sys._getframe(), 0
        while frame is not None:
            count += bool(frame.f_code.co_flags & inspect.CO_GENERATOR)
            frame = frame.f_back
        return count

    network, counts, of_pytest = small_network(), [], generators_below()
    network.latent[0].register_forward_pre_hook(lambda *_: counts.append(generators_below() - of_pytest))
    finish(ZarrJob(small_ct(), network, path, slices_per_slab=PER_SLAB).run())
    assert len(counts) == SLICES
    # With that of the panel they are six.
    assert max(counts) <= 5


def test_at_most_three_slabs_are_half_done(path):
    job = ZarrJob(small_ct(), small_network(), path, slices_per_slab=PER_SLAB)
    steps = job.run()
    next(steps)
    for place in (0, 4, 8, 12, 0, 4, 8, 12):
        while not steps.send(place).region:
            pass
        assert len(job._queue._open) <= 3


def test_a_saved_slab_is_freed(path, monkeypatch):
    saved, write = [], slab_module.write_slab

    def noted(output, layout, unit, voxels):
        # While one is written, all that were written before are gone.
        assert [result for result in saved if result() is not None] == []
        saved.append(weakref.ref(voxels))
        return write(output, layout, unit, voxels)

    monkeypatch.setattr(slab_module, "write_slab", noted)
    do(path)
    assert len(saved) == SLABS


def test_restored_slices_are_visible_before_they_are_saved(path):
    expected = finish(iter_restore(small_ct(), small_network())).voxels
    job = ZarrJob(small_ct(), small_network(), path, slices_per_slab=PER_SLAB, first=9)
    for step in job.run():
        if step.region:
            break
    assert not shards(path)
    assert np.array_equal(job.voxels[9], expected[9])
    assert np.array_equal(
        job.voxels[8:11, 3:7, 5], np.stack([0 * expected[8], expected[9], 0 * expected[9]])[:, 3:7, 5]
    )


@pytest.mark.parametrize("saved", range(SLABS + 1))
def test_a_paused_job_continues_where_it_was(path, undisturbed, saved):
    if saved:
        stop_after(begin(path), saved)
    else:
        steps = begin(path)
        next(steps)
        steps.close()
    assert len(lines(path)) == saved
    steps = list(begin(path, resume=True))
    assert sum(step.phase is Phase.SAVED for step in steps) == SLABS - saved
    assert shards(path) == shards(undisturbed)
    assert finish(verify(path)).sound


def test_resuming_a_job_that_does_not_exist_starts_it(path, undisturbed):
    do(path, resume=True)
    assert shards(path) == shards(undisturbed)


def test_resuming_a_complete_job_changes_nothing(path):
    do(path)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}
    result = do(path, resume=True)
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()} == before
    assert result.metadata["restoration"]["slices"] == SLICES


def test_an_existing_output_is_refused_without_resume(path):
    stop_after(begin(path), 2)
    with pytest.raises(OutputError, match=r"it is a restoration with 2 of 4 slabs done\. Continue it with --resume"):
        do(path)
    do(path, resume=True)
    with pytest.raises(OutputError, match="already exists and is complete: give another name"):
        do(path)


def test_a_folder_of_something_else_is_refused(path):
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(OutputError, match=r"not written by this program"):
            do(path, resume=resume)
    assert [file.name for file in path.iterdir()] == ["thesis.tex"]


def test_a_file_and_a_missing_folder_are_refused(path, tmp_path):
    path.write_text("")
    with pytest.raises(OutputError, match="is a file: give the name of a folder that does not exist yet"):
        do(path)
    with pytest.raises(OutputError, match="does not exist: create it first, or choose another"):
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
    ],
)
def test_another_job_does_not_continue_this_one(path, change, words):
    stop_after(begin(path), 2)
    before = shards(path)
    with pytest.raises(OutputError, match=rf"started as a different job \(.*{words}.*start over with a new output"):
        do(path, resume=True, **change())
    assert shards(path) == before


def test_a_job_done_in_whole_blocks_is_not_continued_layer_by_layer(path, monkeypatch):
    network = RestoreRWKV(channels=8, blocks=(1, 1, 1, 1), refinement=1).fused()
    network.card = small_network().card
    stop_after(begin(path, network=network), 2)
    monkeypatch.setenv(SWITCH, "0")
    with pytest.raises(
        OutputError, match=r"kernel: compiled CPU kernel \(.*\), whole blocks, now compiled CPU kernel \("
    ):
        do(path, network=network, resume=True)


def test_a_resumed_job_keeps_its_original_slabs(path, undisturbed):
    stop_after(begin(path), 2)
    for asked in (None, 2 * PER_SLAB):
        job = ZarrJob(small_ct(), small_network(), path, resume=True, slices_per_slab=asked)
        assert job.layout.slab == PER_SLAB
    finish(job.run())
    assert shards(path) == shards(undisturbed)
    assert finish(verify(path)).sound


@pytest.mark.parametrize(
    ("details", "difference"),
    [({"keeps_measured": True}, "keeps_measured: False, now True"), ({"wrapped_border": 4}, "wrapped_border: .*now 4")],
)
def test_a_card_that_changes_results_makes_a_different_job(path, details, difference):
    stop_after(begin(path), 2)
    network = small_network()
    network = for_inference(network, replace(network.card, details=details))
    with pytest.raises(OutputError, match=f"model {difference}"):
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
    phases = [step.phase for step in begin(path, scan=lazy_ct(tmp_path, None), resume=True)]
    assert Phase.COMPARING_INPUT in phases
    assert shards(path) == shards(undisturbed)


def test_a_lazy_input_that_has_changed_is_refused(path, tmp_path):
    voxels = small_ct().voxels.copy()
    stop_after(begin(path, scan=lazy_ct(tmp_path, voxels)), 2)
    voxels[5, 0, 0] += 1
    changed = lazy_ct(tmp_path, voxels)
    os.utime(tmp_path / "input.raw", ns=(1, 1))
    with pytest.raises(OutputError, match=r"started with another input \(1 of 2 finished slabs had other voxels\)"):
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


def test_a_value_that_would_become_infinite_ends_the_job_before_its_slab(path):
    voxels = small_ct().voxels.astype(np.float64)
    voxels[PER_SLAB, 3, 3] = 1e300
    with pytest.raises(ScanError, match=r"values as large as 1e\+300, .* cannot be restored"):
        do(path, scan=small_ct().with_voxels(voxels))
    assert set(Ledger(path).done()) == {0}


def test_a_dask_array_is_accepted_as_it_is(path, undisturbed):
    array = dask.array.from_array(small_ct().voxels, chunks=(3, 8, 8))
    scan = small_ct().with_voxels(array)
    stop_after(begin(path, scan=scan), 2)
    do(path, scan=scan, resume=True)
    assert shards(path) == shards(undisturbed)
    other = scan.with_voxels(array + 1)
    with pytest.raises(OutputError, match=r"started with another input \(4 of 4 finished slabs had other voxels\)"):
        do(path, scan=other, resume=True)


@pytest.mark.slow
def test_tiles_give_the_same_as_in_memory_and_are_recorded(path):
    scan, tile = small_ct(slices=5, side=70), Tile(64, 16)
    result = do(path, scan=scan, tile=tile)
    in_memory = finish(iter_restore(scan, small_network(), tile=tile))
    assert np.array_equal(result.voxels, in_memory.voxels)
    assert not np.array_equal(result.voxels, finish(iter_restore(scan, small_network())).voxels)
    for record in (result.metadata["restoration"], in_memory.metadata["restoration"]):
        assert record["mode"] == "approximate tiles of 64 x 64, overlap 16"
        assert record["tile"] == {"size": 64, "overlap": 16}


@pytest.mark.parametrize(
    ("begun", "now", "words"),
    [
        (Tile(64), None, "mode: approximate tiles of 64 x 64, overlap 8, now whole slices"),
        (None, Tile(64), "mode: whole slices, now approximate tiles of 64 x 64, overlap 8"),
        (Tile(64), Tile(64, 16), "overlap 8, now approximate tiles of 64 x 64, overlap 16"),
    ],
)
def test_a_job_is_continued_with_the_same_tiles_only(path, begun, now, words):
    scan = small_ct(slices=5, side=70)
    stop_after(begin(path, scan=scan, tile=begun), 1)
    with pytest.raises(OutputError, match=words):
        do(path, scan=scan, tile=now, resume=True)
    do(path, scan=scan, tile=begun, resume=True)


def test_slices_smaller_than_a_tile_are_recorded_as_whole(path, undisturbed):
    do(path, tile=Tile(64))
    assert shards(path) == shards(undisturbed)
    assert open_scan(path).metadata["restoration"]["mode"] == "whole slices"


def test_a_job_in_strips_gives_the_same_as_in_whole_slices(path, undisturbed, monkeypatch):
    stop_after(begin(path), 1)
    monkeypatch.setattr(
        "napari_restore_rwkv.restoration.machine.Machine.has_room", lambda self, size, all_of_it=False: all_of_it
    )
    result = do(path, resume=True)
    assert shards(path) == shards(undisturbed)
    assert result.metadata["restoration"]["execution"]["in_strips"]
