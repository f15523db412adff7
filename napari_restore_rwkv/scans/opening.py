"""Opens scans of any size: small ones are read at once, large ones are left in place and read slice by slice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from ..progress import finish
from .integrity import reading_errors
from .modality import Kind, kind_of_volume
from .options import OpenOptions
from .slice_axis import evenly_spaced
from .volume.staging import stage
from .volume.streaming import Packed, is_hdf5, is_volume_file, look_at, stream
from .whole import described, read_whole
from .zarr.reading import is_zarr, read_zarr

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..progress import Progress
    from .options import OpenKeywords
    from .scan import Scan
    from .volume.files import Volume

DEFAULT = OpenOptions()
_SAMPLED_SLICES = 5


def open_scan(path: str | Path, **options: Unpack[OpenKeywords]) -> Scan:
    """Open a scan of any size, waiting while a compressed one is unpacked; options as for `OpenOptions`."""
    return finish(opening(path, OpenOptions(**options)))


def opening(path: str | Path, options: OpenOptions = DEFAULT) -> Generator[Progress, None, Scan]:
    """Open a scan of any size.

    Slices of zarr folders and HDF5 files are always read only when needed. Of the other files that `read_scan` reads,
    small ones and DICOM are read at once; large ones are read slice by slice if they are not compressed, and unpacked
    once into a temporary folder if they are: iterate for `Progress` meanwhile.

    Parameters
    ----------
    path
        Whatever `read_scan` takes.
    options
        Which of several scans in a file, and how it is read.

    Returns
    -------
    Scan
        The value of StopIteration. Metadata as from `read_scan`, and "restoration" if the scan is a result of this
        program.

    Raises
    ------
    ScanError
        As from `read_scan`.
    OutputError
        There is not enough space to unpack a large compressed file.
    """
    path = Path(path)
    # "." has no name to show in an error.
    path = path if path.name else path.resolve()
    with reading_errors(path):
        if is_zarr(path):
            return described(*_opened_zarr(path, options), path, options)
        if not (path.is_file() and is_volume_file(path)) or (options.large is None and not is_hdf5(path)):
            return read_whole(path, options)
        layout = look_at(path, options.time_index, allow_outside=options.allow_outside_files)
        if options.large is not None and layout.nbytes <= options.large and not is_hdf5(path):
            return read_whole(path, options)
        if isinstance(layout.read, Packed):
            volume = yield from stage(layout, layout.read, options.folder)
        else:
            volume = stream(layout)
        return described(volume.scan, _kind_of_large(volume, options.modality), path, options)


def _opened_zarr(path: Path, options: OpenOptions) -> tuple[Scan, Kind]:
    scan = read_zarr(
        path, time_index=options.time_index, channel=options.channel, allow_outside=options.allow_outside_files
    )
    reason = f"the file says modality {scan.modality}" if scan.modality else "the file does not say"
    return scan, Kind(scan.modality, scan.unit, reason)


def _kind_of_large(volume: Volume, modality: str | None) -> Kind:
    """Return what the header says, or, if neither it nor the user says anything, what a few slices suggest."""
    kind = kind_of_volume(volume.header, np.empty(0))
    if kind.modality is not None or modality is not None:
        return kind
    sample = _sample(volume.scan)
    kind = kind_of_volume(volume.header, sample)
    return replace(kind, reason=f"{kind.reason} ({len(sample)} of {volume.scan.shape[0]} slices looked at)")


def _sample(scan: Scan) -> np.ndarray:
    """Return a few evenly spaced slices, enough to tell HU from other values."""
    return np.stack([np.asarray(scan.voxels[index]) for index in evenly_spaced(scan.shape[0], _SAMPLED_SLICES)])
