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
from ..nifti.header import NiftiHeader, axes_of_space, is_nifti, nifti_header, space_shape
from ..nifti.place import placed_scan
from ..tiff.stack import TiffVolume, is_tiff, read_tiff, tiff_volume
from . import files as volume_files
from .axes import one_dimension
from .files import Volume, chosen_frame, volume_suffix
from .hdf5 import Hdf5Volume, hdf5_volume, read_hdf5
from .stored import StoredVolume, read_box

if TYPE_CHECKING:
    from pathlib import Path

    from ..lazy import Box

HDF5_SUFFIXES = (".h5", ".hdf5")
_PACKED_NIFTI = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Layout:
    """What a volume file says about its voxels before any of them is read.

    Attributes
    ----------
    volume
        Scan and header; the scan's voxels have the right shape and type, but no values.
    packed
        Whether the voxels can only be read as a whole, because they are compressed or for another reason.
    time_index
        The requested frame, None for a three-dimensional file.
    stored
        What the header of a MetaImage or NRRD says; None for other files.
    hdf5
        What an HDF5 file says; None for other files.
    tiff
        What a TIFF file says; None for other files.
    """

    volume: Volume
    packed: bool
    time_index: int | None
    stored: StoredVolume | None = None
    hdf5: Hdf5Volume | None = None
    tiff: TiffVolume | None = None

    @property
    def frame(self) -> int:
        """The frame to read, from 0."""
        return self.time_index or 0

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
    if is_nifti(path):
        return _look_at_nifti(path, time_index)
    if is_tiff(path):
        tiff = tiff_volume(path)
        chosen_frame(path.name, tiff.frames, time_index)
        return Layout(Volume(tiff.scan, {}), False, time_index, tiff=tiff)
    if not is_hdf5(path):
        stored = volume_files.stored_volume(path, allow_outside)
        chosen_frame(path.name, stored.frames, time_index)
        return Layout(Volume(stored.scan, stored.header), not stored.in_pieces, time_index, stored)
    found = hdf5_volume(path)
    chosen_frame(path.name, found.frames, time_index)
    return Layout(Volume(found.scan, found.header), False, time_index, hdf5=found)


def stream(path: Path, layout: Layout) -> Volume:
    """Return an uncompressed file as a scan with lazy voxels."""
    if layout.packed:
        raise ValueError(f"{path.name} is compressed.")
    scan = layout.volume.scan
    if is_nifti(path):
        voxels = _nifti_voxels(path, nifti_header(path), layout.frame, scan.shape)
    else:
        if layout.stored is not None:
            read = partial(read_box, layout.stored, layout.frame)
        elif layout.tiff is not None:
            read = partial(read_tiff, layout.tiff, layout.frame)
        else:
            assert layout.hdf5 is not None
            read = partial(read_hdf5, layout.hdf5, layout.frame)
        voxels = LazyVoxels(scan.shape, scan.voxels.dtype, read, source=path)
    return Volume(scan.with_voxels(voxels), layout.volume.header)


def _look_at_nifti(path: Path, time_index: int | None) -> Layout:
    header = nifti_header(path)
    if len(header.sizes) < 2:
        raise one_dimension(path)
    chosen_frame(path.name, header.frames, time_index)
    with header.data.open("rb") as file:
        packed = file.read(2) == _PACKED_NIFTI
    found = header.data.stat().st_size - header.data_start
    if not packed and found < header.frames * header.frame_bytes:
        raise integrity.cut_off(path, found, header.frames * header.frame_bytes)
    voxels = np.broadcast_to(np.zeros((), scaled_type(header)), space_shape(header))
    scan = placed_scan(path, header.place, voxels, axes_of_space(header))
    return Layout(Volume(scan, {"descrip": header.description}), packed, time_index)


def scaled_type(header: NiftiHeader) -> np.dtype:
    """Return the type of the values of a NIfTI file, once its scale is applied."""
    stored = header.dtype.newbyteorder("=")
    if (header.slope, header.intercept) == (1.0, 0.0):
        return stored
    return np.dtype(np.float64 if stored == np.float64 else np.float32)


def scaled(stored: np.ndarray, header: NiftiHeader) -> np.ndarray:
    """Apply the scale of a NIfTI file to stored values, as `nifti_voxels` does."""
    stored = stored.astype(header.dtype.newbyteorder("="), copy=False)
    if (header.slope, header.intercept) == (1.0, 0.0):
        return stored
    return (stored * header.slope + header.intercept).astype(scaled_type(header))


def _nifti_voxels(path: Path, header: NiftiHeader, frame: int, shape: tuple[int, int, int]) -> LazyVoxels:
    start = header.data_start + frame * header.frame_bytes
    row_bytes = shape[2] * header.dtype.itemsize

    def read(box: Box) -> np.ndarray:
        z, y, x = box
        rows = y.stop - y.start
        block = np.empty((z.stop - z.start, rows, shape[2]), header.dtype)
        with header.data.open("rb", buffering=0) as file:
            for at, index in enumerate(range(z.start, z.stop)):
                file.seek(start + (index * shape[1] + y.start) * row_bytes)
                if file.readinto(block[at].reshape(-1).view(np.uint8).data) != rows * row_bytes:
                    raise integrity.broken(path, f"slice {index} is cut off")
        return scaled(block[..., x], header)

    return LazyVoxels(shape, scaled_type(header), read, source=header.data)
