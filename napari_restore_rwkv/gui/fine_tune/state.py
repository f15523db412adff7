"""The state of the Fine-tune panel, without Qt; the options are in its form."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...training.options import Weights
from ..job_state import CONTINUING, PAUSING, Activity, JobState, Message
from ..wording import duration

if TYPE_CHECKING:
    from ...training.unfinished import Unfinished
    from .choice import Report
    from .job import Begun

JUDGING = "stopping: the best weights are being evaluated ..."
_WHOSE = {Weights.OLD: "with the old weights", Weights.CURRENT: "so far", Weights.NEW: "with the new weights"}


@dataclass(kw_only=True, eq=False)
class FineTuneState(JobState):
    """The training of the Fine-tune panel, its result, and what was said before it.

    Attributes
    ----------
    report
        What was found out about the current choice; None before the first check.
    interrupted
        Interrupted trainings that can be resumed, the newest first.
    begun
        The training whose curves are shown; None if there is none.
    record
        Its last report of progress, see `training.process`; empty before the first.
    outcome
        Its last record once it is done; empty before.
    is_saving, saved
        Whether new weights that were not accepted are being saved anyway, and where they were saved.
    choices
        The scans and the task that message, curves and verdict are about.
    """

    report: Report | None = None
    interrupted: tuple[Unfinished, ...] = ()
    begun: Begun | None = None
    record: dict[str, Any] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)
    is_saving: bool = False
    saved: Path | None = None
    choices: tuple[Any, ...] = ()

    @property
    def can_start(self) -> bool:
        """Whether a training can start: none is in progress, and nothing that the last check found forbids it."""
        return self.is_idle and (self.report is None or not self.report.refusal)

    @property
    def steps(self) -> tuple[int, int]:
        """The current step, and how many there will be."""
        if self.record:
            return self.record["step"], self.record["total"]
        return 0, self.begun.steps if self.begun is not None else 1

    @property
    def words(self) -> str:
        """The progress in a few words: what the user asked for, until the training reports again."""
        if self.progress or not self.record:
            return self.progress
        words = _words_of(self.record)
        if self.record["seconds_left"]:
            words += f" · {duration(self.record['seconds_left'])} left"
        if self.record["best_step"]:
            words += f" · best so far: step {self.record['best_step']}"
        return words

    @property
    def bundle(self) -> Path | None:
        """The new weights if they are listed: they were accepted, or saved anyway."""
        accepted = self.outcome.get("bundle")
        return self.saved or (None if accepted is None else Path(accepted))

    def train(self, begun: Begun, choices: tuple[Any, ...]) -> None:
        """Start a training, or resume one."""
        self._clear_result()
        self.interrupted, self.choices, self.begun = (), choices, begun
        self.begin(Activity.PREPARING)

    def note(self, record: dict[str, Any]) -> None:
        """Note a record of the running training."""
        match record["kind"]:
            case "progress":
                self.record = record
                if not self.is_paused:
                    self.progress = ""
                if self.activity is Activity.PREPARING:
                    self.activity = Activity.RUNNING
            case "paused":
                self.progress = "paused at step {} of {}".format(*self.steps)
                self.is_paused = True
            case "resumed":
                self.progress = CONTINUING
                self.is_paused = False

    def pause(self) -> None:
        """Note that the user wants to pause; the training reports when it does."""
        self.progress = PAUSING

    def finish(self, record: dict[str, Any]) -> None:
        """Note the last record of a training."""
        self.end()
        if record["kind"] == "done":
            self.outcome = record

    def choose(self, choices: tuple[Any, ...]) -> None:
        """Clear the message and the result if they are about other choices."""
        if self.is_idle and choices != self.choices:
            self.choices, self.message = choices, Message()
            self._clear_result()

    def _clear_result(self) -> None:
        self.begun, self.saved, self.is_saving = None, None, False
        self.record, self.outcome = {}, {}


def _words_of(record: dict[str, Any]) -> str:
    """Describe a step, or the progress of an evaluation, in a few words."""
    scoring = record["scoring"]
    if scoring is None:
        return f"step {record['step']} of {record['total']}"
    return f"held-out slice {scoring['done']} of {scoring['total']} {_WHOSE[Weights(scoring['weights'])]}"
