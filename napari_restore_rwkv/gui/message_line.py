"""The message line of a panel."""

from __future__ import annotations

from .form_parts import WrappedLine, warning_colour


class MessageLine(WrappedLine):
    """A sentence, in the colour of warnings if it is an error."""

    def say(self, text: str) -> None:
        """Show a sentence; "" clears the line."""
        self.setStyleSheet("")
        self.setText(text)

    def warn(self, sentence: str) -> None:
        """Show an error."""
        self.setStyleSheet(warning_colour())
        self.setText(sentence)
