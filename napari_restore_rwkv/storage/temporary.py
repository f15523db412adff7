"""Temporary folders that do not outlive their process for long.

Each has a file that its process keeps locked. What a killed process leaves behind is no longer locked, and is removed
when the next folder is made in the same place.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from .file_lock import try_lock
from .uninterrupted import uninterrupted

if TYPE_CHECKING:
    from types import TracebackType

BESIDE, UNPACKED = ".restore-", "restore-rwkv-"
_MARK, _WORK = "in_use", "work"
_CONTENT = b"A temporary folder of napari-restore-rwkv; it may be removed when no program of that name runs.\n"
# Just after a folder was made, it is not locked yet.
_YOUNGEST_S = 60.0


class TemporaryFolder:
    """A folder that is removed when it is closed, when its context ends, or when it is no longer referenced.

    Parameters
    ----------
    parent
        Where it is made; what killed processes have left there is removed first. None takes the system's temporary
        folder.
    prefix
        Start of its name.

    Attributes
    ----------
    path
        The folder, empty at first.

    Raises
    ------
    OSError
        It cannot be made there.
    """

    def __init__(self, parent: Path | None = None, prefix: str = BESIDE) -> None:
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        remove_abandoned(parent, prefix)
        with uninterrupted():
            outer = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            number = -1
            try:
                number = os.open(outer / _MARK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                os.write(number, _CONTENT)
                # Without locks it is never considered abandoned.
                with contextlib.suppress(OSError):
                    try_lock(number)
                self.path = outer / _WORK
                self.path.mkdir()
            except BaseException:
                _remove(outer, number)
                raise
            self._end = weakref.finalize(self, _remove, outer, number)

    def close(self) -> None:
        """Remove the folder and its content."""
        with uninterrupted():
            self._end()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def remove_abandoned(parent: Path, prefix: str) -> int:
    """Remove this user's temporary folders in a folder if their processes are gone, and return their number.

    Folders changed within the last minute are kept.
    """
    removed = 0
    # Without permission, or when too late, there is nothing to remove.
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False):
                    removed += _removed_if_abandoned(Path(entry.path))
    return removed


def _removed_if_abandoned(folder: Path) -> bool:
    state = folder.lstat()
    ours = not hasattr(os, "getuid") or state.st_uid == os.getuid()
    if not ours or time.time() - state.st_mtime < _YOUNGEST_S or not stat.S_ISREG((folder / _MARK).lstat().st_mode):
        return False
    number = os.open(folder / _MARK, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    abandoned = False
    try:
        abandoned = os.read(number, len(_CONTENT) + 1) == _CONTENT and try_lock(number)
    finally:
        if abandoned:
            _remove(folder, number)
        else:
            os.close(number)
    return abandoned


def _remove(folder: Path, number: int) -> None:
    with uninterrupted():
        # Windows does not remove a locked file.
        if number >= 0:
            os.close(number)
        shutil.rmtree(folder, ignore_errors=True)
