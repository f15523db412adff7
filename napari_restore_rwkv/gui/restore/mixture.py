"""A result mixed with its input, computed only for what is displayed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...restoration.detail import Blend, blended
from .array_like import ArrayLike


class Mixture(ArrayLike):
    """An array ``base + blended(difference) - difference``.

    With the restored voxels as base, this is the input plus the part of the change that the blend keeps; with the
    difference as base, it is that part alone. Where the difference is not finite, the base is unchanged.

    Parameters
    ----------
    base, difference
        Arrays (Z, Y, X), or objects that can be indexed like one with integers and slices.
    blend
        How much of the difference is kept; it can be changed.
    axis
        Array axis across the slices in which coarse and fine detail are separated.
    """

    def __init__(self, base: Any, difference: Any, blend: Blend, axis: int) -> None:
        super().__init__(base)
        self.difference = difference
        self.blend = blend
        self.axis = axis

    def __getitem__(self, index: Any) -> np.ndarray:
        if self.blend.is_even:
            left = np.float32(self.blend.strength * (1 - self.blend.fine) - 1.0)
            return self.base[index] + left * _known(self.difference[index])
        index = one_for_each_axis(index, self.ndim)
        # Coarse and fine detail are separated in whole slices.
        whole = tuple(one if at == self.axis else slice(None) for at, one in enumerate(index))
        single = not isinstance(index[self.axis], slice)
        difference = _known(self.difference[whole])
        planes = difference[np.newaxis] if single else np.moveaxis(difference, self.axis, 0)
        change = np.stack([blended(plane, self.blend) - plane for plane in planes])
        change = change[0] if single else np.moveaxis(change, 0, self.axis)
        wanted = [slice(None) if at == self.axis else one for at, one in enumerate(index)]
        if single:
            del wanted[self.axis]
        return self.base[index] + change[tuple(wanted)]


def mixed(base: Any, difference: Any, blend: Blend, axis: int) -> Any:
    """Return a `Mixture`, or the base itself if it would be the same."""
    return base if blend == Blend() else Mixture(base, difference, blend, axis)


def with_detail_back(before: np.ndarray, after: np.ndarray, blend: Blend, axis: int = 0) -> np.ndarray:
    """Return a restored scan as the panel shows it: mixed with its input, coarse and fine detail separately.

    Parameters
    ----------
    before, after
        Input and restored voxels, shape (Z, Y, X) or (Y, X), in the same unit.
    blend
        How much of the change is kept.
    axis
        Array axis across the slices, 0 to 2 for z, y, x; ignored for a single slice (Y, X).

    Returns
    -------
    ndarray
        Float32, the same shape.
    """
    flat, restored = before.ndim == 2, np.asarray(after, np.float32)
    difference = restored - np.asarray(before, np.float32)
    if flat:
        restored, difference, axis = restored[np.newaxis], difference[np.newaxis], 0
    shown = np.asarray(mixed(restored, difference, blend, axis))
    return shown[0] if flat else shown


def _known(difference: Any) -> np.ndarray:
    return np.nan_to_num(difference, nan=0.0, posinf=0.0, neginf=0.0)


def one_for_each_axis(index: Any, ndim: int) -> tuple[Any, ...]:
    """Return an index with an integer or a slice for every axis, including those that it left out."""
    index = index if isinstance(index, tuple) else (index,)
    at = next((at for at, one in enumerate(index) if one is Ellipsis), len(index))
    rest = [slice(None)] * (ndim - len(index) + (at < len(index)))
    return (*index[:at], *rest, *index[at + 1 :])
