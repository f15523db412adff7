"""A line for interrupted fine-tuning runs: the newest can be resumed or discarded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QPushButton, QWidget

from ..form_parts import beside, hint

if TYPE_CHECKING:
    from ...training.unfinished import Unfinished


class InterruptedLine(QWidget):
    """A sentence, Resume and Discard; hidden if nothing was interrupted.

    Attributes
    ----------
    interrupted
        The interrupted runs, the newest first.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.interrupted: list[Unfinished] = []
        self.words = hint()
        self.go_on, self.discard = QPushButton("Resume"), QPushButton("Discard")
        self.setLayout(beside(self.words, self.go_on, self.discard, stretch=(1, 0, 0)))
        self.hide()

    def show_interrupted(self, interrupted: list[Unfinished]) -> None:
        """Offer to resume the newest of these."""
        self.interrupted = interrupted
        if interrupted:
            more = f" (and {len(interrupted) - 1} more)" if len(interrupted) > 1 else ""
            self.words.setText(f"Interrupted: training of {interrupted[0].began:%d %b, %H:%M}{more}")
        self.setVisible(bool(interrupted))
