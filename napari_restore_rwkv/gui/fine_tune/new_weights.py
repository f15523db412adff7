"""The trained weights: the verdict on them, how much of the change to keep, and their bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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

    from .state import FineTuneState


class NewWeights(QWidget):
    """The lowest part of the panel.

    Attributes
    ----------
    verdict, blend, bundles
        Its three parts; the first two are hidden until a training has ended.
    macro
        The lines of Python that train the same again.
    said
        Emitted with a sentence for the message line.
    failed
        Emitted with an error.
    back
        Emitted when the user returns to the shipped weights.
    """

    said, failed, back = Signal(str), Signal(object), Signal()

    def __init__(self, viewer: napari.viewer.Viewer, state: FineTuneState) -> None:
        super().__init__()
        self._state = state
        self.verdict, self.blend, self.bundles = VerdictView(), BlendTools(viewer), BundleTools()
        self.macro = FineTuneMacro()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        for widget in (self.verdict, self.macro, self.blend, dividing_line(), self.bundles):
            rows.addWidget(widget)
        state.events.outcome.connect(self._show_outcome)
        state.events.connect(self._show_choices)
        self._show_outcome()
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

    def use(self) -> None:
        """Choose the new weights in the Restore panel."""
        bundle, begun = self._state.bundle, self._state.begun
        if bundle is None or begun is None:
            return
        self.blend.preview.setChecked(False)
        try:
            use_weights(bundle, begun.task, begun.layer)
        except RestoreError as error:
            self.failed.emit(error)

    def keep_anyway(self) -> None:
        """Save and list new weights that were not accepted."""
        begun = self._state.begun
        assert begun is not None
        self._state.is_saving = True
        self.bundles.keep(Path(self._state.outcome["candidate"]), f"{begun.task}-{begun.folder.name}")

    def _show_outcome(self) -> None:
        """Show the verdict on a training that is done; one that failed has none."""
        outcome, begun = self._state.outcome, self._state.begun
        new = outcome.get("bundle") or outcome.get("candidate")
        self.verdict.setVisible(bool(outcome))
        self.blend.setVisible(new is not None)
        if not outcome or begun is None:
            self.blend.set_trained(None)
            return
        self.macro.end()
        self.verdict.show_outcome(outcome, begun.mode)
        if new is not None:
            self.blend.set_trained(Trained(begun.weights, Path(new), begun.layer, begun.axis, begun.task))
        self.bundles.offer(self._state.bundle)

    def _show_choices(self) -> None:
        state = self._state
        self.bundles.setEnabled(state.is_idle)
        self.verdict.show_choices(
            accepted=state.outcome.get("accepted", False),
            saved=state.saved is not None,
            saving=state.is_saving,
            possible=state.outcome.get("candidate") is not None,
        )

    def _on_failed(self, error: Exception) -> None:
        self._state.is_saving = False
        self.failed.emit(error)

    def _on_copied(self, what: str, path: Path) -> None:
        if what == EXPORTED:
            self.said.emit(f"Exported as {path}")
        elif what == IMPORTED:
            self.said.emit(f"{path.stem} was checked, and is now listed under the models of its task.")
        else:
            self._state.is_saving, self._state.saved = False, path
            self.bundles.offer(path)

    def _on_back(self) -> None:
        self.back.emit()
        try:
            back_to_proposed_weights()
        except RestoreError as error:
            self.failed.emit(error)
            return
        self.said.emit("The shipped weights are chosen again.")
