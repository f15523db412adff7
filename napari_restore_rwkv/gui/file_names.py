"""Names of files: the suffixes of those that are opened as scans, and what is proposed for those of a layer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".nii.gz", ".nii", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".h5", ".hdf5")
TIFF_SUFFIXES = (".tif", ".tiff")
_ZARR_SUFFIXES = (".ome.zarr", ".zarr")
# Every usual file system has room for that, and for a few words and a suffix.
_LONGEST_BYTES = 200


def stem(path: Path) -> str:
    """Return the file's name without the suffix of its format, ``.nii.gz`` as a whole."""
    endings = (*SUFFIXES, *TIFF_SUFFIXES, *_ZARR_SUFFIXES)
    ending = next((suffix for suffix in endings if path.name.lower().endswith(suffix)), "")
    return path.name[: -len(ending)] if ending else path.name


def stem_for(layer_name: str) -> str:
    """Return the name of a layer, which may be any text, as the beginning of the name of a file."""
    plain = re.sub(r"[^\w.-]+", " ", layer_name).strip(" ._")
    return plain.encode()[:_LONGEST_BYTES].decode(errors="ignore") or "scan"
