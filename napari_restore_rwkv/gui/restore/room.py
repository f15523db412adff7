"""Whether a result fits into memory, and if not, why a file is proposed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import psutil  # type: ignore[import-untyped]

from ...scans.lazy import LARGE_BYTES

if TYPE_CHECKING:
    from ...scans.scan import Scan

# The other half is left for the network, copies that the viewer makes, and other programs.
SHARE_OF_FREE = 0.5
# Restored voxels and difference, both float32.
BYTES_PER_VOXEL = 8


def free_memory() -> int:
    """Return how many bytes programs can still allocate without swapping."""
    return psutil.virtual_memory().available


def needed_memory(scan: Scan) -> int:
    """Return how many bytes a result in memory takes."""
    return BYTES_PER_VOXEL * math.prod(scan.shape)


def does_not_fit(scan: Scan) -> str:
    """Return why a result does not fit comfortably into memory; "" if it does."""
    needed, free = needed_memory(scan), free_memory()
    if needed <= SHARE_OF_FREE * free:
        return ""
    if needed <= free:
        return f"the result would take most of the free memory ({_size(needed)} of {_size(free)})"
    return f"the result would take {_size(needed)} of memory, and {_size(free)} are free"


def why_a_file(scan: Scan) -> str:
    """Return why the result should be saved to a file while it is restored; "" if memory is enough."""
    voxels = scan.voxels
    large = math.prod(scan.shape) * np.dtype(voxels.dtype).itemsize > LARGE_BYTES
    if large and not isinstance(voxels, np.ndarray):
        return does_not_fit(scan) or "this scan is read slice by slice, too"
    return does_not_fit(scan)


def _size(size: float) -> str:
    """Return a number of bytes in a suitable unit."""
    if size < 1e9:
        return f"{size / 1e6:.0f} MB"
    return f"{size / 1e9:.1f} GB" if size < 1e11 else f"{size / 1e9:.0f} GB"
