"""Compressed volume files, unpacked once and front to back into a temporary zarr that can be read in any order.

A compressed stream has no middle: ITK inflates it from its start for every part that is asked for.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OutputError
from ..progress import Progress
from . import integrity
from .lazy import LazyVoxels
from .nifti import nifti_header
from .streaming import scaled
from .volume_files import Volume, read_volume, volume_suffix
from .zarr_read import read_zarr
from .zarr_write import choose_layout, create_image, write_slab

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from .streaming import Layout

_BLOCK = 1 << 20
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where the voxels of a frame are, in a file that is read from its start.

    Attributes
    ----------
    file
        The file with the voxels, which may lie beside its header.
    start
        Where the stream begins in the file.
    skip
        Bytes of the unpacked stream before the frame.
    packed
        Whether the stream is compressed, by zlib or gzip.
    dtype
        Type of the stored values with their byte order.
    value
        Makes values of stored values.
    """

    file: Path
    start: int
    skip: int
    packed: bool
    dtype: np.dtype
    value: Callable[[np.ndarray], np.ndarray]


def stage(path: Path, layout: Layout, folder: Path | None = None) -> Generator[Progress, None, Volume]:
    """Unpack a volume file into a temporary zarr; the memory needed is that of a few slices.

    Iterate it for `Progress` in slices; the value of StopIteration is the file's scan with lazy voxels. The temporary
    folder goes away with these voxels. A file in a rare encoding, which has to be read as a whole, is: its voxels are
    in memory then.

    Parameters
    ----------
    path
        NIfTI, NRRD or MetaImage file.
    layout
        From `look_at`.
    folder
        Where the temporary folder is made; None takes the system's place for such.

    Raises
    ------
    ScanError
        The file is damaged or cut off.
    OutputError
        There is no room for the unpacked voxels.
    """
    stored = _stored(path, layout)
    if stored is None:
        return read_volume(path, layout.time_index)
    scan = layout.volume.scan
    place = Path(tempfile.gettempdir() if folder is None else folder)
    _check_room(path, layout.nbytes, place)
    keep = tempfile.TemporaryDirectory(prefix="restore-rwkv-", dir=place, ignore_cleanup_errors=True)
    target = Path(keep.name) / "staged.zarr"
    # One level is enough for what nobody looks at.
    slabs = replace(choose_layout(scan.shape, scan.voxels.dtype, 0), levels=1)
    create_image(target, scan, slabs)
    size = scan.shape[0]
    slice_bytes = math.prod(scan.shape[1:]) * stored.dtype.itemsize
    parts = _cut(_frame(path, stored, layout), [len(slabs.slices(slab)) * slice_bytes for slab in range(slabs.slabs)])
    for slab, part in enumerate(parts):
        slices = slabs.slices(slab)
        values = np.frombuffer(part, stored.dtype).reshape(len(slices), *scan.shape[1:])
        try:
            write_slab(target, slabs, slab, stored.value(values))
        except OSError as error:
            raise _no_room(path, layout.nbytes, place) from error
        yield Progress(slices.stop, size, f"unpacking {path.name}: slice {slices.stop} of {size}")
    staged = read_zarr(target).voxels
    voxels = LazyVoxels(scan.shape, staged.dtype, staged.__getitem__, source=path)
    voxels.keep = keep
    return Volume(scan.with_voxels(voxels), layout.volume.header)


def _stored(path: Path, layout: Layout) -> _Stored | None:
    """Find the stream of voxels of a file; None for an encoding that only ITK reads."""
    own = np.dtype(layout.volume.scan.voxels.dtype)
    suffix = volume_suffix(path)
    if suffix.startswith(".nii"):
        header = nifti_header(path)
        skip = header.data_start + layout.frame * header.frame_bytes
        return _Stored(path, 0, skip, True, header.dtype, lambda values: scaled(values, header))
    skip = layout.frame * layout.nbytes
    if suffix in {".mha", ".mhd"}:
        fields, end = integrity.text_header(path, "=", last="elementdatafile")
        local = fields["elementdatafile"].upper() == "LOCAL"
        big = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "")).lower().startswith("t")
        name = fields.get("elementtype", "").removeprefix("MET_")
        start = end if local else int(fields.get("headersize", "0"))
        if integrity.META_BYTES.get(name) != own.itemsize or start < 0:
            return None
        file = path if local else integrity.companion(path, fields["elementdatafile"])
        return _Stored(file, start, skip, True, own.newbyteorder(">" if big else "<"), _native)
    fields, end = integrity.text_header(path, ":", last="")
    encoding, name = fields.get("encoding", "").lower(), fields.get("data file", fields.get("datafile", ""))
    plain = encoding in {"raw", "gzip", "gz"} and not {"line skip", "byte skip"} & set(fields)
    if not plain or name.upper().startswith("LIST") or "%" in name:
        return None
    file = integrity.companion(path, name) if name else path
    order = ">" if fields.get("endian", "").lower() == "big" else "<"
    return _Stored(file, 0 if name else end, skip, encoding != "raw", own.newbyteorder(order), _native)


def _native(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _frame(path: Path, stored: _Stored, layout: Layout) -> Iterator[bytes]:
    """Yield the stream from the first byte of the frame on, in blocks; raises ScanError if it is damaged or cut off."""
    count = int(np.prod(layout.volume.scan.shape)) * stored.dtype.itemsize
    skip, found = stored.skip, 0
    for block in _unpacked(path, stored):
        kept = block[skip:]
        skip = max(0, skip - len(block))
        found += len(kept)
        if kept:
            yield kept
    if found < count:
        raise integrity.cut_off(path, found, count)


def _unpacked(path: Path, stored: _Stored) -> Iterator[bytes]:
    with stored.file.open("rb") as stream:
        stream.seek(stored.start)
        if not stored.packed:
            yield from iter(lambda: stream.read(_BLOCK), b"")
            return
        waiting = stream.read(_BLOCK)
        while True:
            # 32 + MAX_WBITS takes a zlib and a gzip header alike.
            unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)
            while not unpacker.eof:
                try:
                    block = unpacker.decompress(waiting, _BLOCK)
                except zlib.error as error:
                    raise integrity.broken(path, "its compressed voxels are damaged") from error
                waiting = unpacker.unconsumed_tail
                if block:
                    yield block
                elif not (unpacker.eof or waiting or (waiting := stream.read(_BLOCK))):
                    raise integrity.broken(path, "it is cut off (its compressed voxels do not end)")
            waiting = unpacker.unused_data or stream.read(_BLOCK)
            # Some writers put several gzip streams one after the other.
            if not waiting.startswith(_GZIP):
                return


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
        f"{path.name} cannot be unpacked in {folder}: {needed / 1e6:.0f} MB are needed at most and {free / 1e6:.0f} MB "
        "are free; free some space, or set TMPDIR to another folder."
    )
