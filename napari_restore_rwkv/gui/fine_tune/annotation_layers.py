"""The annotation palette as a Labels layer, and shapes drawn into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from skimage.draw import line, polygon

from ...training.annotations import PALETTE
from ..layer_geometry import spatial_transforms

if TYPE_CHECKING:
    from napari.layers import Image, Shapes

# Vertices whose coordinates across the slices differ by less are in one slice.
_ONE_SLICE = 0.5
_CORNERS_OF_AN_ELLIPSE = 180


def annotation_layer(scan: Image) -> Labels:
    """Return an empty Labels layer on the grid of a scan of three dimensions, or of one frame of four.

    It has the colours of the palette, and napari shows the name of the class at the mouse pointer.
    """
    colours: dict[int | None, Any] = {label: (*known.colour, 1.0) for label, known in PALETTE.items()}
    layer = Labels(
        np.zeros(scan.data.shape[-3:], np.uint8),
        name=f"{scan.name} [annotations]",
        colormap=DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", **colours}, name="fine-tuning"),
        opacity=0.45,
        features={"index": [0, *PALETTE], "class": ["not marked", *(known.name for known in PALETTE.values())]},
        **spatial_transforms(scan),
    )
    layer.brush_size = max(1, min(scan.data.shape[-2:]) // 16)
    return layer


def fill_shapes(shapes: Shapes, labels: Labels, label: int) -> tuple[int, int]:
    """Mark the voxels whose centres are in the shapes of a layer, as a single step for undo.

    A shape marks the slice that it lies in, or all slices along z if its layer has two dimensions. Lines and paths mark
    the voxels along them.

    Returns
    -------
    tuple of int
        The number of voxels in the shapes, and of shapes that were left out because they lie in no single slice.
    """
    marked = np.zeros(labels.data.shape, bool)
    skipped = 0
    for vertices, kind in zip(shapes.data, shapes.shape_type, strict=True):
        corners = np.array([_in_voxels(corner, shapes, labels) for corner in np.asarray(vertices, float)])
        if shapes.ndim == 2:
            place: tuple[Any, ...] = (slice(None),)
            plane, axis = corners[:, 1:], 0
        else:
            axis = int(np.ptp(corners, axis=0).argmin())
            if np.ptp(corners[:, axis]) >= _ONE_SLICE:
                skipped += 1
                continue
            index = round(float(corners[:, axis].mean()))
            if not 0 <= index < labels.data.shape[axis]:
                skipped += 1
                continue
            place, plane = (*(slice(None),) * axis, index), np.delete(corners, axis, axis=1)
        size = tuple(side for along, side in enumerate(labels.data.shape) if along != axis)
        marked[place] |= _drawn(plane, kind, size)
    labels.data_setitem(np.nonzero(marked), label)
    return int(marked.sum()), skipped


def _in_voxels(corner: np.ndarray, shapes: Shapes, labels: Labels) -> np.ndarray:
    """A corner in the grid of the labels; in a two-dimensional layer, it gets an arbitrary first coordinate."""
    world = np.asarray(shapes.data_to_world(corner), float)[-3:]
    return np.asarray(labels.world_to_data(np.concatenate((np.zeros(3 - len(world)), world))), float)


def _drawn(corners: np.ndarray, kind: str, size: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(size, bool)
    if kind in ("line", "path"):
        for start, end in zip(corners.round().astype(int)[:-1], corners.round().astype(int)[1:], strict=True):
            rows, columns = line(*start, *end)
            inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
            mask[rows[inside], columns[inside]] = True
        return mask
    if kind == "ellipse":
        middle, half, other = corners.mean(axis=0), (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
        turn = np.linspace(0, 2 * np.pi, _CORNERS_OF_AN_ELLIPSE, endpoint=False)[:, None]
        corners = middle + half * np.cos(turn) + other * np.sin(turn)
    mask[polygon(corners[:, 0], corners[:, 1], size)] = True
    return mask
