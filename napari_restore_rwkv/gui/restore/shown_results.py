"""The results whose layers are in a viewer: they belong to the viewer, and a panel opened later continues them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from ..compare.comparison import Comparison
    from ..options import RestoreOptions
    from .run import Run

_SHOWN: WeakKeyDictionary[ViewerModel, list[tuple[Run, Comparison]]] = WeakKeyDictionary()


class ShownResults:
    """The results that any panel has added to a viewer and that are still there."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        # napari may pass a proxy of the viewer to a plugin.
        self._kept = _SHOWN.setdefault(getattr(viewer, "__wrapped__", viewer), [])

    def add(self, run: Run, comparison: Comparison) -> None:
        """Add a result that is now shown, or update one that is shown differently."""
        self._kept[:] = [(r, c) for r, c in self._kept if c.restored is not comparison.restored and self._is_present(c)]
        self._kept.append((run, comparison))

    def newest(self) -> tuple[Run, Comparison] | None:
        """Return the result that was shown last; None if there is none."""
        return next((pair for pair in reversed(self._kept) if self.holds(*pair)), None)

    def options_of(self, comparison: Comparison) -> RestoreOptions | None:
        """Return the options a result was made with; None if its layers were removed."""
        return next((run.options for run, kept in self._kept if kept.restored is comparison.restored), None)

    def earlier_result(self, options: RestoreOptions) -> tuple[Run, Comparison] | None:
        """Return the earlier result of the same options, whether in memory or in a file; None if there is none."""
        alike = (pair for pair in reversed(self._kept) if options.continues(pair[0].options))
        return next((pair for pair in alike if self.holds(*pair)), None)

    def holds(self, run: Run, comparison: Comparison) -> bool:
        """Whether a result is in the viewer, and its scan still has the voxels that it was made from."""
        return self._is_present(comparison) and run.voxels is run.options.layer.data

    def _is_present(self, comparison: Comparison) -> bool:
        return comparison.restored in self._viewer.layers
