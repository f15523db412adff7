"""One restoration at a time: started, shown slice by slice, paused, cancelled, continued."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from ...errors import ScanError
from ...restoration.detail import Blend
from ...scans.slice_axis import choose_slice_axis
from ..compare.comparison import Comparison, add_result_layers, bring_into_view, displayed_slice
from ..layer_geometry import spatial_transforms
from ..layers import frame_name, layer_to_scan
from ..wording import CHECKS
from ..worker import StepsWorker
from .result import RestorationResult, ResultInMemory
from .room import does_not_fit, why_a_file
from .run import Run, slices_to_do
from .shown_results import ShownResults
from .steps import restoration_steps
from .stored_result import StoredResult

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel

    from ...scans.scan import Scan
    from ..mailbox import News, Region
    from ..options import RestoreOptions

REFRESH_EVERY_MS = 250
WAIT_AT_CLOSING_S = 5.0


class RestoreJob(QObject):
    """Runs what a filled-in form asks for, in a background thread, and shows the slices as they come.

    Signals
    -------
    progressed(done, total, text)
        Slices finished and asked for, and a line such as ``"slice 7 of 20 · 14 s left"``.
    paused()
        The job stands still.
    shown(comparison)
        The layers of a new result are in the viewer.
    ended(sentence)
        The job is over: done, cancelled, or its layer was deleted.
    failed(error)
        The job is over with an exception.

    Attributes
    ----------
    comparison
        The layers of the result that is shown; None where there is none.
    clock
        Returns seconds.
    """

    progressed = Signal(int, int, str)
    paused = Signal()
    shown = Signal(object)
    ended = Signal(str)
    failed = Signal(object)

    def __init__(self, viewer: ViewerModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._results = ShownResults(viewer)
        self._run: Run | None = None
        self.comparison: Comparison | None = None
        if (newest := self._results.newest()) is not None:
            self._run, self.comparison = newest
        self._closed = False
        self.clock = time.monotonic
        self._last_refresh = self._last_told = 0.0
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
    def where(self) -> str:
        """Which slice is worked on, such as ``"slice 7 of 20"``."""
        return self._run.where() if self._run is not None else ""

    @property
    def output(self) -> Path | None:
        """The folder of the result that is shown, and that Restore goes on with; None where there is none."""
        return self._run.result.output if self._run is not None and self._is_shown() else None

    @property
    def is_saved(self) -> bool:
        """Whether the result that is shown is complete in its folder."""
        return self.output is not None and self._run is not None and not self._run.result.remaining

    @property
    def rest_remains(self) -> bool:
        """Whether the last job restored the displayed slice of a volume that is not done yet."""
        run = self._run
        return run is not None and run.options.region == "slice" and 0 < len(run.result.finished) < run.result.slices

    @property
    def completed(self) -> tuple[RestoreOptions, int, int | None, float, Blend] | None:
        """What `as_python` needs to tell of the last run; None if that did not do all that was asked for."""
        run = self._run
        if run is None or run.error is not None or run.deleted or run.worker.abort_requested:
            return None
        mixed = self.comparison.blend if self.comparison is not None else Blend()
        applied = run.result.applied
        if mixed.is_even and not mixed.coarse:
            return run.options, run.result.axis, run.index, mixed.strength * applied, Blend()
        return run.options, run.result.axis, run.index, applied, mixed

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
            The layer holds no scan, its result does not fit into memory, or nothing is left to do.
        """
        before = self._results.begun_with(options)
        goes_on = before is not None and _goes_on(before[0].result, options)
        result = before[0].result if before is not None and goes_on else self._new_result(options)
        bring_into_view(self._viewer, options.layer)
        looked_at = displayed_slice(self._viewer, options.layer, result.axis, result.slices)
        indices = slices_to_do(options, result, looked_at)
        worker = StepsWorker(restoration_steps(options, result, indices, looked_at), in_turn=True)
        worker.displayed = looked_at
        worker.progressed.connect(self._on_news)
        worker.paused.connect(self.paused)
        worker.errored.connect(self._on_error)
        worker.finished.connect(self._on_finished)
        index = looked_at if options.region == "slice" else None
        run = Run(options, result, worker, options.layer.data, spatial_transforms(options.layer), index=index)
        if not goes_on:
            if before is not None and before[0].result.output is None:
                run.replaces = before
                if isinstance(result, StoredResult):
                    result.adopt(before[0].result)
            self.comparison = None
        elif before is not None:
            self._results.add(run, before[1])
            if self.comparison is not before[1]:
                self.comparison = before[1]
                self.shown.emit(self.comparison)
        self._run = run
        worker.start()
        self._timer.start()

    def pause(self) -> None:
        """Stand still soon, and keep everything."""
        if self._run is not None:
            self._run.pause()

    def resume(self) -> None:
        """Go on after a pause."""
        if self._run is not None:
            self._run.resume()

    def cancel(self) -> None:
        """Stop soon; finished slices stay."""
        if self._run is not None:
            self._run.worker.quit()

    def shut_down(self) -> None:
        """Stop at once and wait for the thread: the panel or the viewer is going away."""
        if self._closed:
            return
        self._closed = True
        # At the end of the program Qt may have removed it before this is called.
        with contextlib.suppress(RuntimeError):
            self._timer.stop()
        self._viewer.dims.events.disconnect(self._follow_the_eye)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        if self._run is not None and not self._run.over:
            self._run.over = True
            self._run.worker.join(WAIT_AT_CLOSING_S)

    def _is_shown(self) -> bool:
        """Whether the result of the last run is in the viewer, and its scan is the same."""
        run, comparison = self._run, self.comparison
        return run is not None and comparison is not None and self._results.holds(run, comparison)

    def _new_result(self, options: RestoreOptions) -> RestorationResult:
        scan = layer_to_scan(options.layer, options.time_index)
        if options.region == "slice":
            kind = StoredResult if why_a_file(scan) else ResultInMemory
        elif options.output is not None:
            kind = StoredResult
        elif too_large := does_not_fit(scan):
            raise ScanError(f"{too_large[0].upper()}{too_large[1:]}: choose a file under Save to.")
        else:
            kind = ResultInMemory
        return kind(scan, restoration_axis(scan, options.axis))

    def _on_news(self, news: News) -> None:
        run, progress = self._run, news.progress
        if run is None or run.over:
            return
        if self.comparison is None and run.result.ready and not self._show(run):
            return
        # When what was just shown has been drawn.
        QTimer.singleShot(0, run.worker.go_on)
        run.unseen.extend(news.regions)
        self._refresh_if_due()
        run.already = run.asked - progress.total
        run.pace.note(progress.done)
        checks = progress.phase in CHECKS
        # Not at every step: each new word has the whole window drawn, and the time left is known per slice only.
        line = run.line(progress)
        told = progress.done, line if checks and self._is_time_for_words() else ""
        if told != run.told and (not checks or told[1]):
            run.told = told
            self._last_told = self.clock()
            self.progressed.emit(run.already + progress.done, run.asked, run.line(progress))

    def _is_time_for_words(self) -> bool:
        return self.clock() - self._last_told >= REFRESH_EVERY_MS / 1000

    def _show(self, run: Run) -> bool:
        layer = run.options.layer
        if layer not in self._viewer.layers:
            return False
        if run.replaces is not None and run.replaces[1].restored in self._viewer.layers:
            self.comparison = run.replaces[1].with_result(run.result)
        else:
            name = f"{layer.name} {frame_name(layer, run.options.time_index or 0)}" if layer.ndim == 4 else layer.name
            self.comparison = add_result_layers(self._viewer, layer, run.result, name, run.placed)
        self._results.add(run, self.comparison)
        # Of a job that goes on there is something to see already.
        self.comparison.fit_limits()
        self.shown.emit(self.comparison)
        return True

    def _refresh_if_due(self) -> None:
        due = self.clock() - self._last_refresh >= REFRESH_EVERY_MS / 1000
        run = self._run
        if run is not None and due and any(self._is_looked_at(run, region) for region in run.unseen):
            self._refresh(run)

    def _is_looked_at(self, run: Run, region: Region) -> bool:
        layer = run.options.layer
        if layer.ndim == 2 or self._viewer.dims.ndisplay == 3:
            return True
        for axis, along in enumerate(region):
            index = displayed_slice(self._viewer, layer, axis, run.result.scan.shape[axis])
            if index is not None and not along.start <= index < along.stop:
                return False
        return True

    def _refresh(self, run: Run, thumbnail: bool = False) -> None:
        if self.comparison is None:
            return
        run.unseen.clear()
        self.comparison.fit_limits()
        for layer in (self.comparison.restored, self.comparison.difference):
            if layer in self._viewer.layers:
                layer.refresh(thumbnail=thumbnail, extent=False, highlight=False)
        self._last_refresh = self.clock()

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
            self.comparison.choose_rendering()
            self._refresh(run, thumbnail=True)
        if run.error is not None:
            self.failed.emit(run.error)
        else:
            self.ended.emit(run.last_words())
        if self.comparison is None and run.replaces is not None:
            # It came to nothing, and Restore goes on with what is still shown.
            self._run, self.comparison = run.replaces


def _goes_on(result: RestorationResult, options: RestoreOptions) -> bool:
    """Whether a result takes more slices of the same choices, or has all of them."""
    return options.region == "slice" or not result.remaining or result.goes_to(options.output)


def restoration_axis(scan: Scan, axis: str) -> int:
    """Return the array axis across the slices that are restored; `axis` as in the options."""
    return choose_slice_axis(scan, axis).axis
