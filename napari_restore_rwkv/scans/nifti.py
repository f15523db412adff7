"""The header and the voxels of NIfTI files, read without ITK.

ITK returns zeros for what a cut-off file lacks and for NaN and infinities, and the voxels of p.nii for p.nii.gz.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..errors import ScanError
from .geometry import bad_geometry, check_scale
from .integrity import broken, by, colour, complex_valued, cut_off, vector

if TYPE_CHECKING:
    from pathlib import Path

_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK = 1 << 20
_HEADER_BYTES = 348
_NIFTI_2_HEADER_BYTES = 540
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
    """The header of a NIfTI-1 file.

    Attributes
    ----------
    raw
        The header itself, 348 bytes.
    sizes
        Number of voxels along each file axis: x, y, z and time, where the file has them.
    dtype
        Type of the stored values, with their byte order.
    slope, intercept
        ``value = slope * stored + intercept``.
    data_start
        Offset of the first voxel in the unpacked file.
    """

    raw: bytes
    sizes: tuple[int, ...]
    dtype: np.dtype
    slope: float
    intercept: float
    data_start: int

    @property
    def frame_bytes(self) -> int:
        """Number of bytes of one three-dimensional frame."""
        return math.prod(self.sizes[:3]) * self.dtype.itemsize

    @property
    def frames(self) -> int:
        """Number of three-dimensional frames."""
        return self.sizes[3] if len(self.sizes) == 4 else 1


def nifti_header(path: Path) -> NiftiHeader:
    """Read the header of a NIfTI file, packed with gzip or not.

    Raises
    ------
    ScanError
        The file is no single-file NIfTI, is empty, has no usable geometry, or does not hold one real value a voxel.
    """
    with _unpacked(path) as stream:
        head = _read(path, stream, _HEADER_BYTES)
    for order in "<>":
        if head[:4] == struct.pack(order + "i", _NIFTI_2_HEADER_BYTES):
            raise ScanError(f"{path.name} is a NIfTI-2 file, which is not read; save it as NIfTI-1, .nrrd or .mha.")
        if head[:4] == struct.pack(order + "i", _HEADER_BYTES) and head[344:347] == b"n+1":
            return _checked(path, head, order)
    raise broken(path, "it has no NIfTI header, so it is another kind of file or cut off")


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
        Shape (Z, Y, X) in the stored type, or float32 (float64 for stored float64) where the file has a scale.

    Raises
    ------
    ScanError
        The file is cut off or damaged, in this frame or in another.
    """
    size = header.frame_bytes
    voxels = np.empty(size, np.uint8)
    with _unpacked(path) as stream:
        before = _skip(path, stream, header.data_start + frame * size)
        read = _fill(path, stream, voxels.data)
        # To the end, where gzip keeps its checksum.
        found = before + read + _skip(path, stream, None) - header.data_start
    if found < header.frames * size:
        raise cut_off(path, found, header.frames * size)
    stored = voxels.view(header.dtype).reshape([*(1,) * (3 - len(header.sizes)), *header.sizes[2::-1]])
    stored = stored.astype(header.dtype.newbyteorder("="), copy=False)
    if (header.slope, header.intercept) == (1.0, 0.0):
        return stored
    return (stored * header.slope + header.intercept).astype(np.float64 if stored.dtype == np.float64 else np.float32)


def _checked(path: Path, head: bytes, order: str) -> NiftiHeader:
    """Return the header if its fields make a scan; `order` is the byte order, "<" or ">"."""
    dimensions = struct.unpack_from(order + "8h", head, 40)
    (code,) = struct.unpack_from(order + "h", head, 70)
    start, slope, intercept = struct.unpack_from(order + "3f", head, 108)
    sizes = list(dimensions[1 : dimensions[0] + 1]) if 0 < dimensions[0] < 8 else []
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if not sizes or min(sizes) < 1:
        raise ScanError(f"{path.name} is empty: its header gives {by(sizes)} voxels.")
    if code in _COLOUR:
        raise colour(path)
    if code in _COMPLEX:
        raise complex_valued(path)
    if code not in _TYPES:
        raise broken(path, f"its header names a voxel type that is not known ({code})")
    if len(sizes) > 4:
        raise vector(path, math.prod(sizes[4:]))
    if not (_HEADER_BYTES <= start < math.inf and start.is_integer()):
        raise broken(path, f"its header says that the voxels start at byte {start:g}")
    _check_geometry(path, head, order, min(len(sizes), 3))
    # A slope of 0 means by the standard that there is no scale; nibabel writes NaN for that.
    if slope == 0 or math.isnan(slope):
        slope, intercept = 1.0, 0.0
    check_scale(path, slope, intercept)
    return NiftiHeader(head, tuple(sizes), np.dtype(order + _TYPES[code]), slope, intercept, int(start))


def _check_geometry(path: Path, head: bytes, order: str, axes: int) -> None:
    """Raise ScanError where ITK would make 1 mm or 0 of what is not a number, or hand on a negative voxel size."""
    steps = struct.unpack_from(order + "3f", head, 80)[:axes]
    # The standard wants pixdim[1..3] positive; a flip belongs into the qform or sform.
    if not all(math.isfinite(step) and step > 0 for step in steps):
        raise bad_geometry(path, f"its voxel size is {' x '.join(f'{step:g}' for step in steps)} mm")
    qform_code, sform_code = struct.unpack_from(order + "2h", head, 252)
    place = struct.unpack_from(order + "6f", head, 256) if qform_code > 0 else ()
    place += struct.unpack_from(order + "12f", head, 280) if sform_code > 0 else ()
    if not all(math.isfinite(value) for value in place):
        raise bad_geometry(path, "its position or direction holds values that are not numbers")


def _unpacked(path: Path) -> BinaryIO | gzip.GzipFile:
    """Open a file for reading through gzip if its content is packed, whatever its name says."""
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP_MAGIC
    return gzip.open(path, "rb") if packed else path.open("rb")


def _read(path: Path, stream: BinaryIO | gzip.GzipFile, size: int) -> bytes:
    try:
        return stream.read(size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise broken(path, "it is damaged or cut off (its gzip stream does not end well)") from error


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
