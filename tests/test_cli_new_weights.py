"""New weights are saved whatever happens at the end of a training."""

import os
import tempfile
from pathlib import Path

import pytest

from napari_restore_rwkv.commands.new_weights import save_weights
from napari_restore_rwkv.errors import OutputError
from napari_restore_rwkv.storage.uninterrupted import interrupt


def test_ctrl_c_while_weights_are_saved_says_that_they_are_complete(tmp_path):
    def save(path):
        interrupt()
        return path

    with pytest.raises(KeyboardInterrupt, match=r"ours\.restorerwkv is complete$"):
        save_weights(save, tmp_path / "ours.restorerwkv")


@pytest.mark.parametrize("interrupted", [False, True])
def test_weights_that_do_not_fit_where_they_should_be_are_kept_elsewhere(tmp_path, monkeypatch, interrupted):
    def save(path):
        if path.is_relative_to(full):
            raise OutputError("ours cannot be written (no space is left on the disk).")
        if interrupted:
            interrupt()
        path.write_bytes(b"hours of training")
        return path

    full, data = tmp_path / "full", tmp_path / "data"
    monkeypatch.setenv("XDG_DATA_HOME" if os.name != "nt" else "LOCALAPPDATA", str(data))
    with pytest.raises((OutputError, KeyboardInterrupt), match="ours") as stopped:
        save_weights(save, full / "ours")
    (kept,) = data.rglob("ours")
    assert kept.read_bytes() == b"hours of training"
    said = f"{kept} is complete" if interrupted else f"The new weights are not lost: they are in {kept}."
    assert str(stopped.value).endswith(said)


def test_weights_that_fit_nowhere_are_the_first_error_and_leave_nothing(tmp_path, monkeypatch):
    def save(path):
        raise OutputError(f"{path} cannot be written.")

    monkeypatch.setenv("XDG_DATA_HOME" if os.name != "nt" else "LOCALAPPDATA", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OutputError, match="ours cannot be written"):
        save_weights(save, Path("full") / "ours")
    assert [path for path in tmp_path.rglob("*") if path.name.startswith("rescued")] == []
