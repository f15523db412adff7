"""How the voxel values of a scan become the 16-bit numbers of DICOM slices: ``value = stored * slope + intercept``.

Integers are stored as they are if they fit in 16 bits. Others are rounded to steps of the slope, by at most half a
step, and the slope is as small as the values allow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom.valuerep import format_number_as_ds

_BITS = 16
_HIGHEST = 2 ** (_BITS - 1) - 1


@dataclass(frozen=True, slots=True)
class StoredAs:
    """How values are stored.

    Attributes
    ----------
    signed
        Whether stored numbers are int16 rather than uint16.
    slope, intercept
        As written, at most 16 characters each; the slope is above 0.
    exact
        Whether no digits are lost.
    """

    signed: bool = True
    slope: str = "1"
    intercept: str = "0"
    exact: bool = True

    @property
    def dtype(self) -> np.dtype:
        """Type of the stored numbers."""
        return np.dtype(np.int16 if self.signed else np.uint16)

    def stored(self, values: np.ndarray) -> np.ndarray:
        """Return the nearest stored numbers of finite values, in the same shape."""
        steps = (np.asarray(values, np.float64) - float(self.intercept)) / float(self.slope)
        limits = np.iinfo(self.dtype)
        return np.rint(steps).clip(limits.min, limits.max).astype(self.dtype)

    def holds(self, value: float) -> bool:
        """Whether a value can be stored exactly."""
        steps = (value - float(self.intercept)) / float(self.slope)
        limits = np.iinfo(self.dtype)
        return steps.is_integer() and limits.min <= steps <= limits.max


def stored_as(lowest: float, highest: float, *, whole: bool, from_zero: bool) -> StoredAs:
    """Choose how values are stored.

    Parameters
    ----------
    lowest, highest
        Range of the values (inclusive), finite.
    whole
        Whether all values are integers.
    from_zero
        Whether the intercept has to be 0, as in PET.
    """
    if whole:
        if lowest >= -_HIGHEST - 1 and highest <= _HIGHEST:
            return StoredAs()
        if lowest >= 0 and highest < 2**_BITS:
            return StoredAs(signed=False)
        if not from_zero and highest - lowest < 2**_BITS and abs(lowest) < 10**15:
            return StoredAs(signed=False, intercept=str(int(lowest)))
    intercept = "0" if from_zero else format_number_as_ds(float(lowest + (highest - lowest) / 2))
    reach = max(highest - float(intercept), float(intercept) - lowest)
    return StoredAs(slope=format_number_as_ds(reach / _HIGHEST) if reach else "1", intercept=intercept, exact=not reach)
