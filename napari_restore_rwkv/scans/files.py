"""Scans from files and back: the geometry is kept, and nothing half-written ever has the final name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from ..progress import finish
from .opening import opening
from .options import OpenOptions
from .writing import write_scan

if TYPE_CHECKING:
    from pathlib import Path

    from .options import OpenKeywords
    from .scan import Scan

__all__ = ["read_as", "read_scan", "write_scan"]


def read_scan(path: str | Path, **options: Unpack[OpenKeywords]) -> Scan:
    """Read a scan of any size into memory, with its exact geometry.

    Parameters
    ----------
    path
        NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) or TIFF (.tif, .tiff) file, a folder with the
        slices of one DICOM series at any depth, or a single DICOM file, which becomes one slice or, if it is enhanced
        or a mosaic, a whole scan. Also a zarr folder (OME-Zarr or plain), and HDF5 (.h5, .hdf5) in ITK's layout;
        `open_scan` reads these, and large files, slice by slice.
    options
        As for `OpenOptions`: modality, time_index, channel, series, correct_tilt, allow_outside_files.

    Returns
    -------
    Scan
        Voxels in memory, in the type of the file. ``metadata["source"]`` is the name of the file or folder without its
        parent folders, ``metadata["modality_reason"]`` says how the modality is known, and ``metadata["notes"]``, if
        there are any, has sentences about anything that was left out or approximated.

    Raises
    ------
    ScanError
        There is no such file, it is damaged, cut off or empty, it has another type, or it contains something other than
        one three-dimensional scan of real values on a rectangular grid.
    """
    return read_as(path, OpenOptions(**options))


def read_as(path: str | Path, options: OpenOptions) -> Scan:
    """Read a scan of any size into memory, as `read_scan` does."""
    return finish(opening(path, replace(options, large=None))).load()
