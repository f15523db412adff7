"""Zarr arrays whose files are checked before zarr reads them, and whose chunks are checked before unpacking."""

from __future__ import annotations

import itertools
import math
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zarr.abc.codec import BytesBytesCodec
from zarr.abc.store import RangeByteRequest
from zarr.codecs import ShardingCodec
from zarr.registry import get_pipeline_class
from zarr.storage import LocalStore

from ...errors import ScanError
from ...storage.durable import sha256_of
from .. import bounds
from ..outside import check_inside
from .chunks import METHODS, DamagedChunk, check_chunk

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Codecs that keep or check bytes, and those that map values to values; all others, such as pickle, are refused.
_HARMLESS = {"bytes", "endian", "transpose", "crc32c", "crc32", "adler32", "fletcher32", "jenkins_lookup3"}
_FILTERS = {"delta", "fixedscaleoffset", "shuffle", "bitround", "quantize", "astype", "packbits"}
_METADATA = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
# Overhead that compression may add to incompressible voxels.
_OVERHEAD, _ADDED = 1.1, 1 << 20
# Filters may store values in a wider type than that of the array.
_WIDER = 8
# Zarr takes some 0.1 ms per chunk.
_MOST_CHUNKS = 1 << 16


@dataclass
class _Known:
    """What a store knows about its files; one object shared by all copies that zarr makes of the store.

    Attributes
    ----------
    allow_outside
        Whether symbolic links may leave the folder.
    largest
        Bytes of the largest file that is read as a whole.
    present
        Chunks that existed when the array was opened, by key.
    digests
        For chunks of a result of this program, the digests of which one has to match.
    checked
        Chunks whose digest matched.
    """

    allow_outside: bool
    largest: int = bounds.LARGEST_METADATA
    present: frozenset[str] = frozenset()
    digests: Mapping[str, set[str]] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)


class GuardedStore(LocalStore):
    """A folder from which only regular files inside it are read, and in which a lost file is never silently ignored.

    Parameters
    ----------
    root
        The folder.
    known
        What is known about it; None for a folder that has not been inspected yet.
    allow_outside
        Whether symbolic links may leave the folder.
    """

    def __init__(
        self, root: Path | str, *, read_only: bool = True, known: _Known | None = None, allow_outside: bool = False
    ) -> None:
        super().__init__(root, read_only=read_only)
        self.known = known or _Known(allow_outside)

    def with_read_only(self, read_only: bool = False) -> GuardedStore:
        """Return the same folder; it is never written."""
        return type(self)(self.root, read_only=True, known=self.known)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """Return the content of a file, or part of it, as requested by zarr; None if there is no such file."""
        self._check(key, whole=byte_range is None)
        # The index of a shard may say that a chunk in it has gigabytes, of which a sparse file has enough.
        length = byte_range.end - byte_range.start if isinstance(byte_range, RangeByteRequest) else 0
        if length > self.known.largest:
            raise DamagedChunk(f"a chunk of {length} bytes in {key}")
        found = await super().get(key, prototype, byte_range)
        if found is None and key in self.known.present:
            raise ScanError(f"{self.root.name} has lost {key} since it was opened; put it back, and open it again.")
        return found

    def _check(self, key: str, whole: bool) -> None:
        file, known = self.root / key, self.known
        try:
            state = file.stat()
        except OSError:
            return
        if not known.allow_outside:
            check_inside(self.root, self.root, file)
        if stat.S_ISDIR(state.st_mode):
            return
        if not stat.S_ISREG(state.st_mode):
            raise ScanError(f"{self.root.name} contains a pipe or a device ({key}); remove it.")
        # Zarr treats an empty shard as one that was never written.
        if not state.st_size and file.name not in _METADATA:
            raise DamagedChunk(f"{key} is empty")
        if whole and state.st_size > known.largest:
            raise ScanError(
                f"{self.root.name} cannot be read: {key} has {state.st_size} bytes, but at most {known.largest} are "
                "expected; copy or export it again."
            )
        if key in known.digests and key not in known.checked:
            if sha256_of(file) not in known.digests[key]:
                raise ScanError(
                    f"{self.root.name} is not as it was written: {key} has changed; verify shows what else has, and "
                    "the same restore command with --resume restores it again."
                )
            known.checked.add(key)


@dataclass(frozen=True)
class CheckedChunk(BytesBytesCodec):
    """A codec that passes a chunk on unchanged, once it is known to unpack to the right size."""

    is_fixed_size = True

    method: str
    exact: bool
    name: str

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        expected = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        _check(self, chunk_bytes.to_bytes(), expected)
        return chunk_bytes

    async def _encode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return chunk_bytes

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: Any) -> int:
        """Return the size, which stays."""
        return input_byte_length


class _CheckedCompressor:
    """The same for zarr 2, which accepts any object with the methods of a codec."""

    def __init__(self, codec: Any, check: CheckedChunk, expected: int) -> None:
        self._codec, self._check, self._expected = codec, check, expected

    def decode(self, packed: Any) -> Any:
        _check(self._check, bytes(packed), self._expected)
        return self._codec.decode(packed)


def _check(how: CheckedChunk, packed: bytes, expected: int) -> None:
    bounds.check_memory(how.name, expected, len(packed))
    check_chunk(how.method, packed, expected if how.exact else _WIDER * expected, how.exact)


def guard(path: Path, array: Any) -> None:
    """Have every chunk of an array checked before it is unpacked.

    Parameters
    ----------
    path
        The scan, for errors.
    array
        From a `GuardedStore`; modified in place.

    Raises
    ------
    ScanError
        The array uses a codec that is not known to be harmless, or its chunks are too small or too large.
    """
    metadata = array.metadata
    chunk = chunk_of(array)
    nbytes = math.prod(chunk) * array.dtype.itemsize
    _check_chunks(path, array, chunk)
    known = array.store_path.store.known
    known.largest = max(known.largest, int(nbytes * _OVERHEAD) + _ADDED)
    if metadata.zarr_format == 3:
        codecs = _checked(path, metadata.codecs)
    else:
        from zarr.codecs._v2 import V2Codec

        filters = [_name(codec) for codec in metadata.filters or ()]
        _refuse_unknown(path, filters)
        compressor = metadata.compressor
        if compressor is not None:
            name = _name(compressor)
            if name not in METHODS:
                raise _unknown(path, name)
            compressor = _CheckedCompressor(compressor, CheckedChunk(name, not filters, path.name), nbytes)
        codecs = (V2Codec(filters=metadata.filters, compressor=compressor),)
    # Zarr offers no way to open an array with codecs other than those in its metadata.
    object.__setattr__(array.async_array, "codec_pipeline", get_pipeline_class().from_codecs(codecs))


def chunk_of(array: Any) -> tuple[int, ...]:
    """Return the shape of the content of one file: a chunk, or a shard of chunks."""
    metadata = array.metadata
    shape = metadata.chunk_grid.chunk_shape if metadata.zarr_format == 3 else metadata.chunks
    return tuple(int(size) for size in shape)


def files_of(array: Any) -> int:
    """Return how many files an array may have."""
    return math.prod(_counts(array))


def keys_of(array: Any) -> list[str]:
    """Return the key of every file that an array may have, relative to the store."""
    counts = _counts(array)
    prefix = f"{array.path}/" if array.path else ""
    metadata = array.metadata
    encode = metadata.encode_chunk_key
    return [prefix + encode(place) for place in itertools.product(*map(range, counts))]


def _counts(array: Any) -> list[int]:
    return [-(-size // part) for size, part in zip(array.shape, chunk_of(array), strict=True)]


def _checked(path: Path, codecs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the codecs of zarr 3 with a check after the compressor, also inside shards."""
    names = [_name(codec) for codec in codecs]
    compressors = [name for name in names if name in METHODS]
    if len(compressors) > 1:
        raise ScanError(f"{path.name} compresses its chunks several times ({', '.join(compressors)}); export it again.")
    exact = not _FILTERS & set(names)
    checked: list[Any] = []
    for name, codec in zip(names, codecs, strict=True):
        if isinstance(codec, ShardingCodec):
            checked.append(
                ShardingCodec(
                    chunk_shape=codec.chunk_shape,
                    codecs=_checked(path, codec.codecs),
                    index_codecs=codec.index_codecs,
                    index_location=codec.index_location,
                )
            )
            continue
        if name not in METHODS:
            _refuse_unknown(path, [name])
        checked.append(codec)
        if name in METHODS:
            checked.append(CheckedChunk(name, exact, path.name))
    return tuple(checked)


def _name(codec: Any) -> str:
    """Return the name of a codec of zarr 2 or 3, without the prefix of those that zarr 3 takes from zarr 2."""
    if hasattr(codec, "codec_id"):
        return str(codec.codec_id)
    return str(codec.to_dict()["name"]).removeprefix("numcodecs.")


def _refuse_unknown(path: Path, names: list[str]) -> None:
    for name in names:
        if name not in _HARMLESS | _FILTERS:
            raise _unknown(path, name)


def _unknown(path: Path, name: str) -> ScanError:
    known = ", ".join(sorted(METHODS | _FILTERS))
    return ScanError(f"{path.name} uses the codec {name[:40]}, which is not supported; use one of {known}.")


def _check_chunks(path: Path, array: Any, chunk: tuple[int, ...]) -> None:
    """Raise ScanError if one slice would take an excessive number of chunks, or one chunk all memory."""
    metadata = array.metadata
    inner = chunk
    for codec in metadata.codecs if metadata.zarr_format == 3 else ():
        if isinstance(codec, ShardingCodec):
            inner = codec.chunk_shape
    if min(chunk) < 1 or min(inner) < 1:
        raise ScanError(f"{path.name} cannot be read: its chunks are empty; copy or export it again.")
    in_slice = math.prod(-(-size // part) for size, part in list(zip(array.shape, inner, strict=True))[-2:])
    in_shard = math.prod(-(-size // part) for size, part in zip(chunk, inner, strict=True))
    if max(in_slice, in_shard) > _MOST_CHUNKS:
        raise ScanError(
            f"{path.name} is divided into chunks of {' x '.join(map(str, inner))} voxels, so one slice or shard has "
            f"{max(in_slice, in_shard)} of them; export it with larger ones."
        )
    bounds.check_memory(path.name, math.prod(inner) * array.dtype.itemsize, math.prod(inner) * array.dtype.itemsize)
