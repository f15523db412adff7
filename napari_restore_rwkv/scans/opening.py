"""Scans of any size: what is small is read, what is large stays where it is and is read slice by slice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np

from ..errors import ScanError
from ..progress import finish
from .lazy import LARGE_BYTES
from .modality import Kind, check_modality, given, kind_of_volume
from .volume.staging import stage
from .volume.streaming import is_hdf5, is_volume_file, look_at, stream
from .whole import read_whole
from .zarr.reading import is_zarr, read_zarr

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from ..progress import Progress
    from .scan import Scan

_SAMPLED_SLICES = 5


class OpenOptions(TypedDict, total=False):
    """How a scan is opened; each keyword is that of `opening`."""

    modality: str | None
    time_index: int | None
    channel: int | None
    allow_outside_files: bool
    series: str | None
    correct_tilt: bool
    large: int
    folder: Path | None


def open_scan(path: str | Path, **options: Unpack[OpenOptions]) -> Scan:
    """Open a scan of any size, waiting where a compressed one is unpacked; options as for `opening`."""
    return finish(opening(path, **options))


def opening(
    path: str | Path,
    *,
    modality: str | None = None,
    time_index: int | None = None,
    channel: int | None = None,
    allow_outside_files: bool = False,
    series: str | None = None,
    correct_tilt: bool = False,
    large: int = LARGE_BYTES,
    folder: Path | None = None,
) -> Generator[Progress, None, Scan]:
    """Open a scan of any size.

    Zarr folders and HDF5 are always read when they are needed, and no slice before. Of the files that `read_scan`
    reads, the small ones and DICOM are read at once; the large ones are read slice by slice where they are not
    compressed, and unpacked once into a temporary folder where they are: iterate for `Progress` meanwhile.

    Parameters
    ----------
    path
        Whatever `read_scan` takes.
    modality, time_index, series, correct_tilt, allow_outside_files
        As for `read_scan`.
    channel
        Which channel of a zarr with several, from 0.
    large
        Files with more bytes of voxels than this are large.
    folder
        Where the temporary folder is made; None takes the system's place for such.

    Returns
    -------
    Scan
        The value of StopIteration. Metadata as from `read_scan`, and "restoration" where the scan is a result of ours.

    Raises
    ------
    ScanError
        As from `read_scan`.
    OutputError
        There is no room to unpack a large compressed file.
    """
    path = Path(path)
    check_modality(modality)
    options: dict[str, Any] = {
        "modality": modality,
        "time_index": time_index,
        "series": series,
        "correct_tilt": correct_tilt,
        "allow_outside_files": allow_outside_files,
    }
    try:
        if is_zarr(path):
            scan = read_zarr(path, time_index=time_index, channel=channel, allow_outside=allow_outside_files)
            reason = f"the file says modality {scan.modality}" if scan.modality else "the file does not say"
            kind = Kind(scan.modality, scan.unit, reason)
        elif path.is_file() and is_volume_file(path):
            layout = look_at(path, time_index, allow_outside=allow_outside_files)
            if layout.nbytes <= large and not is_hdf5(path):
                return read_whole(path, **options)
            volume = (yield from stage(path, layout, folder)) if layout.packed else stream(path, layout)
            scan = volume.scan
            kind = kind_of_volume(volume.header, np.empty(0))
            if kind.modality is None and modality is None:
                sample = _sample(scan)
                kind = kind_of_volume(volume.header, sample)
                kind = replace(kind, reason=f"{kind.reason} ({len(sample)} of {scan.shape[0]} slices looked at)")
        else:
            return read_whole(path, **options)
    except PermissionError as error:
        raise ScanError(f"{path.name} may not be read; ask for read permission.") from error
    except OSError as error:
        raise ScanError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    kind = given(modality, kind) if modality else kind
    return replace(scan, modality=kind.modality, unit=kind.unit, metadata=_metadata(path, kind, scan.metadata))


def _metadata(path: Path, kind: Kind, more: Mapping[str, object]) -> MappingProxyType[str, object]:
    return MappingProxyType({"source": path.resolve().name, "modality_reason": kind.reason, **more})


def _sample(scan: Scan) -> np.ndarray:
    """Return a few evenly spaced slices, enough to tell HU from other values."""
    indices = np.linspace(0, scan.shape[0] - 1, min(scan.shape[0], _SAMPLED_SLICES)).round().astype(int)
    return np.stack([np.asarray(scan.voxels[index]) for index in indices])
