"""Strips and tiles of TIFF files, unpacked no further than they have to be: deflate, LZW and PackBits, and predictors.

The format: TIFF 6.0 (Adobe, 1992), and its technical note 3 for the predictor of values with a point. LZW is unpacked
here because native decoders of it read beyond their memory, and end the process, where a strip is damaged.
"""

from __future__ import annotations

import zlib

import numpy as np

NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773
NO_PREDICTOR, HORIZONTAL, FLOATING = 1, 2, 3
_CLEAR, _END = 256, 257
# Bits of a code, and how many codes of that length follow each other until the table is full and has to be cleared.
_LZW_CODES = ((9, 254), (10, 512), (11, 1024), (12, 2050))
# A table takes as long as a full one. Writers clear theirs when it is full, or after all codes of 9 bits.
_LEAST_TABLE_BYTES, _SHORT_TABLES = 9 * 128 // 8, 64
_TABLE_BYTES = sum(bits * count for bits, count in _LZW_CODES) // 8 + 2


class DamagedStripError(ValueError):
    """A strip or tile that cannot be unpacked."""


def unpacked(content: bytes, compression: int, most: int) -> bytes:
    """Return the bytes that a strip or tile holds.

    Parameters
    ----------
    content
        As it is stored.
    compression
        As TIFF numbers it.
    most
        How many bytes there may be.

    Raises
    ------
    DamagedStripError
        It is damaged, or holds more than that.
    """
    if compression == NONE:
        return content
    method = {LZW: _unpack_lzw, PACKBITS: _unpack_packbits}.get(compression, _inflate)
    found = method(content, most)
    if len(found) > most:
        raise DamagedStripError(f"more than {most} bytes")
    return bytes(found)


def unpredicted(stored: np.ndarray, predictor: int) -> np.ndarray:
    """Undo the differences between neighbours that some writers store, and the byte order; rows and columns stay."""
    native = stored.dtype.newbyteorder("=")
    if predictor == FLOATING:
        rows, columns = stored.shape
        summed = np.cumsum(stored.view(np.uint8).reshape(rows, -1), axis=1, dtype=np.uint8)
        # The first bytes of all values of a row, then the second ones, whatever the byte order of the file.
        planes = summed.reshape(rows, stored.dtype.itemsize, columns)
        values = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(native.newbyteorder(">"))
        return values.reshape(rows, columns).astype(native)
    values = stored.astype(native)
    return np.cumsum(values, axis=1, dtype=native) if predictor == HORIZONTAL else values


def _inflate(content: bytes, most: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(content, most + 1)
    except zlib.error as error:
        raise DamagedStripError(str(error)) from error
    if len(found) <= most and not stream.eof:
        raise DamagedStripError("cut off")
    return found


def _unpack_packbits(content: bytes, most: int) -> bytes:
    found, at = bytearray(), 0
    while at < len(content) and len(found) <= most:
        head = content[at]
        if head < 128:
            found += content[at + 1 : at + 2 + head]
            at += 2 + head
        elif head > 128:
            found += content[at + 1 : at + 2] * (257 - head)
            at += 2
        else:
            at += 1
    return bytes(found)


def _unpack_lzw(content: bytes, most: int) -> bytearray:
    found, at = bytearray(), 0
    left = len(content) // _LEAST_TABLE_BYTES + _SHORT_TABLES
    while len(found) <= most:
        left -= 1
        if not left:
            raise DamagedStripError("its table is cleared all the time")
        # Every table begins with the code that clears the one before it, the first one too.
        codes = _codes(content, at)
        if not at and codes[:1] != [_CLEAR]:
            raise DamagedStripError("it does not begin as LZW does")
        count = 1 if not at else _append_table(found, codes)
        at += sum(bits * min(max(count - before, 0), size) for bits, size, before in _WIDTHS)
        if count > len(codes) or codes[count - 1] == _END:
            break
    return found


def _append_table(found: bytearray, codes: list[int]) -> int:
    """Unpack codes up to the next one that clears the table or ends the strip; return how many were read.

    An entry of the table is a part of what is unpacked already: what an earlier code stood for, and the byte behind it.
    """
    starts: list[int] = []
    for count, code in enumerate(codes, 1):
        here = len(found)
        if code < _CLEAR:
            found.append(code)
        elif code > _END:
            entry = code - _END - 1
            if entry + 1 < len(starts):
                found += found[starts[entry] : starts[entry + 1] + 1]
            elif entry + 1 == len(starts):
                # The byte behind it is its own first one.
                found += found[starts[entry] : here]
                found.append(found[starts[entry]])
            else:
                raise DamagedStripError("an entry that is not in the table")
        else:
            return count
        starts.append(here)
    if len(codes) == _MOST_CODES:
        raise DamagedStripError("the table is never cleared")
    return len(codes) + 1


def _codes(content: bytes, at: int) -> list[int]:
    """Return the codes from a bit on, as many as there are until the table is full."""
    first = at // 8
    bits = np.unpackbits(np.frombuffer(content[first : first + _TABLE_BYTES], np.uint8))[at - 8 * first :]
    codes: list[int] = []
    for width, size in _LZW_CODES:
        count = min(size, len(bits) // width)
        codes += (bits[: count * width].reshape(count, width) @ (1 << np.arange(width)[::-1])).tolist()
        if count < size:
            break
        bits = bits[count * width :]
    return codes


_MOST_CODES = sum(size for _, size in _LZW_CODES)
_WIDTHS = tuple(
    (width, size, sum(before for _, before in _LZW_CODES[:index])) for index, (width, size) in enumerate(_LZW_CODES)
)
