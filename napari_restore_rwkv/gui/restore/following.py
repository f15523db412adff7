"""Result layers that follow their scan: its position, its units, and its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..layer_geometry import TRANSFORMS, spatial_transforms

if TYPE_CHECKING:
    from napari.layers import Layer


class Following:
    """Makes result layers follow the layer of their scan as long as this object exists.

    A result that was moved by itself returns to its scan when the scan is moved; one that was renamed keeps its name.

    Parameters
    ----------
    scan
        The layer to follow.
    results
        The layers that follow it; their names begin with its name.
    """

    def __init__(self, scan: Layer, *results: Layer) -> None:
        self._scan, self._results = scan, results
        self._name = scan.name
        for moved in TRANSFORMS:
            getattr(scan.events, moved).connect(self._on_moved)
        scan.events.name.connect(self._on_renamed)

    def _on_moved(self, event: Any = None) -> None:
        for name, place in spatial_transforms(self._scan).items():
            for layer in self._results:
                if not _same(getattr(layer, name), place):
                    setattr(layer, name, place)

    def _on_renamed(self, event: Any = None) -> None:
        before, self._name = self._name, self._scan.name
        for layer in self._results:
            if layer.name.startswith(before):
                layer.name = self._name + layer.name[len(before) :]


def _same(one: Any, other: Any) -> bool:
    one, other = (getattr(value, "affine_matrix", value) for value in (one, other))
    return np.array_equal(np.asarray(one), np.asarray(other))
