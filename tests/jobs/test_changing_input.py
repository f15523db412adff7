"""An input that changes or vanishes during a job, and a result with a missing or changed file."""

import numpy as np
import pytest
import zarr
from small_jobs import SLICES, begin, do, small_ct

from napari_restore_rwkv.errors import OutputError, ScanError
from napari_restore_rwkv.jobs.audit import verify
from napari_restore_rwkv.jobs.ledger import Ledger
from napari_restore_rwkv.progress import Phase, finish
from napari_restore_rwkv.scans.export import export_scan
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.opening import open_scan


@pytest.fixture
def lazy(tmp_path):
    """A scan that is read from a zarr with one chunk per slice."""
    zarr.create_array(tmp_path / "input.zarr", data=small_ct().voxels, chunks=(1, 16, 18))
    return open_scan(tmp_path / "input.zarr", modality="CT")


def after_one_slab(steps, change):
    for step in steps:
        if step.phase is Phase.SAVED:
            change()
            break
    return finish(steps)


def test_an_input_that_changes_during_a_job_leaves_no_complete_result(path, lazy):
    def change():
        zarr.open_array(lazy.voxels.source, mode="r+")[0] = 7

    with pytest.raises(OutputError, match=r"its input changed while it was restored \(1 of 4 slabs had other voxels\)"):
        after_one_slab(begin(path, lazy), change)
    assert not finish(verify(path)).sound
    with pytest.raises(OutputError, match=r"was started (as a different job|with another input)"):
        do(path, scan=open_scan(lazy.voxels.source, modality="CT"), resume=True)


def test_an_input_that_is_only_touched_is_compared_and_finished(path, lazy):
    def touch():
        for file in lazy.voxels.source.rglob("*"):
            file.touch()

    after_one_slab(begin(path, lazy), touch)
    assert finish(verify(path)).sound


@pytest.mark.parametrize("what", ["chunk", "all"])
def test_an_input_that_vanishes_gives_no_slices_of_zeros(path, lazy, what):
    source = lazy.voxels.source

    def vanish():
        if what == "all":
            source.rename(source.with_name("elsewhere"))
        else:
            (source / "c" / "13" / "0" / "0").unlink()

    with pytest.raises(ScanError, match=r"input\.zarr has lost c/.* since it was opened"):
        after_one_slab(begin(path, lazy), vanish)
    assert not finish(verify(path)).complete


def test_an_input_that_vanishes_at_the_end_is_reported(path, lazy):
    def vanish_last(steps):
        for step in steps:
            if step.phase is Phase.SAVED and step.region[0].stop == SLICES:
                lazy.voxels.source.rename(lazy.voxels.source.with_name("elsewhere"))
        pytest.fail("finished without its input")

    with pytest.raises(
        OutputError, match="its input no longer exists; put it back, then give the same call with resume=True"
    ):
        vanish_last(begin(path, lazy))
    assert not finish(verify(path)).complete
    lazy.voxels.source.with_name("elsewhere").rename(lazy.voxels.source)
    do(path, scan=lazy, resume=True)
    assert finish(verify(path)).sound


def test_a_result_that_lost_a_file_is_refused_everywhere(path, tmp_path):
    do(path)
    shard = path / Ledger(path).layout.files(2)[0]
    content = shard.read_bytes()
    shard.unlink()
    for read in (read_scan, open_scan):
        with pytest.raises(ScanError, match=r"has lost 1 of its 4 files of voxels; .* with --resume restores them"):
            read(path)
    shard.write_bytes(content)
    scan = open_scan(path)
    shard.unlink()
    with pytest.raises(ScanError, match=r"has lost 0/c/2/0/0 since it was opened"):
        finish(export_scan(scan, tmp_path / "exported.nii"))
    assert not (tmp_path / "exported.nii").exists()


def test_a_result_whose_file_was_changed_or_replaced_is_refused(path):
    do(path)
    shard, other = (path / Ledger(path).layout.files(unit)[0] for unit in (2, 1))
    content = shard.read_bytes()
    for wrong in (other.read_bytes(), content[:-1] + bytes([content[-1] ^ 1])):
        shard.write_bytes(wrong)
        scan = open_scan(path)
        assert np.asarray(scan.voxels[0]).any()
        with pytest.raises(ScanError, match=r"is not as it was written: 0/c/2/0/0 has changed; verify shows"):
            np.asarray(scan.voxels[9])
    shard.write_bytes(content)
    assert np.asarray(open_scan(path).voxels[9]).any()
