"""The standard streams of a command, which may be closed, full, or unable to print every name."""

from __future__ import annotations

import os
import sys

_STREAMS = ("stdin", "stdout", "stderr")


def prepare_streams() -> None:
    """Connect closed streams to the null device, and show characters that a stream cannot encode as escape sequences.

    The next file that is opened would otherwise get the number of a closed one, and what is printed would go into it.
    """
    for number, name in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            # Takes the lowest number that is free.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        # Not there in a stream that a test or a console has put in its place.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


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
