"""What the Restore and the Fine-tune panel share: a dock, one line of messages, and errors with their details."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import ErrorNotification, notification_manager, show_warning

from ..errors import RestoreError
from .docking import DockedPanel
from .message_line import MessageLine
from .wording import sentence_of

if TYPE_CHECKING:
    import napari.viewer
    from qtpy.QtWidgets import QWidget

RESEARCH_USE = "Research use only. Not for diagnosis."


class JobPanel(DockedPanel):
    """A docked panel that starts jobs and reports how they end.

    Attributes
    ----------
    message
        The message line, for the panel to lay out; hidden while it is empty.
    """

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(viewer, parent)
        self._viewer = viewer
        # Hidden until it has a place: a label without a parent is a window of its own.
        self.message = MessageLine()
        self.message.hide()

    def say(self, text: str) -> None:
        """Show a sentence in the message line; "" clears it."""
        self.message.say(text)
        self.message.setVisible(bool(text))

    def fail(self, error: Exception, *, is_shown: bool = False) -> None:
        """Show an error as one sentence, here unless the panel shows it already, and as a notification.

        The notification of an unexpected error has the details.
        """
        sentence = sentence_of(error)
        self.message.warn("" if is_shown else sentence)
        self.message.setVisible(not is_shown)
        if isinstance(error, RestoreError):
            show_warning(sentence)
        else:
            notification_manager.dispatch(ErrorNotification(error))
