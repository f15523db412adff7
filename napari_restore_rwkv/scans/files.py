"""Scans from files and back: the geometry is kept, and nothing half-written ever bears the final name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ScanError
from . import bounds
from .dicom import read_dicom
from .dicom_files import is_dicom
from .lazy import fingerprint
from .modality import check_modality, given, kind_of_volume
from .streaming import HDF5_SUFFIXES, is_hdf5, is_volume_file
from .tiff import TIFF_SUFFIXES
from .volume_files import READERS, read_volume
from .writing import write_scan
from .zarr_read import is_zarr

if TYPE_CHECKING:
    from .scan import Scan

__all__ = ["read_scan", "write_scan"]


def read_scan(
    path: str | Path,
    *,
    modality: str | None = None,
    time_index: int | None = None,
    allow_outside_files: bool = False,
    series: str | None = None,
    correct_tilt: bool = False,
) -> Scan:
    """Read a scan with its exact geometry.

    Parameters
    ----------
    path
        NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) or TIFF (.tif, .tiff) file, a folder with the
        slices of one DICOM series at any depth, or a single DICOM file, which becomes one slice or, if it is enhanced
        or a mosaic, a whole scan. Also a
        zarr folder (OME-Zarr or plain), and HDF5 (.h5, .hdf5) in ITK's layout; `open_scan` reads these, and large
        files, slice by slice.
    modality
        "CT", "MR" or "PET" if the file is wrong or silent about it; None takes what the file and its values tell.
    time_index
        Which frame of a four-dimensional file to read, from 0.
    allow_outside_files
        Read files that the scan refers to outside of its own folder, too; only for scans that you trust.
    series
        Which of several DICOM series, by its number in the list that the error gives, or by the end of its UID.
    correct_tilt
        Shift DICOM slices back that a tilted gantry has shifted against each other, which interpolates between pixels.

    Returns
    -------
    Scan
        Voxels in memory, in the type of the file. ``metadata["source"]`` is the name of the file or folder without the
        folders above it, ``metadata["modality_reason"]`` how the modality is known, and ``metadata["notes"]``, where
        there are any, sentences about what was left out or taken as it is not quite.

    Raises
    ------
    ScanError
        There is no such file, it is damaged, cut off or empty, it is of another kind, or it holds something else than
        one three-dimensional scan of real values on a rectangular grid.
    """
    path = Path(path)
    # "." has no name that an error could tell.
    path = path if path.name else path.resolve()
    check_modality(modality)
    try:
        if not path.exists():
            raise ScanError(f"There is no file or folder {path}; check the name.")
        check_kind(path)
        if is_zarr(path) or is_hdf5(path):
            return _all_of(path, modality, time_index, allow_outside_files)
        if path.is_dir() or is_dicom(path):
            scan, kind = read_dicom(path, time_index, series, correct_tilt)
        elif is_volume_file(path):
            volume = read_volume(path, time_index, allow_outside=allow_outside_files)
            scan, kind = volume.scan, kind_of_volume(volume.header, volume.scan.voxels)
        else:
            raise ScanError(_unknown_kind(path))
    except PermissionError as error:
        raise ScanError(f"{path.name} may not be read; ask for read permission.") from error
    except OSError as error:
        raise ScanError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except MemoryError as error:
        raise ScanError(f"{path.name} does not fit into memory; crop it, or close other programs.") from error
    kind = given(modality, kind) if modality else kind
    metadata = MappingProxyType({"source": path.resolve().name, "modality_reason": kind.reason, **scan.metadata})
    return replace(scan, modality=kind.modality, unit=kind.unit, metadata=metadata)


def _all_of(path: Path, modality: str | None, time_index: int | None, allow_outside_files: bool) -> Scan:
    # It imports this module.
    from .opening import open_scan

    scan = open_scan(path, modality=modality, time_index=time_index, allow_outside_files=allow_outside_files)
    bounds.check_memory(path.name, scan.voxels.nbytes, fingerprint(path)["bytes"])
    return scan.with_voxels(np.asarray(scan.voxels))


def check_kind(path: Path) -> None:
    """Raise ScanError for a path that is neither a file nor a folder, such as a pipe, of which reading has no end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ScanError(f"{path.name} is a pipe or a device; give a file or a folder.")
    if path.is_dir() and is_volume_file(path) and not is_zarr(path):
        raise ScanError(f"{path.name} is a folder with the name of a file; give the file, or rename the folder.")


def _unknown_kind(path: Path) -> str:
    if path.suffix.lower() in {".dcm", ".ima"}:
        return f"{path.name} cannot be read: it is no DICOM file, or it is damaged; copy or export it again."
    return (
        f"{path.name} is of no kind that can be read; give a DICOM or zarr folder, or a file ending in "
        f"{', '.join([*READERS, *HDF5_SUFFIXES, *TIFF_SUFFIXES])}."
    )
