"""In which order the slices of a long job are restored, and how their results become whole slabs.

`restore` takes its slices one after the other from a scan that has no order of its own: each time it asks for the next,
the slice is chosen that matters most by then. So one run of the network serves the whole job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..restoration.plan import nearest, region_of
from .digests import slice_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..scans.scan import Scan
    from ..scans.zarr_write import ZarrLayout

# Who scrolls back and forth leaves slabs half done; each of them takes memory.
_MOST_OPEN = 3


@dataclass(slots=True)
class Slab:
    """Some slices on their way.

    Attributes
    ----------
    unit
        Number of the slab.
    slices
        Their indices.
    voxels
        Input, of the size of the slab; None once all slices are handed out.
    result
        What has come back; only what is in `there` has values.
    waiting
        Indices of slices that nobody works on yet.
    there
        Indices of slices that have come back.
    digests
        Sha256 of each slice of the input, by index.
    """

    unit: int
    slices: range
    voxels: np.ndarray | None
    result: np.ndarray
    waiting: set[int]
    there: set[int]
    digests: dict[int, str]


class SlabQueue:
    """Hands out slices, the one on screen first, and collects their results.

    Parameters
    ----------
    scan
        Read slab by slab.
    layout
        Of the output.
    units
        Slabs to be done.
    displayed
        Slice on screen.

    Attributes
    ----------
    incoming, outgoing
        The input and the output for `restore`: as many slices as are to be done, without an order of their own.
    finished
        Slabs whose slices have all come back, in that order, until they are taken.
    """

    def __init__(self, scan: Scan, layout: ZarrLayout, units: Iterable[int], displayed: int = 0) -> None:
        self.finished: list[Slab] = []
        self._scan, self._layout, self._displayed = scan, layout, displayed
        self._waiting = set(units)
        self._open: dict[int, Slab] = {}
        self._current: Slab | None = None
        # Numbers only: whoever kept the slabs here would keep the whole output in memory.
        self._handed_out: dict[int, tuple[int, int]] = {}
        count = sum(len(layout.slices(unit)) for unit in self._waiting)
        shape = tuple(count if axis == layout.axis else size for axis, size in enumerate(layout.shape))
        self.incoming = _Incoming(self, shape, scan.voxels.dtype)
        self.outgoing = _Outgoing(self, shape, layout.dtype)

    def show(self, displayed: int) -> None:
        """Go on with the slices nearest to this one."""
        self._displayed = displayed
        self._current = None

    def take_finished(self) -> list[Slab]:
        """Return the slabs that have come back as a whole, and let go of them."""
        finished, self.finished = self.finished, []
        return finished

    def slices_there(self) -> int:
        """Count the slices that have come back in slabs that are not finished."""
        return sum(len(slab.there) for slab in self._open.values())

    def overlay(self, box: tuple[slice, ...], voxels: np.ndarray) -> None:
        """Put what has come back, and is not saved yet, into voxels of that box of the output."""
        axis = self._layout.axis
        wanted = range(box[axis].start, box[axis].stop)
        for slab in [*self._open.values(), *self.finished]:
            for index in slab.there & set(wanted):
                source, target = list(box), [slice(None)] * 3
                source[axis] = slice(index - slab.slices.start, index - slab.slices.start + 1)
                target[axis] = slice(index - wanted.start, index - wanted.start + 1)
                voxels[tuple(target)] = slab.result[tuple(source)]

    def region(self, number: int) -> tuple[slice, slice, slice]:
        """Return where the slice lies that was handed out as this number and has come back; asked for once."""
        _, index = self._handed_out.pop(number)
        return region_of(self._scan, self._layout.axis, index)

    def _next(self, number: int) -> np.ndarray:
        slab = self._chosen()
        [index] = nearest(slab.waiting, self._displayed, 1)
        slab.waiting.remove(index)
        self._handed_out[number] = slab.unit, index
        assert slab.voxels is not None
        image = slab.voxels[self._within(slab, index)]
        slab.digests[index] = slice_digest(image.squeeze(self._layout.axis))
        if not slab.waiting:
            slab.voxels = None
        return image

    def _came_back(self, number: int, image: np.ndarray) -> None:
        unit, index = self._handed_out[number]
        slab = self._open[unit]
        slab.result[self._within(slab, index)] = image
        slab.there.add(index)
        if len(slab.there) == len(slab.slices):
            self.finished.append(self._open.pop(slab.unit))

    def _within(self, slab: Slab, index: int) -> tuple[slice, ...]:
        at = index - slab.slices.start
        return tuple(slice(at, at + 1) if axis == self._layout.axis else slice(None) for axis in range(3))

    def _chosen(self) -> Slab:
        """Stay with a slab until it is done, unless another slice has come on screen."""
        if self._current is None or not self._current.waiting:
            started = {unit for unit, slab in self._open.items() if slab.waiting}
            full = len(self._open) >= _MOST_OPEN
            candidates = started if full and started else started | self._waiting
            unit = min(
                candidates, key=lambda unit: (_distance(self._layout, unit, self._displayed), unit not in started, unit)
            )
            self._current = self._open[unit] if unit in self._open else self._opened(unit)
        return self._current

    def _opened(self, unit: int) -> Slab:
        self._waiting.remove(unit)
        slices = self._layout.slices(unit)
        region = [slice(None)] * 3
        region[self._layout.axis] = slice(slices.start, slices.stop)
        voxels = np.asarray(self._scan.voxels[tuple(region)])
        slab = Slab(unit, slices, voxels, np.empty(voxels.shape, self._layout.dtype), set(slices), set(), {})
        self._open[unit] = slab
        return slab


class _Incoming:
    def __init__(self, queue: SlabQueue, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype, self._queue = shape, np.dtype(dtype), queue

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        return self._queue._next(_number(region, self._queue))


class _Outgoing:
    def __init__(self, queue: SlabQueue, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype, self._queue = shape, np.dtype(dtype), queue

    def __setitem__(self, region: tuple[slice, ...], image: np.ndarray) -> None:
        self._queue._came_back(_number(region, self._queue), image)


def _number(region: tuple[slice, ...], queue: SlabQueue) -> int:
    return int(region[queue._layout.axis].start)


def nearest_unit(layout: ZarrLayout, units: Iterable[int], displayed: int) -> int:
    """Return the unit whose slices are nearest to the one on screen, the lowest of several."""
    return min(units, key=lambda unit: (_distance(layout, unit, displayed), unit))


def _distance(layout: ZarrLayout, unit: int, displayed: int) -> int:
    slices = layout.slices(unit)
    return max(slices.start - displayed, displayed - slices.stop + 1, 0)


def units_of_part(units: int, part: tuple[int, int] | None) -> range:
    """Return the slabs of part i of n, counted from 1: every n-th, so that all parts have about as much to do."""
    return range(units) if part is None else range(part[0] - 1, units, part[1])
