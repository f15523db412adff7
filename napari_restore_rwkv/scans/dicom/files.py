"""DICOM files: which files are some, with or without the preamble, and what their headers say."""

from __future__ import annotations

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
_PREAMBLE = 128
# The groups with which a file without a preamble begins: of the file itself, or of the identification.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
_LONGEST_FIRST_VALUE = 1024
# Far above any slice, and far below what a few megabytes of packed zeros would become.
_MOST_INFLATED = 256 << 20
_MOST_FILES = 200_000
# The file's own attributes, which name the transfer syntax, are far shorter.
_LONGEST_META = 4096


def is_dicom(path: Path) -> bool:
    """Whether a file carries the DICOM mark after its preamble, or begins as a file does that lacks the preamble."""
    with path.open("rb") as stream:
        head = stream.read(_PREAMBLE + 4)
    return head[_PREAMBLE:] == b"DICM" or _begins_without_preamble(head)


def is_dicomdir(path: Path) -> bool:
    """Whether a file is the directory of a DICOM disk, whose images lie in the folders beside it."""
    return path.name.upper() == "DICOMDIR" and is_dicom(path)


def files_below(folder: Path) -> list[Path]:
    """Return all files of a folder and the folders in it, sorted, without hidden ones and zarr folders.

    Raises
    ------
    ScanError
        There are far too many, such as below the root of a disk.
    """
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(".zarr"))
        found += [file for name in sorted(names) if not name.startswith(".") and (file := here / name).is_file()]
        if len(found) > _MOST_FILES:
            raise ScanError(
                f"{folder.name} holds more than {_MOST_FILES} files; give the folder of one study or series."
            )
    return found


def header_of(path: Path, tags: Sequence[str | int]) -> Dataset:
    """Read chosen attributes of a DICOM file, and no pixels.

    Raises
    ------
    ScanError
        The file is damaged or cut off.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _refuse_deflated_bomb(path)
            return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags), force=True)
    except DAMAGED as error:
        raise broken(path, "it is damaged or cut off") from error


def changed_tags(header: Dataset, changes: Mapping[str, Any], left_out: Container[int | str]) -> Dataset:
    """Return the attributes of a header with others in their place; those of the header stay as they are.

    Parameters
    ----------
    changes
        Values by keyword.
    left_out
        Keywords or tags of the header that are not among the result.
    """
    tags = Dataset()
    for element in header:
        # An element that is assigned to is changed wherever it is in use.
        if not (element.keyword in changes or element.keyword in left_out or element.tag in left_out):
            tags.add(element)
    for name, value in changes.items():
        setattr(tags, name, value)
    return tags


def is_directory(header: Dataset) -> bool:
    """Whether a header is that of the directory of a disk."""
    meta = getattr(header, "file_meta", None)
    return meta is not None and meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage


def _begins_without_preamble(head: bytes) -> bool:
    if len(head) < 12 or head[:2] not in _FIRST_GROUPS:
        return False
    if head[4:6].isalpha() and head[4:6].isupper():
        return True
    (length,) = struct.unpack_from("<I", head, 4)
    return length <= _LONGEST_FIRST_VALUE


def _refuse_deflated_bomb(path: Path) -> None:
    """Raise ScanError where a deflated file becomes far larger than an image is."""
    with path.open("rb") as stream:
        if DeflatedExplicitVRLittleEndian.encode() not in stream.read(_LONGEST_META):
            return
        meta = read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        # The length does not count the element that it stands in, which has 12 bytes.
        stream.seek(_PREAMBLE + 4 + 12 + int(meta.FileMetaInformationGroupLength))
        unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not unpacker.eof and (block := stream.read(1 << 16)):
            while block and size <= _MOST_INFLATED:
                size += len(unpacker.decompress(block, 1 << 20))
                block = unpacker.unconsumed_tail
            if size > _MOST_INFLATED:
                raise ScanError(
                    f"{path.name} is a packed DICOM file that grows beyond {_MOST_INFLATED >> 20} MB, which no slice "
                    "needs; export it again without compression."
                )
