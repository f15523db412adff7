"""The stored numbers of DICOM images; compressed ones are decoded in a separate process.

Decoders of JPEG and related formats are native code, which crashes its process on some damaged files, or never returns.
There it may do so: the image is refused, and the next one gets a new process. Plain and RLE images are read here.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    RLELossless,
)

from ...isolation import python_command, python_environment
from .files import header_of

# Far longer than any slice takes, even on a busy machine.
PATIENCE_S = 60.0
# On top of what the process takes once it has started.
_MOST_MEMORY = 2 << 30
_LONGEST_ANSWER = 4096
_LARGEST_KEPT = 256 << 20


class UndecodableError(ValueError):
    """The decoder refused an image, crashed, or did not return."""


def transfer_syntax(path: Path) -> UID:
    """Return how the pixels of a file are packed; "" where it does not say."""
    return _syntax(path, _state(path))


def stored_pixels(path: Path, frame: int | None, syntax: UID) -> np.ndarray:
    """Return the stored numbers of an image, or of a frame of a file with several.

    Raises
    ------
    UndecodableError
        It is compressed, and could not be decoded.
    """
    packed = syntax.is_transfer_syntax and syntax.is_encapsulated and syntax != RLELossless
    return _process.unpacked(path, frame) if packed else _decoded(path, frame, syntax)


def _decoded(path: Path, frame: int | None, syntax: UID) -> np.ndarray:
    # The other decoders return part of a truncated image.
    plugin = "pylibjpeg" if syntax in JPEG2000TransferSyntaxes else ""
    with warnings.catch_warnings(action="ignore"):
        if frame is None:
            return np.asarray(pixel_array(_whole(path), decoding_plugin=plugin))
        # Of a large file pydicom reads the frame alone, and all attributes of all frames again, though.
        in_memory = not syntax.is_transfer_syntax or syntax == DeflatedExplicitVRLittleEndian
        in_memory = in_memory or path.stat().st_size <= _LARGEST_KEPT
        if in_memory and not (syntax.is_transfer_syntax and syntax.is_encapsulated):
            return _cached_frames(path, _state(path))[frame]
        source = _cached_whole(path, _state(path)) if in_memory else path
        return np.asarray(pixel_array(source, index=frame, decoding_plugin=plugin))


def _whole(path: Path) -> pydicom.Dataset:
    """Read a file with its pixels; where it does not say how they are packed, they are not."""
    data = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in data.file_meta:
        implicit = data.original_encoding[0]
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return data


# A file with many frames is asked for each of them, one after the other.
@lru_cache(maxsize=1)
def _cached_whole(path: Path, _: tuple[int, ...]) -> pydicom.Dataset:
    return _whole(path)


# Of plain pixels all frames together take little longer than one.
@lru_cache(maxsize=1)
def _cached_frames(path: Path, _: tuple[int, ...]) -> np.ndarray:
    frames = np.asarray(pixel_array(_whole(path)))
    return frames.reshape(-1, *frames.shape[-2:])


@lru_cache(maxsize=1)
def _syntax(path: Path, _: tuple[int, ...]) -> UID:
    meta = getattr(header_of(path, ["Rows"]), "file_meta", None)
    return UID((meta.get("TransferSyntaxUID") if meta else None) or "")


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes with a file."""
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


class _DecoderProcess:
    """A process that decodes one image after another, started when the first one is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def unpacked(self, path: Path, frame: int | None) -> np.ndarray:
        """Return what `_decoded` returns in that process."""
        with self._lock:
            process = self._running()
            timer = threading.Timer(PATIENCE_S, process.kill)
            timer.daemon = True
            timer.start()
            try:
                return _asked(process, {"path": str(path.absolute()), "frame": frame})
            except UndecodableError:
                raise
            # A process that has gone wrong may return anything.
            except (OSError, TypeError, ValueError, LookupError) as error:
                self.close()
                raise UndecodableError(str(error)) from error
            finally:
                timer.cancel()

    def close(self) -> None:
        """End the process, if this program started it."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
            process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None or self._owner != os.getpid():
            self.close()
            self._owner = os.getpid()
            self._process = subprocess.Popen(
                python_command(__name__),
                env=python_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process


def _asked(process: subprocess.Popen[bytes], request: dict[str, Any]) -> np.ndarray:
    """Send a request and return the answer; ValueError if there is none."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline(_LONGEST_ANSWER))
    if "error" in answer:
        raise UndecodableError(answer["error"])
    shape, dtype = answer["shape"], np.dtype(answer["dtype"])
    if dtype.kind not in "iuf" or not 0 < math.prod(shape) * dtype.itemsize <= _MOST_MEMORY:
        raise ValueError("the decoder's answer is not an image")
    values = np.empty(shape, dtype)
    left = values.reshape(-1).view(np.uint8).data
    while left:
        count = process.stdout.readinto(left)  # type: ignore[attr-defined]
        if not count:
            raise ValueError("the decoder ended")
        left = left[count:]
    return values


def _serve() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    # Output of native code must not mix with the answers.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    _limit_memory()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            path = Path(request["path"])
            values = np.ascontiguousarray(_decoded(path, request["frame"], transfer_syntax(path)))
        # Decoders raise all kinds of errors.
        except Exception as error:
            answers.write(json.dumps({"error": str(error)[:500] or type(error).__name__}).encode() + b"\n")
        else:
            answers.write(json.dumps({"shape": values.shape, "dtype": values.dtype.str}).encode() + b"\n")
            answers.write(values.tobytes())
        answers.flush()


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm") as file:
            own = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (own + _MOST_MEMORY,) * 2)


_process = _DecoderProcess()
atexit.register(_process.close)

if __name__ == "__main__":
    _serve()
