"""Where a volume is kept while it is restored: in memory, or in a file that survives a crash."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets.bases import ValuedContainerWidget
from qtpy.QtWidgets import QFileDialog

from ..file_names import stem_for
from ..form_parts import choice, hint, plain_tip
from ..layers import source_of
from ..preferences import results_folder
from .room import why_a_file

if TYPE_CHECKING:
    from napari.layers import Image

    from ...scans.scan import Scan

CHOOSE = "choose"
MEMORY = "memory (save it later)"
CHOOSE_A_FILE = "choose a file ..."
SUFFIX = ".ome.zarr"
WHERE = "Where the restored volume goes while it is restored"
FILE_FILTER = f"OME-Zarr (*{SUFFIX})"


class SaveChoice(ValuedContainerWidget["Path | None"]):
    """Memory, the proposed file, or another file, and an explanation below.

    Its value is the chosen folder, whose name ends in .ome.zarr; None for memory.

    Parameters
    ----------
    about
        Keywords of every magicgui widget: name, label.
    """

    def __init__(self, **about: Any) -> None:
        super().__init__(labels=False, **about)
        self._proposed: Path | None = None
        self._chosen: Path | None = None
        self._filled: Path | None = None
        self._reason = ""
        self.combo = choice(WHERE)
        self.about = hint()
        self.margins = (0, 0, 0, 0)
        for widget in (self.combo, self.about):
            self.native.layout().addWidget(widget)
        self.combo.activated.connect(self._on_activated)
        self._fill(None)

    def get_value(self) -> Path | None:
        """Return the chosen folder; None for memory."""
        data = self.combo.currentData()
        return Path(data) if data not in (None, CHOOSE) else None

    def set_value(self, value: Path | None) -> None:
        """Choose a folder, and add the suffix if it is missing; None for memory."""
        if value is not None:
            value = value if value.name.lower().endswith(".zarr") else value.with_name(f"{value.name}{SUFFIX}")
            self._chosen = value
        self._fill(value)
        self.changed.emit(self.value)

    def propose(self, layer: Image, scan: Scan) -> None:
        """Propose memory for the result of this scan, or a file, and say why, if memory is not enough."""
        self._reason = why_a_file(scan)
        self._proposed, self._chosen = proposed_path(layer), None
        self._fill(self._proposed if self._reason else None)

    def propose_another(self, layer: Image) -> None:
        """Propose another free name, because the last one is now taken."""
        before, self._proposed, self._chosen = self.value, proposed_path(layer), None
        self._fill(self._proposed if before else None)

    def use_proposed(self) -> None:
        """Choose the proposed file, if there is a scan to propose one for."""
        if self._proposed is not None:
            self._fill(self._proposed)
            self.changed.emit(self.value)

    def _on_activated(self, index: int) -> None:
        if self.combo.itemData(index) == CHOOSE:
            self._ask_for_a_file()
        else:
            self._fill(self.value)
            self.changed.emit(self.value)

    def _ask_for_a_file(self) -> None:
        start = self._chosen or self._proposed or Path(f"restored{SUFFIX}")
        name, _ = QFileDialog.getSaveFileName(self.native, "Save while restoring to", str(start), FILE_FILTER)
        if name:
            self.value = Path(name)
        else:
            self._fill(self._filled)

    def _fill(self, path: Path | None) -> None:
        self._filled = path
        self.combo.blockSignals(True)
        self.combo.clear()
        self.combo.addItem(MEMORY, None)
        for known in dict.fromkeys(filter(None, (self._proposed, self._chosen))):
            self.combo.addItem(known.name, str(known))
        self.combo.addItem(CHOOSE_A_FILE, CHOOSE)
        self.combo.setCurrentIndex(self.combo.findData(str(path)) if path is not None else 0)
        self.combo.blockSignals(False)
        self._explain()

    def _explain(self) -> None:
        path = self.value
        if path is None:
            words = f"a file is better: {self._reason}" if self._reason else ""
        else:
            words = self._reason or "slices are saved as they are finished, and an interrupted job can be continued"
        self.about.setText(words)
        self.about.setVisible(bool(words))
        self.combo.setToolTip(
            plain_tip(str(path)) if path is not None else "Where the restored volume goes while it is restored"
        )


def proposed_path(layer: Image) -> Path:
    """Return a free name in the folder set for results, next to the layer's file, or in the home folder."""
    source = source_of(layer)
    folder = results_folder() or (source.parent if source is not None else Path.home())
    stem = f"{stem_for(layer.name)} restored"
    number, path = 1, folder / f"{stem}{SUFFIX}"
    while path.exists():
        number += 1
        path = folder / f"{stem} {number}{SUFFIX}"
    return path
