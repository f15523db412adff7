"""Which axis the slices of a scan follow, and why: decided once for restoration, training, viewer and file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ScanError
from .scan import AXES, anatomical_axes

if TYPE_CHECKING:
    from .scan import Scan

# Below this ratio, spacings say nothing about how a scan was acquired: CT of 0.6 mm slices has 0.6 to 1 mm pixels.
_CLEARLY_LARGER = 1.5
# A network that halves its images three times sees almost nothing in a narrower one.
_NARROW_PIXELS = 32
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class SliceAxis:
    """The array axis across the slices.

    Attributes
    ----------
    axis
        0, 1 or 2 for z, y, x.
    reason
        Why, as the end of a sentence that begins with "slices along z, ".
    """

    axis: int
    reason: str

    def __str__(self) -> str:
        return f"{AXES[self.axis]}, {self.reason}"


def choose_slice_axis(scan: Scan, axis: str = "auto") -> SliceAxis:
    """Choose the axis across the slices that are restored, or trained on, one by one.

    Parameters
    ----------
    axis
        "z", "y" or "x", the array axes; or "auto": the axis across the acquired slices if the reader knows it, as for
        DICOM; else the one whose spacing is at least 1.5 times each of the others; else the one closest to the
        patient's length. If that gives slices less than 32 pixels wide and another axis does not, the other.

    Raises
    ------
    ScanError
        The axis is none of these.
    """
    if axis != "auto":
        if axis not in AXES:
            raise ScanError(f"The slice axis must be auto, z, y or x; got {axis!r}.")
        return SliceAxis(AXES.index(axis), "as was asked for")
    usual = _usual(scan)
    wide = [at for at in _order(scan, usual.axis) if min(slice_shape(scan, at)) >= _NARROW_PIXELS]
    if not wide or usual.axis in wide:
        return usual
    height, width = slice_shape(scan, usual.axis)
    return SliceAxis(wide[0], f"because slices along {AXES[usual.axis]} have only {height} x {width} pixels")


def _usual(scan: Scan) -> SliceAxis:
    if scan.acquired_along is not None:
        return SliceAxis(scan.acquired_along, "across the slices that were acquired")
    largest = max(range(3), key=lambda at: scan.spacing_mm[at])
    others = [scan.spacing_mm[at] for at in range(3) if at != largest]
    if scan.spacing_mm[largest] >= _CLEARLY_LARGER * max(others) * (1 - _ROUNDING):
        return SliceAxis(largest, f"whose spacing of {scan.spacing_mm[largest]:.3g} mm is by far the largest")
    *_, lengthwise = anatomical_axes(scan.direction)
    return SliceAxis(2 - lengthwise, "the patient's length, as no spacing is by far the largest")


def _order(scan: Scan, first: int) -> list[int]:
    """Return the array axes in the order in which they are tried: after the usual one, by spacing, z before x."""
    others = sorted((at for at in range(3) if at != first), key=lambda at: (-round(scan.spacing_mm[at], 3), at))
    return [first, *others]


def slice_shape(scan: Scan, axis: int) -> tuple[int, int]:
    """Return rows and columns of the slices across an axis."""
    height, width = (size for at, size in enumerate(scan.shape) if at != axis)
    return height, width


def evenly_spaced(count: int, most: int) -> list[int]:
    """Return at most this many numbers from 0 to count - 1, both ends among them."""
    numbers: list[int] = np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
    return numbers
