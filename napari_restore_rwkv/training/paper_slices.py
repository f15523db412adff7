"""Slices in the format of the authors of arXiv 2407.11087: one pickled array in a file ending in .bin.

A pickle can run any code. None is run here: every name in it is mapped to a function in this file that builds an array
of plain numbers, and any other name is refused.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch

from ..errors import ScanError
from ..network.containers import storage_in
from ..scans.scan import Scan
from ..untrusted import is_number, read_regular

if TYPE_CHECKING:
    from pathlib import Path

SLICE_SUFFIX = ".bin"
# A slice takes less than a megabyte.
_MOST_BYTES = 256 << 20
_PLAIN = "biuf"
_MOST_SIDES = 8
# A slice needs neither dictionaries nor sets; a tuple that holds another one twice, and so on for sixty of them, takes
# an eternity to become a key.
_HASHING = {
    pickle.EMPTY_DICT,
    pickle.DICT,
    pickle.SETITEM,
    pickle.SETITEMS,
    pickle.EMPTY_SET,
    pickle.ADDITEMS,
    pickle.FROZENSET,
}


class ForbiddenError(Exception):
    """The content of the file is not an array of plain numbers."""


class _Array:
    """How NumPy's pickles are built: first empty, then given shape, number type and bytes."""

    values: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, _Kind) or not isinstance(content, bytes):
            raise ForbiddenError
        self.values = np.frombuffer(content, kind.dtype).reshape(_sides(shape), order="F" if by_columns else "C")


class _Kind:
    """NumPy's number type."""

    def __init__(self, name: str, *_: Any) -> None:
        # NumPy makes types of lists and tuples, too, which may be nested without an end.
        if not isinstance(name, str):
            raise ForbiddenError
        self.dtype = np.dtype(name)
        if self.dtype.kind not in _PLAIN or not self.dtype.isbuiltin:
            raise ForbiddenError

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def _from_buffer(content: bytes | bytearray, kind: _Kind, shape: Any, order: Literal["C", "F"]) -> np.ndarray:
    """An array as stored by pickle protocol 5."""
    if not isinstance(kind, _Kind) or order not in ("C", "F"):
        raise ForbiddenError
    return np.frombuffer(content, kind.dtype).reshape(_sides(shape), order=order)


def _empty_array(*_: Any) -> _Array:
    return _Array()


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """A contiguous tensor, as an array."""
    flat = torch.tensor([], dtype=storage.dtype, device="cpu").set_(storage._untyped_storage).numpy()
    size, stride, [offset] = _sides(size), _sides(stride), _sides([offset])
    count = math.prod(size)
    steps = [math.prod(size[n + 1 :]) for n in range(len(size))]
    whole = all(side == 1 or step == wanted for side, step, wanted in zip(size, stride, steps, strict=True))
    if not whole or not 0 <= offset <= offset + count <= flat.size:
        raise ForbiddenError
    return flat[offset : offset + count].reshape(size)


def _sides(values: Any) -> tuple[int, ...]:
    """Return a few numbers; a forged list of them may be endless, or nested."""
    if len(values) > _MOST_SIDES or not all(is_number(value) and abs(value) < 1 << 40 for value in values):
        raise ForbiddenError
    return tuple(values)


def _ordered() -> dict[str, Any]:
    """The hooks of a tensor, of which there are none."""
    return {}


def _bytes(text: str, encoding: str) -> bytes:
    """Bytes as stored by old pickle protocols."""
    if encoding != "latin1":
        raise ForbiddenError
    return text.encode(encoding)


def _storage(content: bytes) -> Any:
    # Torch's own reader of weights, which runs no code either.
    return storage_in(content)


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("collections", "OrderedDict"): _ordered,
    ("_codecs", "encode"): _bytes,
}


class _Unpickler(pickle._Unpickler):
    """Python's pure Python unpickler: a forged memo index cannot make it allocate, unlike the one in C."""

    dispatch: ClassVar = {
        code: read for code, read in pickle._Unpickler.dispatch.items() if bytes([code]) not in _HASHING
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise ForbiddenError
        return _ALLOWED[module, name]


def read_slice(path: Path, modality: str | None = None) -> Scan:
    """Read a pickled slice, shape (Y, X) or (1, Y, X), as a scan of one slice with pixels of 1 mm.

    Raises
    ------
    ScanError
        It cannot be read, or contains anything but one such array of plain numbers.
    """
    try:
        content = read_regular(path, _MOST_BYTES)
        found = _Unpickler(io.BytesIO(content)).load()
        values = found.values if isinstance(found, _Array) else found
        if not isinstance(values, np.ndarray):
            raise ForbiddenError
    except OSError as error:
        raise ScanError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    # A forged pickle can make the unpickler fail in any way.
    except Exception as error:
        raise ScanError(
            f"{path.name} is not a pickled array of plain numbers, the only content that is read from it; give NIfTI."
        ) from error
    if values.ndim == 2:
        values = values[np.newaxis]
    if values.ndim != 3 or values.shape[0] != 1 or values.dtype.kind not in _PLAIN or 0 in values.shape:
        raise ScanError(
            f"{path.name} contains an array of shape {values.shape}, not one slice; give (Y, X) or (1, Y, X)."
        )
    unit = {"CT": "HU", "PET": "SUV"}.get(modality or "", "")
    return Scan(np.array(values), modality=modality, unit=unit)
