"""Swipe: the restored slice drawn like a curtain over the input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.experimental import link_layers, unlink_layers
from napari.layers import Image

from ..layer_geometry import spatial_transforms
from ..layers import RECORD

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari.components import ViewerModel

    from .comparison import Comparison

# How close to the curtain's edge, in screen pixels, the mouse can grab it.
GRIP_PX = 14
LINKED = ("contrast_limits", "gamma", "colormap")


class Curtained:
    """The restored voxels right of an edge, and NaN, which napari draws transparent, left of it.

    Only what is displayed is computed. The column at the edge has the brightest value of the picture.

    Attributes
    ----------
    axis
        The array axis across the edge.
    edge
        The first column that is not covered.
    """

    def __init__(self, restored: Image, axis: int, edge: int) -> None:
        self._restored = restored
        self.axis, self.edge = axis, edge
        self.dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self._restored.data.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        index = index if isinstance(index, tuple) else (index,)
        index = (*index, *[slice(None)] * (self.ndim - len(index)))
        shown = np.array(self._restored.data[index], np.float32)
        if isinstance(index[self.axis], slice):
            columns = np.arange(self.shape[self.axis])[index[self.axis]]
            along = sum(isinstance(one, slice) for one in index[: self.axis])
            shown = np.moveaxis(shown, along, -1)
            shown[..., columns < self.edge] = np.nan
            shown[..., columns == self.edge] = self._restored.contrast_limits[1]
            shown = np.moveaxis(shown, -1, along)
        return shown

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[()], dtype)


class Curtain:
    """A layer for display only, over the input: added by `draw`, removed by `take_away`.

    Attributes
    ----------
    layer
        The layer; None if there is none.
    moved
        Called with the position of the edge, however it was moved.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._comparison: Comparison | None = None
        self._fraction = 0.5
        self.layer: Image | None = None
        self.moved: Callable[[float], None] = _no_listener

    @property
    def fraction(self) -> float:
        """Position of the edge: 0 shows only the restored slice, 1 only the input."""
        return self._fraction

    def draw(self, comparison: Comparison) -> Image:
        """Add the layer for a comparison, and let the mouse drag its edge."""
        self.take_away()
        restored, axis = comparison.restored, self._across(comparison)
        self._comparison = comparison
        self.layer = Image(
            Curtained(restored, axis, self._edge(comparison, axis)),
            name=f"{comparison.input.name} [swipe]",
            contrast_limits=restored.contrast_limits,
            colormap=restored.colormap,
            gamma=restored.gamma,
            interpolation2d=restored.interpolation2d,
            metadata={RECORD: {"role": "swipe"}},
            **spatial_transforms(restored),
        )
        selected = set(self._viewer.layers.selection)
        self._viewer.layers.insert(comparison.place_above(self._viewer.layers), self.layer)
        self._viewer.layers.selection = selected
        link_layers([comparison.input, self.layer], LINKED)
        comparison.restored.events.data.connect(self.refresh)
        self._viewer.dims.events.order.connect(self._turn)
        self._viewer.mouse_drag_callbacks.append(self._on_drag)
        return self.layer

    def take_away(self) -> None:
        """Remove the layer."""
        layer, comparison = self.layer, self._comparison
        if layer is None or comparison is None:
            return
        self.layer = self._comparison = None
        self._viewer.mouse_drag_callbacks.remove(self._on_drag)
        self._viewer.dims.events.order.disconnect(self._turn)
        comparison.restored.events.data.disconnect(self.refresh)
        unlink_layers([comparison.input, layer], LINKED)
        if layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def move_to(self, fraction: float) -> None:
        """Move the edge, from 0 at the left to 1 at the right."""
        self._fraction = min(max(fraction, 0.0), 1.0)
        if self.layer is not None and self._comparison is not None:
            data = self.layer.data
            edge = self._edge(self._comparison, data.axis)
            if edge != data.edge:
                data.edge = edge
                self.refresh()
        self.moved(self._fraction)

    def refresh(self, event: Any = None) -> None:
        """Redraw the layer: another slice is displayed, or the strength has changed."""
        if self.layer is not None:
            self.layer.refresh(thumbnail=False, extent=False, highlight=False)

    def _turn(self, event: Any = None) -> None:
        """Keep the edge vertical when other axes are displayed."""
        if self.layer is not None and self._comparison is not None:
            data = self.layer.data
            data.axis = self._across(self._comparison)
            data.edge = self._edge(self._comparison, data.axis)
            self.refresh()

    def _across(self, comparison: Comparison) -> int:
        layer, dims = comparison.restored, self._viewer.dims
        return max(dims.displayed[-1] - (dims.ndim - layer.ndim), 0)

    def _edge(self, comparison: Comparison, axis: int) -> int:
        return round(self._fraction * comparison.restored.data.shape[axis])

    def _on_drag(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        if self.layer is None or event.button != 1:
            return
        data, camera = self.layer.data, self._viewer.scene.camera
        step = float(self.layer.scale[data.axis])
        if abs(self._column(event) - data.edge) * step * camera.zoom > GRIP_PX:
            return
        panned, camera.mouse_pan = camera.mouse_pan, False
        try:
            yield
            while event.type == "mouse_move" and self.layer is not None:
                self.move_to(self._column(event) / data.shape[data.axis])
                yield
        finally:
            camera.mouse_pan = panned

    def _column(self, event: Any) -> float:
        assert self.layer is not None
        return float(self.layer.world_to_data(event.position)[self.layer.data.axis])


def _no_listener(fraction: float) -> None:
    """Default for `Curtain.moved`."""
