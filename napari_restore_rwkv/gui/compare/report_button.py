"""The report of a result, from the panel: a page as PNG or PDF, and everything as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QPushButton, QWidget

from ...errors import OutputError
from ..file_names import stem_for
from ..restore.mixture import mixed
from ..wording import words_of
from ..worker import StepsWorker

if TYPE_CHECKING:
    from collections.abc import Generator

    from ...progress import Progress
    from ...reliability.report import Report
    from ...scans.scan import Scan
    from ..mailbox import News
    from .comparison import Comparison

FILTER = "Page (*.png);;Page (*.pdf);;Figures (*.json)"
TELL_EVERY_MS = 250
WAIT_AT_CLOSING_S = 2.0


class ReportButton(QPushButton):
    """Asks for a file, and writes the report on all slices that are restored, off the GUI thread.

    Signals
    -------
    said(text)
        The progress, and where it was written.
    failed(error)
        It could not be written.
    written(comparison, path)
        A report on this was written there.
    """

    said = Signal(str)
    failed = Signal(object)
    written = Signal(object, object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Report ...", parent)
        self.setToolTip(
            "Noise before and after, the verdict on every restored slice, and how it was made: a page (PNG, PDF) with "
            "all figures beside it (JSON)"
        )
        self.setAccessibleName("Save a report")
        self.comparison: Comparison | None = None
        self._writing: StepsWorker | None = None
        self.clicked.connect(self._ask)

    def write(self, path: Path) -> None:
        """Write the report; a page gets its figures beside it, as a .json file of the same name."""
        assert self.comparison is not None
        if self._writing is not None and self._writing.is_running:
            self.said.emit("A report is being written: wait for it.")
            return
        comparison = self.comparison
        self._writing = StepsWorker(report_steps(comparison, path), every_ms=TELL_EVERY_MS)
        self._writing.progressed.connect(self._on_progress)
        self._writing.returned.connect(lambda written: self._on_written(comparison, written))
        self._writing.errored.connect(self.failed)
        self.said.emit("Writing the report ...")
        self._writing.start()

    def let_go(self) -> None:
        """Stop running work, without touching Qt objects, which may already be deleted."""
        if self._writing is not None:
            self._writing.join(WAIT_AT_CLOSING_S)

    def _ask(self) -> None:
        if self.comparison is None:
            return
        proposal = f"{stem_for(self.comparison.input.name)} report.png"
        name, _ = QFileDialog.getSaveFileName(self, "Save a report", proposal, FILTER)
        if name:
            self.write(Path(name))

    def _on_written(self, comparison: Comparison, path: Path) -> None:
        self.said.emit(f"Report saved as {path}")
        self.written.emit(comparison, path)

    def _on_progress(self, news: News) -> None:
        self.said.emit(f"Report: {words_of(news.progress)} ...")


def report_steps(comparison: Comparison, path: Path) -> Generator[Progress, None, Path]:
    """Report on the restored slices of a comparison, with the strength that is shown; return the path.

    Raises
    ------
    ScanError
        If the slices are too small to be judged.
    OutputError
        If nothing is restored, or a file cannot be written.
    """
    from ...reliability.report_files import check_report_file, write_report

    check_report_file(path)
    beside = path.with_suffix(".json")
    if beside.exists() and not path.exists():
        raise OutputError(f"{beside.name} already exists and may belong to something else: give another name.")
    if not comparison.result.finished:
        raise OutputError("No slice is restored yet: press Restore, then save the report.")
    steps, after = judging(comparison)
    report = yield from steps
    for file in dict.fromkeys((path, beside)):
        write_report(report, comparison.result.scan, after, comparison.input.name, file)
    return path


def judging(comparison: Comparison) -> tuple[Generator[Progress, None, Report], Scan]:
    """Return the steps that judge all restored slices, and the scan they judge, with the strength that is shown."""
    from ...reliability.report import report_on

    result, after = comparison.result, mixed_scan(comparison)
    return report_on(result.scan, after, indices=sorted(result.finished), axis=result.axis), after


def mixed_scan(comparison: Comparison) -> Scan:
    """Return the restored scan with the strength that is shown, NaN where it is not restored yet."""
    result, blend = comparison.result, comparison.blend
    voxels = mixed(result.restored, result.difference, blend, result.axis)
    return result.scan.with_voxels(voxels, metadata=result.metadata(blend))
