"""The order in which the slices of a long job are restored, and how their results become whole slabs.

A queue is a `SliceSource`: each time it is asked for the next slice, it chooses the one that matters most at that
moment. So one run of the network serves the whole job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..restoration.output import as_dtype
from ..restoration.plan import nearest, region_of
from ..restoration.source import Slice
from .digests import slice_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..restoration.slices import Restored
    from ..scans.scan import Scan
    from ..scans.zarr.writing import ZarrLayout

# Scrolling back and forth leaves slabs half done; each of them takes memory.
_MOST_OPEN = 3


@dataclass(slots=True)
class Slab:
    """A slab in progress.

    Attributes
    ----------
    number
        Its position among the slabs of the output.
    slices
        Their indices.
    read
        Slices of the input that were read: those of the slab, and neighbours on either side.
    voxels
        Input, of the size of `read`; None once all slices have been taken.
    result
        Restored voxels; only slices in `there` have values.
    waiting
        Indices of slices that have not been taken yet.
    there
        Indices of slices that are restored.
    digests
        Sha256 of each slice of the input, by index.
    """

    number: int
    slices: range
    read: range
    voxels: np.ndarray | None
    result: np.ndarray
    waiting: set[int]
    there: set[int]
    digests: dict[int, str]


class SlabQueue:
    """Supplies slices, the one on screen first, and collects their results.

    Parameters
    ----------
    scan
        Read slab by slab.
    layout
        Of the output.
    slabs
        Numbers of the slabs to be restored.
    displayed
        Slice on screen.
    neighbours
        Whether slices come with their neighbours; a slab is then read with one more slice on either side.

    Attributes
    ----------
    total
        Number of slices in all those slabs.
    displayed
        Slice on screen, as last sent.
    finished
        Slabs whose slices are all restored, in order of completion, until they are taken.
    """

    def __init__(
        self, scan: Scan, layout: ZarrLayout, slabs: Iterable[int], displayed: int = 0, *, neighbours: bool = False
    ) -> None:
        self.finished: list[Slab] = []
        self.displayed = displayed
        self._scan, self._layout, self._neighbours = scan, layout, neighbours
        self._waiting = set(slabs)
        self._open: dict[int, Slab] = {}
        self._current: Slab | None = None
        self.total = sum(len(layout.slices(number)) for number in self._waiting)
        self._taken = 0

    @property
    def remaining(self) -> int:
        """How many slices have not been handed out."""
        return self.total - self._taken

    def take(self, count: int) -> list[Slice]:
        """Return the slices nearest to the display, slab by slab."""
        taken = [self._next() for _ in range(min(count, self.remaining))]
        self._taken += len(taken)
        return taken

    def add_restored(self, one: Restored) -> tuple[slice, slice, slice]:
        """Add a restored slice; returns its place in the output."""
        [slab] = [slab for slab in self._open.values() if one.index in slab.slices]
        values = as_dtype(one.values, one.image, slab.result.dtype)
        slab.result[self._within(slab.slices, one.index)] = np.expand_dims(values, self._layout.axis)
        slab.there.add(one.index)
        if len(slab.there) == len(slab.slices):
            self.finished.append(self._open.pop(slab.number))
        return region_of(self._scan, self._layout.axis, one.index)

    def show(self, displayed: int) -> None:
        """Continue with the slices nearest to this one."""
        self.displayed = displayed
        self._current = None

    def take_finished(self) -> list[Slab]:
        """Return the finished slabs, and drop them from the queue."""
        finished, self.finished = self.finished, []
        return finished

    def restored_slices(self) -> int:
        """Count the restored slices in slabs that are not finished."""
        return sum(len(slab.there) for slab in self._open.values())

    def overlay(self, box: tuple[slice, ...], voxels: np.ndarray) -> None:
        """Copy what is restored but not saved yet into the voxels of that box of the output."""
        axis = self._layout.axis
        wanted = range(box[axis].start, box[axis].stop)
        for slab in [*self._open.values(), *self.finished]:
            for index in slab.there & set(wanted):
                source, target = list(box), [slice(None)] * 3
                source[axis] = slice(index - slab.slices.start, index - slab.slices.start + 1)
                target[axis] = slice(index - wanted.start, index - wanted.start + 1)
                voxels[tuple(target)] = slab.result[tuple(source)]

    def _next(self) -> Slice:
        slab = self._chosen()
        [index] = nearest(slab.waiting, self.displayed, 1)
        slab.waiting.remove(index)
        image, below, above = (self._image(slab, at) for at in (index, index - 1, index + 1))
        slab.digests[index] = slice_digest(image)
        if not slab.waiting:
            slab.voxels = None
        return Slice(index, image, below, above) if self._neighbours else Slice(index, image, image, image)

    def _image(self, slab: Slab, index: int) -> np.ndarray:
        """Return a slice of the input, clamped to the slices that were read."""
        assert slab.voxels is not None
        index = min(max(index, slab.read.start), slab.read.stop - 1)
        return slab.voxels[self._within(slab.read, index)].squeeze(self._layout.axis)

    def _within(self, slices: range, index: int) -> tuple[slice, ...]:
        at = index - slices.start
        return tuple(slice(at, at + 1) if axis == self._layout.axis else slice(None) for axis in range(3))

    def _chosen(self) -> Slab:
        """Stay with a slab until it is done, unless another slice is shown."""
        if self._current is None or not self._current.waiting:
            started = {number for number, slab in self._open.items() if slab.waiting}
            full = len(self._open) >= _MOST_OPEN
            candidates = started if full and started else started | self._waiting
            number = min(
                candidates,
                key=lambda number: (_distance(self._layout, number, self.displayed), number not in started, number),
            )
            self._current = self._open[number] if number in self._open else self._opened(number)
        return self._current

    def _opened(self, number: int) -> Slab:
        self._waiting.remove(number)
        slices, axis = self._layout.slices(number), self._layout.axis
        more = int(self._neighbours)
        read = range(max(slices.start - more, 0), min(slices.stop + more, self._scan.shape[axis]))
        region = [slice(None)] * 3
        region[axis] = slice(read.start, read.stop)
        voxels = np.asarray(self._scan.voxels[tuple(region)])
        shape = [len(slices) if at == axis else size for at, size in enumerate(self._scan.shape)]
        slab = Slab(number, slices, read, voxels, np.empty(shape, self._layout.dtype), set(slices), set(), {})
        self._open[number] = slab
        return slab


def nearest_slab(layout: ZarrLayout, slabs: Iterable[int], displayed: int) -> int:
    """Return the slab whose slices are nearest to the one on screen, the lowest of several."""
    return min(slabs, key=lambda number: (_distance(layout, number, displayed), number))


def _distance(layout: ZarrLayout, number: int, displayed: int) -> int:
    slices = layout.slices(number)
    return max(slices.start - displayed, displayed - slices.stop + 1, 0)


def slabs_of_part(slabs: int, part: tuple[int, int] | None) -> range:
    """Return the slabs of part i of n, counted from 1: every n-th, so that all parts have about the same work."""
    return range(slabs) if part is None else range(part[0] - 1, slabs, part[1])
