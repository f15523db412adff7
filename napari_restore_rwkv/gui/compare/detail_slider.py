"""How much coarse or fine detail is put back: a small slider, at 0 until it is moved."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QSlider, QWidget

from ...restoration.detail import SPLIT_PX

FULL = 100
LIKE = {"fine": "grain and edges", "coarse": "patches and shading"}


class DetailSlider(QSlider):
    """0 to 100 % of the change in coarse or in fine detail."""

    def __init__(self, part: str, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self._part = part
        self.setRange(0, FULL)
        self.setAccessibleName(f"How much {part} detail is put back")
        self._update_tip(0)
        self.valueChanged.connect(self._update_tip)

    def _update_tip(self, value: int) -> None:
        self.setToolTip(
            f"Takes back {value} % of the change in {self._part} detail ({LIKE[self._part]}; split by a Gaussian of "
            f"{SPLIT_PX:g} pixels), for results that look waxy; 0 leaves the result as it is"
        )
