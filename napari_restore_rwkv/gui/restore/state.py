"""The state of the Restore panel, without Qt; the options are in its form, and the result in its layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..job_state import CONTINUING, PAUSING, Activity, JobState, Message

BUSY = {
    Activity.RUNNING: "A restoration is in progress: wait for it, or press Cancel.",
    Activity.OPENING: "A scan is being opened: wait for it, or press Cancel.",
}


@dataclass(kw_only=True, eq=False)
class RestoreState(JobState):
    """The job of the Restore panel, and what is offered next.

    Attributes
    ----------
    whole_volume
        Whether the job restores a whole volume: a single slice has no steps worth a bar.
    steps
        Finished slices, and how many were requested.
    rest_remains
        Whether a slice was restored and the rest of its volume is offered next.
    restored
        The choices that the last result was made with; None once others were made.
    """

    whole_volume: bool = False
    steps: tuple[int, int] = (0, 1)
    rest_remains: bool = False
    restored: tuple[Any, ...] | None = None

    @property
    def can_cancel(self) -> bool:
        """Whether there is something to cancel."""
        return not self.is_idle and not self.is_stopping

    @property
    def shows_progress(self) -> bool:
        """Whether the line with the progress is shown; while a scan is opened, the message line is used instead."""
        return self.activity in (Activity.PREPARING, Activity.RUNNING)

    @property
    def shows_bar(self) -> bool:
        """Whether the progress bar is shown."""
        return self.shows_progress and self.whole_volume

    @property
    def busy(self) -> str:
        """Why nothing can be started now; "" if it can, or if it starts as soon as possible."""
        return BUSY.get(self.activity, "")

    def restore(self, activity: Activity, *, whole_volume: bool) -> None:
        """Start a restoration, or wait until it can be started."""
        self.whole_volume, self.steps = whole_volume, (0, 1)
        self.begin(activity)

    def step(self, done: int, total: int, text: str) -> None:
        """Note how many slices are finished."""
        self.steps = done, total
        if not (self.is_paused or self.is_stopping):
            self.progress = text

    def pause(self) -> None:
        """Note that the user wants to pause."""
        self.progress = PAUSING
        self.is_paused = True

    def note_pause(self, where: str) -> None:
        """Note that the job has paused at a slice."""
        if self.is_paused and not self.is_stopping:
            self.progress = f"paused · {where}"

    def resume(self) -> None:
        """Note that the job continues."""
        self.progress = CONTINUING
        self.is_paused = False

    def show_result(self, sentence: str, choices: tuple[Any, ...], *, rest_remains: bool) -> None:
        """Say how a restoration with these choices ended, and what is offered next."""
        self.message, self.restored, self.rest_remains = Message(sentence), choices, rest_remains

    def choose(self, choices: tuple[Any, ...]) -> None:
        """Clear what is outdated now that these choices are made."""
        self.rest_remains = False
        if self.message.is_error or self.restored not in (None, choices):
            self.restored, self.message = None, Message()
