"""The displayed slice of a comparison as arrays: the only input for judging and measuring."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from ..background import Background
from ..restore.mixture import mixed
from .comparison import displayed_slice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel

    from ...restoration.detail import Blend
    from ..restore.result import RestorationResult
    from .comparison import Comparison

READ_AFTER_MS = 40


@dataclass(frozen=True, slots=True, eq=False)
class ShownSlice:
    """One slice of a comparison, as displayed.

    Attributes
    ----------
    index, axis
        Its index, from 0, along an axis of the scan: 0, 1 or 2 for z, y, x.
    input, restored
        Shape (Y, X), float32, in the unit of the scan; restored with the current strength.
    unit, modality
        Those of the scan; "" and None if unknown.
    spacing_mm
        Between its rows and between its columns.
    others
        Other images shown beside, by name: shape (Y, X), float32, in the same unit.
    """

    index: int
    axis: int
    input: np.ndarray
    restored: np.ndarray
    unit: str
    modality: str | None
    spacing_mm: tuple[float, float]
    others: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def difference(self) -> np.ndarray:
        """Restored minus input; NaN where both are infinite."""
        with np.errstate(invalid="ignore"):
            return self.restored - self.input

    def finite_pair(self) -> tuple[np.ndarray, np.ndarray]:
        """Return input and restored with the same value in both where one of them is not finite."""
        known = np.isfinite(self.input) & np.isfinite(self.restored)
        if known.all() or not known.any():
            return np.nan_to_num(self.input), np.nan_to_num(self.restored)
        filler = np.median(self.input[known])
        return np.where(known, self.input, filler), np.where(known, self.restored, filler)


def read_slice(
    result: RestorationResult, index: int, blend: Blend, others: Mapping[str, Any] | None = None
) -> ShownSlice | None:
    """Read one slice of a result, from disk if the scan is lazy; None if it is not restored yet.

    Parameters
    ----------
    others
        Arrays on the grid of the scan, (Z, Y, X), lazy or not.
    """
    if index not in result.finished:
        return None
    region, axis = result.region(index), result.axis

    def plane(voxels: Any) -> np.ndarray:
        return np.asarray(voxels[region], np.float32).squeeze(axis)

    restored = mixed(result.restored, result.difference, blend, axis)
    rows, columns = (step for at, step in enumerate(result.scan.spacing_mm) if at != axis)
    return ShownSlice(
        index,
        axis,
        plane(result.scan.voxels),
        plane(restored),
        result.scan.unit,
        result.scan.modality,
        (float(rows), float(columns)),
        {name: plane(voxels) for name, voxels in (others or {}).items()},
    )


class SliceWatch(QObject):
    """Reads the displayed slice of a comparison whenever another one is displayed, or its strength changes.

    Signals
    -------
    arrived(shown)
        The displayed `ShownSlice`; None if there is none, or if it is not restored yet.
    """

    arrived = Signal(object)

    def __init__(self, viewer: ViewerModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.comparison: Comparison | None = None
        self.shown: ShownSlice | None = None
        self.others: dict[str, Any] = {}
        self._viewer = viewer
        self._asked: Any = None
        self._background = Background(self, wait_ms=READ_AFTER_MS)
        self._background.answered.connect(self._on_read)
        self._background.failed.connect(lambda error: self._on_read((self._asked, None)))
        viewer.dims.events.connect(self.look)

    def follow(self, comparison: Comparison | None) -> None:
        """Follow another comparison; None follows nothing."""
        for watched, switch in ((self.comparison, "disconnect"), (comparison, "connect")):
            if watched is not None:
                getattr(watched.restored.events.set_data, switch)(self.look)
        self.comparison = comparison
        self.look_again()

    def look(self, event: Any = None) -> None:
        """Read the displayed slice, if it has changed."""
        wanted = self._wanted()
        if wanted != self._asked:
            self._ask(wanted)

    def look_again(self) -> None:
        """Read the displayed slice again: its values may have changed."""
        self._ask(self._wanted())

    def let_go(self) -> None:
        """Stop following the viewer, without touching Qt objects, which may already be deleted."""
        self._viewer.dims.events.disconnect(self.look)
        if self.comparison is not None:
            self.comparison.restored.events.set_data.disconnect(self.look)
            self.comparison = None

    def _wanted(self) -> tuple[Comparison, int | None, Blend] | None:
        comparison = self.comparison
        if comparison is None or comparison.input not in self._viewer.layers:
            return None
        result = comparison.result
        index = displayed_slice(self._viewer, comparison.input, result.axis, result.slices)
        done = index is not None and index in result.finished and self._viewer.dims.ndisplay == 2
        return comparison, index if done else None, comparison.blend

    def _ask(self, wanted: tuple[Comparison, int | None, Blend] | None) -> None:
        self._asked = wanted
        if wanted is None or (index := wanted[1]) is None:
            self._background.forget()
            self._on_read((wanted, None))
            return
        (comparison, _, blend), others = wanted, dict(self.others)
        self._background.ask(lambda: (wanted, read_slice(comparison.result, index, blend, others)))

    def _on_read(self, answer: tuple[Any, ShownSlice | None]) -> None:
        wanted, shown = answer
        if wanted is self._asked:
            self.shown = shown
            self.arrived.emit(shown)
