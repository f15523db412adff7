"""Scans that are read as a whole: DICOM, and volume files of a usual size."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..errors import ScanError
from .dicom.files import is_dicom
from .dicom.reading import read_dicom
from .modality import check_modality, given, kind_of_volume
from .tiff.stack import TIFF_SUFFIXES
from .volume.files import READERS, read_volume
from .volume.streaming import HDF5_SUFFIXES, is_volume_file
from .zarr.reading import is_zarr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .scan import Scan


def read_whole(
    path: str | Path,
    *,
    modality: str | None = None,
    time_index: int | None = None,
    allow_outside_files: bool = False,
    series: str | None = None,
    correct_tilt: bool = False,
) -> Scan:
    """Read what is neither zarr nor HDF5, as `read_scan` does."""
    path = named(path)
    check_modality(modality)
    with reading_errors(path):
        check_kind(path)
        if path.is_dir() or is_dicom(path):
            scan, kind = read_dicom(path, time_index, series, correct_tilt)
        elif is_volume_file(path):
            volume = read_volume(path, time_index, allow_outside=allow_outside_files)
            scan, kind = volume.scan, kind_of_volume(volume.header, volume.scan.voxels)
        else:
            raise ScanError(_unknown_kind(path))
    kind = given(modality, kind) if modality else kind
    metadata = MappingProxyType({"source": path.resolve().name, "modality_reason": kind.reason, **scan.metadata})
    return replace(scan, modality=kind.modality, unit=kind.unit, metadata=metadata)


def named(path: str | Path) -> Path:
    """Return a path that has a name; "." has none that an error could show."""
    path = Path(path)
    return path if path.name else path.resolve()


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Turn what the system says about reading into a ScanError."""
    try:
        yield
    except PermissionError as error:
        raise ScanError(f"{path.name} may not be read; ask for read permission.") from error
    except OSError as error:
        raise ScanError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except MemoryError as error:
        raise ScanError(f"{path.name} does not fit into memory; crop it, or close other programs.") from error


def check_kind(path: Path) -> None:
    """Raise ScanError for what is not there, or is a pipe, of which reading has no end, or such a folder."""
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
        f"{path.name} is of no kind that can be read; give a DICOM or zarr folder, or a file ending in "
        f"{', '.join([*READERS, *HDF5_SUFFIXES, *TIFF_SUFFIXES])}."
    )
