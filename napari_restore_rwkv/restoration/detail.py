"""Restored detail: how much of what was removed is put back, its coarse and fine parts separately.

With d = restored - input, a Gaussian low-pass L, the strength s, and the fractions c (coarse) and f (fine) put back,

    shown = input + s [(1 - c) L d + (1 - f) (d - L d)]

so that s = 1, c = f = 0 is the result itself, and c = f is the same as a lower strength. Noise that is put back makes a
slice less waxy: readers want that of filters, and scanners offer it as a mixture with the unfiltered image. What is
put back comes from the scan itself, so nothing is invented; the split at one Gaussian is that of an unsharp mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# Half of the power at 0.094 cycles per pixel, structures of some 5 pixels: finer than organs, coarser than grain.
SPLIT_PX = 2.0
_REACH = 3.0


@dataclass(frozen=True, slots=True)
class Blend:
    """How a restoration is mixed with its input, in fractions from 0 to 1.

    Attributes
    ----------
    strength
        How much of the restoration is mixed in.
    coarse, fine
        How much of its change is undone, below and above the split.
    """

    strength: float = 1.0
    coarse: float = 0.0
    fine: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= share <= 1 for share in (self.strength, self.coarse, self.fine)):
            raise ValueError(f"Strength, coarse and fine must be fractions from 0 to 1; got {self}.")

    @property
    def is_even(self) -> bool:
        """Whether coarse and fine are treated alike, so that each pixel depends only on itself."""
        return self.coarse == self.fine

    def as_dict(self, applied: float = 1.0) -> dict[str, Any]:
        """Return plain values for a record; `applied` is the strength that the voxels were made with."""
        known: dict[str, Any] = {"strength": self.strength * applied}
        if self.coarse or self.fine:
            known["detail_back"] = {"coarse": self.coarse, "fine": self.fine, "split_px": SPLIT_PX}
        return known


def blended(change: np.ndarray, blend: Blend) -> np.ndarray:
    """Return what a blend leaves of a change, restored - input.

    Parameters
    ----------
    change
        One slice, shape (Y, X), in any unit; non-finite values count as 0.

    Returns
    -------
    ndarray
        Shape (Y, X), float32, in the same unit.
    """
    known = np.nan_to_num(change.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    fine = np.float32(blend.strength * (1 - blend.fine))
    if blend.is_even:
        return fine * known
    coarse = np.float32(blend.strength * (1 - blend.coarse))
    return fine * known + (coarse - fine) * low_pass(known)


def low_pass(image: np.ndarray) -> np.ndarray:
    """Gaussian low-pass of a slice (Y, X), mirrored at the border; float32, same shape."""
    reach = round(_REACH * SPLIT_PX)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SPLIT_PX) ** 2).astype(np.float32)
    weights /= weights.sum()
    for axis in (0, 1):
        pads = [(reach, reach) if axis == at else (0, 0) for at in (0, 1)]
        # Rows or columns first, with the axis moved to the front: neighbours are then whole slices of the array.
        padded = np.moveaxis(np.pad(np.asarray(image, np.float32), pads, mode="symmetric"), axis, 0)
        length = image.shape[axis]
        pairs = (
            weights[at] * (padded[at : at + length] + padded[2 * reach - at : 2 * reach - at + length])
            for at in range(reach)
        )
        image = np.moveaxis(sum(pairs, weights[reach] * padded[reach : reach + length]), 0, axis)
    return image
