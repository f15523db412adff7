"""DICOM slices: one series, sorted by position in the patient, never by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ScanError
from ..geometry import check_geometry
from ..integrity import broken
from ..modality import Kind, kind_of_dicom
from ..scan import Scan
from ..volume.files import chosen_frame
from .files import DAMAGED
from .image import pixels_of
from .series import read_series
from .suv import suv_factor
from .tilt import is_tilted, straightened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .image import SeriesImage

# "US" is unspecified; files without the attribute mean HU as well.
_HOUNSFIELD = {"", "HU", "US"}


def read_dicom(
    path: Path, time_index: int | None = None, series: str | None = None, correct_tilt: bool = False
) -> tuple[Scan, Kind]:
    """Read the DICOM series below a folder, or one DICOM file: one slice, or all frames of an enhanced file.

    Parameters
    ----------
    path
        Folder of series, at any depth; or one file; or the DICOMDIR of a disk.
    time_index
        Which frame to read, from 0, if every position was imaged several times.
    series
        Which of several series: its number, from 1 in the order of the UIDs, or the end of its UID.
    correct_tilt
        Shift back slices that a tilted gantry has shifted relative to each other.

    Returns
    -------
    Scan
        Rescaled voxels: int16 where they fit, else int32, or float32 if the rescale tags are not integers. Slices run
        along the normal of the image plane. ``metadata["notes"]`` has sentences about anything that was left out or
        approximated.
    Kind
        Modality and unit. PET in Bq/ml is converted to SUV (body weight) if the file states the dose.

    Raises
    ------
    ScanError
        No DICOM image, several series and none chosen, a missing slice, a tilted gantry, colour, or damaged data.
    """
    stacks = read_series(path, series, correct_tilt)
    frame = chosen_frame(path.name, len(stacks.frames), time_index, stacks.names)
    scan, kind = scan_of_stack(stacks.frames[frame], stacks.images)
    return replace(scan, metadata={"notes": list(stacks.notes)} if stacks.notes else {}), kind


def scan_of_stack(stack: Sequence[SeriesImage], series: Sequence[SeriesImage]) -> tuple[Scan, Kind]:
    """Read the pixels of sorted slices of a series, shifted back if they are shifted relative to each other."""
    slices = [pixels_of(image) for image in stack]
    whole = all(pixels.dtype.kind == "i" for pixels in slices)
    voxels = np.stack(slices) if whole else np.stack([pixels.astype(np.float32, copy=False) for pixels in slices])
    kind, factor = kind_and_factor(stack, series)
    if factor is not None:
        voxels = (voxels * factor).astype(np.float32)
    if not is_tilted(stack):
        return scan_of_series(stack, voxels), kind
    voxels, corner = straightened(stack, voxels)
    x, y, z = (float(value) for value in corner)
    return replace(scan_of_series(stack, voxels), origin_mm=(x, y, z)), kind


def kind_and_factor(stack: Sequence[SeriesImage], series: Sequence[SeriesImage]) -> tuple[Kind, float | None]:
    """Return what the values of slices mean, and the factor that converts them to that; None for no factor.

    Those of all frames of the series tell when it began.

    Raises
    ------
    ScanError
        The slices are in different units, or their attributes are damaged.
    """
    kind = kind_of_dicom(stack[0].text("Modality"))
    if kind.modality == "CT":
        [rescaled] = _alike(stack, {_blank_as_hu(image) for image in stack})
        # Such as concentrations of iodine in mg/ml, of spectral scanners.
        other = f"{kind.reason}, but its values are of type {rescaled} instead of HU"
        return (kind if rescaled == "HU" else Kind(None, "", other)), None
    if kind.modality != "PET":
        return kind, None
    _alike(stack, {image.text("Units") for image in stack})
    try:
        factor, unit, reason = suv_factor([image.tags for image in stack], [image.tags for image in series])
    except DAMAGED as error:
        raise broken(stack[0].path, "its attributes about dose and units are damaged") from error
    return Kind(kind.modality, unit, f"{kind.reason}; {reason}"), factor


def _blank_as_hu(image: SeriesImage) -> str:
    rescaled = image.text("RescaleType")
    return "HU" if rescaled in _HOUNSFIELD else rescaled


def _alike(stack: Sequence[SeriesImage], units: set[str]) -> set[str]:
    if len(units) > 1:
        names = ", ".join(sorted(unit or "blank" for unit in units))
        raise ScanError(
            f"{stack[0].path.parent.name}: its slices have values in different units ({names}); put those of each unit "
            "in a folder of their own."
        )
    return units


def scan_of_series(stack: Sequence[SeriesImage], voxels: Any) -> Scan:
    """Return voxels (Z, Y, X) as a scan in the position of a series."""
    first = stack[0]
    step_y, step_x = first.pixel_mm
    length = stack[-1].height_mm - first.height_mm
    step_z = length / (len(stack) - 1) if len(stack) > 1 else _thickness_mm(first)
    x, y, z = (float(value) for value in first.corner_mm)
    scan = Scan(
        voxels=voxels,
        spacing_mm=(step_z, step_y, step_x),
        origin_mm=(x, y, z),
        direction=np.stack([*first.orientation, first.normal], axis=1),
        acquired_along=0,
    )
    check_geometry(first.path, scan)
    return scan


def _thickness_mm(image: SeriesImage) -> float:
    """Return the thickness of a single slice; 1 mm if the file does not say."""
    try:
        return abs(float(image.tags.get("SpacingBetweenSlices") or image.tags.get("SliceThickness") or 1.0))
    except DAMAGED as error:
        raise broken(image.path, "its slice thickness is not a number") from error
