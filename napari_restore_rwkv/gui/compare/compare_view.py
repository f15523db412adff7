"""The views on a result: side by side, restored only, blinking, and the person's own view again."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.experimental import link_layers, unlink_layers

from ..layers import RECORD
from .curtain import LINKED, Curtain
from .difference_row import meaning_of
from .figures import CLASSICAL, REFERENCE
from .montage import Layout
from .orthogonal import OrthogonalPlanes
from .state import BLINK, GRIDDED, ORTHOGONAL, OVER_INPUT, OWN_VIEW, SIDE_BY_SIDE, SWIPE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from .comparison import Comparison

GAP_BETWEEN_PANELS = 4
# Rows and columns without an empty cell; another than the first only where it makes the pictures so much larger.
GRID_SHAPES, MARKEDLY_LARGER = {3: ((1, 3), (3, 1)), 4: ((1, 4), (2, 2), (4, 1))}, 1.3
ZOOMED_IN = 1.1
# Of its panel, as napari leaves it.
FITTED = 0.95
# What the colours mean stands below the names, of which there are two over each other where layers are; without a box,
# which would cover them.
MEANING = {"position": "top_right", "font_size": 8.0, "gridded": False, "box": False}


def grid_shape(canvas: tuple[float, float], picture: tuple[float, float], count: int = 3) -> tuple[int, int]:
    """Return rows and columns for three pictures, or four: one row, unless they become markedly larger otherwise.

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
    """Switches the viewer between views on a comparison, and back to what the person had.

    Parameters
    ----------
    viewer
        The viewer.
    arranged
        Called each time when the panels and the camera have been set.

    Attributes
    ----------
    mode
        `OWN_VIEW` while nothing is touched; else `SIDE_BY_SIDE`, `RESTORED_ONLY`, `BLINK`, `SWIPE`, `OVER_INPUT` or
        `ORTHOGONAL`.
    curtain
        What is drawn over the input to swipe.
    planes
        What is shown as three orthogonal planes.
    beside
        A layer that is shown as the fourth cell; None where there is none.
    """

    def __init__(self, viewer: ViewerModel, arranged: Callable[[], None] = lambda: None) -> None:
        self.mode = OWN_VIEW
        self._arranged = arranged
        self.curtain = Curtain(viewer)
        self.planes = OrthogonalPlanes(viewer)
        self.planes.changed.connect(self.tell_meaning)
        self.beside: Image | None = None
        self._viewer = viewer
        self._comparison: Comparison | None = None
        self._before: _OwnView | None = None
        self._blink_shows_input = False
        self._size, self._axes = viewer.canvas.size, viewer.dims.displayed

    def show(self, comparison: Comparison, mode: str) -> None:
        """Show a comparison in one of the modes; `OWN_VIEW` gives back what was there before the first."""
        if mode == OWN_VIEW:
            self.leave()
            return
        if self._before is None:
            self._before = _OwnView(self._viewer)
        # Sheets with planes lie elsewhere than the slices do: a spot of the one is none of the other.
        elsewhere = ORTHOGONAL in (mode, self.mode)
        focus: _Focus | None = None if elsewhere else _Focus(self._viewer, self._viewer.canvas.size)
        if self._comparison is not None:
            self._comparison.unlabel()
        self._comparison, self.mode = comparison, mode
        self._blink_shows_input = mode == BLINK
        self._draw_what_is_added(comparison, mode)
        self._show_only(self._wanted())
        self._arrange()
        self._look_at_all(focus)
        self._arranged()

    def arrange_again(self) -> None:
        """Fit the panels to a canvas of another size, or to axes that were turned; those are seen as a whole again."""
        comparison, turned = self._comparison, self._axes != self._viewer.dims.displayed
        # The canvas may change between the removal of one layer and that of the next.
        if comparison is not None and all(layer in self._viewer.layers for layer in comparison.layers):
            if turned:
                self._viewer.reset_view(reset_camera_angle=False)
            focus: _Focus | None = _Focus(self._viewer, self._viewer.canvas.size if turned else self._size)
            if self.mode == ORTHOGONAL:
                focus = None
                self.planes.draw(comparison, self._sheets()[1])
            self._arrange()
            self._look_at_all(focus)
            self._arranged()

    def blink(self) -> None:
        """Change between input and restored, in one panel."""
        if self._comparison is None:
            return
        if self.mode != BLINK:
            self.show(self._comparison, BLINK)
            return
        self._blink_shows_input = not self._blink_shows_input
        self._show_only(self._wanted())

    def put_beside(self, layer: Image | None) -> None:
        """Show a layer as the fourth cell in place of the one before, which is removed; None only removes that."""
        before, self.beside = self.beside, layer
        if self._comparison is None:
            return
        # Never while there is a grid: napari's drawing fails where a cell disappears under it.
        self._viewer.canvas.grid.enabled = False
        if before is not None and before in self._viewer.layers:
            if _is_in_units(before):
                unlink_layers([self._comparison.input, before], LINKED)
            self._viewer.layers.remove(before)
        if layer is not None:
            selected = set(self._viewer.layers.selection)
            self._viewer.layers.insert(self._viewer.layers.index(self._comparison.difference) + 1, layer)
            self._viewer.layers.selection = selected
            if _is_in_units(layer):
                link_layers([self._comparison.input, layer], LINKED)
        self.show(self._comparison, self.mode)

    def tell_meaning(self) -> None:
        """Say below the pictures what the colour bar counts, where the difference is among them."""
        if self._comparison is None:
            return
        lines = 3 if self.mode == OVER_INPUT else 1
        words = "reading the planes across the slices ..." if self.planes.is_reading else ""
        self._viewer.canvas.overlays.text.update(
            {
                "text": "\n" * lines + (words or f"colours: {meaning_of(self._comparison)}"),
                "visible": self.mode == ORTHOGONAL or self._comparison.difference in self._wanted(),
                **MEANING,
            }
        )

    def leave(self) -> None:
        """Give back the person's own view."""
        self.curtain.take_away()
        self._take_planes_away()
        if self.beside is not None:
            self.put_beside(None)
        if self._before is not None:
            self._before.give_back(self._comparison)
        self._before, self._comparison, self.mode = None, None, OWN_VIEW

    def refresh(self) -> None:
        """Draw anew what is worked out for looking alone: the result is mixed otherwise, or more of it is there."""
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
            # Never while there is a grid: napari's drawing fails where a cell disappears under it.
            self._viewer.canvas.grid.enabled = False
            self.planes.take_away()

    def _look_at_all(self, focus: _Focus | None) -> None:
        """Show whole pictures, or the spot that is kept in focus."""
        assert self._comparison is not None
        if focus is not None:
            focus.keep(self._comparison)
        elif self.mode == ORTHOGONAL:
            canvas = self._viewer.canvas
            rows, columns = canvas.grid.shape
            self.planes.fit_into(canvas.size[0] / rows, canvas.size[1] / columns)
        else:
            self._viewer.reset_view(layers=self._comparison.layers, reset_camera_angle=False)

    def _wanted(self) -> tuple[Image, ...]:
        assert self._comparison is not None
        if self.mode == ORTHOGONAL:
            return self.planes.layers
        if self.mode == SIDE_BY_SIDE:
            return (*self._comparison.layers, *([self.beside] if self.beside is not None else []))
        if self.mode == OVER_INPUT:
            return self._comparison.input, self._comparison.difference
        if self.curtain.layer is not None:
            return self._comparison.input, self.curtain.layer
        return (self._comparison.input if self._blink_shows_input else self._comparison.restored,)

    def _show_only(self, wanted: tuple[Image, ...]) -> None:
        # What is to be seen comes first: a canvas without any visible layer would flash.
        for layer in sorted(self._viewer.layers, key=lambda layer: layer not in wanted):
            layer.visible = layer in wanted

    def _arrange(self) -> None:
        assert self._comparison is not None
        canvas, gridded = self._viewer.canvas, self.mode in GRIDDED
        self._size, self._axes = canvas.size, self._viewer.dims.displayed
        shape = self._grid_shape()
        if not canvas.overlays.scale_bar.visible or tuple(canvas.grid.shape) != shape:
            # napari fails where a grid has other panels than bars: where a bar appears for the second time while there
            # is a grid, and where the grid gets fewer panels.
            canvas.grid.enabled = False
        canvas.grid.stride, canvas.grid.shape, canvas.grid.spacing = 1, shape, GAP_BETWEEN_PANELS
        canvas.overlays.scale_bar.gridded = True
        canvas.overlays.scale_bar.visible = True
        canvas.grid.enabled = gridded
        more = self.planes.layers or ((self.beside,) if self.beside is not None else ())
        self.tell_meaning()
        self._comparison.label(canvas.size[1] / (shape[1] if gridded else 1), more)

    def _grid_shape(self) -> tuple[int, int]:
        """Return rows and columns of cells."""
        if self.mode == ORTHOGONAL:
            return self._sheets()[0]
        return grid_shape(self._viewer.canvas.size, self._displayed_size(), 3 if self.beside is None else 4)

    def _sheets(self) -> tuple[tuple[int, int], Layout]:
        """Return rows and columns of sheets, and how planes lie on them, so that they are as large as can be."""
        assert self._comparison is not None
        comparison, canvas = self._comparison, self._viewer.canvas.size
        sizes = {layout: self.planes.size_of(comparison, layout) for layout in Layout}

        def zoom(choice: tuple[tuple[int, int], Layout]) -> float:
            shape, layout = choice
            return min(canvas[axis] / shape[axis] / sizes[layout][axis] for axis in (0, 1))

        return max(product(GRID_SHAPES[3], Layout), key=zoom)

    def _displayed_size(self) -> tuple[float, float]:
        assert self._comparison is not None
        layer, dims = self._comparison.input, self._viewer.dims
        low, high = layer.extent.world
        rows, columns = (axis - (dims.ndim - layer.ndim) for axis in dims.displayed[-2:])
        return float(high[rows] - low[rows]), float(high[columns] - low[columns])


def _is_in_units(layer: Image) -> bool:
    """Whether a fourth cell holds values like those of the scan, which are seen in the same window."""
    return layer.metadata[RECORD]["role"] in (CLASSICAL, REFERENCE)


class _OwnView:
    """What the compare view changes, as the person had it."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        grid, bar, camera = viewer.canvas.grid, viewer.canvas.overlays.scale_bar, viewer.scene.camera
        text = viewer.canvas.overlays.text
        self._visible = [(layer, layer.visible) for layer in viewer.layers]
        names = [layer.name_overlay for layer in viewer.layers]
        self._settings: list[tuple[Any, str, Any]] = [
            *((name, value, getattr(name, value)) for name in names for value in ("visible", "font_size")),
            *((grid, name, getattr(grid, name)) for name in ("enabled", "stride", "shape", "spacing")),
            *((bar, name, getattr(bar, name)) for name in ("gridded", "visible")),
            *((text, name, getattr(text, name)) for name in ("text", "visible", *MEANING)),
            *((camera, name, getattr(camera, name)) for name in ("center", "zoom")),
        ]

    def give_back(self, comparison: Comparison | None) -> None:
        """Put everything back, for the layers that are still there."""
        if comparison is not None:
            known = {id(layer) for layer, _ in self._visible}
            comparison.unlabel()
            for layer in comparison.layers:
                if id(layer) not in known:
                    layer.visible = layer is not comparison.difference
        for layer, visible in self._visible:
            if layer in self._viewer.layers:
                layer.visible = visible
        for owner, name, value in self._settings:
            setattr(owner, name, value)


def closer_than_fitting(
    viewer: ViewerModel, size: tuple[float, float] | None = None, layers: Sequence[Layer] | None = None
) -> float:
    """Return how many times larger the picture is than if the whole of it just fitted into its panel.

    Parameters
    ----------
    viewer
        The viewer; 1 where it shows nothing.
    size
        Height and width of the canvas in pixels; that of now by default.
    layers
        The layers that make the picture; all by default.
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
    """Where layers begin and end in the world, along the axes on screen; shape (2, 2), in 3-D (2, 3)."""
    world = viewer.layers.get_extent(layers).world
    # A picture among volumes has no more axes than its own, which are the last.
    world = np.pad(world, ((0, 0), (viewer.dims.ndim - world.shape[1], 0)))
    return world[:, list(viewer.dims.displayed)]


def _fit(viewer: ViewerModel, layers: Sequence[Layer]) -> None:
    """Show the whole of some layers.

    napari fits single layers since 0.9.2 only, and none that has fewer axes than others; in 3-D all are fitted.
    """
    viewer.reset_view(reset_camera_angle=False)
    if viewer.dims.ndisplay == 2:
        low, high = _extent_on_screen(viewer, layers)
        viewer.scene.camera.center = tuple((low + high) / 2)
        viewer.scene.camera.zoom *= FITTED / closer_than_fitting(viewer, layers=layers)


class _Focus:
    """Where the person looks, kept while the panels change their size: the whole slice, or the same spot as closely.

    Parameters
    ----------
    viewer
        The viewer.
    size
        Height and width of the canvas when the person chose where to look.
    """

    def __init__(self, viewer: ViewerModel, size: tuple[float, float]) -> None:
        self._viewer = viewer
        self._center = viewer.scene.camera.center
        self._closer = closer_than_fitting(viewer, size)

    def keep(self, comparison: Comparison) -> None:
        _fit(self._viewer, comparison.layers)
        if self._closer > ZOOMED_IN:
            self._viewer.scene.camera.zoom *= self._closer
            self._viewer.scene.camera.center = self._center
