"""Checks, before unpacking, whether a compressed chunk can be what its array says.

Decoders trust what a chunk says about its own length: a truncated blosc chunk makes them read beyond its end, and a
chunk of a few bytes can make them allocate gigabytes.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from typing import TYPE_CHECKING

from ...errors import ScanError
from ..volume.unpacking import Inflater

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..volume.unpacking import Unpacker

_BLOCK = 1 << 20
# Header of a blosc chunk: versions, flags, size of an item, bytes unpacked, of a block, and packed.
_BLOSC = struct.Struct("<4B3I")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_BLOCK = 128 << 10
# Writers that do not know the length beforehand fill their blocks at least this far, on average.
_SLACK = 4


class DamagedChunk(ScanError):
    """A chunk that is not what its array says; the text becomes part of the message about the scan."""


def check_chunk(method: str, packed: bytes, expected: int, exact: bool = True) -> None:
    """Raise DamagedChunk unless a chunk unpacks to the expected number of bytes.

    Parameters
    ----------
    method
        "blosc", "zstd", "gzip", "zlib", "bz2", "lzma" or "lz4".
    packed
        The chunk.
    expected
        Bytes that it has to unpack to.
    exact
        Whether it has to be exactly this many, rather than at most.
    """
    least = expected if exact else 0
    found = _CHECKS[method](packed, expected)
    if not least <= found <= expected:
        raise DamagedChunk(f"a chunk of {expected} bytes would unpack to {found}")


def _blosc(packed: bytes, expected: int) -> int:
    """Return how many bytes a blosc chunk says that it holds, after checking that its length is what it says."""
    if len(packed) < _BLOSC.size:
        raise DamagedChunk("a chunk is cut off")
    _, _, flags, _, unpacked, _, length = _BLOSC.unpack_from(packed)
    if length != len(packed):
        raise DamagedChunk(f"a chunk of {length} bytes has {len(packed)}")
    # Stored uncompressed.
    if flags & 2 and unpacked + _BLOSC.size > length:
        raise DamagedChunk("a chunk is cut off")
    return int(unpacked)


def _zstd(packed: bytes, expected: int) -> int:
    """Return how many bytes a zstd frame says that it holds, or the expected number if it cannot hold many more."""
    if packed[:4] != _ZSTD_MAGIC or len(packed) < 9:
        raise DamagedChunk("a chunk does not start with a zstd frame, or is cut off")
    descriptor = packed[4]
    single = bool(descriptor & 32)
    at = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    width = (int(single), 2, 4, 8)[descriptor >> 6]
    content = int.from_bytes(packed[at : at + width], "little") + (256 if width == 2 else 0)
    at += width
    most, last = 0, False
    while not last:
        if at + 3 > len(packed):
            raise DamagedChunk("a chunk is cut off")
        head = int.from_bytes(packed[at : at + 3], "little")
        last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        at += 3 + (1 if kind == 1 else size)
        most += _ZSTD_BLOCK if kind == 2 else size
    at += 4 if descriptor & 4 else 0
    if at != len(packed):
        raise DamagedChunk(f"a chunk of {at} bytes has {len(packed)}")
    if width:
        return content
    return expected if most <= _SLACK * max(expected, _ZSTD_BLOCK) else most


def _lz4(packed: bytes, _: int) -> int:
    if len(packed) < 4:
        raise DamagedChunk("a chunk is cut off")
    return int.from_bytes(packed[:4], "little")


def _counted(new: Callable[[], Unpacker]) -> Callable[[bytes, int], int]:
    """Return a function that unpacks a chunk, discards the bytes and counts them, up to just more than expected."""

    def count(packed: bytes, expected: int) -> int:
        stream, found, waiting = new(), 0, packed
        try:
            while not stream.eof and found <= expected:
                block = stream.decompress(waiting, _BLOCK)
                if not (block or waiting or stream.eof):
                    raise DamagedChunk("a chunk is cut off")
                waiting = b""
                found += len(block)
            if stream.unused_data:
                raise DamagedChunk("a chunk continues after its end")
        except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
            raise DamagedChunk("a chunk is damaged") from error
        return found

    return count


_CHECKS: dict[str, Callable[[bytes, int], int]] = {
    "blosc": _blosc,
    "zstd": _zstd,
    "lz4": _lz4,
    "gzip": _counted(Inflater),
    "zlib": _counted(Inflater),
    "bz2": _counted(bz2.BZ2Decompressor),
    "lzma": _counted(lzma.LZMADecompressor),
}
METHODS = frozenset(_CHECKS)
