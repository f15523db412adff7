"""Where the slices of a restoration come from, one after another, each with its neighbours."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..scans.scan import slice_of
from .plan import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from ..scans.scan import Scan


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice of a scan and its neighbours.

    Attributes
    ----------
    index
        Its position along the slice axis, from 0.
    image, below, above
        Voxels (Y, X) in the unit of the scan: of the slice, and of those before and after it. At the ends of a scan,
        and if neighbours are not requested, the slice itself takes their place.
    """

    index: int
    image: np.ndarray
    below: np.ndarray
    above: np.ndarray


class SliceSource(Protocol):
    """Supplies every slice once."""

    @property
    def remaining(self) -> int:
        """How many slices have not been handed out."""

    def take(self, count: int) -> list[Slice]:
        """Return up to this many slices, at least one while any remain: those that currently matter most."""


class ScanSource:
    """The slices of a scan, those nearest to the displayed one first.

    Parameters
    ----------
    scan
        Read slice by slice.
    axis
        0, 1 or 2: the array axis across the slices.
    indices
        Slices to supply.
    displayed
        Slice on screen; set it when another one is shown.
    neighbours
        Whether slices come with their neighbours, which then have to be read.
    """

    def __init__(
        self, scan: Scan, axis: int, indices: Iterable[int], *, displayed: int = 0, neighbours: bool = False
    ) -> None:
        self.displayed = displayed
        self._scan, self._axis, self._waiting, self._neighbours = scan, axis, set(indices), neighbours
        # Slices mostly come in order, so the next one needs two of these again.
        self._last_read: dict[int, np.ndarray] = {}

    @property
    def remaining(self) -> int:
        """How many slices have not been handed out."""
        return len(self._waiting)

    def take(self, count: int) -> list[Slice]:
        """Return the slices nearest to the displayed one."""
        chosen = nearest(self._waiting, self.displayed, count)
        self._waiting.difference_update(chosen)
        return [self._with_neighbours(index) for index in chosen]

    def _with_neighbours(self, index: int) -> Slice:
        if not self._neighbours:
            image = self._read(index)
            return Slice(index, image, image, image)
        last = self._scan.shape[self._axis] - 1
        near = dict.fromkeys((max(index - 1, 0), index, min(index + 1, last)))
        self._last_read = {at: self._last_read[at] if at in self._last_read else self._read(at) for at in near}
        return Slice(index, self._last_read[index], self._last_read[min(near)], self._last_read[max(near)])

    def _read(self, index: int) -> np.ndarray:
        return slice_of(self._scan.voxels, self._axis, index)


class GivenSlices:
    """Slices that are already in memory, in their order."""

    def __init__(self, slices: Iterable[Slice]) -> None:
        self._waiting = deque(slices)

    @property
    def remaining(self) -> int:
        """How many slices have not been handed out."""
        return len(self._waiting)

    def take(self, count: int) -> list[Slice]:
        """Return the next slices."""
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
