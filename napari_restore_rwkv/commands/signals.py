"""Ending a command by a signal: its temporary files are removed first."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from ..storage.uninterrupted import interrupt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# By name, since Windows has no SIGHUP.
_ENDING = ("SIGTERM", "SIGHUP")


@contextlib.contextmanager
def ending_by_signals() -> Iterator[list[int]]:
    """Let the signals that end a process end it as Ctrl-C does, inside this context, and none cut a move in two.

    Yields
    ------
    list of int
        The signal received, once there is one. Signals that are ignored, as under nohup, or handled elsewhere stay so;
        a second signal other than Ctrl-C ends the process at once.
    """
    received: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        received.append(number)
        interrupt()

    def stop(number: int, frame: FrameType | None) -> None:
        interrupt()

    numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    handlers = {number: end for number in numbers if signal.getsignal(number) == signal.SIG_DFL}
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        handlers[signal.SIGINT] = stop
    # Python only lets the main thread handle signals.
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
