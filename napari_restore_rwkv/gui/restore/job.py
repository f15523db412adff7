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
    """Runs the restoration that is filled in, in a background thread, and shows the slices as they are finished.

    Signals
    -------
    progressed(done, total, text)
        Slices finished and requested, and a line such as ``"slice 7 of 20 · 14 s left"``.
    paused()
        The job has paused.
    shown(comparison)
        The layers of a new result are in the viewer.
    ended(sentence)
        The job has ended: done, cancelled, or its layer was deleted.
    failed(error)
        The job has ended with an exception.

    Attributes
    ----------
    comparison
        The layers of the result that is shown; None if there is none.
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
        self._last_refresh = self._last_report = 0.0
        self._timer = QTimer(self)
        self._timer.setInterval(REFRESH_EVERY_MS)
        self._timer.timeout.connect(self._refresh_if_due)
        viewer.dims.events.connect(self._follow_displayed_slice)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def running(self) -> bool:
        """Whether a restoration is running."""
        return self._run is not None and not self._run.has_ended

    @property
    def where(self) -> str:
        """Which slice is being restored, such as ``"slice 7 of 20"``."""
        return self._run.where() if self._run is not None else ""

    @property
    def output(self) -> Path | None:
        """The folder of the result that is shown, which Restore continues; None if there is none."""
        return self._run.result.output if self._run is not None and self._is_shown() else None

    @property
    def is_saved(self) -> bool:
        """Whether the result that is shown is completely saved in its folder."""
        return self.output is not None and self._run is not None and not self._run.result.remaining

    @property
    def rest_remains(self) -> bool:
        """Whether the last job restored one slice of a volume that is not finished."""
        run = self._run
        return run is not None and run.options.region == "slice" and 0 < len(run.result.finished) < run.result.slices

    @property
    def completed(self) -> tuple[RestoreOptions, int, int | None, float, Blend] | None:
        """The arguments of `as_python` for the last run; None if it did not complete."""
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
        """Whether the network that was loaded last was made for a modality other than the scan's."""
        result = self._run.result if self._run is not None else None
        return result is not None and result.made_for is not None and result.made_for != result.scan.modality

    def start(self, options: RestoreOptions) -> None:
        """Start a restoration, or continue an earlier one with the same options.

        Raises
        ------
        ScanError
            The layer is not a scan, its result does not fit into memory, or nothing is left to do.
        """
        before = self._results.earlier_result(options)
        continues = before is not None and _continues(before[0].result, options)
        result = before[0].result if before is not None and continues else self._new_result(options)
        bring_into_view(self._viewer, options.layer)
        displayed = displayed_slice(self._viewer, options.layer, result.axis, result.slices)
        indices = slices_to_do(options, result, displayed)
        worker = StepsWorker(restoration_steps(options, result, indices, displayed))
        worker.displayed = displayed
        worker.progressed.connect(self._on_news)
        worker.paused.connect(self.paused)
        worker.errored.connect(self._on_error)
        worker.finished.connect(self._on_finished)
        index = displayed if options.region == "slice" else None
        run = Run(options, result, worker, options.layer.data, spatial_transforms(options.layer), index=index)
        if not continues:
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
        """Pause after the current step."""
        if self._run is not None:
            self._run.pause()

    def resume(self) -> None:
        """Continue after a pause."""
        if self._run is not None:
            self._run.resume()

    def cancel(self) -> None:
        """Stop soon, and keep the finished slices."""
        if self._run is not None:
            self._run.worker.quit()

    def shut_down(self) -> None:
        """Stop at once and wait for the thread: the panel or the viewer is being closed."""
        if self._closed:
            return
        self._closed = True
        # When the program ends, Qt may have deleted it already.
        with contextlib.suppress(RuntimeError):
            self._timer.stop()
        self._viewer.dims.events.disconnect(self._follow_displayed_slice)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        if self._run is not None and not self._run.has_ended:
            self._run.has_ended = True
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
        if run is None or run.has_ended:
            return
        if self.comparison is None and run.result.ready and not self._show(run):
            return
        run.undrawn.extend(news.regions)
        self._refresh_if_due()
        run.done_before = run.requested - progress.total
        run.pace.note(progress.done)
        checks = progress.phase in CHECKS
        # Not at every step: each new text redraws the whole window, and the time left is known only per slice.
        line = run.line(progress)
        report = progress.done, line if checks and self._is_report_due() else ""
        if report != run.reported and (not checks or report[1]):
            run.reported = report
            self._last_report = self.clock()
            self.progressed.emit(run.done_before + progress.done, run.requested, run.line(progress))

    def _is_report_due(self) -> bool:
        return self.clock() - self._last_report >= REFRESH_EVERY_MS / 1000

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
        # A job that continues has slices to show already.
        self.comparison.fit_limits()
        self.shown.emit(self.comparison)
        return True

    def _refresh_if_due(self) -> None:
        due = self.clock() - self._last_refresh >= REFRESH_EVERY_MS / 1000
        run = self._run
        if run is not None and due and any(self._is_displayed(run, region) for region in run.undrawn):
            self._refresh(run)

    def _is_displayed(self, run: Run, region: Region) -> bool:
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
        run.undrawn.clear()
        self.comparison.fit_limits()
        for layer in (self.comparison.restored, self.comparison.difference):
            if layer in self._viewer.layers:
                layer.refresh(thumbnail=thumbnail, extent=False, highlight=False)
        self._last_refresh = self.clock()

    def _follow_displayed_slice(self, event: Any = None) -> None:
        run = self._run
        if run is not None and not run.has_ended:
            run.worker.displayed = displayed_slice(self._viewer, run.options.layer, run.result.axis, run.result.slices)

    def _on_removed(self, event: Any) -> None:
        run = self._run
        if run is None or run.has_ended:
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
        if run is None or run.has_ended:
            return
        run.has_ended = True
        self._timer.stop()
        if self.comparison is not None:
            self.comparison.tell_provenance()
            self.comparison.choose_rendering()
            self._refresh(run, thumbnail=True)
        if run.error is not None:
            self.failed.emit(run.error)
        else:
            self.ended.emit(run.final_sentence())
        if self.comparison is None and run.replaces is not None:
            # Nothing was restored: Restore continues the result that is still shown.
            self._run, self.comparison = run.replaces


def _continues(result: RestorationResult, options: RestoreOptions) -> bool:
    """Whether a run with these options continues a result, or finds it complete."""
    return options.region == "slice" or not result.remaining or result.accepts_output(options.output)


def restoration_axis(scan: Scan, axis: str) -> int:
    """Return the array axis across the slices; `axis` as in the options."""
    return choose_slice_axis(scan, axis).axis
