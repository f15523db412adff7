"""One restoration at a time: started, shown slice by slice, cancelled, continued."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from ..errors import RestoreError, ScanError
from ..scans.scan import AXES
from .comparison import Comparison, add_result_layers, bring_into_view, displayed_slice
from .layers import layer_to_scan
from .result import RestorationResult, restoration_steps
from .worker import StepsWorker

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from ..progress import Progress
    from ..scans.scan import Scan
    from .options import RestoreOptions

REFRESH_EVERY_MS = 250
WAIT_AT_CLOSING_S = 5.0


@dataclass(slots=True, eq=False)
class _Run:
    """One press of Restore: what was asked for, and how far it is."""

    options: RestoreOptions
    result: RestorationResult
    worker: StepsWorker
    voxels: Any
    already: int
    started: float = field(default_factory=time.monotonic)
    unseen: list[tuple[slice, slice, slice]] = field(default_factory=list)
    told: int | None = None
    over: bool = False
    deleted: str = ""
    error: Exception | None = None

    @property
    def asked(self) -> int:
        return 1 if self.options.region == "slice" else self.result.slices


class RestoreJob(QObject):
    """Runs what a filled-in form asks for, in a background thread, and shows the slices as they come.

    Signals
    -------
    progressed(done, total, text)
        Slices finished and asked for, and a line such as ``"slice 7 of 20 · 14 s left"``.
    shown(comparison)
        The layers of a new result are in the viewer.
    ended(sentence)
        The job is over: done, cancelled, or its layer was deleted.
    failed(error)
        The job is over with an exception.
    """

    progressed = Signal(int, int, str)
    shown = Signal(object)
    ended = Signal(str)
    failed = Signal(object)

    def __init__(self, viewer: ViewerModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.comparison: Comparison | None = None
        self._viewer = viewer
        self._run: _Run | None = None
        self._closed = False
        self._last_refresh = 0.0
        self._timer = QTimer(self)
        self._timer.setInterval(REFRESH_EVERY_MS)
        self._timer.timeout.connect(self._refresh_if_due)
        viewer.dims.events.connect(self._follow_the_eye)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def running(self) -> bool:
        """Whether a restoration is under way."""
        return self._run is not None and not self._run.over

    @property
    def rest_remains(self) -> bool:
        """Whether the last job restored the displayed slice of a volume that is not done yet."""
        run = self._run
        return run is not None and run.options.region == "slice" and 0 < len(run.result.finished) < run.result.slices

    @property
    def modality_differs(self) -> bool:
        """Whether the network that was loaded last is made for another modality than the scan's."""
        result = self._run.result if self._run is not None else None
        return result is not None and result.made_for is not None and result.made_for != result.scan.modality

    def start(self, options: RestoreOptions) -> None:
        """Start, or continue what the same choices began.

        Raises
        ------
        ScanError
            The layer holds no scan, or nothing is left to do.
        """
        scan = layer_to_scan(options.layer, options.time_index)
        result = self._continued(options)
        if result is None:
            result = RestorationResult(scan, restoration_axis(scan))
        bring_into_view(self._viewer, options.layer)
        looked_at = displayed_slice(self._viewer, options.layer, result.axis, result.slices)
        indices = _slices_to_do(options, result, looked_at)
        if self._run is None or result is not self._run.result:
            self.comparison = None
        worker = StepsWorker(restoration_steps(options, result, indices, looked_at), in_turn=True)
        worker.displayed = looked_at
        worker.progressed.connect(self._on_progress)
        worker.errored.connect(self._on_error)
        worker.finished.connect(self._on_finished)
        already = 0 if options.region == "slice" else len(result.finished)
        self._run = _Run(options, result, worker, options.layer.data, already)
        worker.start()
        self._timer.start()

    def cancel(self) -> None:
        """Stop soon; finished slices stay."""
        if self._run is not None:
            self._run.worker.quit()

    def shut_down(self) -> None:
        """Stop at once and wait for the thread: the panel or the viewer is going away."""
        if self._closed:
            return
        self._closed = True
        self._timer.stop()
        self._viewer.dims.events.disconnect(self._follow_the_eye)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        if self._run is not None and not self._run.over:
            self._run.over = True
            self._run.worker.join(WAIT_AT_CLOSING_S)

    def _continued(self, options: RestoreOptions) -> RestorationResult | None:
        """Return the result that the same choices began, as long as its layer is there and the scan is the same."""
        run = self._run
        if run is None or self.comparison is None or self.comparison.restored not in self._viewer.layers:
            return None
        same = options.continues(run.options) and run.voxels is options.layer.data
        return run.result if same else None

    def _on_progress(self, progress: Progress) -> None:
        run = self._run
        if run is None or run.over or (self.comparison is None and not self._show(run)):
            return
        # When what was just shown has been drawn.
        QTimer.singleShot(0, run.worker.go_on)
        if progress.region is not None:
            run.unseen.append(progress.region)
            self._refresh_if_due()
        # Not at every step: each new word has the whole window drawn, and the time left is known per slice only.
        if progress.done != run.told:
            run.told = progress.done
            self.progressed.emit(run.already + progress.done, run.asked, _progress_line(run, progress.done))

    def _show(self, run: _Run) -> bool:
        layer = run.options.layer
        if layer not in self._viewer.layers:
            return False
        name = f"{layer.name} frame {run.options.time_index}" if layer.ndim == 4 else layer.name
        self.comparison = add_result_layers(self._viewer, layer, run.result, name)
        self.shown.emit(self.comparison)
        return True

    def _refresh_if_due(self) -> None:
        due = time.monotonic() - self._last_refresh >= REFRESH_EVERY_MS / 1000
        run = self._run
        if run is not None and due and any(self._is_looked_at(run, region) for region in run.unseen):
            self._refresh(run)

    def _is_looked_at(self, run: _Run, region: tuple[slice, slice, slice]) -> bool:
        layer = run.options.layer
        if layer.ndim == 2 or self._viewer.dims.ndisplay == 3:
            return True
        for axis, along in enumerate(region):
            index = displayed_slice(self._viewer, layer, axis, run.result.scan.shape[axis])
            if index is not None and not along.start <= index < along.stop:
                return False
        return True

    def _refresh(self, run: _Run, thumbnail: bool = False) -> None:
        if self.comparison is None:
            return
        run.unseen.clear()
        self.comparison.fit_limits()
        for layer in (self.comparison.restored, self.comparison.difference):
            if layer in self._viewer.layers:
                layer.refresh(thumbnail=thumbnail, extent=False, highlight=False)
        self._last_refresh = time.monotonic()

    def _follow_the_eye(self, event: Any = None) -> None:
        run = self._run
        if run is not None and not run.over:
            run.worker.displayed = displayed_slice(self._viewer, run.options.layer, run.result.axis, run.result.slices)

    def _on_removed(self, event: Any) -> None:
        run = self._run
        if run is None or run.over:
            return
        if event.value is run.options.layer:
            run.deleted = "scan"
        elif self.comparison is not None and event.value is self.comparison.restored:
            run.deleted = "restored layer"
        if run.deleted:
            run.worker.quit()

    def _on_error(self, error: Exception) -> None:
        if self._run is not None:
            self._run.error = error

    def _on_finished(self) -> None:
        run = self._run
        if run is None or run.over:
            return
        run.over = True
        self._timer.stop()
        if self.comparison is not None:
            self.comparison.tell_provenance()
            self._refresh(run, thumbnail=True)
        if run.error is not None:
            self.failed.emit(run.error)
        else:
            self.ended.emit(_last_words(run))


def restoration_axis(scan: Scan) -> int:
    """Return the array axis that the scan's slices were acquired along."""
    from ..restoration.plan import choose_axis

    return choose_axis(scan)


def sentence_of(error: Exception) -> str:
    """Return what the person reads of an error: our own words as they are, others with what they are."""
    if isinstance(error, RestoreError):
        return str(error)
    words = " ".join(str(error).split()) or "no further words"
    return f"The restoration stopped with an unexpected {type(error).__name__}: {words}"


def _slices_to_do(options: RestoreOptions, result: RestorationResult, looked_at: int | None) -> list[int]:
    if options.region == "volume":
        if result.remaining:
            return result.remaining
        raise ScanError(
            f"All {result.slices} slices are restored with these choices; delete the restored layer to do them again."
        )
    if looked_at is None:
        raise ScanError(
            f"Slices are restored along {AXES[result.axis]}, and the slider runs along another axis: choose the whole "
            "volume, or turn the axes (Ctrl+E)."
        )
    if looked_at in result.finished:
        raise ScanError(
            f"Slice {looked_at + 1} of {result.slices} is restored with these choices already: scroll on, or choose "
            "the whole volume."
        )
    return [looked_at]


def _progress_line(run: _Run, done_now: int) -> str:
    if run.options.region == "slice":
        return "this slice ..."
    done = run.already + done_now
    text = f"slice {min(done + 1, run.asked)} of {run.asked}"
    if not done_now:
        return text
    return f"{text} · {_duration((time.monotonic() - run.started) / done_now * (run.asked - done))} left"


def _last_words(run: _Run) -> str:
    done, slices = len(run.result.finished), run.result.slices
    if run.deleted:
        return f"Stopped, because the {run.deleted} was deleted."
    if run.worker.abort_requested:
        kept = f"{done} of {slices} slices kept; Restore continues."
        return kept if done else "Cancelled; no slice was finished yet."
    seconds = _duration(time.monotonic() - run.started)
    if run.options.region == "slice":
        return f"This slice is restored ({seconds})."
    return f"{slices} slices restored in {seconds}."


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
