"""Recognising DICOM files, with or without the preamble, without the time that importing pydicom takes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Bytes before the mark.
PREAMBLE = 128
# The groups with which a file without a preamble starts: file meta information, or identification.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
_LONGEST_FIRST_VALUE = 1024


def is_dicom(path: Path) -> bool:
    """Whether a file has the DICOM mark after its preamble, or starts like a file without a preamble."""
    with path.open("rb") as stream:
        head = stream.read(PREAMBLE + 4)
    return head[PREAMBLE:] == b"DICM" or _begins_without_preamble(head)


def is_dicomdir(path: Path) -> bool:
    """Whether a file is the directory of a DICOM disk, whose images are in the folders beside it."""
    return path.name.upper() == "DICOMDIR" and is_dicom(path)


def _begins_without_preamble(head: bytes) -> bool:
    if len(head) < 12 or head[:2] not in _FIRST_GROUPS:
        return False
    if head[4:6].isalpha() and head[4:6].isupper():
        return True
    (length,) = struct.unpack_from("<I", head, 4)
    return length <= _LONGEST_FIRST_VALUE
