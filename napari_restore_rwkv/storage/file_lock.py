"""A lock on an open file, released when the process that holds it ends, however it ends.

Written by hand because the file is already open, and read and written here; the library filelock opens a separate file
beside it, which would have to be distinguished from results and leftovers.
"""

from __future__ import annotations

import errno
import sys


def try_lock(number: int) -> bool:
    """Lock an open file unless another process has; closing it, or the end of the process, unlocks it.

    Raises
    ------
    OSError
        The file system has no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}:
            return False
        raise
    return True
