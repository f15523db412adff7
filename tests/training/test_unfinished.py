"""Fine-tuning runs that were started and have no outcome."""

import os

import pytest

from napari_restore_rwkv.training.unfinished import (
    discard,
    new_training_folder,
    note_outcome,
    note_process,
    unfinished_trainings,
)


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """Begin a fine-tuning in this user's folder."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))

    def begin():
        folder = new_training_folder()
        folder.mkdir(parents=True)
        for name in ("job.json", "degraded_0.npy", "state.pt", "candidate.restorerwkv"):
            (folder / name).write_text("{}")
        return folder

    return begin


def test_the_newest_run_comes_first_with_its_process(begun):
    first, second = begun(), begun()
    note_process(first, 4711)
    assert [(one.folder, one.pid) for one in unfinished_trainings()] == [(second, None), (first, 4711)]


def test_a_run_with_an_outcome_is_finished_and_keeps_only_its_weights(begun):
    folder = begun()
    note_outcome(folder, {"accepted": False})
    assert unfinished_trainings() == []
    assert sorted(file.name for file in folder.iterdir()) == ["candidate.restorerwkv", "job.json", "outcome.json"]


def test_nothing_is_removed_before_the_outcome_is_written(begun, monkeypatch):
    folder = begun()
    before = sorted(file.name for file in folder.iterdir())
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        note_outcome(folder, {"accepted": True})
    assert sorted(file.name for file in folder.iterdir()) == before
    assert [one.folder for one in unfinished_trainings()] == [folder]


def test_a_discarded_run_is_deleted(begun):
    folder = begun()
    discard(folder)
    assert unfinished_trainings() == []
    assert not folder.exists()


def test_there_are_no_runs_at_first(begun):
    assert unfinished_trainings() == []
