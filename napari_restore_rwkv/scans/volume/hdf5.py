"""HDF5 files in ITK's layout: located by a pure Python reader; voxels are read and unpacked by this package.

The HDF5 library follows links to other files, allocates whatever a damaged file asks for, and can crash; pyfive does
not. Every number that it finds is checked before use.
"""

from __future__ import annotations

import io
import itertools
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ...errors import ScanError
from .. import bounds, integrity
from ..modality import FIELDS
from .axes import frames_of, placed
from .stored import native

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ..lazy import Box
    from ..scan import Scan

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NOWHERE = (1 << 64) - 1
_DEFLATE, _SHUFFLE = 1, 2
_CONTIGUOUS, _CHUNKED = 1, 2
# A valid header takes some hundred reads; a damaged one may lead in circles.
_MOST_READS, _LARGEST_READ = 500_000, 64 << 20
_MOST_CHUNKS = 1_000_000
# Of a field of the header, packed or not; deflate makes 64 MiB of this at most.
_LARGEST_FIELD = 1 << 16
_LONGEST_TEXT = 4096


@dataclass(frozen=True, slots=True)
class Hdf5Volume:
    """What an HDF5 file says about its voxels.

    Attributes
    ----------
    path
        The file.
    scan
        Geometry; its voxels have the shape (Z, Y, X) and the type of one frame, and no values.
    frames
        Number of frames.
    dtype
        Type of the stored values, with their byte order.
    shape
        Of the stored array: [frame,] z, y, x, without missing axes.
    chunk
        Shape of a chunk; the whole array if it is contiguous.
    filters
        Numbers of the HDF5 filters applied to a chunk, in order.
    chunks
        Where each chunk is, by the index of its first voxel: offset, bytes and which filters were skipped.
    header
        Text fields that tell the modality.
    """

    path: Path
    scan: Scan
    frames: int
    dtype: np.dtype
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    filters: tuple[int, ...]
    chunks: Mapping[tuple[int, ...], tuple[int, int, int]]
    header: dict[str, str]


class _Bounded(io.RawIOBase):
    """A file for pyfive, whose reads are counted and limited."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        super().__init__()
        self._stream, self._reads, self.path = stream, 0, name

    def read(self, size: int = -1) -> bytes:
        self._reads += 1
        if self._reads > _MOST_READS or not 0 <= size <= _LARGEST_READ:
            raise ValueError("it leads in circles, or asks for too much")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def hdf5_volume(path: Path) -> Hdf5Volume:
    """Read the structure of an HDF5 file.

    Raises
    ------
    ScanError
        The file is damaged, has another layout, or keeps its voxels in other files.
    """
    import pyfive  # type: ignore[import-untyped]

    with path.open("rb") as stream:
        if stream.read(len(_SIGNATURE)) != _SIGNATURE:
            raise integrity.broken(path, "it has no HDF5 header, so it is another type of file or cut off")
        _check_end(path, stream)
        try:
            image = pyfive.File(_Bounded(stream, path.name))["ITKImage"]["0"]
            return _volume(path, image)
        except ScanError:
            raise
        # Pyfive raises whatever error comes first.
        except Exception as error:
            raise integrity.broken(path, "it is damaged, cut off, or not in ITK's layout") from error


def read_hdf5(volume: Hdf5Volume, frame: int, box: Box) -> np.ndarray:
    """Read a box (z, y, x) of one frame; ScanError if the file is damaged there."""
    lacking = 4 - len(volume.shape)
    wanted = (slice(frame, frame + 1), *box)[lacking:]
    result = np.empty([part.stop - part.start for part in wanted], volume.dtype)
    with volume.path.open("rb") as stream:
        for place in _touched(wanted, volume.chunk):
            if place not in volume.chunks:
                raise integrity.broken(volume.path, f"the voxels from {place} on are missing")
            source, target = [], []
            for start, size, part in zip(place, volume.chunk, wanted, strict=True):
                low, high = max(start, part.start), min(start + size, part.stop)
                source.append(slice(low - start, high - start))
                target.append(slice(low - part.start, high - part.start))
            result[tuple(target)] = _chunk(volume, stream, place, tuple(source))
    return native(result).reshape([part.stop - part.start for part in box])


def _check_end(path: Path, stream: BinaryIO) -> None:
    """Raise ScanError if the file is shorter than it says."""
    head = stream.read(48 - len(_SIGNATURE))
    # Position of the end-of-file address, by version of the superblock; only addresses of 8 bytes are in use.
    at = {0: 40, 1: 44, 2: 28, 3: 28}.get(head[0] if head else -1, 0) - len(_SIGNATURE)
    end = int.from_bytes(head[at : at + 8], "little") if at > 0 else 0
    if end > path.stat().st_size or len(head) < 40:
        raise integrity.cut_off(path, path.stat().st_size, end)


def _volume(path: Path, image: Any) -> Hdf5Volume:
    voxels = image["VoxelData"]
    shape, dtype = tuple(int(size) for size in voxels.shape), np.dtype(voxels.dtype)
    if dtype.kind not in "iuf" or dtype.itemsize not in {1, 2, 4, 8}:
        raise integrity.broken(path, f"its values have type {str(dtype)[:40]}, but real numbers are needed")
    sizes = [int(size) for size in _numbers(image["Dimension"], 8)]
    if len(shape) == len(sizes) + 1 and list(shape[-2::-1]) == sizes:
        raise integrity.vector(path, shape[-1])
    if list(shape[::-1]) != sizes or not sizes or min(sizes) < 1:
        raise integrity.broken(path, f"it contains {integrity.by(shape[::-1])} voxels, which differs from its header")
    frame_shape, frames = frames_of(path, sizes)
    axes = min(len(sizes), 3)
    steps, origin, direction = np.ones(3), np.zeros(3), np.eye(3)
    steps[:axes] = _numbers(image["Spacing"], 8)[:axes]
    origin[:axes] = _numbers(image["Origin"], 8)[:axes]
    direction[:axes, :axes] = _numbers(image["Directions"], 64).reshape(len(sizes), len(sizes)).T[:axes, :axes]
    if (steps < 0).any():
        # ITK writes no negative spacing, so it would not be a flip.
        steps = np.where(steps < 0, np.nan, steps)
    placeholder = np.broadcast_to(np.zeros((), dtype.newbyteorder("=")), frame_shape)
    scan = placed(path, placeholder, direction, steps, origin)
    shape = shape[max(0, len(shape) - 4) :]
    chunk, filters, chunks = _storage(path, voxels.id, shape, dtype)
    return Hdf5Volume(path, scan, frames, dtype, shape, chunk, filters, chunks, _texts(image))


def _storage(
    path: Path, stored: Any, shape: tuple[int, ...], dtype: np.dtype
) -> tuple[tuple[int, ...], tuple[int, ...], dict[tuple[int, ...], tuple[int, int, int]]]:
    """Return the shape of a chunk, the filters, and where the chunks are."""
    size, nbytes = path.stat().st_size, math.prod(shape) * dtype.itemsize
    filters = tuple(int(entry["filter_id"]) for entry in stored.filter_pipeline or ())
    if stored.layout_class == _CONTIGUOUS and not filters:
        offset = int(stored.data_offset)
        if offset == _NOWHERE:
            raise ScanError(
                f"{path.name} contains no voxels; if it keeps them in another file, pack them into one with h5repack."
            )
        if offset + nbytes > size:
            raise integrity.cut_off(path, size - offset, nbytes)
        return shape, (), {(0,) * len(shape): (offset, nbytes, 0)}
    if stored.layout_class not in {_CONTIGUOUS, _CHUNKED}:
        raise ScanError(f"{path.name} keeps its voxels in other files or in its header; repack it with h5repack.")
    if stored.layout_class != _CHUNKED or set(filters) - {_DEFLATE, _SHUFFLE} or filters.count(_DEFLATE) > 1:
        raise ScanError(f"{path.name} uses an unsupported compression; repack it with gzip (h5repack -f GZIP=1).")
    chunk = tuple(int(part) for part in stored.chunks)[-len(shape) :]
    if min(chunk) < 1 or math.prod(-(-all_ // part) for all_, part in zip(shape, chunk, strict=True)) > _MOST_CHUNKS:
        raise integrity.broken(path, f"it is cut into chunks of {integrity.by(chunk)} voxels")
    chunks = {}
    for place, entry in stored.index.items():
        start, length = int(entry.byte_offset), int(entry.size)
        if start + length > size:
            raise integrity.cut_off(path, size - start, length)
        chunks[tuple(int(at) for at in place)[-len(shape) :]] = (start, length, int(entry.filter_mask))
    return chunk, filters, chunks


def _chunk(volume: Hdf5Volume, stream: BinaryIO, place: tuple[int, ...], within: tuple[slice, ...]) -> np.ndarray:
    """Return a part of a chunk, unpacked."""
    offset, length, left_out = volume.chunks[place]
    nbytes = math.prod(volume.chunk) * volume.dtype.itemsize
    if not volume.filters and volume.chunk == volume.shape:
        stored = np.memmap(stream, volume.dtype, "r", offset, volume.chunk)
        return np.array(stored[within])
    bounds.check_memory(volume.path.name, nbytes, length)
    stream.seek(offset)
    content = stream.read(length)
    for at, number in reversed(list(enumerate(volume.filters))):
        if left_out >> at & 1:
            continue
        content = (
            _inflated(volume, content, nbytes) if number == _DEFLATE else _unshuffled(content, volume.dtype.itemsize)
        )
    if len(content) != nbytes:
        raise integrity.cut_off(volume.path, len(content), nbytes)
    return np.frombuffer(content, volume.dtype).reshape(volume.chunk)[within]


def _inflated(volume: Hdf5Volume, content: bytes, nbytes: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(content, nbytes + 1)
        # The end of the stream, with its checksum.
        unpacked += unpacker.decompress(unpacker.unconsumed_tail, 1)
    except zlib.error as error:
        raise integrity.broken(volume.path, "its compressed voxels are damaged") from error
    if not unpacker.eof or len(unpacked) != nbytes:
        raise integrity.broken(volume.path, f"a chunk does not unpack to {nbytes} bytes")
    return unpacked


def _unshuffled(content: bytes, itemsize: int) -> bytes:
    """Undo the byte shuffle, which stores the first bytes of all values first."""
    whole = len(content) // itemsize * itemsize
    return np.frombuffer(content, np.uint8, whole).reshape(itemsize, -1).T.tobytes() + content[whole:]


def _touched(wanted: tuple[slice, ...], chunk: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the index of the first voxel of each chunk that a box touches."""
    starts = [range(part.start // size * size, part.stop, size) for part, size in zip(wanted, chunk, strict=True)]
    yield from itertools.product(*starts)


def _numbers(values: Any, most: int) -> np.ndarray:
    """Return a few numbers; ValueError if they are too many, of another type, or stored at a great size."""
    if math.prod(values.shape) > most or np.dtype(values.dtype).kind not in "iuf" or not _is_small(values):
        raise ValueError("not a few numbers")
    return np.asarray(values[()], float).ravel()


def _texts(image: Any) -> dict[str, str]:
    """Return the text fields that tell the modality; there may be any number of others."""
    texts = {}
    fields = image.get("MetaData", {})
    for name in FIELDS:
        value = fields.get(name)
        if value is None or math.prod(value.shape) != 1 or np.dtype(value.dtype).kind not in "OS":
            continue
        if _is_small(value) and isinstance(text := np.ravel(value[()])[0], bytes) and len(text) <= _LONGEST_TEXT:
            texts[name] = text.decode("utf-8", "replace")
    return texts


def _is_small(values: Any) -> bool:
    """Whether a field of the header stays small, whatever its chunks unpack to."""
    itemsize = np.dtype(values.dtype).itemsize
    if values.id.layout_class != _CHUNKED:
        return math.prod(values.shape) * itemsize <= _LARGEST_FIELD
    packed = [int(entry.size) for entry in values.id.index.values()]
    return max(math.prod(values.id.chunks) * itemsize, *packed, 0) <= _LARGEST_FIELD
