"""Unfinished jobs, one line each, to be resumed or forgotten."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari.qt.threading import FunctionWorker
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from ...jobs.registry import BegunJob, UnfinishedJob, forget, unfinished_jobs
from ..form_parts import plain_label, plain_tip

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

# More would push the form out of the window; further ones are listed when these are finished or forgotten.
MOST_LINES = 3


class UnfinishedJobs(QWidget):
    """A line for each unfinished job with Resume and Forget; hidden if there is none.

    Signals
    -------
    resumed(job)
        The user wants to continue this `BegunJob`.
    """

    resumed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.lines: list[UnfinishedLine] = []
        self._own: Collection[Path] = ()
        self._rows = QVBoxLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self.hide()

    def look(self, own: Collection[Path] = ()) -> None:
        """Look in the background for jobs to offer, except those with these outputs."""
        self._own = own
        worker = FunctionWorker(unfinished_jobs)
        worker.returned.connect(self._show)
        worker.start()

    def _show(self, jobs: list[UnfinishedJob]) -> None:
        for line in self.lines:
            self._rows.removeWidget(line)
            line.deleteLater()
        offered = [job for job in jobs if job.job.output not in self._own][:MOST_LINES]
        self.lines = [UnfinishedLine(job) for job in offered]
        for line in self.lines:
            line.resume.clicked.connect(partial(self.resumed.emit, line.job.job))
            line.forget.clicked.connect(partial(self._forget, line))
            self._rows.addWidget(line)
        self.setVisible(bool(self.lines))

    def _forget(self, line: UnfinishedLine) -> None:
        forget(line.job.job.output)
        self.look(self._own)


class UnfinishedLine(QWidget):
    """A line such as "Unfinished: chest.ome.zarr, 120 of 400 slices", with Resume and Forget."""

    def __init__(self, job: UnfinishedJob) -> None:
        super().__init__()
        self.job = job
        output = job.job.output
        self.text = plain_label(f"Unfinished: {output.name}, {job.done} of {job.total} slices")
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.text.setToolTip(plain_tip(str(output)))
        self.resume = _flat_button("Resume", _what_resume_does(job.job))
        self.forget = _flat_button("Forget", "Remove it from this list; the file stays as it is")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.text, 1)
        row.addWidget(self.resume)
        row.addWidget(self.forget)


def _what_resume_does(job: BegunJob) -> str:
    return f"Open {job.input.name} and continue" if job.input is not None else "Choose its scan first, then continue"


def _flat_button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(plain_tip(tip))
    button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
    return button
