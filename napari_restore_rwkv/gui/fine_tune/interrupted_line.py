"""A line for interrupted fine-tuning runs: the newest can be resumed or discarded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QPushButton, QWidget

from ..form_parts import beside, hint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...training.unfinished import Unfinished


class InterruptedLine(QWidget):
    """A sentence, Resume and Discard; hidden if nothing was interrupted."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words = hint()
        self.go_on, self.discard = QPushButton("Resume"), QPushButton("Discard")
        self.setLayout(beside(self.words, self.go_on, self.discard, stretch=(1, 0, 0)))
        self.hide()

    def show_interrupted(self, interrupted: Sequence[Unfinished]) -> None:
        """Offer to resume the first of these, which is the newest."""
        if interrupted:
            more = f" (and {len(interrupted) - 1} more)" if len(interrupted) > 1 else ""
            self.words.setText(f"Interrupted: training of {interrupted[0].began:%d %b, %H:%M}{more}")
        self.setVisible(bool(interrupted))
