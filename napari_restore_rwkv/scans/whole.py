"""Scans that are read as a whole: DICOM, and volume files of the usual size."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..errors import ScanError
from .dicom.detection import is_dicom
from .modality import given, kind_of_volume
from .tiff.stack import TIFF_SUFFIXES
from .volume.files import READERS, read_volume
from .volume.streaming import HDF5_SUFFIXES, is_volume_file
from .zarr.reading import is_zarr

if TYPE_CHECKING:
    from pathlib import Path

    from .modality import Kind
    from .options import OpenOptions
    from .scan import Scan


def read_whole(path: Path, options: OpenOptions) -> Scan:
    """Read anything but zarr and HDF5, including its voxels; system errors are passed on."""
    check_kind(path)
    if path.is_dir() or is_dicom(path):
        # Importing pydicom and its decoders takes as long as many slices.
        from .dicom.reading import read_dicom

        scan, kind = read_dicom(path, options.time_index, options.series, options.correct_tilt)
    elif is_volume_file(path):
        volume = read_volume(path, options.time_index, allow_outside=options.allow_outside_files)
        scan, kind = volume.scan, kind_of_volume(volume.header, volume.scan.voxels)
    else:
        raise ScanError(_unknown_kind(path))
    return described(scan, kind, path, options)


def described(scan: Scan, kind: Kind, path: Path, options: OpenOptions) -> Scan:
    """Return a scan with its modality (as given, otherwise as found) and its source."""
    kind = given(options.modality, kind) if options.modality else kind
    metadata = MappingProxyType({"source": path.resolve().name, "modality_reason": kind.reason, **scan.metadata})
    return replace(scan, modality=kind.modality, unit=kind.unit, metadata=metadata)


def check_kind(path: Path) -> None:
    """Raise ScanError if a path does not exist, is a pipe, which has no end, or is a folder named like a file."""
    if not path.exists():
        raise ScanError(f"There is no file or folder {path}; check the name.")
    if not (path.is_file() or path.is_dir()):
        raise ScanError(f"{path.name} is a pipe or a device; give a file or a folder.")
    if path.is_dir() and is_volume_file(path) and not is_zarr(path):
        raise ScanError(f"{path.name} is a folder with the name of a file; give the file, or rename the folder.")


def _unknown_kind(path: Path) -> str:
    if path.suffix.lower() in {".dcm", ".ima"}:
        return f"{path.name} cannot be read: it is not a DICOM file, or it is damaged; copy or export it again."
    return (
        f"{path.name} has an unsupported file type; give a DICOM or zarr folder, or a file ending in "
        f"{', '.join([*READERS, *HDF5_SUFFIXES, *TIFF_SUFFIXES])}."
    )
