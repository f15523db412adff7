"""Fine-tuned weights as files: export, import, and return to the shipped ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from ..background import Background
from ..form_parts import plain_tip
from .blend_tools import BUNDLES

if TYPE_CHECKING:
    from collections.abc import Callable

IMPORTED, EXPORTED, KEPT = "imported", "exported", "kept"


class BundleTools(QWidget):
    """Export ..., Import ..., Back to the shipped weights.

    Signals
    -------
    copied(what, path)
        A bundle was `IMPORTED`, `EXPORTED` or `KEPT` as this file.
    failed(error)
        A bundle could not be read or written.
    back()
        The user wants the shipped weights.

    Attributes
    ----------
    folder
        The folder of the listed bundles.
    """

    copied = Signal(str, object)
    failed = Signal(object)
    back = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.folder = Path()
        self._bundle: Path | None = None
        self._files = Background(self)
        self.export_button, self.import_button = QPushButton("Export ..."), QPushButton("Import ...")
        self.back_button = QPushButton("Back to shipped weights")
        self.import_button.setToolTip("Add fine-tuned weights from a file to the list")
        self.back_button.setToolTip(
            "Choose the shipped weights again, here and in the Restore panel; nothing is deleted"
        )
        rows = QHBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        for button in (self.export_button, self.import_button, self.back_button):
            rows.addWidget(button)
        self.export_button.clicked.connect(self._ask_where)
        self.import_button.clicked.connect(self._ask_which)
        self.back_button.clicked.connect(self.back)
        self._files.answered.connect(lambda made: self.copied.emit(*made))
        self._files.failed.connect(self.failed)
        self.offer(None)

    def offer(self, bundle: Path | None) -> None:
        """Set the bundle to export; None if there is none."""
        self._bundle = bundle
        self.export_button.setEnabled(bundle is not None)
        self.export_button.setToolTip(
            plain_tip(f"Copy {bundle.name} to share it") if bundle else "Choose fine-tuned weights first"
        )

    def export_to(self, path: Path) -> None:
        """Copy the bundle to export."""
        if self._bundle is not None:
            self._copy(EXPORTED, self._bundle, lambda: path)

    def take_in(self, path: Path) -> None:
        """Check a bundle and copy it to the folder of listed bundles."""
        self._copy(IMPORTED, path, lambda: _free(self.folder, path.stem))

    def keep(self, candidate: Path, name: str) -> None:
        """Copy weights that were not accepted to the folder of listed bundles."""
        self._copy(KEPT, candidate, lambda: _free(self.folder, name))

    def _copy(self, what: str, source: Path, target: Callable[[], Path]) -> None:
        def work() -> Any:
            from ...training.bundle import copy_bundle

            return what, copy_bundle(source, target())

        self._files.ask(work)

    def _ask_where(self) -> None:
        assert self._bundle is not None
        options = QFileDialog.Option.DontConfirmOverwrite
        proposed = str(Path.home() / self._bundle.name)
        name, _ = QFileDialog.getSaveFileName(self, "Export fine-tuned weights", proposed, BUNDLES, options=options)
        if name:
            self.export_to(Path(name))

    def _ask_which(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Import fine-tuned weights", "", f"{BUNDLES};;All files (*)")
        if name:
            self.take_in(Path(name))


def _free(folder: Path, stem: str) -> Path:
    """Return a file name that is not in use in a folder."""
    number, path = 1, folder / f"{stem}.restorerwkv"
    while path.exists():
        number += 1
        path = folder / f"{stem} {number}.restorerwkv"
    return path


def as_bundle(weights: str | Path) -> Path | None:
    """Return the path of weights that are a bundle; None for other weights."""
    return Path(weights) if str(weights).endswith(".restorerwkv") else None
