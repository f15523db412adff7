"""Reading the slices of a scan, lazy or not, along any axis."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from ..scans.scan import slice_of

if TYPE_CHECKING:
    from ..scans.scan import Scan

# Cached decoded slices of voxels that are read from a file.
_KEPT_BYTES = 256 << 20


class Slices:
    """The slices of a scan along one axis, read when needed; those of lazy voxels are cached for a while."""

    def __init__(self, scan: Scan, axis: int, kept_bytes: int = _KEPT_BYTES) -> None:
        self.scan, self.axis, self._kept_bytes = scan, axis, kept_bytes
        rows, columns = (i for i in range(3) if i != axis)
        self.plane = (scan.shape[rows], scan.shape[columns])
        self.spacing_mm = (scan.spacing_mm[axis], scan.spacing_mm[rows], scan.spacing_mm[columns])
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return self.scan.shape[self.axis]

    def read(self, index: int) -> np.ndarray:
        """One slice, (Y, X), in the type of the scan."""
        if isinstance(self.scan.voxels, np.ndarray):
            return slice_of(self.scan.voxels, self.axis, index)
        if index not in self._kept:
            image = slice_of(self.scan.voxels, self.axis, index)
            while self._kept and (len(self._kept) + 1) * image.nbytes > self._kept_bytes:
                self._kept.popitem(last=False)
            self._kept[index] = image
        self._kept.move_to_end(index)
        return self._kept[index]

    def alone(self, index: int) -> Scan:
        """One slice as a separate scan, float32, with slices along z."""
        image = self.read(index).astype(np.float32)
        return self.scan.with_voxels(image[np.newaxis], spacing_mm=self.spacing_mm, acquired_along=0)
