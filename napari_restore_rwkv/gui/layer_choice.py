"""A drop-down list of layers that follows the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from napari.layers import Image

from .compare.comparison import is_result
from .form_parts import narrow

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Layer

_EVENTS = ("inserted", "removed", "reordered", "renamed")


def is_image(layer: Layer) -> bool:
    """Whether a layer is an image that this plugin did not make; one that is not a scan is refused with a message."""
    return isinstance(layer, Image) and not is_result(layer)


def is_volume(layer: Layer) -> bool:
    """Whether a layer is a greyscale image with three dimensions, or four with time, that this plugin did not make."""
    return is_image(layer) and not layer.rgb and layer.ndim in (3, 4)


class LayerChoice(ComboBox):
    """The layers of a viewer that a predicate accepts; its value is the chosen one, None where there is none.

    `changed` is emitted when another layer is chosen, by the user, by setting `value`, or because the chosen one was
    deleted; and when the voxels of the chosen image were replaced. The choices that napari offers for a layer type need
    a window around the widget and take no predicate.

    Parameters
    ----------
    accepts
        Which layers are listed.
    nothing
        The first entry, which means no layer; "" if a layer must be chosen.
    takes_fresh
        Whether a newly added layer is chosen, unless the list is disabled; otherwise the current choice stays.
    about
        Keywords of any magicgui widget: name, label, tooltip.

    Attributes
    ----------
    preferred
        Returns which of the listed layers to propose, None if none of them; without it the first is proposed.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        accepts: Callable[[Layer], bool],
        *,
        nothing: str = "",
        takes_fresh: bool = False,
        **about: Any,
    ) -> None:
        self._viewer, self._accepts, self._nothing, self._takes_fresh = viewer, accepts, nothing, takes_fresh
        self.preferred: Callable[[list[Any]], Any] | None = None
        self._layers: list[Any] = []
        self._watched: Layer | None = None
        self._picked: Any = None
        super().__init__(**about)
        narrow(self.native)
        self.native.activated.connect(self._on_activated)
        for event in _EVENTS:
            # In the order in which the lists were created: one list's proposal may depend on another.
            getattr(viewer.layers.events, event).connect(self.reset_choices, position="last")

    def choose(self, layer: Layer | None) -> bool:
        """Choose a layer if it is listed; return whether it is."""
        if listed := layer in self._layers:
            self.value = layer
        return listed

    def set_value(self, value: Any) -> None:
        """Choose a listed layer; for any other, `value` raises ValueError."""
        self._picked = value
        super().set_value(value)

    def reset_choices(self, *_: Any) -> None:
        """List the current layers, and choose again unless the user has chosen."""
        before, chosen = self._layers, self.value
        self._layers = [layer for layer in self._viewer.layers if self._accepts(layer)]
        if self._takes_fresh:
            fresh = [layer for layer in self._layers if layer not in before]
            self._picked = fresh[-1] if fresh and self.native.isEnabled() else chosen
        wanted = self._picked if self._picked in self._layers else self._proposed()
        self.native.blockSignals(True)
        self.native.clear()
        if self._nothing:
            self.native.addItem(self._nothing, None)
        # One by one: a layer may have the same name as the entry for no layer.
        for layer in self._layers:
            self.native.addItem(layer.name, layer)
        super().set_value(wanted)
        self.native.blockSignals(False)
        self._on_value_change(self.value)

    def let_go(self) -> None:
        """Stop following the viewer, without touching Qt objects, which may already be deleted."""
        self._watch(None)
        for event in _EVENTS:
            getattr(self._viewer.layers.events, event).disconnect(self.reset_choices)

    def _proposed(self) -> Any:
        if self._nothing or not self._layers:
            return None
        return self.preferred(self._layers) if self.preferred else self._layers[0]

    def _on_activated(self) -> None:
        self._picked = self.value

    def _on_value_change(self, value: Any = None) -> None:
        if value is not self._watched:
            self._watch(value)
            self.changed.emit(value)

    def _watch(self, layer: Layer | None) -> None:
        for image, switch in ((self._watched, "disconnect"), (layer, "connect")):
            if isinstance(image, Image):
                getattr(image.events.data, switch)(self._on_data)
        self._watched = layer

    def _on_data(self, event: Any = None) -> None:
        """Choose again, as the layer may not be accepted any more, and report it like another layer."""
        self._watch(None)
        self.reset_choices()
        if self.value is None:
            self.changed.emit(None)
