"""The position of the voxels of a zarr: what OME-Zarr 0.4 and 0.5 say about axes, units, scale and translation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ScanError
from ..geometry import check_position, check_spacing
from ..integrity import broken
from ..units_of_length import MILLIMETERS, millimeters

if TYPE_CHECKING:
    from pathlib import Path

SPACE = ("z", "y", "x")


@dataclass(frozen=True, slots=True)
class Place:
    """The path of an array in a group, and its axes.

    `scale` and `translation` are in the unit of each axis, in the order of the array.
    """

    path: str
    axes: tuple[str, ...]
    units: tuple[str, ...]
    scale: tuple[float, ...]
    translation: tuple[float, ...]


def ome_place(path: Path, attributes: Mapping[str, Any]) -> Place | None:
    """Return where the full-size image is, or None if this is not an OME-Zarr image."""
    ome = attributes.get("ome", attributes)
    try:
        images = ome.get("multiscales")
        if images is None:
            if "plate" in ome or "well" in ome:
                raise ScanError(f"{path.name} contains several images (a plate or a collection); give one of them.")
            return None
        if len(images) != 1:
            raise ScanError(f"{path.name} contains {len(images)} images; save the one to be read in a separate folder.")
        [image] = images
        axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in image["axes"]]
        dataset = image["datasets"][0]
        scale, translation = np.ones(len(axes)), np.zeros(len(axes))
        for step in [*dataset.get("coordinateTransformations", ()), *image.get("coordinateTransformations", ())]:
            if step["type"] == "scale":
                scale, translation = scale * step["scale"], translation * step["scale"]
            elif step["type"] == "translation":
                translation = translation + step["translation"]
            elif step["type"] != "identity":
                raise ScanError(
                    f"{path.name} has a transformation of type {step['type']}, which is not supported; use a scale."
                )
        if scale.shape != (len(axes),) or translation.shape != (len(axes),):
            raise ValueError("one number an axis")
        return Place(
            str(dataset["path"]),
            tuple(str(axis["name"]) for axis in axes),
            tuple(str(axis.get("unit", "")) for axis in axes),
            tuple(float(value) for value in scale),
            tuple(float(value) for value in translation),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise broken(path, "its OME-Zarr metadata are incomplete") from error


def plain_place(path: Path, array: Any) -> Place:
    """Take the last three axes as z, y, x unless the array names y and x, by zarr 3 or as xarray does in zarr 2."""
    count = array.ndim
    if not 2 <= count <= 5:
        raise ScanError(f"{path.name} has {count} dimensions; give an array with two to five (t, c, z, y, x).")
    names = _given_names(array)
    if not {"y", "x"} <= set(names) or len(names) != count:
        names = ("t", "c", *SPACE)[-count:] if count != 4 else ("t", *SPACE)
    return Place("", names, ("",) * count, (1.0,) * count, (0.0,) * count)


def _given_names(array: Any) -> tuple[str, ...]:
    """Return the names of the axes of an array, in small letters; none if it does not name them."""
    # Those of a damaged array may be anything.
    attributes = array.metadata.attributes
    by_xarray = attributes.get("_ARRAY_DIMENSIONS") if isinstance(attributes, Mapping) else None
    given = getattr(array.metadata, "dimension_names", None) or by_xarray
    return tuple(str(name).lower() for name in given) if isinstance(given, list | tuple) else ()


def spacing_and_origin(path: Path, place: Place) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return spacing and origin in mm, both in the order z, y, x."""
    steps, starts = [], []
    for name in SPACE:
        if name not in place.axes:
            steps.append(1.0)
            starts.append(0.0)
            continue
        at = place.axes.index(name)
        factor = millimeters(place.units[at] or "millimeter")
        if factor is None:
            raise ScanError(
                f"{path.name} gives {name} in {place.units[at]}, an unknown unit; use one of {', '.join(MILLIMETERS)}."
            )
        steps.append(place.scale[at] * factor)
        starts.append(place.translation[at] * factor)
    check_spacing(path, steps)
    check_position(path, starts[::-1])
    return (steps[0], steps[1], steps[2]), (starts[0], starts[1], starts[2])
