"""The standard streams of a command, which may be closed, full, or unable to print every name."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

_STREAMS = ("stdin", "stdout", "stderr")


class _Unfailing(io.FileIO):
    """A file that loses what it has no place for, as a terminal that was closed or a full disk."""

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError:
            return memoryview(content).nbytes


def prepare_streams() -> None:
    """Let nothing that is printed stop a command.

    Closed streams are connected to the null device: the next file that is opened would otherwise get the number of one,
    and what is printed would go into it. Characters that a stream cannot encode are shown as escape sequences, and
    notes that stderr has no place for are lost.
    """
    for number, name in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            # Takes the lowest number that is free.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    # A test or a console may have put streams of another kind in their place.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if (given := sys.stderr) is sys.__stderr__ and given is not None:
        kept = _Unfailing(given.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(kept, given.encoding, "backslashreplace", write_through=True)


def print_answer(text: str) -> str:
    """Print the result of a command, and return why that failed; "" if it did not, or if nobody reads on."""
    try:
        print(text, flush=True)
    except OSError as error:
        # What is left in the buffer would fail again when Python ends.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return "" if isinstance(error, BrokenPipeError) else (error.strerror or str(error)).lower()
    return ""
