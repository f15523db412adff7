"""Ending a command by a signal: its temporary files are removed first."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# By name, since Windows has no SIGHUP.
_ENDING = ("SIGTERM", "SIGHUP")


@contextlib.contextmanager
def ending_by_signals() -> Iterator[list[int]]:
    """Let the signals that end a process end it as Ctrl-C does, inside this context.

    Yields
    ------
    list of int
        The signal received, once there is one. Signals that are ignored, as under nohup, or handled elsewhere stay so;
        a second signal ends the process at once.
    """
    received: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        received.append(number)
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    handled = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    # Python only lets the main thread handle signals.
    if threading.current_thread() is not threading.main_thread():
        handled = []
    for number in handled:
        signal.signal(number, end)
    try:
        yield received
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
