"""One run of a restoration: its options, its progress, and how both are put into words."""

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
    """A run and its progress.

    Attributes
    ----------
    options, result, worker
        The options, the result that is filled, and the worker in the background.
    voxels, placed
        The data and the position of the layer at the start.
    replaces
        The earlier result whose layers will show this one; None if layers are added.
    index
        The requested slice; None for the whole volume.
    done_before
        How many slices were finished before this run.
    started, pace
        When it started, shifted by its pauses, and the speed of its slices.
    undrawn
        Regions that are finished and not drawn yet.
    reported
        The last progress that was reported: slices finished in this run, and a text if it was only checking.
    has_ended, deleted, error
        Whether it has ended, and the layer whose deletion or the error that ended it.
    """

    options: RestoreOptions
    result: RestorationResult
    worker: StepsWorker
    voxels: Any
    placed: dict[str, Any]
    replaces: tuple[Run, Comparison] | None = None
    index: int | None = None
    done_before: int = 0
    started: float = field(default_factory=time.monotonic)
    pace: Pace = field(default_factory=Pace)
    undrawn: list[Region] = field(default_factory=list)
    reported: tuple[int, str] | None = None
    has_ended: bool = False
    deleted: str = ""
    error: Exception | None = None
    _paused_at: float | None = None

    @property
    def requested(self) -> int:
        """How many slices were requested."""
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
        """Return which slice is being restored."""
        done_now = self.reported[0] if self.reported is not None else 0
        return f"slice {min(self.done_before + done_now + 1, self.requested)} of {self.requested}"

    def final_sentence(self) -> str:
        """Return a sentence that says how it ended without an error."""
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
        whole = f"{slices} slice{'s' * (slices != 1)}"
        if file:
            moved = "" if is_at_its_place(result.scan, self.options.layer) else f" {FILE_STAYS}"
            return f"{whole} restored in {seconds}, checked and saved in {file}.{moved}"
        return f"{whole} restored in {seconds}."


def slices_to_do(options: RestoreOptions, result: RestorationResult, displayed: int | None) -> list[int]:
    """Return the requested slices; `ScanError` if nothing is left to do, or the slider runs along another axis."""
    if options.region == "volume":
        if result.remaining:
            return result.remaining
        raise ScanError(
            f"All {result.slices} slices are already restored with these choices; delete the layer to redo them."
        )
    if displayed is None:
        raise ScanError(
            f"Slices are restored along {AXES[result.axis]}, and the slider runs along another axis: choose the whole "
            "volume, or turn the axes (Ctrl+E)."
        )
    if displayed in result.finished:
        raise ScanError(
            f"Slice {displayed} is already restored with these choices: scroll on, or choose the whole volume."
        )
    return [displayed]
