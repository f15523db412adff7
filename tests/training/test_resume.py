"""The folder of a training: one process writes to it, and what a full disk or a kill leaves is the last state."""

import errno
import os
import subprocess
import sys

import pytest
from command_line import hears_signals

from napari_restore_rwkv.errors import CheckpointError, OutputError
from napari_restore_rwkv.training.resume import Record, WorkFolder

IDENTITY = {"weights": "some"}


class States:
    """A trainer as far as its folder knows it."""

    def __init__(self, step=0):
        self.step = step

    def save(self, path):
        path.write_text(str(self.step))

    def resume(self, path):
        self.step = int(path.read_text())


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_full_disk_leaves_the_last_state_and_says_how_to_go_on(tmp_path, monkeypatch):
    work = WorkFolder(tmp_path, IDENTITY)
    work.begin(((16, 2),))
    work.save(States(1), Record(losses=[0.5]))
    before = contents(tmp_path)

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError) as told:
        work.save(States(2), Record(losses=[0.5, 0.4]))
    assert "cannot be written any further: no space is left on the disk" in told.value.message("")
    assert "free some space, then run the same training again" in told.value.message("")
    assert contents(tmp_path) == before
    trainer = States()
    assert (work.resume(trainer).losses, trainer.step) == ([0.5], 1)


def test_two_trainings_in_one_folder_are_one_too_many(tmp_path):
    first = WorkFolder(tmp_path, IDENTITY)
    with pytest.raises(OutputError, match="is in use by another training: wait until it has ended, or give another"):
        WorkFolder(tmp_path, IDENTITY)
    # Of those that train together, the others only read.
    WorkFolder(tmp_path, IDENTITY, writes=False)
    del first
    WorkFolder(tmp_path, IDENTITY)


def test_half_a_state_of_a_killed_process_goes_with_the_next_start(tmp_path):
    (tmp_path / "state.pt.0123.partial").write_bytes(b"half")
    WorkFolder(tmp_path, IDENTITY)
    assert not (tmp_path / "state.pt.0123.partial").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_state_too_large_for_the_disk_is_an_error_of_the_system(tmp_path):
    code = (
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from napari_restore_rwkv.training.state_file import write_state\n"
        "path = Path(sys.argv[1])\n"
        "write_state(path, {'a': torch.zeros(10)})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: write_state(path, {'a': torch.zeros(100_000)})\n"
        "except OSError as error: print(error.strerror, len(torch.load(path)['a']))\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "state.pt"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=hears_signals, check=False)
    assert done.stdout == "File too large 10\n", done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_the_state_of_another_training_is_refused(tmp_path):
    WorkFolder(tmp_path, IDENTITY).begin(((16, 2),))
    with pytest.raises(CheckpointError, match="contains another training, which differs in weights"):
        WorkFolder(tmp_path, {"weights": "others"})
