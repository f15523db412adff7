"""One press of Restore: what was asked for, how far it is, and the words for it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...errors import ScanError
from ...scans.scan import AXES
from ..layers import is_at_its_place
from ..wording import CHECKS, duration, words_of
from .pace import Pace

if TYPE_CHECKING:
    from typing import Any

    from ...progress import Progress
    from ..compare.comparison import Comparison
    from ..mailbox import Region
    from ..options import RestoreOptions
    from ..worker import StepsWorker
    from .result import RestorationResult


FILE_STAYS = "The scan was moved since; the file has its position from when the job was started."


@dataclass(slots=True, eq=False)
class Run:
    """A run and its state.

    Attributes
    ----------
    options, result, worker
        What was asked for, what it gives, and the thread.
    voxels, placed
        The layer's data, and where it lay, at the start.
    replaces
        What was shown before, where its layers are to show this result.
    index
        The slice that was asked for; None for the whole volume.
    already
        Slices that were done before.
    started, pace
        When it began, without pauses, and how fast slices come.
    unseen
        Regions that are finished and not drawn yet.
    told
        What was said of the progress last: slices done in this run, and words if it only checked something.
    over, deleted, error
        Whether it has ended, which layer's removal ended it, and which error.
    """

    options: RestoreOptions
    result: RestorationResult
    worker: StepsWorker
    voxels: Any
    placed: dict[str, Any]
    replaces: tuple[Run, Comparison] | None = None
    index: int | None = None
    already: int = 0
    started: float = field(default_factory=time.monotonic)
    pace: Pace = field(default_factory=Pace)
    unseen: list[Region] = field(default_factory=list)
    told: tuple[int, str] | None = None
    over: bool = False
    deleted: str = ""
    error: Exception | None = None
    _paused_at: float | None = None

    @property
    def asked(self) -> int:
        """Slices asked for."""
        return 1 if self.options.region == "slice" else self.result.slices

    def pause(self) -> None:
        """Pause after the current step."""
        self.worker.pause()
        self._paused_at = self._paused_at or time.monotonic()

    def resume(self) -> None:
        """Continue; the pause is not counted as time spent."""
        if self._paused_at is not None:
            paused = time.monotonic() - self._paused_at
            self.started += paused
            self.pace.skip(paused)
            self._paused_at = None
        self.worker.resume()

    def line(self, progress: Progress) -> str:
        """Return a line such as ``"slice 7 of 20 · 14 s left"``."""
        if progress.phase in CHECKS:
            return words_of(progress)
        if self.options.region == "slice":
            return "this slice ..."
        left = self.pace.seconds_left(progress.total)
        return self.where() if left is None else f"{self.where()} · {duration(left)} left"

    def where(self) -> str:
        """Return which slice is worked on."""
        done_now = self.told[0] if self.told is not None else 0
        return f"slice {min(self.already + done_now + 1, self.asked)} of {self.asked}"

    def last_words(self) -> str:
        """Return the sentence that tells how it ended, without an error."""
        result = self.result
        done, slices = result.slices - len(result.remaining), result.slices
        if self.deleted:
            return f"Stopped, because the {self.deleted} was deleted."
        file = result.output.name if result.output else ""
        if self.worker.abort_requested:
            if not done and file:
                return "Cancelled before the first four slices were saved; Restore starts again."
            if not done:
                return "Cancelled; no slice was finished yet."
            where = f"are saved in {file}" if file else "kept"
            return f"{done} of {slices} slices {where}; Restore continues."
        seconds = duration(time.monotonic() - self.started)
        if self.options.region == "slice":
            return f"This slice is restored ({seconds})."
        if file:
            moved = "" if is_at_its_place(result.scan, self.options.layer) else f" {FILE_STAYS}"
            return f"{slices} slices restored in {seconds}, checked and saved in {file}.{moved}"
        return f"{slices} slices restored in {seconds}."


def slices_to_do(options: RestoreOptions, result: RestorationResult, looked_at: int | None) -> list[int]:
    """Return the slices that are asked for; `ScanError` where there is nothing to do, or not along this axis."""
    if options.region == "volume":
        if result.remaining:
            return result.remaining
        raise ScanError(
            f"All {result.slices} slices are already restored with these choices; delete the layer to redo them."
        )
    if looked_at is None:
        raise ScanError(
            f"Slices are restored along {AXES[result.axis]}, and the slider runs along another axis: choose the whole "
            "volume, or turn the axes (Ctrl+E)."
        )
    if looked_at in result.finished:
        raise ScanError(
            f"Slice {looked_at} is already restored with these choices: scroll on, or choose the whole volume."
        )
    return [looked_at]
