"""Writes scans of any size to volume files, a few slices at a time.

ITK writes a header for the first slice alone; the number of slices is then corrected, and the voxels are appended.
"""

from __future__ import annotations

import gzip
import os
from contextlib import closing
from typing import IO, TYPE_CHECKING

import numpy as np

from ..errors import OutputError, ScanError
from ..progress import Phase, Progress
from ..storage.durable import creating_errors, put_in_place, sync_file
from ..storage.temporary import TemporaryFolder
from ..storage.uninterrupted import uninterrupted
from .lazy import LARGE_BYTES
from .nifti.header import nifti_header
from .opening import opening
from .options import OpenOptions
from .scan import same_as_written
from .volume.files import volume_suffix
from .writing import our_record, write_scan

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from .scan import Scan

_SLICES = 16
# NIfTI-1 counts voxels along an axis in 16 bits.
_MOST_NIFTI = 32767
_SUFFIXES = (".nii", ".nii.gz", ".mha")


def export_scan(
    scan: Scan, path: Path, *, large: int = LARGE_BYTES, overwrite: bool = True
) -> Generator[Progress, None, None]:
    """Write a scan of any size: a small one as `write_scan` does, a large one slab by slab.

    Iterate it for `Progress` in slices. An existing file is replaced only once the new one is complete and checked.

    Parameters
    ----------
    scan
        Voxels may be lazy.
    path
        As for `write_scan`; large scans can be written to .nii, .nii.gz and .mha.
    large
        Scans with more bytes of voxels than this are large.
    overwrite
        As for `write_scan`.

    Raises
    ------
    OutputError
        As `write_scan` does, and if the format does not support large scans.
    """
    dtype = np.dtype(scan.voxels.dtype)
    if int(np.prod(scan.shape, dtype=np.int64)) * dtype.itemsize <= large:
        write_scan(scan, path, overwrite=overwrite)
        return
    suffix = check_large(scan.shape, path)
    with creating_errors(path), TemporaryFolder(path.parent) as folder:
        plain = suffix.removesuffix(".gz")
        first = folder / f"first{plain}"
        write_scan(scan.with_voxels(np.asarray(scan.voxels[:1])), first)
        header = _header(first, plain, scan)
        with _opened(folder / path.name) as stream:
            stream.write(header)
            for slices in slabs_of(scan):
                stream.write(np.ascontiguousarray(scan.voxels[slices.start : slices.stop]).tobytes())
                yield Progress(Phase.WRITING, slices.stop, 2 * scan.shape[0])
        with closing(_compared(scan, folder / path.name, folder)) as steps:
            yield from steps
        sync_file(folder / path.name)
        record = first.with_name(f"{first.name}.json")
        # As in `write_scan`: no record of this program may stay beside a file that it does not describe.
        stale = our_record(path)
        with uninterrupted():
            put_in_place(folder / path.name, path, overwrite)
            if record.exists():
                os.replace(record, path.with_name(f"{path.name}.json"))
            elif stale is not None:
                stale.unlink()


def check_large(shape: tuple[int, int, int], path: Path) -> str:
    """Return the suffix of a file for a large scan; OutputError if its format does not support its size."""
    suffix = volume_suffix(path)
    if suffix not in _SUFFIXES:
        raise OutputError(f"{path.name} cannot be written: for scans of this size choose {', '.join(_SUFFIXES)}.")
    if suffix != ".mha" and shape[0] > _MOST_NIFTI:
        raise OutputError(
            f"{path.name} cannot be written: NIfTI holds {_MOST_NIFTI} slices, not {shape[0]}; choose .mha."
        )
    return suffix


def _header(first: Path, suffix: str, scan: Scan) -> bytes:
    """Return what precedes the voxels in a file of one slice, with the number of slices corrected."""
    content = first.read_bytes()
    header = content[: len(content) - int(np.prod(scan.shape[1:])) * np.dtype(scan.voxels.dtype).itemsize]
    if suffix == ".mha":
        _, y, x = scan.shape
        return header.replace(f"DimSize = {x} {y} 1\n".encode(), f"DimSize = {x} {y} {scan.shape[0]}\n".encode())
    written = nifti_header(first)
    sizes = bytearray(header)
    # dim[0] is the number of dimensions, dim[3] that of slices.
    sizes[40:42] = (3).to_bytes(2, "little")
    sizes[46:48] = scan.shape[0].to_bytes(2, "little")
    return bytes(sizes[: written.data_start])


def _opened(path: Path) -> IO[bytes] | gzip.GzipFile:
    if path.name.lower().endswith(".gz"):
        # As fast as `write_scan`, for the same reason.
        return gzip.open(path, "wb", compresslevel=3)
    return path.open("wb")


def slabs_of(scan: Scan) -> Iterator[range]:
    """Yield the indices of a few slices at a time."""
    for start in range(0, scan.shape[0], _SLICES):
        yield range(start, min(start + _SLICES, scan.shape[0]))


def _compared(scan: Scan, path: Path, folder: Path) -> Generator[Progress, None, None]:
    """Read the file back; OutputError unless voxels and geometry are those of the scan."""
    incomplete = OutputError(
        f"{path.name} cannot be written: it reads back differently than it was written; try another disk."
    )
    try:
        written = yield from opening(path, OpenOptions(modality=scan.modality, large=0, folder=folder))
        for slices in slabs_of(scan):
            part = slice(slices.start, slices.stop)
            if np.asarray(scan.voxels[part]).tobytes() != np.asarray(written.voxels[part]).tobytes():
                raise incomplete
            yield Progress(Phase.READING_BACK, scan.shape[0] + slices.stop, 2 * scan.shape[0])
    except ScanError as error:
        raise incomplete from error
    if not same_as_written(scan, written):
        raise OutputError(f"{path.name} cannot be written: this format does not hold its geometry; choose .mha.")
