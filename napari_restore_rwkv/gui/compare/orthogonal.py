"""The three orthogonal planes of input, restored and difference, with one voxel marked in all of them."""

from __future__ import annotations

from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.experimental import link_layers, unlink_layers
from napari.layers import Image
from qtpy.QtCore import QObject, Signal

from ..background import Background
from ..layers import RECORD
from .comparison import COLORBAR
from .curtain import LINKED
from .free_keys import FreeKeys
from .montage import Layout, Plane, Sheet, planes_of, read_plane

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari.components import ViewerModel

    from .comparison import Comparison

ROLE = "planes"
# Width of the lines, and how far the mouse may move during a click, in screen pixels.
LINE_PX, CLICK_PX = 1.2, 4
# The fraction of a cell that napari fills with a picture.
SHARE_OF_CELL = 0.95
# Steps within the displayed slice: rows and columns.
STEPS = {"Alt-Up": (-1, 0), "Alt-Down": (1, 0), "Alt-Left": (0, -1), "Alt-Right": (0, 1)}


class OrthogonalPlanes(QObject):
    """Layers for display only: added by `draw`, removed by `take_away`.

    The voxel is given by the viewer's sliders, including those of the displayed axes. Planes are read off the GUI
    thread, three of each volume, and only those that have changed.

    Signals
    -------
    changed()
        Reading has begun, or the planes are shown.
    failed(error)
        The planes could not be read.

    Attributes
    ----------
    layers
        Input, restored, difference; empty if they are not shown.
    position
        The voxel (z, y, x) that is marked.
    """

    changed = Signal()
    failed = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.layers: tuple[Image, ...] = ()
        self._viewer = viewer
        self._comparison: Comparison | None = None
        self._planes: tuple[Plane, ...] = ()
        self._sheet: Sheet | None = None
        self._images: dict[int, list[np.ndarray]] = {}
        self._kept: dict[int, int] = {}
        self.position = (0, 0, 0)
        # What is being read, for which voxel and which planes; both None if nothing is.
        self._question: object = None
        self._asked: object = None
        self._before: tuple[tuple[int, ...], int] = ((), 2)
        self._width = 1
        self._keys = FreeKeys(viewer, {key: partial(self._step, *step) for key, step in STEPS.items()})
        self._background = Background(self)
        self._background.answered.connect(self._take)
        self._background.failed.connect(self._on_failed)

    @property
    def is_reading(self) -> bool:
        """Whether planes are being read that take long: those across the slices of lazy voxels."""
        return self._question is not None and not self._in_memory()

    def shows(self, comparison: Comparison) -> bool:
        """Whether these are the planes of a comparison."""
        return bool(self.layers) and comparison is self._comparison

    @staticmethod
    def size_of(comparison: Comparison, layout: Layout) -> tuple[float, float]:
        """Return height and width of a sheet, in the units of the layers."""
        sheet = _sheet_of(comparison, layout)
        return sheet.shape[0] * sheet.step, sheet.shape[1] * sheet.step

    def draw(self, comparison: Comparison, layout: Layout) -> None:
        """Show the planes of a comparison."""
        if self.shows(comparison):
            self._lay_out(layout)
            return
        self.take_away()
        self._comparison, self._planes = comparison, planes_of(np.asarray(comparison.result.scan.direction))
        dims = self._viewer.dims
        self._before = tuple(dims.order), dims.ndisplay
        self._images, self._kept = {}, {}
        self.position = self._voxel()
        self._sheet = _sheet_of(comparison, layout)
        selected = set(self._viewer.layers.selection)
        self.layers = tuple(self._layer_like(layer) for layer in comparison.layers)
        place = comparison.place_above(self._viewer.layers)
        for number, layer in enumerate(self.layers):
            self._viewer.layers.insert(place + number, layer)
        self._viewer.layers.selection = selected
        link_layers([comparison.input, *self.layers[:2]], LINKED)
        link_layers([comparison.difference, self.layers[2]], LINKED)
        self._hold()
        self._listen("connect")
        self._keys.bind()
        self.refresh()

    def fit_into(self, height: float, width: float) -> None:
        """Show whole sheets in cells of this size in pixels; napari itself only fits layers that have all axes."""
        if self._sheet is None:
            return
        camera, step = self._viewer.scene.camera, self._sheet.step
        rows, columns = self._sheet.shape
        camera.center = (0.0, (rows - 1) / 2 * step, (columns - 1) / 2 * step)
        camera.zoom = SHARE_OF_CELL * min(height / rows, width / columns) / step

    def take_away(self) -> None:
        """Remove the layers, and restore the viewer's axes."""
        layers, comparison = self.layers, self._comparison
        if not layers or comparison is None:
            return
        self._keys.unbind()
        self._listen("disconnect")
        self._background.forget()
        self.layers, self._comparison, self._question, self._asked = (), None, None, None
        unlink_layers([comparison.input, *layers[:2]], LINKED)
        unlink_layers([comparison.difference, layers[2]], LINKED)
        for layer in layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self._images, self._kept = {}, {}
        self._viewer.dims.order, self._viewer.dims.ndisplay = self._before

    def refresh(self, event: Any = None) -> None:
        """Read all planes again: the strength has changed, or more slices are restored."""
        self._kept, self._asked = {}, None
        self._look()

    def go_to(self, position: Sequence[int]) -> None:
        """Mark another voxel (z, y, x), and move the sliders there."""
        comparison = self._comparison
        if comparison is None:
            return
        layer, dims = comparison.input, self._viewer.dims
        at = layer.world_to_data(dims.point).copy()
        at[-3:] = position
        axes = [dims.ndim - 3 + axis for axis in range(3)]
        dims.set_point(axes, [float(value) for value in np.asarray(layer.data_to_world(at))[-3:]])

    def values_at(self, place: Sequence[float]) -> dict[str, float] | None:
        """Return input, restored and difference at a canvas position: {} outside the planes, None if not shown."""
        if not self.layers or self._sheet is None:
            return None
        spot = self._sheet.spot(*self.layers[0].world_to_data(place)[-2:])
        if spot is None or spot.plane not in self._images:
            return {}
        before, after = (float(image[spot.row, spot.column]) for image in self._images[spot.plane][:2])
        return {"input": before, "restored": after, "difference": after - before}

    def show_more(self) -> None:
        """Show newly restored slices, if that is fast."""
        if self.layers and self._in_memory():
            self.refresh()

    def _listen(self, switch: str) -> None:
        dims = self._viewer.dims.events
        for event, heard in ((dims.point, self._look), (dims.order, self._hold), (dims.ndisplay, self._hold)):
            getattr(event, switch)(heard)
        getattr(self._viewer.scene.camera.events.zoom, switch)(self._on_zoom)
        for layer in self.layers[1:]:
            getattr(layer.events.contrast_limits, switch)(self._mark)
        assert self._comparison is not None
        for layer in self._comparison.layers[1:]:
            getattr(layer.events.data, switch)(self.refresh)
        clicks = self._viewer.mouse_drag_callbacks
        clicks.append(self._on_click) if switch == "connect" else clicks.remove(self._on_click)

    def _hold(self, event: Any = None) -> None:
        """Keep the sheets upright: two-dimensional layers are drawn along the last two axes of the viewer."""
        dims = self._viewer.dims
        if dims.ndisplay != 2:
            dims.ndisplay = 2
        if tuple(dims.order) != tuple(range(dims.ndim)):
            dims.order = tuple(range(dims.ndim))

    def _voxel(self) -> tuple[int, int, int]:
        """Return the voxel at the sliders' positions, including those of the displayed axes."""
        assert self._comparison is not None
        layer, shape = self._comparison.input, self._comparison.result.scan.shape
        at = np.asarray(layer.world_to_data(self._viewer.dims.point))[-3:]
        z, y, x = (min(max(round(float(value)), 0), size - 1) for value, size in zip(at, shape, strict=True))
        return z, y, x

    def _look(self, event: Any = None) -> None:
        """Read those planes through the voxel that are not shown yet."""
        comparison = self._comparison
        if comparison is None:
            return
        position = self._voxel()
        wanted = {number: position[plane.across] for number, plane in enumerate(self._planes)}
        todo = {number: index for number, index in wanted.items() if self._kept.get(number) != index}
        asked = position, todo
        if asked == self._asked:
            return
        if not todo and position == self.position:
            self._stop_reading()
            return
        self._asked = asked
        question = self._question = object()
        volumes, planes, axis = self._volumes(), self._planes, comparison.result.axis

        def reading() -> tuple[object, tuple[int, int, int], dict[int, tuple[int, list[np.ndarray]]]]:
            found = {}
            for number, index in todo.items():
                plane = planes[number]
                images = [read_plane(one, plane, index, axis, lambda: self._question is question) for one in volumes]
                found[number] = (index, images)
            return question, position, found

        self._background.ask(reading)
        self.changed.emit()

    def _stop_reading(self) -> None:
        """Drop what is being read: the sliders are back at what is shown."""
        if self._question is not None:
            self._background.forget()
            self._question = self._asked = None
            self.changed.emit()

    def _in_memory(self) -> bool:
        return all(isinstance(one, np.ndarray) for one in self._volumes())

    def _volumes(self) -> tuple[Any, Any, Any]:
        assert self._comparison is not None
        _, restored, difference = self._comparison.layers
        return self._comparison.result.scan.voxels, restored.data, difference.data

    def _take(self, answer: tuple[object, tuple[int, int, int], dict[int, tuple[int, list[np.ndarray]]]]) -> None:
        question, position, found = answer
        if question is not self._question or not self.layers:
            return
        self._question = self._asked = None
        for number, (index, images) in found.items():
            self._kept[number], self._images[number] = index, images
        self.position = position
        self._mark()
        self.changed.emit()

    def _on_failed(self, error: Exception) -> None:
        self._question = self._asked = None
        self.changed.emit()
        self.failed.emit(error)

    def _mark(self, event: Any = None) -> None:
        """Draw the planes, and crosshairs through the voxel with the brightest value of the picture."""
        sheet = self._sheet
        if sheet is None or len(self._images) < len(self._planes):
            return
        for at, layer in enumerate(self.layers):
            images = [self._images[number][at] for number in range(len(self._planes))]
            layer.data[...] = sheet.draw(images, self.position, float(layer.contrast_limits[1]), self._width)
            layer.refresh(thumbnail=event is None, extent=False, highlight=False)

    def _on_zoom(self, event: Any = None) -> None:
        """Keep the lines' width on the screen: one thinner than a screen pixel is not drawn at all."""
        if self._sheet is None:
            return
        width = max(1, ceil(LINE_PX / (self._viewer.scene.camera.zoom * self._sheet.step)))
        if width != self._width:
            self._width = width
            self._mark(event)

    def _lay_out(self, layout: Layout) -> None:
        """Arrange the planes in another layout."""
        comparison = self._comparison
        assert comparison is not None
        sheet = _sheet_of(comparison, layout)
        if self._sheet is not None and sheet.shape != self._sheet.shape:
            self._sheet = sheet
            for layer in self.layers:
                layer.data = np.full(sheet.shape, np.nan, np.float32)
            self._mark()

    def _layer_like(self, layer: Image) -> Image:
        assert self._sheet is not None
        comparison = self._comparison
        assert comparison is not None
        sheet = Image(
            np.full(self._sheet.shape, np.nan, np.float32),
            name=f"{layer.name} · planes",
            contrast_limits=layer.contrast_limits,
            colormap=layer.colormap,
            gamma=layer.gamma,
            interpolation2d=layer.interpolation2d,
            metadata={RECORD: {"role": ROLE}},
            scale=(self._sheet.step, self._sheet.step),
            units=layer.units[-2:],
        )
        if layer is comparison.difference:
            sheet.colorbar.update({**COLORBAR, "visible": True})
        return sheet

    def _on_click(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        """Mark the voxel that was clicked; dragging moves the picture, as usual."""
        if event.button != 1 or not self.layers or self._sheet is None:
            return
        spot, camera = self._sheet.spot(*self.layers[0].world_to_data(event.position)[-2:]), self._viewer.scene.camera
        began_at = np.asarray(camera.center)
        yield
        while event.type == "mouse_move":
            yield
        dragged = float(np.abs(np.asarray(camera.center) - began_at).max()) * camera.zoom
        if spot is not None and dragged <= CLICK_PX and self._sheet is not None:
            self.go_to(self._sheet.moved(self.position, spot))

    def _step(self, rows: int, columns: int) -> None:
        """Move the mark by some rows down and columns right in the axial plane."""
        if self._comparison is None:
            return
        plane, there = self._planes[0], list(self._voxel())
        for along, by in ((plane.down, rows), (plane.right, columns)):
            size = self._comparison.result.scan.shape[along.axis]
            there[along.axis] = min(max(there[along.axis] + (-by if along.backwards else by), 0), size - 1)
        self.go_to(there)


def _sheet_of(comparison: Comparison, layout: Layout) -> Sheet:
    scan = comparison.result.scan
    return Sheet(planes_of(np.asarray(scan.direction)), scan.shape, _lengths(comparison.input), layout)


def _lengths(layer: Image) -> tuple[float, ...]:
    """Return the size of a voxel along z, y, x, in the units of the layer."""
    steps = np.vstack([np.zeros(layer.ndim), np.eye(layer.ndim)[-3:]])
    places = np.array([layer.data_to_world(step) for step in steps])
    return tuple(float(length) for length in np.linalg.norm(places[1:] - places[0], axis=1))
