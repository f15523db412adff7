"""What the Restore and the Fine-tune panel share: a dock, one line of messages, and errors with their details."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import ErrorNotification, notification_manager, show_warning

from ..errors import RestoreError
from .docking import DockedPanel
from .job_state import Message
from .message_line import MessageLine
from .wording import sentence_of

if TYPE_CHECKING:
    import napari.viewer
    from qtpy.QtWidgets import QWidget

    from .job_state import JobState

RESEARCH_USE = "Research use only. Not for diagnosis."


class JobPanel(DockedPanel):
    """A docked panel that starts jobs and reports how they end.

    Attributes
    ----------
    state
        What goes on in the panel; its widgets follow it.
    message
        The message line, for the panel to lay out.
    """

    def __init__(self, viewer: napari.viewer.Viewer, state: JobState, parent: QWidget | None = None) -> None:
        super().__init__(viewer, parent)
        self._viewer = viewer
        self.state = state
        self.message = MessageLine()
        state.events.message.connect(self.message.show_message)

    def say(self, text: str) -> None:
        """Show a sentence in the message line; "" clears it."""
        self.state.message = Message(text)

    def fail(self, error: Exception, *, is_shown: bool = False) -> None:
        """Show an error as one sentence, here unless the panel shows it already, and as a notification.

        The notification of an unexpected error has the details.
        """
        sentence = sentence_of(error)
        self.state.message = Message("" if is_shown else sentence, is_error=True)
        if isinstance(error, RestoreError | OSError):
            show_warning(sentence)
        else:
            notification_manager.dispatch(ErrorNotification(error))
