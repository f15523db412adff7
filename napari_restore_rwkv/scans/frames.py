"""All frames of a file or folder, and all series of a DICOM folder, for callers that can show them together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .dicom.detection import is_dicom
from .dicom.errors import SeveralSeriesError
from .opening import DEFAULT, opening
from .options import OpenOptions
from .volume.files import SeveralFramesError
from .whole import described
from .zarr.reading import images_in, is_zarr

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from ..progress import Progress
    from .scan import Scan


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of one scan, all in the same position.

    Attributes
    ----------
    scans
        One for each frame, at least one.
    names
        Name of each, such as "TE 10 ms"; blank if it is the only one.
    path
        The file or folder that they were opened from.
    choices
        For each frame the keywords of `OpenOptions` that select it there.
    title
        What distinguishes this scan from the others in its folder; blank if it is the only one.
    """

    scans: tuple[Scan, ...]
    names: tuple[str, ...]
    path: Path
    choices: tuple[dict[str, Any], ...]
    title: str = ""


def opening_all(path: Path) -> Generator[Progress, None, list[Frames]]:
    """Open everything in a file or folder; errors as from `opening`, except that nothing has to be chosen.

    Iterate it for `Progress`; the value of StopIteration has one entry for each series or image.
    """
    if len(images := images_in(path)) > 1:
        several_images = []
        for image in images:
            frames = yield from _frames(image, {})
            several_images.append(replace(frames, title=image.name))
        return several_images
    try:
        return [(yield from _frames(path, {}))]
    except SeveralSeriesError as several:
        from .dicom.series import series_key

        found = []
        for series in several.series:
            frames = yield from _frames(path, {"series": series_key(series.uid)})
            found.append(replace(frames, title=series.description or series.uid[-12:]))
        return found


class LazyFrames:
    """Frames of lazy voxels as one array of shape (T, Z, Y, X), of which only requested parts are read."""

    def __init__(self, frames: Frames) -> None:
        self._voxels = [scan.voxels for scan in frames.scans]
        self.dtype = np.result_type(*(voxels.dtype for voxels in self._voxels))
        self.shape = (len(self._voxels), *frames.scans[0].shape)
        self.ndim = 4
        self.size = int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, index: Any) -> np.ndarray:
        words = index if isinstance(index, tuple) else (index,)
        first, rest = (slice(None), words) if words[0] is Ellipsis else (words[0], words[1:] or (Ellipsis,))
        if isinstance(first, slice):
            return np.stack([np.asarray(voxels[rest], self.dtype) for voxels in self._voxels[first]])
        return np.asarray(self._voxels[int(first)][rest], self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def stacked(frames: Frames) -> Any:
    """Return the voxels of all frames, shape (T, Z, Y, X), in memory if all of them are."""
    voxels = [scan.voxels for scan in frames.scans]
    return np.stack(voxels) if all(isinstance(one, np.ndarray) for one in voxels) else LazyFrames(frames)


def _frames(path: Path, options: dict[str, Any]) -> Generator[Progress, None, Frames]:
    try:
        return Frames(((yield from opening(path, OpenOptions(**options))),), ("",), path, (options,))
    except SeveralFramesError as several:
        if not is_zarr(path) and (path.is_dir() or is_dicom(path)):
            return _dicom_frames(path, options)
        scans: list[Scan] = []
        names: list[str] = []
        choices: list[dict[str, Any]] = []
        for index, name in enumerate(several.names):
            inner = yield from _frames(path, {**options, several.option: index})
            scans += inner.scans
            choices += inner.choices
            names += [", ".join(filter(None, (name or f"frame {index}", word))) for word in inner.names]
        return Frames(tuple(scans), tuple(names), path, tuple(choices))


def _dicom_frames(path: Path, options: dict[str, Any]) -> Frames:
    """Read all frames of a series, scanning its files only once."""
    from .dicom.reading import scan_of_stack
    from .dicom.series import read_series

    stacks = read_series(path, options.get("series"))
    notes = {"notes": list(stacks.notes)} if stacks.notes else {}
    read = (scan_of_stack(frame, stacks.images) for frame in stacks.frames)
    scans = [described(replace(scan, metadata=notes), kind, path, DEFAULT) for scan, kind in read]
    choices = tuple({**options, "time_index": index} for index in range(len(scans)))
    return Frames(tuple(scans), stacks.names, path, choices)
