"""The Restore panel: unfinished jobs, the form, Restore, Pause and Cancel, progress, messages, and the result."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari.qt.threading import FunctionWorker
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QProgressBar, QPushButton, QShortcut, QVBoxLayout, QWidget

from ...errors import CheckpointError, RestoreError
from .. import preferences
from ..compare.compare_panel import ComparePanel
from ..compare.macro import reported_as_python
from ..docking import open_panel
from ..form_parts import beside, dividing_line, hint, keep_room, plain_label
from ..job_panel import RESEARCH_USE, JobPanel
from ..job_state import Activity
from ..macro import as_lines
from ..macro_view import MacroView
from ..surroundings import look_around
from .form import RestoreForm, ShownInForm
from .job import RestoreJob
from .resuming import JobOpener
from .state import RestoreState
from .unfinished_jobs import UnfinishedJobs

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

    from ...jobs.registry import BegunJob
    from ..options import RestoreOptions
    from ..surroundings import Surroundings

COMPARE = "Compare"
RESTORE, RESTORE_VOLUME = "Restore", "Restore whole volume"
PAUSE, RESUME = "Pause", "Resume"
WIDE_ENOUGH = 350
FIRST_STEPS = (
    "First steps: open a scan, or one of File > Open Sample > Restore-RWKV; press Restore; then B blinks between input "
    "and result. Everything is already chosen, each with its reason."
)


class RestorePanel(JobPanel):
    """The dock widget "Restore"."""

    state: RestoreState

    def __init__(self, napari_viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, RestoreState(), parent)
        self.unfinished = UnfinishedJobs()
        self.form = RestoreForm(napari_viewer)
        self.compare = ComparePanel(napari_viewer)
        self.macro = MacroView()
        # No parent: it must outlive the panel, to wait for its thread.
        self.job = RestoreJob(napari_viewer)
        self.opener = JobOpener(napari_viewer)
        # The lines of the last run, as they were last shown.
        self._lines_of_last_run: tuple[str, str] | None = None
        self._build()
        self._connect()
        self._show_state()
        self._look_around()
        self.unfinished.look()
        if self.job.comparison is not None:
            self.compare.take_up(self.job.comparison)

    def choose_layer(self, layer: Layer | None) -> None:
        """Choose the scan to restore, or show why this layer is not one."""
        self.form.choose(layer)

    def restore(self) -> None:
        """Restore what is filled in."""
        if not self.state.is_idle:
            if self.state.busy:
                self.say(self.state.busy)
            return
        if not self.form.is_known:
            # The options are read when the proposals are complete, since they identify the result.
            self.state.restore(Activity.PREPARING, whole_volume=self.form.region.value == "volume")
            return
        try:
            options = self.form.options()
        except RestoreError as error:
            self.fail(error)
            return
        self._start(options)

    def pause(self) -> None:
        """Pause the job, or continue it."""
        if self.state.is_paused:
            self.job.resume()
            self.state.resume()
        else:
            self.job.pause()
            self.state.pause()

    def cancel(self) -> None:
        """Stop soon, and keep the finished slices."""
        if self.state.activity is Activity.PREPARING:
            self.state.end()
            self.say("Cancelled; nothing was started.")
            return
        self.state.stop()
        self.opener.cancel()
        self.job.cancel()

    def fail(self, error: Exception, *, is_shown: bool = False) -> None:
        """Show an error as one sentence, here unless the form shows it already, and as a notification."""
        super().fail(error, is_shown=is_shown or isinstance(error, ShownInForm))

    def shut_down(self) -> None:
        """Cancel what is running, wait for it, restore the user's own view, and stop following the viewer."""
        super().shut_down()
        if self.state.activity is Activity.PREPARING:
            self.state.end()
        self.compare.view.leave()
        _let_go(self.job, self.opener, self.form, self.compare)

    def _build(self) -> None:
        self.restore_button = QPushButton(RESTORE)
        self.restore_button.setDefault(True)
        self.cancel_button = QPushButton("Cancel")
        self.pause_button = QPushButton(PAUSE)
        self.pause_button.setToolTip("Leave the CPU to other programs for a while; nothing is lost")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.progress = plain_label()
        for widget in (self.bar, self.progress):
            keep_room(widget)
        self.setMinimumWidth(WIDE_ENOUGH)
        rows = QVBoxLayout(self)
        self.first_steps = hint()
        self.first_steps.setText(FIRST_STEPS)
        for widget in (self.unfinished, self.first_steps, self.form):
            rows.addWidget(widget)
        # Not before it has a parent: a label without one would be a window.
        self.first_steps.setVisible(preferences.wants_hint())
        rows.addLayout(beside(self.restore_button, self.pause_button, self.cancel_button, stretch=(2, 1, 1)))
        rows.addLayout(beside(self.bar, self.progress, stretch=(1, 0)))
        for widget in (self.message, dividing_line(), self.compare, self.macro):
            rows.addWidget(widget)
        research = hint()
        research.setText(RESEARCH_USE)
        rows.addWidget(research)
        rows.addStretch()

    def _connect(self) -> None:
        self.state.events.connect(self._show_state)
        self.restore_button.clicked.connect(self.restore)
        self.pause_button.clicked.connect(self.pause)
        self.cancel_button.clicked.connect(self.cancel)
        for key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            shortcut = QShortcut(QKeySequence(key), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(self.restore)
        self.form.changed.connect(self._on_choice)
        self.form.asked.connect(self.say)
        self.compare.reading.judge_wanted.connect(self._open_workbench)
        self.compare.reading.report.written.connect(lambda *written: self.macro.add(reported_as_python(*written)))
        self.compare.said.connect(self.say)
        self.compare.mixed.connect(self._on_mixed)
        self.macro.said.connect(self.say)
        self.compare.failed.connect(self.fail)
        self.unfinished.resumed.connect(self._resume)
        self.opener.opened.connect(self._on_opened)
        self.opener.said.connect(self.say)
        self.opener.failed.connect(self._on_not_opened)
        self.opener.stopped.connect(self._on_stopped)
        self.job.progressed.connect(self._on_progress)
        self.job.progressed.connect(self.compare.reading.watch.look)
        self.job.ended.connect(self.compare.reading.watch.look)
        self.job.progressed.connect(lambda *_: self.compare.view.planes.show_more())
        self.job.ended.connect(lambda *_: self.compare.view.refresh())
        self.job.paused.connect(self._on_paused)
        self.job.shown.connect(self.compare.show_comparison)
        self.job.ended.connect(self._on_ended)
        self.job.failed.connect(self._on_failed)
        # Not a method of the panel: when this runs, the panel no longer exists.
        self.destroyed.connect(partial(_let_go, self.job, self.opener, self.form, self.compare))

    def _look_around(self) -> None:
        """List devices and weights in the background: importing torch would freeze the window for seconds."""
        worker = FunctionWorker(look_around)
        worker.returned.connect(self._on_known)
        worker.errored.connect(self._on_unknown)
        worker.start()

    def _on_known(self, surroundings: Surroundings) -> None:
        self.form.set_surroundings(surroundings)
        if self.state.activity is Activity.PREPARING:
            self.state.end()
            self.restore()

    def _on_unknown(self, error: Exception) -> None:
        if self.state.activity is Activity.PREPARING:
            self.state.end()
        self.fail(error)

    def _start(self, options: RestoreOptions) -> None:
        try:
            self.job.start(options)
        except RestoreError as error:
            self.fail(error)
            return
        self.state.restore(Activity.RUNNING, whole_volume=options.region == "volume")
        self.unfinished.look(() if options.output is None else (options.output,))

    def _resume(self, job: BegunJob) -> None:
        self.state.begin(Activity.OPENING)
        self.opener.open(job, self.form.layer.value)

    def _on_opened(self, options: RestoreOptions) -> None:
        self.state.end()
        self.form.fill_in(options)
        self._start(options)

    def _on_not_opened(self, error: Exception) -> None:
        self.state.end()
        self.fail(error)

    def _on_stopped(self) -> None:
        self.state.end()
        self.say("The scan was not opened; Resume tries again.")

    def _open_workbench(self) -> None:
        """Open the workbench beside this panel, or bring it to the front."""
        # This imports the plotting library.
        from ..compare.workbench import Workbench

        open_panel(self._viewer, Workbench, COMPARE).look_with(self.compare)

    def _look_for_unfinished(self) -> None:
        """Offer unfinished jobs, except the one that Restore continues."""
        self.unfinished.look(() if self.job.output is None else (self.job.output,))

    def _show_state(self) -> None:
        state = self.state
        for widget in (self.unfinished, self.form, self.restore_button):
            widget.setEnabled(state.is_idle)
        self.restore_button.setText(RESTORE_VOLUME if state.rest_remains else RESTORE)
        self.pause_button.setText(RESUME if state.is_paused else PAUSE)
        self.pause_button.setEnabled(state.can_pause)
        self.cancel_button.setEnabled(state.can_cancel)
        done, total = state.steps
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        self.bar.setVisible(state.shows_bar)
        self.progress.setText(state.progress)
        self.progress.setVisible(state.shows_progress)

    def _chosen(self) -> tuple[Any, ...]:
        """Scan, task and weights: a sentence about others is outdated."""
        return self.form.layer.value, self.form.task.value, self.form.weights.value

    def _on_choice(self) -> None:
        self.state.choose(self._chosen())

    def _on_progress(self, done: int, total: int, text: str) -> None:
        self.state.step(done, total, text)

    def _on_paused(self) -> None:
        self.state.note_pause(self.job.where)

    def _on_ended(self, sentence: str) -> None:
        self.state.end()
        self._look_for_unfinished()
        if (completed := self.job.completed) is not None:
            self._lines_of_last_run = as_lines(*completed)
            self.macro.add(*self._lines_of_last_run)
            self.first_steps.hide()
            preferences.hint_served()
        if self.job.is_saved and self.form.layer.value is not None:
            self.form.output.propose_another(self.form.layer.value)
        if self.job.rest_remains:
            self.form.offer_whole_volume()
        self.state.show_result(sentence, self._chosen(), rest_remains=self.job.rest_remains)

    def _on_mixed(self) -> None:
        """Update the lines to the strength and the detail that the sliders show."""
        completed, before = self.job.completed, self._lines_of_last_run
        if before is None or completed is None or self.state.activity is Activity.RUNNING:
            return
        self._lines_of_last_run = as_lines(*completed)
        if self._lines_of_last_run != before:
            self.macro.correct(before[0], *self._lines_of_last_run)

    def _on_failed(self, error: Exception) -> None:
        self.state.end()
        self._look_for_unfinished()
        if isinstance(error, CheckpointError) and self.job.modality_differs:
            self.form.offer_any_modality()
        self.fail(error)


def _let_go(job: RestoreJob, opener: JobOpener, form: RestoreForm, compare: ComparePanel, panel: object = None) -> None:
    job.shut_down()
    opener.shut_down()
    form.let_go()
    compare.let_go()
