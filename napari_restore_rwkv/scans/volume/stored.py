"""A volume file as described by its header, and the voxels of one of its frames, read without trusting the header."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import bounds, integrity
from .unpacking import DEFLATE, RAW, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..lazy import Box
    from ..scan import Scan


@dataclass(frozen=True, slots=True)
class StoredVolume:
    """What a MetaImage or NRRD file says, with every field checked.

    Attributes
    ----------
    path
        The file with the header.
    files
        Where the voxels are, in order; `path` itself, or others.
    start
        First byte of the voxels, or of their stream, in each of `files`.
    skip
        Bytes of the unpacked stream before the first voxel.
    encoding
        As for `unpacked`.
    dtype
        Type of the stored values, with their byte order.
    frames
        Number of three-dimensional frames, at least 1.
    interleaved
        Whether all frames of a voxel are stored together, rather than frame after frame.
    scan
        Geometry; its voxels have the shape (Z, Y, X) and the type of one frame, and no values.
    header
        Text fields of the header.
    """

    path: Path
    files: tuple[Path, ...]
    start: int
    skip: int
    encoding: str
    dtype: np.dtype
    frames: int
    interleaved: bool
    scan: Scan
    header: dict[str, str]

    @property
    def frame_bytes(self) -> int:
        """Number of bytes of one frame."""
        return math.prod(self.scan.shape) * self.dtype.itemsize

    @property
    def in_pieces(self) -> bool:
        """Whether part of a frame can be read without reading what precedes it."""
        return self.encoding == RAW and len(self.files) == 1 and not self.interleaved

    def check_size(self) -> None:
        """Raise ScanError if the files are too small for the voxels that the header describes."""
        found = sum(max(0, file.stat().st_size - self.start) for file in self.files)
        expected = self.skip + self.frames * self.frame_bytes
        if self.encoding == RAW and found < expected:
            raise integrity.cut_off(self.path, found - self.skip, expected - self.skip)
        if self.encoding == DEFLATE and found * bounds.DEFLATE_RATIO < expected:
            raise integrity.broken(
                self.path, f"it is cut off ({found} bytes cannot hold the {expected} bytes of its voxels)"
            )


def read_frame(stored: StoredVolume, frame: int) -> np.ndarray:
    """Read one frame, and the rest of a compressed stream to check that it is complete.

    Returns
    -------
    ndarray
        Shape (Z, Y, X), in the byte order of this computer.

    Raises
    ------
    ScanError
        The voxels are damaged, do not match the number in the header, or do not fit into memory.
    """
    size = stored.frame_bytes
    bounds.check_memory(stored.path.name, size, sum(file.stat().st_size for file in stored.files))
    voxels = np.empty(size, np.uint8)
    at = 0
    for block in frame_blocks(stored, frame):
        voxels[at : at + len(block)] = np.frombuffer(block, np.uint8)
        at += len(block)
    return native(voxels.view(stored.dtype).reshape(stored.scan.shape))


def read_box(stored: StoredVolume, frame: int, box: Box) -> np.ndarray:
    """Read a box of a frame whose voxels are stored uncompressed; errors as from `read_rows`."""
    start = stored.start + stored.skip + frame * stored.frame_bytes
    return native(read_rows(stored.path, stored.files[0], start, stored.dtype, stored.scan.shape, box))


def read_rows(path: Path, file: Path, start: int, dtype: np.dtype, shape: tuple[int, int, int], box: Box) -> np.ndarray:
    """Read a box of uncompressed voxels.

    Parameters
    ----------
    path
        The scan, for errors.
    file, start
        Where the voxels are, and the first byte of them.
    dtype, shape
        Their type, with its byte order, and number along z, y, x.
    box
        Which are read, as they are stored.

    Raises
    ------
    ScanError
        The file has become too short.
    """
    z, y, x = box
    _, height, width = shape
    block = np.empty((z.stop - z.start, y.stop - y.start, width), dtype)
    with file.open("rb", buffering=0) as stream:
        for at, index in enumerate(range(z.start, z.stop)):
            stream.seek(start + (index * height + y.start) * width * dtype.itemsize)
            if stream.readinto(block[at].reshape(-1).view(np.uint8).data) != block[at].nbytes:
                raise integrity.broken(path, f"slice {index} is cut off")
    return block[..., x]


def frame_blocks(stored: StoredVolume, frame: int) -> Iterator[bytes]:
    """Yield the bytes of one frame in blocks, then read on to the end of a stream, where its checksum is.

    Raises
    ------
    ScanError
        The stream is damaged, or does not contain exactly the voxels that the header describes.
    """
    whole = stored.frames * stored.frame_bytes
    first, last = (0, whole) if stored.interleaved else (frame * stored.frame_bytes, (frame + 1) * stored.frame_bytes)
    blocks = _between(_stream(stored, whole), first, last)
    yield from _every(blocks, stored.dtype.itemsize, stored.frames, frame) if stored.interleaved else blocks


def native(values: np.ndarray) -> np.ndarray:
    """Return values in the byte order of this computer."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _stream(stored: StoredVolume, whole: int) -> Iterator[bytes]:
    """Yield exactly `whole` bytes from the first voxel on, an equal share from each file."""
    share, rest = divmod(whole, len(stored.files))
    if rest:
        raise integrity.broken(stored.path, f"its {len(stored.files)} files cannot each hold as many voxels")
    for file in stored.files:
        yield from _share(stored, file, share)


def _share(stored: StoredVolume, file: Path, share: int) -> Iterator[bytes]:
    """Yield exactly `share` bytes from the first voxel of a file on."""
    named = stored.path if len(stored.files) == 1 else file
    skip, found = stored.skip, 0
    for block in unpacked(stored.path, file, stored.start, stored.encoding):
        kept = block[skip:]
        skip = max(0, skip - len(block))
        # Raw voxels may be followed by padding; a compressed stream may not.
        if stored.encoding == RAW:
            kept = kept[: share - found]
        found += len(kept)
        if found > share:
            raise integrity.broken(named, f"it contains more than the {share} bytes of voxels in its header")
        if kept:
            yield kept
        elif stored.encoding == RAW and found == share:
            return
    if found < share:
        raise integrity.cut_off(named, found, share)


def _between(blocks: Iterator[bytes], first: int, last: int) -> Iterator[bytes]:
    """Yield bytes `first` to `last` (exclusive), and read on to the end."""
    at = 0
    for block in blocks:
        kept = block[max(0, first - at) : max(0, last - at)]
        at += len(block)
        if kept:
            yield kept


def _every(blocks: Iterator[bytes], itemsize: int, frames: int, frame: int) -> Iterator[bytes]:
    """Yield the values of one frame from interleaved frames."""
    waiting = b""
    for block in blocks:
        waiting += block
        voxels = len(waiting) // (itemsize * frames)
        used = voxels * itemsize * frames
        values = np.frombuffer(waiting, np.uint8, used).reshape(voxels, frames, itemsize)
        waiting = waiting[used:]
        yield values[:, frame].tobytes()
