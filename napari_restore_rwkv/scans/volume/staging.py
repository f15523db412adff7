"""Compressed volume files, unpacked once, front to back, into a temporary zarr that can be read in any order.

A compressed stream has no random access: ITK inflates it from the start for every part that is read.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import OutputError
from ...progress import Phase, Progress
from ...storage.temporary import UNPACKED, TemporaryFolder
from ..lazy import LazyVoxels
from ..zarr.reading import read_zarr
from ..zarr.writing import choose_layout, create_image, write_slab
from .files import Volume

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from .streaming import Layout, Packed


def stage(layout: Layout, packed: Packed, folder: Path | None = None) -> Generator[Progress, None, Volume]:
    """Unpack a volume file into a temporary zarr; the memory needed is that of a few slices.

    Iterate it for `Progress` in slices; the value of StopIteration is the file's scan with lazy voxels. The temporary
    folder is removed with these voxels.

    Parameters
    ----------
    layout, packed
        From `look_at`, for a NIfTI, NRRD or MetaImage file.
    folder
        Where the temporary folder is made; None takes the system's temporary folder.

    Raises
    ------
    ScanError
        The file is damaged or cut off.
    OutputError
        There is not enough space for the unpacked voxels.
    """
    path, scan = layout.source, layout.volume.scan
    place = Path(tempfile.gettempdir() if folder is None else folder)
    _check_room(path, layout.nbytes, place)
    keep = TemporaryFolder(place, UNPACKED)
    target = keep.path / "staged.zarr"
    # One level is enough for voxels that are never displayed.
    slabs = replace(choose_layout(scan.shape, scan.voxels.dtype, 0), levels=1)
    create_image(target, scan, slabs)
    size = scan.shape[0]
    slice_bytes = math.prod(scan.shape[1:]) * packed.dtype.itemsize
    parts = _cut(packed.blocks, [len(slabs.slices(slab)) * slice_bytes for slab in range(slabs.slabs)])
    for slab, part in enumerate(parts):
        slices = slabs.slices(slab)
        values = np.frombuffer(part, packed.dtype).reshape(len(slices), *scan.shape[1:])
        try:
            write_slab(target, slabs, slab, packed.voxels(values))
        except OSError as error:
            raise _no_room(path, layout.nbytes, place) from error
        yield Progress(Phase.UNPACKING, slices.stop, size, detail=path.name)
    staged = read_zarr(target).voxels
    voxels = LazyVoxels(scan.shape, staged.dtype, staged.__getitem__, source=path)
    voxels.keep = keep
    return Volume(scan.with_voxels(voxels), layout.volume.header)


def _cut(blocks: Iterator[bytes], sizes: list[int]) -> Iterator[bytes]:
    """Yield parts of these sizes, then read on to the end, where the checksum is."""
    waiting = bytearray()
    for size in sizes:
        while len(waiting) < size:
            waiting += next(blocks)
        yield bytes(waiting[:size])
        del waiting[:size]
    for _ in blocks:
        pass


def _check_room(path: Path, needed: int, folder: Path) -> None:
    if needed > shutil.disk_usage(folder).free:
        raise _no_room(path, needed, folder)


def _no_room(path: Path, needed: int, folder: Path) -> OutputError:
    free = shutil.disk_usage(folder).free
    return OutputError(
        f"{path.name} cannot be unpacked in {folder}: up to {needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB "
        "are free; free some space, or set TMPDIR to another folder."
    )
