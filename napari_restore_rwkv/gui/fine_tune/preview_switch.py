"""A check box that shows a preview of the displayed slice beside its scan, computed in the background."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QWidget

from ..background import Background
from .slice_preview import SlicePreview, looked_at

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

# Returns the picture of the slice of this index, (Y, X) in the unit of the scan; called outside the main thread.
Picture = Callable[[int], np.ndarray]


class PreviewSwitch(QCheckBox):
    """Follows the displayed slice while it is ticked; when unticked, it removes the preview.

    Signals
    -------
    failed(error)
        A picture could not be computed.

    Parameters
    ----------
    what
        Part of the name of the preview's layer.
    subject
        Returns the scan's layer, the axis across its slices, and a function that computes pictures; None if there is
        nothing to show. Called in the main thread whenever another picture may be needed.
    wait_ms
        How long to wait for another request before a picture is computed.
    """

    failed = Signal(object)

    def __init__(
        self,
        text: str,
        viewer: ViewerModel,
        what: str,
        subject: Callable[[], tuple[Image, int, Picture] | None],
        wait_ms: int,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(text, parent)
        self._viewer, self._subject = viewer, subject
        self._shown = SlicePreview(viewer, what)
        self._pictures = Background(self, wait_ms=wait_ms)
        self._pictures.answered.connect(self._show)
        self._pictures.failed.connect(self.failed)
        self.toggled.connect(self._on_toggle)
        viewer.dims.events.current_step.connect(self.ask)

    def ask(self, event: Any = None) -> None:
        """Request a new picture of the displayed slice."""
        subject = self._subject() if self.isChecked() else None
        if subject is None:
            return
        layer, axis, picture = subject
        index = looked_at(self._viewer, layer, axis)
        if index is not None:
            self._pictures.ask(lambda: (layer, axis, index, picture(index)))

    def let_go(self) -> None:
        """Stop following the viewer, without touching Qt objects, which may already be deleted."""
        self._viewer.dims.events.current_step.disconnect(self.ask)

    def _on_toggle(self, wanted: bool) -> None:
        if wanted:
            self.ask()
        else:
            self._pictures.forget()
            self._shown.remove()

    def _show(self, made: tuple[Image, int, int, np.ndarray]) -> None:
        if self.isChecked():
            self._shown.show(*made)
