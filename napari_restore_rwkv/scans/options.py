"""How a scan is opened: the one list of options for reading, opening, the command line and the viewer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from .lazy import LARGE_BYTES
from .modality import check_modality

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """How a scan is opened.

    Attributes
    ----------
    modality
        "CT", "MR" or "PET" if the file is wrong or says nothing; None uses what the file and its values indicate.
    time_index
        Which frame of a four-dimensional file to read, from 0.
    channel
        Which channel of a zarr with several, from 0.
    series
        Which of several DICOM series, by its number in the list shown in the error, or by the end of its UID.
    correct_tilt
        Shift back DICOM slices that a tilted gantry has shifted relative to each other; this interpolates between
        pixels.
    allow_outside_files
        Also read files outside the scan's folder that the scan refers to; only for scans that you trust.
    large
        Files with more bytes of voxels than this are large, and read slice by slice; None reads files of any size as a
        whole.
    folder
        Where the temporary folder of a large compressed file is made; None takes the system's temporary folder.

    Raises
    ------
    ScanError
        There is no such modality.
    """

    modality: str | None = None
    time_index: int | None = None
    channel: int | None = None
    series: str | None = None
    correct_tilt: bool = False
    allow_outside_files: bool = False
    large: int | None = LARGE_BYTES
    folder: Path | None = None

    def __post_init__(self) -> None:
        check_modality(self.modality)


class OpenKeywords(TypedDict, total=False):
    """The options as keywords of a function, for type checkers; each is that of `OpenOptions`."""

    modality: str | None
    time_index: int | None
    channel: int | None
    series: str | None
    correct_tilt: bool
    allow_outside_files: bool
    large: int | None
    folder: Path | None
