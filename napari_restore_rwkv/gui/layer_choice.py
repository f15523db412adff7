"""A drop-down list of layers that follows the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox

from .form_parts import NARROW_COMBO

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Layer

_EVENTS = ("inserted", "removed", "reordered", "renamed")


class LayerChoice(QComboBox):
    """The layers of a viewer that a predicate accepts.

    Signals
    -------
    changed()
        Another layer is chosen, by the user or because the chosen one was deleted.

    Parameters
    ----------
    accepts
        Which layers are listed.
    nothing
        First line, meaning no layer; "" if one has to be chosen.
    preferred
        Of the listed layers, the one to propose; None for the first.
    """

    changed = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        tip: str,
        accepts: Callable[[Layer], bool],
        *,
        nothing: str = "",
        preferred: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        super().__init__()
        self.setToolTip(tip)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(NARROW_COMBO)
        self._viewer, self._accepts, self._nothing, self._preferred = viewer, accepts, nothing, preferred
        self._layers: list[Any] = []
        self._told: Any = None
        self._picked: Any = None
        self.currentIndexChanged.connect(self._tell)
        self.activated.connect(self._on_activated)
        for event in _EVENTS:
            # In the order in which the lists were created: one list's proposal may depend on another.
            getattr(viewer.layers.events, event).connect(self._follow, position="last")
        self._follow()

    @property
    def layer(self) -> Any:
        """The chosen layer, else None."""
        place = self.currentIndex() - bool(self._nothing)
        return self._layers[place] if 0 <= place < len(self._layers) else None

    def choose(self, layer: Layer) -> None:
        """Choose a listed layer."""
        if layer in self._layers:
            self._picked = layer
            self._select(layer)

    def propose(self) -> None:
        """Choose again, unless the user has chosen."""
        self._follow()

    def let_go(self) -> None:
        """Stop following the viewer, without touching Qt objects, which may already be deleted."""
        for event in _EVENTS:
            getattr(self._viewer.layers.events, event).disconnect(self._follow)

    def _follow(self, event: Any = None) -> None:
        self._layers = [layer for layer in self._viewer.layers if self._accepts(layer)]
        chosen = self._picked
        if chosen not in self._layers:
            chosen = None if self._nothing or not self._layers else self._proposed()
        self.blockSignals(True)
        self.clear()
        self.addItems([*([self._nothing] if self._nothing else []), *(layer.name for layer in self._layers)])
        if chosen is not None:
            self._select(chosen)
        self.blockSignals(False)
        self._tell()

    def _select(self, layer: Layer) -> None:
        self.setCurrentIndex(self._layers.index(layer) + bool(self._nothing))

    def _on_activated(self) -> None:
        self._picked = self.layer

    def _proposed(self) -> Any:
        return self._preferred(self._layers) if self._preferred else self._layers[0]

    def _tell(self) -> None:
        if self.layer is not self._told:
            self._told = self.layer
            self.changed.emit()
