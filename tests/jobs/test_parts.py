"""Several processes on one output: parts that add up, and others that are refused."""

import pytest
from small_jobs import SLABS, begin, do, shards, small_ct, stop_after

from napari_restore_rwkv.errors import OutputError
from napari_restore_rwkv.jobs import ledger as ledger_module
from napari_restore_rwkv.jobs import lock
from napari_restore_rwkv.jobs.audit import finalize, verify
from napari_restore_rwkv.jobs.ledger import Ledger
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.opening import open_scan


def test_a_second_coordinator_is_refused_while_the_first_works(path, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE_S", 0.05)
    steps = begin(path)
    next(steps)
    words = "is being written by another process: wait until it has ended, or stop it first"
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
        with pytest.raises(OutputError, match="is being written by another process"):
            do(path, **options)
    with pytest.raises(OutputError, match="is being written by another process"):
        finish(finalize(path))
    finish(one)
    finish(two)
    finish(finalize(path))
    assert shards(path) == shards(undisturbed)


def test_a_part_of_a_scan_that_was_restored_before_has_no_record_of_its_own_yet(path):
    scan = small_ct()
    again = scan.with_voxels(scan.voxels, metadata={"restoration": {"task": "mri-sr"}, "name": "a"})
    assert do(path, scan=again, part=(1, 2)).metadata == {"name": "a"}


def test_finalize_names_the_missing_slabs(path):
    do(path, part=(1, 2))
    with pytest.raises(OutputError, match=r"2 of 4 slabs are missing or damaged \(1, 3\); run the parts"):
        finish(finalize(path))
    assert not Ledger(path).is_complete()


def test_an_impossible_part_is_refused(path):
    with pytest.raises(OutputError, match="There is no part 3 of 2; give 1/2 to 2/2"):
        do(path, part=(3, 2))


def test_two_that_create_the_same_output_get_the_same_one(path, monkeypatch):
    rename = ledger_module._rename

    def late(made, target):
        monkeypatch.setattr(ledger_module, "_rename", rename)
        stop_after(begin(target), 1)
        rename(made, target)

    monkeypatch.setattr(ledger_module, "_rename", late)
    do(path)
    assert sorted(Ledger(path).done()) == list(range(SLABS))
    assert not [file for file in path.parent.iterdir() if file != path]
