"""The position of the voxels of a NIfTI file: its two matrices, read as other programs read them and kept bit by bit.

The sform applies if its code is above 0, otherwise the qform if its code is, as in nibabel, FSL and SPM. Without either
the position is unknown. NIfTI is in RAS+, a scan in LPS: x and y change sign.
"""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..geometry import bad_geometry, check_geometry
from ..scan import Scan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# The key of the place in the metadata of a scan.
NIFTI = "nifti"
_LPS = np.diag([-1.0, -1.0, 1.0])
# Millimetres in a metre, a millimetre and a micrometre, by code.
_UNITS_MM = {1: 1000.0, 2: 1.0, 3: 0.001}
_SAME, _SAME_MM = 1e-6, 1e-4
# Offsets in a NIfTI-1 header.
_PIXDIM, _XYZT, _CODES, _QUATERNION, _SROW = 76, 123, 252, 256, 280


@dataclass(frozen=True, slots=True)
class NiftiPlace:
    """What a NIfTI header says about the position of its voxels, exactly as written.

    Attributes
    ----------
    pixdim
        The first four: the sign that belongs to the qform, and the voxel size along x, y, z.
    units
        Code of the units of space and time.
    qform_code, sform_code
        What the matrices map to; 0 if they are not used.
    qform
        Quaternion b, c, d and offset x, y, z.
    sform
        Three rows of four.
    """

    pixdim: tuple[float, ...]
    units: int
    qform_code: int
    sform_code: int
    qform: tuple[float, ...]
    sform: tuple[float, ...]

    @property
    def mm(self) -> float:
        """Millimetres per unit of length."""
        return _UNITS_MM.get(self.units & 7, 1.0)


def place_in_header(head: bytes, order: str, version: int) -> NiftiPlace:
    """Read the place from a header of NIfTI-1 or 2; `order` is its byte order, "<" or ">"."""
    if version == 1:
        pixdim = struct.unpack_from(order + "4f", head, _PIXDIM)
        qform_code, sform_code = struct.unpack_from(order + "2h", head, _CODES)
        qform = struct.unpack_from(order + "6f", head, _QUATERNION)
        return NiftiPlace(
            pixdim, head[_XYZT], qform_code, sform_code, qform, struct.unpack_from(order + "12f", head, _SROW)
        )
    qform_code, sform_code = struct.unpack_from(order + "2i", head, 344)
    (units,) = struct.unpack_from(order + "i", head, 500)
    return NiftiPlace(
        struct.unpack_from(order + "4d", head, 104),
        units & 0xFF,
        qform_code,
        sform_code,
        struct.unpack_from(order + "6d", head, 352),
        struct.unpack_from(order + "12d", head, 400),
    )


def placed_scan(path: Path, place: NiftiPlace, voxels: Any, axes: int) -> Scan:
    """Return voxels (Z, Y, X) as a scan in the position given by the header.

    Parameters
    ----------
    path
        The file, for errors.
    axes
        How many spatial axes the file has; missing ones need no size.

    Raises
    ------
    ScanError
        The matrix that applies is sheared, or does not describe a grid.
    """
    used = (*(place.qform if place.qform_code > 0 else ()), *(place.sform if place.sform_code > 0 else ()))
    if not np.isfinite(used).all():
        raise bad_geometry(path, "its position or direction contains NaN or infinite values")
    scan = _placed(place, voxels, axes)
    check_geometry(path, scan)
    return scan


def _placed(place: NiftiPlace, voxels: Any, axes: int) -> Scan:
    """As `placed_scan`, whatever the numbers are."""
    matrix = _sform(place) if place.sform_code > 0 else _qform(place) if place.qform_code > 0 else None
    sizes = np.array(place.pixdim[1:4], float)
    sizes[axes:] = [size if np.isfinite(size) and size > 0 else 1.0 for size in sizes[axes:]]
    steps, direction, origin = sizes, np.eye(3), np.zeros(3)
    if matrix is not None:
        columns = _completed(_LPS @ matrix[:, :3], axes, sizes)
        steps = np.linalg.norm(columns, axis=0)
        direction = columns / np.where(steps > 0, steps, 1.0)
        # The header's own numbers, if they are the same up to rounding.
        steps = np.where(np.isclose(steps, sizes, rtol=1e-5, atol=0), sizes, steps)
        origin = _LPS @ matrix[:, 3]
    x, y, z = (float(step) for step in steps * place.mm)
    left, back, up = (float(value) for value in origin * place.mm)
    return Scan(
        voxels,
        spacing_mm=(z, y, x),
        origin_mm=(left, back, up),
        direction=direction,
        metadata={NIFTI: asdict(place)},
    )


def kept_place(scan: Scan, written: bytes) -> bytes:
    """Return the header of a written file with the original matrices of its scan.

    Parameters
    ----------
    scan
        What was written. If its position is unchanged since it was read, both matrices and codes are those of its file,
        bit by bit. If its voxels were turned or cropped, the matrix that applies is updated with its code, and so is
        the other if it said the same.
    written
        A NIfTI-1 header, little-endian, in mm, with the place of the scan in both matrices.
    """
    place = _remembered(scan.metadata.get(NIFTI))
    if place is None:
        return written
    head = bytearray(written)
    if _same_place(_placed(place, scan.voxels, 3), scan):
        struct.pack_into("<4f", head, _PIXDIM, *place.pixdim)
        head[_XYZT] = (head[_XYZT] & ~7) | (place.units & 7)
        struct.pack_into("<2h", head, _CODES, place.qform_code, place.sform_code)
        struct.pack_into("<6f", head, _QUATERNION, *place.qform)
        struct.pack_into("<12f", head, _SROW, *place.sform)
    elif place.sform_code > 0 or place.qform_code > 0:
        agree = place.sform_code <= 0 or np.allclose(_qform(place), _sform(place), atol=_SAME_MM)
        qform_code = place.qform_code if agree else 0
        struct.pack_into("<2h", head, _CODES, qform_code, max(place.sform_code, 0))
    return bytes(head)


def _same_place(one: Scan, other: Scan) -> bool:
    return (
        np.allclose(one.spacing_mm, other.spacing_mm, rtol=_SAME, atol=0)
        and np.allclose(one.origin_mm, other.origin_mm, rtol=_SAME, atol=_SAME_MM)
        and np.allclose(one.direction, other.direction, rtol=0, atol=_SAME)
    )


def _remembered(record: Any) -> NiftiPlace | None:
    """Return the place from metadata, which may have passed through JSON and other programs; None if it is damaged."""
    try:
        known: Mapping[str, Any] = dict(record)
        place = NiftiPlace(
            tuple(float(value) for value in known["pixdim"]),
            int(known["units"]) & 0xFF,
            int(known["qform_code"]),
            int(known["sform_code"]),
            tuple(float(value) for value in known["qform"]),
            tuple(float(value) for value in known["sform"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
    return place if (len(place.pixdim), len(place.qform), len(place.sform)) == (4, 6, 12) else None


def _sform(place: NiftiPlace) -> np.ndarray:
    return np.array(place.sform, float).reshape(3, 4)


def _qform(place: NiftiPlace) -> np.ndarray:
    """Return the 3x4 matrix of a quaternion (NIfTI-1, method 2)."""
    b, c, d, *offset = (float(value) for value in place.qform)
    a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    sizes = np.array(place.pixdim[1:4], float) * [1, 1, -1 if place.pixdim[0] < 0 else 1]
    return np.column_stack([rotation * sizes, offset])


def _completed(columns: np.ndarray, axes: int, sizes: np.ndarray) -> np.ndarray:
    """Fill in axes that the file does not have, perpendicular to those that it has."""
    if axes == 2 and not columns[:, 2].any():
        across = np.cross(columns[:, 0], columns[:, 1])
        length = np.linalg.norm(across)
        columns = np.column_stack([columns[:, :2], across / length * sizes[2] if length else across])
    return columns
