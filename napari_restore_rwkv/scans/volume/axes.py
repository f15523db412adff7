"""From the axes of a file, in the order x, y, z and time, to a scan."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ScanError
from ..geometry import check_geometry, sheared
from ..integrity import broken, by
from ..scan import Scan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LARGEST_COSINE = 2.0
_MOST_VOXELS = 1 << 40


def frames_of(path: Path, sizes: Sequence[int]) -> tuple[tuple[int, int, int], int]:
    """Return the shape (Z, Y, X) of one frame, and the number of frames, of an array of these sizes in file order."""
    sizes = list(sizes)
    if math.prod(sizes) > _MOST_VOXELS:
        raise broken(path, f"its header gives {by(sizes[:5])} voxels, more than any scan has")
    if len(sizes) < 2:
        raise one_dimension(path)
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) > 4:
        raise ScanError(f"{path.name} has {len(sizes)} dimensions; give a scan with three, or four with time.")
    x, y, z, frames = [*sizes, 1, 1][:4]
    return (z, y, x), frames


def placed(path: Path, voxels: Any, direction: np.ndarray, steps: np.ndarray, origin: np.ndarray) -> Scan:
    """Return the scan of voxels (Z, Y, X) in this position.

    Parameters
    ----------
    path
        The file, for errors.
    voxels
        Of the scan.
    direction
        3x3; its columns are the directions of the file's axes x, y, z.
    steps
        Distance of the voxels along each of them in mm; a negative one means that the axis is flipped.
    origin
        Centre of the first voxel in mm.

    Raises
    ------
    ScanError
        The position is invalid, or the axes are not unit vectors at right angles.
    """
    cosines = direction * np.where(steps < 0, -1.0, 1.0)
    # Refused before squaring, which could overflow.
    if not (np.abs(cosines) < _LARGEST_COSINE).all():
        raise sheared(path)
    x, y, z = (float(value) for value in origin)
    step_x, step_y, step_z = (float(abs(value)) for value in steps)
    scan = Scan(voxels, spacing_mm=(step_z, step_y, step_x), origin_mm=(x, y, z), direction=cosines)
    check_geometry(path, scan)
    return scan


def one_dimension(path: Path) -> ScanError:
    """Return the error for a file with a single axis."""
    return ScanError(f"{path.name} has only one dimension; give a scan (three dimensions) or a slice (two).")
