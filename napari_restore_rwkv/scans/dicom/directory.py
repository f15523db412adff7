"""The directory of a DICOM disk, DICOMDIR (DICOM PS3.10): which of the files that it lists are not there."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pydicom

from .files import DAMAGED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def missing_files(directory: Path, found: Iterable[Path]) -> list[str]:
    """Return the files that a DICOMDIR lists, relative to it, without those found; none if the list is damaged."""
    folder = directory.parent
    there = {_plain(file.relative_to(folder).parts) for file in found if file.is_relative_to(folder)}
    try:
        with warnings.catch_warnings(action="ignore"):
            records = pydicom.dcmread(directory, force=True).DirectoryRecordSequence
            listed = [record.ReferencedFileID for record in records if record.get("ReferencedFileID")]
            named = [[one] if isinstance(one, str) else [str(part) for part in one] for one in listed]
    except DAMAGED:
        return []
    return ["/".join(parts) for parts in named if _plain(parts) not in there]


def _plain(parts: Iterable[str]) -> tuple[str, ...]:
    """Return the parts of a path as every system writes them: disks differ in capitals, versions (";1") and dots."""
    return tuple(part.partition(";")[0].rstrip(".").lower() for part in parts)
