"""The layers of one result."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari.experimental import link_layers
from napari.layers import Image
from napari.utils import Colormap

from ...reliability.difference import Mode, unit_of, words_of
from ...restoration.detail import Blend
from ..layer_geometry import remembered, spatial_transforms
from ..layers import RECORD, difference_name, restored_name
from ..restore.following import Following
from ..restore.mixture import Mixture, mixed
from .seen_difference import SeenDifference

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from napari.components import LayerList, ViewerModel
    from napari.layers import Layer

    from ..restore.result import RestorationResult

NAME_FONT_SIZES = (5.0, 8.0)
# Pixels per letter and point of font size, measured with a margin.
LETTER_WIDTH = 0.98
COLORBAR = {"position": "bottom_left", "size": (12.0, 110.0), "font_size": 8.0}
APPROXIMATE = "approximate"
UNIT_LIMIT = 1.0
ROOM_FOR_LIMITS = 4

# Blue where intensity was removed, red where it was added. Zero is black and transparent: an unchanged voxel vanishes
# on a dark canvas, and in three dimensions it hides nothing behind it.
SIGNED_COLORS = Colormap(
    [
        [0.60, 0.90, 1.0, 1.0],
        [0.10, 0.45, 0.95, 0.6],
        [0.0, 0.0, 0.0, 0.0],
        [0.95, 0.30, 0.10, 0.6],
        [1.0, 0.88, 0.55, 1.0],
    ],
    name="restored - input",
    controls=[0.0, 0.3, 0.5, 0.7, 1.0],
)
# The size of the change, without its sign.
SIZE_COLORS = Colormap(
    [[0.0, 0.0, 0.0, 0.0], [0.15, 0.60, 0.45, 0.6], [0.85, 1.0, 0.80, 1.0]],
    name="|restored - input|",
    controls=[0.0, 0.4, 1.0],
)
# Below this a relative change means nothing: as a fraction of the brightest displayed value, and for CT as HU + 1000.
LEAST_SHARE, LEAST_ATTENUATION = 0.05, 100.0


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The three layers of one result; the other two follow the position of the first."""

    input: Image
    restored: Image
    difference: Image
    result: RestorationResult
    _following: Following = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_following", Following(self.input, self.restored, self.difference))

    @property
    def layers(self) -> tuple[Image, Image, Image]:
        """Input, restored, difference: left to right."""
        return self.input, self.restored, self.difference

    def is_in(self, layers: LayerList) -> bool:
        """Whether there is something to compare: the difference may have been deleted."""
        return self.input in layers and self.restored in layers

    def those_in(self, layers: LayerList) -> list[Image]:
        """Return those of the three that are there."""
        return [layer for layer in self.layers if layer in layers]

    def place_above(self, layers: LayerList) -> int:
        """Return where a layer that is added for looking alone belongs: above those of the three that are left."""
        return 1 + max((layers.index(layer) for layer in self.those_in(layers)), default=len(layers) - 1)

    @property
    def blend(self) -> Blend:
        """How the restoration is mixed in: as the user set it, else as proposed."""
        return self.restored.metadata[RECORD].get("blend", Blend(self.result.proposed))

    @property
    def strength(self) -> float:
        """Strength of the restoration, 0 to 1."""
        return self.blend.strength

    @property
    def mode(self) -> Mode:
        """How the difference is shown."""
        return self.difference.metadata[RECORD].get("mode", Mode.SIGNED)

    @property
    def least(self) -> float:
        """No relative change is shown up to this input, or this attenuation for CT."""
        unit, brightest = self.result.scan.unit, max(map(abs, self.input.contrast_limits))
        return LEAST_ATTENUATION if unit == "HU" else LEAST_SHARE * float(brightest)

    @property
    def has_planes(self) -> bool:
        """Whether there is more than one slice to cut planes through."""
        return self.input.ndim > 2 and min(self.result.scan.shape) > 1

    def set_mode(self, mode: Mode, noise: Mapping[int, np.ndarray]) -> None:
        """Show the difference in another mode; `noise` is the local noise of those slices for which it is known."""
        record = self.difference.metadata[RECORD]
        record["mode"], record["noise"] = mode, noise
        self.difference.data = _match_ndim(self.difference, self._seen())
        self.difference.colormap = SIGNED_COLORS if mode.has_sign else SIZE_COLORS
        if mode is Mode.SIGNED:
            self.set_limit(self.result.limit or UNIT_LIMIT)
            record["limit"] = self.result.limit or UNIT_LIMIT
        self.tell_provenance()

    def redraw_difference(self) -> None:
        """Redraw the difference: the noise of more slices is known."""
        if self.difference.ndim == 2:
            self.difference.data = _match_ndim(self.difference, self._seen())
        else:
            self.difference.refresh(thumbnail=False, extent=False, highlight=False)

    def set_limit(self, limit: float) -> None:
        """Set the colour limit of the difference, symmetric about zero if the mode has a sign."""
        low = -1.0 if self.mode.has_sign else 0.0
        self.difference.contrast_limits_range = (ROOM_FOR_LIMITS * low * limit, ROOM_FOR_LIMITS * limit)
        self.difference.contrast_limits = (low * limit, limit)

    def _seen(self) -> Any:
        """The array of the difference layer: the change that the blend leaves, in the current mode."""
        change = mixed(self.result.difference, self.result.difference, self.blend, self.result.axis)
        if self.mode is Mode.SIGNED:
            return change
        noise = self.difference.metadata[RECORD]["noise"]
        return SeenDifference(change, self.result.scan, self.result.axis, self.mode, self.least, noise)

    def with_result(self, result: RestorationResult) -> Comparison:
        """Show another result of the same scan in the same layers, and return that comparison."""
        other = replace(self, result=result)
        self.restored.data = _match_ndim(self.restored, result.restored)
        self.difference.data = _match_ndim(self.difference, other._seen())
        return other

    def label(self, layers: LayerList, panel_width: float, more: tuple[Image, ...] = ()) -> None:
        """Show the difference's colour bar, and the layers' names in a size that fits a panel of a width in pixels."""
        named = [*self.those_in(layers), *(layer for layer in more if layer in layers)]
        size = panel_width / (max(len(layer.name) for layer in named) * LETTER_WIDTH)
        for layer in named:
            layer.name_overlay.font_size = min(max(size, NAME_FONT_SIZES[0]), NAME_FONT_SIZES[1])
            layer.name_overlay.visible = True
        if self.difference in named:
            self.difference.colorbar.update({**COLORBAR, "visible": True})

    def unlabel(self, layers: LayerList) -> None:
        """Hide what `label` shows."""
        for layer in self.those_in(layers):
            layer.name_overlay.visible = False
        if self.difference in layers:
            self.difference.colorbar.visible = False

    def fit_limits(self) -> None:
        """Fit the difference's symmetric limits to the slices restored so far, unless the user has set others."""
        old, new = self.difference.metadata[RECORD].get("limit", UNIT_LIMIT), self.result.limit or UNIT_LIMIT
        if self.mode is Mode.SIGNED and tuple(self.difference.contrast_limits) == (-old, old):
            self.set_limit(new)
            self.difference.metadata[RECORD]["limit"] = new

    def choose_rendering(self) -> None:
        """Show both signs in three dimensions once all slices are restored; a missing one would hide the others.

        A maximum intensity projection would show only what was added, never what was removed.
        """
        self.difference.rendering = "mip" if self.result.remaining else "translucent"

    def mix_in(self, blend: Blend, settled: bool = True) -> None:
        """Show the input plus the part of the change that a blend keeps, and that part in the difference.

        Not `settled` means that a slider is being moved: names, which are drawn in many places, are updated afterwards.
        """
        self.restored.metadata[RECORD]["blend"] = blend
        result = self.result
        shown = mixed(result.restored, result.difference, blend, result.axis)
        for layer, data in ((self.restored, shown), (self.difference, self._seen())):
            if _replace_in_place(layer.data, data):
                layer.refresh(thumbnail=settled, extent=False, highlight=False)
            else:
                layer.data = _match_ndim(layer, data)
            if settled:
                layer.name = with_strength(layer.name, blend.strength)
        self.tell_provenance()

    def tell_provenance(self) -> None:
        """Store in the layers how they were made, for the writers of files; "approximate" is added to the name."""
        name, blend, shows = self.restored.name, self.blend, words_of(self.mode)
        if self.mode is not Mode.SIGNED:
            shows = f"{shows} in {unit_of(self.mode, self.result.scan.unit)}"
        if "tile" in self.result.provenance and APPROXIMATE not in name:
            self.restored.name = f"{name} ({APPROXIMATE})"
        self.restored.metadata[RECORD]["metadata"] = self.result.metadata(blend)
        self.difference.metadata[RECORD]["metadata"] = self.result.metadata(blend, shows=shows)


def add_result_layers(
    viewer: ViewerModel,
    layer: Image,
    result: RestorationResult,
    name: str,
    began_at: Mapping[str, Any] | None = None,
) -> Comparison:
    """Add the restored and the difference layer of a result right after its input, and return the three.

    Parameters
    ----------
    viewer, layer, result, name
        The viewer, the layer of the scan, its result, and the name that the layers' names begin with.
    began_at
        `spatial_transforms` of the layer when the result's scan was taken from it; the current ones by default.
    """
    began_at = began_at or spatial_transforms(layer)
    selected = set(viewer.layers.selection)
    restored = Image(
        _match_ndim(layer, result.restored),
        name=restored_name(name),
        colormap=layer.colormap,
        contrast_limits=layer.contrast_limits,
        gamma=layer.gamma,
        interpolation2d=layer.interpolation2d,
        **_placed_like(layer, result, "restored", began_at),
    )
    difference = Image(
        _match_ndim(layer, result.difference),
        name=difference_name(name),
        colormap=SIGNED_COLORS,
        contrast_limits=(-UNIT_LIMIT, UNIT_LIMIT),
        interpolation2d=layer.interpolation2d,
        visible=False,
        **_placed_like(layer, result, "difference", began_at),
    )
    for place, new in enumerate((restored, difference), start=viewer.layers.index(layer) + 1):
        viewer.layers.insert(place, new)
    link_layers([layer, restored], ("contrast_limits", "gamma", "colormap"))
    viewer.layers.selection = selected
    return Comparison(layer, restored, difference, result)


def with_strength(name: str, strength: float) -> str:
    """Return the name of a layer with the strength of the restoration, such as ``"CT [restored] · 50 %"``."""
    plain = re.sub(r" · \d+ %", "", name)
    return plain if strength == 1.0 else f"{plain} · {round(100 * strength)} %"


def is_result(layer: Layer) -> bool:
    """Whether a layer was made by this plugin."""
    return "role" in layer.metadata.get(RECORD, {})


def displayed_slice(viewer: ViewerModel, layer: Layer, axis: int, count: int) -> int | None:
    """Return the displayed index of a layer along a scan axis; None if no slider runs along that axis.

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


def bring_into_view(viewer: ViewerModel, layer: Layer) -> None:
    """Move the sliders to the middle of a layer, on the axes where they are outside of it."""
    ahead = viewer.dims.ndim - layer.ndim
    low, high = layer.extent.world
    for axis in range(layer.ndim):
        if axis + ahead not in viewer.dims.displayed and not low[axis] <= viewer.dims.point[axis + ahead] <= high[axis]:
            viewer.dims.set_point(axis + ahead, float((low[axis] + high[axis]) / 2))


def _placed_like(layer: Image, result: RestorationResult, role: str, began_at: Mapping[str, Any]) -> dict[str, Any]:
    """Return the transforms of a result layer, those of its input, and metadata with the scan's geometry."""
    record = remembered(result.scan, result.restored.shape[-min(layer.ndim, 3) :], began_at)
    return {**spatial_transforms(layer), "metadata": {RECORD: {**record, "role": role}}}


def _replace_in_place(old: Any, new: Any) -> bool:
    """Change a layer's array in place to show what another does; False if it cannot. It is faster than replacing it."""
    if isinstance(old, SeenDifference) and isinstance(new, SeenDifference) and old.mode is new.mode:
        old.base = new.base
        return True
    if isinstance(old, Mixture) and isinstance(new, Mixture) and old.base is new.base:
        old.blend = new.blend
        return True
    return False


def _match_ndim(layer: Image, voxels: Any) -> Any:
    return voxels[0] if layer.ndim == 2 else voxels
