"""Scans from files and back: the geometry is kept, and nothing half-written ever bears the final name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import bounds
from .lazy import fingerprint
from .modality import check_modality
from .opening import open_scan
from .volume.streaming import is_hdf5
from .whole import check_kind, named, read_whole, reading_errors
from .writing import write_scan
from .zarr.reading import is_zarr

if TYPE_CHECKING:
    from pathlib import Path

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
    path = named(path)
    check_modality(modality)
    with reading_errors(path):
        check_kind(path)
        if is_zarr(path) or is_hdf5(path):
            return _all_of(path, modality, time_index, allow_outside_files)
    return read_whole(
        path,
        modality=modality,
        time_index=time_index,
        allow_outside_files=allow_outside_files,
        series=series,
        correct_tilt=correct_tilt,
    )


def _all_of(path: Path, modality: str | None, time_index: int | None, allow_outside_files: bool) -> Scan:
    scan = open_scan(path, modality=modality, time_index=time_index, allow_outside_files=allow_outside_files)
    bounds.check_memory(path.name, scan.voxels.nbytes, fingerprint(path)["bytes"])
    return scan.with_voxels(np.asarray(scan.voxels))
