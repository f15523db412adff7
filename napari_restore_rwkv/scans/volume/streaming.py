"""Volume files that allow random access, as scans whose voxels are only read when needed.

All voxels are read by this package, and no more of them than requested.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .. import integrity
from ..lazy import LazyVoxels
from ..nifti import header as nifti
from ..nifti.place import placed_scan
from ..tiff.stack import is_tiff, read_tiff, tiff_volume
from . import files as volume_files
from .axes import one_dimension
from .files import Volume, chosen_frame, volume_suffix
from .hdf5 import hdf5_volume, read_hdf5
from .stored import frame_blocks, native, read_box, read_rows
from .unpacking import DEFLATE, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ..lazy import Box
    from ..nifti.header import NiftiHeader

HDF5_SUFFIXES = (".h5", ".hdf5")


@dataclass(frozen=True, slots=True)
class Packed:
    """A frame that can only be read as a whole, because it is compressed or for another reason.

    Attributes
    ----------
    blocks
        Its bytes, followed by what comes after them.
    dtype
        Type of the stored values.
    voxels
        Converts stored values to voxels.
    """

    blocks: Iterator[bytes]
    dtype: np.dtype
    voxels: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a volume file says about its voxels before any of them is read.

    Attributes
    ----------
    volume
        Scan and header; the scan's voxels have the right shape and type, but no values.
    source
        The file of the voxels.
    read
        Reads a box of the frame, or how the frame is unpacked if that is not possible.
    """

    volume: Volume
    source: Path
    read: Callable[[Box], np.ndarray] | Packed

    @property
    def nbytes(self) -> int:
        """Bytes of the voxels in memory."""
        voxels = self.volume.scan.voxels
        return math.prod(voxels.shape) * int(np.dtype(voxels.dtype).itemsize)


def is_hdf5(path: Path) -> bool:
    """Whether a file name is that of an HDF5 file."""
    return path.suffix.lower() in HDF5_SUFFIXES


def is_volume_file(path: Path) -> bool:
    """Whether a file name is that of a volume that can be read."""
    return bool(volume_suffix(path)) or is_hdf5(path) or is_tiff(path)


def look_at(path: Path, time_index: int | None = None, *, allow_outside: bool = False) -> Layout:
    """Read the header of a NIfTI, NRRD, MetaImage, TIFF or HDF5 file, but no voxels; parameters as for `read_volume`.

    Raises
    ------
    ScanError
        The file is damaged, cut off, empty, or not a scan with one real value per voxel on a rectangular grid.
    """
    if path.stat().st_size == 0:
        raise integrity.broken(path, "it is an empty file")
    if nifti.is_nifti(path):
        return _look_at_nifti(path, time_index)
    if is_tiff(path):
        tiff = tiff_volume(path)
        frame = chosen_frame(path.name, tiff.frames, time_index)
        return Layout(Volume(tiff.scan, {}), path, partial(read_tiff, tiff, frame))
    if is_hdf5(path):
        found = hdf5_volume(path)
        frame = chosen_frame(path.name, found.frames, time_index)
        return Layout(Volume(found.scan, found.header), path, partial(read_hdf5, found, frame))
    stored = volume_files.stored_volume(path, allow_outside)
    frame = chosen_frame(path.name, stored.frames, time_index)
    packed = Packed(frame_blocks(stored, frame), stored.dtype, native)
    return Layout(
        Volume(stored.scan, stored.header), path, partial(read_box, stored, frame) if stored.in_pieces else packed
    )


def stream(layout: Layout) -> Volume:
    """Return a file that allows random access as a scan with lazy voxels."""
    if isinstance(layout.read, Packed):
        raise ValueError(f"{layout.source.name} is compressed.")
    scan = layout.volume.scan
    voxels = LazyVoxels(scan.shape, scan.voxels.dtype, layout.read, source=layout.source)
    return Volume(scan.with_voxels(voxels), layout.volume.header)


def _look_at_nifti(path: Path, time_index: int | None) -> Layout:
    header = nifti.nifti_header(path)
    if len(header.sizes) < 2:
        raise one_dimension(path)
    frame, shape = chosen_frame(path.name, header.frames, time_index), nifti.space_shape(header)
    packed = nifti.is_gzipped(header.data)
    found = header.data.stat().st_size - header.data_start
    if not packed and found < header.frames * header.frame_bytes:
        raise integrity.cut_off(path, found, header.frames * header.frame_bytes)
    placeholder = np.broadcast_to(np.zeros((), nifti.scaled_type(header)), shape)
    scan = placed_scan(path, header.place, placeholder, nifti.axes_of_space(header))
    volume, start = Volume(scan, {"descrip": header.description}), header.data_start + frame * header.frame_bytes
    if packed:
        return Layout(volume, path, Packed(_blocks(path, header, start), header.dtype, partial(nifti.scaled, header)))

    def read(box: Box) -> np.ndarray:
        return nifti.scaled(header, read_rows(path, header.data, start, header.dtype, shape, box))

    return Layout(volume, header.data, read)


def _blocks(path: Path, header: NiftiHeader, start: int) -> Iterator[bytes]:
    """Yield an unpacked stream from the first byte of a frame on; raises ScanError if it is damaged or cut off."""
    skip, found = start, 0
    for block in unpacked(path, header.data, 0, DEFLATE):
        kept = block[skip:]
        skip = max(0, skip - len(block))
        found += len(kept)
        if kept:
            yield kept
    if found < header.frame_bytes:
        raise integrity.cut_off(path, found, header.frame_bytes)
