"""The suffixes of files that are opened as scans."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".nii.gz", ".nii", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".h5", ".hdf5")
TIFF_SUFFIXES = (".tif", ".tiff")
_ZARR_SUFFIXES = (".ome.zarr", ".zarr")


def stem(path: Path) -> str:
    """Return the file's name without the suffix of its format, ``.nii.gz`` as a whole."""
    endings = (*SUFFIXES, *TIFF_SUFFIXES, *_ZARR_SUFFIXES)
    ending = next((suffix for suffix in endings if path.name.lower().endswith(suffix)), "")
    return path.name[: -len(ending)] if ending else path.name
