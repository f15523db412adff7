"""DICOM slices: one series, sorted by where its slices lie in the patient, never by name."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom

from .dicom_series import DAMAGED, series_of
from .geometry import check_geometry, check_scale
from .integrity import broken
from .modality import Kind, kind_of_dicom
from .scan import Scan
from .suv import suv_factor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .dicom_series import SeriesImage


def read_dicom(path: Path, time_index: int | None = None) -> tuple[Scan, Kind]:
    """Read the DICOM series of a folder, or one DICOM file as one slice.

    Parameters
    ----------
    path
        Folder of one series (other files in it are skipped), or one file.
    time_index
        Which frame to read, from 0, where every position was imaged several times.

    Returns
    -------
    Scan
        Rescaled voxels: int16 where they fit, else int32, or float32 if the rescale is not whole. Slices run along the
        normal of the image plane.
    Kind
        Modality and unit. PET in Bq/ml is converted to SUV (body weight) where the file tells the dose.

    Raises
    ------
    ScanError
        No DICOM image, several series, a missing slice, a tilted gantry, colour, or damaged data.
    """
    stack = series_of(path, time_index)
    slices = [_rescaled_pixels(image) for image in stack]
    whole = all(pixels.dtype.kind == "i" for pixels in slices)
    voxels = np.stack(slices) if whole else np.stack([pixels.astype(np.float32, copy=False) for pixels in slices])
    kind, factor = kind_and_factor(stack)
    if factor is not None:
        voxels = (voxels * factor).astype(np.float32)
    return scan_of_series(stack, voxels), kind


def kind_and_factor(stack: Sequence[SeriesImage]) -> tuple[Kind, float | None]:
    """Return what the values of a series mean, and what they are multiplied by for that; None for nothing."""
    kind = kind_of_dicom(str(stack[0].tags.get("Modality") or ""))
    if kind.modality != "PET":
        return kind, None
    factor, unit, reason = suv_factor([image.tags for image in stack])
    return Kind(kind.modality, unit, f"{kind.reason}; {reason}"), factor


def _rescaled_pixels(image: SeriesImage) -> np.ndarray:
    """Return the values of one slice, shape (Y, X), in the unit that the rescale tags lead to."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = pydicom.dcmread(image.path).pixel_array
    except DAMAGED as error:
        raise broken(image.path, "its pixels are damaged, cut off or compressed in an unknown way") from error
    if stored.shape != (image.tags.Rows, image.tags.Columns):
        raise broken(image.path, f"its pixels have the shape {stored.shape}")
    slope = float(image.tags.get("RescaleSlope", 1) or 1)
    intercept = float(image.tags.get("RescaleIntercept", 0) or 0)
    check_scale(image.path, slope, intercept)
    if stored.dtype.kind == "f" or not (slope.is_integer() and intercept.is_integer()):
        return (stored * slope + intercept).astype(np.float32)
    values = stored.astype(np.int64) * int(slope) + int(intercept)
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= values.min() and values.max() <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values.astype(np.float32)


def scan_of_series(stack: Sequence[SeriesImage], voxels: Any) -> Scan:
    """Return voxels (Z, Y, X) as a scan that lies where the slices of a series lie."""
    first = stack[0]
    step_y, step_x = (float(value) for value in first.tags.PixelSpacing)
    if len(stack) > 1:
        step_z = (stack[-1].height_mm - first.height_mm) / (len(stack) - 1)
    else:
        step_z = abs(float(first.tags.get("SpacingBetweenSlices") or first.tags.get("SliceThickness") or 1.0))
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
