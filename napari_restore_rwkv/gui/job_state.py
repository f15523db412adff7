"""What goes on in a panel that runs jobs, apart from its widgets and without Qt.

The widgets connect to the events of a state and show it; what the user does, and what a job reports, changes the state
only. A field that is set to the value that it has already emits nothing, so a widget may write back what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar

from psygnal import SignalGroupDescriptor

GETTING_READY, PAUSING, CONTINUING, STOPPING = "getting ready ...", "pausing ...", "continuing ...", "stopping ..."


class Activity(Enum):
    """What a panel is doing."""

    IDLE = auto()
    # Waiting for what a job needs before its first step.
    PREPARING = auto()
    # Opening the scan of an unfinished job.
    OPENING = auto()
    RUNNING = auto()


@dataclass(frozen=True, slots=True)
class Message:
    """What the message line shows.

    Attributes
    ----------
    text
        A sentence; "" shows nothing.
    is_error
        Whether something was refused or failed: another choice makes it outdated.
    """

    text: str = ""
    is_error: bool = False


@dataclass(kw_only=True, eq=False)
class JobState:
    """What the Restore and the Fine-tune panel have in common.

    Attributes
    ----------
    events
        A psygnal signal for each field; connecting to `events` itself connects to all of them.
    activity
        What the panel is doing.
    is_paused, is_stopping
        Whether the job is paused, and whether it was asked to stop; both only while it runs.
    progress
        The line beside the progress bar.
    message
        The message line.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()
    activity: Activity = Activity.IDLE
    is_paused: bool = False
    is_stopping: bool = False
    progress: str = ""
    message: Message = Message()

    @property
    def is_idle(self) -> bool:
        """Whether something can be chosen and started."""
        return self.activity is Activity.IDLE

    @property
    def can_pause(self) -> bool:
        """Whether the job can be paused, or continued after a pause."""
        return self.activity is Activity.RUNNING and not self.is_stopping

    def begin(self, activity: Activity) -> None:
        """Start something; earlier messages are outdated."""
        self.message = Message()
        self.progress = GETTING_READY
        self.activity = activity

    def stop(self, progress: str = STOPPING) -> None:
        """Note that the user wants to stop what is going on."""
        self.progress = progress
        self.is_stopping = True

    def end(self) -> None:
        """Note that nothing is going on any more."""
        self.is_paused = self.is_stopping = False
        self.activity = Activity.IDLE
