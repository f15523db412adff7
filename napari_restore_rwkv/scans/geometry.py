"""Plausibility checks of voxel positions and value scales, used by every reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ScanError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .scan import Scan

# Direction cosines written as text have few digits; a relevant shear is far above this.
_ORTHONORMAL_TOLERANCE = 1e-3
# Beyond these, products of lengths overflow in the single precision of file headers.
_SMALLEST_MM, _LARGEST_MM, _FARTHEST_MM = 1e-9, 1e6, 1e9
# Beyond these, stored numbers of 32 bits become infinite or zero.
_LEAST_SCALE, _LARGEST_SCALE = 1e-28, 1e28


def check_geometry(path: Path, scan: Scan) -> None:
    """Raise ScanError unless a scan has a valid position on a rectangular grid.

    Parameters
    ----------
    path
        Its file or folder, for the error.
    scan
        Voxel sizes have to be above 0 and at most 1 km, positions within 1000 km, and the columns of the direction unit
        vectors at right angles, within 0.001. NaN and infinities are refused.
    """
    check_spacing(path, scan.spacing_mm)
    check_position(path, scan.origin_mm)
    direction = np.asarray(scan.direction, float)
    if not np.isfinite(direction).all():
        raise bad_geometry(path, "its direction contains NaN or infinite values")
    if not is_orthonormal(direction):
        raise sheared(path)


def check_spacing(path: Path, spacing_mm: Sequence[float]) -> None:
    """Raise ScanError unless voxel sizes in mm, in any order, are finite and above 0."""
    if not all(_SMALLEST_MM <= step <= _LARGEST_MM for step in spacing_mm):
        raise bad_geometry(path, f"its voxel size is {' x '.join(f'{step:g}' for step in spacing_mm)} mm")


def check_position(path: Path, position_mm: Sequence[float]) -> None:
    """Raise ScanError unless a position in mm is finite."""
    if not all(abs(value) <= _FARTHEST_MM for value in position_mm):
        raise bad_geometry(path, f"its position is ({', '.join(f'{value:g}' for value in position_mm)}) mm")


def check_scale(path: Path, slope: float, intercept: float) -> None:
    """Raise ScanError unless ``value = slope * stored + intercept`` gives distinct, finite values in float32."""
    if not (_LEAST_SCALE <= abs(slope) <= _LARGEST_SCALE and abs(intercept) <= _LARGEST_SCALE):
        raise ScanError(
            f"{path.name} scales its values by {slope:g} and adds {intercept:g}, which gives no usable values; "
            "correct its header or export it again."
        )


def is_orthonormal(direction: np.ndarray) -> bool:
    """Whether the columns of a 3x3 matrix are unit vectors at right angles, up to digits lost in text."""
    return bool(np.allclose(direction.T @ direction, np.eye(3), atol=_ORTHONORMAL_TOLERANCE))


def bad_geometry(path: Path, what: str) -> ScanError:
    """Return the error for voxels whose size or position is unknown."""
    return ScanError(
        f"{path.name} has no usable geometry: {what} (voxel sizes must be above 0 mm and positions finite); "
        "correct its header or export it again."
    )


def sheared(path: Path) -> ScanError:
    """Return the error for a grid whose axes are not at right angles."""
    return ScanError(
        f"{path.name} has a sheared voxel grid (a gantry tilt or an affine registration); only orthonormal directions "
        "can be read, so resample it onto a rectangular grid first."
    )
