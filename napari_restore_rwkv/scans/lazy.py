"""Voxels that are only read when they are needed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ScanError

if TYPE_CHECKING:
    from collections.abc import Callable

    Box = tuple[slice, slice, slice]

# Enough to hold a whole scan of the usual size, and little compared with the network's needs.
LARGE_BYTES = 512 << 20


class LazyVoxels:
    """Voxels of shape (Z, Y, X) behind a function that reads a box of them.

    Integers and slices may be used as an index, as in NumPy, and ``np.asarray`` reads everything.

    Parameters
    ----------
    shape
        Voxels along z, y, x.
    dtype
        Type of what `read` returns.
    read
        Called with one slice per axis, ``0 <= start < stop <= size`` and step 1; returns the voxels of that box.
    source
        File or folder that the voxels come from, if there is one.

    Attributes
    ----------
    keep
        Whatever must live as long as the voxels, such as a temporary folder.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: Any, read: Callable[[Box], np.ndarray], source: Path | None = None
    ) -> None:
        if len(shape) != 3:
            raise ValueError(f"Lazy voxels have three dimensions, got shape {shape}.")
        self.shape: tuple[int, int, int] = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.dtype = np.dtype(dtype)
        self.source = source
        self.keep: Any = None
        self._read = read

    @property
    def ndim(self) -> int:
        """Always 3."""
        return 3

    @property
    def size(self) -> int:
        """Number of voxels."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        box, within = _split(index, self.shape)
        if any(axis.start == axis.stop for axis in box):
            empty = np.empty([axis.stop - axis.start for axis in box], self.dtype)
            return empty[within]
        try:
            return self._read(box)[within]
        except OSError as error:
            if self.source is None:
                raise
            reason = (error.strerror or str(error)).lower()
            raise ScanError(
                f"{self.source.name} cannot be read any further ({reason}); put it back, and open it again."
            ) from error

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def fingerprint(self) -> dict[str, Any] | None:
        """Describe the state of the source without reading voxels; None if there is no file behind them."""
        return None if self.source is None else fingerprint(self.source)


def fingerprint(path: Path) -> dict[str, Any]:
    """Describe a file, or a folder with everything in it, by names, sizes and modification times.

    Returns
    -------
    dict
        "files" and "bytes", which a copy shares, and "changes", a digest of names, sizes and times, which it does not.
    """
    digest, files, size = hashlib.sha256(), 0, 0
    for file in sorted(_files(path)):
        state = file.stat()
        files += 1
        size += state.st_size
        # As the system has it: a name need not be text.
        digest.update(os.fsencode(f"{file.relative_to(path)}\0{state.st_size}\0{state.st_mtime_ns}\n"))
    return {"files": files, "bytes": size, "changes": digest.hexdigest()}


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [Path(folder) / name for folder, _, names in os.walk(path) for name in names]


def _split(index: Any, shape: tuple[int, int, int]) -> tuple[Box, tuple[Any, ...]]:
    """Split an index into the box to be read and the index to apply to it."""
    words = list(index) if isinstance(index, tuple) else [index]
    if sum(word is Ellipsis for word in words) > 1:
        raise IndexError("An index may contain only one ellipsis.")
    if Ellipsis in words:
        at = words.index(Ellipsis)
        words[at : at + 1] = [slice(None)] * (4 - len(words))
    words += [slice(None)] * (3 - len(words))
    if len(words) > 3:
        raise IndexError(f"Too many indices: voxels have 3 dimensions, got {len(words)}.")
    pairs = [_one(word, size) for word, size in zip(words, shape, strict=True)]
    (z, y, x), within = [box for box, _ in pairs], tuple(rest for _, rest in pairs)
    return (z, y, x), within


def _one(word: Any, size: int) -> tuple[slice, Any]:
    if isinstance(word, slice):
        steps = range(*word.indices(size))
        if not steps:
            return slice(0, 0), slice(None)
        low, high = min(steps[0], steps[-1]), max(steps[0], steps[-1])
        first = steps[0] - low
        stop = None if steps.step < 0 else high + 1 - low
        return slice(low, high + 1), slice(first, stop, steps.step)
    try:
        number = int(word.__index__())
    except AttributeError as error:
        raise IndexError(f"Voxels are chosen by integers and slices, got {type(word).__name__}.") from error
    if not -size <= number < size:
        raise IndexError(f"Index {number} is out of range for {size} voxels.")
    return slice(number % size, number % size + 1), 0
