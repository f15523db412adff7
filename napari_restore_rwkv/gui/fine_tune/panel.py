"""The Fine-tune panel: training scans, annotations, the training, the verdict, and the new weights."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari.qt.threading import FunctionWorker
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from ...errors import RestoreError, ScanError
from ...training.options import FineTuneOptions
from ...training.unfinished import discard
from ..background import Background
from ..form_parts import dividing_line, hint, scrolled
from ..job_panel import RESEARCH_USE, JobPanel
from ..job_state import Message
from ..message_line import MessageLine
from ..surroundings import look_around
from .annotation_tools import AnnotationTools
from .choice import Report, report_on
from .degradation_tools import DegradationTools
from .form import FineTuneForm
from .interrupted_line import InterruptedLine
from .job import Begun, FineTuneJob, begun_in, interrupted
from .new_weights import NewWeights
from .run_view import FineTuneRun
from .state import FineTuneState

if TYPE_CHECKING:
    from pathlib import Path

    import napari.viewer
    from napari.layers import Layer

    from ...training.unfinished import Unfinished
    from .choice import FineTuneChoice

CHECK_AFTER_MS, SETTLED_AFTER_MS = 400, 50
WIDE_ENOUGH = 385


class FineTunePanel(JobPanel):
    """The dock widget "Fine-tune".

    Attributes
    ----------
    recipe
        The options that the form does not ask for.
    """

    state: FineTuneState

    def __init__(self, napari_viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, FineTuneState(), parent)
        self.recipe = FineTuneOptions()
        self.form = FineTuneForm(napari_viewer)
        self.degradation = DegradationTools(napari_viewer, self.form.strength)
        self.annotations = AnnotationTools(napari_viewer)
        # Without a parent: its thread may outlive the panel.
        self.job = FineTuneJob()
        self.run = FineTuneRun(napari_viewer, self.job, self.state)
        self.new = NewWeights(napari_viewer, self.state)
        self.verdict, self.blend, self.bundles = self.new.verdict, self.new.blend, self.new.bundles
        self.macro = self.new.macro
        self._checks = Background(self, wait_ms=CHECK_AFTER_MS)
        self._is_complete = False
        self._build()
        self._connect()
        self._get_ready()
        self.check()

    def choice(self) -> FineTuneChoice:
        """Return what is filled in; `RestoreError` if something is missing."""
        labels = self.annotations.layer
        return self.form.choice(None if labels is None else labels.data, self.recipe)

    def annotate(self, layer: Layer | None) -> None:
        """Add a Labels layer on a scan, ready for painting."""
        if layer is not None:
            self.form.layers.choose(layer)
        self.annotations.make_layer()

    def check(self) -> None:
        """Check in the background what the annotations cover, and whether the scans are suitable for training."""
        self.annotations.set_scan(self.form.layer)
        self.degradation.setVisible(self.form.mode.value == "reference")
        try:
            choice = self.choice()
        except RestoreError as error:
            self._is_complete = False
            self._checks.forget()
            self.state.report = Report(refusal=str(error))
            return
        self._is_complete = True
        self.degradation.set_choice(choice if choice.mode == "reference" else None)
        self.new.offer(choice.weights)
        self._checks.ask(partial(report_on, choice))

    def start(self) -> None:
        """Start the training that is filled in."""
        if not self.state.is_idle:
            self.say("A fine-tuning run is in progress: wait for it, or stop it.")
            return
        try:
            choice = self.choice()
        except RestoreError as error:
            # Errors about the chosen scan are already shown above.
            self.fail(error, is_shown=self.form.layer is not None)
            return
        report = self.state.report
        if report is not None and report.refusal and not self._checks.busy:
            self.fail(ScanError(report.refusal), is_shown=True)
            return
        self.job.begin(choice)
        self.macro.begin(choice, self.annotations.layer)
        assert self.job.folder is not None
        weights, steps = str(choice.weights), choice.options.steps
        begun = Begun(self.job.folder, weights, choice.task, choice.mode, steps, choice.layer, choice.axis)
        self.state.train(begun, self._chosen())

    def resume_interrupted(self) -> None:
        """Resume the newest interrupted fine-tuning run."""
        try:
            begun = begun_in(self.state.interrupted[0].folder, self._viewer.layers)
        except RestoreError as error:
            self.fail(error)
            return
        self.job.resume_folder(begun.folder)
        self.macro.forget()
        self.state.train(begun, self._chosen())

    def discard_interrupted(self) -> None:
        """Delete the newest interrupted fine-tuning run."""
        discard(self.state.interrupted[0].folder)
        self.state.interrupted = self.state.interrupted[1:]

    def shut_down(self) -> None:
        """Let the training save its state and end, and stop following the viewer."""
        super().shut_down()
        _let_go(self.job, self._parts)

    def _build(self) -> None:
        self.split, self.warnings = hint(), MessageLine()
        self.interrupted = InterruptedLine()
        research = hint()
        research.setText(RESEARCH_USE)
        self.form.add_below("strength", self.degradation)
        inside = QWidget()
        rows = QVBoxLayout(inside)
        for widget in (
            self.interrupted, self.form, dividing_line(), self.annotations, self.split,
            self.warnings, dividing_line(), self.run, self.message, self.new, research,
        ):  # fmt: skip
            rows.addWidget(widget)
        rows.addStretch()
        self.scroll = scrolled(inside)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self.scroll)
        self.setMinimumWidth(WIDE_ENOUGH)

    @property
    def _parts(self) -> tuple[Any, ...]:
        return self.form, self.degradation, self.annotations, self.run, self.blend

    def _connect(self) -> None:
        events = self.state.events
        events.activity.connect(self._show_activity)
        events.report.connect(self._show_report)
        events.interrupted.connect(self.interrupted.show_interrupted)
        for part in (self.form, self.annotations):
            part.changed.connect(self._on_change)
        for part in (self.degradation, self.new):
            part.failed.connect(self.fail)
        self.form.asked.connect(self.say)
        self.annotations.said.connect(self.say)
        self._checks.answered.connect(self._on_checked)
        self._checks.failed.connect(self.fail)
        self.run.asked.connect(self.start)
        # The lines cannot repeat a training that the user stopped.
        self.run.stop.clicked.connect(self.macro.forget)
        self.job.ended.connect(self._on_ended)
        self.interrupted.go_on.clicked.connect(self.resume_interrupted)
        self.interrupted.discard.clicked.connect(self.discard_interrupted)
        self.new.said.connect(self.say)
        self.new.back.connect(self.form.weights.use_proposed)
        # Not a method of the panel: when this runs, the panel no longer exists.
        self.destroyed.connect(partial(_let_go, self.job, self._parts))

    def _on_change(self) -> None:
        self.state.choose(self._chosen())
        self.check()

    def _chosen(self) -> tuple[Any, ...]:
        form = self.form
        return form.mode.value, form.layer, form.reference_layer.value, form.task.value

    def _get_ready(self) -> None:
        """Look for devices, weights and interrupted runs in the background: importing torch takes seconds."""
        worker = FunctionWorker(_surroundings)
        worker.returned.connect(self._show_surroundings)
        worker.errored.connect(self.fail)
        worker.start()

    def _show_surroundings(self, found: tuple[Any, dict[str, Any], Path, list[Unfinished]]) -> None:
        surroundings, strengths, folder, unfinished = found
        self.form.tell_surroundings(surroundings)
        self.degradation.set_strengths(strengths)
        self.blend.folder = self.bundles.folder = folder
        if self.state.is_idle:
            self.state.interrupted = tuple(unfinished)
        self.check()

    def _on_checked(self, report: Report) -> None:
        # A check of what was filled in before may end after something was taken away.
        if self._is_complete:
            self.state.report = report

    def _show_report(self, report: Report) -> None:
        self.annotations.show_coverage(report.covered)
        self.split.setText(report.split)
        self.split.setVisible(bool(report.split))
        # Without a scan, the form says so itself.
        refusal = report.refusal if self.form.layer is not None else ""
        words = " ".join([*report.warnings, *([refusal] if refusal else [])])
        self.warnings.show_message(Message(words, is_error=True))
        self.form.offer_force(report.can_be_forced)

    def _show_activity(self) -> None:
        for part in (self.form, self.annotations):
            part.setEnabled(self.state.is_idle)
        if not self.state.is_idle:
            self.degradation.hide_preview()

    def _on_ended(self, record: dict[str, Any]) -> None:
        self.state.finish(record)
        if record["kind"] == "done":
            # After it has its final size.
            QTimer.singleShot(SETTLED_AFTER_MS, self._bring_verdict_into_view)
            return
        self.fail(RestoreError(record["text"]))
        self.state.interrupted = tuple(interrupted())

    def _bring_verdict_into_view(self) -> None:
        self.scroll.ensureWidgetVisible(self.verdict)


def _surroundings() -> tuple[Any, dict[str, Any], Path, list[Unfinished]]:
    from ...simulate.whole_scan import STRENGTHS
    from ...training.bundle import bundles_folder

    return look_around(), dict(STRENGTHS), bundles_folder(), interrupted()


def _let_go(job: FineTuneJob, parts: tuple[Any, ...], panel: object = None) -> None:
    if job.gone:
        return
    job.leave()
    for part in parts:
        part.let_go()
