"""DICOM files: finding them in folders, and reading their headers."""

from __future__ import annotations

import math
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from ...errors import ScanError
from ..integrity import broken
from .detection import PREAMBLE

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

# What pydicom, its values and the pixel decoders raise for damaged data.
DAMAGED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    BytesLengthException,
    InvalidDicomError,
    struct.error,
    zlib.error,
)
# Far larger than any slice, and far smaller than what a few megabytes of compressed zeros would become.
_MOST_INFLATED = 256 << 20
_MOST_FILES = 200_000
# The file meta information, which names the transfer syntax, is far shorter.
_LONGEST_META = 4096


def files_below(folder: Path) -> tuple[list[Path], list[str]]:
    """Return all files in a folder and its subfolders, sorted, and the names of linked folders, which are left out.

    Hidden ones and zarr folders are left out, too, without being named.

    Raises
    ------
    ScanError
        There are far too many, such as below the root of a disk.
    """
    found: list[Path] = []
    links: list[str] = []
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(".zarr"))
        links += [name for name in folders if (here / name).is_symlink()]
        found += [file for name in sorted(names) if not name.startswith(".") and (file := here / name).is_file()]
        if len(found) > _MOST_FILES:
            raise ScanError(
                f"{folder.name} contains more than {_MOST_FILES} files; give the folder of one study or series."
            )
    return found, links


def header_of(path: Path, tags: Sequence[str | int]) -> Dataset:
    """Read selected attributes of a DICOM file, but no pixels.

    Raises
    ------
    ScanError
        The file is damaged or cut off.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            _refuse_deflated_bomb(path)
            return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags), force=True)
    except DAMAGED as error:
        raise broken(path, "it is damaged or cut off") from error


def changed_tags(header: Dataset, changes: Mapping[str, Any], left_out: Container[int | str]) -> Dataset:
    """Return the attributes of a header with some replaced; the header itself is not changed.

    Parameters
    ----------
    changes
        Values by keyword.
    left_out
        Keywords or tags of the header that are left out of the result.
    """
    tags = Dataset()
    for element in header:
        # Assigning to an element would change it wherever it is in use.
        if not (element.keyword in changes or element.keyword in left_out or element.tag in left_out):
            tags.add(element)
    for name, value in changes.items():
        setattr(tags, name, value)
    return tags


def positive_private(tags: Dataset, key: int) -> float | None:
    """Return a number from a private attribute, which may be bytes; None if there is none above 0."""
    if key not in tags:
        return None
    value = tags[key].value
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    try:
        number = float(str(text).strip(" \0"))
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def is_directory(header: Dataset) -> bool:
    """Whether a header is that of the directory of a disk."""
    meta = getattr(header, "file_meta", None)
    return meta is not None and meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage


def _refuse_deflated_bomb(path: Path) -> None:
    """Raise ScanError if a deflated file expands far beyond the size of an image."""
    with path.open("rb") as stream:
        if DeflatedExplicitVRLittleEndian.encode() not in stream.read(_LONGEST_META):
            return
        meta = read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        # The length does not count its own element, which has 12 bytes.
        stream.seek(PREAMBLE + 4 + 12 + int(meta.FileMetaInformationGroupLength))
        unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not unpacker.eof and (block := stream.read(1 << 16)):
            # Behind its end a stream is padded, and what pads it stays unconsumed for ever.
            while block and not unpacker.eof and size <= _MOST_INFLATED:
                size += len(unpacker.decompress(block, 1 << 20))
                block = unpacker.unconsumed_tail
            if size > _MOST_INFLATED:
                raise ScanError(
                    f"{path.name} is a compressed DICOM file that expands beyond {_MOST_INFLATED >> 20} MB, more than "
                    "any slice; export it again without compression."
                )
