"""The layers of one result, and the views on them: side by side, restored only, blinking, and one's own view again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari.experimental import link_layers
from napari.layers import Image
from napari.utils import Colormap

from ..layer_geometry import remembered, spatial_transforms
from ..layers import RECORD, difference_name, restored_name
from .result import Mixture, RestorationResult

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


OWN_VIEW, SIDE_BY_SIDE, RESTORED_ONLY, BLINK = "my own view", "side by side", "restored only", "blink"
GAP_BETWEEN_PANELS = 4
# Rows and columns; another than the first only where it makes the pictures so much larger.
GRID_SHAPES, MARKEDLY_LARGER = ((1, 3), (2, 2), (3, 1)), 1.3
NAME_FONT_SIZES = (5.0, 8.0)
# Pixels per letter and point of font size, measured with a margin.
LETTER_WIDTH = 0.98
COLORBAR = {"position": "bottom_left", "size": (12.0, 110.0), "font_size": 8.0}
APPROXIMATE = "approximate"
ZOOMED_IN = 1.1
UNIT_LIMIT = 1.0
ROOM_FOR_LIMITS = 4

# Zero is black, so that an unchanged voxel vanishes on a dark canvas; what was taken away is blue, what was added red.
SIGNED_COLORS = Colormap(
    [[0.60, 0.90, 1.0], [0.10, 0.45, 0.95], [0.0, 0.0, 0.0], [0.95, 0.30, 0.10], [1.0, 0.88, 0.55]],
    name="restored - input",
    controls=[0.0, 0.3, 0.5, 0.7, 1.0],
)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The three layers of one result."""

    input: Image
    restored: Image
    difference: Image
    result: RestorationResult

    @property
    def layers(self) -> tuple[Image, Image, Image]:
        """Input, restored, difference: left to right."""
        return self.input, self.restored, self.difference

    def with_result(self, result: RestorationResult) -> Comparison:
        """Show another result of the same scan in the same layers, and return that comparison."""
        for layer, voxels in ((self.restored, result.restored), (self.difference, result.difference)):
            layer.data = _as_dimensional_as(layer, voxels)
        return replace(self, result=result)

    def label(self, panel_width: float) -> None:
        """Show the difference's colour bar, and the layers' names in a size that fits a panel of so many pixels."""
        longest = max(len(layer.name) for layer in self.layers)
        size = panel_width / (longest * LETTER_WIDTH)
        for layer in self.layers:
            layer.name_overlay.font_size = min(max(size, NAME_FONT_SIZES[0]), NAME_FONT_SIZES[1])
            layer.name_overlay.visible = True
        self.difference.colorbar.update({**COLORBAR, "visible": True})

    def unlabel(self) -> None:
        """Hide what `label` shows."""
        for layer in self.layers:
            layer.name_overlay.visible = False
        self.difference.colorbar.visible = False

    def fit_limits(self) -> None:
        """Spread the difference's symmetric limits over what is done so far, unless the person has set others."""
        old, new = self.difference.metadata[RECORD].get("limit", UNIT_LIMIT), self.result.limit or UNIT_LIMIT
        if tuple(self.difference.contrast_limits) == (-old, old):
            self.difference.contrast_limits_range = (-ROOM_FOR_LIMITS * new, ROOM_FOR_LIMITS * new)
            self.difference.contrast_limits = (-new, new)
            self.difference.metadata[RECORD]["limit"] = new

    def mix_in(self, strength: float) -> None:
        """Show ``input + strength * (restored - input)``, and in the difference what that changes."""
        for layer, voxels in ((self.restored, self.result.restored), (self.difference, self.result.difference)):
            shown = voxels if strength == 1.0 else Mixture(voxels, self.result.difference, strength)
            layer.data = _as_dimensional_as(layer, shown)
        self.tell_provenance(strength)

    def tell_provenance(self, strength: float = 1.0) -> None:
        """Keep in the layers how they came to be, for whoever writes them to a file; a name says if approximately."""
        name = self.restored.name
        if "tile" in self.result.provenance and APPROXIMATE not in name:
            self.restored.name = f"{name} ({APPROXIMATE})"
        self.restored.metadata[RECORD]["metadata"] = self.result.metadata(strength)
        self.difference.metadata[RECORD]["metadata"] = self.result.metadata(strength, shows="restored - input")


def add_result_layers(viewer: ViewerModel, layer: Image, result: RestorationResult, name: str) -> Comparison:
    """Add the restored and the difference layer of a result right after its input, and return the three."""
    selected = set(viewer.layers.selection)
    restored = Image(
        _as_dimensional_as(layer, result.restored),
        name=restored_name(name),
        colormap=layer.colormap,
        contrast_limits=layer.contrast_limits,
        gamma=layer.gamma,
        interpolation2d=layer.interpolation2d,
        **_placed_like(layer, result, "restored"),
    )
    difference = Image(
        _as_dimensional_as(layer, result.difference),
        name=difference_name(name),
        colormap=SIGNED_COLORS,
        contrast_limits=(-UNIT_LIMIT, UNIT_LIMIT),
        interpolation2d=layer.interpolation2d,
        visible=False,
        **_placed_like(layer, result, "difference"),
    )
    for place, new in enumerate((restored, difference), start=viewer.layers.index(layer) + 1):
        viewer.layers.insert(place, new)
    link_layers([layer, restored], ("contrast_limits", "gamma", "colormap"))
    viewer.layers.selection = selected
    return Comparison(layer, restored, difference, result)


def is_result(layer: Layer) -> bool:
    """Whether a layer was made here."""
    return "role" in layer.metadata.get(RECORD, {})


def displayed_slice(viewer: ViewerModel, layer: Layer, axis: int, count: int) -> int | None:
    """Return the index along a scan axis that the viewer shows of a layer; None if its sliders do not run along it.

    Parameters
    ----------
    viewer, layer
        The viewer, and one of its layers.
    axis
        The axis of the scan: 0, 1, 2 for z, y, x.
    count
        Number of slices along it.
    """
    if layer.ndim == 2:
        return 0
    along = layer.ndim - 3 + axis
    if along + viewer.dims.ndim - layer.ndim in viewer.dims.displayed:
        return None
    return min(max(round(float(layer.world_to_data(viewer.dims.point)[along])), 0), count - 1)


def grid_shape(canvas: tuple[float, float], picture: tuple[float, float]) -> tuple[int, int]:
    """Return rows and columns for three pictures: one row, unless they become markedly larger otherwise.

    Parameters
    ----------
    canvas, picture
        Height and width of the canvas and of one picture, each in any unit.
    """

    def zoom(shape: tuple[int, int]) -> float:
        return min(canvas[axis] / shape[axis] / max(picture[axis], 1e-9) for axis in (0, 1))

    largest = max(GRID_SHAPES, key=zoom)
    return largest if zoom(largest) > MARKEDLY_LARGER * zoom(GRID_SHAPES[0]) else GRID_SHAPES[0]


def bring_into_view(viewer: ViewerModel, layer: Layer) -> None:
    """Move the sliders to the middle of a layer, on the axes where they stand outside of it."""
    ahead = viewer.dims.ndim - layer.ndim
    low, high = layer.extent.world
    for axis in range(layer.ndim):
        if axis + ahead not in viewer.dims.displayed and not low[axis] <= viewer.dims.point[axis + ahead] <= high[axis]:
            viewer.dims.set_point(axis + ahead, float((low[axis] + high[axis]) / 2))


class CompareView:
    """Switches the viewer between views on a comparison, and back to what the person had.

    Attributes
    ----------
    mode
        `OWN_VIEW` while nothing is touched; else `SIDE_BY_SIDE`, `RESTORED_ONLY` or `BLINK`.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.mode = OWN_VIEW
        self._viewer = viewer
        self._comparison: Comparison | None = None
        self._before: _OwnView | None = None
        self._blink_shows_input = False

    def show(self, comparison: Comparison, mode: str) -> None:
        """Show a comparison in one of the modes; `OWN_VIEW` gives back what was there before the first."""
        if mode == OWN_VIEW:
            self.leave()
            return
        if self._before is None:
            self._before = _OwnView(self._viewer)
        focus = _Focus(self._viewer)
        if self._comparison is not None:
            self._comparison.unlabel()
        self._comparison, self.mode = comparison, mode
        self._blink_shows_input = mode == BLINK
        self._show_only(self._wanted())
        self._arrange(gridded=mode == SIDE_BY_SIDE)
        focus.keep(comparison)

    def blink(self) -> None:
        """Change between input and restored, in one panel."""
        if self._comparison is None:
            return
        if self.mode != BLINK:
            self.show(self._comparison, BLINK)
            return
        self._blink_shows_input = not self._blink_shows_input
        self._show_only(self._wanted())

    def leave(self) -> None:
        """Give back the person's own view."""
        if self._before is not None:
            self._before.give_back(self._comparison)
        self._before, self._comparison, self.mode = None, None, OWN_VIEW

    def _wanted(self) -> tuple[Image, ...]:
        assert self._comparison is not None
        if self.mode == SIDE_BY_SIDE:
            return self._comparison.layers
        return (self._comparison.input if self._blink_shows_input else self._comparison.restored,)

    def _show_only(self, wanted: tuple[Image, ...]) -> None:
        # What is to be seen comes first: a canvas without any visible layer would flash.
        for layer in sorted(self._viewer.layers, key=lambda layer: layer not in wanted):
            layer.visible = layer in wanted

    def _arrange(self, gridded: bool) -> None:
        assert self._comparison is not None
        canvas = self._viewer.canvas
        shape = grid_shape(canvas.size, self._displayed_size())
        canvas.grid.stride, canvas.grid.shape, canvas.grid.spacing = 1, shape, GAP_BETWEEN_PANELS
        if not canvas.overlays.scale_bar.visible:
            # A bar that appears for the second time while there is a grid lets napari fail: it has one bar, not three.
            canvas.grid.enabled = False
        canvas.overlays.scale_bar.gridded = True
        canvas.overlays.scale_bar.visible = True
        canvas.grid.enabled = gridded
        self._comparison.label(canvas.size[1] / (shape[1] if gridded else 1))

    def _displayed_size(self) -> tuple[float, float]:
        assert self._comparison is not None
        layer, dims = self._comparison.input, self._viewer.dims
        low, high = layer.extent.world
        rows, columns = (axis - (dims.ndim - layer.ndim) for axis in dims.displayed[-2:])
        return float(high[rows] - low[rows]), float(high[columns] - low[columns])


class _OwnView:
    """What the compare view changes, as the person had it."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        grid, bar, camera = viewer.canvas.grid, viewer.canvas.overlays.scale_bar, viewer.scene.camera
        self._visible = [(layer, layer.visible) for layer in viewer.layers]
        names = [layer.name_overlay for layer in viewer.layers]
        self._settings: list[tuple[Any, str, Any]] = [
            *((name, value, getattr(name, value)) for name in names for value in ("visible", "font_size")),
            *((grid, name, getattr(grid, name)) for name in ("enabled", "stride", "shape", "spacing")),
            *((bar, name, getattr(bar, name)) for name in ("gridded", "visible")),
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


class _Focus:
    """Where the person looks, kept while the panels change their size: the whole slice, or the same spot as closely."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        camera = viewer.scene.camera
        self._center, zoom = camera.center, camera.zoom
        viewer.reset_view(reset_camera_angle=False)
        self._closer = zoom / camera.zoom

    def keep(self, comparison: Comparison) -> None:
        self._viewer.reset_view(layers=comparison.layers, reset_camera_angle=False)
        if self._closer > ZOOMED_IN:
            self._viewer.scene.camera.zoom *= self._closer
            self._viewer.scene.camera.center = self._center


def _placed_like(layer: Image, result: RestorationResult, role: str) -> dict[str, Any]:
    """Return where a result layer lies: on its input, in the same units, with the scan's geometry remembered."""
    placed = spatial_transforms(layer)
    record = remembered(result.scan, result.restored.shape[-min(layer.ndim, 3) :], placed)
    return {**placed, "metadata": {RECORD: {**record, "role": role}}}


def _as_dimensional_as(layer: Image, voxels: Any) -> Any:
    return voxels[0] if layer.ndim == 2 else voxels
