"""The Fine-tune panel: what to learn from, annotations, the training, its verdict, and what becomes of the weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.qt.threading import FunctionWorker
from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from ...errors import RestoreError
from ...training.options import FineTuneOptions
from ...training.unfinished import discard
from ..background import Background
from ..docking import DockedPanel
from ..form_parts import dividing_line, hint, scrolled, warning_colour
from ..options import look_around
from ..panels import back_to_proposed_weights, use_weights
from ..restore.panel import RESEARCH_USE
from .annotation_tools import AnnotationTools
from .blend_tools import BlendTools, Trained
from .bundle_tools import EXPORTED, IMPORTED, BundleTools, as_bundle
from .choice import Report, report_on
from .degradation_tools import DegradationTools
from .form import FineTuneForm
from .interrupted_line import InterruptedLine
from .job import Begun, FineTuneJob, begun_in, interrupted
from .macro import FineTuneMacro
from .run_view import FineTuneRun
from .verdict_view import VerdictView

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

    from ...training.unfinished import Unfinished
    from .choice import FineTuneChoice

CHECK_AFTER_MS, SETTLED_AFTER_MS = 400, 50
WIDE_ENOUGH = 385


class FineTunePanel(DockedPanel):
    """The dock widget "Fine-tune".

    Attributes
    ----------
    recipe
        What the form does not ask for.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self._viewer = napari_viewer
        self.recipe = FineTuneOptions()
        self.report = Report()
        self._begun: Begun | None = None
        self._record: dict[str, Any] = {}
        self._shown_for: tuple[Any, ...] = ()
        self.form = FineTuneForm(napari_viewer)
        self.degradation = DegradationTools(napari_viewer)
        self.annotations = AnnotationTools(napari_viewer)
        # Without a parent: its thread may outlive the panel.
        self.job = FineTuneJob()
        self.run = FineTuneRun(napari_viewer, self.job)
        self.verdict, self.blend, self.bundles = VerdictView(), BlendTools(napari_viewer), BundleTools()
        self.macro = FineTuneMacro()
        self._checks = Background(self, wait_ms=CHECK_AFTER_MS)
        self._build()
        self._connect()
        self._get_ready()
        self.check()

    def choice(self) -> FineTuneChoice:
        """Return what is filled in; `RestoreError` where something is missing."""
        labels = self.annotations.layer
        strength = self.degradation.strength.value() if self.degradation.strength.isEnabled() else None
        return self.form.choice(None if labels is None else labels.data, strength)

    def annotate(self, layer: Layer | None) -> None:
        """Make a Labels layer on a scan, ready to be painted in."""
        if layer is not None:
            (self.form.targets if self.form.mode == "reference" else self.form.scans).choose(layer)
        self.annotations.make_layer()

    def check(self) -> None:
        """Say in the background what the annotations cover, and whether the scans can be learned from."""
        self.annotations.set_scan(self.form.layer)
        self.degradation.setVisible(self.form.mode == "reference")
        try:
            choice = self.choice()
        except RestoreError as error:
            self._checks.forget()
            self._show_report(Report(refusal=str(error) if self.form.layer is not None else ""))
            return
        self.degradation.set_choice(choice if self.form.mode == "reference" else None)
        self.bundles.offer(as_bundle(choice.model.weights))
        self._checks.ask(partial(report_on, choice))

    def start(self) -> None:
        """Train as is filled in."""
        if self.job.running:
            self.say("A fine-tuning is under way: wait for it, or stop it.")
            return
        try:
            choice = self.choice()
        except RestoreError as error:
            self.fail(error)
            return
        if self.report.refusal and not self._checks.busy:
            self.fail(self.report.refusal)
            return
        options = replace(
            self.recipe, steps=choice.steps, device=choice.device, force=choice.force, task=choice.task.name
        )
        self.job.begin(choice, options)
        self.macro.begin(choice, options, self.form, self.annotations.layer)
        assert self.job.folder is not None
        weights, task = str(choice.model.weights), choice.task.name
        self._let_run(Begun(self.job.folder, weights, task, choice.mode, choice.steps, choice.layer, choice.axis))

    def resume_interrupted(self) -> None:
        """Go on with the newest interrupted fine-tuning."""
        try:
            begun = begun_in(self.interrupted.interrupted[0].folder, self._viewer.layers)
        except RestoreError as error:
            self.fail(error)
            return
        self.job.resume_folder(begun.folder)
        self.macro.forget()
        self._let_run(begun)

    def discard_interrupted(self) -> None:
        """Delete the newest interrupted fine-tuning."""
        discard(self.interrupted.interrupted[0].folder)
        self.interrupted.show_interrupted(self.interrupted.interrupted[1:])

    def use(self) -> None:
        """Choose the new weights in the Restore panel."""
        bundle = self._record.get("bundle")
        if bundle is None or self._begun is None:
            return
        self.blend.preview.setChecked(False)
        try:
            use_weights(Path(bundle), self._begun.task, self._begun.layer)
        except RestoreError as error:
            self.fail(error)

    def keep_anyway(self) -> None:
        """List new weights that were not accepted."""
        assert self._begun is not None
        self.verdict.keep_anyway.setEnabled(False)
        self.bundles.keep(Path(self._record["candidate"]), f"{self._begun.task}-{self._begun.folder.name}")

    def say(self, text: str) -> None:
        """Show a sentence in the messages line."""
        self.message.setStyleSheet("")
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def fail(self, error: Exception | str) -> None:
        """Show an error as one sentence, here and as a notification."""
        known = isinstance(error, (RestoreError, str))
        sentence = str(error) if known else f"This ended with an unexpected {type(error).__name__}: {error}"
        self.message.setStyleSheet(warning_colour())
        self.message.setText(sentence)
        # What stands above already is not said a second time.
        self.message.setVisible(sentence not in self.warnings.text())
        show_warning(sentence)

    def shut_down(self) -> None:
        """Let the training save its state and end, and let go of the viewer."""
        super().shut_down()
        _let_go(self.job, self._parts)

    def _build(self) -> None:
        self.split, self.warnings, self.message = hint(), hint(), hint()
        self.interrupted = InterruptedLine()
        research = hint()
        research.setText(RESEARCH_USE)
        inside = QWidget()
        rows = QVBoxLayout(inside)
        for widget in (
            self.interrupted, self.form, self.degradation, dividing_line(), self.annotations, self.split,
            self.warnings, dividing_line(), self.run, self.message, self.verdict, self.macro, self.blend,
            dividing_line(), self.bundles, research,
        ):  # fmt: skip
            rows.addWidget(widget)
        rows.addStretch()
        for widget in (self.verdict, self.blend, self.message):
            widget.hide()
        self.scroll = scrolled(inside)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self.scroll)
        self.setMinimumWidth(WIDE_ENOUGH)

    @property
    def _parts(self) -> tuple[Any, ...]:
        return self.form, self.degradation, self.annotations, self.run, self.blend

    def _connect(self) -> None:
        for part in (self.form, self.degradation, self.annotations):
            part.changed.connect(self._on_change)
        for part in (self.degradation, self.blend, self.bundles):
            part.failed.connect(self._on_failed)
        self.form.asked.connect(self.say)
        self.annotations.said.connect(self.say)
        self.macro.said.connect(self.say)
        self._checks.answered.connect(self._show_report)
        self._checks.failed.connect(self.fail)
        self.run.asked.connect(self.start)
        # Its number of steps does not tell when it was stopped.
        self.run.stop.clicked.connect(self.macro.forget)
        self.job.ended.connect(self._on_ended)
        self.interrupted.go_on.clicked.connect(self.resume_interrupted)
        self.interrupted.discard.clicked.connect(self.discard_interrupted)
        self.verdict.wanted.connect(self.use)
        self.verdict.wanted_anyway.connect(self.keep_anyway)
        self.blend.saved.connect(lambda path: self.say(f"Saved as {path}"))
        self.bundles.copied.connect(self._on_copied)
        self.bundles.back.connect(self._on_back)
        # Not a method of the panel: at that time there is no panel any more.
        self.destroyed.connect(partial(_let_go, self.job, self._parts))

    def _on_change(self) -> None:
        """What was said and drawn of an earlier choice is out of date, once another scan, task or model is chosen."""
        chosen = self._chosen()
        if not self.job.running and chosen != self._shown_for:
            self._shown_for = chosen
            self.say("")
            self.run.clear()
            for part in (self.verdict, self.blend):
                part.hide()
            self.blend.set_trained(None)
        self.check()

    def _chosen(self) -> tuple[Any, ...]:
        return self.form.mode, self.form.layer, self.form.targets.layer, self.form.task

    def _get_ready(self) -> None:
        """Ask for devices, weights and what was interrupted in the background: importing torch takes seconds."""
        worker = FunctionWorker(_surroundings)
        worker.returned.connect(self._tell_surroundings)
        worker.errored.connect(self.fail)
        worker.start()

    def _tell_surroundings(self, found: tuple[Any, dict[str, Any], Path, list[Unfinished]]) -> None:
        surroundings, strengths, folder, unfinished = found
        self.form.tell_surroundings(surroundings)
        self.degradation.tell_strengths(strengths)
        self.blend.folder = self.bundles.folder = folder
        if not self.job.running:
            self.interrupted.show_interrupted(unfinished)
        self.check()

    def _show_report(self, report: Report) -> None:
        self.report = report
        self.annotations.show_coverage(report.covered)
        self.split.setText(report.split)
        self.split.setVisible(bool(report.split))
        words = " ".join([*report.warnings, *([report.refusal] if report.refusal else [])])
        self.warnings.setStyleSheet(warning_colour())
        self.warnings.setText(words)
        self.warnings.setVisible(bool(words))
        self.form.offer_force(report.can_be_forced)

    def _let_run(self, begun: Begun) -> None:
        self._begun, self._record, self._shown_for = begun, {}, self._chosen()
        self.say("")
        self.interrupted.show_interrupted([])
        for part in (self.form, self.degradation, self.annotations, self.bundles):
            part.setEnabled(False)
        for part in (self.verdict, self.blend):
            part.hide()
        self.degradation.put_away()
        self.blend.set_trained(None)
        self.run.show_begun(begun.layer, begun.axis, begun.steps)

    def _on_ended(self, record: dict[str, Any]) -> None:
        self.run.show_ended()
        for part in (self.form, self.degradation, self.annotations, self.bundles):
            part.setEnabled(True)
        if record["kind"] == "done":
            self._show_verdict(record)
            return
        self.fail(record["text"])
        self.interrupted.show_interrupted(interrupted())

    def _show_verdict(self, record: dict[str, Any]) -> None:
        begun = self._begun
        assert begun is not None
        self._record = record
        self.verdict.show_outcome(record, begun.mode)
        self.verdict.show()
        self.macro.end()
        new = record["bundle"] or record["candidate"]
        if new is not None:
            self.blend.set_trained(Trained(begun.weights, Path(new), begun.layer, begun.axis, begun.task))
            self.blend.show()
        self.bundles.offer(as_bundle(record["bundle"] or ""))
        # Once it has got its size.
        QTimer.singleShot(SETTLED_AFTER_MS, self._bring_verdict_into_view)

    def _bring_verdict_into_view(self) -> None:
        self.scroll.ensureWidgetVisible(self.verdict)

    def _on_failed(self, error: Exception) -> None:
        self.verdict.keep_anyway.setEnabled(True)
        self.fail(error)

    def _on_copied(self, what: str, path: Path) -> None:
        if what == EXPORTED:
            self.say(f"Exported as {path}")
        elif what == IMPORTED:
            self.say(f"{path.stem} is checked, and listed under the models of its task now.")
        else:
            self._record = {**self._record, "bundle": str(path)}
            self.verdict.say_saved("Saved, and listed as not accepted.")
            self.bundles.offer(path)

    def _on_back(self) -> None:
        self.form.models.use_proposed()
        try:
            back_to_proposed_weights()
        except RestoreError as error:
            self.fail(error)
            return
        self.say("The shipped weights are chosen again.")


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
