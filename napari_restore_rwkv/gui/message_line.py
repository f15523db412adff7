"""The message line of a panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .form_parts import WrappedLine, warning_colour

if TYPE_CHECKING:
    from .job_state import Message


class MessageLine(WrappedLine):
    """A sentence, in the colour of warnings if it is an error; hidden while it is empty."""

    def __init__(self) -> None:
        super().__init__()
        # Until it has a place in a layout, too: a label without a parent is a window of its own.
        self.hide()

    def show_message(self, message: Message) -> None:
        """Show a message."""
        self.setStyleSheet(warning_colour() if message.is_error else "")
        self.setText(message.text)
        self.setVisible(bool(message.text))
