"""Moves and removals of files that a signal must not cut in two.

Python raises KeyboardInterrupt between any two lines, also between making a folder and noting that it has to go, or
between moving a result and its record.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_sections: list[object] = []
_waiting: list[object] = []


def interrupt() -> None:
    """Raise KeyboardInterrupt: at once, or at the end of the `uninterrupted` context that the main thread is in.

    For handlers of signals, which Python runs in the main thread.
    """
    if not _sections:
        raise KeyboardInterrupt
    _waiting.append(None)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Do something short to its end before the main thread is interrupted; other threads never are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _sections.append(None)
    try:
        yield
    finally:
        _sections.pop()
        if _waiting and not _sections:
            _waiting.clear()
            raise KeyboardInterrupt
