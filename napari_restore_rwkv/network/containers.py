"""Files that hold weights, checked before anything in them is unpacked or allocated.

Weights are stored without compression, so no part of such a file can be larger than the file: one that claims otherwise
was made to exhaust memory. Torch opens a pickle without running code from it; of the names that it allows, only those
that a state_dict needs are allowed here.
"""

from __future__ import annotations

import io
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load, load_file

from ..untrusted import json_object
from .pickle_check import check_pickle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

# The full network has 0.1 GB and some 1100 tensors.
LARGEST_BYTES = 4 << 30
_MOST_TENSORS = 20_000
_LONGEST_HEADER, _LONGEST_PICKLE, _LONGEST_DIRECTORY = 8 << 20, 16 << 20, 8 << 20
REAL = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_ENCRYPTED = 1
# A stream without a zip archive around it: magic number, protocol, machine, content, names of its arrays.
_PICKLES_OF_A_STREAM = 5


def safetensors_in(content: Path | bytes) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, or of its content; ValueError or an error of the library otherwise."""
    if isinstance(content, bytes):
        _check_header(content[:8], len(content), lambda length: content[8 : 8 + length])
        return load(content)
    with content.open("rb") as stream:
        _check_header(stream.read(8), content.stat().st_size, stream.read)
    return load_file(content)


def state_in(path: Path) -> Any:
    """Read what torch saved in a file; CodeError, ValueError or an error of torch if that is not weights."""
    if path.stat().st_size > LARGEST_BYTES:
        raise ValueError("it is larger than any weights")
    if _starts_as_archive(path):
        with open_archive(path) as archive:
            check_archive(path, archive)
            pickles = [entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")]
            if len(pickles) != 1 or pickles[0].file_size > _LONGEST_PICKLE:
                raise ValueError("it contains no pickle of a plausible size")
            check_pickle(io.BytesIO(archive.read(pickles[0])))
    else:
        with path.open("rb") as stream:
            _check_stream(stream)
    return torch.load(path, map_location="cpu", weights_only=True)


def storage_in(content: bytes) -> Any:
    """Read the storage that torch has saved without a zip; errors as from `state_in`."""
    _check_stream(io.BytesIO(content))
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise ValueError unless the entries of an archive are stored uncompressed, and fit into its file."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED for entry in entries):
        raise ValueError("its parts are compressed or encrypted")
    if sum(max(entry.file_size, entry.compress_size) for entry in entries) > path.stat().st_size:
        raise ValueError("its parts are larger than the file")


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip archive whose list of entries has a plausible length; ValueError, OSError or BadZipFile otherwise."""
    if not path.is_file():
        raise ValueError("it is not a file")
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - (1 << 16) - 22))
        end = stream.read()
    at, at64 = end.rfind(b"PK\x05\x06"), end.rfind(b"PK\x06\x06")
    lengths = [struct.unpack_from("<I", end, at + 12)[0]] if 0 <= at <= len(end) - 16 else []
    if 0 <= at64 <= len(end) - 48:
        lengths = [struct.unpack_from("<Q", end, at64 + 40)[0]]
    if any(length > _LONGEST_DIRECTORY for length in lengths):
        raise ValueError("its list of parts is longer than that of weights")
    return zipfile.ZipFile(path)


def check_tensors(tensors: Mapping[str, Tensor], size: int) -> None:
    """Raise ValueError if named tensors are more, larger or of another kind than a file of this many bytes can hold.

    A tensor may repeat the same few values without taking memory, until it is copied.
    """
    if len(tensors) > _MOST_TENSORS:
        raise ValueError(f"it contains {len(tensors)} tensors")
    plain = all(
        type(value) in (torch.Tensor, torch.nn.Parameter)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        for value in tensors.values()
    )
    if not plain:
        raise ValueError("it contains tensors that are not plain arrays")
    if sum(value.numel() * value.element_size() for value in tensors.values()) > 2 * size:
        raise ValueError("its tensors are larger than the file")


def _check_stream(stream: Any) -> None:
    for _ in range(_PICKLES_OF_A_STREAM):
        check_pickle(stream)


def _check_header(start: bytes, size: int, read: Any) -> None:
    if len(start) < 8:
        raise ValueError("it ends within its header")
    length = int.from_bytes(start, "little")
    if length > min(_LONGEST_HEADER, size - 8) or size > LARGEST_BYTES:
        raise ValueError("its header is longer than that of weights")
    if len(json_object(read(length))) > _MOST_TENSORS:
        raise ValueError("it contains more tensors than a network has")


def _starts_as_archive(path: Path) -> bool:
    # The same test as torch's: other programs look for an archive at the end of a file.
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"
