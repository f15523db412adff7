"""The array that a result is written to, and its dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..scans.scan import Scan


def new_output(scan: Scan, dtype: Any, *, whole: bool) -> np.ndarray:
    """Create an array for a result; unless all of it will be written, it starts as a copy of the scan.

    Its type is `dtype`, or by default the scan's own if that is an integer of 16 bits or more, otherwise float32.
    """
    own = np.dtype(scan.voxels.dtype)
    chosen = (
        np.dtype(dtype) if dtype is not None else own if own.kind in "iu" and own.itemsize > 1 else np.dtype(np.float32)
    )
    return np.empty(scan.shape, chosen) if whole else as_dtype(np.asarray(scan.voxels), np.asarray(scan.voxels), chosen)


def as_dtype(values: np.ndarray, original: np.ndarray, dtype: Any) -> np.ndarray:
    """Convert to the output's type; integers are rounded and clipped, and untouched voxels stay as they were."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "iu":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    # The largest 64-bit integers cannot be represented in float64: the next float64 below is the highest that fits.
    highest = limits.max if int(float(limits.max)) <= limits.max else np.nextafter(float(limits.max), 0)
    # NaN and infinities have no integer: they become 0, or the nearest end of the range.
    finite = np.nan_to_num(values.astype(np.float64), posinf=highest, neginf=limits.min)
    converted = np.rint(finite).clip(limits.min, highest).astype(dtype)
    if original.dtype == dtype:
        # Values that passed through float32 may have lost digits.
        converted = np.where(values == original.astype(np.float32), original, converted)
    return converted
