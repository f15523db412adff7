"""Headers of MetaImage files (.mha, .mhd), read without ITK, which crashes, hangs or invents voxels on damaged ones.

Fields and their meaning: https://itk.org/Wiki/ITK/MetaIO/Documentation; where that says nothing, as in ITK.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ...errors import ScanError
from .. import integrity
from ..geometry import bad_geometry
from ..outside import companion
from .axes import frames_of, placed
from .stored import StoredVolume
from .text_header import TextHeader, integers, lengths, read_text_header
from .unpacking import DEFLATE, RAW

if TYPE_CHECKING:
    from pathlib import Path

    from ..scan import Scan

_TYPES = {
    "CHAR": "i1",
    "UCHAR": "u1",
    "SHORT": "i2",
    "USHORT": "u2",
    "INT": "i4",
    "UINT": "u4",
    "LONG": "i4",
    "ULONG": "u4",
    "LONG_LONG": "i8",
    "ULONG_LONG": "u8",
    "FLOAT": "f4",
    "DOUBLE": "f8",
}
_ORIGIN = ("offset", "position", "origin")
_DIRECTION = ("transformmatrix", "rotation", "orientation")
_SPACING = ("elementspacing", "elementsize")
_MILLIMETRES = {"mm": 1.0, "cm": 10.0, "um": 1e-3, "?": 1.0}
_LAST = "elementdatafile"
_KNOWN = frozenset(
    {
        "ndims",
        "dimsize",
        "headersize",
        "elementtype",
        "elementnumberofchannels",
        "binarydata",
        "binarydatabyteordermsb",
        "elementbyteordermsb",
        "compresseddata",
        "distanceunits",
        _LAST,
        *_ORIGIN,
        *_DIRECTION,
        *_SPACING,
    }
)


def metaimage(path: Path, allow_outside: bool = False) -> StoredVolume:
    """Read the header of a MetaImage file; parameters as for `companion`.

    Raises
    ------
    ScanError
        The header is damaged, of an unsupported kind, or does not match the file.
    """
    header = read_text_header(path, lambda line: line.partition("=")[0].strip().lower() == _LAST)
    fields = header.fields("=", _KNOWN, str.lower)
    if "dimsize" not in fields or _LAST not in fields or fields.get("objecttype", "Image").lower() != "image":
        raise integrity.broken(path, "it has no MetaImage header, so it is another type of file or cut off")
    sizes = integers(path, "DimSize", fields["dimsize"])
    integrity.check_sizes(path, sizes)
    [dimensions] = integers(path, "NDims", fields.get("ndims", ""), 1)
    if dimensions != len(sizes):
        raise integrity.broken(path, f"its header gives {dimensions} as NDims and {len(sizes)} numbers as DimSize")
    [channels] = integers(path, "ElementNumberOfChannels", fields.get("elementnumberofchannels", "1"), 1)
    if channels > 1:
        raise integrity.vector(path, channels)
    if channels < 1:
        raise integrity.broken(path, f"its header gives {channels} as ElementNumberOfChannels")
    shape, frames = frames_of(path, sizes)
    dtype = _dtype(path, fields)
    scan = _scan(path, fields, dimensions, shape, dtype)
    files, start = _voxels(header, fields, math.prod(sizes) * dtype.itemsize, allow_outside)
    encoding = DEFLATE if _is_true(fields.get("compresseddata", "")) else RAW
    texts = header.fields("=", frozenset(), str)
    stored = StoredVolume(path, files, start, 0, encoding, dtype, frames, False, scan, texts)
    stored.check_size()
    return stored


def _dtype(path: Path, fields: dict[str, str]) -> np.dtype:
    name = fields.get("elementtype", "").removeprefix("MET_").removesuffix("_ARRAY")
    listed = fields[_LAST].upper().startswith("LIST") or "%" in fields[_LAST]
    if name not in _TYPES or listed or not _is_true(fields.get("binarydata", "true")):
        raise ScanError(
            f"{path.name} is an unsupported kind of MetaImage (text, a list of files, or an unknown voxel type); "
            "save it as a plain .mha, .nrrd or .nii.gz file."
        )
    big = _is_true(fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "")))
    return np.dtype(_TYPES[name]).newbyteorder(">" if big else "<")


def _scan(path: Path, fields: dict[str, str], dimensions: int, shape: tuple[int, ...], dtype: np.dtype) -> Scan:
    unit = fields.get("distanceunits", "mm").lower()
    if unit not in _MILLIMETRES:
        raise bad_geometry(path, f"its DistanceUnits are {unit[:20]}, but only mm, cm and um are known")
    factor = _MILLIMETRES[unit]
    axes = min(dimensions, 3)
    steps, origin, direction = np.ones(3), np.zeros(3), np.eye(3)
    for name in reversed(_SPACING):
        if name in fields:
            steps[:axes] = lengths(path, "voxel size", fields[name], dimensions, nonzero=True)
    for name in reversed(_ORIGIN):
        if name in fields:
            origin[:axes] = lengths(path, name, fields[name], dimensions)
    for name in reversed(_DIRECTION):
        if name in fields:
            # Row by row the direction of each axis.
            cosines = lengths(path, name, fields[name], dimensions**2, used=dimensions**2)
            direction[:axes, :axes] = np.reshape(cosines, (dimensions, dimensions)).T[:axes, :axes]
    voxels = np.broadcast_to(np.zeros((), dtype.newbyteorder("=")), shape)
    return placed(path, voxels, direction, steps * factor, origin * factor)


def _voxels(
    header: TextHeader, fields: dict[str, str], expected: int, allow_outside: bool
) -> tuple[tuple[Path, ...], int]:
    """Return the file of the voxels and where they start in it."""
    path, name = header.path, fields[_LAST]
    [skipped] = integers(path, "HeaderSize", fields.get("headersize", "0"), 1)
    if name.upper() == "LOCAL":
        if skipped not in {0, header.end}:
            raise integrity.broken(path, f"its header gives {skipped} as HeaderSize and ends after {header.end} bytes")
        return (path,), header.end
    file = companion(path, name, allow_outside)
    if skipped == -1 and not _is_true(fields.get("compresseddata", "")):
        # The voxels are at the end of their file.
        skipped = max(0, file.stat().st_size - expected)
    if skipped < 0:
        raise integrity.broken(path, f"its header gives {skipped} as HeaderSize")
    return (file,), skipped


def _is_true(text: str) -> bool:
    """Whether ITK reads a text as true."""
    return text[:1] in {"t", "T", "1"}
