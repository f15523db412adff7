"""The difference of a result in a display mode, computed only where it is displayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...reliability.difference import Mode, as_seen
from ..restore.array_like import ArrayLike
from ..restore.mixture import one_for_each_axis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...scans.scan import Scan


class SeenDifference(ArrayLike):
    """The difference as an array, in another mode than signed values.

    Parameters
    ----------
    base
        restored - input, shape (Z, Y, X), or something indexed like it.
    scan, axis
        The scan, and the array axis across its slices.
    mode
        The display mode.
    least
        No relative change is shown up to this input; see `as_seen`.
    noise
        The local noise of slices by their index; slices are added later, and nothing is shown in a missing one.
    """

    def __init__(
        self, base: Any, scan: Scan, axis: int, mode: Mode, least: float, noise: Mapping[int, np.ndarray]
    ) -> None:
        super().__init__(base)
        self.mode = mode
        self._scan, self._axis, self._least, self._noise = scan, axis, least, noise

    def __getitem__(self, index: Any) -> np.ndarray:
        index = one_for_each_axis(index, self.ndim)
        noise = self._noise_at(index) if self.mode is Mode.IN_NOISE else None
        change, before = np.asarray(self.base[index]), np.asarray(self._scan.voxels[index])
        return as_seen(change, before, self.mode, self._scan.unit, self._least, noise)

    def _noise_at(self, index: tuple[Any, ...]) -> np.ndarray:
        along = index[self._axis]
        numbers = np.arange(self.shape[self._axis])[along]
        unknown = np.full([size for at, size in enumerate(self.shape) if at != self._axis], np.nan, np.float32)
        planes = [self._noise.get(int(number), unknown) for number in np.atleast_1d(numbers)]
        within = tuple(one for at, one in enumerate(index) if at != self._axis)
        seen = np.stack([plane[within] for plane in planes])
        if np.ndim(numbers) == 0:
            return seen[0]
        # Axes indexed by a number are gone.
        return np.moveaxis(seen, 0, sum(isinstance(one, slice) for one in index[: self._axis]))
