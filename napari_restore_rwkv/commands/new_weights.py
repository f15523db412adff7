"""Saving the weights that a training has made, whatever happens at its end."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OutputError
from ..storage.uninterrupted import uninterrupted
from ..user_folder import user_data_folder

if TYPE_CHECKING:
    from collections.abc import Callable

# Start of the names of folders with weights that could not be written where they belong.
_RESCUED = "rescued-weights-"


def save_weights(save: Callable[[Path], Path], output: Path) -> Path:
    """Save the result of hours of training, elsewhere if there is no space, and return its file.

    A command that is stopped meanwhile saves them first, and says that they are complete.

    Parameters
    ----------
    save
        Writes a bundle to a new file, and returns its full name.
    output
        Where it should be.

    Raises
    ------
    OutputError
        They could not be written there; it says where they are instead.
    """
    file = None
    try:
        with uninterrupted():
            try:
                file = save(output)
            except OutputError as error:
                file = _saved_elsewhere(save, output, error)
                raise OutputError(f"{error} The new weights are not lost: they are in {file}.") from error
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{file} is complete" if file else "") from stop
    return file


def _saved_elsewhere(save: Callable[[Path], Path], output: Path, error: OutputError) -> Path:
    """Save weights where there may still be space; raise the first error if there is none."""
    for parent in (user_data_folder(), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError, OutputError):
            parent.mkdir(parents=True, exist_ok=True)
            # A folder of its own, so that no file there has its name.
            folder = Path(tempfile.mkdtemp(prefix=_RESCUED, dir=parent))
            try:
                return save(folder / output.name)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    raise error
