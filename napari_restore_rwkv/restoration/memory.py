"""Reuse of large buffers between the layers of the network, instead of requesting each from the system."""

from __future__ import annotations

import ctypes
import sys
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Parameters of glibc's mallopt, from its malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_MOST_BLOCKS = 65536
# The value that glibc's own adaptation reaches in any process that has freed a buffer of this size.
_ADAPTED_MMAP_THRESHOLD = 32 << 20
# The next slice follows soon, even if each slice is a separate job.
KEPT_FOR_S = 2.0


@contextmanager
def reused_buffers() -> Iterator[None]:
    """Keep freed memory for the next buffer inside this context, and return it to the system two seconds later.

    By default glibc maps every buffer above 32 MiB separately, and the system fills each of its pages with zeros: half
    of the time of a 1024 x 1024 slice. With another C library nothing changes.
    """
    _heap.enter()
    try:
        yield
    finally:
        _heap.leave()


def give_back_unused() -> None:
    """Return freed memory to the system now, because memory is short."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


class _Heap:
    """Makes glibc keep freed memory while any thread asks for it, and for a while afterwards."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._end: threading.Timer | None = None

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._end is not None:
                self._end.cancel()
                self._end = None
            if (libc := _glibc()) is not None:
                libc.mallopt(_MMAP_MAX, 0)
                libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and _glibc() is not None:
                self._end = threading.Timer(KEPT_FOR_S, self._give_back)
                self._end.daemon = True
                self._end.start()

    def _give_back(self) -> None:
        with self._lock:
            libc = _glibc()
            # Another user may have entered just after the timer fired.
            if self._users or libc is None:
                return
            libc.mallopt(_MMAP_MAX, _MOST_BLOCKS)
            libc.mallopt(_MMAP_THRESHOLD, _ADAPTED_MMAP_THRESHOLD)
            libc.mallopt(_TRIM_THRESHOLD, 2 * _ADAPTED_MMAP_THRESHOLD)
            libc.malloc_trim(0)


_heap = _Heap()


@cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
