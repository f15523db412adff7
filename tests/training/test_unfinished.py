"""Fine-tunings that were begun and have no outcome."""

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


def test_the_newest_comes_first_with_the_process_that_worked_on_it(begun):
    first, second = begun(), begun()
    note_process(first, 4711)
    assert [(one.folder, one.pid) for one in unfinished_trainings()] == [(second, None), (first, 4711)]


def test_one_with_an_outcome_is_finished_and_keeps_its_weights_only(begun):
    folder = begun()
    note_outcome(folder, {"accepted": False})
    assert unfinished_trainings() == []
    assert sorted(file.name for file in folder.iterdir()) == ["candidate.restorerwkv", "job.json", "outcome.json"]


def test_nothing_is_removed_before_the_outcome_is_there(begun, monkeypatch):
    folder = begun()
    before = sorted(file.name for file in folder.iterdir())
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        note_outcome(folder, {"accepted": True})
    assert sorted(file.name for file in folder.iterdir()) == before
    assert [one.folder for one in unfinished_trainings()] == [folder]


def test_a_discarded_one_is_gone(begun):
    folder = begun()
    discard(folder)
    assert unfinished_trainings() == []
    assert not folder.exists()


def test_there_are_none_at_first(begun):
    assert unfinished_trainings() == []
