"""How a good file is damaged: by a generator with a seed, so that every input can be made again from its number."""

import re

import numpy as np

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_]{2,}")
_NUMBERS = [
    b"0",
    b"-1",
    b"1",
    b"-0.0",
    b"nan",
    b"inf",
    b"-inf",
    b"1e308",
    b"1e-308",
    b"1e309",
    b"99999999999999999999",
    b"2147483647",
    b"2147483648",
    b"4294967295",
    b"-2147483648",
    b"9223372036854775807",
    b"65536",
    b"3.5",
    b"1 2 3",
    b"",
    b"x",
    b"0x10",
    b"1_0",
]
_WORDS = [
    b"",
    b"%s%n",
    b"../../../etc/passwd",
    b"/dev/zero",
    b"LIST",
    b"LOCAL",
    b"True",
    b"False",
    b"none",
    b"null",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b"A" * 5000,
    b"true",
    b"gzip",
    b"raw",
    b"pickle",
    b"double",
    b"block",
    b"complex",
    b"\x00",
]
_VALUES = [
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 62,
    (1 << 64) - 1,
]


def mutated(content: bytes, rng: np.random.Generator, head: int) -> bytes:
    """Return a damaged copy of a file, by one to four changes, most of them in its first `head` bytes."""
    for _ in range(int(rng.choice([1, 1, 1, 2, 2, 3, 4]))):
        change = _CHANGES[rng.integers(len(_CHANGES))]
        end = min(len(content), head) if rng.random() < 0.8 else len(content)
        content = change(content, rng, max(end, 1))
    return content


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a copy with one bit flipped."""
    at = int(rng.integers(len(content)))
    return content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :]


def _flip(content, rng, end):
    return content if not content else flipped(content[:end], rng) + content[end:]


def _cut(content, rng, end):
    return content[: int(rng.integers(len(content) + 1))]


def _integer(content, rng, end):
    size = int(rng.choice([1, 2, 4, 8]))
    at = int(rng.integers(end))
    value = _VALUES[rng.integers(len(_VALUES))] & (1 << 8 * size) - 1
    return content[:at] + value.to_bytes(size, "little" if rng.random() < 0.7 else "big") + content[at + size :]


def _float(content, rng, end):
    at = int(rng.integers(max(1, end // 4))) * 4
    value = np.float32(rng.choice([np.nan, np.inf, -np.inf, 0, -1, 1e38, 1e-38]))
    return content[:at] + value.tobytes() + content[at + 4 :]


def _insert(content, rng, end):
    at = int(rng.integers(end))
    return content[:at] + rng.bytes(int(rng.integers(1, 20))) + content[at:]


def _delete(content, rng, end):
    at = int(rng.integers(end))
    return content[:at] + content[at + int(rng.integers(1, 40)) :]


def _repeat(content, rng, end):
    at = int(rng.integers(end))
    part = content[at : at + int(rng.integers(1, 200))]
    return content[:at] + part * int(rng.integers(2, 6)) + content[at:]


def _replace(content, rng, end, pattern, values):
    found = list(pattern.finditer(content[:end]))
    if not found:
        return _flip(content, rng, end)
    match = found[rng.integers(len(found))]
    return content[: match.start()] + values[rng.integers(len(values))] + content[match.end() :]


def _number(content, rng, end):
    return _replace(content, rng, end, _NUMBER, _NUMBERS)


def _word(content, rng, end):
    return _replace(content, rng, end, _WORD, _WORDS)


def _lines(content, rng, end):
    lines = content[:end].split(b"\n")
    at, other = rng.integers(len(lines), size=2)
    what = rng.integers(3)
    if what == 0:
        del lines[at]
    elif what == 1:
        lines.insert(other, lines[at])
    else:
        lines[at], lines[other] = lines[other], lines[at]
    return b"\n".join(lines) + content[end:]


_CHANGES = [
    _flip,
    _flip,
    _cut,
    _integer,
    _integer,
    _float,
    _insert,
    _delete,
    _repeat,
    _number,
    _number,
    _number,
    _word,
    _lines,
]
