"""Compressed streams, unpacked block by block, so that no stream takes more memory than a few blocks."""

from __future__ import annotations

import bz2
import zlib
from typing import TYPE_CHECKING, Protocol

from .. import integrity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BLOCK = 1 << 20
_LONGEST_MAGIC = 3
RAW, DEFLATE, BZIP2 = "raw", "deflate", "bzip2"


class Unpacker(Protocol):
    """The common interface of incremental decompressors, with the names of bz2 and lzma."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def unused_data(self) -> bytes:
        """Data after the end of the stream."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Unpack more of the stream, at most this many bytes; the rest of the data is kept."""


class Inflater:
    """A zlib or gzip stream with the interface of bz2 and lzma, which keep data that is not unpacked yet."""

    def __init__(self) -> None:
        # 32 + MAX_WBITS accepts both zlib and gzip headers.
        self._stream = zlib.decompressobj(32 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        """Data after the end of the stream."""
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Unpack more of the stream, at most this many bytes; the rest of the data is kept."""
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


_UNPACKERS: dict[str, tuple[Callable[[], Unpacker], tuple[bytes, ...]]] = {
    DEFLATE: (Inflater, (b"\x1f\x8b",)),
    BZIP2: (bz2.BZ2Decompressor, (b"BZh",)),
}


def unpacked(shown: Path, file: Path, start: int, encoding: str) -> Iterator[bytes]:
    """Yield the content of a file in blocks of at most 1 MiB.

    Parameters
    ----------
    shown
        The scan, for errors.
    file
        Where the stream is.
    start
        Its first byte.
    encoding
        `RAW`, `DEFLATE` (zlib or gzip) or `BZIP2`.

    Raises
    ------
    ScanError
        The stream is damaged, which its checksum shows, or cut off.
    """
    with file.open("rb") as stream:
        stream.seek(start)
        if encoding == RAW:
            yield from iter(lambda: stream.read(BLOCK), b"")
            return
        new, magics = _UNPACKERS[encoding]
        waiting = stream.read(BLOCK)
        while True:
            unpacker = new()
            while not unpacker.eof:
                try:
                    block = unpacker.decompress(waiting, BLOCK)
                except (zlib.error, OSError) as error:
                    raise integrity.broken(shown, "its compressed voxels are damaged") from error
                waiting = b""
                if block:
                    yield block
                elif not (unpacker.eof or (waiting := stream.read(BLOCK))):
                    raise integrity.broken(shown, "it is cut off (its compressed voxels do not end)")
            waiting = unpacker.unused_data
            if len(waiting) < _LONGEST_MAGIC:
                waiting += stream.read(BLOCK)
            # Some writers concatenate several streams; anything else that follows is not voxels.
            if not waiting.startswith(magics):
                return
