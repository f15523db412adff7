"""The displayed slice restored by the classical filter, in a cell beside the network's result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QObject

from ...scans.lazy import LazyVoxels
from ..background import Background
from ..layer_geometry import spatial_transforms
from ..layers import RECORD
from .figures import CLASSICAL

if TYPE_CHECKING:
    from ...scans.lazy import Box
    from .comparison import Comparison
    from .shown_slice import ShownSlice, SliceWatch

TASK_OF = {"CT": "ct-denoise", "MR": "mri-sr", "PET": "pet-low-count"}
# Slices kept in memory, whatever the size of the volume.
MOST_KEPT = 3
FILTER_AFTER_MS = 100


class ClassicalCell(QObject):
    """Filters the displayed slice, off the GUI thread, while the cell is shown; the last three are kept.

    Attributes
    ----------
    layer
        The cell's layer; None while it is not shown.
    """

    def __init__(self, watch: SliceWatch) -> None:
        super().__init__()
        self.layer: Image | None = None
        self._watch = watch
        self._comparison: Comparison | None = None
        self._kept: dict[int, np.ndarray] = {}
        self._background = Background(self, wait_ms=FILTER_AFTER_MS)
        self._background.answered.connect(self._take)
        watch.arrived.connect(self._look_at)

    @property
    def is_possible(self) -> bool:
        """Whether there is a filter for the scan."""
        return self._comparison is not None and self._comparison.result.scan.modality in TASK_OF

    def follow(self, comparison: Comparison | None) -> None:
        """Follow another result."""
        self._comparison = comparison
        self._kept.clear()

    def begin(self) -> Image:
        """Return a layer for the cell; slices are filtered as they are displayed."""
        comparison = self._comparison
        assert comparison is not None, "there is nothing to filter"
        result, restored = comparison.result, comparison.restored
        voxels = LazyVoxels(result.scan.shape, np.float32, self._read)
        self._watch.others[CLASSICAL] = voxels
        self.layer = cell_like(restored, voxels, f"{comparison.input.name} [non-local means]", CLASSICAL)
        self._watch.look_again()
        return self.layer

    def end(self) -> None:
        """Stop filtering."""
        self.layer = None
        self._watch.others.pop(CLASSICAL, None)
        self._background.forget()
        self._watch.look_again()

    def let_go(self) -> None:
        """Take no more answers: a running filter ends by itself, perhaps when the Qt objects are already deleted."""
        self._comparison = self.layer = None

    def _read(self, box: Box) -> np.ndarray:
        comparison = self._comparison
        assert comparison is not None
        axis = comparison.result.axis
        values = np.full([along.stop - along.start for along in box], np.nan, np.float32)
        for index, image in list(self._kept.items()):
            if box[axis].start <= index < box[axis].stop:
                here, there = list(box), [slice(None)] * 3
                here[axis] = slice(0, 1)
                there[axis] = slice(index - box[axis].start, index - box[axis].start + 1)
                values[tuple(there)] = np.expand_dims(image, axis)[tuple(here)]
        return values

    def _look_at(self, shown: ShownSlice | None) -> None:
        if shown is None or self.layer is None or shown.index in self._kept or self._comparison is None:
            return
        comparison = self._comparison
        self._background.ask(lambda: (comparison, shown.index, _filtered(comparison, shown)))

    def _take(self, answer: tuple[Comparison, int, np.ndarray]) -> None:
        comparison, index, image = answer
        if comparison is not self._comparison or self.layer is None:
            return
        while len(self._kept) >= MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[index] = image
        if self.layer.ndim == 2:
            self.layer.data = image
        else:
            self.layer.refresh(thumbnail=False, extent=False, highlight=False)
        self._watch.look_again()


def cell_like(restored: Image, voxels: Any, name: str, role: str) -> Image:
    """Return a layer of voxels (Z, Y, X) that has the grid, unit and appearance of the restored layer."""
    return Image(
        voxels[0] if restored.ndim == 2 and voxels.ndim == 3 else voxels,
        name=name,
        colormap=restored.colormap,
        contrast_limits=restored.contrast_limits,
        gamma=restored.gamma,
        interpolation2d=restored.interpolation2d,
        metadata={RECORD: {"role": role}},
        **spatial_transforms(restored),
    )


def _filtered(comparison: Comparison, shown: ShownSlice) -> np.ndarray:
    from ...network.classical import classical_name, load_restorer
    from ...restoration.intensity import choose_intensity
    from ...restoration.restore import restore_slice

    scan = comparison.result.scan
    network = load_restorer(classical_name(TASK_OF[str(scan.modality)]))
    return restore_slice(shown.input, network, choose_intensity(scan))
