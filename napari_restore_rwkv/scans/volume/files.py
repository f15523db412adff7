"""NIfTI, NRRD and MetaImage files, whose voxels are read by this package, so that nothing is silently misread."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import ScanError
from .. import bounds, integrity
from ..nifti.header import axes_of_space, is_nifti, nifti_header, nifti_voxels
from ..nifti.place import placed_scan
from ..nrrd.header import nrrd
from ..tiff.stack import is_tiff, read_tiff_frame, tiff_volume
from .axes import one_dimension
from .metaimage import metaimage
from .stored import StoredVolume, read_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ..scan import Scan

READERS = {
    ".nii": "NiftiImageIO",
    ".nii.gz": "NiftiImageIO",
    ".hdr": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
_stderr_lock = threading.Lock()


class SeveralFramesError(ScanError):
    """The file is four-dimensional and no frame was chosen.

    Attributes
    ----------
    names
        Name of each frame; blank if the file does not say.
    option
        The keyword of `opening` that chooses one: "time_index" or "channel".
    """

    def __init__(self, text: str, names: Sequence[str], option: str = "time_index") -> None:
        super().__init__(text)
        self.names = tuple(names)
        self.option = option


@dataclass(frozen=True, slots=True)
class Volume:
    """The content of a file, before it is known what its values mean.

    Attributes
    ----------
    scan
        Voxels and geometry; no modality and no unit yet.
    header
        Text fields of the file header.
    """

    scan: Scan
    header: dict[str, str]


def volume_suffix(path: Path) -> str:
    """Return the suffix of a volume file in lower case (``".nii.gz"`` as one), or "" if it is not supported."""
    name = path.name.lower()
    return next((suffix for suffix in sorted(READERS, key=len, reverse=True) if name.endswith(suffix)), "")


def read_volume(path: Path, time_index: int | None = None, *, allow_outside: bool = False) -> Volume:
    """Read one three-dimensional frame of a NIfTI, NRRD, MetaImage or TIFF file.

    Parameters
    ----------
    path
        File with one of the suffixes in `READERS` or `TIFF_SUFFIXES`.
    time_index
        Which frame of a four-dimensional file, from 0; None for a three-dimensional one.
    allow_outside
        As for `companion`.

    Raises
    ------
    ScanError
        The file is damaged, cut off, empty, or not a scan with one real value per voxel on a rectangular grid.
    """
    if is_nifti(path):
        return _read_nifti(path, time_index)
    if is_tiff(path):
        tiff = tiff_volume(path)
        voxels = read_tiff_frame(tiff, chosen_frame(path.name, tiff.frames, time_index))
        return Volume(tiff.scan.with_voxels(voxels), {})
    stored = stored_volume(path, allow_outside)
    voxels = read_frame(stored, chosen_frame(path.name, stored.frames, time_index))
    return Volume(stored.scan.with_voxels(voxels), stored.header)


def stored_volume(path: Path, allow_outside: bool = False) -> StoredVolume:
    """Read the header of a NRRD or MetaImage file; parameters and errors as for `read_volume`."""
    if path.stat().st_size == 0:
        raise integrity.broken(path, "it is an empty file")
    return (metaimage if volume_suffix(path) in {".mha", ".mhd"} else nrrd)(path, allow_outside)


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Suppress what ITK's C++ libraries print on stderr: each failure becomes a clear error."""
    with _stderr_lock:
        try:
            kept = os.dup(2)
        except OSError:
            # A GUI process may have no stderr at all.
            yield
            return
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _read_nifti(path: Path, time_index: int | None) -> Volume:
    header = nifti_header(path)
    if len(header.sizes) < 2:
        raise one_dimension(path)
    frame = chosen_frame(path.name, header.frames, time_index)
    bounds.check_memory(path.name, header.frame_bytes, header.data.stat().st_size)
    scan = placed_scan(path, header.place, nifti_voxels(path, header, frame), axes_of_space(header))
    return Volume(scan, {"descrip": header.description})


def chosen_frame(name: str, count: int, time_index: int | None, names: Sequence[str] = ()) -> int:
    """Return which of `count` frames to read; ScanError if it does not exist, SeveralFramesError if none was chosen."""
    if time_index is None:
        if count == 1:
            return 0
        known = ", ".join(f"{number}: {word}" for number, word in enumerate(names) if word)
        raise SeveralFramesError(
            f"{name} contains {count} frames ({known or 'time points'}); choose one by its time index, from 0 to "
            f"{count - 1}.",
            names or [""] * count,
        )
    if not 0 <= time_index < count:
        raise ScanError(f"{name} has no frame {time_index}; it has {count}, numbered from 0 to {count - 1}.")
    return time_index
