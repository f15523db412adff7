"""Headers of NRRD files (.nrrd, .nhdr), read without ITK, which crashes on damaged ones and ignores units of length.

The format: https://teem.sourceforge.net/nrrd/format.html. Coordinates are returned as left, posterior, superior in mm.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from ...errors import ScanError
from .. import integrity
from ..volume.axes import frames_of, one_dimension
from ..volume.stored import StoredVolume
from ..volume.text_header import TextHeader, integers, read_text_header
from ..volume.unpacking import BZIP2, DEFLATE, RAW
from .files import voxel_files
from .space import Space, by_spacings, in_space, space_of

if TYPE_CHECKING:
    from pathlib import Path

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_ENCODINGS = {"raw": RAW, "gzip": DEFLATE, "gz": DEFLATE, "bzip2": BZIP2, "bz2": BZIP2}
_MAGIC = re.compile(r"NRRD000[1-5]")
# Kinds of an axis of frames; along an axis of any other kind a voxel has several values.
_FRAMES, _SPACE = {"list", "time"}, {"domain", "space", "none", "???"}
_ONCE = frozenset(
    {
        "type",
        "dimension",
        "sizes",
        "encoding",
        "endian",
        "datafile",
        "lineskip",
        "byteskip",
        "space",
        "spacedimension",
        "spacedirections",
        "spaceorigin",
        "spaceunits",
        "spacings",
        "axismins",
        "centers",
        "kinds",
        "units",
    }
)


def nrrd(path: Path, allow_outside: bool = False) -> StoredVolume:
    """Read the header of a NRRD file; parameters as for `companion`.

    Raises
    ------
    ScanError
        The header is damaged, of an unsupported kind, or does not match the files.
    """
    header = read_text_header(path, lambda line: not line)
    if not header.lines or not _MAGIC.fullmatch(header.lines[0]):
        raise integrity.broken(path, "it has no NRRD header, so it is another type of file or cut off")
    standard = TextHeader(path, tuple(line for line in header.lines if not _is_free(line)), header.end)
    fields = standard.fields(":", _ONCE, _name)
    sizes = integers(path, "sizes", fields.get("sizes", ""))
    integrity.check_sizes(path, sizes)
    _check_dimension(path, fields, len(sizes))
    dtype, encoding = _dtype(path, fields), _encoding(path, fields)
    space = space_of(path, fields, len(sizes))
    spatial, frame_axis = _axes(path, fields, space, sizes)
    shape, _ = frames_of(path, [sizes[axis] for axis in spatial])
    frames, interleaved = (1, False) if frame_axis is None else (sizes[frame_axis], frame_axis < spatial[0])
    voxels = np.broadcast_to(np.zeros((), dtype.newbyteorder("=")), shape)
    if space.vectors is None:
        scan = by_spacings(path, fields, sizes, spatial, voxels)
    else:
        scan = in_space(path, space, spatial, voxels)
    expected = math.prod(sizes) * dtype.itemsize
    files, start, skip = voxel_files(header, fields, encoding, expected, allow_outside)
    texts = {name: value for name, found, value in map(_free, header.lines) if found}
    stored = StoredVolume(path, files, start, skip, encoding, dtype, frames, interleaved, scan, texts)
    stored.check_size()
    return stored


def _name(before: str) -> str:
    """Return the name of a field without spaces, in lower case."""
    name = before.lower().replace(" ", "")
    return "centers" if name == "centerings" else name


def _is_free(line: str) -> bool:
    """Whether a line is a comment, or a custom key with its value."""
    return line.startswith("#") or bool(_free(line)[1])


def _free(line: str) -> tuple[str, str, str]:
    """Split a line with a custom key at ":="; a field of the format ends at its first colon."""
    before, found, after = line.partition(":=")
    return (before, found, after) if ":" not in before and not line.startswith("#") else (line, "", "")


def _check_dimension(path: Path, fields: dict[str, str], count: int) -> None:
    [dimension] = integers(path, "dimension", fields.get("dimension", ""), 1)
    if dimension != count:
        raise integrity.broken(path, f"its header gives {dimension} as dimension and {count} sizes")


def _dtype(path: Path, fields: dict[str, str]) -> np.dtype:
    name = " ".join(fields.get("type", "").lower().split())
    found = next((code for code, names in _TYPES.items() if name in names), None)
    if found is None:
        raise integrity.broken(path, f"its header gives an unknown voxel type ({name[:40] or 'none'})")
    order = fields.get("endian", "").lower()
    if order not in {"little", "big"} and found[1] != "1":
        raise integrity.broken(path, "its header does not give the byte order of its voxels (endian)")
    return np.dtype(found).newbyteorder(">" if order == "big" else "<")


def _encoding(path: Path, fields: dict[str, str]) -> str:
    name = fields.get("encoding", "").lower()
    if name not in _ENCODINGS:
        raise ScanError(
            f"{path.name} stores its voxels in the encoding {name[:20] or 'unknown'}; save it with one of "
            f"{', '.join(_ENCODINGS)}."
        )
    return _ENCODINGS[name]


def _axes(path: Path, fields: dict[str, str], space: Space, sizes: list[int]) -> tuple[list[int], int | None]:
    """Return the spatial axes, fastest first, and the frame axis."""
    kinds = [kind.lower() for kind in fields.get("kinds", "").split()] or ["domain"] * len(sizes)
    if len(kinds) != len(sizes):
        raise integrity.broken(path, f"its header gives {len(kinds)} kinds, but {len(sizes)} are needed")
    if space.vectors is not None:
        spatial = [axis for axis, vector in enumerate(space.vectors) if vector is not None]
    else:
        spatial = [axis for axis, kind in enumerate(kinds) if kind in _SPACE][:3]
    others = [axis for axis in range(len(sizes)) if axis not in spatial and sizes[axis] > 1]
    for axis in others:
        if kinds[axis] == "complex":
            raise integrity.complex_valued(path)
        if kinds[axis] not in _FRAMES | _SPACE:
            raise integrity.vector(path, sizes[axis])
    if len(spatial) > 3 or len(others) > 1:
        raise ScanError(f"{path.name} has {len(sizes)} dimensions; give a scan with three, or four with time.")
    if len(spatial) < 2:
        raise one_dimension(path)
    if others and spatial[0] < others[0] < spatial[-1]:
        raise ScanError(
            f"{path.name} has its frame axis between the spatial axes; save it with that axis first or last."
        )
    return spatial, others[0] if others else None
