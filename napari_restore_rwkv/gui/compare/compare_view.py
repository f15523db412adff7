"""The views of a result: side by side, restored only, blinking and others, and back to the user's own view."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from napari.experimental import link_layers, unlink_layers

from ..camera import Focus
from ..layers import RECORD
from .curtain import LINKED, Curtain
from .difference_row import meaning_of
from .figures import CLASSICAL, REFERENCE
from .montage import Layout
from .orthogonal import OrthogonalPlanes
from .state import BLINK, GRIDDED, ORTHOGONAL, OVER_INPUT, OWN_VIEW, SWIPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from .comparison import Comparison

GAP_BETWEEN_PANELS = 4
# Rows and columns without an empty cell; one other than the first is used only where pictures become this much larger.
GRID_SHAPES = {1: ((1, 1),), 2: ((1, 2), (2, 1)), 3: ((1, 3), (3, 1)), 4: ((1, 4), (2, 2), (4, 1))}
MARKEDLY_LARGER = 1.3
# The legend of the colours is below the names, which take two lines where layers overlap; without a box, which would
# cover them.
MEANING = {"position": "top_right", "font_size": 8.0, "gridded": False, "box": False}


def grid_shape(canvas: tuple[float, float], picture: tuple[float, float], count: int = 3) -> tuple[int, int]:
    """Return rows and columns for one to four pictures: one row, unless another shape makes them markedly larger.

    Parameters
    ----------
    canvas, picture
        Height and width of the canvas and of one picture, each in any unit.
    """

    def zoom(shape: tuple[int, int]) -> float:
        return min(canvas[axis] / shape[axis] / max(picture[axis], 1e-9) for axis in (0, 1))

    shapes = GRID_SHAPES[count]
    largest = max(shapes, key=zoom)
    return largest if zoom(largest) > MARKEDLY_LARGER * zoom(shapes[0]) else shapes[0]


class CompareView:
    """Switches the viewer between views of a comparison, and back to the user's own view.

    Parameters
    ----------
    viewer
        The viewer.
    arranged
        Called whenever the panels and the camera have been set.

    Attributes
    ----------
    mode
        `OWN_VIEW` while nothing is changed; else `SIDE_BY_SIDE`, `RESTORED_ONLY`, `BLINK`, `SWIPE`, `OVER_INPUT` or
        `ORTHOGONAL`.
    curtain
        The restored slice drawn over the input, for swiping.
    planes
        The three orthogonal planes.
    beside
        The layer shown as the fourth cell; None if there is none.
    """

    def __init__(self, viewer: ViewerModel, arranged: Callable[[], None] = lambda: None) -> None:
        self.mode = OWN_VIEW
        self._arranged = arranged
        self.curtain = Curtain(viewer)
        self.planes = OrthogonalPlanes(viewer)
        self.planes.changed.connect(self.show_legend)
        self.beside: Image | None = None
        self._viewer = viewer
        self._comparison: Comparison | None = None
        self._before: _OwnView | None = None
        self._blink_shows_input = False
        self._size, self._axes = viewer.canvas.size, viewer.dims.displayed

    def show(self, comparison: Comparison, mode: str) -> None:
        """Show a comparison in one of the modes; `OWN_VIEW` brings back the view from before the first one."""
        if mode == OWN_VIEW:
            self.leave()
            return
        if self._before is None:
            self._before = _OwnView(self._viewer)
        # Sheets of planes have other coordinates than slices: a position on one means nothing on the other.
        elsewhere = ORTHOGONAL in (mode, self.mode)
        focus: Focus | None = None if elsewhere else Focus(self._viewer, self._viewer.canvas.size)
        if self._comparison is not None:
            self._comparison.unlabel(self._viewer.layers)
        self._comparison, self.mode = comparison, mode
        self._blink_shows_input = mode == BLINK
        self._draw_what_is_added(comparison, mode)
        self._show_only(self._wanted())
        self._arrange()
        self._look_at_all(focus)
        self._arranged()

    def arrange_again(self) -> None:
        """Fit the panels to a resized canvas or to other displayed axes; with the latter, whole pictures are shown."""
        comparison, turned = self._comparison, self._axes != self._viewer.dims.displayed
        # The canvas may change between the removal of one layer and that of the next.
        if comparison is not None and comparison.is_in(self._viewer.layers):
            if turned:
                self._viewer.reset_view(reset_camera_angle=False)
            focus: Focus | None = Focus(self._viewer, self._viewer.canvas.size if turned else self._size)
            if self.mode == ORTHOGONAL:
                focus = None
                self.planes.draw(comparison, self._sheets()[1])
            self._arrange()
            self._look_at_all(focus)
            self._arranged()

    def blink(self) -> None:
        """Switch between input and restored, in one panel."""
        if self._comparison is None:
            return
        if self.mode != BLINK:
            self.show(self._comparison, BLINK)
            return
        self._blink_shows_input = not self._blink_shows_input
        self._show_only(self._wanted())

    def put_beside(self, layer: Image | None) -> None:
        """Show a layer as the fourth cell instead of the previous one, which is removed; None only removes that."""
        if self._comparison is None:
            self.beside = layer
            return
        # Never in grid mode: napari's drawing fails if a cell disappears.
        self._viewer.canvas.grid.enabled = False
        self._take_beside_away()
        self.beside = layer
        if layer is not None:
            selected = set(self._viewer.layers.selection)
            self._viewer.layers.insert(self._comparison.place_above(self._viewer.layers), layer)
            self._viewer.layers.selection = selected
            if _is_in_units(layer):
                link_layers([self._comparison.input, layer], LINKED)
        if self._comparison.is_in(self._viewer.layers):
            self.show(self._comparison, self.mode)

    def show_legend(self) -> None:
        """Show what the colours mean if the difference is displayed, or that planes are being read."""
        if self._comparison is None:
            return
        lines = 3 if self.mode == OVER_INPUT else 1
        words = "reading the planes across the slices ..." if self.planes.is_reading else ""
        self._viewer.canvas.overlays.text.update(
            {
                "text": "\n" * lines + (words or f"difference: {meaning_of(self._comparison)}"),
                "visible": self.mode == ORTHOGONAL or self._comparison.difference in self._wanted(),
                **MEANING,
            }
        )

    def leave(self) -> None:
        """Return to the user's own view."""
        if self._before is not None:
            # Never while there is a grid: napari's drawing fails where a cell disappears under it.
            self._viewer.canvas.grid.enabled = False
        self.curtain.take_away()
        self.planes.take_away()
        self._take_beside_away()
        if self._before is not None:
            self._before.give_back(self._comparison)
        self._before, self._comparison, self.mode = None, None, OWN_VIEW

    def has_cell_for(self, layer: Layer) -> bool:
        """Whether a layer stands in a cell of the grid, or stood there until it was deleted."""
        return self.mode in GRIDDED and layer in (*self.planes.layers, *self._fourth())

    def refresh(self) -> None:
        """Redraw the layers added for display only: the strength has changed, or more slices are restored."""
        self.curtain.refresh()
        self.planes.refresh()

    def _draw_what_is_added(self, comparison: Comparison, mode: str) -> None:
        if mode == SWIPE:
            self._viewer.canvas.grid.enabled = False
            self.curtain.draw(comparison)
        else:
            self.curtain.take_away()
        if mode != ORTHOGONAL or not self.planes.shows(comparison):
            self._take_planes_away()
        if mode == ORTHOGONAL:
            self.planes.draw(comparison, self._sheets()[1])

    def _take_planes_away(self) -> None:
        if self.planes.layers:
            # Never in grid mode: napari's drawing fails if a cell disappears.
            self._viewer.canvas.grid.enabled = False
            self.planes.take_away()

    def _take_beside_away(self) -> None:
        before, self.beside = self.beside, None
        if before is not None and before in self._viewer.layers:
            if self._comparison is not None and _is_in_units(before):
                unlink_layers([self._comparison.input, before], LINKED)
            self._viewer.layers.remove(before)

    def _look_at_all(self, focus: Focus | None) -> None:
        """Show whole pictures, or the position that the user had zoomed in on."""
        assert self._comparison is not None
        if focus is not None:
            focus.keep(self._comparison.those_in(self._viewer.layers))
        elif self.mode == ORTHOGONAL:
            canvas = self._viewer.canvas
            rows, columns = canvas.grid.shape
            self.planes.fit_into(canvas.size[0] / rows, canvas.size[1] / columns)
        else:
            there = self._comparison.those_in(self._viewer.layers)
            self._viewer.reset_view(layers=there, reset_camera_angle=False)

    def _wanted(self) -> tuple[Image, ...]:
        assert self._comparison is not None
        if self.mode in GRIDDED:
            return self._cells()
        if self.mode == OVER_INPUT:
            return self._comparison.input, self._comparison.difference
        if self.curtain.layer is not None:
            return self._comparison.input, self.curtain.layer
        return (self._comparison.input if self._blink_shows_input else self._comparison.restored,)

    def _cells(self) -> tuple[Image, ...]:
        """Return what the grid holds: a layer that was deleted leaves no empty cell."""
        assert self._comparison is not None
        layers = self.planes.layers or (*self._comparison.layers, *self._fourth())
        return tuple(layer for layer in layers if layer in self._viewer.layers)

    def _fourth(self) -> tuple[Image, ...]:
        return () if self.beside is None else (self.beside,)

    def _show_only(self, wanted: tuple[Image, ...]) -> None:
        # First show, then hide: a canvas without any visible layer would flash.
        for layer in sorted(self._viewer.layers, key=lambda layer: layer not in wanted):
            layer.visible = layer in wanted

    def _arrange(self) -> None:
        assert self._comparison is not None
        canvas, gridded = self._viewer.canvas, self.mode in GRIDDED
        self._size, self._axes = canvas.size, self._viewer.dims.displayed
        shape = self._grid_shape()
        if not canvas.overlays.scale_bar.visible or tuple(canvas.grid.shape) != shape:
            # napari fails if the panels of a grid do not match the colour bars: if a bar appears for the second time in
            # grid mode, or if the grid gets fewer panels.
            canvas.grid.enabled = False
        canvas.grid.stride, canvas.grid.shape, canvas.grid.spacing = 1, shape, GAP_BETWEEN_PANELS
        canvas.overlays.scale_bar.gridded = True
        canvas.overlays.scale_bar.visible = True
        canvas.grid.enabled = gridded
        more = self.planes.layers or self._fourth()
        self.show_legend()
        self._comparison.label(self._viewer.layers, canvas.size[1] / (shape[1] if gridded else 1), more)

    def _grid_shape(self) -> tuple[int, int]:
        """Return rows and columns of cells."""
        if self.mode == ORTHOGONAL:
            return self._sheets()[0]
        return grid_shape(self._viewer.canvas.size, self._displayed_size(), len(self._cells()))

    def _sheets(self) -> tuple[tuple[int, int], Layout]:
        """Return rows and columns of sheets, and the layout of planes on them, that show the planes largest."""
        assert self._comparison is not None
        comparison, canvas = self._comparison, self._viewer.canvas.size
        sizes = {layout: self.planes.size_of(comparison, layout) for layout in Layout}

        def zoom(choice: tuple[tuple[int, int], Layout]) -> float:
            shape, layout = choice
            return min(canvas[axis] / shape[axis] / sizes[layout][axis] for axis in (0, 1))

        count = max(len(self._cells()), 1) if self.planes.layers else len(comparison.layers)
        return max(product(GRID_SHAPES[count], Layout), key=zoom)

    def _displayed_size(self) -> tuple[float, float]:
        assert self._comparison is not None
        layer, dims = self._comparison.input, self._viewer.dims
        low, high = layer.extent.world
        rows, columns = (axis - (dims.ndim - layer.ndim) for axis in dims.displayed[-2:])
        return float(high[rows] - low[rows]), float(high[columns] - low[columns])


def _is_in_units(layer: Image) -> bool:
    """Whether a fourth cell has values in the unit of the scan, so that the same window applies."""
    return layer.metadata[RECORD]["role"] in (CLASSICAL, REFERENCE)


class _OwnView:
    """The user's settings that the compare view changes."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        grid, bar, camera = viewer.canvas.grid, viewer.canvas.overlays.scale_bar, viewer.scene.camera
        text = viewer.canvas.overlays.text
        self._visible = [(layer, layer.visible) for layer in viewer.layers]
        self._names = [(layer, layer.name_overlay.visible, layer.name_overlay.font_size) for layer in viewer.layers]
        self._settings: list[tuple[Any, str, Any]] = [
            *((grid, name, getattr(grid, name)) for name in ("enabled", "stride", "shape", "spacing")),
            *((bar, name, getattr(bar, name)) for name in ("gridded", "visible")),
            *((text, name, getattr(text, name)) for name in ("text", "visible", *MEANING)),
            *((camera, name, getattr(camera, name)) for name in ("center", "zoom")),
        ]

    def give_back(self, comparison: Comparison | None) -> None:
        """Restore all settings, for the layers that still exist."""
        if comparison is not None:
            known = {id(layer) for layer, _ in self._visible}
            comparison.unlabel(self._viewer.layers)
            for layer in comparison.layers:
                if id(layer) not in known and layer in self._viewer.layers:
                    layer.visible = layer is not comparison.difference
        for layer, visible in self._visible:
            if layer in self._viewer.layers:
                layer.visible = visible
        for layer, visible, size in self._names:
            if layer in self._viewer.layers:
                layer.name_overlay.visible, layer.name_overlay.font_size = visible, size
        for owner, name, value in self._settings:
            setattr(owner, name, value)
