"""A preview of one slice, in a separate layer beside the scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image

from ..compare.comparison import displayed_slice
from ..layer_geometry import remembered, spatial_transforms
from ..layers import RECORD, layer_to_scan

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from ...scans.scan import Scan

MARGIN, MAGNIFIED = 0.95, 1.05


class OneSlice:
    """A volume of NaN with one known slice; it takes no more memory than that slice.

    Parameters
    ----------
    shape
        Shape of the volume, (Z, Y, X).
    axis
        The axis across the slices.
    """

    dtype = np.dtype(np.float32)
    ndim = 3

    def __init__(self, shape: tuple[int, ...], axis: int) -> None:
        self.shape, self.axis = tuple(shape), axis
        self.index = 0
        self.image = np.full([size for a, size in enumerate(shape) if a != axis], np.nan, np.float32)

    def put(self, index: int, image: np.ndarray) -> None:
        """Replace the known slice by another one, (Y, X)."""
        self.index, self.image = index, np.asarray(image, np.float32)

    def __getitem__(self, index: Any) -> np.ndarray:
        given = index if isinstance(index, tuple) else (index,)
        given = (*given, *(slice(None),) * (3 - len(given)))
        numbers = np.arange(self.shape[self.axis])[given[self.axis]]
        inside = tuple(part for axis, part in enumerate(given) if axis != self.axis)
        known = self.image[inside]
        if np.ndim(numbers) == 0:
            return known if numbers == self.index else np.full_like(known, np.nan)
        # Axes before this one that were indexed by a number are gone.
        place = sum(isinstance(part, slice) for part in given[: self.axis])
        block = np.full((*known.shape[:place], len(numbers), *known.shape[place:]), np.nan, np.float32)
        for at in np.flatnonzero(numbers == self.index):
            block[(slice(None),) * place + (at,)] = known
        return block

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:, :, :], dtype=dtype)


class SlicePreview:
    """Shows pictures of slices beside a scan, in one layer that is added with the first picture.

    While it is shown, only scan and preview are visible; afterwards the user's own view returns.

    Parameters
    ----------
    what
        Part of the name of the layer: ``"CT abdomen [what]"``.
    """

    def __init__(self, viewer: ViewerModel, what: str) -> None:
        self._viewer, self._what = viewer, what
        self._layer: Image | None = None
        self._scan_layer: Image | None = None
        self._view: _Beside | None = None

    @property
    def layer(self) -> Image | None:
        """The layer; None if it is not in the viewer."""
        return self._layer if self._layer in self._viewer.layers else None

    def show(self, on: Image, axis: int, index: int, image: np.ndarray) -> None:
        """Show slice `index` along an axis of a scan's layer, (Y, X) in its unit."""
        shown = self.layer
        if shown is None or self._scan_layer is not on or shown.data.axis != axis:
            self.remove()
            if on not in self._viewer.layers:
                return
            shown = self._layer = _layer(on, axis, f"{on.name} [{self._what}]")
            self._scan_layer = on
            selected = set(self._viewer.layers.selection)
            self._viewer.layers.insert(self._viewer.layers.index(on) + 1, shown)
            self._viewer.layers.selection = selected
            self._view = _Beside(self._viewer, on, shown)
        shown.data.put(index, image)
        shown.refresh(thumbnail=False, extent=False, highlight=False)

    def remove(self) -> None:
        """Remove the layer, and return to the user's own view."""
        if self._view is not None:
            self._view.leave()
            self._view = None
        if self.layer is not None:
            self._viewer.layers.remove(self._layer)
        self._layer = None


class _Beside:
    """Two layers in two panels of the canvas, until `leave`."""

    def __init__(self, viewer: ViewerModel, left: Image, right: Image) -> None:
        self._viewer, self._pair = viewer, (left, right)
        self._visible = [(layer, layer.visible) for layer in viewer.layers if layer is not right]
        grid, camera = viewer.canvas.grid, viewer.scene.camera
        self._settings: list[tuple[Any, str, Any]] = [
            *((grid, name, getattr(grid, name)) for name in ("enabled", "stride", "shape")),
            *((camera, name, getattr(camera, name)) for name in ("center", "zoom")),
        ]
        for layer in viewer.layers:
            layer.visible = layer in self._pair
        grid.stride, grid.shape = 1, (1, 2)
        grid.enabled = True
        camera.zoom = min(camera.zoom, self._zoom_that_shows_both())

    def _zoom_that_shows_both(self) -> float:
        """The zoom at which the whole scan fits into a panel; the user's own one if the scan was magnified."""
        viewer, left = self._viewer, self._pair[0]
        low, high = left.extent.world
        rows, columns = (axis - (viewer.dims.ndim - left.ndim) for axis in viewer.dims.displayed[-2:])
        picture = np.maximum((high - low)[[rows, columns]], 1e-9)
        canvas = np.asarray(viewer.canvas.size, float)
        whole, half = (float((canvas * share / picture).min()) for share in ((1, 1), (1, 0.5)))
        magnified = viewer.scene.camera.zoom > MAGNIFIED * whole
        return viewer.scene.camera.zoom if magnified else MARGIN * half

    def leave(self) -> None:
        """Return to the previous view, unless the user or another view has rearranged the canvas."""
        grid = self._viewer.canvas.grid
        shown = [layer for layer in self._viewer.layers if layer.visible]
        if not grid.enabled or tuple(grid.shape) != (1, 2) or not set(shown) <= set(self._pair):
            return
        for layer, visible in self._visible:
            layer.visible = visible
        for owner, name, value in self._settings:
            setattr(owner, name, value)


def looked_at(viewer: ViewerModel, layer: Image, axis: int) -> int | None:
    """Return the displayed slice along an axis of the scan; None in a view along another axis."""
    return displayed_slice(viewer, layer, axis, layer.data.shape[-3:][axis])


def _layer(on: Image, axis: int, name: str) -> Image:
    scan: Scan = layer_to_scan(on, 0 if on.ndim == 4 else None)
    placed = spatial_transforms(on)
    record = remembered(scan, scan.shape, placed)
    return Image(
        OneSlice(scan.shape, axis),
        name=name,
        colormap=on.colormap,
        contrast_limits=on.contrast_limits,
        gamma=on.gamma,
        interpolation2d=on.interpolation2d,
        metadata={RECORD: {**record, "role": "preview"}},
        **placed,
    )
