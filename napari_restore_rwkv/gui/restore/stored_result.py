"""A result that is never entirely in memory: saved slices are in a Zarr folder, unsaved ones in memory."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from ...progress import Phase
from ...restoration.detail import Blend
from ...scans.lazy import LazyVoxels
from .mixture import Mixture
from .result import NEUTRAL, RestorationResult, difference_of, rounded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ...jobs.job import ZarrJob
    from ...progress import Progress
    from ...scans.lazy import Box
    from ...scans.scan import Scan

# Slices that are sampled for the display limits have to be read again.
SAMPLED_SLICES = 64
SAMPLED_AT_OPENING = 4


class StoredResult(RestorationResult):
    """A result of any size, whose layers read only what is displayed.

    Saved slices are read from the Zarr folder. A slice that is finished but not saved yet, or that was restored by
    itself, is held in memory.

    Attributes
    ----------
    saved
        Indices of the slices that are saved in the folder.
    """

    def __init__(self, scan: Scan, axis: int) -> None:
        super().__init__(scan, axis)
        self.saved: set[int] = set()
        self._single: dict[int, np.ndarray] = {}
        self._stored: LazyVoxels | None = None
        self._damaged_is_missing = True
        self._restored = LazyVoxels(scan.shape, np.float32, self._read_restored)
        self._difference = LazyVoxels(scan.shape, np.float32, self._read_difference)

    @property
    def restored(self) -> LazyVoxels:
        """Restored voxels."""
        return self._restored

    @property
    def difference(self) -> LazyVoxels:
        """Restored minus input, computed for what is displayed."""
        return self._difference

    @property
    def target(self) -> _SingleSlices:
        """The output for slices that are restored by themselves."""
        return _SingleSlices(self)

    @property
    def remaining(self) -> list[int]:
        """The slices that are not saved."""
        return [index for index in range(self.slices) if index not in self.saved]

    def propose(self, strength: float) -> None:
        """Set the strength to restore with: the file holds the voxels as they are applied."""
        self.applied = strength

    def prepare(self) -> None:
        """Prepare for single slices."""
        self.ready = True

    def accepts_output(self, output: Path | None) -> bool:
        """Whether this is a file, and the one it was started with, if there is one."""
        return output is not None and self.output in (None, output)

    def adopt(self, earlier: RestorationResult) -> None:
        """Use the slices of an earlier result in memory until they are saved."""
        self.applied = earlier.proposed * earlier.applied
        mixed = Mixture(earlier.restored, earlier.difference, Blend(earlier.proposed), earlier.axis)
        for index in sorted(earlier.finished):
            self._single[index] = mixed[earlier.region(index)]
        self.finished |= earlier.finished
        self.limit = earlier.limit

    def open(self, path: Path, saved: Iterable[int]) -> None:
        """Read from the folder of a job, in which these slices are saved; call it off the GUI thread."""
        self.output = path
        self._damaged_is_missing = True
        self._stored = _array_in(path)
        self._count_as_saved(saved)
        known = sorted(self.saved)
        for index in known[:: max(1, len(known) // SAMPLED_AT_OPENING)]:
            region = self.region(index)
            self._keep_difference(region, np.asarray(self.scan.voxels[region]))
        self.ready = True

    def take_from(self, job: ZarrJob, progress: Progress) -> Box | None:
        """Add the slices of a step of a job, and return the region to redraw; call it off the GUI thread."""
        region = progress.region
        if region is None:
            return None
        indices = range(region[self.axis].start, region[self.axis].stop)
        fresh = [index for index in indices if index not in self.finished]
        if progress.phase is Phase.SAVED:
            self._count_as_saved(indices)
        else:
            for index in set(indices) - self.saved:
                self._single[index] = job.unsaved(self.region(index))
            self.finished.update(indices)
        for index in fresh:
            if not self._magnitudes or index % (self.slices // SAMPLED_SLICES + 1) == 0:
                self._keep_difference(self.region(index), np.asarray(self.scan.voxels[self.region(index)]))
        return region if fresh else None

    def close(self, restored: Scan) -> None:
        """Keep the provenance: the job is complete and has been checked."""
        self.provenance = dict(restored.metadata["restoration"])
        self._damaged_is_missing = False

    def as_scan(self, blend: Blend = NEUTRAL) -> Scan:
        """Return the restored scan with lazy voxels, of the type in which it is saved."""
        stored = self._stored
        assert stored is not None, "only a completely saved result can be read as a scan"
        mixture = Mixture(self.restored, self.difference, blend, self.axis)

        def read(box: Box) -> np.ndarray:
            if blend == NEUTRAL:
                return stored[box]
            mixed = mixture[box]
            return rounded(mixed, stored.dtype) if stored.dtype.kind in "iu" else mixed.astype(stored.dtype)

        voxels = LazyVoxels(stored.shape, stored.dtype, read)
        return self.scan.with_voxels(voxels, metadata=self.metadata(blend))

    def _count_as_saved(self, indices: Iterable[int]) -> None:
        # In this order, so that every slice can be read from one of the two at any moment.
        self.saved.update(indices)
        self.finished |= self.saved
        for index in self.saved & self._single.keys():
            del self._single[index]

    def _keep_difference(self, region: Box, original: np.ndarray) -> None:
        self._measure(difference_of(self.restored[region], original))

    def _read_restored(self, box: Box) -> np.ndarray:
        voxels = np.full([along.stop - along.start for along in box], np.nan, np.float32)
        wanted = range(box[self.axis].start, box[self.axis].stop)
        single = {index: image for index in wanted if (image := self._single.get(index)) is not None}
        for index, image in single.items():
            voxels[self._part(box, index, index + 1)] = image[self._within(box)]
        for start, stop in _runs(index for index in wanted if index in self.saved and index not in single):
            voxels[self._part(box, start, stop)] = self._read_saved(box, start, stop)
        return voxels

    def _read_saved(self, box: Box, start: int, stop: int) -> Any:
        assert self._stored is not None, "nothing is saved before open()"
        source = list(box)
        source[self.axis] = slice(start, stop)
        try:
            return self._stored[tuple(source)]
        except Exception:
            # Zarr raises many kinds of errors. A job verifies what it has saved, and restores damaged slices again.
            if not self._damaged_is_missing:
                raise
            return np.nan

    def _read_difference(self, box: Box) -> np.ndarray:
        wanted = range(box[self.axis].start, box[self.axis].stop)
        if not any(index in self.finished for index in wanted):
            return np.full([along.stop - along.start for along in box], np.nan, np.float32)
        return difference_of(self._read_restored(box), np.asarray(self.scan.voxels[box]))

    def _part(self, box: Box, start: int, stop: int) -> tuple[slice, ...]:
        """Return the position of these slices within a box."""
        first = box[self.axis].start
        return tuple(slice(start - first, stop - first) if axis == self.axis else slice(None) for axis in range(3))

    def _within(self, box: Box) -> tuple[slice, ...]:
        """Return the part of a slice that lies in a box."""
        return tuple(slice(None) if axis == self.axis else along for axis, along in enumerate(box))


class _SingleSlices:
    """An output for `restore` with the shape of the whole scan that stores only single slices."""

    def __init__(self, result: StoredResult) -> None:
        self.shape, self.dtype = result.scan.shape, np.dtype(np.float32)
        self._result = result

    def __setitem__(self, region: Box, image: np.ndarray) -> None:
        self._result._single[region[self._result.axis].start] = image


def _array_in(path: Path) -> LazyVoxels:
    """Return the full-resolution level of an output, complete or not."""
    import zarr

    array: Any = zarr.open_array(path / "0", mode="r")
    return LazyVoxels(array.shape, array.dtype, lambda box: np.asarray(array[box]), source=path)


def _runs(indices: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the start and the stop of each run of consecutive numbers."""
    for _, group in groupby(enumerate(indices), key=lambda pair: pair[1] - pair[0]):
        run = [index for _, index in group]
        yield run[0], run[-1] + 1
