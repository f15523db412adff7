"""The list of axes that slices can follow, the proposed one first, with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...scans.scan import AXES
from ...scans.slice_axis import choose_slice_axis
from ..form_parts import choice

if TYPE_CHECKING:
    from qtpy.QtWidgets import QComboBox

    from ...scans.scan import Scan


def slice_axis_choice() -> QComboBox:
    """Return the list; its data are "auto", "z", "y" and "x"."""
    axes = choice("The axis across the slices that are restored one by one")
    axes.addItem("auto", "auto")
    for axis in AXES:
        axes.addItem(f"along {axis}", axis)
    return axes


def tell_slice_axis(axes: QComboBox, scan: Scan) -> None:
    """Say in the list what is proposed for a scan, and why in its tip."""
    proposed = choose_slice_axis(scan)
    axes.setItemText(0, f"auto: along {AXES[proposed.axis]}")
    axes.setToolTip(f"The slices are restored one by one along this axis. Proposed: along {proposed}.")
