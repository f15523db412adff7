"""Positions of layers: from the transforms of any layer to spacing, origin and direction in mm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pint
from napari.utils.transforms import Affine

from ..errors import ScanError
from ..scans.geometry import is_orthonormal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.layers import Layer

    from ..scans.scan import Scan

# The attributes that give a layer's position, in napari's layer data tuples.
TRANSFORMS = ("scale", "translate", "rotate", "shear", "affine", "units")
_EXACT = 1e-9
# For a layer without a record: z, y, x to x, y, z.
_WORLD_TO_PATIENT = np.eye(4)[[2, 1, 0, 3]]


def transforms_of(layer: Layer) -> dict[str, Any]:
    """Return the attributes that give a layer's position, as in its layer data tuple."""
    return {name: getattr(layer, name) for name in TRANSFORMS}


def spatial_transforms(layer: Layer) -> dict[str, Any]:
    """Return the attributes that place a layer with the last three axes (or two, if there are only two) on this one."""
    count = min(layer.ndim, 3)
    if layer.ndim == count:
        return {**transforms_of(layer), "axis_labels": layer.axis_labels}
    scale, translate = layer.scale[-count:], layer.translate[-count:]
    in_units = _matrix(layer.ndim, transforms_of(layer))[-count - 1 :, -count - 1 :]
    straight = np.diag([*scale, 1.0])
    straight[:-1, -1] = translate
    return {
        "scale": scale,
        "translate": translate,
        "affine": in_units @ np.linalg.inv(straight),
        "units": layer.units[-count:],
        "axis_labels": layer.axis_labels[-count:],
    }


def world_matrix(shape: Sequence[int], attributes: Mapping[str, Any], name: str) -> np.ndarray:
    """Return the 4x4 matrix from the index (z, y, x) of a layer to its position in the world (z, y, x) in mm.

    Parameters
    ----------
    shape
        Of its data, with two to four axes; a single slice is 1 mm thick, and time is left out.
    attributes
        As in napari's layer data tuple.
    name
        For errors.

    Raises
    ------
    ScanError
        Time and space are mixed.
    """
    count = len(shape)
    matrix = _matrix(count, attributes)
    units = attributes.get("units") or ("pixel",) * count
    matrix[:-1] *= np.array([_millimetres(unit) for unit in units])[:, np.newaxis]
    if count > 3 and (matrix[:-4, -4:-1].any() or matrix[-4:, :-4].any()):
        raise ScanError(f'"{name}" has a transform that mixes time and space: reset its affine transform.')
    world = np.eye(4)
    kept = min(count, 3)
    world[3 - kept :, 3 - kept :] = matrix[-kept - 1 :, -kept - 1 :]
    return world


def geometry_of(world: np.ndarray, record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return spacing, origin and direction of a layer.

    Parameters
    ----------
    world
        From `world_matrix`.
    record
        What was known about the scan when the layer was created, with its matrix at that time; later changes to the
        layer move the scan in the patient, too. Without a record, world coordinates are taken as the patient's.

    Raises
    ------
    ScanError
        The axes of the layer are not at right angles, or one of them has no length.
    """
    known = np.asarray(record["world"], float) if record else world
    if record and np.allclose(world, known, rtol=_EXACT, atol=_EXACT):
        return {key: record[key] for key in ("spacing_mm", "origin_mm", "direction")}
    patient = (_patient_matrix(record) @ np.linalg.inv(known) if record else _WORLD_TO_PATIENT) @ world
    # Columns in the order of file indices: x, y, z.
    columns = patient[:3, 2::-1]
    lengths = np.linalg.norm(columns, axis=0)
    if not (np.isfinite(patient).all() and lengths.all()):
        raise ScanError(f'"{name}" has an axis of zero length or with NaN or infinite values: reset its scale.')
    direction = columns / lengths
    if not is_orthonormal(direction):
        raise ScanError(
            f'"{name}" is sheared: its axes are not at right angles, and no scan file can hold that; reset its shear '
            "and affine transform, or resample it onto a rectangular grid."
        )
    return {
        "spacing_mm": tuple(float(step) for step in lengths[::-1]),
        "origin_mm": tuple(float(value) for value in patient[:3, 3]),
        "direction": direction,
    }


def remembered(scan: Scan, shape: Sequence[int], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a layer with these attributes must store about its scan so that it can be written back exactly."""
    return {
        "world": world_matrix(shape, attributes, "scan").tolist(),
        "spacing_mm": tuple(scan.spacing_mm),
        "origin_mm": tuple(scan.origin_mm),
        "direction": np.asarray(scan.direction, dtype=float).tolist(),
        "modality": scan.modality,
        "unit": scan.unit,
        "acquired_along": scan.acquired_along,
        "metadata": dict(scan.metadata),
    }


def _patient_matrix(record: Mapping[str, Any]) -> np.ndarray:
    """Return the 4x4 matrix from the index (z, y, x) to the patient (x, y, z) in mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.asarray(record["direction"], float) * np.asarray(record["spacing_mm"], float)[::-1])[:, ::-1]
    matrix[:3, 3] = record["origin_mm"]
    return matrix


def _matrix(count: int, attributes: Mapping[str, Any]) -> np.ndarray:
    """Return the homogeneous matrix from index to world, in the units of the layer."""
    given = {
        key: attributes[key] for key in ("scale", "translate", "rotate", "shear") if attributes.get(key) is not None
    }
    local = Affine(ndim=count, **given).affine_matrix
    outer = attributes.get("affine")
    outer = np.eye(count + 1) if outer is None else np.asarray(getattr(outer, "affine_matrix", outer), float)
    # napari treats smaller matrices as those of the last axes.
    whole = np.eye(count + 1)
    whole[count + 1 - len(outer) :, count + 1 - len(outer) :] = outer
    return whole @ local


def _millimetres(unit: Any) -> float:
    """Return how many mm one of this unit is; pixels and other units that are not lengths count as 1 mm."""
    one = pint.Quantity(1.0, str(unit))
    return float(one.to("mm").magnitude) if one.check("[length]") else 1.0
