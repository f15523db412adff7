"""Which slices of a scan are restored, and in what order."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..scans.scan import Scan


def nearest(slices: Iterable[int], displayed: int, count: int) -> list[int]:
    """Pick the next slices: those nearest to the slice on screen, the lower one first if equally near."""
    return heapq.nsmallest(count, slices, key=lambda i: (abs(i - displayed), i))


def region_of(scan: Scan, axis: int, index: int) -> tuple[slice, slice, slice]:
    """Return the index ranges of one slice, in z, y, x order, ends exclusive."""
    region = [slice(0, size) for size in scan.shape]
    region[axis] = slice(index, index + 1)
    return region[0], region[1], region[2]
