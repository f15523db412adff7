"""Whether a result fits into memory, and if not, why a file is proposed for it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import psutil  # type: ignore[import-untyped]

from ...scans.lazy import LARGE_BYTES

if TYPE_CHECKING:
    from ...scans.scan import Scan

# The other half is for the network, the viewer's own copies, and other programs.
SHARE_OF_FREE = 0.5
# Restored and difference, both in float32.
BYTES_PER_VOXEL = 8


def free_memory() -> int:
    """Bytes that programs can still take without swapping."""
    return psutil.virtual_memory().available


def needed_memory(scan: Scan) -> int:
    """Bytes of a result that is held in memory."""
    return BYTES_PER_VOXEL * math.prod(scan.shape)


def does_not_fit(scan: Scan) -> str:
    """Return in words that a result does not fit into memory comfortably; "" if it does."""
    needed, free = needed_memory(scan), free_memory()
    if needed <= SHARE_OF_FREE * free:
        return ""
    if needed <= free:
        return f"the result would take most of the free memory ({_size(needed)} of {_size(free)})"
    return f"the result would take {_size(needed)} of memory, and {_size(free)} are free"


def why_a_file(scan: Scan) -> str:
    """Return why the result is better saved to a file while it is restored; "" where memory will do."""
    voxels = scan.voxels
    large = math.prod(scan.shape) * np.dtype(voxels.dtype).itemsize > LARGE_BYTES
    if large and not isinstance(voxels, np.ndarray):
        return does_not_fit(scan) or "this scan is read slice by slice, too"
    return does_not_fit(scan)


def _size(size: float) -> str:
    """Return bytes in the unit that suits them."""
    if size < 1e9:
        return f"{size / 1e6:.0f} MB"
    return f"{size / 1e9:.1f} GB" if size < 1e11 else f"{size / 1e9:.0f} GB"
