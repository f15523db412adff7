"""Where the voxels of a NRRD file are: after its header, in a file beside it, or in several."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .. import integrity
from ..outside import companion
from ..volume.text_header import TextHeader, integers
from ..volume.unpacking import RAW

if TYPE_CHECKING:
    from pathlib import Path

_PATTERN = re.compile(r"([^%]*)%(0?\d?)d([^%]*)")
# Pattern, first and last number, step, and the number of dimensions of each file, which follows from their order.
_SERIES = re.compile(r"(.+?)\s+(\d{1,9})\s+(\d{1,9})\s+(-?\d{1,9})(\s+\d)?")
# More slices than any scan has.
_MOST_FILES = 100_000
_LONGEST_LINE = 1 << 20


def voxel_files(
    header: TextHeader, fields: dict[str, str], encoding: str, expected: int, allow_outside: bool
) -> tuple[tuple[Path, ...], int, int]:
    """Return the files of the voxels.

    Parameters
    ----------
    header, fields
        Of the file.
    encoding
        As for `unpacked`.
    expected
        Bytes of all voxels.
    allow_outside
        As for `companion`.

    Returns
    -------
    tuple
        The files, the offset of the voxels or their stream in each, and how many bytes of the stream precede the
        voxels.

    Raises
    ------
    ScanError
        A file is missing or outside the folder, or a field is damaged.
    """
    path = header.path
    names = _names(header, fields.get("datafile", ""))
    files = tuple(companion(path, name, allow_outside) for name in names) or (path,)
    [lines] = integers(path, "line skip", fields.get("lineskip", "0"), 1)
    [skip] = integers(path, "byte skip", fields.get("byteskip", "0"), 1)
    start = 0 if names else header.end
    if lines < 0 or skip < -1 or (skip == -1 and encoding != RAW) or (len(files) > 1 and (lines or skip)):
        raise integrity.broken(path, f"its header gives {lines} as line skip and {skip} as byte skip")
    if skip == -1:
        # The voxels are at the end of their file.
        return files, max(start, files[0].stat().st_size - expected), 0
    return files, _after_lines(path, files[0], start, lines), skip


def _names(header: TextHeader, text: str) -> list[str]:
    """Return the file names of a "data file" field, none if the voxels follow the header."""
    words = text.split()
    if words[:1] == ["LIST"]:
        at = next(index for index, line in enumerate(header.lines) if _begins_list(line))
        return [line for line in header.lines[at + 1 :] if line]
    if "%" not in text:
        return [text] if text else []
    series = _SERIES.fullmatch(text)
    pattern = None if series is None else _PATTERN.fullmatch(series[1])
    if series is None or pattern is None:
        raise integrity.broken(
            header.path, 'its "data file" is not a pattern with one number, such as "slice%03d.raw 1 20 1"'
        )
    first, last, step = (int(word) for word in series.groups()[1:4])
    count = 0 if step == 0 else (last - first) // step + 1
    if not 0 < count <= _MOST_FILES:
        raise integrity.broken(header.path, f"its data files from {first} to {last} in steps of {step} do not exist")
    before, width, after = pattern.groups()
    return [f"{before}{number:{width}d}{after}" for number in range(first, first + count * step, step)]


def _begins_list(line: str) -> bool:
    """Whether a line is the "data file" field of a list; comments and other fields may contain the word."""
    before, _, after = line.partition(":")
    return before.lower().replace(" ", "") == "datafile" and after.split()[:1] == ["LIST"]


def _after_lines(path: Path, file: Path, start: int, lines: int) -> int:
    with file.open("rb") as stream:
        stream.seek(start)
        for _ in range(lines):
            if not stream.readline(_LONGEST_LINE).endswith(b"\n"):
                raise integrity.broken(path, f"it has fewer lines than the {lines} that its header says to skip")
        return stream.tell()
