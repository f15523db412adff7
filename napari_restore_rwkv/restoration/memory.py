"""Reuse of large buffers between the layers of the network, instead of requesting each from the system."""

from __future__ import annotations

import ctypes
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Parameters of glibc's mallopt, from its malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_MOST_BLOCKS = 65536
# The value that glibc's own adaptation reaches in any process that has freed a buffer of this size.
_ADAPTED_MMAP_THRESHOLD = 32 << 20


@contextmanager
def reused_buffers() -> Iterator[None]:
    """Keep freed memory for the next buffer inside this context, and return it to the system afterwards.

    By default glibc maps every buffer above 32 MiB separately, and the system fills each of its pages with zeros: half
    of the time of a 1024 x 1024 slice. With another C library nothing changes.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, _MOST_BLOCKS)
        libc.mallopt(_MMAP_THRESHOLD, _ADAPTED_MMAP_THRESHOLD)
        libc.mallopt(_TRIM_THRESHOLD, 2 * _ADAPTED_MMAP_THRESHOLD)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
