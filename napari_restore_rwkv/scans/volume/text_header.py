"""Text headers of MetaImage and NRRD files: limited in size, and every number checked before anything relies on it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...untrusted import printable
from ..geometry import bad_geometry
from ..integrity import broken

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LONGEST_HEADER = 1 << 20
_SHOWN = 60
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?|[+-]?(nan|inf(inity)?)", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?\d{1,18}")
# Far more than the size of anything that is scanned, and small enough to be squared.
_LARGEST_LENGTH = 1e15


@dataclass(frozen=True, slots=True)
class TextHeader:
    """The lines of a header.

    Attributes
    ----------
    path
        The file, for errors.
    lines
        Without line ends, as Latin-1.
    end
        Where the header ends in the file, in bytes.
    """

    path: Path
    lines: tuple[str, ...]
    end: int

    def fields(self, separator: str, once: frozenset[str], name: Callable[[str], str]) -> dict[str, str]:
        """Return the values by name.

        Parameters
        ----------
        separator
            Between a name and its value.
        once
            Names that may not occur twice with different values, because it is not known which of them is right.
        name
            Turns the text before the separator into a name.
        """
        fields: dict[str, str] = {}
        for line in self.lines:
            before, found, value = line.partition(separator)
            key = name(before.strip())
            if not found:
                continue
            if key in once and fields.get(key, value.strip()) != value.strip():
                raise broken(self.path, f"its header gives {before.strip()} twice, with different values")
            fields[key] = value.strip()
        return fields


def read_text_header(path: Path, is_last: Callable[[str], bool]) -> TextHeader:
    """Read lines up to the one that ends the header, or to the end of the file.

    Raises
    ------
    ScanError
        The header is longer than 1 MiB, which no valid header is.
    """
    lines: list[str] = []
    with path.open("rb") as stream:
        while stream.tell() < _LONGEST_HEADER:
            line = stream.readline(_LONGEST_HEADER)
            if not line:
                break
            lines.append(line.decode("latin-1").strip("\r\n\t "))
            if is_last(lines[-1]):
                break
        else:
            raise broken(path, "its header does not end, so it is another type of file or damaged")
        return TextHeader(path, tuple(lines), stream.tell())


def integers(path: Path, what: str, text: str, count: int | None = None) -> list[int]:
    """Return the integers of a field; ScanError if a word is not an integer, or there are not `count` of them."""
    words = text.split()
    if not all(_INTEGER.fullmatch(word) for word in words):
        raise broken(path, f"its header gives {_short(text)} as {what}, but whole numbers are needed")
    check_count(path, what, words, count)
    return [int(word) for word in words]


def lengths(path: Path, what: str, text: str, count: int, *, used: int = 3, nonzero: bool = False) -> list[float]:
    """Return the numbers of a field.

    Parameters
    ----------
    path, what
        The file and the name of the field, for errors.
    text
        The field.
    count
        Required number of numbers.
    used
        How many of them are returned and have to be valid; those of a time axis may be anything.
    nonzero
        Whether none of them may be 0.

    Raises
    ------
    ScanError
        There are more or fewer, or not all are finite numbers.
    """
    words = text.split()
    check_count(path, what, words, count)
    words = words[:used]
    if not all(_NUMBER.fullmatch(word) for word in words):
        raise broken(path, f"its header gives {_short(text)} as {what}, but numbers are needed")
    values = [float(word) for word in words]
    if not all(math.isfinite(value) and abs(value) < _LARGEST_LENGTH and (value or not nonzero) for value in values):
        raise bad_geometry(path, f"its {what} is {_short(text)}")
    return values


def check_count(path: Path, what: str, words: list[str], count: int | None) -> None:
    """Raise ScanError unless a field has this many numbers; None allows any number."""
    if count is not None and len(words) != count:
        raise broken(path, f"its header gives {len(words)} numbers as {what}, but {count} are needed")


def _short(text: str) -> str:
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return printable(shown) or "nothing"
