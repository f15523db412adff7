"""A scan: voxels and their position in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import permutations
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import bounds, integrity
from .lazy import LazyVoxels, fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

AXES = ("z", "y", "x")
# Larger values are no measurements: three times this still fits float32, and so does the window of such values.
LARGEST_VALUE = 1e38


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Voxels of one three-dimensional scan with their geometry.

    Attributes
    ----------
    voxels
        Array of shape (Z, Y, X); any object with ``shape``, ``dtype`` and NumPy indexing, lazy or in memory.
    spacing_mm
        Distance between voxel centres in mm, in z, y, x order (the order of the array axes).
    origin_mm
        Position of the centre of voxel (0, 0, 0) in mm, in the DICOM patient frame (x left, y posterior, z superior).
    direction
        3x3 matrix of direction cosines. Column j is the unit vector, in the patient frame, along which the j-th *file*
        index grows; file indices run x, y, z, the reverse of the array axes, as in ITK. So
        ``position = origin_mm + direction @ (spacing_xyz * index_xyz)``.
    modality
        "CT", "MR", "PET" or None if the file does not say.
    unit
        Unit of the voxel values: "HU", "SUV", or "" if arbitrary.
    metadata
        Whatever else is worth keeping: where the scan came from, and how it was restored.
    acquired_along
        The array axis across the slices as acquired (0, 1, 2 for z, y, x); None if unknown.
    """

    voxels: Any
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: np.ndarray = field(default_factory=lambda: np.eye(3))
    modality: str | None = None
    unit: str = ""
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    acquired_along: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along z, y, x."""
        return tuple(self.voxels.shape)

    def with_voxels(self, voxels: Any, **changes: Any) -> Scan:
        """Return a scan with the same geometry and other voxels."""
        return replace(self, voxels=voxels, **changes)

    def load(self) -> Scan:
        """Return the scan with its voxels in memory: itself if they already are.

        Raises
        ------
        ScanError
            They cannot be read, or do not fit into memory.
        """
        voxels = self.voxels
        if isinstance(voxels, np.ndarray):
            return self
        if not isinstance(voxels, LazyVoxels) or voxels.source is None:
            return self.with_voxels(np.asarray(voxels))
        with integrity.reading_errors(voxels.source):
            bounds.check_memory(voxels.source.name, voxels.nbytes, fingerprint(voxels.source)["bytes"])
            return self.with_voxels(np.asarray(voxels))


def slice_of(voxels: Any, axis: int, index: int) -> np.ndarray:
    """Return one slice (Y, X) across an axis of voxels (Z, Y, X), lazy or in memory."""
    box = tuple(slice(index, index + 1) if at == axis else slice(None) for at in range(3))
    return np.asarray(voxels[box]).squeeze(axis)


def position_mm(scan: Scan, index: tuple[int, int, int]) -> np.ndarray:
    """Return the position of the centre of one voxel in the patient.

    Parameters
    ----------
    scan
        The scan; only its geometry is used.
    index
        Array index of the voxel in z, y, x order.

    Returns
    -------
    ndarray
        Position in mm along x (left), y (posterior), z (superior), float64 of shape (3,).
    """
    steps_xyz = np.asarray(scan.spacing_mm[::-1]) * np.asarray(index[::-1])
    return np.asarray(scan.origin_mm) + np.asarray(scan.direction) @ steps_xyz


def same_geometry(one: Scan, other: Scan) -> bool:
    """Whether two scans have the same spacing, origin (within 0.001 mm) and direction."""
    pairs = (
        (one.spacing_mm, other.spacing_mm),
        (one.origin_mm, other.origin_mm),
        (one.direction, other.direction),
    )
    return all(np.allclose(first, second, rtol=0, atol=1e-3) for first, second in pairs)


def same_as_written(scan: Scan, written: Scan) -> bool:
    """Whether a scan read back from a file has the geometry of the one that was written, up to the file's precision."""
    return (
        np.allclose(written.spacing_mm, scan.spacing_mm, rtol=1e-5)
        and np.allclose(written.origin_mm, scan.origin_mm, rtol=1e-5, atol=1e-3)
        and np.allclose(written.direction, scan.direction, atol=1e-4)
    )


def anatomical_axes(direction: np.ndarray) -> tuple[int, int, int]:
    """Return which file axis (0, 1, 2 for x, y, z) is closest to the patient's x, y and z, each once.

    Parameters
    ----------
    direction
        As `Scan.direction`.
    """
    cosines = np.abs(np.asarray(direction, float))
    x, y, z = max(permutations(range(3)), key=lambda order: sum(cosines[row, order[row]] for row in range(3)))
    return x, y, z


def to_canonical(scan: Scan) -> Scan:
    """Permute and flip the array axes so that they are closest to superior, posterior and left.

    Every voxel keeps its exact position in the patient: an oblique scan stays oblique, nothing is resampled.

    Parameters
    ----------
    scan
        A scan in any orientation; lazy voxels stay lazy.

    Returns
    -------
    Scan
        The scan itself if it is already in this order, otherwise one whose voxels are a view of the same memory.
    """
    direction = np.asarray(scan.direction, dtype=float)
    sources = anatomical_axes(direction)
    flipped = [bool(direction[row, sources[row]] < 0) for row in range(3)]
    if sources == (0, 1, 2) and not any(flipped):
        return scan
    # File axes run x, y, z and array axes z, y, x, so that file axis j is array axis 2 - j.
    first_voxel = [0, 0, 0]
    for row, source in enumerate(sources):
        if flipped[row]:
            first_voxel[2 - source] = scan.shape[2 - source] - 1
    order = tuple(2 - source for source in reversed(sources))
    mirrored = tuple(reversed(flipped))
    signs = np.where(flipped, -1.0, 1.0)
    x, y, z = position_mm(scan, (first_voxel[0], first_voxel[1], first_voxel[2]))
    spacing_xyz = [scan.spacing_mm[2 - source] for source in sources]
    return replace(
        scan,
        voxels=_turned(scan.voxels, order, mirrored),
        spacing_mm=(spacing_xyz[2], spacing_xyz[1], spacing_xyz[0]),
        origin_mm=(float(x), float(y), float(z)),
        direction=direction[:, list(sources)] * signs,
        acquired_along=None if scan.acquired_along is None else order.index(scan.acquired_along),
    )


def _turned(voxels: Any, order: tuple[int, ...], mirrored: tuple[bool, ...]) -> Any:
    """Permute array axes, then mirror some of them."""
    steps = tuple(slice(None, None, -1 if mirror else 1) for mirror in mirrored)
    if isinstance(voxels, np.ndarray):
        return np.transpose(voxels, order)[steps]
    shape = tuple(voxels.shape[axis] for axis in order)

    def read(box: tuple[slice, slice, slice]) -> np.ndarray:
        source = [slice(None)] * 3
        for axis, span, size, mirror in zip(order, box, shape, mirrored, strict=True):
            source[axis] = slice(size - span.stop, size - span.start) if mirror else span
        return np.transpose(np.asarray(voxels[tuple(source)]), order)[steps]

    turned = LazyVoxels(shape, voxels.dtype, read, source=getattr(voxels, "source", None))
    turned.keep = voxels
    return turned
