"""Regions and lines drawn on a scan, as masks and end points in the displayed slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Shapes

from ...reliability.numbers import Line
from ..layer_geometry import spatial_transforms
from ..layers import RECORD

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from .comparison import Comparison
    from .shown_slice import ShownSlice

LINES = ("line", "path")
ROUNDING = 1e-9


def drawing_on(viewer: ViewerModel, comparison: Comparison) -> Shapes:
    """Return the layer for drawing on a scan, on top and selected; it is added if there is none."""
    found = drawing_of(viewer, comparison)
    if found is None:
        scan = comparison.input
        placed = spatial_transforms(scan)
        found = Shapes(
            ndim=min(scan.ndim, 3),
            name=f"{scan.name} [regions]",
            face_color="transparent",
            edge_color="yellow",
            edge_width=1,
            metadata={RECORD: {"role": "regions", "scan": scan.unique_id}},
            **placed,
        )
        viewer.layers.append(found)
    found.visible = True
    viewer.layers.selection = {found}
    return found


def drawing_of(viewer: ViewerModel, comparison: Comparison) -> Shapes | None:
    """Return the layer for drawing on a scan; None if there is none."""
    for layer in viewer.layers:
        if isinstance(layer, Shapes) and layer.metadata.get(RECORD, {}).get("scan") == comparison.input.unique_id:
            return layer
    return None


def regions_of(drawing: Shapes, shown: ShownSlice) -> list[np.ndarray]:
    """Return the mask (Y, X) of each drawn region that contains a pixel, whatever slice it was drawn on."""
    masks = [
        _inside(_plane(points, shown), kind, shown.input.shape)
        for points, kind in zip(drawing.data, drawing.shape_type, strict=True)
        if kind not in LINES
    ]
    return [mask for mask in masks if mask.any()]


def line_of(drawing: Shapes, shown: ShownSlice) -> Line | None:
    """Return the line that was drawn last, from its first to its last point; None if there is none."""
    for points, kind in reversed(list(zip(drawing.data, drawing.shape_type, strict=True))):
        if kind in LINES:
            ends = _plane(points, shown)[[0, -1]]
            start, stop = ((float(row), float(column)) for row, column in ends)
            return Line(start, stop)
    return None


def _plane(points: Any, shown: ShownSlice) -> np.ndarray:
    points = np.asarray(points, float)
    return points if points.shape[1] == 2 else np.delete(points[:, -3:], shown.axis, axis=1)


def _inside(corners: np.ndarray, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return which pixels have their centre in a polygon, or in the ellipse that its four corners enclose."""
    rows, columns = np.indices(shape)
    if kind == "ellipse":
        centre = corners.mean(axis=0)
        one, other = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
        sides = np.stack([one, other], axis=1)
        if abs(np.linalg.det(sides)) < 1e-9:
            return np.zeros(shape, bool)
        within = np.tensordot(np.linalg.inv(sides), np.stack([rows - centre[0], columns - centre[1]]), axes=1)
        return np.asarray((within**2).sum(axis=0) <= 1 + ROUNDING)
    inside = np.zeros(shape, bool)
    for (y0, x0), (y1, x1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 != y1:
            # A pixel is inside if a ray to the right crosses an odd number of sides.
            across = (y0 > rows) != (y1 > rows)
            inside ^= across & (columns < x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
    return inside
