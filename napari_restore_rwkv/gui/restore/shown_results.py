"""The results whose layers are in a viewer: they are the viewer's, and a panel opened later goes on with them."""

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
    """What was restored in a viewer and is still there, by whichever panel."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        # A plugin may be given a stand-in for the viewer.
        self._kept = _SHOWN.setdefault(getattr(viewer, "__wrapped__", viewer), [])

    def add(self, run: Run, comparison: Comparison) -> None:
        """Take in a result that is shown from now on, or shown otherwise than before."""
        self._kept[:] = [(r, c) for r, c in self._kept if c.restored is not comparison.restored and self._is_there(c)]
        self._kept.append((run, comparison))

    def newest(self) -> tuple[Run, Comparison] | None:
        """Return the result that was shown last."""
        return next((pair for pair in reversed(self._kept) if self.holds(*pair)), None)

    def options_of(self, comparison: Comparison) -> RestoreOptions | None:
        """Return with which choices a result was made; None where its layers are gone."""
        return next((run.options for run, kept in self._kept if kept.restored is comparison.restored), None)

    def begun_with(self, options: RestoreOptions) -> tuple[Run, Comparison] | None:
        """Return what the same choices gave before, wherever it is kept."""
        alike = (pair for pair in reversed(self._kept) if options.continues(pair[0].options))
        return next((pair for pair in alike if self.holds(*pair)), None)

    def holds(self, run: Run, comparison: Comparison) -> bool:
        """Whether a result is in the viewer, and its scan still holds the voxels that it was made from."""
        return self._is_there(comparison) and run.voxels is run.options.layer.data

    def _is_there(self, comparison: Comparison) -> bool:
        return comparison.restored in self._viewer.layers
