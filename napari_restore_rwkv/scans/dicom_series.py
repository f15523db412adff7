"""DICOM series: which images of a folder are the slices of one scan, sorted by where they lie in the patient."""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from ..errors import ScanError
from .integrity import broken, colour
from .suv import SUV_TAGS
from .volume_files import chosen_frame

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset

_TAGS = (
    "AcquisitionNumber",
    "Columns",
    "EchoNumbers",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "InstanceNumber",
    "Modality",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SliceThickness",
    "SpacingBetweenSlices",
    "TemporalPositionIdentifier",
    "TriggerTime",
    *SUV_TAGS,
)
# Positions are written with few digits; a missing slice makes a gap at least twice as wide.
_GAP_TOLERANCE = 0.05
# A gantry tilt of half a degree moves the slices sideways by this share of the length of the stack.
_DRIFT_TOLERANCE = 0.01
_SAME_POSITION_MM = 1e-3
# What pydicom and the pixel decoders raise for damaged data.
DAMAGED = (AttributeError, EOFError, KeyError, NotImplementedError, OSError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class SeriesImage:
    """One DICOM image.

    Attributes
    ----------
    path
        Its file.
    tags
        Those that were asked for.
    corner_mm
        Centre of its first pixel in the patient frame, x, y, z.
    orientation
        Unit vectors along its rows and columns, shape (2, 3).
    """

    path: Path
    tags: Dataset
    corner_mm: np.ndarray
    orientation: np.ndarray

    @property
    def normal(self) -> np.ndarray:
        """Unit vector across the image plane."""
        return np.cross(self.orientation[0], self.orientation[1])

    @property
    def height_mm(self) -> float:
        """Where the image lies along its normal."""
        return float(self.normal @ self.corner_mm)


def is_dicom(path: Path) -> bool:
    """Whether a file carries the DICOM mark after its preamble."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def series_of(path: Path, time_index: int | None = None) -> list[SeriesImage]:
    """Return the slices of the DICOM series of a folder, or of one file, in the order of their positions.

    No pixels are read; arguments and errors are those of `read_dicom`.
    """
    files = sorted(entry for entry in path.iterdir() if entry.is_file()) if path.is_dir() else [path]
    images = _one_series(path, [image for file in files if (image := _open_image(file)) is not None])
    return _sorted_stack(path, images, time_index)


def _open_image(path: Path) -> SeriesImage | None:
    """Return the image of a file; None if it is no DICOM file or a DICOM file without an image."""
    if not is_dicom(path):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tags = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
            frames = int(tags.get("NumberOfFrames") or 1)
            columns = int(tags.get("Columns") or 0)
    except (InvalidDicomError, *DAMAGED) as error:
        raise broken(path, "it is damaged or cut off") from error
    if columns == 0:
        return None
    if frames > 1:
        raise ScanError(
            f"{path.name} is an enhanced (multi-frame) DICOM file; "
            "convert it to a series of single slices or to NIfTI first, for example with dcm2niix."
        )
    if not str(tags.get("PhotometricInterpretation") or "MONOCHROME2").startswith("MONOCHROME"):
        raise colour(path)
    if tags.get("ModalityLUTSequence"):
        raise ScanError(f"{path.name} maps its values by a table; convert the series to NIfTI first.")
    corner = tags.get("ImagePositionPatient")
    orientation = tags.get("ImageOrientationPatient")
    if not corner or not orientation or not tags.get("PixelSpacing"):
        raise ScanError(
            f"{path.name} does not say where it lies in the patient (no image position, orientation or pixel spacing); "
            "leave such images (screenshots, scanned forms) out of the folder."
        )
    rows = np.array([float(value) for value in orientation]).reshape(2, 3)
    return SeriesImage(path, tags, np.array([float(value) for value in corner]), _orthonormal(rows))


def _orthonormal(rows: np.ndarray) -> np.ndarray:
    """Take away what rounding in the file left between the two in-plane axes."""
    x = rows[0] / np.linalg.norm(rows[0])
    y = rows[1] - (rows[1] @ x) * x
    return np.stack([x, y / np.linalg.norm(y)])


def _one_series(path: Path, images: list[SeriesImage]) -> list[SeriesImage]:
    if not images:
        raise ScanError(
            f"{path.name} holds no DICOM images; give the folder with the slices of one series, "
            "or a .nii, .nii.gz, .nrrd, .mha or .mhd file."
        )
    series: dict[str, list[SeriesImage]] = defaultdict(list)
    for image in images:
        series[_series_key(image)].append(image)
    if len(series) > 1:
        listed = ", ".join(
            f'"{group[0].tags.get("SeriesDescription") or "no description"}" ({key}, {len(group)} images)'
            for key, group in sorted(series.items())
        )
        raise ScanError(
            f"{path.name} holds {len(series)} series: {listed}; put each into a folder of its own and give that one."
        )
    first = images[0]
    for image in images:
        same_size = (image.tags.Rows, image.tags.Columns) == (first.tags.Rows, first.tags.Columns)
        same_spacing = np.allclose(
            [float(value) for value in image.tags.PixelSpacing], [float(value) for value in first.tags.PixelSpacing]
        )
        if not (same_size and same_spacing and np.allclose(image.orientation, first.orientation, atol=1e-3)):
            raise ScanError(
                f"{image.path.name} has another size, pixel spacing or orientation than {first.path.name}; "
                "leave out images that are no slices of the scan, such as localizers."
            )
    return images


def _series_key(image: SeriesImage) -> str:
    """Return how the series is told apart: the end of its UID, or its number where the UID is blank."""
    uid = str(image.tags.get("SeriesInstanceUID") or "")
    if uid:
        return f"UID ...{uid[-12:]}"
    return f"series number {image.tags.get('SeriesNumber') or 'blank'}"


def _sorted_stack(path: Path, images: list[SeriesImage], time_index: int | None) -> list[SeriesImage]:
    """Return one image for each position, in the order of the positions; ScanError if the stack has gaps."""
    levels: list[list[SeriesImage]] = []
    for image in sorted(images, key=lambda image: image.height_mm):
        if levels and image.height_mm - levels[-1][0].height_mm < _SAME_POSITION_MM:
            levels[-1].append(image)
        else:
            levels.append([image])
    counts = {len(level) for level in levels}
    if len(counts) > 1:
        raise ScanError(
            f"{path.name} has several images at some positions but not at all of them; "
            "leave out the extra images, so that each slice is there once."
        )
    frame = chosen_frame(path.name, counts.pop(), time_index)
    stack = [sorted(level, key=_frame_order)[frame] for level in levels]
    _refuse_gaps(path, stack)
    _refuse_tilt(path, stack)
    return stack


def _frame_order(image: SeriesImage) -> tuple[float, ...]:
    keys = ("TemporalPositionIdentifier", "TriggerTime", "AcquisitionNumber", "EchoNumbers", "InstanceNumber")
    values = [image.tags.get(key) for key in keys]
    return tuple(float(value) if isinstance(value, int | float | str) and value else 0.0 for value in values)


def _refuse_gaps(path: Path, stack: Sequence[SeriesImage]) -> None:
    heights = np.array([image.height_mm for image in stack])
    gaps = np.diff(heights)
    if gaps.size == 0:
        return
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > _GAP_TOLERANCE * usual)
    if odd.size == 0:
        return
    at = int(odd[np.argmax(gaps[odd])])
    between = f"between {stack[at].path.name} and {stack[at + 1].path.name}"
    missing = round(gaps[at] / usual) - 1
    if missing >= 1 and abs(gaps[at] / usual - missing - 1) < _GAP_TOLERANCE:
        lost = "a slice is" if missing == 1 else f"{missing} slices are"
        raise ScanError(
            f"{path.name}: {lost} missing {between} ({gaps[at]:.2f} mm apart, elsewhere {usual:.2f} mm); "
            "copy the whole series again."
        )
    raise ScanError(
        f"{path.name}: the slices are unevenly spaced, {gaps[at]:.2f} mm {between} and {usual:.2f} mm elsewhere; "
        "resample the series to even spacing first."
    )


def _refuse_tilt(path: Path, stack: Sequence[SeriesImage]) -> None:
    moved = stack[-1].corner_mm - stack[0].corner_mm
    length = float(stack[0].normal @ moved)
    drift = float(np.linalg.norm(moved - length * stack[0].normal))
    pixel = min(float(value) for value in stack[0].tags.PixelSpacing)
    if drift > max(_DRIFT_TOLERANCE * abs(length), 0.5 * pixel):
        raise ScanError(
            f"{path.name}: the slices are shifted against each other by {drift:.1f} mm (a tilted gantry); "
            "correct the tilt first, for example with dcm2niix."
        )
