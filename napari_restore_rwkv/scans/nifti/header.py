"""The header and the voxels of NIfTI files, read without ITK.

ITK returns zeros for the missing part of a truncated file and for NaN and infinities, and the voxels of p.nii for
p.nii.gz. Written by hand rather than with nibabel because every number of the header is checked before anything relies
on it; nibabel is the independent reader that the tests compare with.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ...errors import ScanError
from ..geometry import bad_geometry, check_scale
from ..integrity import broken, check_sizes, colour, complex_valued, cut_off, vector
from .place import NiftiPlace, place_in_header

if TYPE_CHECKING:
    from pathlib import Path

_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK = 1 << 20
# Of NIfTI-1.
HEADER_BYTES = 348
_NIFTI_2_HEADER_BYTES = 540
# For each version, the length of its header and the position of the mark in it.
_VERSIONS = {1: (HEADER_BYTES, 344), 2: (_NIFTI_2_HEADER_BYTES, 4)}
_FARTHEST_START = 1 << 60
# Offset and length of the free text in the header.
DESCRIPTION = (148, 80)
_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_COLOUR = {128, 2304}
_COMPLEX = {32, 1792, 2048}


@dataclass(frozen=True, slots=True)
class NiftiHeader:
    """The header of a NIfTI file.

    Attributes
    ----------
    data
        The file of the voxels: the same one, or the .img file beside a .hdr file.
    sizes
        Number of voxels along each file axis: x, y, z and time, if the file has them.
    dtype
        Type of the stored values, with their byte order.
    slope, intercept
        ``value = slope * stored + intercept``.
    data_start
        Offset of the first voxel in the unpacked file.
    place
        Position of the voxels.
    description
        Free text.
    """

    data: Path
    sizes: tuple[int, ...]
    dtype: np.dtype
    slope: float
    intercept: float
    data_start: int
    place: NiftiPlace
    description: str

    @property
    def frame_bytes(self) -> int:
        """Number of bytes of one three-dimensional frame."""
        return math.prod(self.sizes[:3]) * self.dtype.itemsize

    @property
    def frames(self) -> int:
        """Number of three-dimensional frames."""
        return self.sizes[3] if len(self.sizes) == 4 else 1


def nifti_header(path: Path) -> NiftiHeader:
    """Read the header of a NIfTI file, gzipped or not.

    Raises
    ------
    ScanError
        The file is not NIfTI, is empty, has no usable geometry, or does not have one real value per voxel.
    """
    with _unpacked(path) as stream:
        head = _read(path, stream, _NIFTI_2_HEADER_BYTES)
    for order in "<>":
        for version, (size, at) in _VERSIONS.items():
            magic = head[at : at + 4]
            if head[:4] == struct.pack(order + "i", size) and len(head) >= size:
                if magic == b"n+%d\0" % version:
                    return _checked(path, path, head, order, version)
                if magic == b"ni%d\0" % version:
                    return _checked(path, _image_of(path), head, order, version)
    if len(head) >= HEADER_BYTES and HEADER_BYTES in struct.unpack("<i", head[:4]) + struct.unpack(">i", head[:4]):
        raise ScanError(
            f"{path.name} is an ANALYZE file, or a NIfTI file with a damaged mark; ANALYZE does not tell left from "
            "right: export the scan again as .nii.gz."
        )
    raise broken(path, "it has no NIfTI header, so it is another type of file or cut off")


def is_nifti(path: Path) -> bool:
    """Whether a file name is that of a NIfTI file or of the header of one."""
    return path.name.lower().endswith((".nii", ".nii.gz", ".hdr"))


def axes_of_space(header: NiftiHeader) -> int:
    """Return the number of spatial axes."""
    return min(len(header.sizes), 3)


def space_shape(header: NiftiHeader) -> tuple[int, int, int]:
    """Return the number of voxels of one frame along z, y, x."""
    z, y, x = (*(1,) * (3 - len(header.sizes)), *header.sizes[2::-1])
    return z, y, x


def _image_of(path: Path) -> Path:
    """Return the file of the voxels beside a header file."""
    stem = path.name[: -len(path.suffix)]
    for ending in (".img", ".IMG", ".img.gz"):
        data = path.with_name(stem + ending)
        if data.is_file():
            return data
    raise ScanError(f"{path.name} keeps its voxels in {stem}.img, which is missing; put that file beside it.")


def nifti_voxels(path: Path, header: NiftiHeader, frame: int = 0) -> np.ndarray:
    """Read one frame.

    Parameters
    ----------
    path
        The file that `header` came from.
    header
        Its header.
    frame
        Which frame, from 0.

    Returns
    -------
    ndarray
        Shape (Z, Y, X) in the stored type, or float32 (float64 for stored float64) if the file has a scale.

    Raises
    ------
    ScanError
        The file is cut off or damaged, in this frame or in another.
    """
    size = header.frame_bytes
    voxels = np.empty(size, np.uint8)
    with _unpacked(header.data) as stream:
        before = _skip(path, stream, header.data_start + frame * size)
        read = _fill(path, stream, voxels.data)
        # Read to the end, where gzip keeps its checksum.
        found = before + read + _skip(path, stream, None) - header.data_start
    if found < header.frames * size:
        raise cut_off(path, found, header.frames * size)
    stored = voxels.view(header.dtype).reshape(space_shape(header))
    return scaled(header, stored)


def scaled(header: NiftiHeader, stored: np.ndarray) -> np.ndarray:
    """Apply the scale of a file to stored values."""
    stored = stored.astype(header.dtype.newbyteorder("="), copy=False)
    if (header.slope, header.intercept) == (1.0, 0.0):
        return stored
    return (stored * header.slope + header.intercept).astype(scaled_type(header))


def scaled_type(header: NiftiHeader) -> np.dtype:
    """Return the type of the values once the scale is applied."""
    stored = header.dtype.newbyteorder("=")
    if (header.slope, header.intercept) == (1.0, 0.0):
        return stored
    return np.dtype(np.float64 if stored == np.float64 else np.float32)


def _checked(path: Path, data: Path, head: bytes, order: str, version: int) -> NiftiHeader:
    """Return the header if its fields describe a scan; `order` is the byte order, "<" or ">"."""
    if version == 1:
        dimensions = struct.unpack_from(order + "8h", head, 40)
        (code,) = struct.unpack_from(order + "h", head, 70)
        start, slope, intercept = struct.unpack_from(order + "3f", head, 108)
        text = head[148:228]
    else:
        (code,) = struct.unpack_from(order + "h", head, 12)
        dimensions = struct.unpack_from(order + "8q", head, 16)
        start, slope, intercept = struct.unpack_from(order + "q2d", head, 168)
        text = head[240:320]
    sizes = list(dimensions[1 : dimensions[0] + 1]) if 0 < dimensions[0] < 8 else []
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    check_sizes(path, sizes)
    if code in _COLOUR:
        raise colour(path)
    if code in _COMPLEX:
        raise complex_valued(path)
    if code not in _TYPES:
        raise broken(path, f"its header gives an unknown voxel type ({code})")
    if len(sizes) > 4:
        raise vector(path, math.prod(sizes[4:]))
    first = _VERSIONS[version][0] if data == path else 0
    if not (first <= start < _FARTHEST_START and float(start).is_integer()):
        raise broken(path, f"its header says that the voxels start at byte {start:g}")
    place = place_in_header(head, order, version)
    _check_sizes(path, place, min(len(sizes), 3))
    # According to the standard, a slope of 0 means that there is no scale; nibabel writes NaN for that.
    if slope == 0 or math.isnan(slope):
        slope, intercept = 1.0, 0.0
    check_scale(path, slope, intercept)
    dtype = np.dtype(order + _TYPES[code])
    description = text.partition(b"\0")[0].decode("latin-1").strip()
    return NiftiHeader(data, tuple(sizes), dtype, slope, intercept, int(start), place, description)


def _check_sizes(path: Path, place: NiftiPlace, axes: int) -> None:
    """Raise ScanError if a voxel size is not a valid length."""
    steps = place.pixdim[1 : axes + 1]
    # The standard requires pixdim[1..3] to be positive; a flip belongs in the qform or sform.
    if not all(math.isfinite(step) and step > 0 for step in steps):
        raise bad_geometry(path, f"its voxel size is {' x '.join(f'{step:g}' for step in steps)} mm")


def is_gzipped(path: Path) -> bool:
    """Whether the content of a file is gzipped, whatever its name says."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP_MAGIC


def _unpacked(path: Path) -> BinaryIO | gzip.GzipFile:
    """Open a file for reading, through gzip if it is gzipped."""
    return gzip.open(path, "rb") if is_gzipped(path) else path.open("rb")


def _read(path: Path, stream: BinaryIO | gzip.GzipFile, size: int) -> bytes:
    try:
        return stream.read(size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise broken(path, "it is damaged or cut off (its gzip stream does not end properly)") from error


def _fill(path: Path, stream: BinaryIO | gzip.GzipFile, target: memoryview) -> int:
    filled = 0
    while filled < len(target) and (block := _read(path, stream, min(_BLOCK, len(target) - filled))):
        target[filled : filled + len(block)] = block
        filled += len(block)
    return filled


def _skip(path: Path, stream: BinaryIO | gzip.GzipFile, size: int | None) -> int:
    """Read on for `size` bytes, or to the end if it is None, and return how many there were."""
    skipped = 0
    while size is None or skipped < size:
        block = _read(path, stream, _BLOCK if size is None else min(_BLOCK, size - skipped))
        if not block:
            break
        skipped += len(block)
    return skipped
