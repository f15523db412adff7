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
from ..macro import as_lines
from ..macro_view import MacroView
from ..surroundings import look_around
from .form import RestoreForm, SaidInForm
from .job import RestoreJob
from .resuming import JobOpener
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

    def __init__(self, napari_viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.unfinished = UnfinishedJobs()
        self.form = RestoreForm(napari_viewer)
        self.compare = ComparePanel(napari_viewer)
        self.macro = MacroView()
        # Without a parent: it must outlive the panel, to wait for its thread.
        self.job = RestoreJob(napari_viewer)
        self.opener = JobOpener(napari_viewer)
        # What was chosen for the result that the sentence in the messages line is about, if it is about one.
        self._told_of: tuple[Any, ...] | None = None
        # Lines of the last run, with how it was mixed in when they were written.
        self._restored_by: tuple[str, str] | None = None
        self._complained = False
        self._starts_when_known = False
        self._build()
        self._connect()
        self._look_around()
        self.unfinished.look()
        if self.job.comparison is not None:
            self.compare.take_up(self.job.comparison)

    def choose_layer(self, layer: Layer | None) -> None:
        """Choose the scan to restore, or say why this layer is none."""
        self.form.choose(layer)

    def restore(self) -> None:
        """Start what is filled in."""
        if self.job.running:
            self.say("A restoration is in progress: wait for it, or press Cancel.")
            return
        if self._starts_when_known:
            return
        if not self.restore_button.isEnabled():
            self.say("A scan is being opened: wait for it, or press Cancel.")
            return
        if not self.form.is_known:
            # What is proposed by then is what the person sees, and what the result is known by.
            self._starts_when_known = True
            self._let_run(True)
            self.pause_button.setEnabled(False)
            self.progress.setText("getting ready ...")
            return
        try:
            options = self.form.options()
        except RestoreError as error:
            self.fail(error)
            return
        self._start(options)

    def pause(self) -> None:
        """Let the job stand still, or go on."""
        if self.job.is_paused:
            self.job.resume()
            self.pause_button.setText(PAUSE)
            self.progress.setText("going on ...")
        else:
            self.job.pause()
            self.pause_button.setText(RESUME)
            self.progress.setText("pausing ...")

    def cancel(self) -> None:
        """Stop soon, and keep what is finished."""
        self.cancel_button.setEnabled(False)
        self.pause_button.setEnabled(False)
        self.progress.setText("stopping ...")
        if self._starts_when_known:
            self._starts_when_known = False
            self._let_run(False)
            self.say("Cancelled; nothing was started.")
        self.opener.cancel()
        self.job.cancel()

    def say(self, text: str) -> None:
        """Show a sentence in the message line."""
        self._complained = False
        super().say(text)

    def fail(self, error: Exception, *, is_shown: bool = False) -> None:
        """Show an error as one sentence, here unless the form shows it already, and as a notification."""
        super().fail(error, is_shown=is_shown or isinstance(error, SaidInForm))
        self._complained = True

    def shut_down(self) -> None:
        """Cancel what runs, wait for it, give the person's own view back, and let go of the viewer."""
        super().shut_down()
        self._starts_when_known = False
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
        self.progress.setTextFormat(Qt.TextFormat.PlainText)
        for widget in (self.bar, self.progress):
            keep_room(widget)
        self.setMinimumWidth(WIDE_ENOUGH)
        rows = QVBoxLayout(self)
        self.first_steps = hint()
        self.first_steps.setText(FIRST_STEPS)
        for widget in (self.unfinished, self.first_steps, self.form):
            rows.addWidget(widget)
        # Not before it has a parent: a label without one is a window of its own.
        self.first_steps.setVisible(preferences.wants_hint())
        rows.addLayout(beside(self.restore_button, self.pause_button, self.cancel_button, stretch=(2, 1, 1)))
        rows.addLayout(beside(self.bar, self.progress, stretch=(1, 0)))
        for widget in (self.message, dividing_line(), self.compare, self.macro):
            rows.addWidget(widget)
        research = hint()
        research.setText(RESEARCH_USE)
        rows.addWidget(research)
        rows.addStretch()
        self._let_run(False)

    def _connect(self) -> None:
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
        # Not a method of the panel: at that time there is no panel any more.
        self.destroyed.connect(partial(_let_go, self.job, self.opener, self.form, self.compare))

    def _look_around(self) -> None:
        """Ask for devices and weights in the background: importing torch would freeze the window for seconds."""
        worker = FunctionWorker(look_around)
        worker.returned.connect(self._on_known)
        worker.errored.connect(self._on_unknown)
        worker.start()

    def _on_known(self, surroundings: Surroundings) -> None:
        self.form.tell_surroundings(surroundings)
        if self._starts_when_known:
            self._starts_when_known = False
            self._let_run(False)
            self.restore()

    def _on_unknown(self, error: Exception) -> None:
        self._starts_when_known = False
        self._let_run(False)
        self.fail(error)

    def _start(self, options: RestoreOptions) -> None:
        try:
            self.job.start(options)
        except RestoreError as error:
            self.fail(error)
            return
        self._let_run(True)
        self.unfinished.look(() if options.output is None else (options.output,))
        self.bar.reset()
        self.progress.setText("getting ready ...")
        self.say("")

    def _resume(self, job: BegunJob) -> None:
        self._allow_starting(False)
        self.cancel_button.setEnabled(True)
        self.opener.open(job, self.form.layer.value)

    def _on_opened(self, options: RestoreOptions) -> None:
        self._let_run(False)
        self.form.fill_in(options)
        self._start(options)

    def _on_not_opened(self, error: Exception) -> None:
        self._let_run(False)
        self.fail(error)

    def _on_stopped(self) -> None:
        self._let_run(False)
        self.say("The scan was not opened; Resume tries again.")

    def _allow_starting(self, allowed: bool) -> None:
        for widget in (self.unfinished, self.form, self.restore_button):
            widget.setEnabled(allowed)

    def _open_workbench(self) -> None:
        """Open the workbench beside this panel, or bring it to the front."""
        # It brings the plotting library.
        from ..compare.workbench import Workbench

        open_panel(self._viewer, Workbench, COMPARE).look_with(self.compare)

    def _look_for_unfinished(self) -> None:
        """Offer what is unfinished, except what Restore goes on with."""
        self.unfinished.look(() if self.job.output is None else (self.job.output,))

    def _let_run(self, running: bool) -> None:
        self._allow_starting(not running)
        self.pause_button.setText(PAUSE)
        self.pause_button.setEnabled(running)
        self.cancel_button.setEnabled(running)
        # One slice has no steps worth a bar; an animated one would have the whole window drawn again and again.
        self.bar.setVisible(running and self.form.region.value == "volume")
        self.progress.setVisible(running)

    def _on_choice(self) -> None:
        self.restore_button.setText(RESTORE)
        told_of, chosen = self._told_of, self._chosen()
        if self._complained or (told_of is not None and chosen != told_of):
            self._told_of = None
            self.say("")

    def _chosen(self) -> tuple[Any, ...]:
        """Scan, task and weights; a sentence about others would be out of date."""
        return self.form.layer.value, self.form.task.value, self.form.weights.value

    def _on_progress(self, done: int, total: int, text: str) -> None:
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        if self.cancel_button.isEnabled() and not self.job.is_paused:
            self.progress.setText(text)

    def _on_paused(self) -> None:
        if self.cancel_button.isEnabled() and self.job.is_paused:
            self.progress.setText(f"paused · {self.job.where}")

    def _on_ended(self, sentence: str) -> None:
        self._let_run(False)
        self._look_for_unfinished()
        self.say(sentence)
        if (completed := self.job.completed) is not None:
            self._restored_by = as_lines(*completed)
            self.macro.add(*self._restored_by)
            self.first_steps.hide()
            preferences.hint_served()
        self._told_of = self._chosen()
        if self.job.is_saved and self.form.layer.value is not None:
            self.form.output.renew(self.form.layer.value)
        if self.job.rest_remains:
            self.form.offer_whole_volume()
        self.restore_button.setText(RESTORE_VOLUME if self.job.rest_remains else RESTORE)

    def _on_mixed(self) -> None:
        """Tell the lines of what is seen now: with the strength and the detail that the sliders say."""
        completed, before = self.job.completed, self._restored_by
        if before is None or completed is None or self.job.running:
            return
        self._restored_by = as_lines(*completed)
        if self._restored_by != before:
            self.macro.correct(before[0], *self._restored_by)

    def _on_failed(self, error: Exception) -> None:
        self._let_run(False)
        self._look_for_unfinished()
        if isinstance(error, CheckpointError) and self.job.modality_differs:
            self.form.offer_anyway()
        self.fail(error)


def _let_go(job: RestoreJob, opener: JobOpener, form: RestoreForm, compare: ComparePanel, panel: object = None) -> None:
    job.shut_down()
    opener.shut_down()
    form.let_go()
    compare.let_go()
