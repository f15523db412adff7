"""One DICOM image: a single-frame file, or a frame of an enhanced multi-frame file, with its position and pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.multival import MultiValue
from pydicom.pixels import get_decoder
from pydicom.uid import UID, MRSpectroscopyStorage

from ...errors import ScanError
from .. import bounds
from ..geometry import bad_geometry, check_scale
from ..integrity import broken, colour
from .decoding import stored_pixels, transfer_syntax
from .enhanced import CONCATENATION_TAGS, FUNCTIONAL_GROUPS, tags_of_frames
from .errors import NoScanError
from .files import DAMAGED, header_of, is_directory
from .frames import FRAME_TAGS
from .mosaic import MOSAIC_TAGS, refuse_grid, tiles_of
from .suv import SUV_TAGS

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

    from .mosaic import Tile

_TAGS: tuple[str | int, ...] = (
    "BitsStored",
    "Columns",
    "DoseGridScaling",
    "FrameOfReferenceUID",
    "GantryDetectorTilt",
    "HighBit",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImageType",
    "InstanceNumber",
    "Manufacturer",
    "Modality",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "Rows",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SliceThickness",
    "SOPClassUID",
    "SOPInstanceUID",
    "SpacingBetweenSlices",
    *CONCATENATION_TAGS,
    *FRAME_TAGS,
    *FUNCTIONAL_GROUPS,
    *MOSAIC_TAGS,
    *SUV_TAGS,
)
# Of a pixel while its value is computed, as int64 or float64.
_WORK_BYTES = 8
_UNSCALED = {"RescaleSlope": 1.0, "RescaleIntercept": 0.0}
# Stored numbers have up to 32 bits, so the products fit into int64.
_LARGEST_SCALE = 2**30
# Cosines are sometimes written with few digits.
_ROUNDED_COSINES = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class SeriesImage:
    """One DICOM image.

    Attributes
    ----------
    path
        Its file.
    tags
        The requested ones; for an enhanced file, including those of the frame.
    corner_mm
        Centre of its first pixel in the patient frame, x, y, z.
    orientation
        Unit vectors along its rows and columns, shape (2, 3).
    pixel_mm
        Distance between rows, and between columns.
    frame
        Its frame in an enhanced multi-frame file, or its slice in a mosaic, from 0; None in a file with one image.
    tile
        Its rows and columns in a mosaic; None if the image is the whole picture.
    """

    path: Path
    tags: Dataset
    corner_mm: np.ndarray
    orientation: np.ndarray
    pixel_mm: tuple[float, float]
    frame: int | None = None
    tile: Tile | None = None

    @property
    def normal(self) -> np.ndarray:
        """Unit vector across the image plane."""
        return np.cross(self.orientation[0], self.orientation[1])

    @property
    def height_mm(self) -> float:
        """Position of the image along its normal."""
        return float(self.normal @ self.corner_mm)

    @property
    def name(self) -> str:
        """Name of its file, and its frame, counted from 0."""
        return self.path.name if self.frame is None else f"frame {self.frame} of {self.path.name}"

    def text(self, attribute: str) -> str:
        """Return an attribute as text, "" if it is not there; ScanError if it is damaged."""
        try:
            return str(self.tags.get(attribute) or "")
        # Pydicom parses a value when it is accessed.
        except DAMAGED as error:
            raise broken(self.path, f"its attribute {attribute} is damaged") from error


def images_of(path: Path) -> list[SeriesImage]:
    """Return the images of a DICOM file; none if it contains something else, such as a report.

    Raises
    ------
    NoScanError
        It contains an image that is not a slice of a scan.
    ScanError
        It is damaged or cut off.
    """
    header = header_of(path, _TAGS)
    try:
        columns, frames = int(header.get("Columns") or 0), int(header.get("NumberOfFrames") or 1)
        if columns == 0 or is_directory(header) or header.get("SOPClassUID") == MRSpectroscopyStorage:
            return []
        _refuse_unusual(path, header)
        # Decoders allocate what the header says before they look at the pixels.
        bounds.check_memory(path.name, int(header.get("Rows") or 0) * columns * _WORK_BYTES, path.stat().st_size)
        if frames == 1 and "MOSAIC" in _words(header.get("ImageType")):
            return [_image(path, tags, at, tile) for at, (tags, tile) in enumerate(_tiles(path, header))]
        if frames == 1 and "PerFrameFunctionalGroupsSequence" not in header:
            return [_image(path, header, None)]
        return [_image(path, tags, frame) for frame, tags in enumerate(tags_of_frames(path, header, frames))]
    except DAMAGED as error:
        raise broken(path, "its attributes are damaged") from error


def pixels_of(image: SeriesImage) -> np.ndarray:
    """Return the values of one image, shape (Y, X), in the unit given by the rescale tags.

    Integer values are returned as int16 or int32, others as float32.

    Raises
    ------
    ScanError
        The pixels are damaged, cut off, or compressed in a way for which no decoder is installed.
    """
    stored = _stored_pixels(image)
    stored = stored if image.tile is None else stored[image.tile]
    if stored.shape != (image.tags.Rows, image.tags.Columns):
        raise broken(image.path, f"its pixels have the shape {stored.shape}")
    slope, intercept = scale_of(image)
    whole = all(number.is_integer() and abs(number) < _LARGEST_SCALE for number in (slope, intercept))
    if stored.dtype.kind == "f" or not whole:
        return (stored * slope + intercept).astype(np.float32)
    values = stored.astype(np.int64) * int(slope) + int(intercept)
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= values.min() and values.max() <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values.astype(np.float32)


def scale_of(image: SeriesImage) -> tuple[float, float]:
    """Return slope and intercept of an image; ScanError if they are not numbers."""
    try:
        slope, intercept = (_number(image.tags.get(name), usual) for name, usual in _UNSCALED.items())
    except DAMAGED as error:
        raise broken(image.path, "its rescale slope or intercept is not a number") from error
    check_scale(image.path, slope, intercept)
    return slope, intercept


def _number(value: Any, if_blank: float) -> float:
    return if_blank if value is None or value == "" else float(value)


def _stored_pixels(image: SeriesImage) -> np.ndarray:
    syntax = UID("")
    try:
        syntax = transfer_syntax(image.path)
        return stored_pixels(image.path, image.frame if image.tile is None else None, syntax)
    except MemoryError:
        raise
    except DAMAGED as error:
        raise (_missing_decoder(image.path, syntax) or _bad_pixels(image.path)) from error


def _missing_decoder(path: Path, syntax: UID) -> ScanError | None:
    """Return why pixels of a transfer syntax cannot be decoded here; None if they can be."""
    if not syntax.is_transfer_syntax or not syntax.is_encapsulated:
        return None
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        return ScanError(
            f"{path.name} is compressed as {syntax.name}, which is not supported; convert it, for example with "
            "dcm2niix."
        )
    if decoder.is_available:
        return None
    return ScanError(
        f"{path.name} is compressed as {syntax.name}, and no decoder for that is installed; install python-gdcm "
        "(JPEG lossless, JPEG-LS) or pylibjpeg-openjpeg (JPEG 2000, HTJ2K), or convert it, for example with dcm2niix."
    )


def _bad_pixels(path: Path) -> ScanError:
    return broken(path, "its pixels are damaged, cut off or compressed in an unknown way")


def _refuse_unusual(path: Path, header: Dataset) -> None:
    if not str(header.get("PhotometricInterpretation") or "MONOCHROME2").startswith("MONOCHROME"):
        raise NoScanError(str(colour(path)))
    if header.get("ModalityLUTSequence"):
        raise NoScanError(f"{path.name} maps its values through a lookup table; convert the series to NIfTI first.")
    refuse_grid(path, header)
    if "DoseGridScaling" in header:
        raise NoScanError(f"{path.name} contains the dose of a radiotherapy, which is not a scan.")
    stored = int(header.get("BitsStored") or 0)
    highest = int(header.get("HighBit") or stored - 1)
    if highest != stored - 1 and not transfer_syntax(path).is_encapsulated:
        raise ScanError(
            f"{path.name} stores its values in other than the lowest bits ({stored} bits, the highest of which is bit "
            f"{highest}), which is not supported; convert the series to NIfTI first."
        )


def _tiles(path: Path, header: Dataset) -> list[tuple[Dataset, Tile]]:
    _refuse_without_position(path, header)
    return tiles_of(path, header)


def _refuse_without_position(path: Path, tags: Dataset) -> None:
    if not all(tags.get(name) for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")):
        raise NoScanError(
            f"{path.name} has no position in the patient (no image position, orientation or pixel spacing); "
            "leave such images (screenshots, scanned forms) out of the folder."
        )


def _image(path: Path, tags: Dataset, frame: int | None, tile: Tile | None = None) -> SeriesImage:
    _refuse_without_position(path, tags)
    corner, orientation = tags.ImagePositionPatient, tags.ImageOrientationPatient
    spacing = tags.PixelSpacing
    place = np.array([float(value) for value in corner])
    rows = np.array([float(value) for value in orientation]).reshape(2, 3)
    height, width = (float(value) for value in spacing)
    if place.shape != (3,) or not np.isfinite([*place, *rows.ravel()]).all():
        raise bad_geometry(path, "its position or direction contains NaN or infinite values")
    return SeriesImage(path, tags, place, _orthonormal(path, rows), (height, width), frame, tile)


def _orthonormal(path: Path, rows: np.ndarray) -> np.ndarray:
    """Remove the non-orthogonality that rounding in the file left between the two in-plane axes."""
    lengths = np.linalg.norm(rows, axis=1)
    if max(*np.abs(lengths - 1), abs(rows[0] @ rows[1])) > _ROUNDED_COSINES:
        raise bad_geometry(path, "its rows and columns are not unit vectors at right angles")
    x = rows[0] / lengths[0]
    y = rows[1] - (rows[1] @ x) * x
    return np.stack([x, y / np.linalg.norm(y)])


def _words(value: Any) -> list[str]:
    return [str(word) for word in value] if isinstance(value, MultiValue | list) else [str(value or "")]
