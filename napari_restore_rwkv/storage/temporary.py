"""Temporary folders that outlive no process for long.

Each has a file that its process keeps locked. What a killed process leaves behind is not locked any more, and whoever
makes the next folder in the same place removes it.
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

if TYPE_CHECKING:
    from types import TracebackType

BESIDE, UNPACKED = ".restore-", "restore-rwkv-"
_MARK, _WORK = "in_use", "work"
_CONTENT = b"A temporary folder of napari-restore-rwkv; it may be removed when no program of that name runs.\n"
# A folder is not locked yet in the moment after it was made.
_YOUNGEST_S = 60.0


class TemporaryFolder:
    """A folder that goes away when it is closed, left as a context, or not referred to any more.

    Parameters
    ----------
    parent
        Where it is made; what killed processes have left there is removed first. None takes the system's place for
        temporary files.
    prefix
        How its name begins.

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
        outer = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        number = -1
        try:
            number = os.open(outer / _MARK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(number, _CONTENT)
            # Without locks it is never taken for abandoned.
            with contextlib.suppress(OSError):
                try_lock(number)
            self.path = outer / _WORK
            self.path.mkdir()
        except BaseException:
            _remove(outer, number)
            raise
        self._end = weakref.finalize(self, _remove, outer, number)

    def close(self) -> None:
        """Remove it with all that is in it."""
        self._end()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def remove_abandoned(parent: Path, prefix: str, youngest_s: float = _YOUNGEST_S) -> int:
    """Remove the temporary folders of this user in a folder whose processes are gone, and return their number.

    Parameters
    ----------
    youngest_s
        Folders changed less than so many seconds ago are left.
    """
    removed = 0
    # Who may not look, or is too late, has nothing to remove.
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False):
                    removed += _removed_if_abandoned(Path(entry.path), youngest_s)
    return removed


def _removed_if_abandoned(folder: Path, youngest_s: float) -> bool:
    state = folder.lstat()
    ours = not hasattr(os, "getuid") or state.st_uid == os.getuid()
    if not ours or time.time() - state.st_mtime < youngest_s or not stat.S_ISREG((folder / _MARK).lstat().st_mode):
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
    # Windows removes no file that is locked.
    if number >= 0:
        os.close(number)
    shutil.rmtree(folder, ignore_errors=True)
