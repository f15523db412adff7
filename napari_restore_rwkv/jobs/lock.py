"""File locks: they prevent two coordinators from working on one output, and end with the process that holds them."""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING

from ..errors import OutputError
from ..storage.file_lock import try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WHOLE = "lock"
# Parts hold the common lock only briefly, while they check who else is there.
_PATIENCE_S = 5.0
_STEP_S = 0.02


@contextlib.contextmanager
def coordinating(folder: Path, name: str, part: tuple[int, int] | None = None) -> Iterator[None]:
    """Be the only coordinator of an output, or of one part of it, inside this context.

    Parameters
    ----------
    folder
        Where the lock files are.
    name
        Of the output, for errors.
    part
        (i, n) for part i of n, counted from 1; None for the whole job.

    Raises
    ------
    OutputError
        Another process is working on the same slabs, or the file system has no locks.
    """
    with contextlib.ExitStack() as held:
        if part is None:
            _take(held, folder / _WHOLE, name)
            others = [path for path in folder.glob(f"{_WHOLE}-*") if path.is_file()]
            for path in others:
                _take(held, path, name, patience=0)
        else:
            number, count = part
            _take(held, folder / f"{_WHOLE}-{number}-of-{count}", name, patience=0)
            # A coordinator of the whole job holds this one as long as it runs.
            with contextlib.ExitStack() as looking:
                _take(looking, folder / _WHOLE, name)
                for path in folder.glob(f"{_WHOLE}-*"):
                    if re.fullmatch(rf"{_WHOLE}-\d+-of-{count}", path.name) is None:
                        _take(looking, path, name, patience=0)
        yield


def at_work(folder: Path, name: str) -> bool:
    """Whether a process is coordinating an output, or a part of it; parameters as for `coordinating`."""
    try:
        with contextlib.ExitStack() as held:
            for path in folder.glob(f"{_WHOLE}*"):
                _take(held, path, name, patience=0)
    except OutputError:
        return True
    return False


def _take(held: contextlib.ExitStack, path: Path, name: str, patience: float | None = None) -> None:
    """Lock a file until `held` ends."""
    try:
        # A link would create a file wherever it leads.
        number = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(
            f"{name} cannot be written: its lock file {path.name} cannot be opened ({reason}); "
            "ask for write permission, or start over with a new output."
        ) from error
    held.callback(os.close, number)
    until = time.monotonic() + (_PATIENCE_S if patience is None else patience)
    while not _locked(number, name):
        if time.monotonic() >= until:
            raise OutputError(f"{name} is being written by another process: wait until it has ended, or stop it first.")
        time.sleep(_STEP_S)


def _locked(number: int, name: str) -> bool:
    """Lock an open file unless another has locked it; closing it, or the end of the process, unlocks it."""
    try:
        return try_lock(number)
    except OSError as error:
        raise OutputError(
            f"{name} is on a file system without locks ({error.strerror}), so two jobs could write at once; "
            "choose a folder on another file system."
        ) from error
