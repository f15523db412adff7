"""Requests from one panel to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import napari

from ..errors import ScanError
from .docking import find_panel, open_panel

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Layer

    from .restore.panel import RestorePanel

PANEL, FINE_TUNE_PANEL = "Restore", "Fine-tune"


def current_viewer() -> napari.Viewer:
    """Return the current viewer; ScanError if there is none."""
    viewer = napari.current_viewer()
    if viewer is None:
        raise ScanError("The Restore panel needs an open napari window.")
    return viewer


def open_restore_panel(viewer: napari.Viewer) -> RestorePanel:
    """Return the Restore panel of a viewer, opening it if necessary."""
    from .restore.panel import RestorePanel

    return open_panel(viewer, RestorePanel, PANEL)


def use_weights(path: Path, task: str, layer: Layer | None) -> None:
    """Choose a bundle for its task, and a scan if one is given, in the Restore panel, which is opened if necessary."""
    panel = open_restore_panel(current_viewer())
    if layer is not None:
        panel.choose_layer(layer)
    panel.form.task.value = task
    panel.form.weights.value = path


def back_to_proposed_weights() -> None:
    """Choose the proposal for the task in the Restore panel; if that is not open, it will be the default anyway."""
    from .restore.panel import RestorePanel

    panel = find_panel(current_viewer(), RestorePanel)
    if panel is not None:
        panel.form.weights.use_proposed()
