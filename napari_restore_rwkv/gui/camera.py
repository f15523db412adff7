"""What the camera shows: how closely the user looks at a picture, and the same view again in panels of another size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer

ZOOMED_IN = 1.1
# The part of its panel that napari lets a picture fill.
FITTED = 0.95


def closer_than_fitting(
    viewer: ViewerModel, size: tuple[float, float] | None = None, layers: Sequence[Layer] | None = None
) -> float:
    """Return the magnification of the picture, relative to the one at which all of it just fits into its panel.

    Parameters
    ----------
    viewer
        The viewer; if it shows nothing, 1 is returned.
    size
        Height and width of the canvas in pixels; the current ones by default.
    layers
        The layers in the picture; all by default.
    """
    canvas = viewer.canvas
    if not viewer.layers:
        return 1.0
    low, high = _extent_on_screen(viewer, viewer.layers if layers is None else layers)
    picture = np.maximum((high - low)[-2:], 1e-9)
    panels = np.asarray(canvas.grid.actual_shape(viewer.layers) if canvas.grid.enabled else (1, 1))
    room = np.asarray(canvas.size if size is None else size, float) / panels
    return float(viewer.scene.camera.zoom / (room / picture).min())


def _extent_on_screen(viewer: ViewerModel, layers: Sequence[Layer]) -> np.ndarray:
    """Extent of layers in world coordinates along the displayed axes; shape (2, 2), in 3-D (2, 3)."""
    world = viewer.layers.get_extent(layers).world
    # A two-dimensional layer among volumes only has the last axes.
    world = np.pad(world, ((0, 0), (viewer.dims.ndim - world.shape[1], 0)))
    return world[:, list(viewer.dims.displayed)]


def _fit(viewer: ViewerModel, layers: Sequence[Layer]) -> None:
    """Fit some layers into their panels.

    napari fits single layers only since 0.9.2, and never those with fewer axes than others; in 3-D all are fitted.
    """
    viewer.reset_view(reset_camera_angle=False)
    if viewer.dims.ndisplay == 2:
        low, high = _extent_on_screen(viewer, layers)
        viewer.scene.camera.center = tuple((low + high) / 2)
        viewer.scene.camera.zoom *= FITTED / closer_than_fitting(viewer, layers=layers)


class Focus:
    """What the user looks at, kept when panels are resized: the whole slice, or a position and its magnification.

    Parameters
    ----------
    viewer
        The viewer.
    size
        Height and width of the canvas when the user moved the camera.
    """

    def __init__(self, viewer: ViewerModel, size: tuple[float, float]) -> None:
        self._viewer = viewer
        self._center = viewer.scene.camera.center
        self._closer = closer_than_fitting(viewer, size)

    def keep(self, layers: Sequence[Layer]) -> None:
        """Show the same again of some layers, in the panels as they are now."""
        _fit(self._viewer, layers)
        if self._closer > ZOOMED_IN:
            self._viewer.scene.camera.zoom *= self._closer
            self._viewer.scene.camera.center = self._center
