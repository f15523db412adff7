"""Which slices of a scan are restored, and in which order."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from ..errors import ScanError
from ..scans.scan import AXES, Scan

if TYPE_CHECKING:
    from collections.abc import Iterable


def choose_axis(scan: Scan, axis: str = "auto") -> int:
    """Find the array axis whose slices are restored one by one.

    Parameters
    ----------
    axis
        "z", "y" or "x"; "auto" takes the acquisition axis, the one with the largest spacing (z where they are equal).

    Returns
    -------
    int
        0, 1 or 2.

    Raises
    ------
    ScanError
        If the axis has another name.
    """
    if axis == "auto":
        # Spacings that differ by rounding only are equal.
        return max(range(3), key=lambda i: (round(scan.spacing_mm[i], 3), -i))
    if axis not in AXES:
        raise ScanError(f"The slice axis must be auto, z, y or x; got {axis!r}.")
    return AXES.index(axis)


def nearest(slices: Iterable[int], displayed: int, count: int) -> list[int]:
    """Pick the slices that come next: those nearest to the slice on screen, the lower one of two first."""
    return heapq.nsmallest(count, slices, key=lambda i: (abs(i - displayed), i))


def region_of(scan: Scan, axis: int, index: int) -> tuple[slice, slice, slice]:
    """Return the voxels of one slice, in z, y, x order, ends one past the last voxel."""
    region = [slice(0, size) for size in scan.shape]
    region[axis] = slice(index, index + 1)
    return region[0], region[1], region[2]
