"""The trained weights: the verdict on them, how much of the change to keep, and their bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from ...errors import RestoreError
from ..form_parts import dividing_line
from ..panels import back_to_proposed_weights, use_weights
from .blend_tools import BlendTools, Trained
from .bundle_tools import EXPORTED, IMPORTED, BundleTools, as_bundle
from .macro import FineTuneMacro
from .verdict_view import VerdictView

if TYPE_CHECKING:
    import napari.viewer

    from .job import Begun


class NewWeights(QWidget):
    """The lowest part of the panel.

    Attributes
    ----------
    verdict, blend, bundles
        Its three parts; the first two are hidden until a training has ended.
    macro
        The lines of Python that train the same again.
    record
        The last record of the training; empty before it has ended.
    said
        Emitted with a sentence for the message line.
    failed
        Emitted with an error.
    back
        Emitted when the user returns to the shipped weights.
    """

    said, failed, back = Signal(str), Signal(object), Signal()

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.record: dict[str, Any] = {}
        self._begun: Begun | None = None
        self.verdict, self.blend, self.bundles = VerdictView(), BlendTools(viewer), BundleTools()
        self.macro = FineTuneMacro()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        for widget in (self.verdict, self.macro, self.blend, dividing_line(), self.bundles):
            rows.addWidget(widget)
        self.hide_results()
        for part in (self.blend, self.bundles):
            part.failed.connect(self._on_failed)
        self.macro.said.connect(self.said)
        self.verdict.wanted.connect(self.use)
        self.verdict.wanted_anyway.connect(self.keep_anyway)
        self.blend.saved.connect(lambda path: self.said.emit(f"Saved as {path}"))
        self.bundles.copied.connect(self._on_copied)
        self.bundles.back.connect(self._on_back)

    def offer(self, weights: str | Path) -> None:
        """Offer weights for export if they are a bundle."""
        self.bundles.offer(as_bundle(weights))

    def hide_results(self) -> None:
        """Hide the results of an earlier training."""
        for part in (self.verdict, self.blend):
            part.hide()
        self.blend.set_trained(None)

    def expect(self, begun: Begun) -> None:
        """Prepare for the end of a training that has started."""
        self._begun, self.record = begun, {}
        self.hide_results()
        self.bundles.setEnabled(False)

    def show_ended(self, record: dict[str, Any]) -> None:
        """Show the verdict on a training that has ended; one that failed has none."""
        self.bundles.setEnabled(True)
        if record["kind"] != "done":
            return
        begun = self._begun
        assert begun is not None
        self.record = record
        self.macro.end()
        self.verdict.show_outcome(record, begun.mode)
        self.verdict.show()
        new = record["bundle"] or record["candidate"]
        if new is not None:
            self.blend.set_trained(Trained(begun.weights, Path(new), begun.layer, begun.axis, begun.task))
            self.blend.show()
        self.offer(record["bundle"] or "")

    def use(self) -> None:
        """Choose the new weights in the Restore panel."""
        bundle = self.record.get("bundle")
        if bundle is None or self._begun is None:
            return
        self.blend.preview.setChecked(False)
        try:
            use_weights(Path(bundle), self._begun.task, self._begun.layer)
        except RestoreError as error:
            self.failed.emit(error)

    def keep_anyway(self) -> None:
        """Save and list new weights that were not accepted."""
        assert self._begun is not None
        self.verdict.keep_anyway.setEnabled(False)
        self.bundles.keep(Path(self.record["candidate"]), f"{self._begun.task}-{self._begun.folder.name}")

    def _on_failed(self, error: Exception) -> None:
        self.verdict.keep_anyway.setEnabled(True)
        self.failed.emit(error)

    def _on_copied(self, what: str, path: Path) -> None:
        if what == EXPORTED:
            self.said.emit(f"Exported as {path}")
        elif what == IMPORTED:
            self.said.emit(f"{path.stem} was checked, and is now listed under the models of its task.")
        else:
            self.record = {**self.record, "bundle": str(path)}
            self.verdict.say_saved("Saved, and listed as not accepted.")
            self.bundles.offer(path)

    def _on_back(self) -> None:
        self.back.emit()
        try:
            back_to_proposed_weights()
        except RestoreError as error:
            self.failed.emit(error)
            return
        self.said.emit("The shipped weights are chosen again.")
