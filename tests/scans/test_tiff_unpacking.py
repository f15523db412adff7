"""Strips of TIFF files unpacked here, against imagecodecs; damaged ones against LZW as TIFF 6.0 has it."""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest

from napari_restore_rwkv.scans.tiff.unpacking import (
    DEFLATE,
    FLOATING,
    LZW,
    PACKBITS,
    DamagedStripError,
    unpacked,
    unpredicted,
)

PACK = {
    LZW: imagecodecs.lzw_encode,
    PACKBITS: imagecodecs.packbits_encode,
    DEFLATE: imagecodecs.zlib_encode,
}


def contents(rng):
    noise = rng.normal(1000, 20, (60, 500)).astype("<u2").tobytes()
    return [b"", b"a", noise, rng.bytes(30_000), bytes(200_000), b"abab" * 9000, bytes(range(256)) * 100]


@pytest.mark.parametrize("method", PACK)
def test_packed_data_are_unpacked(method, rng):
    for content in contents(rng):
        assert unpacked(PACK[method](content), method, len(content)) == content
        assert unpacked(PACK[method](content), method, len(content) + 7) == content


@pytest.mark.slow
@pytest.mark.parametrize("method", PACK)
def test_nothing_is_unpacked_beyond_the_limit(method):
    packed = PACK[method](bytes(1_000_000))
    with pytest.raises(DamagedStripError, match="more than 100 bytes"):
        unpacked(packed, method, 100)


def _lzw(packed, most):
    """Unpack LZW as TIFF 6.0 describes it, code by code; None where it is damaged."""
    bits = "".join(f"{byte:08b}" for byte in packed)
    found, table, at, before, first = b"", [], 0, None, True
    while True:
        entries = 258 + len(table)
        width = 9 + sum(entries >= limit for limit in (511, 1023, 2047))
        if at + width > len(bits):
            return None if first else found
        code, at = int(bits[at : at + width], 2), at + width
        if first and code != 256:
            return None
        if code == 257:
            return found
        if code == 256:
            table, before, first = [], None, False
            continue
        if code < 256:
            entry = bytes([code])
        elif code < entries:
            entry = table[code - 258]
        elif code == entries and before is not None:
            entry = before + before[:1]
        else:
            return None
        if before is not None:
            table.append(before + entry[:1])
        before = entry
        found += entry
        if len(found) > most or entries > 4097:
            return None


@pytest.mark.slow
def test_damaged_lzw_is_refused_or_read_as_the_format_says(rng):
    """Single changed bytes of such strips made native decoders read beyond their memory, and ended the process."""
    good = np.frombuffer(imagecodecs.lzw_encode(rng.integers(0, 3000, (16, 16), dtype="<u2").tobytes()), np.uint8)
    seen = {True: 0, False: 0}
    for _ in range(1500):
        bad = good.copy()
        bad[rng.integers(len(bad), size=rng.integers(1, 5))] = rng.integers(256)
        packed = bad[: rng.integers(len(bad) + 1)].tobytes() if rng.random() < 0.3 else bad.tobytes()
        expected = _lzw(packed, 512)
        try:
            found = unpacked(packed, LZW, 512)
        except DamagedStripError:
            found = None
        seen[found is None] += 1
        assert found == expected
    assert min(seen.values()) > 100


def test_a_table_that_is_never_cleared_is_refused():
    packed = imagecodecs.lzw_encode(np.arange(60_000, dtype="<u2").tobytes())
    bits = "".join(f"{byte:08b}" for byte in packed)
    cleared = 9 + 254 * 9 + 512 * 10 + 1024 * 11 + 2048 * 12
    assert bits[cleared : cleared + 12] == f"{256:012b}"
    endless = bits[:cleared] + f"{5:012b}" * 4000
    with pytest.raises(DamagedStripError, match="never cleared"):
        unpacked(bytes(int(endless[at : at + 8], 2) for at in range(0, len(endless) - 8, 8)), LZW, 1 << 30)


def test_tables_that_are_cleared_all_the_time_are_refused():
    """Each takes as long as a full one, so that a megabyte of them would take minutes."""
    packed = np.packbits(np.tile([1] + [0] * 8, 100_000)).tobytes()
    with pytest.raises(DamagedStripError, match="cleared all the time"):
        unpacked(packed, LZW, 1 << 30)


@pytest.mark.parametrize(
    ("method", "packed"),
    [
        (DEFLATE, b""),
        (DEFLATE, zlib.compress(bytes(100))[:-1]),
        (DEFLATE, b"no stream"),
        (LZW, b""),
        (LZW, struct.pack("<4I", 1, 2, 3, 4)),
    ],
)
def test_data_that_are_not_a_stream_are_refused(method, packed):
    with pytest.raises(DamagedStripError):
        unpacked(packed, method, 100)


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
def test_the_predictor_of_floating_point_values(dtype, rng):
    values = rng.normal(0, 1e3, (7, 11)).astype(dtype)
    stored = imagecodecs.floatpred_encode(values.astype(values.dtype.newbyteorder("=")), axis=-1)
    found = unpredicted(np.frombuffer(stored.tobytes(), dtype).reshape(7, 11), FLOATING)
    np.testing.assert_array_equal(found, values)
    assert found.dtype.isnative
