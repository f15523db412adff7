"""Siemens mosaics: all slices of a volume side by side in one picture, which is split into slices here.

The picture has as many rows of tiles as columns, the smallest number that holds all slices, filled row by row. Its
position is where the corner of a slice as large as the whole picture would be, about the same centre (as nibabel
describes, https://nipy.org/nibabel/dicom/dicom_mosaic.html). Slices follow each other along the normal given in the
private header.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ...errors import ScanError
from .csa import CSA_TAGS, csa_fields
from .files import changed_tags, positive_private

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

# How many slices United Imaging puts side by side.
_GRID = 0x00651050
MOSAIC_TAGS = (*CSA_TAGS, _GRID)
_COUNT, _NORMAL = "NumberOfImagesInMosaic", "SliceNormalVector"
_MOST_SLICES = 4096
# Normals are written with eight digits, and the orientation with as many or fewer.
_PARALLEL = 1e-3

Tile = tuple[slice, slice]


def tiles_of(path: Path, header: Dataset) -> list[tuple[Dataset, Tile]]:
    """Return the attributes of each slice of a mosaic, and its rows and columns in the picture.

    Raises
    ------
    ScanError
        The private header is missing or does not match the picture, so the positions of the slices are not known.
    """
    count, normal = _private(path, header)
    across = math.ceil(math.sqrt(count))
    rows, columns = int(header.Rows), int(header.Columns)
    if rows % across or columns % across:
        raise _unknown(path, f"its {rows} x {columns} pixels cannot hold {count} slices of equal size")
    height, width = rows // across, columns // across
    row, column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    own_normal = np.cross(row, column)
    along = float(normal @ own_normal)
    if abs(abs(along) - 1) > _PARALLEL:
        raise _unknown(path, "its slices do not follow each other along their normal")
    step_y, step_x = (float(value) for value in header.PixelSpacing)
    gap = abs(float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 0))
    if not gap:
        raise _unknown(path, "it does not say how far apart its slices are")
    corner = np.array(header.ImagePositionPatient, float)
    corner = corner + (columns - width) / 2 * step_x * row + (rows - height) / 2 * step_y * column
    found = []
    for index in range(count):
        top, left = index // across * height, index % across * width
        place = corner + index * math.copysign(gap, along) * own_normal
        changes = {"Rows": height, "Columns": width, "ImagePositionPatient": [float(value) for value in place]}
        tags = changed_tags(header, changes, MOSAIC_TAGS)
        found.append((tags, (slice(top, top + height), slice(left, left + width))))
    return found


def refuse_grid(path: Path, header: Dataset) -> None:
    """Raise ScanError for the slices side by side of United Imaging, which nobody has tried here."""
    count = positive_private(header, _GRID)
    if "UIH" in str(header.get("Manufacturer") or "") and count is not None and count > 1:
        raise ScanError(
            f"{path.name} is a United Imaging grid, {count:.0f} slices side by side in one picture, which is not "
            "supported; convert the series to NIfTI first, for example with dcm2niix."
        )


def _private(path: Path, header: Dataset) -> tuple[int, np.ndarray]:
    """Return the number of slices and the direction in which they follow each other."""
    fields = csa_fields(header)
    if _COUNT not in fields or _NORMAL not in fields:
        raise _unknown(path, "the private Siemens header is missing or damaged, perhaps through anonymisation")
    try:
        [count] = (int(value) for value in fields[_COUNT])
        normal = np.array([float(value) for value in fields[_NORMAL]])
    except ValueError as error:
        raise _unknown(path, "its private header has text where numbers are needed") from error
    if normal.shape != (3,) or not np.isfinite(normal).all() or not 1 <= count <= _MOST_SLICES:
        raise _unknown(path, "its private header makes no sense")
    return count, normal


def _unknown(path: Path, why: str) -> ScanError:
    return ScanError(
        f"{path.name} is a Siemens mosaic, all slices side by side in one picture, and cannot be split up: {why}; "
        "export the series again with its private tags, or convert it to NIfTI, for example with dcm2niix."
    )
